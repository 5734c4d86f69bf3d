"""An ordered map over Ray tasks: results in the order of the items, few of them under way at any time.

The driver reads the items and hands them out, at most `window` ahead of what was taken, so that neither its memory
nor Ray's object store grows with the input. Items travel as arguments: the workers need to see no file. A task must
be pure: where its worker or its whole node is lost it runs again, and no one can tell. Ray is one that this process
starts, or a cluster on a node of which this process runs; there our packages travel along, the workers need not have
them installed.
"""

import contextlib
import logging
import socket
import typing
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from orchestrator.backends.base import BackendError, Unavailable
from orchestrator.backends.private_ray import (
    OBJECT_STORE_BYTES,
    PrivateRay,
    import_ray,
    interrupt_deferred,
    tighten,
)
from orchestrator.checkout import ROOT
from orchestrator.errors import UsageError

Item = typing.TypeVar("Item")
Result = typing.TypeVar("Result")

AHEAD = 3  # items under way a worker: one in work, one that waits for it, one whose turn has not come
TRIES = 3  # of an item whose worker dies
SILENCE_SECONDS = 60.0  # without any result: then it is told what the cluster has
CONNECT_SECONDS = 5.0
PACKAGES = ("golf_core", "orchestrator")  # what travels to the workers of a cluster
TELLING_NOTHING: Callable[[str], None] = lambda line: None  # noqa: E731

_made: dict[str, Callable[[typing.Any], typing.Any]] = {}  # of a worker process: the function it was told to make


def apply(key: str, boxed_recipe: list[typing.Any], item: typing.Any) -> typing.Any:
    """Runs on a worker. The recipe is a reference in a list, which Ray does not fetch anew for every task."""
    if key not in _made:
        _made.clear()
        _made[key] = import_ray().get(boxed_recipe[0])()
    return _made[key](item)


class RayTasks:
    """Ray for as long as the `with` lasts. Without an address it is private and has `workers` CPUs."""

    def __init__(self, workers: int, item_bytes: int, address: str | None = None) -> None:
        """`item_bytes`: about how large an item is, and its result."""
        self.workers, self.window = workers, AHEAD * workers
        self.own: PrivateRay | None = None
        if address is None:
            # Twice what can be under way: objects are let go a little after they were used.
            self.own = PrivateRay(workers, max(OBJECT_STORE_BYTES, 2 * self.window * 2 * item_bytes))
            self.ray = self.own.ray
            self.where = f"local Ray with {workers} worker{'s' if workers > 1 else ''}"
        else:
            self.ray = _connect(address)
            nodes = [node for node in self.ray.nodes() if node["Alive"]]
            cpus = int(self.ray.cluster_resources().get("CPU", 0))
            if cpus < 1:
                self.close()
                raise Unavailable(f"the Ray cluster at {address} has no CPU for a task; start a worker node with CPUs")
            self.where = (
                f"the Ray cluster at {address}: live nodes {len(nodes)}, CPUs {cpus}, blocks under way {self.window}"
            )

    def __enter__(self) -> "RayTasks":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self.own is not None:
            self.own.close()
        else:
            with interrupt_deferred():
                self.ray.shutdown()  # leaves the cluster; what it still had to do for us is dropped

    def ordered_map(
        self,
        make: Callable[[], Callable[[Item], Result]],
        items: Iterable[Item],
        tell: Callable[[str], None] = TELLING_NOTHING,
        name: Callable[[Item], str] = str,
    ) -> Iterator[Result]:
        """What the function that `make` makes, once in every worker, gives for each item, in order.

        An exception of the function, or of the items, comes out here as it is, behind the results before it. Raises
        BackendError where workers die again and again."""
        key, recipe = uuid.uuid4().hex, [self.ray.put(make)]
        task = self.ray.remote(num_cpus=1, max_retries=TRIES, retry_exceptions=False)(apply)
        under_way: deque[tuple[typing.Any, Item]] = deque()

        def begin(item: Item) -> tuple[typing.Any, Item]:
            return task.remote(key, recipe, item), item

        def first() -> Result:
            """Of the oldest item; begun anew where its result was lost, with a node, after it was made."""
            for left in reversed(range(TRIES)):
                reference, item = under_way[0]
                try:
                    result: Result = self._wait_for(reference, name(item), tell)
                    under_way.popleft()
                    return result
                except self.ray.exceptions.ObjectLostError as error:  # Ray kept no copy of the item
                    if not left:
                        raise BackendError(f"{name(item)}: lost with its node {TRIES} times: {_line(error)}") from error
                    under_way[0] = begin(item)
            raise AssertionError("the loop ends by return or raise")

        def readable() -> Iterator[Item]:
            try:
                yield from items
            except Exception as error:  # told in its turn: what was read before it is not lost
                broken.append(error)

        broken: list[Exception] = []
        try:
            for item in readable():
                under_way.append(begin(item))
                if len(under_way) >= self.window:
                    yield first()
            while under_way:
                yield first()
            if broken:
                raise broken[0]
        finally:
            for reference, _ in under_way:
                with contextlib.suppress(self.ray.exceptions.RayError):
                    self.ray.cancel(reference, force=False)

    def _wait_for(self, reference: typing.Any, name: str, tell: Callable[[str], None]) -> typing.Any:
        errors = self.ray.exceptions
        try:
            while not self.ray.wait([reference], timeout=SILENCE_SECONDS)[0]:
                tell(f"no result for {SILENCE_SECONDS:.0f} s; {self._load()}")
            return self.ray.get(reference)
        except errors.ObjectLostError:
            raise
        except errors.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, Exception) else BackendError(_line(error))) from None
        except errors.RayError as error:
            raise BackendError(
                f"{name}: a worker died {TRIES + 1} times on it: {_line(error)}; memory that ran out is the usual "
                "cause: take fewer --workers"
            ) from error

    def _load(self) -> str:
        there = int(self.ray.cluster_resources().get("CPU", 0))
        free = int(self.ray.available_resources().get("CPU", 0))
        return f"Ray has {there} CPUs, {free} of them free" + ("" if free else ": it is busy with other work?")


def _line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def check_address(address: str) -> None:
    """Raise a UsageError for an address that cannot be one of a cluster that this process is part of."""
    if address.startswith("ray://"):
        raise UsageError(
            f"--address {address}: Ray Client is not supported, since every block would pass a proxy that breaks when "
            "its connection does; run this command on a node of the cluster, with --address auto"
        )
    host, _, port = address.rpartition(":")
    if address != "auto" and not (host and port.isdecimal() and int(port) < 65536):
        raise UsageError(f"--address {address!r} is neither auto nor HOST:PORT (of the head, as in 10.0.0.1:6379)")


def _connect(address: str) -> typing.Any:
    """Ray of a cluster; its worker processes get our packages. Raises UsageError or Unavailable."""
    check_address(address)
    if address != "auto":
        host, _, port = address.rpartition(":")
        try:  # Ray itself would wait for a minute, and then end the process
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        except OSError as error:
            raise Unavailable(f"nothing answers at --address {address}: {error}; look with `ray status`") from None
    ray = import_ray()
    if ray.is_initialized():
        raise Unavailable("this process has started Ray already, for something else")
    packages = {"py_modules": [str(ROOT / name) for name in PACKAGES], "excludes": ["__pycache__"]}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, runtime_env=packages)
    except Exception as error:  # Ray raises what its parts raise
        mend = "this command must run on a node of the cluster"
        if "AuthToken" in f"{error} {error.__cause__}":
            mend = "it wants its token: set RAY_AUTH_MODE=token, with the token in ~/.ray/auth_token or RAY_AUTH_TOKEN"
        raise Unavailable(
            f"Ray at --address {address} did not take us: {_line(error)}; {mend}; without --address a Ray of its own "
            "is started, and --on process needs none"
        ) from error
    tighten(Path.home() / ".ray" / "auth_token")
    return ray
