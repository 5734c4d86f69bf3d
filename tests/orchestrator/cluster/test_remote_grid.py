"""A grid on a real cluster, by its name and from anywhere; and failures that are to be tried again there."""

from dataclasses import dataclass

import pytest

from orchestrator.errors import FAILED, NOT_FINISHED
from tests.orchestrator.grids.test_grid import MINE
from tests.orchestrator.remote import PATIENCE, Laptop, scores
from tests.orchestrator.toy import TOY_BUILD, stop, toy_text, until

pytestmark = [pytest.mark.xdist_group("cluster"), pytest.mark.chaos]
FLAGS = ("-y", "--parallel", "--no-rehearsal")


@dataclass
class GridLaptop(Laptop):
    """Its submits are of a grid of two toys, `pair`."""

    def __post_init__(self):
        super().__post_init__()
        (self.folder / "mine.py").write_text(MINE)

    def starter(self):
        return [TOY_BUILD]

    def program(self):
        return ["--recipe", "./mine.py:pair"]


def said(laptop, text):
    """How many attempts on the head have said so."""
    return sum(text in log.read_text() for log in (laptop.state / "attempts").glob("[0-9a-f]*/log.txt"))


def test_a_grid_is_cancelled_followed_and_fetched_by_its_name(make_bench, cluster, tmp_path):
    """From a machine that knows the address alone: what runs ends, the same submit goes on, its end is seen, and all
    of it comes home."""
    text = toy_text({"train2": f"wait {tmp_path}/go"})
    laptop = make_bench(text, "laptop", GridLaptop, cluster=cluster, flags=FLAGS, seeds="1")
    first = laptop.start()
    try:
        until(lambda: said(laptop, "waiting in train2") == 2, "both variants train", PATIENCE)
        asked = laptop.there("pair", verb="cancel")
        first.communicate(timeout=PATIENCE)
    finally:
        stop(first)
    assert asked.returncode == 0 and "cancelled 2 of 2 variants of pair" in asked.stderr, asked.stderr
    assert first.returncode == NOT_FINISHED and not scores(laptop.runs_dir)
    assert "nothing of pair is running" in laptop.run("pair", verb="cancel").stderr
    again = laptop.start()
    try:
        until(lambda: said(laptop, "waiting in train2") == 4, "both train again", PATIENCE)
        seen = laptop.start_there("pair", "-f", verb="status")
        try:
            until(lambda: "pair.b seed 1: running" in seen.stdout.readline(), "it follows", PATIENCE)
            (tmp_path / "go").touch()
            out, err = seen.communicate(timeout=PATIENCE)
        finally:
            stop(seen)
        assert seen.returncode == 0 and "pair.b seed 1: done" in out, err
        assert "grid pair: 2 variants, 2 runs: 2 done" in out
        _, err = again.communicate(timeout=PATIENCE)
    finally:
        stop(again)
    assert again.returncode == 0, err
    brought = laptop.there("pair", "-q", verb="fetch")
    assert brought.returncode == 0 and len(brought.stdout.split()) == 2, brought.stderr
    assert scores(laptop.folder / "elsewhere" / "runs") == scores(laptop.runs_dir) != {}


def test_failures_are_tried_again_when_the_controller_that_runs_has_ended(make_bench, cluster, tmp_path):
    """A submit with --retry-failed attaches to a controller that was begun without it: it says so, waits, and has the
    failed seed tried again; the attempt that failed is void."""
    text = toy_text({"train2": f"crash:{tmp_path}", "train3": f"wait {tmp_path}/go"})
    (tmp_path / "train2-2-0").touch()  # of seed 2, as if it had crashed before
    laptop = make_bench(text, "laptop", Laptop, cluster=cluster, flags=FLAGS)
    first = laptop.start()
    try:
        until(lambda: said(laptop, "waiting in train3") and said(laptop, "crashed"), "one failed, one waits", PATIENCE)
        second = laptop.start("--retry-failed")
        try:
            until(lambda: "--retry-failed" in second.stderr.readline(), "it says when", PATIENCE)
            (tmp_path / "go").touch()
            _, err = second.communicate(timeout=PATIENCE)
        finally:
            stop(second)
        assert first.wait(PATIENCE) == FAILED and second.returncode == 0, err
    finally:
        stop(first)
    assert len(scores(laptop.runs_dir)) == 2 and len(laptop.attempts()) == 3
