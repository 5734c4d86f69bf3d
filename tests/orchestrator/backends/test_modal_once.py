"""Never charged twice, through the real client and real containers: what was asked for once is worked at once."""

import signal
import subprocess
import sys

import pytest

from golf_core.rundir import read_json
from tests.orchestrator.modal_account import Account, Laptop, training, workers
from tests.orchestrator.toy import ROOT, toy_text
from tests.processes import until

pytestmark = pytest.mark.xdist_group("modal")

SLOW = toy_text(pause=0.4)


def once(account, laptop, seeds=(1,)):
    """One container worked at each seed, its attempt counts, and no GPU second was used beside the looks of those
    that came second; nothing is left."""
    account.quiet()
    assert laptop.states() == {seed: [("counted", "completed")] for seed in seeds}
    at_work = workers(account, laptop.asked)
    assert {seed: len(calls) for seed, calls in at_work.items()} == dict.fromkeys(seeds, 1)
    return {seed: calls[0] for seed, calls in at_work.items()}


def made(account, before):
    """The calls since, and how each ended."""
    return {one.call_id: one.results for one in account.calls() if one.call_id not in before}


@pytest.fixture
def before(account):
    return {one.call_id for one in account.calls()}


@pytest.mark.parametrize("where", ["called", pytest.param("claimed", marks=pytest.mark.chaos)])
def test_a_crash_between_the_call_and_its_journal(account, before, tmp_path, where):
    """SIGKILL of the submitting process right after the call, or after its claim: the same submit finds the call that
    does the work; a second one, if it had to make one, ends before it uses a GPU."""
    with Laptop(account, tmp_path / "laptop", account.submission(SLOW)) as laptop:
        laptop.start(kill=where)
        assert laptop.killed() == -signal.SIGKILL
        assert len(made(account, before)) == 1
        laptop.run()
        calls = made(account, before)
        done = once(account, laptop)[1]
        assert done in calls and len(calls) <= (1 if where == "claimed" else 2)


@pytest.mark.parametrize("rpc", ["FunctionMap", "DictUpdate"])
def test_a_lost_reply(account, before, tmp_path, rpc):
    """The client repeats what was not answered: two calls may be made, one works; a claim may look lost to its
    winner, who keeps it."""
    rule = account.plane.faults.lose_reply(rpc, caller="client")
    with Laptop(account, tmp_path / "laptop", account.submission()) as laptop:
        laptop.run()
        done = once(account, laptop)[1]
        assert rule.fired == 1 and done in made(account, before)
        assert len(made(account, before)) == (2 if rpc == "FunctionMap" else 1)


def test_two_submitters_from_two_folders(account, before, tmp_path):
    """Both race; one container works, and both have its attempt in the end."""
    asked = account.submission(SLOW)
    rule = account.plane.faults.delay("DictUpdate", 1.0, times=2, caller="client")  # so that both have called by then
    with Laptop(account, tmp_path / "one", asked) as one, Laptop(account, tmp_path / "two", asked) as two:
        one.start(), two.start()
        one.finish(), two.finish()
        assert once(account, one) == once(account, two) and rule.fired
        assert (one.attempt() / "scores.json").read_bytes() == (two.attempt() / "scores.json").read_bytes()
        assert 1 <= len(made(account, before)) <= 2


@pytest.mark.chaos
def test_two_submitters_where_nothing_is_deployed(modal_plane, corpus, tmp_path):
    """Both deploy; whoever is refused goes on with what the other has deployed."""
    account = Account(modal_plane, corpus, deploy=False)
    asked = account.submission()
    with Laptop(account, tmp_path / "one", asked) as one, Laptop(account, tmp_path / "two", asked) as two:
        one.start(), two.start()
        one.finish(), two.finish()
        assert once(account, one) == once(account, two)


@pytest.mark.chaos
def test_the_same_modal_run_twice_at_once(account, before, tmp_path):
    """As a user types it, from two folders: both end well, one container has worked, and both tables are the same."""
    (tmp_path / "toy.py").write_text(f"{SLOW}\n# {tmp_path}\n")
    words = [sys.executable, "-m", "modal", "run", "jobs/train.py", "--bundle", str(tmp_path / "toy.py")]
    words += ["--gpus", "0", "--launcher", "python", "--seeds", "1", "--budget", "100", "--data", "embedded"]
    runs = [tmp_path / "one", tmp_path / "two"]
    both = [
        subprocess.Popen(
            [*words, "--runs-dir", str(folder)],
            cwd=ROOT,
            env=account.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for folder in runs
    ]
    said = [one.communicate(timeout=200)[0] for one in both]
    assert [one.returncode for one in both] == [0, 0], said
    account.quiet()
    (run_id,) = {read_json(path)["run_id"] for folder in runs for path in folder.glob("attempts/*-a1/run.json")}
    assert len(account.starts(run_id)) == 1 and 1 <= len(made(account, before)) <= 2
    one, two = (next(folder.glob("*/scores.csv")).read_bytes() for folder in runs)
    assert one == two


@pytest.mark.chaos
@pytest.mark.parametrize("journal", [True, False])
def test_forgotten_claims(account, before, tmp_path, journal):
    """The dictionary has forgotten everything while the call still worked: with the journal the same submit asks for
    that call; without, its second call ends in front of the GPUs, by the starts on the volume."""
    asked = account.submission(account.held("train3"))
    with Laptop(account, tmp_path / "one", asked) as one, Laptop(account, tmp_path / "two", asked) as two:
        one.start()
        call = training(account, one)
        one.processes[-1].kill()
        account.forget()
        again = one if journal else two
        again.start()
        if not journal:
            until(lambda: len(made(account, before)) == 2, "the second call")
        account.let_go()
        again.finish()
        assert once(account, again) == {1: call}
        assert len(made(account, before)) == (1 if journal else 2)


@pytest.mark.chaos
def test_the_same_submit_again(account, before, tmp_path):
    """What is done is done: no call is made, nothing is spent."""
    with Laptop(account, tmp_path / "laptop", account.submission()) as laptop:
        laptop.run()
        once(account, laptop)
        spent = account.plane.billed()
        assert laptop.run() == {1: ["done", "counted"]}
        assert len(made(account, before)) == 1 and account.plane.billed() == spent
