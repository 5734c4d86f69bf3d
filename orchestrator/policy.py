"""What to do with a run next: a pure function of its state.

Only the class of a failure and the stage it happened in decide, never a score. Faults from outside are retried
with growing waits, up to a limit; failures of the user's code never, unless the user asks (`--retry-failed`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

# Of the node it was sent to: no more attempts go there, and another is tried before any time is lost.
OF_THE_NODE = ("wrong_hardware", "slow_node", "node_setup")
OUTSIDE = (
    *("rank_killed", "worker_lost", "orphaned", "launch_error", "startup", "cancelled"),
    *("node_lost", "preempted", "disturbed_clock"),
    *OF_THE_NODE,
)
MAX_RETRIES = 2  # of a stage, within one submit
MAX_REFUSALS = 8  # of nodes, on a cluster
BACKOFF_SECONDS = (1.0, 5.0)  # before the first and the second retry


@dataclass(frozen=True)
class Past:
    """One attempt of a run: state, class and stage as orchestrator.attempts tells them."""

    number: int
    state: str
    cls: str = ""
    stage: str = ""
    train_sealed: bool = False
    fresh: bool = False  # it ended under this controller: an old failure is what --retry-failed is about
    message: str = ""  # what its end said


@dataclass(frozen=True)
class View:
    """All that a decision may look at."""

    attempts: Sequence[Past]
    train_faults: int = 0  # outside faults of this run's train stage, under this controller
    evaluate_faults: int = 0  # likewise, evaluate
    since_fault: float = float("inf")  # seconds since the last of them
    refusals: int = 0  # attempts that found their node wanting
    other_nodes: bool = False  # whether there can be another one to try
    slot_free: bool = True
    held: str = ""  # why it must wait though a slot is free: a busy cluster, a canary, a budget
    barred: str = ""  # why it is not started at all: a canary over its caps, a budget used up
    elsewhere: bool = False  # another submission's controller is running it
    cancel: bool = False
    retry_failed: bool = False


@dataclass(frozen=True)
class Decision:
    """`verb`: done | wait | cancel | void | start | evaluate | stop. `number` is the attempt it is about."""

    verb: str
    reason: str
    number: int = 0


def decide(view: View) -> Decision:
    for attempt in view.attempts:
        if attempt.state == "counted":
            return Decision("done", "counted", attempt.number)
    if view.elsewhere and view.cancel:
        return Decision("stop", "left to the submission that runs it")
    for attempt in view.attempts:
        if attempt.state == "busy":
            verb = "cancel" if view.cancel else "wait"
            return Decision(verb, "running", attempt.number)
    if view.elsewhere:
        return Decision("wait", "another submission is running it")
    open_attempts = [attempt for attempt in view.attempts if attempt.state != "void"]
    if open_attempts:
        return _after_failure(view, open_attempts[-1])
    if view.cancel:
        return Decision("stop", "cancelled")
    if (refused := _refused(view)) is not None:
        return refused
    if view.train_faults > MAX_RETRIES:
        return Decision("stop", f"failed {view.train_faults} times from outside; the same submit tries again")
    return _when_free(view, view.train_faults, "start", 1 + max((a.number for a in view.attempts), default=0))


def _after_failure(view: View, last: Past) -> Decision:
    """The last attempt that is not void ended without a seal, or lost it."""
    repeatable = last.train_sealed and last.stage == "evaluate"
    if last.cls in OUTSIDE and not repeatable:
        return Decision("void", last.cls, last.number)
    if view.cancel:
        return Decision("stop", "cancelled", last.number)
    if last.cls in OUTSIDE:
        if (refused := _refused(view, last.number)) is not None:
            return refused
        if view.evaluate_faults > MAX_RETRIES:
            why = f"evaluation failed {view.evaluate_faults} times from outside; the same submit tries again"
            return Decision("stop", why, last.number)
        return _when_free(view, view.evaluate_faults, "evaluate", last.number)
    if view.retry_failed and not last.fresh:
        if repeatable and last.state != "damaged":
            return _when_free(view, 0, "evaluate", last.number)
        return Decision("void", last.cls, last.number)
    return Decision("stop", last.cls, last.number)


def _refused(view: View, number: int = 0) -> Decision | None:
    """The end of trying nodes; the machine that we are on does not change by trying it again."""
    if view.refusals <= (MAX_REFUSALS if view.other_nodes else 0):
        return None
    what = f"{view.refusals} nodes were" if view.other_nodes else "this machine was"
    return Decision("stop", f"{what} found wanting; the same submit tries again", number)


def _with_cause(view: View) -> str:
    """Why nothing more is started, and first why there would have to be more."""
    ended = [attempt for attempt in view.attempts if attempt.cls]
    if not ended:
        return view.barred
    last = ended[-1]
    said = last.cls if last.message in ("", last.cls) else f"{last.cls} ({last.message})"
    return f"attempt {last.number} ended with {said}; {view.barred}"


def _when_free(view: View, faults: int, verb: str, number: int) -> Decision:
    if faults and view.since_fault < (pause := BACKOFF_SECONDS[min(faults, len(BACKOFF_SECONDS)) - 1]):
        return Decision("wait", f"retry in {pause - view.since_fault:.0f} s", number)
    if view.barred:
        return Decision("stop", _with_cause(view), number)
    if not view.slot_free:
        return Decision("wait", "queued", number)
    if view.held:
        return Decision("wait", view.held, number)
    return Decision(verb, "retry" if faults else "next", number)
