"""Attempts on the nodes of a Ray cluster, driven from its head.

An attempt is a detached actor on the node that placement chose: it outlives this process. What runs is found again by
the actor's name, what has ended by looking into its folder on the nodes; only what is neither is started. The runs
folder here is a mirror that becomes the attempt itself once everything sealed has been brought and verified.
"""

import contextlib
import secrets
import time
import typing
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from golf_core.rundir import BUNDLE, RESULT, RUN, TRAIN_SEAL, RunDirError, read_json, verify_seal, write_json
from orchestrator.attempts import ATTEMPTS, NODE
from orchestrator.backends import ray_node
from orchestrator.backends.base import BackendError, Handle, Job, JobLost, Refused, State, SubmitError, Unavailable
from orchestrator.backends.in_place import check_in_place, read_log
from orchestrator.backends.ray_follow import Follower
from orchestrator.backends.ray_nodes import NAMESPACE, Nodes
from orchestrator.cluster.options import ClusterOptions
from orchestrator.hardware.placement import AllRefused, Ask, Infeasible, NodeView, Place, Use, place
from orchestrator.policy import OF_THE_NODE, OUTSIDE
from orchestrator.proc import Locked, folder_lock
from orchestrator.spec import Limits
from orchestrator.worker.attempt import cut_to_train_seal

ACTOR = "golf:"  # before the id of its attempt: the name of an actor
FIND_SECONDS = 20.0  # for the nodes' answers whether an attempt lies there
REJOIN_SECONDS = 180.0  # for a node to join a cluster that was started anew
TURN_SECONDS = 60.0  # for another controller to begin an attempt
CLOSE_SECONDS = 5.0  # for the threads to let go


class RayClusterBackend:
    name = "ray-cluster"
    outlives = True

    def __init__(
        self, runs_dir: Path, options: ClusterOptions, address: str = "auto", node_ip: str | None = None
    ) -> None:
        """Connected at once. Raises Unavailable."""
        self.attempts = (runs_dir / ATTEMPTS).resolve()
        self.options = options
        self.nodes = Nodes(address, node_ip)
        self.followers: dict[str, Follower] = {}
        self.refused: dict[str, str] = {}  # node id -> why: as long as this process lives, since nodes are mended
        self.faults: Counter[str] = Counter()
        self.ended: set[str] = set()
        self.began = time.monotonic()

    def hold(self, job: Job) -> str | None:
        return self._place(job).reason or None

    def _place(self, job: Job) -> Place:
        """Raises Unavailable."""
        mine: dict[str, Use] = {}
        for follower in self.followers.values():
            if not follower.state.over:
                use = Use(follower.handle["gpus"], follower.handle["cpus"])
                mine[follower.node_id] = mine.get(follower.node_id, Use()) + use
        try:
            return place(
                Ask(gpus=job.gpus, gpu=job.gpu, cpus=job.cpus),
                self.nodes.views(),
                refused=self.refused,
                mine=mine,
                faults=self.faults,
                max_gpus=self.options.max_gpus,
                others=self._held_by_others(),
            )
        except AllRefused as error:
            raise Refused(str(error)) from error
        except Infeasible as error:
            unavailable = Unavailable(str(error))
            unavailable.passing = bool(self.followers)
            raise unavailable from error

    def _held_by_others(self) -> int:
        """GPUs of attempts of this state folder that run and that other controllers follow, or none: max_gpus is one
        number for all of them."""
        if self.options.max_gpus is None:
            return 0
        held = 0
        for name in self.nodes.actors(ACTOR):
            if self._live(name.removeprefix(ACTOR)) is None:
                with contextlib.suppress(RunDirError):  # it is of another state folder
                    held += int(read_json(self.attempts / name.removeprefix(ACTOR) / NODE)["gpus"])
        return held

    def start(self, job: Job) -> Handle:
        if (live := self._live(job.attempt_id)) is not None:
            return live
        if (actor := self._actor(job.attempt_id)) is not None:
            return self._adopt(job.attempt_id, actor)
        if self.options.max_gpus is None:
            return self._begin(job)
        try:
            with folder_lock(self.attempts, TURN_SECONDS):  # nobody else begins between our count and our start
                return self._begin(job)
        except Locked as error:
            raise SubmitError(f"other controllers begin attempts: {error}") from error

    def _begin(self, job: Job) -> Handle:
        chosen = self._place(job)
        if chosen.node is None:
            raise SubmitError(chosen.reason)
        handle: Handle = {
            "backend": self.name,
            "attempt_id": job.attempt_id,
            "node": chosen.node.node_id,
            "host": chosen.node.host,
            "node_dir": self.options.node_dir,
            "home": chosen.node.node_id[:12],
            "launch": secrets.token_hex(4),
            "gpus": job.gpus,
            "cpus": 0 if job.gpus else job.cpus,
        }
        try:
            files = files_to_send(job.folder, job.stage)
            seconds = Limits(**read_json(job.folder / RUN)["limits"]).attempt_s
            write_json(job.folder / NODE, handle)  # before there is anything to be found by it
        except (OSError, RunDirError) as error:
            raise SubmitError(f"{job.folder} cannot be sent: {error}") from error
        follower = self._follow(handle, None)
        try:
            actor = self._make_actor(handle, seconds)
            follower.begun = actor.run.remote(files, self.options.storage)
        except (self.nodes.ray.exceptions.RayError, ValueError) as error:
            follower.release()
            del self.followers[job.attempt_id]
            raise SubmitError(f"Ray refused the attempt: {error}") from error
        follower.actor = actor
        follower.start()
        return handle

    def _make_actor(self, handle: Handle, seconds: float) -> typing.Any:
        where: ray_node.Place = (handle["node_dir"], handle["home"], handle["attempt_id"])
        options = {
            "name": actor_name(handle["attempt_id"]),
            "namespace": NAMESPACE,
            "lifetime": "detached",
            "max_restarts": 0,
            "max_task_retries": 0,
            "max_concurrency": 8,
            "num_cpus": handle["cpus"],
            "num_gpus": handle["gpus"],
            "scheduling_strategy": self.nodes.pinned(handle["node"]),
            "runtime_env": {"env_vars": {"RAY_worker_niceness": "0"}},  # else ranks run at nice 15
        }
        actor_class = self.nodes.ray.remote(ray_node.NodeAttempt).options(**options)
        return actor_class.remote(where, handle["launch"], seconds)

    def find(self, attempt_id: str) -> Handle | None:
        """What runs, or has ended and left something that is not here yet. Raises BackendError where the node that it
        ran on lives but does not answer."""
        if attempt_id in self.followers:
            return self._live(attempt_id)  # of one that ended everything is here
        if (actor := self._actor(attempt_id)) is not None:
            return self._adopt(attempt_id, actor)
        try:
            handle = read_json(self.attempts / attempt_id / NODE)
        except RunDirError:
            return None  # it was never sent anywhere
        return self._find_left(handle)

    def _live(self, attempt_id: str) -> Handle | None:
        follower = self.followers.get(attempt_id)
        return follower.handle if follower is not None and not follower.state.over else None

    def _actor(self, attempt_id: str) -> typing.Any:
        try:
            return self.nodes.ray.get_actor(actor_name(attempt_id), namespace=NAMESPACE)
        except ValueError:
            return None

    def _adopt(self, attempt_id: str, actor: typing.Any) -> Handle:
        try:
            handle = read_json(self.attempts / attempt_id / NODE)
        except RunDirError as error:
            raise SubmitError(f"{actor_name(attempt_id)} runs on the cluster, but not for this runs folder") from error
        follower = self._follow(handle, actor)
        follower.send = lambda: self._send(follower)
        follower.start()
        return handle

    def _send(self, follower: Follower) -> None:
        """To an actor whose controller died before it gave the order; a second order does nothing."""
        stage = "evaluate" if (follower.folder / TRAIN_SEAL).exists() else "train"
        files = files_to_send(follower.folder, stage)
        follower.begun = follower.actor.run.remote(files, self.options.storage)

    def _follow(self, handle: Handle, actor: typing.Any) -> Follower:
        name = handle["attempt_id"]
        try:
            follower = Follower(self.nodes, handle, self.attempts / name, actor, self.options.storage)
        except Locked as error:
            raise SubmitError(f"{name} is followed by another process: {error}") from error
        self.followers[name] = follower
        self.ended.discard(name)
        return follower

    def _find_left(self, handle: Handle) -> Handle | None:
        """Where the attempt's own folder of that launch lies: on its node, or on one that has its disk."""
        where: ray_node.Place = (handle["node_dir"], handle["home"], handle["attempt_id"])
        views = sorted(self.nodes.views(), key=lambda view: view.node_id != handle["node"])
        asked = {self.nodes.task(view.node_id, ray_node.look, where, {}): view for view in views}
        ready, late = self.nodes.ray.wait(list(asked), num_returns=len(asked), timeout=FIND_SECONDS)
        for reference in sorted(ready, key=lambda one: asked[one].node_id != handle["node"]):
            try:
                seen = self.nodes.ray.get(reference)
            except self.nodes.ray.exceptions.RayError:
                late.append(reference)  # its answer was lost
                continue
            if seen["launch"] == handle["launch"] and self._is_news(handle["attempt_id"], seen):
                found = {**handle, "node": asked[reference].node_id}
                self._follow(found, None).start()
                return found
        silent = [asked.pop(one) for one in late]
        self._check_all_answered(handle, list(asked.values()), silent)
        if self.options.storage is not None and self.nodes.death(handle["node"]) is not None:
            self._follow(handle, None).start()
            return handle
        return None

    def _check_all_answered(self, handle: Handle, answered: Sequence[NodeView], silent: Sequence[NodeView]) -> None:
        """Raises BackendError while the attempt may lie on a node that has told nothing. A node is another one after
        its start; where the whole cluster was started anew, its nodes come back one by one."""
        if any(view.node_id == handle["node"] for view in answered):
            return
        if silent:
            told = ", ".join(view.host for view in silent)
            raise BackendError(f"{told}: alive, but no answer yet; {handle['attempt_id']} may lie there")
        back = handle["host"] in {view.host for view in answered}
        if not back and not self.nodes.knows(handle["node"]) and time.monotonic() - self.began < REJOIN_SECONDS:
            raise BackendError(f"{handle['host']} is not back in the cluster; {handle['attempt_id']} may lie there")

    def _is_news(self, attempt_id: str, seen: Mapping[str, typing.Any]) -> bool:
        """Whether the folder on the node has what this one lacks."""
        folder = self.attempts / attempt_id
        if seen["busy"] or (seen["train_sealed"] and not (folder / TRAIN_SEAL).exists()):
            return True
        here = (folder / RESULT).read_bytes() if (folder / RESULT).exists() else None
        return seen["result"] not in (None, here)

    def poll(self, handle: Handle) -> State:
        name = handle.get("attempt_id")
        if handle.get("backend") != self.name or name not in self.followers:
            raise JobLost(f"{handle} is no handle of this process's cluster")
        follower = self.followers[name]
        state = follower.state
        if state.over and name not in self.ended:
            self.ended.add(name)
            self._learn(follower, state)
        return state

    def _learn(self, follower: Follower, state: State) -> None:
        """What an end says of its node."""
        cls, message = state.cls, state.message
        if state.phase == "ended":
            try:
                result = read_json(follower.folder / RESULT)
            except RunDirError:
                return
            cls, message = str(result.get("class")), str(result.get("message"))
        if cls in OF_THE_NODE:
            self.refused[follower.node_id] = message
        elif cls in OUTSIDE and cls != "cancelled":
            self.faults[follower.node_id] += 1

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
        """Let go of what runs; it goes on, and the next controller finds it."""
        for follower in self.followers.values():
            follower.close()
        for follower in self.followers.values():
            if follower.is_alive():
                follower.join(CLOSE_SECONDS)
        self.followers.clear()
        self.nodes.close()


def actor_name(attempt_id: str) -> str:
    return f"{ACTOR}{attempt_id}"


def files_to_send(folder: Path, stage: str) -> dict[str, bytes]:
    """What an attempt begins with; of one whose training is sealed, that."""
    names = [RUN, BUNDLE]
    if stage == "evaluate":
        cut_to_train_seal(folder)
        (folder / RESULT).unlink(missing_ok=True)
        names = [*verify_seal(folder, TRAIN_SEAL)["files"], TRAIN_SEAL]
        names += [path.name for path in folder.glob("evaluate-*.void.log")]
    return {name: (folder / name).read_bytes() for name in names}
