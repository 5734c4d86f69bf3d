"""The canary: who goes first, and what releases or bars the others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from golf_core.policy import load_policy
from golf_core.rundir import write_json
from orchestrator.money.canary import CANCELLED, COUNTED, ENDED, OPEN, Measured, Seen, measured, release
from orchestrator.worker.attempt import run_attempt
from tests.orchestrator.toy import attempt_folder

DEMO = load_policy("demo")
SEEDS = st.lists(
    st.builds(
        lambda state, over: Seen(0, state, over=over if state == COUNTED else "", why="user_error"),
        st.sampled_from([OPEN, COUNTED, ENDED, CANCELLED]),
        st.sampled_from(["", "17,000,000 bytes of 16,000,000"]),
    ),
    min_size=1,
    max_size=5,
).map(lambda found: [Seen(number, one.state, one.over, one.why) for number, one in enumerate(found)])


@given(SEEDS)
def test_at_most_one_seed_goes_before_one_has_kept_the_caps(seeds):
    """Until a seed is counted within its caps at most one may begin; from then on every one may."""
    going = [one.seed for one in seeds if one.state == OPEN and release(one.seed, seeds).verb == "go"]
    proven = any(one.state == COUNTED and not one.over for one in seeds)
    still_open = [one.seed for one in seeds if one.state == OPEN]
    assert going == still_open if proven else len(going) <= 1


@given(SEEDS)
def test_nobody_waits_for_what_cannot_come(seeds):
    """Whoever waits, waits for a seed that is open and may itself go: no submit hangs on its canary."""
    for one in seeds:
        verdict = release(one.seed, seeds)
        if one.state == OPEN and verdict.verb == "wait":
            first = next(other for other in seeds if other.state != CANCELLED)
            assert first.state == OPEN and release(first.seed, seeds).verb == "go"
        assert verdict.why or verdict.verb == "go"


@pytest.mark.parametrize(
    "sizes, over",
    [
        ((16_000_000, 600.0, 600.0), ""),
        ((16_000_001, 600.0, 600.0), "16,000,001 bytes of 16,000,000"),
        ((1, 600.001, 600.0), "600.001 s of training, of 600"),
        ((1, 600.0, 600.001), "600.001 s of evaluation, of 600"),
        ((1, None, None), ""),
    ],
)
def test_caps_are_inclusive_as_in_the_gates(sizes, over):
    """A value equal to its cap passes; what a script does not tell bars nothing."""
    assert Measured(*sizes).over(DEMO) == over


def test_a_sealed_attempt_is_measured_by_its_files(tmp_path):
    """Bytes are those of program and artifact; seconds the larger of the worker's and the trainer's own."""
    folder = attempt_folder(tmp_path)
    result = run_attempt(folder)
    found = measured(folder)
    size = (folder / "train_gpt.py").stat().st_size + (folder / "artifact.bin").stat().st_size
    assert found.artifact_bytes == size and found.over(DEMO) == ""
    assert found.train_seconds == max(result["train_seconds"], 0.05)
    write_json(folder / "result.json", result | {"train_seconds": 700.0})
    assert "700.000 s of training" in measured(folder).over(DEMO)
