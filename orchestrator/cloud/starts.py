"""Every start of a container for a run, a line each, in the volume of runs: the memory that outlives claims.

A second line of one call means that Modal took the machine away and gave the same order to another: what the first
container began is void, unless its training was sealed.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
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


def seconds_before(starts: Sequence[Start], attempt: str, call: str, now: str, most: float) -> float:
    """That earlier containers of a call can have worked at an attempt which is taken up again, each `most` at most.

    >>> def start(at):
    ...     return Start("a1", 1, 0, "train", "fc", f"2026-01-01T00:{at}:00+00:00")
    >>> seconds_before([start("00"), start("10")], "a1", "fc", "2026-01-01T02:00:00+00:00", 900.0)
    1500.0
    >>> seconds_before([start("00")], "a2", "fc", "2026-01-01T02:00:00+00:00", 900.0)
    0
    """
    begun = [datetime.fromisoformat(one.at) for one in starts if (one.attempt_id, one.call) == (attempt, call)]
    lives = zip(begun, [*begun[1:], datetime.fromisoformat(now)], strict=False)
    return sum(min(most, max(0.0, (end - at).total_seconds())) for at, end in lives)
