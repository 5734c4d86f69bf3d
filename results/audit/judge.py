"""All static rules on one script, and what they give together."""

from collections.abc import Iterable

from results.audit.finding import FAIL, PASS, REVIEW, Finding
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
    return [*check_order(program, trace), *check_target(program, trace, machine), *plain, *size.check(program)]


def verdict_of(findings: Iterable[Finding]) -> str:
    """The worst: fail, review, pass."""
    verdicts = {one.verdict for one in findings}
    return FAIL if FAIL in verdicts else REVIEW if REVIEW in verdicts else PASS
