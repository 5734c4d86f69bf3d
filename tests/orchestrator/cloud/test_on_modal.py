"""The commands, typed by a user whose seeds are on Modal: from the machine that sent them, and from another."""

import csv
import json
import re
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from golf_core.rundir import read_json
from orchestrator.attempts import NODE
from tests.orchestrator.toy import Bench, toy_text
from tests.processes import until

pytestmark = pytest.mark.xdist_group("modal")

ASKED = ("--data", "embedded", "--gpus", "0", "--launcher", "python", "--budget", "5", "--seeds", "1,2")
SENT = ("--on", "modal", "-y", *ASKED)


@dataclass
class Desk(Bench):
    """Somebody with the account, at a runs folder. Each desk's bundle is another one."""

    corpus: dict = field(default_factory=dict)
    account: object = None

    def environment(self):
        return super().environment() | self.account.environment()

    def command(self, verb, *arguments):
        given = ["--runs-dir", str(self.runs_dir)]
        if verb == "submit":
            given += ["--bundle", str(self.bundle), *SENT]
        return [sys.executable, *self.starter(), verb, *given, *map(str, arguments)]

    def modal_run(self, *flags):
        words = ["-m", "modal", "run", "jobs/train.py", "--bundle", self.bundle, "--runs-dir", self.runs_dir, *flags]
        root = Path(__file__).resolve().parents[3]
        return subprocess.run(
            [sys.executable, *map(str, words)], cwd=root, env=self.environment(), capture_output=True, text=True
        )

    def told(self, *arguments, verb="status"):
        done = self.run("--json", *arguments, verb=verb)
        return json.loads(done.stdout)


@pytest.fixture
def desk(account, tmp_path):
    def make(name="here", text=None, tables=False):
        (folder := tmp_path / name).mkdir()
        text = text or toy_text()
        return Desk(folder=folder, text=f"{text}\n# {tmp_path}\n", account=account, tables=tables)

    return make


def calls(account):
    return {one.call_id for one in account.calls()}


def held(account, desk):
    """Two seeds that train until the test lets them go, sent and left."""
    here = desk("here", account.held("train3"))
    sent = here.run("--detach", "-q")
    assert sent.returncode == 0, sent.stderr
    sid = sent.stdout.strip()
    until(lambda: all((account.kept(name) / NODE).exists() for name in names(here)), "both containers")
    return here, sid


def names(desk):
    return [folder.name for folder in desk.attempts()]


def test_modal_run_takes_seeds_to_tables_and_starts_nothing_twice(account, desk):
    """`modal run jobs/train.py` deploys, gives each seed to a container, brings sealed attempts home, makes the
    tables; the same again makes no call."""
    here, before = desk(tables=True), calls(account)
    first = here.modal_run(*ASKED)
    assert first.returncode in (0, 4), first.stderr + first.stdout
    (table,) = here.runs_dir.glob("*/results.csv")
    with table.open() as rows:
        told = list(csv.DictReader(rows))
    assert [row["seed"] for row in told] == ["1", "2"]
    assert all(read_json(folder / NODE)["backend"] == "modal" for folder in here.attempts())
    made = calls(account) - before
    assert len(made) == 2
    again = here.modal_run(*ASKED)
    assert again.returncode == first.returncode and "is counted" in again.stderr
    assert calls(account) - before == made


def test_a_submission_is_found_by_its_id_from_another_machine(account, desk):
    """Of seeds that were sent and left: status, the log while it grows, and the attempts, into an empty runs folder;
    the machine that sent them brings home the same bytes, and pays once."""
    here, sid = held(account, desk)
    there = desk("there")
    status = there.told(sid[:8], "--on", "modal")
    assert status["submission_id"] == sid
    assert {row["seed"]: row["state"] for row in status["seeds"]} == {1: "running", 2: "running"}
    log = there.start("--seed", "2", "-f", verb="logs")
    account.let_go()
    out, err = log.communicate(timeout=120)
    assert log.returncode == 0 and "step 5" in out, err
    fetched = there.run(verb="fetch")
    assert fetched.returncode in (0, 4), fetched.stderr
    assert here.run().returncode in (0, 4)
    assert names(here) == names(there) and len(names(here)) == 2
    for one, other in zip(here.attempts(), there.attempts(), strict=True):
        assert (one / "MANIFEST.json").read_bytes() == (other / "MANIFEST.json").read_bytes()
    cost = here.told()["cost"]
    assert cost["usd"] > 0 and cost["reserved_usd"] == 0 and cost["exact"]


@pytest.mark.chaos
def test_a_cancel_from_another_machine_ends_the_seed_and_whoever_drives_it_does_not_begin_it_again(account, desk):
    """The call ends, nothing follows it, the driving submit says so and goes on with the other seed; the same submit
    takes the seed up again."""
    here = desk("here", account.held("train3"))
    driving = here.start()
    until(lambda: len(names(here)) == 2 and all((account.kept(one) / NODE).exists() for one in names(here)), "both")
    sid = json.loads(next(here.runs_dir.glob("*/spec.json")).read_text())["submission_id"]
    cancelled = desk("there").run(sid[:8], "--on", "modal", "--seeds", "1", verb="cancel")
    assert cancelled.returncode == 0 and "cancelled 1 call" in cancelled.stderr, cancelled.stderr
    account.let_go()
    _, err = driving.communicate(timeout=120)
    assert driving.returncode == 3 and re.search("seed 1: stopped · cancelled from another terminal", err), err
    before = calls(account)
    assert here.run().returncode in (0, 4)
    assert len(calls(account) - before) == 1
    assert [row["state"] for row in here.told()["seeds"]] == ["done", "done"]


@pytest.mark.chaos
def test_ctrl_c_leaves_the_seeds_running(account, desk):
    """It says that they go on, and how to come back; the money stays reserved until it is known what they cost."""
    here = desk("here", account.held("train3"))
    driving = here.start()
    until(lambda: len(names(here)) == 2 and all((account.kept(one) / NODE).exists() for one in names(here)), "both")
    driving.send_signal(signal.SIGINT)
    _, err = driving.communicate(timeout=60)
    assert driving.returncode == 130 and "goes on on Modal" in err, err
    assert not any(one.state == "done" for one in account.calls() if one.call_id in made_by(here))
    account.let_go()
    assert here.run("--json", verb="fetch").returncode in (0, 4)
    cost = here.told()["cost"]
    assert cost["reserved_usd"] == 0 and cost["usd"] > 0


def made_by(desk):
    return {read_json(folder / NODE)["call"] for folder in desk.attempts()}


@pytest.mark.chaos
def test_cancel_from_the_machine_that_left_gives_the_money_back(account, desk):
    """All calls end, and are ended when it returns; again there is nothing to end."""
    here, _ = held(account, desk)
    done = here.run(verb="cancel")
    assert done.returncode == 0 and "cancelled 2 calls" in done.stderr and "given back" in done.stderr, done.stderr
    assert all(one.state == "done" for one in account.calls() if one.call_id in made_by(here))
    assert here.told()["cost"]["reserved_usd"] == 0
    assert "nothing of it was running" in here.run(verb="cancel").stderr
