"""A cluster as its controller sees it: nodes and what they have free, which are dead and why, tasks pinned to one."""

import logging
import os
import threading
import time
import typing
from collections.abc import Callable, Mapping
from pathlib import Path

from orchestrator.backends.base import BackendError, Unavailable
from orchestrator.backends.private_ray import import_ray, interrupt_deferred, tighten
from orchestrator.checkout import ROOT
from orchestrator.hardware.placement import NodeView, models_of

NAMESPACE = "golf"
HEAD_RESOURCE = "node:__internal_head__"
JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # set in a job, whose packages our workers get by themselves
PACKAGES = ("golf_core", "orchestrator")  # what travels to the nodes where we are no job
LOOK_SECONDS = 1.0  # for which an answer about the nodes is good
MEANT = (1, 3, 4)  # of Ray's reasons for the end of a node: terminated, preempted, idle. The others nobody wanted


class Nodes:
    """One connection of this process to its cluster. Its threads share it."""

    def __init__(self, address: str = "auto", node_ip: str | None = None) -> None:
        with interrupt_deferred():
            self.ray = import_ray()
        if self.ray.is_initialized():
            raise Unavailable("this process has started Ray already, for something else")
        options: dict[str, typing.Any] = {} if node_ip is None else {"_node_ip_address": node_ip}
        if JOB_CONFIG not in os.environ:
            packages = [str(ROOT / name) for name in PACKAGES]
            options["runtime_env"] = {"py_modules": packages, "excludes": ["__pycache__"]}
        try:
            with interrupt_deferred():
                self.ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
        except Exception as error:  # Ray raises what its parts raise
            first = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise Unavailable(
                f"the Ray cluster at {address} did not take us: {first}; look with `ray status`"
            ) from error
        tighten(Path.home() / ".ray" / "auth_token")
        self._lock = threading.Lock()
        self._seen: tuple[float, list[dict[str, typing.Any]], dict[str, dict[str, float]]] | None = None

    def close(self) -> None:
        with interrupt_deferred():
            self.ray.shutdown()

    def _look(self) -> tuple[list[dict[str, typing.Any]], dict[str, dict[str, float]]]:
        """What the head says of every node that ever was, and what the living ones have free. Raises BackendError."""
        with self._lock:
            if self._seen is None or time.monotonic() - self._seen[0] > LOOK_SECONDS:
                try:
                    free = self.ray._private.state.available_resources_per_node()
                    self._seen = (time.monotonic(), self.ray.nodes(), free)
                except Exception as error:  # Ray raises what its parts raise
                    raise BackendError(f"the head of the cluster does not answer: {error}") from error
            return self._seen[1], self._seen[2]

    def views(self) -> list[NodeView]:
        """Of the living nodes."""
        rows, free = self._look()
        return [_view(row, free.get(row["NodeID"], {})) for row in rows if row["Alive"]]

    def host(self, node_id: str) -> str:
        """How people know it."""
        rows, _ = self._look()
        return next((host_of(row) for row in rows if row["NodeID"] == node_id), node_id[:12])

    def knows(self, node_id: str) -> bool:
        """Whether it was ever part of this cluster."""
        rows, _ = self._look()
        return any(row["NodeID"] == node_id for row in rows)

    def death(self, node_id: str) -> tuple[str, str] | None:
        """(class, message) of a node that is gone; None while the head believes that it lives."""
        rows, _ = self._look()
        row = next((one for one in rows if one["NodeID"] == node_id), None)
        if row is None:
            return "node_lost", f"the cluster does not know node {node_id[:12]} any more: its head was started anew"
        if row["Alive"]:
            return None
        why = str(row.get("DeathReasonMessage") or "").strip().partition("\n")[0]
        cls = "preempted" if row.get("DeathReason") in MEANT else "node_lost"
        return cls, f"node {host_of(row)} is gone" + (f": {why}" if why else "")

    def actors(self, beginning: str) -> list[str]:
        """Names of the living actors of ours that begin so. Raises BackendError."""
        try:
            rows = self.ray.util.list_named_actors(all_namespaces=True)
        except self.ray.exceptions.RayError as error:
            raise BackendError(f"the head of the cluster does not answer: {error}") from error
        return [row["name"] for row in rows if row["namespace"] == NAMESPACE and row["name"].startswith(beginning)]

    def pinned(self, node_id: str) -> typing.Any:
        """The scheduling strategy of what runs on this node or nowhere."""
        return self.ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node_id, soft=False)

    def task(self, node_id: str, function: Callable[..., typing.Any], *arguments: typing.Any) -> typing.Any:
        """A reference of what the function gives there. It reserves nothing, so that a busy node answers."""
        options = {"num_cpus": 0, "num_gpus": 0, "max_retries": 0, "scheduling_strategy": self.pinned(node_id)}
        return self.ray.remote(function).options(**options).remote(*arguments)


def _view(row: Mapping[str, typing.Any], free: Mapping[str, float]) -> NodeView:
    resources = row["Resources"]
    return NodeView(
        node_id=row["NodeID"],
        host=host_of(row),
        gpus=int(resources.get("GPU", 0)),
        gpus_free=float(free.get("GPU", 0)),
        cpus=float(resources.get("CPU", 0)),
        cpus_free=float(free.get("CPU", 0)),
        models=models_of(row.get("Labels") or {}, resources),
        head=HEAD_RESOURCE in resources,
    )


def host_of(row: Mapping[str, typing.Any]) -> str:
    """The node's name where it was given one that is not its address."""
    name = str(row.get("NodeName") or "")
    return name if name and name != row.get("NodeManagerAddress") else str(row.get("NodeManagerHostname"))
