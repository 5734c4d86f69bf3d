"""The policy: what may be decided from which state of a run."""

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.policy import BACKOFF_SECONDS, MAX_REFUSALS, MAX_RETRIES, OUTSIDE, Past, View, decide

OWN_FAULTS = ("user_error", "nan", "memory", "data", "artifact", "deadline", "silent")
STATES = ("counted", "damaged", "void", "busy", "failed", "lost")

pasts = st.builds(
    Past,
    number=st.just(0),
    state=st.sampled_from(STATES),
    cls=st.sampled_from((*OUTSIDE, *OWN_FAULTS)),
    stage=st.sampled_from(("train", "evaluate")),
    train_sealed=st.booleans(),
    fresh=st.booleans(),
)
views = st.builds(
    View,
    attempts=st.lists(pasts, max_size=4).map(
        lambda some: [dataclasses.replace(one, number=number) for number, one in enumerate(some, 1)]
    ),
    train_faults=st.integers(0, MAX_RETRIES + 2),
    evaluate_faults=st.integers(0, MAX_RETRIES + 2),
    since_fault=st.floats(0, 100),
    refusals=st.integers(0, MAX_REFUSALS + 2),
    other_nodes=st.booleans(),
    slot_free=st.booleans(),
    elsewhere=st.booleans(),
    cancel=st.booleans(),
    retry_failed=st.booleans(),
)


@given(views)
def test_a_counted_run_is_done(view):
    """Whatever else is true, a counted attempt ends the run, and it is the lowest that is named."""
    counted = [one.number for one in view.attempts if one.state == "counted"]
    decision = decide(view)
    assert (decision.verb == "done") == bool(counted)
    if counted:
        assert decision.number == counted[0]


@given(views)
def test_nothing_starts_beside_what_runs(view):
    """start, evaluate and void happen only where no attempt is busy and nobody else has the run."""
    if decide(view).verb in ("start", "evaluate", "void"):
        assert not view.elsewhere and all(one.state not in ("busy", "counted") for one in view.attempts)


@given(views)
def test_a_new_attempt_has_a_new_number_and_only_void_ones_before_it(view):
    """start never reuses a number and never leaves an open attempt behind."""
    decision = decide(view)
    if decision.verb == "start":
        assert all(one.state == "void" and one.number < decision.number for one in view.attempts)
        assert view.slot_free and not view.cancel and view.train_faults <= MAX_RETRIES


@given(views)
def test_failures_of_the_code_are_never_retried_unasked(view):
    """Where the last open attempt failed by itself, nothing starts without --retry-failed, nor twice with it."""
    decision = decide(view)
    last = next((one for one in reversed(view.attempts) if one.state != "void"), None)
    if decision.verb in ("void", "evaluate") and last is not None and last.cls in OWN_FAULTS:
        assert view.retry_failed and not last.fresh


@given(views)
def test_only_evaluation_is_repeated_where_training_is_sealed(view):
    """An attempt whose training is sealed is never made void for a fault from outside in its evaluation."""
    decision = decide(view)
    if decision.verb == "void":
        one = view.attempts[decision.number - 1]
        assert not (one.train_sealed and one.stage == "evaluate" and one.cls in OUTSIDE)
    if decision.verb == "evaluate":
        one = view.attempts[decision.number - 1]
        assert one.train_sealed and one.stage == "evaluate" and one.state in ("failed", "lost")


def test_retries_wait_longer_each_time_and_end():
    """The first fault waits BACKOFF[0], the second BACKOFF[1], the third stops the run."""
    for faults, pause in enumerate(BACKOFF_SECONDS, 1):
        before = View([], train_faults=faults, since_fault=pause - 0.1)
        after = dataclasses.replace(before, since_fault=pause + 0.1)
        assert (decide(before).verb, decide(after).verb) == ("wait", "start")
    assert decide(View([], train_faults=MAX_RETRIES + 1, since_fault=1e9)).verb == "stop"


@given(views)
def test_nodes_are_tried_up_to_a_limit_and_this_machine_once(view):
    """After a refusal nothing is started where there is no other node, nor after too many of them."""
    if decide(view).verb == "start" or (decide(view).verb == "evaluate" and not view.retry_failed):
        assert view.refusals <= (MAX_REFUSALS if view.other_nodes else 0)


def test_what_bars_another_attempt_does_not_hide_the_cause():
    """Class and message of the attempt that ended stand before it; where there was none, it stands alone."""
    past = Past(1, "void", "wrong_hardware", "train", message="8x NVIDIA H200")
    decision = decide(View([past], barred="attempts are used up (1 of 1)"))
    told = "attempt 1 ended with wrong_hardware (8x NVIDIA H200); attempts are used up (1 of 1)"
    assert (decision.verb, decision.reason) == ("stop", told)
    assert decide(View([], barred="the canary is too large")).reason == "the canary is too large"
