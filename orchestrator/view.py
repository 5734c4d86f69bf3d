"""What a person sees while runs go on: one live row a seed on a terminal, one line per change elsewhere."""

import os
import sys
import time
import typing
from collections.abc import Sequence

from orchestrator.money.cost import usd
from orchestrator.overview import Row
from orchestrator.progress import Progress
from orchestrator.script import SCRIPT_STAGE

REDRAW_SECONDS = 0.25


class View(typing.Protocol):
    def update(self, rows: Sequence[Row]) -> None: ...

    def note(self, text: str) -> None: ...

    def close(self) -> None: ...


def make_view(stream: typing.TextIO = sys.stderr) -> View:
    lively = stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb")
    return LiveView(stream) if lively else LineView(stream)


def describe(row: Row) -> str:
    """One row in words: what `status` and the line view print."""
    p, parts = row.progress, [row.state]
    if row.state in ("running", "waiting") and row.attempt:
        parts[0] += f", attempt {row.attempt}"
    if row.state == "running":
        parts.append(p.phase or p.stage or "starting")
        parts += _figures(row)
        if p.seconds_left is not None:
            parts.append(f"{clock(p.seconds_left)} left")
        elif p.elapsed_s is not None:
            parts.append(f"{clock(p.elapsed_s)} so far")
    elif row.state == "done":
        parts.append(f"attempt {row.attempt} is counted")
        if p.bpb is not None:
            parts.append(f"BPB {p.bpb:.4f}{_stamp(row)}")
        elif row.score is not None and p.over:
            parts.append(f"BPB {row.score:.4f} (of its log, as collected)")
        if row.note:
            parts.append(row.note)
    elif row.note != row.state and row.note:
        parts.append(row.note)
    if row.usd is not None:
        parts.append(usd(row.usd))
    return f"seed {row.seed}: " + " · ".join(parts)


def _figures(row: Row) -> list[str]:
    p, parts = row.progress, []
    if p.trains:
        if p.step is not None:
            parts.append(f"step {p.step}" + (f"/{p.steps}" if p.steps else ""))
        if p.loss is not None:
            parts.append(f"loss {p.loss:.4f}")
        if p.tokens_per_s is not None:
            parts.append(f"{p.tokens_per_s:,.0f} tokens/s")
    elif p.fraction is not None:
        parts.append(f"{p.fraction:.0%}")
    if p.bpb is not None and p.stage == SCRIPT_STAGE:
        parts.append(f"last val_bpb printed {p.bpb:.4f}")
    elif p.bpb is not None and not p.trains:
        parts.append(f"BPB so far {p.bpb:.4f}{_stamp(row)}")
    return parts


def _stamp(row: Row) -> str:
    return " (diagnostic)" if row.diagnostic_only else ""


def _time(p: Progress) -> str:
    """What is left, or what has gone by where nobody can tell."""
    if p.seconds_left is not None:
        return clock(p.seconds_left)
    return "" if p.elapsed_s is None else f"({clock(p.elapsed_s)})"


def clock(seconds: float) -> str:
    """
    >>> clock(125)
    '2:05'
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


class LineView:
    """A line when the state, the attempt, the phase or the next tenth of a phase changes."""

    def __init__(self, stream: typing.TextIO) -> None:
        self.stream = stream
        self.shown: dict[str, tuple[typing.Any, ...]] = {}  # by run: several submissions may have the same seeds

    def update(self, rows: Sequence[Row]) -> None:
        for row in rows:
            p = row.progress
            tenth = int(p.fraction * 10) if p.fraction is not None and row.state == "running" else 0
            key = (row.state, row.attempt, p.phase if row.state == "running" else "", tenth)
            if self.shown.get(row.run_id) != key:
                self.shown[row.run_id] = key
                print(describe(row), file=self.stream, flush=True)

    def note(self, text: str) -> None:
        print(text, file=self.stream, flush=True)

    def close(self) -> None:
        pass


class LiveView:
    """A table that is drawn over itself, a row a seed. rich honours NO_COLOR."""

    def __init__(self, stream: typing.TextIO) -> None:
        from rich.console import Console
        from rich.live import Live

        self.console = Console(file=stream)
        self.live = Live(console=self.console, auto_refresh=False, transient=False)
        self.live.start()
        self.drawn = 0.0

    def update(self, rows: Sequence[Row]) -> None:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        if (now := time.monotonic()) - self.drawn < REDRAW_SECONDS and any(row.state == "running" for row in rows):
            return
        self.drawn = now
        table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
        paid = ("USD",) * any(row.usd is not None for row in rows)
        for name in ("seed", "state", "stage", "", "step", "loss", "tokens/s", "BPB", "left", *paid):
            words = name in ("state", "stage", "")
            width = 9 if name == "state" else None  # the column that gives way on a narrow terminal, but not wholly
            table.add_column(name, justify="left" if words else "right", no_wrap=name != "state", min_width=width)
        for row in rows:
            p, running = row.progress, row.state == "running"
            training = running and p.trains
            bar = ProgressBar(total=1.0, completed=p.fraction or 0.0, width=10) if running else ""
            state = row.state + (f" (attempt {row.attempt})" if row.attempt > 1 else "")
            state += f": {row.note}" if row.note and row.state in ("failed", "stopped", "waiting") else ""
            step = f"{p.step}/{p.steps}" if p.steps else str(p.step or "")
            table.add_row(
                str(row.seed),
                state,
                (p.phase or p.stage or "starting") if running else "",
                bar,
                step if training else "",
                f"{p.loss:.4f}" if training and p.loss is not None else "",
                "" if p.tokens_per_s is None or not training else f"{p.tokens_per_s:,.0f}",
                "" if p.bpb is None else f"{p.bpb:.4f}{_stamp(row)}",
                _time(p) if running else "",
                *(["" if row.usd is None else f"{row.usd:,.2f}"] if paid else []),
            )
        self.live.update(table, refresh=True)

    def note(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        self.live.stop()
