"""S5 and S6: a score may depend on its target only by picking the target's probability from a whole distribution.

What is mixed into a loss after the target was looked at must not know the target: not by a hashed key that holds it,
not by a property of it, not by the better of two scores. An indicator (the hint is the target) is a pick, too.
"""

from results.audit.finding import FAIL, REVIEW, Finding
from results.audit.flow.calls import Calls
from results.audit.flow.events import COUNT, Loss, Trace
from results.audit.rules.order import made
from results.audit.source.program import Program


def check_target(program: Program, trace: Trace, machine: Calls) -> list[Finding]:
    counted = {number for report in trace.reports for number in report.losses}
    sites = frozenset(one for loss in trace.losses for one in loss.sites)
    found: dict[tuple[str, int], Finding] = {}
    for number in sorted(counted):
        loss = trace.losses[number]
        for one in of_loss(program, loss, sites, machine):
            found.setdefault((one.rule, one.line or 0), one)
    return list(found.values())


def of_loss(program: Program, loss: Loss, sites: frozenset[int], machine: Calls) -> list[Finding]:
    kinds: dict[str, list[int]] = {}
    for label in loss.side:
        kinds.setdefault(label[0], []).append(label[1] if len(label) > 1 else 0)
    at = min(loss.mixed_at, key=lambda place: place.line, default=loss.place)
    picks = "equals" in kinds
    found: list[Finding] = []

    def tell(verdict: str, says: str, line: int, authority: str = "[M2] A5") -> None:
        found.append(made(program, "S5", verdict, authority, says, at.piece, line))

    if "chosen" in kinds:
        line = min(kinds["chosen"])
        tell(FAIL, f"one of two scores is chosen by what the scores of the target are (line {line})", line)
    if "found by hash" in kinds and not picks:
        line = min(kinds["found by hash"])
        tell(
            FAIL,
            f"what a table has under a hashed key (line {line}) is mixed into the target's probability: over the "
            "vocabulary it does not add up to one",
            line,
        )
    for number in kinds.get("looked up", []):
        place, table, of = machine.looked[number]
        if any(label[0] == "learned" for one in table for label in one.labels) or not of & sites:
            continue
        tell(FAIL, f"a property of the target (line {place.line}) decides on its score", place.line)
    for line in sorted(kinds.get("gated", []))[:1]:
        says = f"what is mixed into the score is stored by a property of the token at that position (line {line})"
        tell(REVIEW, says, line)
    for number in loss.lookups:
        place, table, of = machine.looked[number]
        learns = any(label[0] == "learned" for one in table for label in one.labels)
        if loss.targets and of >= loss.targets and not learns:
            tell(FAIL, f"logits are made with a property of the target (line {place.line})", place.line)
    unruled = [label[1] for label in loss.unruled if label[0] == "found by hash" and counts_of(loss, machine)]
    unruled += kinds.get("smoothed", [])
    if unruled:
        says = (
            f"counts under a hashed key (line {min(unruled)}) are part of the distribution: nobody has ruled on these"
        )
        tell(REVIEW, says, min(unruled), "[P] A5b: no ruling")
    packed = [label[1] for label in loss.unruled if label[0] == "packed counts"] + kinds.get("packed counts", [])
    if packed:
        says = f"counts of the training data (line {min(packed)}) are part of the score: nobody has ruled on these"
        tell(REVIEW, says, min(packed), "[P] A5b: no ruling")
    if "foreign" in kinds and not picks:
        tell(REVIEW, f"compiled code that gets the tokens is mixed into the score at line {at.line}", at.line)
    elif not found and not picks and "val" in kinds and "read" in kinds:
        tell(REVIEW, f"something computed from validation tokens is mixed into the score at line {at.line}", at.line)
    return found


def counts_of(loss: Loss, machine: Calls) -> bool:
    """Whether the logits are made with counts of validation data."""
    return any(machine.trace.learnings[number].kind == COUNT for number in loss.learned)
