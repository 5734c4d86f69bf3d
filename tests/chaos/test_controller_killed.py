"""Faults 1 and 17: the controller is killed, or stopped and replaced, at every point of its work."""

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.chaos.controllers import Controllers
from tests.chaos.invariants import check, ledger_rows, scores_of
from tests.chaos.zygote import EXCUSED
from tests.orchestrator.toy import toy_text

QUICK = toy_text(steps=2)
KILLED = -signal.SIGKILL
WHENS = ("before", "within", "after")
TRUE_STILL = {"attempt_started", "attempt_counted"}


@pytest.fixture(scope="module")
def controllers(tmp_path_factory):
    made = Controllers(tmp_path_factory.mktemp("controllers"))
    yield made
    made.close()


def undisturbed(controllers, folder, **how):
    """Scores, and how many ledger writes and lines of ours an undisturbed submission has."""
    assert controllers.run(folder / "calm", total=str(folder / "total"), **how) == 0, controllers.said()
    scores = scores_of(folder / "calm")
    assert len(scores) == len(how.get("seeds", (1, 2))), controllers.said()
    return scores, json.loads((folder / "total").read_text())


def killed_and_resumed(controllers, tally, runs_dir, scores, point, **how):
    """One fault, its recovery by the same submission again, and the look whether all is as if nothing had been."""
    tally.injected += 1
    code = controllers.run(runs_dir, **point, **how)
    if code == 0:
        return
    assert code == KILLED, controllers.said()
    tally.fired += 1
    with tally.recovery():
        assert controllers.run(runs_dir, **how) == 0, f"{point}: {controllers.said()}"
        check(runs_dir, scores)


def test_a_kill_at_every_write_to_the_ledger(controllers, tally, tmp_path):
    """Before, within and after each transaction: the next submit ends with the same scores, one attempt counted."""
    count = tally("1 controller killed at every ledger write (fake jobs)")
    scores, total = undisturbed(controllers, tmp_path, seeds=(1,))
    for number in range(1, total["writes"] + 1):
        for when in WHENS:
            point = {"write": number, "when": when}
            killed_and_resumed(controllers, count, tmp_path / f"{number}-{when}", scores, point, seeds=(1,))
    assert count.fired >= 3 * (total["writes"] - 2)  # a slow undisturbed one beats its lease, and writes more


@pytest.mark.parametrize("points", [40, pytest.param(200, marks=pytest.mark.chaos)])
def test_a_kill_at_random_lines(controllers, tally, tmp_path, points):
    """Wherever the controller stands in its own code, or in that which lays down folders and seals."""
    count = tally("1 controller killed at random lines (fake jobs)")
    scores, total = undisturbed(controllers, tmp_path, seeds=(1,))
    draw = random.Random(6)
    for number, line in enumerate(draw.sample(range(1, total["lines"]), points)):
        killed_and_resumed(controllers, count, tmp_path / f"{number}", scores, {"line": line}, seeds=(1,))
    assert count.fired > 0.9 * points


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.chaos)])
def test_a_kill_at_ledger_writes_with_real_workers(controllers, tally, tmp_path, every):
    """The workers end with their controller; what they had sealed is kept, what they had not is void."""
    count = tally("1 controller killed at ledger writes (real workers)")
    how = {"backend": "process", "seeds": (1,), "text": QUICK}
    scores, total = undisturbed(controllers, tmp_path, **how)
    for number in range(1, total["writes"] + 1):
        for place, when in enumerate(WHENS):
            if (3 * number + place) % every == 0:
                runs_dir = tmp_path / f"{number}-{when}"
                killed_and_resumed(controllers, count, runs_dir, scores, {"write": number, "when": when}, **how)
    assert count.survived == count.fired > 0


@pytest.mark.chaos
def test_a_kill_at_two_hundred_random_moments(controllers, tally, tmp_path):
    """Real workers at work; the moment is a part of the time that an undisturbed submission takes."""
    count = tally("1 controller killed at 200 random moments (real workers)")
    how = {"backend": "process", "seeds": (1, 2), "text": toy_text(steps=3, pause=0.05)}
    began = time.monotonic()
    scores, _ = undisturbed(controllers, tmp_path, **how)
    takes, draw = time.monotonic() - began, random.Random(1)
    for number in range(200):
        runs_dir = tmp_path / f"{number}"
        count.injected += 1
        pid = controllers.start(runs_dir, **how)
        time.sleep(draw.random() * takes)
        os.kill(pid, signal.SIGKILL)
        if controllers.wait(pid) == KILLED:
            count.fired += 1
            with count.recovery():
                assert controllers.run(runs_dir, **how) == 0, controllers.said()
                check(runs_dir, scores)
    assert count.fired > 100


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.chaos)])
def test_a_stopped_controller_that_was_replaced_writes_nothing(controllers, tally, tmp_path, every):
    """Stopped at a ledger write, replaced by a second one that cannot see whether it lives, continued after that."""
    count = tally("17 stale controller continued after its replacement")
    how = {"backend": "process", "seeds": (1,), "text": QUICK}
    scores, total = undisturbed(controllers, tmp_path, **how)
    # Before the third write it holds no lease that could be taken; at the last it gives its lease back.
    for number in range(3, total["writes"]):
        if number % every:
            continue
        runs_dir = tmp_path / f"{number}"
        count.injected += 1
        stale = controllers.start(runs_dir, foreign=True, act="stop", write=number, when="before", **how)
        if controllers.wait(stale) is not None:  # a busy machine's undisturbed one had beaten its lease, and wrote more
            continue
        second = controllers.start(runs_dir, patience=0.3, **how)
        assert controllers.wait(second) == 0, controllers.said()
        before = written(runs_dir)
        os.kill(stale, signal.SIGCONT)
        code = controllers.wait(stale)
        count.note(f"exit code {code}")
        assert code == EXCUSED, controllers.said()
        count.fired += 1
        with count.recovery():
            rows, files = written(runs_dir)
            assert files == before[1], "the stale controller wrote into the folders"
            more = rows[len(before[0]) :]
            assert rows[: len(before[0])] == before[0] and {row[1] for row in more} <= TRUE_STILL, more
            # The lease of a run whose attempt had ended meanwhile, and counts, is taken by nobody: its first holder may
            # still say how it began and ended. Of a run that its replacement took it may say nothing.
            replaced = max(at for at, row in enumerate(before[0]) if row[1] == "submit")
            assert not more or all(row[3] is None for row in before[0][replaced:]), "both spoke of the run"
            check(runs_dir, scores)


def written(runs_dir):
    """What counts: the ledger's events, and every file of the attempts."""
    files = [path for path in Path(runs_dir).rglob("*") if path.is_file() and "ledger" not in path.name]
    return ledger_rows(runs_dir), {path: path.read_bytes() for path in files}
