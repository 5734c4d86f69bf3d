"""Which tokens a probe may change, and which scores must then stay: the order of commits decides, not that of the
stream.

A legal evaluator scores target i from its own prefix (tokens 0 to i) and from what was committed before. Learning from
a committed target takes its inputs too, so everything up to a committed target of the same segment may have been read.
A segment is the whole stream where commits follow it; where they do not (documents sorted by length, phases), it is a
document: then what a document may know of another is what was committed of it before.

Document starts and lengths stay: they decide the order itself. Token j + 1 is the target j.
"""

from dataclasses import dataclass

import numpy as np

from results.audit.probe.scorer import Flags, Floats, Ints, StreamScore
from results.audit.probe.stream import BOS, documents_of

LAST = np.iinfo(np.int64).max
FEW_VALUES = 8  # ids that replacements are drawn from: a text of so few is far from any that was learned


@dataclass(frozen=True)
class Cut:
    """What was committed before it is kept; what comes later is replaced. `part`: within this commit, the share of
    each segment's targets that is kept; 0: the whole commit comes later."""

    commit: int
    part: float = 0.0
    event: bool = False  # whether it stands at an adaptation event

    def __str__(self) -> str:
        return f"commit {self.commit}" + (f", after {self.part:.0%} of it" if self.part else "")


@dataclass(frozen=True)
class Layout:
    """A stream as its evaluator walks through it."""

    tokens: Ints
    order: Ints
    segment: Ints  # of each target
    available: Ints  # of each target: the first commit after which its token may be known to other segments
    by_document: bool  # commits do not follow the stream

    @property
    def commits(self) -> int:
        return int(self.order.max()) + 1


def layout_of(tokens: Ints, score: StreamScore) -> Layout:
    follows = bool((np.diff(score.order) >= 0).all())
    segment = np.zeros(len(score.order), dtype=np.int64) if follows else documents_of(tokens)
    available = score.order.copy()
    for i in range(len(available) - 2, -1, -1):  # a target is an input of the later ones of its segment
        if segment[i] == segment[i + 1]:
            available[i] = min(available[i], available[i + 1])
    return Layout(tokens, score.order, segment, available, not follows)


def backward_segments(layout: Layout) -> Ints:
    """Segments in which a target was committed before one that precedes it."""
    back = (np.diff(layout.order) < 0) & (np.diff(layout.segment) == 0)
    return np.unique(layout.segment[1:][back])


def changeable(layout: Layout, cut: Cut) -> Flags:
    """The targets whose tokens may be replaced: committed later than the cut, and no input of what was committed
    before it."""
    later = layout.order > cut.commit
    later |= (layout.order == cut.commit) & (_rank_within(layout, cut.commit) >= cut.part)
    changed: Flags = later & (layout.available >= cut.commit) & (layout.tokens[1:] != BOS)
    return changed


def _rank_within(layout: Layout, commit: int) -> Floats:
    """For each target of the commit its place among those of its segment, from 0 up to but not 1."""
    rank = np.zeros(len(layout.order))
    inside = np.flatnonzero(layout.order == commit)
    segments = layout.segment[inside]
    for segment in np.unique(segments):
        mine = inside[segments == segment]
        rank[mine] = np.arange(len(mine)) / len(mine)
    return rank


def unmoved(layout: Layout, changed: Flags) -> Flags:
    """The targets whose scores must be as they were, whatever the tokens of the changed targets are now: no changed
    token lies in their own segment's prefix, and those of other segments were committed at their time or later."""
    where = np.flatnonzero(changed)
    if not len(where):
        return np.ones(len(changed), dtype=np.bool_)
    segments, index = np.unique(layout.segment[where], return_index=True)
    first_changed = np.full(int(layout.segment.max()) + 1, LAST)
    first_changed[segments] = where[index]  # ascending, so the first of each
    earliest = np.full(len(first_changed), LAST)
    np.minimum.at(earliest, layout.segment[where], layout.available[where])
    # Of all segments but one's own: the smallest, or the second smallest where the smallest is one's own.
    ranked = np.argsort(earliest, kind="stable")
    elsewhere = np.full(len(earliest), earliest[ranked[0]])
    elsewhere[ranked[0]] = earliest[ranked[1]] if len(ranked) > 1 else LAST
    targets = np.arange(len(changed))
    own_prefix_kept = targets < first_changed[layout.segment]
    return own_prefix_kept & (layout.order <= elsewhere[layout.segment])


def replaced(tokens: Ints, changed: Flags, random: np.random.Generator) -> Ints:
    """The stream with another token at every changed target, from a few that the stream has; never a document
    start, and none put where there was none."""
    seen = np.unique(tokens[tokens != BOS])
    few = random.choice(seen, min(FEW_VALUES, len(seen)), replace=False)
    where = np.flatnonzero(changed) + 1
    found = tokens.copy()
    found[where] = random.choice(few, len(where))
    same = where[found[where] == tokens[where]]
    if len(seen) > 1:
        found[same] = seen[(np.searchsorted(seen, tokens[same]) + 1) % len(seen)]
    return found
