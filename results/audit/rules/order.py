"""S1, S3, S7, S8 and calibration: whatever a reported score has learned from must have been scored in it before.

A score is a set of losses. Something that its logits have learned from (a step of an optimizer, a count, a statistic)
is legal where the same score already held the loss of what was learned from: the nearest loop around both must have
added a loss, or looked into the table, earlier in the same turn.
"""

from collections.abc import Iterable

from results.audit.finding import FAIL, REVIEW, Finding
from results.audit.flow.events import CALIBRATION, COUNT, GRADIENT, Learning, Loss, Path, Read, Report, Trace
from results.audit.flow.values import Labels
from results.audit.source.program import Program

Scored = Loss | Read


def check_order(program: Program, trace: Trace) -> list[Finding]:
    found: dict[tuple[str, str, int], Finding] = {}
    for report in trace.reports:
        for one in [*too_early(program, trace, report), *again(program, trace, report), *chosen_best(program, report)]:
            found.setdefault((one.rule, one.file, one.line or 0), one)
    for one in put_back(program, trace):
        found.setdefault((one.rule, one.file, one.line or 0), one)
    return list(found.values())


def put_back(program: Program, trace: Trace) -> Iterable[Finding]:
    """Weights that learned from validation data before it was scored, and were put back: warming up on it."""
    counted = [trace.losses[number] for report in trace.reports for number in report.losses]
    used = {trace.learnings[number].place for one in counted for number in one.learned}
    taken = {number for one in counted for number in one.learned}
    for event in trace.learnings:
        if event.kind == CALIBRATION and event.number not in taken:
            says = f"something computed from validation data is kept in a file or in weights (line {event.place.line})"
            yield made(program, "S10", REVIEW, "[R] D1", says, event.place.piece, event.place.line)
        after = [one for one in counted if one.time > event.time]
        if event.kind == GRADIENT and event.place not in used and after:
            says = (
                f"gradients of validation tokens are taken (line {event.place.line}) before line {after[0].place.line} "
                "scores, by weights that the score does not come from"
            )
            yield made(program, "S1", REVIEW, "[P] A3c: no ruling", says, event.place.piece, event.place.line)


def scored_in(trace: Trace, report: Report) -> list[Scored]:
    """The losses of a score, and the looks into tables that it was mixed from."""
    losses = [trace.losses[number] for number in sorted(report.losses)]
    reads = {number for one in losses for number in one.reads}
    reads |= {label[1] for one in losses for label in one.side if label[0] == "read"}
    return [*losses, *(trace.reads[number] for number in sorted(reads))]


def too_early(program: Program, trace: Trace, report: Report) -> Iterable[Finding]:
    scored = scored_in(trace, report)
    taught = sorted({number for one in scored for number in one.learned})
    for number in taught:
        event = trace.learnings[number]
        if is_legal(event, scored, trace):
            continue
        yield finding_of(program, event, scored, report)


def is_legal(event: Learning, scored: list[Scored], trace: Trace) -> bool:
    """Whether what it learned from was part of the score before."""
    if event.kind == CALIBRATION:
        return False
    if any(one.number in event.losses for one in scored if isinstance(one, Loss)):
        return True  # the very loss that is counted
    pool = scored if event.kind == COUNT else [one for one in scored if isinstance(one, Loss)]
    earlier = [one for one in pool if one.time < event.time]
    if {one for one in event.data if one[0] == "ahead"} - {label for one in earlier for label in data_of(one)}:
        return False  # it learns from the chunk after the one that was scored
    for depth in range(len(event.path), 0, -1):
        loop = event.path[: depth - 1]
        mark, execution, turn = event.path[depth - 1]
        if not any(within(one.path, loop, mark, execution) for one in pool):
            continue
        turns = {label[2] for label in event.data if label[:2] == ("turn", mark)} or {turn}
        return any(within(one.path, loop, mark, execution) and one.path[depth - 1][2] in turns for one in earlier)
    return bool(earlier)


def data_of(scored: Scored) -> Labels:
    return scored.data if isinstance(scored, Loss) else frozenset()


def within(path: Path, outer: Path, mark: int, execution: int) -> bool:
    depth = len(outer)
    return len(path) > depth and path[:depth] == outer and path[depth][:2] == (mark, execution)


def finding_of(program: Program, event: Learning, scored: list[Scored], report: Report) -> Finding:
    where = f"line {event.place.line}"
    if event.kind == CALIBRATION:
        rule, authority = "S1", "[M2] B4"
        says = f"weights are computed from validation data ({where}) that the reported score counts later"
    elif event.kind == COUNT:
        rule, authority = "S8", "[M2] A4; [C] A1"
        says = f"a table is filled with validation tokens ({where}) before they are scored"
    elif event.fresh and not any(one.time < event.time for one in scored if isinstance(one, Loss)):
        rule, authority = "S7", "[C] A7"
        says = f"parameters made for the window are fitted to it ({where}), and the window is scored with them"
    else:
        rule, authority = "S1", "[R] A2; [M] #1972"
        says = f"weights learn from validation tokens ({where}) before the reported score counts these"
    first = next((one for one in scored if event.number in one.learned), scored[0])
    says += f"; scored at line {first.place.line}, reported at line {report.place.line}"
    verdict = REVIEW if event.prefix and event.fresh else FAIL
    if verdict == REVIEW:
        says += "; it learns from the first part of a window only: whether that was scored before is not seen here"
    return made(program, rule, verdict, authority, says, event.place.piece, event.place.line)


def again(program: Program, trace: Trace, report: Report) -> Iterable[Finding]:
    """Targets that are scored twice, the second time after learning from them."""
    losses = [trace.losses[number] for number in sorted(report.losses)]
    for later in losses:
        for one in losses:
            if one.time >= later.time or one.place != later.place or one.data != later.data or not single(one.data):
                continue
            between = [
                trace.learnings[number]
                for number in later.learned
                if one.time < trace.learnings[number].time < later.time
                and same_data(trace.learnings[number], one, trace)
            ]
            if between and _apart(one.path, later.path, one.data, trace.open_ended):
                says = (
                    f"the same tokens are scored again at line {later.place.line} after learning from them at line "
                    f"{between[0].place.line}, and the second score is part of what line {report.place.line} reports"
                )
                yield made(program, "S3", FAIL, "[M2] A4; [R] A2", says, later.place.piece, later.place.line)
                return


def chosen_best(program: Program, report: Report) -> Iterable[Finding]:
    """The better of several scores of the same text."""
    for line in sorted(report.best):
        says = f"the better of several scores is taken (line {line}), and line {report.place.line} reports it"
        yield made(program, "S8", REVIEW, "[M2] A4", says, report.place.piece, line)


def same_data(event: Learning, scored: Loss, trace: Trace) -> bool:
    return scored.number in event.losses or event.data == scored.data


def single(data: Labels) -> bool:
    """Whether it is told which turn of each loop the data are of."""
    turns = [label for label in data if label[0] == "turn"]
    return bool(turns) and len({label[1] for label in turns}) == len(turns)


def _apart(one: Path, other: Path, data: Labels, open_ended: set[int]) -> bool:
    """In different turns of a loop on which the data do not depend, or in different loops."""
    marks = {label[1] for label in data}
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            return mine[0] not in open_ended and (mine[0] not in marks or mine[:2] != theirs[:2])
    return True


def made(program: Program, rule: str, verdict: str, authority: str, says: str, piece: str, line: int) -> Finding:
    source = next((one for one in program.pieces if one.name == piece), program.main)
    return Finding(rule, verdict, authority, says, piece, line or None, source.line(line)[:160])
