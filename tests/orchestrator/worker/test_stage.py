"""Deadlines, classes and seconds of a stage, as pure functions."""

import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from golf_core.policy import load_policy
from orchestrator.settings import FIELDS
from orchestrator.worker.stage import TIMED, Deadlines, Transcript, how_it_ended, phase_seconds
from tests.orchestrator.toy import limits


def at(stage="train", **changed):
    return Deadlines(limits(**changed), stage, 0.0)


@pytest.mark.parametrize("seconds, over", [(599.999, False), (600.0, False), (660.0, False), (660.001, True)])
def test_the_limit_counts_the_timed_phase_alone(seconds, over):
    """Training ends at limit + kill_after, counted from the beginning of the phase, not of the stage."""
    deadlines = at(train_s=600.0, kill_after_s=60.0, startup_s=1e9, silence_s=1e9)
    deadlines.edge("setup", "begin", 1.0)
    deadlines.edge("setup", "end", 500.0)
    deadlines.edge("train", "begin", 500.0)
    assert (deadlines.over(500.0 + seconds) is not None) == over


def test_evaluation_phases_share_one_limit():
    """Seconds of earlier evaluation phases count; those between phases do not."""
    deadlines = at("evaluate", evaluate_s=10.0, kill_after_s=1.0, startup_s=1e9, silence_s=1e9)
    deadlines.edge("roundtrip", "begin", 0.0)
    deadlines.edge("roundtrip", "end", 6.0)
    deadlines.edge("ttt", "begin", 100.0)
    assert deadlines.over(104.9) is None and deadlines.over(105.1)[0] == "deadline"


@given(st.floats(1.0, 500.0))
def test_an_hour_of_evaluation_is_allowed_under_the_policy_for_explorations(pause):
    """With the default settings nothing but the policy's own limit ends it, while a line comes now and then."""
    policy = load_policy("exploration")
    deadlines = at(
        "evaluate",
        evaluate_s=policy.evaluate_seconds,
        kill_after_s=policy.kill_after_seconds,
        startup_s=FIELDS["startup_seconds"].default,
        silence_s=FIELDS["silence_seconds"].default,
    )
    deadlines.edge("load", "begin", 100.0)
    deadlines.edge("load", "end", 160.0)
    deadlines.edge("sliding", "begin", 160.0)
    deadlines.last_output = 160.0
    now = 160.0
    while now + pause < 100.0 + policy.evaluate_seconds + policy.kill_after_seconds:
        now += pause
        assert deadlines.over(now) is None
        deadlines.last_output = now
    assert deadlines.over(100.0 + policy.evaluate_seconds + policy.kill_after_seconds + 0.1)[0] == "deadline"


@given(st.floats(0, 1e4), st.floats(0.1, 1e3))
def test_silence_is_counted_from_the_last_output(heard, patience):
    """Within silence_s of the last output nothing is over, after it the class is silent."""
    deadlines = at(silence_s=patience, startup_s=1e9)
    deadlines.last_output = heard
    assert deadlines.over(heard + patience * 0.99) is None
    assert deadlines.over(heard + patience * 1.01 + 1e-6)[0] == "silent"


def said(tmp_path, *lines):
    transcript = Transcript(tmp_path, "train", lambda: 0.0)
    transcript.feed("\n".join([*lines, ""]).encode())
    transcript.close()
    return transcript


ENDS = {
    "well": (0, [], 0, "completed"),
    "a NaN that the bundle names": (1, ["fatal:nan loss", "RuntimeError: x"], 0, "nan"),
    "an unknown class": (1, ["fatal:strange words"], 0, "user_error"),
    "a rank killed": (1, ["ValueError: peer gone", "  exitcode  : -9 (pid: 7)"], 0, "rank_killed"),
    "a rank failed": (1, ["[rank0]: ValueError: mine", "  exitcode  : 1 (pid: 7)"], 0, "user_error"),
    "the launcher killed": (-9, [], 0, "rank_killed"),
    "the kernel killed for memory": (1, ["  exitcode  : -9 (pid: 7)"], 1, "memory"),
    "CUDA out of memory": (1, ["torch.OutOfMemoryError: CUDA out of memory."], 0, "memory"),
    "no words": (3, [], 0, "user_error"),
}


@pytest.mark.parametrize("code, lines, kills, cls", ENDS.values(), ids=ENDS)
def test_an_end_has_one_class(tmp_path, code, lines, kills, cls):
    """What the bundle says goes before what torchrun says, and that before the exit code."""
    assert how_it_ended(code, said(tmp_path, *lines), kills).cls == cls


@given(st.lists(st.binary(max_size=40), max_size=30))
def test_no_output_breaks_the_transcript(tmp_path_factory, chunks):
    """Any bytes, cut anywhere, are logged as they came."""
    folder = tmp_path_factory.mktemp("said")
    transcript = Transcript(folder, "train", lambda: 0.0)
    for chunk in chunks:
        transcript.feed(chunk)
    transcript.close()
    assert (folder / "log.txt").read_bytes() == b"".join(chunks)


@given(st.integers(1, 30))
def test_a_phase_line_that_is_cut_in_two_is_one_line(cut):
    """Where a line arrives in pieces it is stamped once, when it is whole."""
    line = b"phase:begin train\nphase:end train\n"
    transcript = types.SimpleNamespace(log=Sink(), phases=Sink(), tail=b"", stage="train", clock=lambda: 1.0)
    transcript.fatal, transcript.exception, transcript.rank_killed = None, "", False
    transcript.stamp = lambda phase, edge: Transcript.stamp(transcript, phase, edge)
    edges = [*Transcript.feed(transcript, line[:cut]), *Transcript.feed(transcript, line[cut:])]
    assert edges == [("train", "begin"), ("train", "end")] and transcript.phases.data.count(b"\n") == 2


class Sink:
    def __init__(self):
        self.data = b""

    def write(self, data):
        self.data += data


def test_seconds_of_phases_are_summed():
    """Repeated phases add up; others, open ones and foreign rows do not count."""
    rows = [("train", "begin", 1.0), ("train", "end", 3.5), ("average", "begin", 3.5), ("average", "end", 9.0)]
    rows += [("train", "begin", 10.0), ("train", "end", 10.5), ("train", "begin", 20.0)]
    rows = [{"phase": phase, "edge": edge, "t": t} for phase, edge, t in rows] + [{"odd": 1}, {"phase": "train"}]
    assert phase_seconds(rows, ("train",)) == 3.0


def test_calibration_is_training():
    """Every `train` and `calibrate` phase adds to the seconds of training; a second begin does not move the first."""
    rows = [("train", "begin", 0.0), ("train", "end", 5.0), ("validate", "begin", 5.0), ("validate", "end", 50.0)]
    rows += [("train", "begin", 60.0), ("train", "begin", 61.0), ("train", "end", 62.0)]
    rows += [("calibrate", "begin", 70.0), ("calibrate", "end", 74.0)]
    rows = [{"phase": phase, "edge": edge, "t": t} for phase, edge, t in rows]
    assert phase_seconds(rows, TIMED["train"]) == 11.0
    deadlines = at(train_s=10.0, kill_after_s=0.0, startup_s=1e9, silence_s=1e9)
    for row in rows[:-1]:
        deadlines.edge(row["phase"], row["edge"], row["t"])
    assert deadlines.over(72.9) is None and deadlines.over(73.1)[0] == "deadline"


@given(st.floats(1.0, 1e4), st.floats(1.0, 1e4), st.floats(1.0, 1e4), st.floats(0.0, 60.0))
def test_no_stage_outlives_what_an_attempt_is_given(train, evaluate, startup, kill_after):
    """Whatever a stage does, it is over once the attempt has had its seconds, and within what its limits add up to."""
    given_limits = limits(train_s=train, evaluate_s=evaluate, startup_s=startup, kill_after_s=kill_after, silence_s=1e9)
    assert given_limits.attempt_s == 2 * (startup + kill_after) + train + evaluate
    for stage in ("train", "evaluate", "run"):
        deadlines = Deadlines(given_limits, stage, 0.0)
        assert deadlines.over(given_limits.attempt_s + 0.01) is not None
    short = limits(train_s=train, evaluate_s=evaluate, startup_s=startup, dead_man_s=0.5)
    assert Deadlines(short, "train", 0.0).over(0.4) is None
    assert Deadlines(short, "train", 0.0).over(0.6)[0] == "deadline"
