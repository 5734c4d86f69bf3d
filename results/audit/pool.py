"""Many sources analysed in child processes, a few at a time: what a hostile source breaks is a child, not this process.

A child lives on from file to file, since nothing of them runs in it; after a crash, after its deadline, or where memory
or the stack ran out, the next file gets a fresh one.
"""

import base64
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
import typing
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from results.audit.finding import REVIEW, Finding
from results.audit.report import Audited
from results.audit.source.program import Limits
from results.untrusted import plain

ROOT = Path(__file__).resolve().parents[2]
MAX_ANSWER = 16 * 1024 * 1024  # bytes of one answer
MAX_FILES = 200  # that one child analyses
MAX_FINDINGS = 200  # of one file
CHILDREN = 2


@dataclass(frozen=True)
class Request:
    """A source to be analysed: a file or folder, or bytes that were read from standard input."""

    path: Path
    run: str | None = None
    data: bytes | None = None

    def line(self) -> bytes:
        data = None if self.data is None else base64.b64encode(self.data).decode()
        return json.dumps({"path": str(self.path), "run": self.run, "data": data}).encode() + b"\n"


class Child:
    """One process of results.audit.child, started when it is first asked."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.process: subprocess.Popen[bytes] | None = None
        self.files = 0

    def analyse(self, request: Request) -> Audited:
        if self.process is None or self.files >= MAX_FILES:
            self.close()
            self.process = _started(self.limits)
        self.files += 1
        answer = self._asked(self.process, request.line())
        if answer.get("worn", False):
            self.close()
        return _audited(request, answer)

    def _asked(self, process: subprocess.Popen[bytes], line: bytes) -> dict[str, typing.Any]:
        assert process.stdin is not None and process.stdout is not None
        deadline = time.monotonic() + 2 * self.limits.seconds + 10
        try:
            process.stdin.write(line)
            process.stdin.flush()
        except BrokenPipeError:
            return {"refused": "the process that analyses it ended before it began", "worn": True}
        got = b""
        while not got.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
                return {
                    "refused": f"its analysis takes more than {2 * self.limits.seconds:.0f} s; simplify it",
                    "worn": True,
                }
            more = os.read(process.stdout.fileno(), 1 << 16)
            got += more
            if not more:
                return {"refused": _ended(process, self.limits), "worn": True}
            if len(got) > MAX_ANSWER:
                return {"refused": "more is found in it than can be told", "worn": True}
        answer = json.loads(got)
        assert isinstance(answer, dict)
        return answer

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            for stream in (self.process.stdin, self.process.stdout):
                if stream is not None:
                    _closed(stream)
        self.process, self.files = None, 0


def _closed(stream: typing.IO[bytes]) -> None:
    with contextlib.suppress(BrokenPipeError):  # what was not read by a child that has ended
        stream.close()


def _started(limits: Limits) -> subprocess.Popen[bytes]:
    path = os.pathsep.join([str(ROOT), *([os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else [])])
    return subprocess.Popen(
        [sys.executable, "-m", "results.audit.child", json.dumps(asdict(limits))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )


def _ended(process: subprocess.Popen[bytes], limits: Limits) -> str:
    """Why a child ended without an answer."""
    code = process.wait()
    if code in (-signal.SIGXCPU, 128 + signal.SIGXCPU):
        return f"its analysis takes more than {limits.seconds:.0f} s of processor time; simplify it"
    return f"its analysis broke down (exit code {code}): it is nested too deeply, or needs more memory than is allowed"


def _audited(request: Request, answer: dict[str, typing.Any]) -> Audited:
    file = str(request.path)
    found = [Finding(**one) for one in answer.get("findings", ())]
    if "refused" in answer:
        says = f"it cannot be analysed: {plain(answer['refused'], 600)}"
        found.append(Finding("source", REVIEW, "[R] C2", says, plain(request.path.name), None))
    if len(found) > MAX_FINDINGS:
        dropped = len(found) - MAX_FINDINGS
        found = sorted(found, key=lambda one: {"fail": 0, REVIEW: 1}.get(one.verdict, 2))[:MAX_FINDINGS]
        says = f"{dropped} more findings are not listed"
        found.append(Finding("source", REVIEW, "[R] C2", says, plain(request.path.name), None))
    return Audited(
        file,
        tuple(found),
        sha256=answer.get("sha256"),
        bytes=answer.get("bytes"),
        main=answer.get("main") or "",
        run=request.run,
        analysed="refused" not in answer,
    )


def audit_many(requests: Sequence[Request], limits: Limits, children: int = CHILDREN) -> Iterator[Audited]:
    """Every source's audit, in their order, as soon as it is known."""
    count = min(children, len(requests))
    free = deque(Child(limits) for _ in range(count))
    everyone = list(free)

    def run(request: Request) -> Audited:
        child = free.popleft()
        try:
            return child.analyse(request)
        finally:
            free.append(child)

    try:
        with ThreadPoolExecutor(max(count, 1)) as threads:
            yield from threads.map(run, requests)
    finally:
        for child in everyone:
            child.close()
