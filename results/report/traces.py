"""What a run noted on its way, from its sealed attempt: losses, step times, gains by chunk, phases.

For charts, never for a claim. Where a bundle of ours ran, from metrics.jsonl; of other scripts, from the log. A line
that is not as it should be is left out: numbers here must be finite, and steps must rise.
"""

import json
import math
import typing
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from golf_core.rundir import LOG, METRICS, PHASES, RunDirError
from results.parse.reader import parse_file
from results.phases import STAGE, edges_of, seconds_of

MAX_TRACE_BYTES = 1 << 26
LARGEST = 1e15
DECODE = json.JSONDecoder().decode  # made once: runs note a line a step
Event = Mapping[str, typing.Any]
Points = list[tuple[float, float]]


@dataclass
class Trace:
    """Of one seed. Empty lists are not known."""

    seed: int
    loss: Points = field(default_factory=list)  # (step, nats a token) of training batches
    elapsed: Points = field(default_factory=list)  # (step, seconds of training)
    val: Points = field(default_factory=list)  # (step, BPB)
    gain: list[tuple[int, float, float]] = field(
        default_factory=list
    )  # (targets up to its end, of the part, so far), BPB
    running: Points = field(default_factory=list)  # (targets or chunks scored, BPB so far) in test-time training
    phases: dict[str, dict[str, float]] = field(default_factory=dict)  # stage -> phase -> seconds

    @property
    def step_ms(self) -> Points:
        """(step, milliseconds a step since the point before)."""
        pairs = zip(self.elapsed, self.elapsed[1:], strict=False)
        return [(b[0], 1000 * (b[1] - a[1]) / (b[0] - a[0])) for a, b in pairs if b[1] >= a[1]]


def trace_of(folder: Path, seed: int, sealed: Collection[str], targets: int | None = None) -> Trace:
    """What the attempt in `folder` noted in the files that are under its seal; `targets` were scored, where that is
    known. Raises RunDirError where one is larger than any of ours."""
    found = Trace(seed)
    events = list(_objects(folder / METRICS)) if METRICS in sealed else []
    for event in events:
        _take(found, event)
    found.gain = _gains(events, targets)
    if not found.loss and LOG in sealed:
        _take_log(found, folder / LOG)
    found.phases = _phases(folder) if PHASES in sealed else {}
    return found


def _objects(path: Path) -> Iterable[Event]:
    if not path.is_file():
        return
    if (size := path.stat().st_size) > MAX_TRACE_BYTES:
        raise RunDirError(f"{path} has {size} bytes; {MAX_TRACE_BYTES} are read at most for a chart")
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                value = DECODE(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(value, dict):
                yield value


def number(value: typing.Any) -> float | None:
    """
    >>> number(3), number(float("nan")), number(True), number("3")
    (3.0, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if -LARGEST < value < LARGEST else None


def _add(points: Points, at: float | None, value: float | None) -> None:
    if at is not None and value is not None and (not points or at > points[-1][0]):
        points.append((at, value))


def _take(found: Trace, event: Event) -> None:
    kind = event.get("event")
    if kind == "step":
        step = number(event.get("step"))
        if (loss := number(event.get("loss"))) is not None and loss > 0:
            _add(found.loss, step, loss)
        _add(found.elapsed, step, number(event.get("elapsed_s")))
    elif kind == "val":
        _add(found.val, number(event.get("step")), number(event.get("val_bpb")))
    elif kind == "eval" and event.get("stage") == "ttt":
        _add(found.running, number(event.get("done")), number(event.get("bpb")))


def _gains(events: Iterable[Event], targets: int | None) -> list[tuple[int, float, float]]:
    """BPB of test-time training less BPB of the stage before it, of each part of the stream and of all up to its end.
    The last part is cut short where the targets are."""
    told = {str(event.get("stage")): event for event in events if event.get("event") == "score_parts"}
    before, after = told.get("sliding") or told.get("roundtrip"), told.get("ttt")
    if before is None or after is None or before.get("part") != after.get("part"):
        return []
    part = number(after.get("part"))
    columns = [_numbers(one.get(key)) for one in (before, after) for key in ("nats", "bytes")]
    if part is None or len({len(column) for column in columns}) != 1 or columns[1] != columns[3]:
        return []
    found, nats, text, parts = [], 0.0, 0.0, len(columns[0])
    whole = targets if targets is not None and (parts - 1) * part < targets <= parts * part else parts * part
    for index, (a, count, b, _) in enumerate(zip(*columns, strict=True)):
        nats, text = nats + b - a, text + count
        if count > 0:
            bits = math.log(2)
            found.append((int(min((index + 1) * part, whole)), (b - a) / bits / count, nats / bits / text))
    return found


def _numbers(value: typing.Any) -> list[float]:
    """The numbers of a list; empty where one of them is none."""
    found = [number(one) for one in value] if isinstance(value, list) else []
    known = [one for one in found if one is not None]
    return known if len(known) == len(found) else []


def _take_log(found: Trace, path: Path) -> None:
    """A script's own log, read by the parser."""
    runs = parse_file(path, curves=True) if path.is_file() else []
    if len(runs) != 1 or (curves := runs[0].curves) is None:
        return
    for step, loss, seconds in curves.train:
        if loss > 0:
            _add(found.loss, number(step), number(loss))
        _add(found.elapsed, number(step), number(seconds))
    for step, _, bpb in curves.val:
        _add(found.val, number(step), number(bpb))
    for chunk, bpb in curves.ttt:
        _add(found.running, number(chunk), number(bpb))


def _phases(folder: Path) -> dict[str, dict[str, float]]:
    """Seconds of each phase as the worker stamped it; what of a stage is in none of them is "start and end"."""
    found = seconds_of(edges_of(folder))
    for phases in found.values():
        if (whole := phases.pop(STAGE, None)) is not None:
            phases["start and end"] = max(0.0, whole - math.fsum(phases.values()))
    return found
