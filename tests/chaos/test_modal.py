"""Faults 2, 4, 6, 10, 11 and 16 on Modal: the real client, real containers, and a control plane on loopback.

Wrong hardware (13) and the ends of a program (15) are in tests/orchestrator/backends/test_modal_refused.py.
"""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from orchestrator.cloud.options import RUNS_VOLUME
from tests.chaos.invariants import check, expected, scores_of
from tests.orchestrator.modal_account import Laptop, training, workers
from tests.orchestrator.test_secrets import ENVIRONMENT, leaks
from tests.orchestrator.toy import toy_text
from tests.processes import command_line, until

pytestmark = pytest.mark.xdist_group("modal")
CHAOS = pytest.mark.chaos
SEEDS = (1, 2, 3)


@pytest.fixture(scope="module")
def calm(whole_account, tmp_path_factory):
    """Scores of three seeds that nothing disturbed."""
    with Laptop(whole_account, tmp_path_factory.mktemp("calm"), whole_account.submission(seeds=SEEDS)) as laptop:
        laptop.run()
        return scores_of(laptop.runs_dir)


def well(account, laptop, calm, *seeds):
    """Every seed has one counted attempt with the scores of always, and nothing is left at work."""
    account.quiet()
    check(laptop.runs_dir, expected(calm, laptop.asked.bundle, *seeds))


# --- fault 2: a process of an attempt is killed


def victims(who, attempt):
    """Of the container that works at an attempt: its worker, or what that started."""
    program = f"/attempts/{attempt}/train_gpt.py"
    lines = {int(pid): command_line(pid) for pid in os.listdir("/proc") if pid.isdecimal()}
    if who == "worker":
        return [
            pid for pid, line in lines.items() if line.endswith(f"orchestrator.worker /tmp/golf/attempts/{attempt}")
        ]
    return [pid for pid, line in lines.items() if program in line]


PLACES = {"training": "train3", "serialisation": "compress", "evaluation": "sliding"}


@pytest.mark.parametrize(
    "who, place",
    [pytest.param(who, at, marks=CHAOS) for who in ("worker", "rank") for at in PLACES],
)
def test_a_killed_process_of_an_attempt(account, calm, tally, tmp_path, who, place):
    """Void and trained again, or evaluated again where the training was sealed."""
    count = tally(f"2 {who} killed in {place} (Modal)")
    with Laptop(account, tmp_path, account.submission(account.held(PLACES[place]))) as laptop:
        laptop.start()
        until(lambda: account.reaches(laptop.name(), f"waiting in {PLACES[place]}", "log.txt"), "the place")
        count.injected += 1
        for pid in victims(who, laptop.name()):
            os.kill(pid, signal.SIGKILL)
            count.fired = 1
        account.let_go()
        with count.recovery():
            laptop.finish()
            well(account, laptop, calm, 1)
        assert len(laptop.states()[1]) == (1 if place == "evaluation" else 2)


# --- fault 4: requests and replies are lost, connections cut

RPCS = (
    *("AppGetByDeploymentName", "EnvironmentGetOrCreate", "VolumeGetOrCreate", "DictGetOrCreate", "FunctionGet"),
    *("FunctionMap", "FunctionPutInputs", "FunctionGetOutputs", "FunctionCallFromId", "FunctionCallCancel"),
    *("ContainerHello", "ContainerHeartbeat", "FunctionGetInputs", "FunctionPutOutputs", "VolumeCommit"),
    *("VolumeReload", "VolumePutFiles2", "VolumeListFiles2", "VolumeGetFile2", "DictUpdate", "DictGet"),
)


@pytest.mark.parametrize(
    "every, kinds",
    [(3, ("lose_request", "lose_reply", "cut"))]
    + [
        pytest.param(every, (kind,), marks=CHAOS)
        for every in (2, 3, 5)
        for kind in ("lose_request", "lose_reply", "cut")
    ],
)
def test_every_third_request_is_lost_or_cut(account, calm, tally, tmp_path, every, kinds):
    """Of every RPC, by client and container: one worker an attempt, three counted seeds."""
    count = tally(f"4 every {every}. request: {', '.join(kinds)} (Modal)")
    rules = []
    with Laptop(account, tmp_path, account.submission(seeds=SEEDS)) as laptop:
        for rpc in RPCS:
            for number in range(40):
                how = getattr(account.plane.faults, kinds[number % len(kinds)])
                rules.append(how(rpc, nth=every * (number + 1)))
        laptop.start()
        with count.recovery():
            laptop.finish()
            account.plane.faults.rules.clear()
            well(account, laptop, calm)
        assert {seed: len(calls) for seed, calls in workers(account, laptop.asked).items()} == dict.fromkeys(SEEDS, 1)
    struck = [rule for rule in rules if rule.fired]
    for rule in struck:
        count.note(rule.rpc)
    count.injected = count.fired = count.survived = len(struck)


@CHAOS
def test_outages_while_it_is_followed(account, calm, tally, tmp_path):
    """The server cannot be reached for seconds, again and again: the attempt goes on, and is brought home."""
    count = tally("4 server unreachable for 3 s (Modal)")
    with Laptop(account, tmp_path, account.submission(account.held("train3", "sliding"))) as laptop:
        laptop.start()
        training(account, laptop)
        for number in range(4):
            count.injected += 1
            with account.plane.unreachable():
                time.sleep(3.0)
                count.fired += laptop.processes[-1].poll() is None
            time.sleep(1.0)
            if number == 2:
                account.let_go()
        with count.recovery():
            laptop.finish()
            well(account, laptop, calm, 1)
        count.survived = count.fired


# --- fault 6: many at once


@CHAOS
def test_the_same_submit_from_eight_folders(account, calm, tally, tmp_path):
    """One worker a seed; all eight have the same attempt in the end."""
    count = tally("6 the same submit from 8 folders at once (Modal)")
    asked = account.submission(toy_text(pause=0.3))
    laptops = [Laptop(account, tmp_path / str(number), asked) for number in range(8)]
    before = len(account.calls())
    count.injected = len(laptops)
    for one in laptops:
        one.start()
    with count.recovery():
        for one in laptops:
            one.finish()
            well(account, one, calm, 1)
        assert len(workers(account, asked)[1]) == 1
    count.note(f"{len(account.calls()) - before} calls")
    count.fired = count.survived = len(laptops)


# --- fault 10: what lies on the volume is damaged

DAMAGES = {
    "cut": lambda data: data[:-1],
    "bit flipped": lambda data: data[:7] + bytes([data[7] ^ 1]) + data[8:],
    "of another seed": lambda data: data[::-1],
}


@pytest.mark.parametrize("what", [pytest.param(one, marks=CHAOS) for one in DAMAGES])
def test_a_damaged_artifact_is_not_taken(account, tally, tmp_path, what):
    """On the volume, after it was sealed and before anybody brought it home: said, with its name; it never counts."""
    count = tally(f"10 artifact {what} (Modal)")
    with Laptop(account, tmp_path, account.submission(account.held("train3"))) as laptop:
        laptop.start()
        training(account, laptop)
        laptop.processes[-1].kill()
        account.let_go()
        account.quiet()
        artifact = account.kept(laptop.name()) / "artifact.bin"
        artifact.write_bytes(DAMAGES[what](artifact.read_bytes()))
        count.injected = count.fired = 1
        with count.recovery():
            assert laptop.run() == {1: ["stop", "damaged"]}
            assert laptop.states()[1][0][0] != "counted" and not (laptop.attempt() / "MANIFEST.json").exists()


# --- fault 11: machines are taken away


@CHAOS
def test_preempted_at_random_moments(account, calm, tally, tmp_path):
    """With and without a word, again and again: one attempt counts, each start of the call has a folder of its own."""
    count, draw = tally("11 machine taken away at random moments (Modal)"), random.Random(7)
    for number in range(4):
        text = toy_text(pause=0.4)
        with Laptop(account, tmp_path / str(number), account.submission(text), restarts=9) as laptop:
            laptop.start()
            for _ in range(3):
                time.sleep(draw.uniform(1.0, 5.0))
                running = [one.call_id for one in account.calls() if one.state == "running"]
                count.injected += 1
                if running:
                    count.fired += 1
                    draw.choice([account.plane.preempt, account.plane.lose_worker])(running[0])
            with count.recovery():
                laptop.finish()
                well(account, laptop, calm, 1)
            starts = account.starts(laptop.asked.run_id(1))
            assert len({(one["attempt_id"], one["execution"]) for one in starts}) == len(starts)
    count.survived = count.fired


# --- fault 16: secrets


def test_secrets_are_found_nowhere(account, tally, tmp_path):
    """What a laptop has in its environment, and its token: in no ledger, attempt, log, volume, input of a call; though
    the program prints all that it knows."""
    count = tally("16 secrets on the laptop (Modal)")
    token = account.environment()["MODAL_TOKEN_SECRET"]
    planted = {name: value for name, value in ENVIRONMENT.items() if name != "MODAL_TOKEN_SECRET"}
    with Laptop(account, tmp_path / "laptop", account.submission(toy_text({"setup": "environ"}))) as laptop:
        laptop.variables = planted
        call = {one.call_id for one in account.calls()}
        assert laptop.run() == {1: ["done", "counted"]}
        log = (laptop.attempt() / "log.txt").read_text()
        assert "SEED=1" in log
        (call,) = {one.call_id for one in account.calls()} - call
        count.injected = count.fired = len(planted) + 1
        with count.recovery():
            assert leaks(tmp_path, account.plane.volume(RUNS_VOLUME)) == []
            texts = [log, laptop.said(), account.plane.log(call), repr(account.plane.payloads(call))]
            assert all("planted" not in text and token not in text for text in texts)
            assert token not in "".join(_texts(tmp_path, account.plane.volume(RUNS_VOLUME)))
        count.survived = count.fired


def _texts(*folders: Path):
    return [path.read_text(errors="replace") for folder in folders for path in folder.rglob("*") if path.is_file()]
