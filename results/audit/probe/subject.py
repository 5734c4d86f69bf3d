"""An evaluator under probe: its scorer, the stream, what it answered at first, and how far replays lie apart."""

import functools
from dataclasses import dataclass

import numpy as np

from results.audit.finding import FAIL, PASS, REVIEW
from results.audit.probe.outcome import COARSE, Outcome, Tolerance
from results.audit.probe.perturb import Layout, backward_segments, layout_of
from results.audit.probe.scorer import ON, Counted, Ints, ScorerError, StreamScore

CERTAIN = -1e-6  # nats: below it a probability would be over 1, beyond rounding
COVERAGE = "[M2] A4; [R] A6"


@dataclass(frozen=True)
class Subject:
    score: Counted
    tokens: Ints
    vocab: int
    base: StreamScore
    tolerance: Tolerance
    seed: int = 0

    @functools.cached_property
    def layout(self) -> Layout:
        return layout_of(self.tokens, self.base)

    def ask(self, tokens: Ints, learn: str = ON) -> StreamScore:
        """The scores of another stream. Raises ScorerError where they are none."""
        found = self.score(tokens, learn)
        if faults := faults_of(found, len(tokens) - 1):
            raise ScorerError(f"run {self.score.runs} (learn={learn}) gave no score of its stream: {faults[0]}")
        return found

    def random(self, salt: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, salt])


def faults_of(score: StreamScore, targets: int) -> list[str]:
    """What is missing or impossible in a score of that many targets."""
    for name, values in (("nll", score.nll), ("order", score.order)):
        if len(values) != targets:
            return [f"{name} has {len(values):,} values for {targets:,} targets: not every target is scored once"]
    found = []
    if len(bad := np.flatnonzero(~np.isfinite(score.nll))):
        found.append(f"the loss of {len(bad):,} targets is not finite, first of token {bad[0] + 1}")
    elif score.nll.min() < CERTAIN:
        worst = int(np.argmin(score.nll))
        found.append(f"the loss of token {worst + 1} is {score.nll[worst]:.6f} nats, a probability over 1")
    commits = np.unique(score.order)
    if not np.array_equal(commits, np.arange(len(commits))):
        gap = next((number for number, one in enumerate(commits.tolist()) if number != one), 0)
        found.append(f"commits are not numbered from 0 without a gap: there is no commit {gap}")
    elif len(score.learned) and not (
        (np.diff(score.learned) >= 0).all() and score.learned[0] >= 0 and score.learned[-1] <= len(commits)
    ):
        found.append(f"adaptation events are not in time within {len(commits):,} commits")
    return found


def coverage(score: StreamScore, tokens: Ints, runs: int) -> Outcome:
    """Every target once, with a finite loss, in an order that is told whole."""
    targets = len(tokens) - 1
    if faults := faults_of(score, targets):
        return Outcome("coverage", "D4", FAIL, COVERAGE, "; ".join(faults), runs, {"targets": targets})
    layout = layout_of(tokens, score)
    evidence = {"targets": targets, "commits": layout.commits, "adaptation_events": len(score.learned)}
    told = f"{targets:,} targets, each scored once in {layout.commits:,} commits, {len(score.learned):,} adaptations"
    back = backward_segments(layout)
    if len(back):
        where = int(np.flatnonzero(layout.segment == back[0])[0])
        says = f"{told}; {len(back)} documents are not scored from left to right, first the one at token {where}"
        return Outcome("coverage", "D4", REVIEW, "[C] A4 (#1017 condition 4)", says, runs, evidence)
    says = told + ("; documents are scored in another order than the stream's" if layout.by_document else "")
    return Outcome("coverage", "D4", PASS, COVERAGE, says, runs, evidence)


def tolerance_of(first: StreamScore, *others: StreamScore) -> Tolerance:
    token = max(float(np.abs(first.nll - other.nll).max()) for other in others)
    return Tolerance(token, max(abs(float((first.nll - other.nll).sum())) for other in others))


def null_replay(first: StreamScore, tolerance: Tolerance, same_order: bool, runs: int) -> Outcome:
    """The same input again: what moves here is noise, and a probe sees nothing smaller than FACTOR times it."""
    evidence = {
        "largest_nats": tolerance.token,
        "sum_nats": tolerance.total,
        "tolerance_token": tolerance.largest(),
        "tolerance_sum": tolerance.summed(len(first.nll)),
    }
    told = f"the same stream again differs by {tolerance.token:.2g} nats at most, {tolerance.total:.2g} in sum"
    if not same_order:
        says = f"{told}; but its targets were committed in another order"
        return Outcome("null replay", "null", REVIEW, "audit 3", says, runs, evidence)
    if tolerance.token > COARSE:
        says = f"{told}: over {COARSE} nats, so that what the probes look for may hide in it"
        return Outcome("null replay", "null", REVIEW, "audit 3", says, runs, evidence)
    return Outcome("null replay", "null", PASS, "audit 3", told, runs, evidence)
