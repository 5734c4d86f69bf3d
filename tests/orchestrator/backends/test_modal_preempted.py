"""Machines that Modal takes away, and what becomes of the attempt: its order is given to another container."""

from datetime import datetime

import pytest

from golf_core.rundir import SEAL, TRAIN_SEAL, VOID, read_json, read_jsonl, verify_seal
from orchestrator.attempts import NODE
from orchestrator.cloud.order import place_of
from tests.orchestrator.modal_account import Laptop, training, workers
from tests.processes import until

pytestmark = pytest.mark.xdist_group("modal")


def took(account, call):
    """The containers that a call was given to, and the fate of each."""
    (found,) = [one for one in account.calls() if one.call_id == call]
    fates = {one.task_id: one.fate for one in account.plane.containers()}
    return [fates[task] for task in found.containers]


@pytest.mark.parametrize("how", ["preempt", pytest.param("lose_worker", marks=pytest.mark.chaos)])
def test_in_training(account, tmp_path, how):
    """Attempt 1 is void, attempt 2 counts: other folders, logs that are not mixed, the same call."""
    asked = account.submission(account.held("train3"))
    with Laptop(account, tmp_path, asked) as laptop:
        laptop.start()
        call = training(account, laptop)
        getattr(account.plane, how)(call)
        until(lambda: account.reaches(laptop.name(1, 2), "step 2", "log.txt"), "training again")
        account.let_go()
        laptop.finish()
        account.quiet()
        assert laptop.states() == {1: [("void", "preempted"), ("counted", "completed")]}
        assert workers(account, asked) == {1: [call, call]} and len(took(account, call)) == 2
        first, second = ((laptop.attempt(1, number) / "log.txt").read_text() for number in (1, 2))
        assert "phase:end train" not in first and second.count("phase:begin train") == 1
        assert (account.kept(laptop.name()) / VOID).exists()
        assert not (account.kept(laptop.name()) / SEAL).exists()


@pytest.mark.chaos
def test_before_anything_was_laid_down(account, tmp_path):
    """The container is gone between its claim and its first line: the next one works, in an attempt of its own."""
    asked = account.submission()
    rule = account.plane.faults.delay("VolumeCommit", 3.0, caller="container")
    with Laptop(account, tmp_path, asked) as laptop:
        laptop.start()
        until(lambda: place_of(f"{laptop.name()}:0") in account.claims(), "the claim")
        (call,) = [one.call_id for one in account.calls() if one.state == "running"]
        account.plane.lose_worker(call)
        laptop.finish()
        account.quiet()
        assert rule.fired and laptop.states() == {1: [("void", "preempted"), ("counted", "completed")]}
        assert workers(account, asked) == {1: [call]} and took(account, call) == ["lost", ""]


def test_in_evaluation(account, tmp_path):
    """The training was sealed: the evaluation alone is repeated, in the same attempt, and the log tells of both."""
    asked = account.submission(account.held("sliding"))
    with Laptop(account, tmp_path, asked) as laptop:
        laptop.start()
        name = laptop.name()
        until(lambda: account.reaches(name, "waiting in sliding", "log.txt"), "the evaluation")
        sealed = (account.kept(name) / TRAIN_SEAL).read_bytes()
        call = account.call_of(name)
        account.plane.preempt(call)
        until(lambda: len(account.starts(asked.run_id(1))) == 2, "the second container")
        account.let_go()
        laptop.finish()
        account.quiet()
        assert laptop.states() == {1: [("counted", "completed")]}
        starts = account.starts(asked.run_id(1))
        assert [one["stage"] for one in starts] == ["train", "evaluate"]
        first, second = (datetime.fromisoformat(one["at"]) for one in starts)
        assert read_json(laptop.attempt() / NODE)["seconds"] > (second - first).total_seconds()  # both are paid for
        assert (laptop.attempt() / TRAIN_SEAL).read_bytes() == sealed
        verify_seal(laptop.attempt())
        assert "waiting in sliding" in (laptop.attempt() / "evaluate-1.void.log").read_text()
        assert (laptop.attempt() / "log.txt").read_text().count("phase:begin train") == 1
        stamps = [(one["phase"], one["edge"]) for one in read_jsonl(laptop.attempt() / "phases.jsonl")]
        assert len(set(stamps)) == len(stamps) or stamps.count(("sliding", "begin")) == 1  # of the one that counts


@pytest.mark.chaos
def test_a_machine_that_is_taken_away_each_time_is_given_up(account, tmp_path):
    """Modal's restarts are limited: then the call is over, and the controller's own limit is what counts."""
    asked = account.submission(account.held("train3"))
    with Laptop(account, tmp_path, asked, restarts=1) as laptop:
        laptop.start()
        call = training(account, laptop)
        account.plane.lose_worker(call)
        until(lambda: account.reaches(laptop.name(1, 2), "step 2", "log.txt"), "training again")
        account.plane.lose_worker(call)
        other = training(account, laptop, number=3)  # the controller's own retry
        account.let_go()
        laptop.finish()
        account.quiet()
        void = ("void", "preempted")
        assert laptop.states() == {1: [void, void, ("counted", "completed")]}
        assert other != call and workers(account, asked) == {1: [call, call, other]}
        assert took(account, call) == ["lost", "lost", ""]


@pytest.mark.chaos
@pytest.mark.parametrize("how", ["crash", "timeout"])
def test_a_container_that_is_killed_for_good(account, tmp_path, how):
    """By the kernel: an attempt of its own, void, and another one. By Modal's own timeout: a deadline, and no other."""
    asked = account.submission(account.held("train3"))
    with Laptop(account, tmp_path, asked) as laptop:
        laptop.start()
        call = training(account, laptop)
        if how == "crash":
            account.plane.crash(call)
            until(lambda: account.reaches(laptop.name(1, 2), "step 2", "log.txt"), "another attempt")
            account.let_go()
            laptop.finish()
            assert laptop.states() == {1: [("void", "worker_lost"), ("counted", "completed")]}
        else:
            account.plane.time_out(call)
            assert laptop.finish() == {1: ["stop", "deadline"]}
            assert workers(account, asked) == {1: [call]}
        account.quiet()


@pytest.mark.chaos
def test_a_call_that_two_containers_were_given(account, tmp_path):
    """The later one begins a new attempt; the earlier one hears that it is late, ends, and its attempt is void."""
    asked = account.submission(account.held("train3"))
    with Laptop(account, tmp_path, asked) as laptop:
        laptop.start()
        call = training(account, laptop)
        account.plane.deliver_twice(call)
        until(lambda: account.reaches(laptop.name(1, 2), "step 2", "log.txt"), "the second container")
        until(lambda: account.reaches(laptop.name(), "preempted", "result.json"), "the end of the first")
        account.let_go()
        laptop.finish()
        account.quiet()
        assert laptop.states() == {1: [("void", "preempted"), ("counted", "completed")]}
        assert read_json(account.kept(laptop.name()) / VOID)["class"] == "preempted"
