"""All probes of one evaluator on one stream, in order; and what they will cost, told before they begin."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from results.audit.finding import PASS, REVIEW
from results.audit.probe.causality import causality, cuts_of
from results.audit.probe.controls import controls
from results.audit.probe.isolation import isolation
from results.audit.probe.normalisation import normalisation
from results.audit.probe.outcome import Outcome
from results.audit.probe.proposal import Proposal
from results.audit.probe.scorer import ON, Counted, Ints, Refused, Scorer, ScorerError
from results.audit.probe.subject import Subject, coverage, faults_of, null_replay, tolerance_of

SMALL_VOCAB = 64  # up to it, all tokens are tried at some positions without being asked
EXACT_POSITIONS = 4

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What is asked of an evaluator."""

    vocab: int
    bytes_a_token: float | None = None
    isolated: bool = False  # documents are claimed not to reach each other's context
    whole_isolated: bool = False  # nor to learn from each other
    events: int = 64  # adaptation events that cuts are put around, at most
    drawn_cuts: int = 6
    exact: int | None = None  # positions at which every token is tried; None: a few where the vocabulary is small
    swap_runs: int = 12  # runs with drawn tokens
    seed: int = 0

    @property
    def exact_positions(self) -> int:
        return self.exact if self.exact is not None else EXACT_POSITIONS if self.vocab <= SMALL_VOCAB else 0


def probe_stream(
    scorer: Scorer, tokens: Ints, text: npt.NDArray[np.integer], plan: Plan, tell: Tell = lambda line: None
) -> list[Outcome]:
    """The verdict of every probe. `text`: what the drawn tokens are modelled on. Raises ScorerError."""
    counted = Counted(scorer)
    first = counted(tokens, ON)
    if faults_of(first, len(tokens) - 1):
        return [coverage(first, tokens, 1)]  # nothing can be compared with it
    again = counted(tokens, ON)
    if faults := faults_of(again, len(tokens) - 1):
        raise ScorerError(f"the same stream again gave no score: {faults[0]}")
    tolerance = tolerance_of(first, again)
    subject = Subject(counted, tokens, plan.vocab, first, tolerance, plan.seed)
    tell(cost(subject, plan))
    begin = time.monotonic()
    same = bool(np.array_equal(first.order, again.order))
    found = [coverage(first, tokens, 1), null_replay(first, tolerance, same, 1)]
    found.append(causality(subject, plan.isolated, plan.events, plan.drawn_cuts))
    found.append(normalisation(subject, Proposal(text, plan.vocab), plan.exact_positions, plan.swap_runs))
    if plan.isolated:
        found.append(_unless_refused("isolation", "D6", lambda: isolation(subject, plan.whole_isolated)))
    found.append(_unless_refused("controls", "D11", lambda: controls(subject, plan.bytes_a_token)))
    found.append(last_replay(subject))
    tell(f"{counted.runs} runs of the stream in {time.monotonic() - begin:.0f} s")
    return found


def cost(subject: Subject, plan: Plan) -> str:
    """How many runs are to come at most, and how long they take at the pace of the quicker of the first two."""
    cuts = len(cuts_of(subject.layout, subject.base, plan.events, plan.drawn_cuts, subject.random(2)))
    swaps = plan.exact_positions * (plan.vocab - 1) + plan.swap_runs
    runs = cuts + swaps + (6 if plan.isolated else 0) + 3
    pace = subject.score.seconds_a_run
    return (
        f"{len(subject.tokens):,} tokens; up to {runs:,} runs of {pace:.2g} s to come, {runs * pace:.0f} s: {cuts} "
        f"cuts around {len(np.unique(subject.base.learned))} places of adaptation and elsewhere, {swaps:,} runs with "
        "swapped tokens, the rest controls"
    )


def _unless_refused(name: str, check: str, probe: Callable[[], Outcome]) -> Outcome:
    """Controls turn learning off, which an evaluator may not know how to do."""
    try:
        return probe()
    except Refused as error:
        return Outcome(name, check, REVIEW, "audit 3", f"the evaluator cannot be asked for a control: {error}", 0)


def last_replay(subject: Subject) -> Outcome:
    """The first stream once more, after all the others: what an evaluator keeps from one call to the next shows."""
    after = subject.ask(subject.tokens)
    worst = float(np.abs(after.nll - subject.base.nll).max())
    evidence = {"largest_nats": worst, "runs_between": subject.score.runs - 2}
    if worst > subject.tolerance.largest():
        says = f"after {subject.score.runs - 2} other runs the first stream differs by {worst:.3g} nats: state is kept"
        return Outcome("last replay", "null", REVIEW, "[C] A1; [M2] A9", says, 1, evidence)
    says = f"after {subject.score.runs - 2} other runs the first stream scores as at first"
    return Outcome("last replay", "null", PASS, "[C] A1; [M2] A9", says, 1, evidence)
