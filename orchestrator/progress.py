"""How far an attempt is, from the lines its bundle writes while it runs. For the eye only, never for a table."""

import json
import time
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from golf_core.rundir import METRICS, PHASES


@dataclass
class Progress:
    stage: str = ""
    phase: str = ""
    step: int | None = None
    steps: int | None = None
    loss: float | None = None
    tokens_per_s: float | None = None
    bpb: float | None = None
    fraction: float | None = None  # of the phase
    seconds_left: float | None = None  # likewise

    def take(self, event: Mapping[str, typing.Any], now: float) -> None:
        """Fold in one line of metrics.jsonl or phases.jsonl. What is not understood is left alone."""
        if "edge" in event:
            if event.get("phase") == "stage":
                self.stage = str(event.get("stage", ""))
                if self.stage == "evaluate" and event["edge"] == "begin":  # what training said is over
                    self.step = self.steps = self.loss = self.tokens_per_s = self.bpb = None
            elif event["edge"] == "begin":
                self.phase, self.fraction, self.seconds_left = str(event.get("phase", "")), None, None
                self._phase_seen = now
            return
        kind = event.get("event")
        if kind in ("step", "val") and self.stage == "evaluate":  # read late: the two files are read in turn
            return
        if kind == "step":
            self.step, self.steps = _int(event.get("step")), _int(event.get("steps"))
            self.loss, self.tokens_per_s = _float(event.get("loss")), _float(event.get("tokens_per_s"))
            if self.phase in ("", "train"):
                progress = _float(event.get("progress"))
                self.fraction = None if progress is None else max(0.0, min(1.0, progress))
                self._left(_float(event.get("elapsed_s")))
        elif kind == "val":
            self.bpb = _float(event.get("val_bpb"))
        elif kind in ("eval", "score"):
            self.bpb = _float(event.get("bpb", event.get("val_bpb")))
            done, total = _float(event.get("done")), _float(event.get("total"))
            if done is not None and total:
                self.fraction = max(0.0, min(1.0, done / total))
                self._left(now - self._phase_seen if self._phase_seen else None)

    _phase_seen: float | None = None

    def _left(self, elapsed: float | None) -> None:
        self.seconds_left = None
        if elapsed is not None and self.fraction and 0 <= elapsed < 1e9 and self.fraction > 1e-9:
            self.seconds_left = elapsed * (1 - self.fraction) / self.fraction


class Tail:
    """Follows the two files of an attempt; where one was cut back, both are read again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.progress = Progress()
        self._offsets = {PHASES: 0, METRICS: 0}

    def read(self) -> Progress:
        now = time.monotonic()
        if any(self._size(name) < offset for name, offset in self._offsets.items()):
            self._offsets, self.progress = dict.fromkeys(self._offsets, 0), Progress()
        for name in self._offsets:
            for event in self._new(name):
                self.progress.take(event, now)
        return self.progress

    def _size(self, name: str) -> int:
        try:
            return (self.folder / name).stat().st_size
        except OSError:
            return 0

    def _new(self, name: str) -> list[dict[str, typing.Any]]:
        path = self.folder / name
        try:
            with path.open("rb") as file:
                file.seek(self._offsets[name])
                data = file.read()
        except OSError:
            return []
        whole, newline, _ = data.rpartition(b"\n")
        self._offsets[name] += len(whole) + len(newline)
        found = []
        for line in whole.splitlines():
            try:
                value = json.loads(line)
            except ValueError:
                continue
            if isinstance(value, dict):
                found.append(value)
        return found


def _int(value: typing.Any) -> int | None:
    return value if type(value) is int else None


def _float(value: typing.Any) -> float | None:
    number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300  # no NaN either
    return float(value) if number else None
