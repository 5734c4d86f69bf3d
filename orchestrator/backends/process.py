"""Attempts as processes of this machine. A worker ends when the pipe to the process that started it closes."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

from orchestrator.backends.base import Handle, Job, JobLost, State, SubmitError
from orchestrator.backends.in_place import check_in_place, read_log
from orchestrator.checkout import own_environment
from orchestrator.proc import is_locked, start_ticks

FOLDER_VARIABLE = "GOLF_WORKER_FOLDER"  # in a worker's own environment: how it is found again
END_PATIENCE = 15.0  # seconds for a worker to end its process tree


class ProcessBackend:
    name = "process"
    outlives = False

    def __init__(self, runs_dir: Path) -> None:
        self.attempts = (runs_dir / "attempts").resolve()
        self.workers: dict[int, subprocess.Popen[bytes]] = {}
        self.handles: dict[str, Handle] = {}  # the last one of each attempt

    def hold(self, job: Job) -> str | None:
        return None  # the controller's slots are all that is counted here

    def start(self, job: Job) -> Handle:
        if (handle := self.find(job.attempt_id)) is not None:
            return handle
        folder = job.folder.resolve()
        try:
            worker = subprocess.Popen(
                [sys.executable, "-m", "orchestrator.worker", str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                env=own_environment() | {FOLDER_VARIABLE: str(folder)},
                start_new_session=True,  # Ctrl-C at the terminal is for us, not for it
            )
        except OSError as error:
            raise SubmitError(f"{sys.executable}: {error}") from error
        self.workers[worker.pid] = worker
        start = start_ticks(worker.pid)
        self.handles[job.attempt_id] = {
            "backend": self.name,
            "attempt_id": job.attempt_id,
            "pid": worker.pid,
            "start": start,
        }
        return self.handles[job.attempt_id]

    def find(self, attempt_id: str) -> Handle | None:
        mine = self.handles.get(attempt_id)
        if mine is not None and not self.poll(mine).over:
            return mine
        for pid in _workers_of(self.attempts / attempt_id):
            if (start := start_ticks(pid)) is not None:
                return {"backend": self.name, "attempt_id": attempt_id, "pid": pid, "start": start}
        return None

    def poll(self, handle: Handle) -> State:
        if handle.get("backend") != self.name or "pid" not in handle:
            raise JobLost(f"{handle} is no handle of the process backend")
        worker = self.workers.get(handle["pid"])
        if worker is not None:
            code = worker.poll()
            if code is None:
                return State("running")
            return State("ended") if code == 0 else State("lost", f"the worker ended with code {code}")
        if start_ticks(handle["pid"]) == handle["start"]:
            return State("running")
        folder = self.attempts / str(handle["attempt_id"])
        if not folder.is_dir():
            raise JobLost(f"there is no attempt {handle['attempt_id']}")
        return State("ended") if (folder / "result.json").exists() else State("lost", "the worker is gone")

    def logs(self, handle: Handle, since: int) -> bytes:
        return read_log(self.attempts, handle, since)

    def cancel(self, handle: Handle) -> None:
        worker = self.workers.get(handle["pid"])
        if worker is None or worker.poll() is not None or worker.stdin is None or worker.stdin.closed:
            return
        try:
            worker.stdin.write(b"c")
            worker.stdin.flush()
        except BrokenPipeError:
            pass

    def fetch(self, handle: Handle, into: Path) -> None:
        check_in_place(self.attempts, handle, into)

    def close(self) -> None:
        """Closing the pipes ends the workers; each kills what it started."""
        for worker in self.workers.values():
            if worker.stdin is not None:
                with contextlib.suppress(BrokenPipeError):
                    worker.stdin.close()
        until = time.monotonic() + END_PATIENCE
        for worker in self.workers.values():
            try:
                worker.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.kill()  # its watchdog clears the rest
                worker.wait()
        self.workers.clear()


def _workers_of(folder: Path) -> list[int]:
    """Living worker processes of an attempt folder, by what they carry in their environment."""
    if not is_locked(folder):
        return []
    entry = f"{FOLDER_VARIABLE}={folder}".encode()
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if entry in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                found.append(int(name))
        except OSError:
            continue
    return found
