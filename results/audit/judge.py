"""All static rules on one script, and what they give together."""

from collections.abc import Iterable

from results.audit.finding import FAIL, PASS, REVIEW, Finding
from results.audit.flow.events import GRADIENT, Trace
from results.audit.flow.follow import follow, read_command
from results.audit.rules import native, s9_bytes, s10_access, s11_clock, size
from results.audit.rules.order import check_order
from results.audit.rules.target import check_target
from results.audit.source.program import Program


def triage(program: Program, run: str | None = None) -> list[Finding]:
    """What the rules find. Raises ValueError for a run command that cannot be read."""
    trace, machine = follow(program, run)
    variables, _ = read_command(run)
    plain = [one for rule in (native, s9_bytes, s10_access, s11_clock) for one in rule.check(program, variables)]
    plain += unfollowed(program, trace)
    return [*check_order(program, trace), *check_target(program, trace, machine), *plain, *size.check(program)]


def unfollowed(program: Program, trace: Trace) -> list[Finding]:
    """Where no score was seen to be printed, the rules of order and target have nothing to judge: that is said, and is
    for a person where the script learns from validation tokens."""
    notes = [f"it was not followed to its end: {note}" for note in trace.notes]
    if not trace.reports:
        notes.append("no score in bits was followed to where it is printed: S1, S3, S5, S7 and S8 say nothing of it")
    grave = bool(trace.notes) or any(event.kind == GRADIENT for event in trace.learnings)
    verdict = REVIEW if grave else PASS
    return [Finding("S1", verdict, "[R] A2", says, program.main.name, None) for says in notes]


def verdict_of(findings: Iterable[Finding]) -> str:
    """The worst: fail, review, pass."""
    verdicts = {one.verdict for one in findings}
    return FAIL if FAIL in verdicts else REVIEW if REVIEW in verdicts else PASS
