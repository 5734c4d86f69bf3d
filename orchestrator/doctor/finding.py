"""What the doctor found: a line each with its state and its mend, and the exit code of all."""

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from orchestrator import errors

OK, WARNING, WRONG = "ok", "warning", "wrong"
ATTEMPT_BYTES = 200_000_000  # an attempt's folder with its logs and artifact, generously
SCARCE_BYTES = 10 * ATTEMPT_BYTES


@dataclass(frozen=True)
class Finding:
    """A line: what was looked at, how it stands, what was found, and what to do about it."""

    name: str
    state: str
    found: str
    mend: str = ""
    exit_code: int = errors.OK  # of a command that needs it

    def line(self) -> str:
        return f"{self.state:<8} {self.name:<12} {self.found}" + (f"\n{'':<22}-> {self.mend}" if self.mend else "")


def tell(findings: Iterable[Finding], as_json: bool) -> int:
    """Print each as it comes, or all as one JSON object; 0, or the exit code of what is wrong."""
    found = []
    for finding in findings:
        found.append(finding)
        if not as_json:
            print(finding.line(), flush=True)
    code = max((one.exit_code for one in found if one.state == WRONG), default=errors.OK)
    count = {state: sum(one.state == state for one in found) for state in (OK, WARNING, WRONG)}
    if as_json:
        told = [{key: value for key, value in asdict(one).items() if key != "exit_code"} for one in found]
        print(json.dumps({"schema_version": 1, "findings": told, "count": count, "exit_code": code}, indent=1))
    else:
        print(", ".join(f"{number} {state}" for state, number in count.items()), file=sys.stderr)
    return code
