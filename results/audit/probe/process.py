"""An evaluator in a process of its own, asked over pipes: in a sandbox, within limits of time and memory, and gone at
the end.

The evaluator is the submission's code. It runs in the strongest sandbox that this machine has (replay/sandbox.py),
without network, and sees of files only libraries, its own file with the Python files beside it, and its artifact: of
the validation text no more than the streams that it is asked about. What it answers is read as numbers of a length that
was agreed on; a wrong length is an error, nothing is executed.
"""

import collections
import contextlib
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from results.audit.probe import child
from results.audit.probe.scorer import ON, Ints, Refused, ScorerError, StreamScore
from results.replay.jail import REFUSED
from results.replay.sandbox import LEVELS, WORDS, SandboxError, Work, talk_in_sandbox, work_folder
from results.replay.sandbox import Limits as SandboxLimits
from results.untrusted import parse_document, plain

KEPT_LINES = 20  # of what the evaluator prints
INHERITED = ("LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "CUDA_HOME", "NVIDIA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
FIXED = {"PYTHONHASHSEED": "0", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
MAX_EVENTS = 64  # adaptation events a target, above which an answer is refused
MAX_BESIDE, MAX_BESIDE_BYTES = 100, 4_000_000  # Python files beside the evaluator's, and the size of each
GRACE_SECONDS = 5.0  # for a process whose pipe is closed to end
ALL_PROBES_S = 7 * 24 * 3600.0  # the sandbox's own limit: no run of ours takes so long


@dataclass(frozen=True)
class Limits:
    start_seconds: float = 120.0  # until the evaluator's file is loaded
    run_seconds: float = 300.0  # one stream
    memory_bytes: int = 16_000_000_000


@dataclass(frozen=True)
class Evaluator:
    """What is asked: a file that offers `score_stream`, the artifact that it scores with, and what it is told."""

    file: Path
    artifact: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    tokenizer: Path | None = None  # shown to it, as TOKENIZER_PATH


class ChildScorer:
    """Answers as `Scorer` does; use it in a `with`. Raises ScorerError, or SandboxError where there is no sandbox."""

    def __init__(self, evaluator: Evaluator, levels: Sequence[str] = LEVELS) -> None:
        self.evaluator = evaluator
        self.said: collections.deque[bytes] = collections.deque(maxlen=KEPT_LINES)
        refused: list[str] = []
        for level in levels:
            self.level, self.closed = level, False
            self._start()
            try:
                self._answer(evaluator.limits.start_seconds, "to be loaded")
                return
            except ScorerError:
                self.close()
                if self.process.returncode != REFUSED or not self.why:
                    raise
                refused.append(f"not {level}: {self.why}")
            except BaseException:
                self.close()
                raise
        raise SandboxError(f"no sandbox could be had on this machine: {'; '.join(refused)}")

    @property
    def words(self) -> str:
        """The sandbox, in words."""
        return f"{self.level}: {WORDS[self.level]}"

    def _start(self) -> None:
        self.opened = contextlib.ExitStack()
        try:
            work = self.opened.enter_context(work_folder())
            command, environment = self._shown(work)
            requests, self._requests = os.pipe()
            self._answers, answers = os.pipe()
            for descriptor in (self._requests, self._answers):
                self.opened.callback(os.close, descriptor)
            os.set_blocking(self._answers, False)
            ends = [str(requests), str(answers), str(self.evaluator.limits.memory_bytes)]
            limits = SandboxLimits(seconds=ALL_PROBES_S)
            gpu = any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/kfd").exists()
            try:
                self.process, status = talk_in_sandbox(
                    work, self.level, [*command, *ends], environment, limits, (requests, answers), gpu
                )
            finally:
                os.close(requests)
                os.close(answers)
            self.status = self.opened.enter_context(status)
        except BaseException:
            self.opened.close()
            raise
        self.why = ""
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()

    def _shown(self, work: Work) -> tuple[list[str], dict[str, str]]:
        """The command, and its environment, with every file in its place in the sandbox."""
        one = self.evaluator
        file = work.show(one.file, f"evaluator/{one.file.name}")
        beside = [path for path in sorted(one.file.parent.glob("*.py")) if path.is_file() and path.name != file.name]
        for path in beside[:MAX_BESIDE]:
            if path.stat().st_size <= MAX_BESIDE_BYTES:
                work.show(path, f"evaluator/{path.name}")
        artifact = work.show(one.artifact, f"artifact/{one.artifact.name}")
        environment = {name: os.environ[name] for name in INHERITED if name in os.environ} | FIXED
        if one.tokenizer is not None:
            environment["TOKENIZER_PATH"] = str(work.show(one.tokenizer, f"tokenizer/{one.tokenizer.name}"))
        command = [sys.executable, str(work.show(Path(child.__file__), "child.py")), str(file), str(artifact)]
        return command, environment | dict(one.environment)

    def _listen(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as printed:
            while block := printed.readline(4096):
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
                with contextlib.suppress(subprocess.TimeoutExpired):  # how it ended is worth a moment
                    self.process.wait(GRACE_SECONDS)
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
        ended = f" (killed by signal {256 - code})" if code > 128 else f" (exit code {code})" if code >= 0 else ""
        text = " | ".join(plain(line.decode(errors="replace"), 200) for line in [*self.said][-3:])
        return ScorerError(f"{self.evaluator.file} {what}{ended}" + (f"; it said: {text}" if text else ""))

    def close(self) -> None:
        """End it with all that it started; again does nothing."""
        if self.closed:  # its number may be another process's by now
            return
        self.closed = True
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.listener.join(GRACE_SECONDS)
        if self.process.returncode == REFUSED:
            self.why = plain(self.status.read(2000))
        self.opened.close()

    def __enter__(self) -> "ChildScorer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()
