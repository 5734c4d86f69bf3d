"""D2': what is committed later must not move what was scored before.

The first run tells the order. For each cut all later tokens are replaced, but for document starts; the scores that
cannot have known them must stay. Cuts lie before and just after every adaptation event, inside of the first commit
that follows it, and at random places. A cut inside of a commit also finds what optimises on the window that it scores.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from results.audit.finding import FAIL, PASS, REVIEW
from results.audit.probe.outcome import Difference, Outcome, difference
from results.audit.probe.perturb import Cut, Layout, backward_segments, changeable, replaced, unmoved
from results.audit.probe.scorer import OFF, Flags, Refused, StreamScore
from results.audit.probe.subject import Subject

AUTHORITY = "[R] A2; [M] #1972; [C] A1"
ACROSS = "[M] A8 (#1797)"
CUT_WITHIN = (0.25, 0.75)  # the share of a commit that stays is drawn from here: no edge of its windows
MAX_BACKWARD = 4  # documents out of order that are looked into one by one


@dataclass(frozen=True)
class Breach:
    """A score that moved though it must not."""

    cut: Cut | str
    seen: Difference
    kind: str  # "prefix": it knew of what follows it; "learning", "context": of another document's later commits
    moved: Flags
    changed: Flags


def cuts_of(layout: Layout, base: StreamScore, events: int, drawn: int, random: np.random.Generator) -> list[Cut]:
    """Two at each adaptation event, at most at `events` of them spread evenly; and `drawn` ones at random."""
    points = [point for point in np.unique(base.learned).tolist() if point < layout.commits]
    if len(points) > events:
        points = [points[place] for place in np.linspace(0, len(points) - 1, events).round().astype(int)]
    cuts = [Cut(point, event=True) for point in points if point > 0]
    cuts += [Cut(point, float(random.uniform(*CUT_WITHIN)), event=True) for point in points]
    for _ in range(drawn):
        cuts.append(Cut(int(random.integers(layout.commits)), float(random.uniform(*CUT_WITHIN))))
    return cuts


def causality(subject: Subject, isolated: bool, events: int = 64, drawn: int = 6) -> Outcome:
    begin, layout, random = subject.score.runs, subject.layout, subject.random(2)
    breaches: list[Breach] = []
    compared = np.zeros(len(layout.order), dtype=np.bool_)
    cuts = cuts_of(layout, subject.base, events, drawn, random)
    tried, blind, reordered, largest = 0, 0, 0, 0.0
    for cut, changed in _changes(layout, cuts, random):
        kept = unmoved(layout, changed)
        if not changed.any() or not kept.any():
            blind += 1
            continue
        tried += 1
        compared |= kept
        stream = replaced(layout.tokens, changed, random)
        after = subject.ask(stream)
        reordered += not np.array_equal(after.order[kept], layout.order[kept])
        seen = difference(subject.base.nll, after.nll, kept, subject.tolerance)
        largest = max(largest, abs(seen.nats))
        if seen.moved:
            moved = kept & (np.abs(after.nll - subject.base.nll) > subject.tolerance.largest())
            breaches.append(Breach(cut, seen, _kind(subject, stream, after, changed, moved), moved, changed))
    at = len({cut.commit for cut in cuts if cut.event})
    points = _points(subject)
    told = f"{tried} cuts" + (f", around {at} of {points} places of adaptation" if points else "")
    evidence: dict[str, object] = {
        "cuts": tried,
        "cuts_without_effect": blind,
        "places_of_adaptation": points,
        "places_cut": at,
        "targets_compared": int(compared.sum()),
        "largest_delta_nats": largest,
    }
    runs = subject.score.runs - begin
    if breaches:
        return _breached(breaches, layout, told, evidence, isolated, runs)
    if reordered:
        says = f"{told}: in {reordered} of them the order of earlier commits itself depends on later tokens"
        return Outcome("causality", "D2'", REVIEW, AUTHORITY, says, runs, evidence)
    if not tried:
        says = "no cut leaves both a token to replace and a score that must stay: the order of commits tells nothing"
        return Outcome("causality", "D2'", REVIEW, AUTHORITY, says, runs, evidence)
    says = f"{told}: no earlier score moved (largest {largest:.2g} nats, {compared.mean():.0%} of the targets compared)"
    return Outcome("causality", "D2'", PASS, AUTHORITY, says, runs, evidence)


def _points(subject: Subject) -> int:
    """Places in the order where something was learned that a later score can show."""
    return int((np.unique(subject.base.learned) < subject.layout.commits).sum())


def _changes(layout: Layout, cuts: Sequence[Cut], random: np.random.Generator) -> list[tuple[Cut | str, Flags]]:
    """What to change at each cut; and the ends of documents that are not scored from left to right, one at a time."""
    found: list[tuple[Cut | str, Flags]] = [(cut, changeable(layout, cut)) for cut in cuts]
    for segment in backward_segments(layout)[:MAX_BACKWARD].tolist():
        inside = np.flatnonzero(layout.segment == segment)
        changed = np.zeros(len(layout.order), dtype=np.bool_)
        changed[inside[int(len(inside) * random.uniform(*CUT_WITHIN)) :]] = True
        changed &= layout.tokens[1:] != 1
        found.append((f"the end of the document at token {inside[0]}", changed))
    return found


def _kind(subject: Subject, stream: np.ndarray, after: StreamScore, changed: Flags, moved: Flags) -> str:
    """How a score knew: of what follows it in the stream, or of another document that was committed later; and of that
    by learning, where the move is gone with learning turned off, or as context."""
    layout = subject.layout
    if not layout.by_document or not moved.any() or bool(moved[: int(np.argmax(changed)) + 1].any()):
        return "prefix"
    if not len(subject.base.learned):
        return "context"
    try:
        without = np.abs(subject.ask(stream, OFF).nll - subject.ask(layout.tokens, OFF).nll)
    except Refused:  # not told apart: a reviewer must
        return "context"
    return "context" if bool((without[moved] > subject.tolerance.largest()).all()) else "learning"


def _breached(
    breaches: list[Breach], layout: Layout, told: str, evidence: dict[str, object], isolated: bool, runs: int
) -> Outcome:
    """The worst is told: knowledge of what follows before learning from it, before context across documents."""
    rank = {"prefix": 0, "learning": 1, "context": 2}
    worst = min(breaches, key=lambda one: (rank[one.kind], -abs(one.seen.nats)))
    seen = worst.seen
    evidence = {**evidence, **seen.evidence(), "cut": str(worst.cut), "kind": worst.kind, "breaches": len(breaches)}
    what = (
        f"token {seen.worst + 1} (commit {layout.order[seen.worst]}) moved by {seen.nats:+.3g} nats, "
        f"{seen.beyond:,} of {seen.targets:,} earlier scores in all, when what is committed later than {worst.cut} "
        "was replaced"
    )
    if worst.kind == "context":
        says = f"{what}: documents read into each other, also without learning"
        verdict = FAIL if isolated else REVIEW
        return Outcome("causality", "D2'", verdict, ACROSS, f"{len(breaches)} of {told}: {says}", runs, evidence)
    how = "" if worst.kind == "prefix" else ": it was learned from before it was scored"
    return Outcome("causality", "D2'", FAIL, AUTHORITY, f"{len(breaches)} of {told}: {what}{how}", runs, evidence)
