"""The speed probe, as the worker runs it: golf_core.probe on the GPUs of the run, its clocks watched meanwhile.

Its processes carry the marker of the attempt, so that they end with it. It gets the environment of the run, and of the
path this project alone: what lies on a user's path is not asked how fast this machine is.
"""

import json
import os
import re
import selectors
import subprocess
import sys
import time
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.checkout import ROOT
from orchestrator.hardware.health import Watch
from orchestrator.worker.stage import EXCEPTION, POLL, Stop
from orchestrator.worker.watch import VARIABLE, kill_carriers

Launch = Callable[[int], Sequence[str]]  # the command for so many processes
LOADED = "matmul_tflops"  # the part whose clocks count
LAST_WORDS = 400  # letters of a message


def probe_command(processes: int, device: str = "cuda") -> list[str]:
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    return [sys.executable, *launch, "-m", "golf_core.probe", "--device", device]


@dataclass(frozen=True)
class Probed:
    """What the probe told, or why it told nothing: `stopped` by a class that somebody gave, `late`, or it failed."""

    told: dict[str, typing.Any] | None = None
    trouble: str = ""
    late: bool = False
    stopped: str = ""


def run_probe(
    command: Sequence[str],
    env: Mapping[str, str],
    marker: str,
    seconds: float,
    stop: Stop,
    watch: Watch,
) -> Probed:
    """Run it to its end. When this returns no process with the marker is left."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**env, "PYTHONPATH": str(ROOT), VARIABLE: marker},
        start_new_session=True,
    )
    try:
        lines, broken = _follow(process, seconds, stop, watch)
    finally:
        kill_carriers(marker)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    return broken or _read(lines, process.returncode)


def _follow(
    process: "subprocess.Popen[bytes]", seconds: float, stop: Stop, watch: Watch
) -> tuple[list[str], Probed | None]:
    """Its lines, and why it was ended, where it was."""
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    until, text, loaded = time.monotonic() + seconds, b"", False
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            if selector.select(POLL):
                chunk = os.read(process.stdout.fileno(), 1 << 16)
                if not chunk:
                    return _lines(text), None
                text += chunk
                loaded = _loaded(text)
            if loaded:
                watch.look()
            if (cls := stop()) is not None:
                return [], Probed(stopped=cls)
            if time.monotonic() > until:
                last = (_lines(text) or ["nothing"])[-1][:LAST_WORDS]
                return [], Probed(trouble=f"it did not end in {seconds:g} s; it said last: {last}", late=True)


def _loaded(text: bytes) -> bool:
    """Whether the products are being measured now."""
    return f"begin {LOADED}".encode() in text and f"end {LOADED}".encode() not in text


def _lines(text: bytes) -> list[str]:
    return [line.strip() for line in text.decode("utf-8", errors="replace").splitlines() if line.strip()]


def _read(lines: Sequence[str], code: int) -> Probed:
    """Its one object. Libraries may have their say after it."""
    if code == 0 and lines:
        for line in reversed(lines):
            try:
                told = json.loads(line)
            except ValueError:
                continue
            if isinstance(told, dict):
                return Probed(told)
        return Probed(trouble=f"no line of it is an object; it said last: {lines[-1][:LAST_WORDS]}")
    said = [match[1] for line in lines if (match := EXCEPTION.match(line)) and "ChildFailedError" not in line]
    last = re.sub(r"\s+", " ", (said or list(lines) or ["no output"])[-1])
    return Probed(trouble=f"exit code {code}: {last[:LAST_WORDS]}")
