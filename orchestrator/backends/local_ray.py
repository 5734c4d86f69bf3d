"""Attempts as actors of a Ray that this process starts for itself and ends with itself.

An actor a seed runs worker.run_attempt. Retries are ours, recorded as attempts: Ray's own are off.
"""

import os
import threading
import time
import typing
from pathlib import Path

from orchestrator.backends.base import Handle, Job, JobLost, State, SubmitError
from orchestrator.backends.in_place import check_in_place, read_log
from orchestrator.backends.private_ray import PrivateRay
from orchestrator.proc import Owner, is_locked
from orchestrator.worker.attempt import run_attempt

END_PATIENCE = 15.0  # seconds for an actor to end its process tree
OWNER_LOOK = 0.5  # seconds between looks at the process that started us


class AttemptActor:
    """Runs one attempt; a second thread of it hears `end`."""

    def __init__(self, owner: dict[str, typing.Any]) -> None:
        self.owner = Owner(**owner)
        self.ending: str | None = None
        self.looked = 0.0
        self.lock = threading.Lock()

    def run(self, folder: str) -> str:
        return str(run_attempt(Path(folder), self._stop)["class"])

    def end(self, cls: str) -> None:
        with self.lock:
            self.ending = self.ending or cls

    def _stop(self) -> str | None:
        if (now := time.monotonic()) - self.looked > OWNER_LOOK:
            self.looked = now
            if not self.owner.alive():
                self.end("orphaned")
        return self.ending


class LocalRayBackend:
    name = "ray"
    outlives = False

    def __init__(self, runs_dir: Path) -> None:
        self.attempts = (runs_dir / "attempts").resolve()
        self.jobs: dict[str, tuple[typing.Any, typing.Any]] = {}  # attempt id -> actor, reference of its result
        self.ends: dict[str, State] = {}
        self.own: PrivateRay | None = None
        self.ray: typing.Any = None

    def hold(self, job: Job) -> str | None:
        return None  # the controller's slots are all that is counted here

    def start(self, job: Job) -> Handle:
        handle = {"backend": self.name, "attempt_id": job.attempt_id, "owner": os.getpid()}
        if job.attempt_id in self.jobs and not self.poll(handle).over:
            return handle
        ray = self._ray(job.cpus)
        try:
            options = {"num_cpus": job.cpus, "max_restarts": 0, "max_task_retries": 0, "max_concurrency": 2}
            actor = ray.remote(**options)(AttemptActor).remote(Owner.me().to_dict())
            self.jobs[job.attempt_id] = (actor, actor.run.remote(str(job.folder.resolve())))
        except ray.exceptions.RayError as error:
            raise SubmitError(f"local Ray refused the attempt: {error}") from error
        self.ends.pop(job.attempt_id, None)
        return handle

    def _ray(self, cpus: int) -> typing.Any:
        """Ray, started at the first need; nothing of ours travels through its object store."""
        if self.own is None:
            self.own = PrivateRay(max(cpus, len(os.sched_getaffinity(0))))
            self.ray = self.own.ray
        return self.ray

    def find(self, attempt_id: str) -> Handle | None:
        """Only what this process started: a local Ray ends with its process."""
        handle = {"backend": self.name, "attempt_id": attempt_id, "owner": os.getpid()}
        return handle if attempt_id in self.jobs and not self.poll(handle).over else None

    def poll(self, handle: Handle) -> State:
        name = handle.get("attempt_id")
        if handle.get("backend") != self.name or name not in self.jobs:
            raise JobLost(f"{handle} is no handle of this process's Ray")
        if name in self.ends:
            return self.ends[name]
        actor, result = self.jobs[name]
        if not self.ray.wait([result], timeout=0)[0]:
            return State("running" if is_locked(self.attempts / name) else "pending")
        try:
            self.ray.get(result)
            self.ends[name] = State("ended")
        except self.ray.exceptions.RayActorError as error:
            self.ends[name] = State("lost", str(error).splitlines()[0])
        except self.ray.exceptions.RayTaskError as error:
            self.ends[name] = State("lost", str(error).splitlines()[-1])
        self.ray.kill(actor)
        return self.ends[name]

    def logs(self, handle: Handle, since: int) -> bytes:
        return read_log(self.attempts, handle, since)

    def cancel(self, handle: Handle) -> None:
        if handle["attempt_id"] in self.jobs and not self.poll(handle).over:
            self.jobs[handle["attempt_id"]][0].end.remote("cancelled")

    def fetch(self, handle: Handle, into: Path) -> None:
        check_in_place(self.attempts, handle, into)

    def close(self) -> None:
        if self.own is None:
            return
        live = [result for name, (_, result) in self.jobs.items() if name not in self.ends]
        for name, (actor, _) in self.jobs.items():
            if name not in self.ends:
                actor.end.remote("orphaned")
        if live:
            self.ray.wait(live, num_returns=len(live), timeout=END_PATIENCE)
        self.own.close()  # an actor that still lives dies here; its watchdog clears the rest
        self.own = self.ray = None
        self.jobs.clear()
