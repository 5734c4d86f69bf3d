"""What a person sees while a fleet runs: what runs now and how many are done, or a line per change of a run's state.

With hundreds of runs the phases and tenths of each would be thousands of lines: they are for `status` and `logs`.
"""

import os
import sys
import time
import typing
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from orchestrator.attempts import folders_of, key_of, numbers_by_run
from orchestrator.grids.fleet import Fleet, Member
from orchestrator.overview import Overview, Row
from orchestrator.view import describe

LOOK_SECONDS = 0.5
SHOWN = 24  # rows of runs on a terminal


class FleetView:
    """Looks at the attempts of what runs alone; of what has ended it keeps counts."""

    def __init__(self, runs_dir: Path, runs: int, stream: typing.TextIO = sys.stderr) -> None:
        self.runs_dir, self.runs, self.stream = runs_dir, runs, stream
        self.looked = float("-inf")
        self.over: Counter[str] = Counter()  # states of the runs of submissions that have ended
        self._overviews: dict[str, Overview] = {}
        self._shown: dict[tuple[str, int], tuple[str, int]] = {}
        lively = stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb")
        self.table = _Table(stream) if lively else None

    def update(self, fleet: Fleet) -> None:
        if (now := time.monotonic()) - self.looked < LOOK_SECONDS:
            return
        self.looked = now
        there = numbers_by_run(self.runs_dir)
        counts, running = Counter(self.over), list[tuple[str, Row]]()
        for member in fleet.members:
            if member.state in ("driven", "followed"):
                notes = {case.run.seed: case.note for case in member.cases}
                rows = self._overview(member).rows(controlled=True, notes=notes, there=there)
                counts.update(row.state for row in rows)
                running += [(member.name, row) for row in rows if row.state in ("running", "waiting")]
                self._tell(member, rows)
        counts["queued"] = self.runs - sum(count for state, count in counts.items() if state != "queued")
        if self.table is not None:
            self.table.draw(counts, running)

    def ended(self, member: Member) -> None:
        there = {key_of(run_id): [n for n, _ in folders_of(self.runs_dir, run_id)] for _, run_id in member.runs}
        rows = self._overview(member).rows(controlled=False, there=there)
        self._tell(member, rows)
        self.over.update(row.state for row in rows)
        del self._overviews[member.submission_id]
        for row in rows:
            self._shown.pop((member.submission_id, row.seed), None)

    def note(self, text: str) -> None:
        if self.table is not None:
            self.table.note(text)
        else:
            print(text, file=self.stream, flush=True)

    def close(self) -> None:
        if self.table is not None:
            self.table.close()

    def _overview(self, member: Member) -> Overview:
        return self._overviews.setdefault(member.submission_id, Overview(self.runs_dir, member.runs))

    def _tell(self, member: Member, rows: Sequence[Row]) -> None:
        """A line for what has changed. On a terminal what runs is in the table: only ends are told."""
        for row in rows:
            key = (member.submission_id, row.seed)
            if row.state != "queued" and self._shown.get(key) != (row.state, row.attempt):
                self._shown[key] = (row.state, row.attempt)
                if self.table is None or row.state in ("done", "failed", "stopped"):
                    self.note(f"{member.name} {describe(row)}")


def counted(counts: typing.Mapping[str, int]) -> str:
    """
    >>> counted({"done": 3, "queued": 5, "failed": 0, "running": 2})
    '3 done, 2 running, 5 queued'
    """
    order = ("done", "failed", "stopped", "running", "waiting", "queued")
    return ", ".join(f"{counts[state]} {state}" for state in order if counts.get(state))


class _Table:
    """Drawn over itself: the counts, and a line for each of the runs that go on."""

    def __init__(self, stream: typing.TextIO) -> None:
        from rich.console import Console
        from rich.live import Live

        self.console = Console(file=stream)
        self.live = Live(console=self.console, auto_refresh=False, transient=True)
        self.live.start()

    def draw(self, counts: typing.Mapping[str, int], running: Sequence[tuple[str, Row]]) -> None:
        from rich.text import Text

        most = max(1, min(SHOWN, self.console.height - 4))
        lines = [counted(counts), *(f"{name} {describe(row)}" for name, row in running[:most])]
        lines += [f"and {len(running) - most} more"] * (len(running) > most)
        self.live.update(Text("\n".join(lines), no_wrap=True, overflow="ellipsis"), refresh=True)

    def note(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        self.live.stop()
