"""An evaluator in a process of its own, asked over pipes: within limits of time and memory, and gone at the end.

The evaluator is the submission's code, and it runs here with the rights of whoever starts the probe. It gets an empty
home, no variable of our environment but those that say where libraries, GPUs and data are, and a limit of memory.
Whatever it answers is read as numbers of a length that was agreed on; a wrong length is an error, nothing is executed.
"""

import collections
import contextlib
import os
import select
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from results.audit.probe import child
from results.audit.probe.scorer import ON, Ints, Refused, ScorerError, StreamScore
from results.untrusted import parse_document, plain

KEPT_LINES = 20  # of what the evaluator prints
INHERITED = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "CUDA_HOME", "OMP_NUM_THREADS")
FIXED = {"PYTHONHASHSEED": "0", "CUBLAS_WORKSPACE_CONFIG": ":4096:8", "PYTHONDONTWRITEBYTECODE": "1"}
MAX_EVENTS = 64  # adaptation events a target, above which an answer is refused


@dataclass(frozen=True)
class Limits:
    start_seconds: float = 120.0  # until the evaluator's file is loaded
    run_seconds: float = 300.0  # one stream
    memory_bytes: int = 16_000_000_000


@dataclass(frozen=True)
class Evaluator:
    """What is asked: a file that offers `score_stream`, the artifact that it scores with, and what it may read."""

    file: Path
    artifact: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)


class ChildScorer:
    """Answers as `Scorer` does; use it in a `with`. Raises ScorerError."""

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator
        self.home = tempfile.TemporaryDirectory(prefix="golf-probe-", ignore_cleanup_errors=True)
        self.closed = False
        self.said: collections.deque[bytes] = collections.deque(maxlen=KEPT_LINES)
        self.process = self._start()
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()
        try:
            self._answer(evaluator.limits.start_seconds, "to be loaded")
        except BaseException:
            self.close()
            raise

    def _start(self) -> "subprocess.Popen[bytes]":
        requests, self._requests = os.pipe()
        self._answers, answers = os.pipe()
        os.set_blocking(self._answers, False)
        one = self.evaluator
        command = [sys.executable, child.__file__, str(one.file.resolve()), str(one.artifact.resolve())]
        try:
            return subprocess.Popen(
                [*command, str(requests), str(answers), str(one.limits.memory_bytes)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                cwd=self.home.name,
                env=self._environment(),
                pass_fds=(requests, answers),
                start_new_session=True,
            )
        finally:
            os.close(requests)
            os.close(answers)

    def _environment(self) -> dict[str, str]:
        known = {name: os.environ[name] for name in INHERITED if name in os.environ}
        return {**known, **FIXED, "HOME": self.home.name, "TMPDIR": self.home.name, **self.evaluator.environment}

    def _listen(self) -> None:
        assert self.process.stderr is not None
        while block := self.process.stderr.readline(4096):
            self.said.append(block)

    def __call__(self, tokens: Ints, learn: str = ON) -> StreamScore:
        data = np.ascontiguousarray(tokens, dtype="<i8").tobytes()
        seconds = self.evaluator.limits.run_seconds
        self._send({"tokens": len(tokens), "learn": learn}, data, seconds)
        what = f"for a stream of {len(tokens):,} tokens (learn={learn})"
        head = self._answer(seconds, what)
        counts = {name: head.get(name) for name in ("nll", "order", "learned")}
        most = {"nll": 4 * len(tokens) + 64, "order": 4 * len(tokens) + 64, "learned": MAX_EVENTS * len(tokens) + 64}
        for name, count in counts.items():
            if type(count) is not int or not 0 <= count <= most[name]:
                raise self._failed(f"answered {plain(count, 40)} values of {name} {what}")
        deadline = time.monotonic() + seconds
        nll, order, learned = (self._take(8 * int(count or 0), deadline, what) for count in counts.values())
        return StreamScore(
            np.frombuffer(nll, dtype="<f8").astype(np.float64),
            np.frombuffer(order, dtype="<i8").astype(np.int64),
            np.frombuffer(learned, dtype="<i8").astype(np.int64),
        )

    def _send(self, head: dict[str, typing.Any], data: bytes, seconds: float) -> None:
        """A child that does not read would block us for ever: written in pieces, within the time."""
        message = child.message_head(head) + data
        os.set_blocking(self._requests, False)
        deadline, sent = time.monotonic() + seconds, 0
        while sent < len(message):
            if not select.select([], [self._requests], [], max(0.0, deadline - time.monotonic()))[1]:
                raise self._failed(f"took no request within {seconds:.0f} s")
            try:
                sent += os.write(self._requests, message[sent : sent + (1 << 16)])
            except BlockingIOError:
                continue
            except BrokenPipeError:
                raise self._failed("ended before a request") from None

    def _take(self, count: int, deadline: float, what: str) -> bytes:
        """Exactly so many bytes of the answers."""
        data = bytearray()
        while len(data) < count:
            if not select.select([self._answers], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise self._failed(
                    f"took more than its time {what} (--run-seconds gives more, --probe-tokens asks less)"
                )
            try:
                block = os.read(self._answers, min(count - len(data), 1 << 20))
            except BlockingIOError:
                continue
            if not block:
                raise self._failed(f"ended {what}")
            data += block
        return bytes(data)

    def _answer(self, seconds: float, what: str) -> dict[str, typing.Any]:
        deadline = time.monotonic() + seconds
        size = struct.unpack("<Q", self._take(8, deadline, what))[0]
        if not 0 < size <= child.MAX_HEAD:
            raise self._failed(f"answered what is no message {what}")
        text = self._take(size, deadline, what)
        try:
            head = parse_document(text.decode())
        except ValueError as error:  # UnicodeDecodeError too
            raise self._failed(f"answered what is no message {what}: {plain(error)}") from None
        if head.get("ok") is True:
            return head
        told = plain(head.get("message", ""), 600)
        if head.get("kind") == "memory":
            most = self.evaluator.limits.memory_bytes
            told += f"; {most / 1e9:g} GB are allowed (--memory-gb gives more, --probe-tokens asks less)"
        raise Refused(f"{self.evaluator.file} failed {what}: {told}")

    def _failed(self, what: str) -> ScorerError:
        self.close()
        code = self.process.returncode
        ended = f" (killed by signal {-code})" if code < 0 and -code != signal.SIGKILL else ""
        text = " | ".join(plain(line.decode(errors="replace"), 200) for line in [*self.said][-3:])
        return ScorerError(f"{self.evaluator.file} {what}{ended}" + (f"; it said: {text}" if text else ""))

    def close(self) -> None:
        """End it with all that it started; again does nothing."""
        if self.closed:  # its number may be another process's by now
            return
        self.closed = True
        for descriptor in (self._requests, self._answers):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.listener.join(1.0)
        if self.process.stderr is not None and not self.listener.is_alive():
            self.process.stderr.close()
        self.home.cleanup()

    def __enter__(self) -> "ChildScorer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()
