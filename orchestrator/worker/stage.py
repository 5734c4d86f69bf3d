"""One stage of an attempt: start the program, read what it says, stamp its phases, end it when it must end.

The clock is the worker's own and monotonic. How a stage ended is told from what the bundle and torchrun said
and from how they ended; where nothing is said the class is `user_error`, which is never retried.
"""

import contextlib
import json
import os
import re
import selectors
import signal
import subprocess
import time
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from golf_core.rundir import LOG, METRICS, PHASES
from orchestrator.spec import Limits
from orchestrator.worker.clocks import DISTURBED
from orchestrator.worker.watch import kill_carriers

# Phases that a limit counts, however often each comes. `calibrate` reads training data: it is training.
TIMED = {"train": ("train", "calibrate"), "evaluate": ("load", "roundtrip", "sliding", "ttt")}
FATAL = {"nan": "nan", "memory": "memory", "data": "data", "artifact": "artifact", "config": "user_error"}
MAX_LINE = 1 << 20  # bytes kept of a line without an end
POLL = 0.1  # seconds between looks at deadlines and at whoever may stop us

# What torchrun prints of a rank that a signal ended.
RANK_KILLED = re.compile(r"exitcode\s*:\s*-9\b|Signal 9 \(SIGKILL\) received")
# The last line of a Python traceback, with the prefix that torchrun may put before it.
EXCEPTION = re.compile(r"^(?:\[\w+\]:\s*)*((?:\w+\.)*\w*(?:Error|Exception|Interrupt|Exit)\b.*)$")

Stop = Callable[[], str | None]  # the class to end with (cancelled, orphaned), or None: go on
Judge = Callable[[], tuple[str, str] | None]  # called after new metrics: class and message to end with, or None


@dataclass(frozen=True)
class Ended:
    cls: str  # completed, or what went wrong
    message: str
    exit_code: int | None


@dataclass
class Deadlines:
    """When a stage has run too long. Limits count timed phases only; every other phase has `startup_s`."""

    limits: Limits
    stage: str
    began: float
    last_output: float = field(init=False)
    phase: str | None = None
    phase_began: float = 0.0
    used: float = 0.0  # seconds in timed phases that ended
    first_phase: bool = False

    def __post_init__(self) -> None:
        self.last_output = self.phase_began = self.began

    def edge(self, name: str, edge: str, now: float) -> None:
        self.first_phase = True
        if self.phase in TIMED[self.stage]:
            self.used += now - self.phase_began
        self.phase, self.phase_began = (name if edge == "begin" else None), now

    def over(self, now: float) -> tuple[str, str] | None:
        """(class, message) once a deadline has passed. `now` counts from the start of the worker."""
        found = self._stage_over(now) if self.stage in TIMED else self._whole_over(now)
        return found or self.dead_man(now)

    def dead_man(self, now: float) -> tuple[str, str] | None:
        """The last deadline, of all that an attempt does; what it may cost follows from it."""
        if now > self.limits.attempt_s:
            return "deadline", f"{now:.1f} s in all; an attempt is given {self.limits.attempt_s:g} s and not more"
        return None

    def _stage_over(self, now: float) -> tuple[str, str] | None:
        limits, here = self.limits, now - self.phase_began
        if not self.first_phase and now - self.began > limits.startup_s:
            return "startup", f"no phase began within {limits.startup_s:g} s of the start of {self.stage}"
        limit = limits.train_s if self.stage == "train" else limits.evaluate_s
        if self.phase in TIMED[self.stage] and self.used + here > limit + limits.kill_after_s:
            what = f"{self.used + here:.1f} s in {self.phase}" + (" and the phases before it" if self.used else "")
            return "deadline", f"{what}; the limit is {limit:g} s and {limits.kill_after_s:g} s more"
        if self.first_phase and self.phase not in TIMED[self.stage] and here > limits.startup_s:
            return "deadline", f"{here:.1f} s in phase {self.phase or 'none'}; {limits.startup_s:g} s are allowed"
        if now - self.last_output > limits.silence_s:
            return "silent", f"no output for {limits.silence_s:g} s in phase {self.phase or 'none'}"
        return None

    def _whole_over(self, now: float) -> tuple[str, str] | None:
        """Of a program that tells no phases: one deadline for all that it does."""
        limits = self.limits
        if (ran := now - self.began) > limits.whole_s:
            parts = (limits.startup_s, limits.train_s, limits.evaluate_s, limits.kill_after_s)
            added = " + ".join(f"{part:g}" for part in parts)
            return "deadline", f"{ran:.1f} s in all; {limits.whole_s:g} s are allowed ({added})"
        if now - self.last_output > limits.silence_s:
            return "silent", f"no output for {limits.silence_s:g} s"
        return None


class Transcript:
    """What the program said: every byte into log.txt, errors remembered; of a bundle, whose lines we know, phase lines
    stamped into phases.jsonl."""

    def __init__(self, folder: Path, stage: str, clock: Callable[[], float]) -> None:
        self.stage, self.clock, self.metrics = stage, clock, folder / METRICS
        self.log = (folder / LOG).open("ab", buffering=0)
        self.phases = (folder / PHASES).open("ab", buffering=0)
        self.tail = b""
        self.fatal: tuple[str, str] | None = None
        self.exception = ""
        self.rank_killed = False

    def measured(self) -> int:
        """Bytes of metrics.jsonl, which the bundle writes itself: an evaluation may say nothing else for long."""
        try:
            return self.metrics.stat().st_size
        except OSError:
            return 0

    def close(self) -> None:
        self.log.close()
        self.phases.close()

    def stamp(self, phase: str, edge: str) -> None:
        row = {"stage": self.stage, "phase": phase, "edge": edge, "t": round(self.clock(), 6)}
        self.phases.write(json.dumps(row).encode() + b"\n")

    def feed(self, chunk: bytes) -> Iterable[tuple[str, str]]:
        """Take in output; the (name, edge) of each phase line in it."""
        self.log.write(chunk)
        *lines, self.tail = (self.tail + chunk).split(b"\n")
        self.tail = self.tail[-MAX_LINE:]
        edges, ours = [], self.stage in TIMED
        for raw in lines:
            line = raw.decode("utf-8", errors="replace").strip()
            if ours and (match := re.fullmatch(r"phase:(begin|end) (\w+)", line)):
                self.stamp(match[2], match[1])
                edges.append((match[2], match[1]))
            elif ours and (match := re.match(r"fatal:(\w+)\s*(.*)", line)):
                self.fatal = self.fatal or (FATAL.get(match[1], "user_error"), match[2])
            elif RANK_KILLED.search(line):
                self.rank_killed = True
            elif (match := EXCEPTION.match(line)) and "ChildFailedError" not in line:
                self.exception = match[1]
        return edges


def run_stage(
    stage: str,
    command: Sequence[str],
    env: Mapping[str, str],
    folder: Path,
    limits: Limits,
    clock: Callable[[], float],
    stop: Stop,
    marker: str,
    cwd: Path | None = None,
    judge: Judge = lambda: None,
) -> Ended:
    """Run one stage to its end, in the attempt's folder or another. When this returns no process with the marker is
    left."""
    transcript = Transcript(folder, stage, clock)
    transcript.stamp("stage", "begin")
    kills_before = memory_kills()
    process = None
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(env),
            cwd=cwd or folder,
            start_new_session=True,
        )
        deadlines = Deadlines(limits, stage, clock())
        broken = _follow(process, transcript, deadlines, clock, stop, judge)
        if broken is None and process.returncode:  # the watchdog may have kept the last deadline for us
            broken = deadlines.dead_man(clock())
    except OSError as error:
        broken = ("launch_error", f"{command[0]}: {error}")
    finally:
        if process is not None:
            _end(process, transcript, marker)
        try:
            transcript.stamp("stage", "end")
        finally:
            transcript.close()
    code = process.returncode if process is not None else None
    if broken is not None:
        return Ended(broken[0], broken[1], code)
    return how_it_ended(code or 0, transcript, memory_kills() - kills_before)


def _follow(
    process: "subprocess.Popen[bytes]",
    transcript: Transcript,
    deadlines: Deadlines,
    clock: Callable[[], float],
    stop: Stop,
    judge: Judge,
) -> tuple[str, str] | None:
    """Read until the process ends (None), or until somebody, a deadline or the judge ends it (class, message)."""
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        open_pipe, measured = True, transcript.measured()
        while True:
            if open_pipe and selector.select(POLL):
                chunk = os.read(process.stdout.fileno(), 1 << 16)
                deadlines.last_output = clock()
                for name, edge in transcript.feed(chunk):
                    deadlines.edge(name, edge, clock())
                if not chunk:
                    selector.unregister(process.stdout)
                    open_pipe = False
            elif process.poll() is not None:
                return None
            if not open_pipe and process.poll() is None:
                time.sleep(0.01)
            if (size := transcript.measured()) != measured:
                measured, deadlines.last_output = size, clock()
                if (judged := judge()) is not None:
                    return judged
            if (cls := stop()) is not None:
                return cls, STOPPED.get(cls, cls)
            if (over := deadlines.over(clock())) is not None:
                return over


STOPPED = {
    "cancelled": "ended by `cancel`",
    "orphaned": "the submitting process is gone",
    "preempted": "the worker was told to end, as when its machine is taken away",
    DISTURBED: "this machine slept, and its monotonic clock did not count it: nobody can say how long anything took",
}


def _end(process: "subprocess.Popen[bytes]", transcript: Transcript, marker: str) -> None:
    """Kill what is left of the process tree, then take in the last words."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    kill_carriers(marker)
    process.wait()
    assert process.stdout is not None
    try:
        while chunk := process.stdout.read(1 << 16):
            transcript.feed(chunk)
    except OSError:
        pass
    process.stdout.close()
    transcript.feed(b"\n" if transcript.tail else b"")


def how_it_ended(code: int, said: Transcript, killed_for_memory: int) -> Ended:
    """The class of an end that nobody asked for."""
    if code == 0:
        return Ended("completed", "", 0)
    if said.fatal is not None:
        return Ended(said.fatal[0], said.fatal[1], code)
    if killed_for_memory:
        return Ended("memory", "the kernel killed a process: the memory limit of this machine was reached", code)
    if said.rank_killed or code in (-signal.SIGKILL, -signal.SIGTERM):
        return Ended("rank_killed", "a process of the run was killed from outside", code)
    if re.search(r"OutOfMemoryError|MemoryError|CUDA out of memory", said.exception):
        return Ended("memory", said.exception, code)
    return Ended("user_error", said.exception or f"exit code {code}", code)


def memory_kills() -> int:
    """How often the kernel has killed for memory in our control group; 0 where that is not told."""
    try:
        text = Path("/sys/fs/cgroup/memory.events").read_text(encoding="utf-8")
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("oom_kill ")), 0)


def phase_seconds(rows: Iterable[Mapping[str, typing.Any]], phases: Sequence[str]) -> float:
    """Seconds spent in `phases`, from the rows of phases.jsonl; a phase that never ended counts nothing."""
    total, begun = 0.0, dict[str, float]()
    for row in rows:
        name, edge, t = row.get("phase"), row.get("edge"), row.get("t")
        if name not in phases or not isinstance(t, int | float):
            continue
        if edge == "begin":
            begun.setdefault(str(name), float(t))
        elif edge == "end" and name in begun:
            total += float(t) - begun.pop(str(name))
    return total
