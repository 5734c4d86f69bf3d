"""How far an attempt is, from the lines its program writes while it runs. For the eye only, never for a table.

A bundle writes events. A script prints what it likes: the common shapes of a step's line are looked for, the last of
each figure is shown as it was printed, and nothing of it is shown as a result.
"""

import json
import re
import time
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from golf_core.rundir import ENV, LOG, METRICS, PHASES
from orchestrator.script import SCRIPT_STAGE

# `step:200/20000 train_loss:3.1`, `  200/20000 train_loss: 3.1`, `step=200 loss=3.1`; a time may stand before.
STEP = re.compile(r"(?:\bstep[ :=]+|^\s*|\]\s+|^[0-9.]+\s+)([0-9]{1,9})(?:/([0-9]{1,9}))?\b(?=.*loss)")
LOSS = re.compile(r"\b(?:train_|train )?loss[ :=]+([0-9]{1,4}\.[0-9]{1,12})\b")
BPB = re.compile(r"\bval_bpb[ :=]+([0-9]{1,3}\.[0-9]{1,12})\b")
EVALUATIONS = ("roundtrip", "sliding", "ttt")  # phases of the evaluation, each of which scores
MAX_LINE = 2000  # bytes of a line that may be a step's
LATE_BYTES = 1 << 16


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
    elapsed_s: float | None = None  # of a script that runs, which tells no phases
    over: bool = False  # a script has ended: its log is not looked at any more

    @property
    def trains(self) -> bool:
        """Whether step and loss are what goes on."""
        return self.phase == "train" or self.stage == SCRIPT_STAGE

    def to_dict(self) -> dict[str, typing.Any]:
        """Its public fields: what makes it again."""
        return {name: value for name, value in asdict(self).items() if not name.startswith("_")}

    def take_line(self, line: str) -> None:
        """Fold in one line of a script's log."""
        if match := STEP.search(line):
            self.step, self.steps = int(match[1]), int(match[2]) if match[2] else self.steps
            self.fraction = min(1.0, self.step / self.steps) if self.steps else None
            if found := LOSS.search(line):
                self.loss = float(found[1])
            if found := BPB.search(line):
                self.bpb = float(found[1])

    def take(self, event: Mapping[str, typing.Any], now: float) -> None:
        """Fold in one line of metrics.jsonl or phases.jsonl. What is not understood is left alone."""
        if "edge" in event:
            if event.get("phase") == "stage":
                self.stage = str(event.get("stage", ""))
                self.over = self.stage == SCRIPT_STAGE and event["edge"] == "end"
                if self.over or (self.stage == "evaluate" and event["edge"] == "begin"):  # what training said is over
                    self.step = self.steps = self.loss = self.tokens_per_s = self.bpb = None
                if self.over:  # what a script printed last is no result
                    self.fraction = self.elapsed_s = None
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
            if not self._goes_on(kind, event.get("stage")):
                return
            self.bpb = _float(event.get("bpb", event.get("val_bpb")))
            done, total = _float(event.get("done")), _float(event.get("total"))
            if done is not None and total:
                self.fraction = max(0.0, min(1.0, done / total))
                self._left(now - self._phase_seen if self._phase_seen else None)

    _phase_seen: float | None = None

    def _goes_on(self, kind: typing.Any, scored: typing.Any) -> bool:
        """Whether a line is of what goes on now. A score says how its phase ended, and may come after that; how far a
        phase was may not."""
        if not isinstance(scored, str) or not self.phase:
            return True
        if scored not in EVALUATIONS:  # of weights that are still trained
            return self.stage != "evaluate" and self.phase == "validate"
        return self.stage == "evaluate" and (kind == "score" or self.phase == scored)

    def _left(self, elapsed: float | None) -> None:
        self.seconds_left = None
        if elapsed is not None and self.fraction and 0 <= elapsed < 1e9 and self.fraction > 1e-9:
            self.seconds_left = elapsed * (1 - self.fraction) / self.fraction


class Tail:
    """Follows the files of an attempt; where one was cut back, all are read again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.progress = Progress()
        self._offsets = {PHASES: 0, METRICS: 0, LOG: 0}

    def read(self) -> Progress:
        now = time.monotonic()
        if any(self._size(name) < offset for name, offset in self._offsets.items()):
            self._offsets, self.progress = dict.fromkeys(self._offsets, 0), Progress()
        begun = self.progress.stage == SCRIPT_STAGE
        if not self._offsets[METRICS]:  # where a look comes late, the end is enough; the line that this cuts is no JSON
            self._offsets[METRICS] = max(0, self._size(METRICS) - LATE_BYTES)
        for name in (PHASES, METRICS):
            for event in self._new_events(name):
                self.progress.take(event, now)
        if self.progress.stage == SCRIPT_STAGE and not self.progress.over:
            self._read_script(begun)
        return self.progress

    def _read_script(self, begun: bool) -> None:
        """Where a look comes late, the end of the log is enough."""
        if not begun:
            self._offsets[LOG] = max(0, self._size(LOG) - LATE_BYTES)
        for line in self._new(LOG):
            if len(line) <= MAX_LINE:
                self.progress.take_line(line.decode("utf-8", errors="replace"))
        try:
            self.progress.elapsed_s = max(0.0, time.time() - (self.folder / ENV).stat().st_mtime)
        except OSError:
            self.progress.elapsed_s = None

    def _size(self, name: str) -> int:
        try:
            return (self.folder / name).stat().st_size
        except OSError:
            return 0

    def _new(self, name: str) -> list[bytes]:
        """Whole lines that were not read yet."""
        path = self.folder / name
        try:
            with path.open("rb") as file:
                file.seek(self._offsets[name])
                data = file.read()
        except OSError:
            return []
        whole, newline, _ = data.rpartition(b"\n")
        self._offsets[name] += len(whole) + len(newline)
        return whole.splitlines()

    def _new_events(self, name: str) -> list[dict[str, typing.Any]]:
        found = []
        for line in self._new(name):
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
