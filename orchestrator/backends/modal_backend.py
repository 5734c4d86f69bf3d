"""Attempts on Modal, driven from this process: started once, found again by their claims, followed through the volume.

They go on without us. What an attempt of an earlier process became is learnt in the same way as of our own: its call
tells whether it lives, its folder in the volume what it left.
"""

import contextlib
import time
import typing
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from golf_core.rundir import BUNDLE, RESULT, RUN, RunDirError, read_json, write_json
from orchestrator.attempts import ATTEMPTS, NODE, first_stage, inspect
from orchestrator.backends.base import (
    BackendError,
    Handle,
    Job,
    JobLost,
    Refused,
    State,
    SubmitError,
    Unavailable,
)
from orchestrator.backends.in_place import check_in_place, read_log
from orchestrator.backends.modal_client import Cloud
from orchestrator.backends.modal_deploy import Apps
from orchestrator.backends.modal_follow import Follower
from orchestrator.cloud.cancels import is_cancelled
from orchestrator.cloud.chains import Following
from orchestrator.cloud.claims import call_once
from orchestrator.cloud.options import MAX_CONTAINERS, AppOptions
from orchestrator.cloud.order import Order, cancels_of, claim_of, execution_key, owner_of
from orchestrator.cloud.starts import parse_starts, path_of
from orchestrator.proc import Locked, is_locked

CLOSE_SECONDS = 5.0  # that all followers have together to come to their end
OTHERS_SECONDS = 2.0  # between looks at what other processes of this runs folder follow
APP_SECONDS = 60.0  # between looks whether the app is still of this code, while nothing is given to it
CANCEL_LOOK_SECONDS = 10.0
MOST_CALLS = 10 * MAX_CONTAINERS  # that wait or work at a time: each is asked about every two seconds, by a thread
ASKED_AT_ONCE = 16  # questions, of a grid's many submissions


class Known(typing.NamedTuple):
    submission_id: str
    seed: int


class ModalBackend:
    name = "modal"
    outlives = True

    def __init__(
        self,
        runs_dir: Path,
        cloud: Cloud,
        note: Callable[[str], None],
        *,
        options_of: Callable[[Job], AppOptions] | None = None,
        known: Mapping[str, Known] | None = None,
        following: Mapping[str, Following] | None = None,
        max_gpus: int | None = None,
        restarts: int = 2,
    ) -> None:
        """`options_of`: the app that takes an attempt; None: nothing is begun here. `known`: the runs that are driven,
        by the keys of their ids; `following`: of each submission, what its containers start."""
        self.attempts = (runs_dir / ATTEMPTS).resolve()
        self.cloud, self.apps, self.options_of = cloud, Apps(cloud, note), options_of
        self.known, self.following = known or {}, following or {}
        self.max_gpus, self.restarts = max_gpus, restarts
        self.given: Counter[str] = Counter()  # orders of each run, by this process
        self.full = (float("-inf"), 0)  # when GPUs of other processes were last looked at, and how many they were
        self.followers: dict[str, Follower] = {}
        self.cancels: dict[str, str] = {}  # of each submission, as it was known when we began
        self.now: dict[str, tuple[float, str]] = {}  # likewise as it is known now, and since when
        with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
            list(pool.map(self._cancels, {one.submission_id for one in self.known.values()}))

    def hold(self, job: Job) -> str | None:
        run = self.known.get(job.attempt_id.rpartition("-a")[0])
        if run is not None and is_cancelled(run.seed, *self._cancels(run.submission_id)):
            raise Refused("cancelled from another terminal; the same submit goes on")
        live = [one for one in self.followers.values() if not one.state.over]
        if len(live) >= MOST_CALLS:
            return f"waits: {len(live)} attempts are with Modal, which works at {MAX_CONTAINERS} at once"
        if (why := self._why_too_many(job, live)) is not None:
            return why
        if self.options_of is not None:
            self.apps.have(self.options_of(job), APP_SECONDS)  # or nothing is begun: no attempt is made for it
        return None

    def _why_too_many(self, job: Job, live: Sequence[Follower]) -> str | None:
        """Why max_gpus lets no other attempt begin; None: it does. Raises Unavailable where it never does."""
        if self.max_gpus is None or not job.gpus:
            return None
        if job.gpus > self.max_gpus:
            raise Unavailable(f"a seed needs {job.gpus} GPUs, and max_gpus allows {self.max_gpus}")
        mine = sum(int(one.handle["gpus"]) for one in live)
        looked, others = self.full
        if time.monotonic() - looked > OTHERS_SECONDS or mine + others + job.gpus <= self.max_gpus:
            others = self._gpus_of_others()  # what they use now, before it is said that there is room
            self.full = (time.monotonic(), others)
        if mine + others + job.gpus > self.max_gpus:
            return f"waits: {mine + others} of {self.max_gpus} GPUs (max_gpus) are in use"
        return None

    def _cancels(self, submission_id: str) -> tuple[str, str]:
        """What was known of cancels when we began, and what is known now."""
        looked, told = self.now.get(submission_id, (float("-inf"), ""))
        if time.monotonic() - looked > CANCEL_LOOK_SECONDS:
            told = self.cloud.claimed(cancels_of(submission_id)) or ""
            self.now[submission_id] = (time.monotonic(), told)
        return self.cancels.setdefault(submission_id, told), told

    def _gpus_of_others(self) -> int:
        """Of attempts that other processes of this runs folder follow."""
        used = 0
        for node in self.attempts.glob(f"*/{NODE}"):
            if node.parent.name not in self.followers and is_locked(node.parent):
                with contextlib.suppress(RunDirError):
                    used += int(read_json(node).get("gpus", 0))
        return used

    def start(self, job: Job) -> Handle:
        if (live := self._live(job.attempt_id)) is not None:
            return live
        try:
            run = read_json(job.folder / RUN)
            order = self._order(job, run, self._execution(job, run))
            self.given[order.run_id] += 1
            if job.stage == "evaluate":
                (job.folder / RESULT).unlink(missing_ok=True)  # of the execution before: what is here then is of this
            handle: Handle = {
                "backend": self.name,
                "attempt_id": job.attempt_id,
                "host": "Modal",
                "app": order.app,
                "execution": order.execution,
                "stage": job.stage,
                "gpus": job.gpus,
                "call": "",
                "run": run["run_id"],
            }
            write_json(job.folder / NODE, handle)  # before there is anything to be found by it
            return self._give(order, handle)
        except (BackendError, RunDirError, OSError) as error:
            if isinstance(error, Unavailable):
                raise
            raise SubmitError(str(error)) from error

    def _order(self, job: Job, run: Mapping[str, typing.Any], execution: int) -> Order:
        if self.options_of is None:
            raise SubmitError(f"{job.attempt_id} was never given to Modal, and this command only looks")
        submission_id, options = str(run["submission_id"]), self.options_of(job)
        before, _ = self._cancels(submission_id)
        following = self.following.get(submission_id, Following())
        # What follows a canary is given by whichever attempt of it keeps its caps; else the first one has given it.
        gives = following.canary is not None or (int(run["attempt"]) == 1 and job.stage != "evaluate")
        return Order(
            app=self.apps.have(options),
            code=self.apps.code(options),
            run=run,
            bundle=(job.folder / BUNDLE).read_text(encoding="utf-8"),
            stage=job.stage if job.stage == "evaluate" else first_stage(job.folder),
            execution=execution,
            restarts=max(0, self.restarts - self.given[str(run["run_id"])]),  # a run's share of the money bears no more
            cancels=before,
            canary=following.canary,
            chains=following.after(str(run["run_id"])) if gives else (),
        )

    def _execution(self, job: Job, run: Mapping[str, typing.Any]) -> int:
        """Which execution of the attempt this is: one that never came to its start is given again."""
        content = self.cloud.read(str(path_of(Path(), str(run["run_id"])))) or b""
        begun = {one.execution for one in parse_starts(content) if one.attempt_id == job.attempt_id}
        number = max(begun, default=-1) + 1 if job.stage == "evaluate" else 0
        while job.stage == "evaluate" and (call := self.cloud.claimed(claim_of(execution_key(job.attempt_id, number)))):
            if not self.cloud.state(call).over:
                break
            number += 1
        return number

    def _give(self, order: Order, handle: Handle) -> Handle:
        handle["call"] = call_once(order, self.cloud)
        folder = self.attempts / order.attempt_id
        write_json(folder / NODE, handle)
        self._follow(handle).start()
        return handle

    def _follow(self, handle: Handle) -> Follower:
        name = handle["attempt_id"]
        try:
            follower = Follower(self.cloud, handle, self.attempts / name)
        except Locked as error:
            raise SubmitError(f"{name} is followed by another process: {error}") from error
        self.followers[name] = follower
        return follower

    def _live(self, attempt_id: str) -> Handle | None:
        follower = self.followers.get(attempt_id)
        return follower.handle if follower is not None and not follower.state.over else None

    def find(self, attempt_id: str) -> Handle | None:
        """What was given to Modal, by whomever, and has more than is here. Where nobody can tell whether the order got
        through it is given again: under the same key, so that only one of both does the work."""
        if attempt_id in self.followers:
            return self._live(attempt_id)  # of one that ended everything is here
        folder = self.attempts / attempt_id
        try:
            handle = read_json(folder / NODE)
        except RunDirError:
            return None  # it was never sent anywhere
        if handle.get("backend") != self.name:
            return None
        if inspect(folder, int(attempt_id.rpartition("-a")[2])).state == "failed":
            return None  # its result was brought last: it has ended, and whoever wants another attempt gets one
        key = execution_key(attempt_id, int(handle["execution"]))
        if call := handle.get("call") or self.cloud.claimed(claim_of(key)) or self.cloud.claimed(owner_of(key)):
            handle["call"] = call
            write_json(folder / NODE, handle)
            self._follow(handle).start()
            return handle
        if self.options_of is None:
            return None
        run = read_json(folder / RUN)
        job = Job(attempt_id, folder, gpus=int(handle["gpus"]), gpu=run["target"]["gpu"], stage=str(handle["stage"]))
        return self._give(self._order(job, run, int(handle["execution"])), handle)

    def poll(self, handle: Handle) -> State:
        name = handle.get("attempt_id")
        if handle.get("backend") != self.name or name not in self.followers:
            raise JobLost(f"{handle} is no handle of this process's calls on Modal")
        follower = self.followers[name]
        if follower.state.cls == "cancelled" and not follower.cancelled:
            self.now.clear()  # somebody else did that: look, before another one is begun
        return follower.state

    def logs(self, handle: Handle, since: int) -> bytes:
        return read_log(self.attempts, handle, since)

    def cancel(self, handle: Handle) -> None:
        follower = self.followers.get(handle["attempt_id"])
        if follower is not None and not follower.state.over:
            follower.cancel()

    def fetch(self, handle: Handle, into: Path) -> None:
        """It has been brought when poll says that it ended."""
        check_in_place(self.attempts, handle, into)

    def close(self) -> None:
        """Let go of what runs; it goes on, and the next process finds it."""
        for follower in self.followers.values():
            follower.close()
        until = time.monotonic() + CLOSE_SECONDS
        for follower in self.followers.values():
            if follower.is_alive():
                follower.join(max(0.0, until - time.monotonic()))
        self.followers.clear()
