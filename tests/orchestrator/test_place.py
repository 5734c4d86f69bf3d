"""Where a submission is looked for: where it was sent, whatever else is set; and what is refused before anything."""

import socket

import pytest
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.drive import register
from orchestrator.errors import UsageError
from orchestrator.ledger.store import Ledger
from orchestrator.place import REMOTE, place_of
from orchestrator.registered import write_grid
from orchestrator.settings import Settings
from tests.orchestrator.toy import submission

LOCAL, SENT = submission(seeds=(1,)), submission(seeds=(2,))
THERE = {"address": "http://127.0.0.1:1", "state_dir": "/state"}


@pytest.fixture
def runs_dir(tmp_path):
    """With a submission of this machine, and a later one that was sent to a cluster."""
    with Ledger.create(tmp_path / "runs") as ledger:
        register(LOCAL, tmp_path / "runs", ledger)
        register(SENT, tmp_path / "runs", ledger)
        ledger.append(REMOTE, submission_id=SENT.submission_id, data={"address": "http://old:8265", "state_dir": "~/x"})
        ledger.append(REMOTE, submission_id=SENT.submission_id, data=THERE)
    return tmp_path / "runs"


def place(runs_dir, prefix=None, environ=(), **flags):
    return place_of(Settings.resolve({"runs_dir": str(runs_dir), **flags}, dict(environ), runs_dir), prefix)


def test_the_ledger_knows_where_a_submission_went(runs_dir):
    """The last place counts; the latest submission is meant where none is named; one of this machine stays here."""
    for prefix in (None, SENT.submission_id[:8]):
        found = place(runs_dir, prefix)
        assert (found.url, found.state_dir, found.submission) == (*THERE.values(), SENT.submission_id) and found.here
    assert place(runs_dir, LOCAL.submission_id[:8]) is None


def test_an_address_of_the_project_does_not_move_a_submission(runs_dir):
    """Where GOLF_ADDRESS is set, a submission of this machine is still one; an unknown one is looked for there; a flag
    always decides."""
    environ = {"GOLF_ADDRESS": "http://127.0.0.1:2"}
    assert place(runs_dir, LOCAL.submission_id[:8], environ) is None
    assert place(runs_dir, SENT.submission_id[:8], environ).url == THERE["address"]
    assert place(runs_dir, "abcdef", environ).url == environ["GOLF_ADDRESS"]
    given = place(runs_dir, LOCAL.submission_id[:8], environ, address="http://127.0.0.1:3")
    assert given.url == "http://127.0.0.1:3" and not given.here


def test_a_grid_is_where_its_variants_were_sent(runs_dir):
    """By its name, as the cluster knows it too; one of this machine stays here."""
    with Ledger.open(runs_dir) as ledger:
        write_grid(ledger, "widths", [SENT.submission_id])
        write_grid(ledger, "depths", [LOCAL.submission_id])
    found = place(runs_dir, "widths")
    assert (found.url, found.submission, found.here) == (THERE["address"], "widths", True)
    assert place(runs_dir, "depths") is None


def test_an_unknown_submission_without_an_address_is_refused(runs_dir):
    """With what there is."""
    with pytest.raises(UsageError, match=LOCAL.submission_id[:12]):
        place(runs_dir, "abcdef")
    assert place(runs_dir.parent / "nothing") is None


def test_a_cluster_that_does_not_answer_leaves_what_is_known_here(runs_dir, monkeypatch):
    """`status` tells that nobody answers, shows what this machine knows, and exits with 5."""
    monkeypatch.setattr("orchestrator.backends.job_server.WAIT_SECONDS", 0.0)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with Ledger.open(runs_dir) as ledger:
            ledger.append(REMOTE, submission_id=SENT.submission_id, data=THERE | {"address": url})
        said = CliRunner().invoke(app, ["status", SENT.submission_id, "--runs-dir", str(runs_dir)])
    assert said.exit_code == 5 and "does not answer" in said.stderr and "seed 2: stopped" in said.stdout


REFUSED = {
    "ray://head:10001": ["submit", "--address", "ray://head:10001"],
    "another backend": ["submit", "--on", "process", "--address", "http://127.0.0.1:8265"],
    "no cluster for --storage": ["submit", "--storage", "s3://bucket/x"],
    "no cluster for --state-dir": ["submit", "--state-dir", "~/x"],
    "no cluster for --install-packages": ["submit", "--install-packages"],
    "fetch of nothing": ["fetch"],
}


@pytest.mark.parametrize("arguments", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_refused_before_anything(tmp_path, arguments):
    """Exit code 2, and no runs folder."""
    said = CliRunner().invoke(app, [*arguments, "--runs-dir", str(tmp_path / "runs")])
    assert said.exit_code == 2 and "--address" in said.stderr, said.output
    assert not (tmp_path / "runs").exists()
