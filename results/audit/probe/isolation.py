"""D6: where an evaluation claims that documents do not touch each other, nothing of one may move the scores of another.

Every second document gets other tokens, its end included; then the others do. What stayed must score as before: always
with learning turned off, and with learning on where the neighbours were committed no earlier, or at all where the
claim includes learning. Without learning documents may also change places.
"""

import itertools

import numpy as np

from results.audit.finding import FAIL, PASS, REVIEW
from results.audit.probe.outcome import Difference, Outcome, Tolerance, difference
from results.audit.probe.perturb import LAST, replaced
from results.audit.probe.scorer import OFF, ON, Flags, Ints, StreamScore
from results.audit.probe.stream import BOS, documents_of
from results.audit.probe.subject import Subject

AUTHORITY = "[M] A8 (#1797)"
OTHER_ROWS = 1e-3  # nats: the same document in another row of a batch is rounded otherwise


def isolation(subject: Subject, whole: bool) -> Outcome:
    """`whole`: the claim is that documents learn nothing from each other either."""
    begin, tokens = subject.score.runs, subject.tokens
    document = documents_of(tokens)
    if len(np.unique(document)) < 3:
        says = "the stream has fewer than three documents: nothing is there to keep apart"
        return Outcome("isolation", "D6", REVIEW, AUTHORITY, says, 0)
    off = subject.ask(tokens, OFF)
    found: list[tuple[str, Difference]] = []
    for parity in (0, 1):
        changed = (document % 2 == parity) & (tokens[1:] != BOS)
        stream, kept = replaced(tokens, changed, subject.random(4 + parity)), document % 2 != parity
        name = f"{'every second' if parity else 'every other'} document was replaced"
        alone = difference(off.nll, subject.ask(stream, OFF).nll, kept, subject.tolerance)
        found.append((f"{name}, without learning", alone))
        known = kept if whole else kept & _unlearned(subject, document, changed)
        seen = difference(subject.base.nll, subject.ask(stream, ON).nll, known, subject.tolerance)
        found.append((f"{name}, with learning", seen))
    found.append(("documents changed places, without learning", _permuted(subject, document, off)))
    runs = subject.score.runs - begin
    name, worst = max(found, key=lambda one: (one[1].moved, abs(one[1].nats)))
    documents = len(np.unique(document))
    evidence = {"documents": documents, "worst": name, **worst.evidence()}
    if not worst.moved:
        says = f"scores of {documents} documents stay whatever the others are (largest {abs(worst.nats):.2g})"
        return Outcome("isolation", "D6", PASS, AUTHORITY, says, runs, evidence)
    inside = worst.worst - int(np.flatnonzero(document == document[worst.worst])[0])
    evidence["targets_after_document_start"] = inside
    says = (
        f"{name}: token {worst.worst + 1}, {inside + 1} after its document's start, moved by {worst.nats:+.3g} nats "
        f"({worst.beyond:,} of {worst.targets:,} targets)"
    )
    return Outcome("isolation", "D6", FAIL, AUTHORITY, says, runs, evidence)


def _unlearned(subject: Subject, document: Ints, changed: Flags) -> Flags:
    """Targets that were committed before any changed one was learned from: of a changed document, that is, before the
    first adaptation after its first commit."""
    first = int(subject.base.order[changed].min()) if changed.any() else LAST
    later = subject.base.learned[subject.base.learned > first]
    return subject.base.order < (int(later[0]) if len(later) else LAST)


def _permuted(subject: Subject, document: Ints, off: StreamScore) -> Difference:
    """The same documents from the last to the first, without learning; the target between two documents, the next
    start, is left out: it may be another one."""
    edges = [int(np.flatnonzero(document == one)[0]) for one in np.unique(document)] + [len(subject.tokens)]
    spans = list(itertools.pairwise(edges))
    stream = np.concatenate([subject.tokens[first:stop] for first, stop in reversed(spans)])
    after = subject.ask(stream, OFF).nll
    moved, kept = off.nll.copy(), np.zeros(len(off.nll), dtype=np.bool_)
    begin = 0
    for first, stop in reversed(spans):
        count = stop - first - 1  # targets inside of the document
        moved[first : first + count] = after[begin : begin + count]
        kept[first : first + count] = True
        begin += stop - first
    coarser = Tolerance(max(subject.tolerance.token, OTHER_ROWS / 4), max(subject.tolerance.total, OTHER_ROWS))
    return difference(off.nll, moved, kept, coarser)
