"""The plane itself: one thread with one event loop, and the functions by which tests look into it and upset it."""

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpclib.server
from modal_proto import api_pb2

from tests.modal_plane.calls import Calls
from tests.modal_plane.containers import Containers, Setting
from tests.modal_plane.dicts import Blobs, Dicts
from tests.modal_plane.faults import Faults
from tests.modal_plane.images import TOKEN, Environments, Images, Secrets
from tests.modal_plane.logs import Logs
from tests.modal_plane.objects import Apps
from tests.modal_plane.scheduler import Scheduler
from tests.modal_plane.server import Caller, Front, Service
from tests.modal_plane.volumes import Volumes
from tests.modal_plane.world import App, Call, Container, World

T = TypeVar("T")

STATUS = {
    value: name.removeprefix("GENERIC_STATUS_").lower() for name, value in api_pb2.GenericResult.GenericStatus.items()
}
PASSED_ON = ("PATH", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "OMP_NUM_THREADS", "VIRTUAL_ENV")


@dataclass(frozen=True)
class CallView:
    call_id: str
    app: str  # its deployment's name, or its description
    function: str
    created: float
    state: str  # queued, running, done
    results: tuple[str, ...]  # success, failure, terminated, timeout, ... of the inputs that are done
    containers: tuple[str, ...]  # every container that was given one of its inputs, in that order


@dataclass(frozen=True)
class ContainerView:
    task_id: str
    function: str
    calls: tuple[str, ...]
    gpus: int
    gpu_type: str
    alive: bool
    started: float
    seconds: float  # lived so far
    exit_code: int | None
    fate: str  # why the plane ended it: preempted, lost, moved, cancelled, timeout, stopped; empty: it ended by itself


class Plane:
    """See the package's docstring. Use it with `with`; all that it started is gone when the block ends.

    folder: a folder of its own, made where it is missing: volumes/NAME holds the committed files of each volume.
    gpus: what NVML names the GPUs that a function declares: {"H100!": "NVIDIA H100 80GB HBM3"}, "*" for any other.
    gpu_capacity: GPUs that may be in use at a time; inputs that need more stay queued. None: no limit.
    paths, variables: folders put on the PYTHONPATH of containers, variables put in their environment.
    grace: seconds from the interrupt of a preempted container to its kill.
    background_commits: seconds between commits of a container's volumes that its code did not ask for; one more
        follows its end, unless its machine is lost. None: there are none.
    client_timeout: seconds after its client's last heartbeat when an app that is not deployed is stopped.
    idempotent: answer a repeated request (same idempotency key) with the first answer, as a kind server would.
    """

    def __init__(
        self,
        folder: Path,
        *,
        gpus: Mapping[str, str | Sequence[str]] | None = None,
        gpu_capacity: int | None = None,
        paths: Sequence[Path] = (),
        variables: Mapping[str, str] | None = None,
        grace: float = 5.0,
        background_commits: float | None = None,
        client_timeout: float = 15.0,
        idempotent: bool = False,
    ) -> None:
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.client_timeout = client_timeout
        self.faults = Faults()
        self.world = World(self.folder)
        self.logs = Logs(self.world)
        self.images = Images(self.world)
        self.secrets = Secrets(self.world)
        self.dicts = Dicts(self.world)
        self.volumes = Volumes(self.world)
        self.blobs = Blobs(self.world, self.volumes.web)
        self.apps = Apps(self.world, self._stop, self._leave)
        self.sockets = Path(tempfile.mkdtemp(prefix="plane-"))  # the path of a unix socket must be short
        self.service = Service(self.faults, TOKEN, idempotent)
        below = (self.apps, self.images, self.volumes, self.blobs)
        setting = Setting(gpus or {}, variables or {}, paths, grace, background_commits)
        self.pool = Containers(self.world, self.service, self.logs, below, self.sockets, setting)
        self.scheduler = Scheduler(self.world, self.pool, gpu_capacity)
        self.apps.published = self.scheduler.kick
        calls = Calls(self.world, self.apps, self.scheduler)
        for room in (*below, calls, self.secrets, self.dicts, self.logs, Environments()):
            self.service.add(room)
        self.front = Front(str(self.sockets / "clients.sock"))
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run, name="modal-plane", daemon=True)

    # Life

    def __enter__(self) -> "Plane":
        self.thread.start()
        self._ask(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        self._ask(self._close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        shutil.rmtree(self.sockets)

    def environment(self) -> dict[str, str]:
        """For the processes of a client: a home of its own, and where the plane is."""
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        return passed | {
            "HOME": str(home),
            "PATH": f"{Path(sys.executable).parent}:{passed.get('PATH', os.defpath)}",
            "MODAL_SERVER_URL": f"http://127.0.0.1:{self.front.port}",
            "MODAL_TOKEN_ID": TOKEN[0],
            "MODAL_TOKEN_SECRET": TOKEN[1],
            "MODAL_CONFIG_PATH": str(home / "modal.toml"),
            "MODAL_DISABLE_API_PROXY": "1",
            "MODAL_HEARTBEAT_INTERVAL": "2",
        }

    # Looking

    def calls(self) -> list[CallView]:
        return self._do(lambda: [_call_view(call) for call in self.world.calls.values()])

    def containers(self) -> list[ContainerView]:
        return self._do(lambda: [self._container_view(it) for it in self.world.containers.values()])

    @property
    def unknown(self) -> list[str]:
        """RPCs that were refused because this plane does not serve them."""
        return list(self.service.unknown)

    @property
    def errors(self) -> list[str]:
        """Mistakes of this plane itself, as tracebacks."""
        return list(self.service.errors)

    def requests(self, rpc: str, caller: str = "any") -> int:
        """How often an RPC arrived, by the client, by containers or by any; repetitions counted."""
        return sum(name == rpc and caller in ("any", kind) for name, kind in list(self.service.seen))

    def billed(self) -> float:
        """GPU-seconds so far: of every container, the seconds it lived times the GPUs its function declares."""
        return sum(it.seconds * it.gpus for it in self.containers())

    def log(self, call_id: str) -> str:
        """What containers printed while they worked at a call."""
        return self.logs.text(call_id)

    def payloads(self, call_id: str) -> list[bytes]:
        """What a call was given, as it was sent."""
        return self._do(lambda: [it.payload.SerializeToString() for it in self.world.calls[call_id].inputs])

    def recipes(self) -> list[list[str]]:
        """Of each image its Dockerfile lines, those of the images below it included."""
        return self._do(lambda: [self.images.recipe(image_id) for image_id in self.world.images])

    def definition(self, app: str, function: str) -> api_pb2.Function:
        """What was deployed: resources, timeout, volumes, retries, as the client sent them."""

        def find() -> api_pb2.Function:
            deployed = self.apps.deployed(app, "")
            if deployed is None:
                raise LookupError(f"no app {app!r} is deployed")
            return self.world.functions[deployed.function_ids[function]].definition

        return self._do(find)

    def entries(self, name: str) -> dict[object, object]:
        """A Dict's entries."""
        return self._do(lambda: self.dicts.read(name))

    def volume(self, name: str) -> Path:
        """Where the committed files of a volume lie."""
        return self.folder / "volumes" / name

    # Upsetting

    def secret(self, name: str, variables: Mapping[str, str]) -> None:
        """Creates a secret, as the account's owner does on the dashboard."""
        self._do(lambda: self.secrets.create(name, dict(variables)))

    def preempt(self, call_id: str, grace: float | None = None) -> None:
        """Interrupts the containers at work on a call, kills them after the grace, and gives its inputs to new ones."""
        self._end(call_id, "preempted", grace)

    def lose_worker(self, call_id: str) -> None:
        """The machine below a container is gone without a word; its input is given to a new one."""
        self._end(call_id, "lost", 0)

    def crash(self, call_id: str) -> None:
        """Kills the containers at work on a call as the kernel does when memory runs out: the call fails."""
        self._end(call_id, "", 0)

    def time_out(self, call_id: str) -> None:
        """What happens to a call over its function's timeout, now."""

        def late() -> None:
            for given in self.world.calls[call_id].inputs:
                self.scheduler.timed_out(given)

        self._do(late)

    def deliver_twice(self, call_id: str) -> None:
        """Gives each running input of a call to a second container too, as far as max_containers allows."""

        def again() -> None:
            for given in self.world.calls[call_id].inputs:
                if given.state == "running":
                    self.scheduler.delivered_twice(given)

        self._do(again)

    def show_gpus(self, gpus: Mapping[str, str | Sequence[str]]) -> None:
        """As `gpus`, for containers from now on; a sequence of names is all that they find."""
        self.pool.setting.gpus = gpus

    def set_gpu_capacity(self, gpus: int | None) -> None:
        def change() -> None:
            self.scheduler.gpu_capacity = gpus
            self.scheduler.kick()

        self._do(change)

    def expire_entry(self, name: str, key: object) -> bool:
        """Forgets a Dict's entry, as after seven days unused; whether it was there."""
        return self._do(lambda: self.dicts.expire(name, key))

    def expire_outputs(self, call_id: str) -> None:
        """Forgets what a call returned, as after seven days."""

        def forget() -> None:
            self.world.calls[call_id].expired = True
            self.world.bell.ring()

        self._do(forget)

    def break_builds(self, message: str) -> None:
        """Every image that is not built yet fails to build with this message; an empty one mends it."""
        self.images.broken = message

    def cut(self) -> None:
        """Drops every connection of clients without a word; new ones are taken."""
        self._do(self.front.cut)

    @contextlib.contextmanager
    def unreachable(self) -> Iterator[None]:
        """While the block runs clients cannot connect, and their connections are gone; containers work on."""
        self._ask(self.front.shut())
        try:
            yield
        finally:
            self._ask(self.front.open())

    # Inside

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self.loop.close()

    def _ask(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def _do(self, work: Callable[[], T]) -> T:
        async def run() -> T:
            return work()

        return self._ask(run())

    async def _open(self) -> None:
        await self.volumes.web.open()
        self.clients = grpclib.server.Server([self.service.servable(Caller())])
        await self.clients.start(path=self.front.path)
        await self.front.open()
        self.watch = self.loop.create_task(self._watch_clients())

    async def _close(self) -> None:
        self.watch.cancel()
        await self.pool.close()
        await self.front.shut()
        self.clients.close()
        await self.clients.wait_closed()
        await self.volumes.web.shut()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self.loop.shutdown_default_executor()

    async def _watch_clients(self) -> None:
        """Stops the apps whose client was not heard of for too long, unless they are deployed or detached."""
        while True:
            await asyncio.sleep(0.5)
            late = time.monotonic() - self.client_timeout
            for app in list(self.world.apps.values()):
                if app.state == api_pb2.APP_STATE_EPHEMERAL and app.heard < late:
                    await self.scheduler.stop(app)

    async def _stop(self, app: App) -> None:
        await self.scheduler.stop(app)

    async def _leave(self, app: App) -> None:
        await self.scheduler.leave(app)

    def _end(self, call_id: str, fate: str, grace: float | None) -> None:
        def end() -> None:
            call = self.world.calls[call_id]
            at_work = [it for it in self.world.containers.values() if any(given in it.running for given in call.inputs)]
            if not at_work:
                raise LookupError(f"no container is at work on {call_id}")
            for container in at_work:
                self.pool.end(container, fate, grace)

        self._do(end)

    def _container_view(self, container: Container) -> ContainerView:
        given = [it for it in self.world.inputs.values() if container.task_id in it.containers]
        return ContainerView(
            container.task_id,
            container.function.tag,
            tuple(it.call.call_id for it in given),
            container.gpus,
            container.gpu_type,
            container.alive,
            container.started,
            container.seconds,
            container.exit_code,
            container.fate,
        )


def _call_view(call: Call) -> CallView:
    states = {given.state for given in call.inputs}
    state = "running" if "running" in states else "queued" if "queued" in states else "done"
    app = call.function.app
    containers = tuple(task_id for given in call.inputs for task_id in given.containers)
    results = tuple(STATUS[item.result.status] for _, item in call.outputs)
    return CallView(
        call.call_id, app.name or app.description, call.function.tag, call.created, state, results, containers
    )
