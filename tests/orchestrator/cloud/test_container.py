"""What a container on Modal keeps of an attempt, and what must not disturb it."""

import pytest

from golf_core.rundir import LOG, RESULT, read_json
from orchestrator.attempts import ATTEMPTS
from orchestrator.backends import modal_container
from orchestrator.cloud.order import Order
from tests.orchestrator.toy import limits, submission


class Cut(AttributeError):
    """As a stream that was cut comes out of the libraries below Modal's client."""


@pytest.fixture
def volume(monkeypatch, tmp_path):
    """Commits, each as the files that it made visible to others; of those in `fails` none is made."""
    commits, fails, runs = [], [], tmp_path / "runs"

    def commit():
        if fails:
            raise fails.pop()
        kept = next((runs / ATTEMPTS).iterdir())
        commits.append({path.name: path.read_bytes() for path in kept.iterdir()})

    monkeypatch.setattr(modal_container, "_commit", commit)
    monkeypatch.setattr(modal_container, "SCRATCH", tmp_path / "scratch")
    monkeypatch.setattr(modal_container.time, "sleep", lambda seconds: None)
    return runs, commits, fails


def execution(runs, in_place=lambda: True):
    asked = submission()
    order = Order(
        app="golf", code="c0de", run=asked.run_json(asked.runs[0], 1, limits()), bundle=asked.bundle, stage="train"
    )
    return modal_container._Execution(order, "fc-0", runs, in_place)


@pytest.mark.parametrize("error", [OSError("away"), Cut("no protocol")])
def test_the_last_word_is_committed_though_the_commit_before_it_failed(volume, error):
    """What was copied and not committed is seen by nobody: that nothing has grown since is no reason to leave it."""
    runs, commits, fails = volume
    made = execution(runs)
    (made.folder / RESULT).write_text('{"class": "completed"}')
    fails.append(error)
    made.keep()
    assert RESULT not in commits[-1]
    made.end()
    assert RESULT in commits[-1]
    before = len(commits)
    made.end()
    assert len(commits) == before  # once is enough


def test_questions_that_fail_do_not_end_what_trains(volume):
    """Whatever comes out of the client while it asks for claims, or commits, the worker goes on."""
    runs, commits, fails = volume
    made = execution(runs, in_place=lambda: (_ for _ in ()).throw(Cut("no protocol")))
    made.looked = float("-inf")
    made.look()
    (made.folder / LOG).write_bytes(b"step 1\n")
    fails.append(Cut("no protocol"))
    made.keep()
    made.keep()
    assert commits[-1][LOG] == b"step 1\n"
    made.refuse("data_changed", "as a test says")
    assert read_json(made.folder / RESULT)["class"] == "data_changed"


def test_an_order_is_not_worked_at_by_other_code_than_it_was_given_to(volume):
    """Another checkout may deploy the same app before a container starts: its worker would seal what ours never saw."""
    asked = submission()
    order = Order(app="golf", code="c0de", run=asked.run_json(asked.runs[0], 1, limits()), bundle="", stage="train")
    told = modal_container.execute(order.to_dict())
    assert told["cls"] == "launch_error" and "deployed again" in told["message"]
    assert not (volume[0] / "attempts").exists()
