"""Every start of a container for a run, a line each, in the volume of runs: the memory that outlives claims.

A second line of one call means that Modal took the machine away and gave the same order to another: what the first
container began is void, unless its training was sealed.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from orchestrator.attempts import key_of

STARTS = "attempts.jsonl"


@dataclass(frozen=True)
class Start:
    attempt_id: str
    attempt: int
    execution: int
    stage: str
    call: str
    at: str


def path_of(runs: Path, run_id: str) -> Path:
    return runs / "runs" / key_of(run_id) / STARTS


def parse_starts(content: bytes) -> list[Start]:
    """A line that cannot be read was cut off with its writer: it began nothing."""
    found = []
    for line in content.splitlines():
        try:
            found.append(Start(**json.loads(line)))
        except (TypeError, ValueError):
            continue
    return found


def read_starts(path: Path) -> list[Start]:
    return parse_starts(path.read_bytes()) if path.exists() else []


def append_start(path: Path, start: Start) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(start)) + "\n")
