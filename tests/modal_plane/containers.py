"""Containers: real processes that run the wheel's own entry point, each with a root folder and a socket of its own."""

import asyncio
import json
import os
import signal
import site
import sys
import time
import traceback
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpclib.server
from modal_proto import api_pb2

from tests.modal_plane.dicts import Blobs
from tests.modal_plane.images import Images
from tests.modal_plane.logs import Logs
from tests.modal_plane.objects import ENVIRONMENT, Apps
from tests.modal_plane.server import Caller, Service
from tests.modal_plane.volumes import Volumes
from tests.modal_plane.world import Container, Function, World

ENTER = Path(__file__).with_name("enter.py")
NVML = Path(__file__).with_name("pynvml_stub.py")
SYSTEM = ("bin", "dev", "etc", "lib", "lib32", "lib64", "libx32", "opt", "sbin", "sys", "usr")  # seen as on the host
LINE = 1 << 14  # a line longer than this is told of in pieces


@dataclass
class Setting:
    """What all containers of a plane are given."""

    gpus: Mapping[str, str | Sequence[str]] = field(default_factory=dict)  # declared GPU -> what NVML names it, or all
    environment: Mapping[str, str] = field(default_factory=dict)
    paths: Sequence[Path] = ()  # folders put first on PYTHONPATH, read-only
    grace: float = 5.0  # seconds between the interrupt and the kill
    background_commits: float | None = None  # seconds between two; None: there are none


class Containers:
    def __init__(
        self,
        world: World,
        service: Service,
        logs: Logs,
        rooms: tuple[Apps, Images, Volumes, Blobs],
        sockets: Path,
        setting: Setting,
    ) -> None:
        self.world = world
        self.service = service
        self.logs = logs
        self.apps, self.images, self.volumes, self.blobs = rooms
        self.sockets = sockets
        self.setting = setting
        self.tasks: set[asyncio.Task[None]] = set()
        self.ended: Callable[[Container], None] = lambda container: None  # who is told when one has ended

    def start(self, function: Function) -> Container:
        task_id = self.world.new_id("ta")
        definition = function.definition
        gpu = definition.resources.gpu_config
        folder = self.world.folder / "containers" / task_id
        kind = gpu.gpu_type if gpu.count else ""
        container = Container(task_id, function, definition, function.version, folder, gpu.count, kind)
        self.world.containers[task_id] = container
        self.background(self._live(container))
        return container

    def end(self, container: Container, fate: str, grace: float | None = None) -> None:
        """Interrupts it, and kills it `grace` seconds later; with a grace of 0 at once."""
        container.fate = container.fate or fate
        container.stopping = True
        self.world.bell.ring()
        self.background(self._end(container, self.setting.grace if grace is None else grace))

    def background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def close(self) -> None:
        """Kills all that live and waits until nothing of them is left."""
        for container in self.world.containers.values():
            if container.alive:
                self.end(container, "stopped", 0)
        while self.tasks:
            await asyncio.wait(self.tasks)

    async def _end(self, container: Container, grace: float) -> None:
        if grace > 0:
            self._signal(container, signal.SIGINT)
            await self.world.bell.until(lambda: not container.alive, timeout=grace)
        if container.alive:
            self._signal(container, signal.SIGUSR2)

    def _signal(self, container: Container, number: int) -> None:
        if container.process is not None and container.process.returncode is None:
            container.process.send_signal(number)

    async def _live(self, container: Container) -> None:
        """Its whole life, from an empty folder to its last line."""
        server = grpclib.server.Server([self.service.servable(Caller(container))])
        socket = self.sockets / f"{container.task_id}.sock"
        try:
            await server.start(path=str(socket))
            plan = await asyncio.to_thread(self._prepare, container, socket)
            if not container.fate:
                container.exit_code = await self._run(container, plan)
            if container.fate != "lost":
                await self._commit(container)
        except Exception:
            self.service.errors.append(f"container {container.task_id}: {traceback.format_exc()}")
            container.exit_code = 125
        finally:
            server.close()
            await server.wait_closed()
            socket.unlink(missing_ok=True)
            container.ended = time.monotonic()
            self.ended(container)
            self.world.bell.ring()

    async def _run(self, container: Container, plan: Path) -> int:
        process = container.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", str(ENTER), str(plan)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdout is not None and process.stderr is not None
        if container.fate:  # it was ended while it was being started
            self._signal(container, signal.SIGUSR2)
        self.background(self._commit_now_and_then(container))
        await asyncio.gather(
            self._pump(container, process.stdout, api_pb2.FILE_DESCRIPTOR_STDOUT),
            self._pump(container, process.stderr, api_pb2.FILE_DESCRIPTOR_STDERR),
        )
        return await process.wait()

    async def _commit_now_and_then(self, container: Container) -> None:
        while self.setting.background_commits is not None:
            if await self.world.bell.until(lambda: not container.alive, timeout=self.setting.background_commits):
                return
            await self._commit(container)

    async def _commit(self, container: Container) -> None:
        """What the container wrote until now, whatever its code says of it; where such commits are asked for."""
        if self.setting.background_commits is not None:
            for mount in container.definition.volume_mounts:
                copy = self.volumes.copies.get((container.task_id, mount.volume_id))
                if copy is not None and mount.allow_background_commits:
                    await asyncio.to_thread(copy.commit)

    async def _pump(self, container: Container, stream: asyncio.StreamReader, source: int) -> None:
        rest = b""
        while chunk := await stream.read(1 << 16):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self.logs.write(container, source, line.decode(errors="replace") + "\n")
            if len(rest) > LINE:
                self.logs.write(container, source, rest.decode(errors="replace"))
                rest = b""
        if rest:
            self.logs.write(container, source, rest.decode(errors="replace"))

    def _prepare(self, container: Container, socket: Path) -> Path:
        """Lays out the container's root: its files in it, the folders of the host that it sees noted to be bound."""
        root = container.folder / "root"
        definition = container.definition
        binds: list[tuple[str, str, bool]] = []
        for name in ("root", "tmp", "var/tmp", "run", "home", "mnt", "proc", "__modal"):
            (root / name).mkdir(parents=True)
        for name in SYSTEM:
            host = Path("/", name)
            if host.is_symlink():
                (root / name).symlink_to(os.readlink(host))
            elif host.is_dir():
                (root / name).mkdir()
                binds.append((str(host), f"/{name}", False))
        for folder in _interpreter():
            (root / folder.lstrip("/")).mkdir(parents=True)
            binds.append((folder, folder, True))
        (root / "__modal/plane.sock").touch()
        binds.append((str(socket), "/__modal/plane.sock", False))
        for mount_id in definition.mount_ids:
            self.blobs.lay(mount_id, root)
        for mount in definition.volume_mounts:
            target = root / mount.mount_path.lstrip("/")
            target.mkdir(parents=True, exist_ok=True)
            seen = self.volumes.mount(container.task_id, mount, container.folder / "volumes" / mount.volume_id)
            binds.append((str(seen), mount.mount_path, mount.read_only))
        binds += self._show_gpus(container, root)
        paths = self._injected(root, binds)
        (root / "__modal/arguments").write_bytes(self._arguments(container).SerializeToString())
        plan = container.folder / "plan.json"
        plan.write_text(
            json.dumps(
                {
                    "root": str(root),
                    "binds": binds,
                    "cwd": "/root",
                    "argv": [sys.executable, "-m", "modal._container_entrypoint"],
                    "env": self._environment(container, paths),
                }
            )
        )
        return plan

    def _injected(self, root: Path, binds: list[tuple[str, str, bool]]) -> list[str]:
        """Where the container sees the folders that the tests put on its PYTHONPATH."""
        inside = []
        for number, folder in enumerate(self.setting.paths):
            place = f"/__modal/injected/{number}"
            (root / place.lstrip("/")).mkdir(parents=True)
            binds.append((str(folder), place, True))
            inside.append(place)
        return inside

    def _show_gpus(self, container: Container, root: Path) -> list[tuple[str, str, bool]]:
        """Lays the stand-in over nvidia-ml-py as it is installed, since careful code loads it from just there."""
        if not self.setting.gpus:
            return []
        name = self.setting.gpus.get(container.gpu_type) or self.setting.gpus.get("*", "")
        names = [name] * container.gpus if isinstance(name, str) else list(name)
        (root / "__modal/gpus.json").write_text(json.dumps(names))
        installed = [Path(folder, "pynvml.py") for folder in site.getsitepackages()]
        return [(str(NVML), str(path), True) for path in installed if path.is_file()]

    def _arguments(self, container: Container) -> api_pb2.ContainerArguments:
        function = container.function
        return api_pb2.ContainerArguments(
            task_id=container.task_id,
            function_id=function.function_id,
            app_id=function.app.app_id,
            function_def=container.definition,
            environment_name=function.app.environment or ENVIRONMENT,
            app_layout=self.apps.layout(function.app),
        )

    def _environment(self, container: Container, paths: list[str]) -> dict[str, str]:
        definition = container.definition
        variables = {
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "PATH": f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHONUNBUFFERED": "1",
            **self.images.environment(definition.image_id),
        }
        for secret_id in definition.secret_ids:
            variables |= self.world.secrets[secret_id]
        variables |= self.setting.environment
        return variables | {
            "PYTHONPATH": ":".join([*paths, "/root"]),
            "MODAL_IS_REMOTE": "1",
            "MODAL_TASK_ID": container.task_id,
            "MODAL_IMAGE_ID": definition.image_id,
            "MODAL_ENVIRONMENT": container.function.app.environment or ENVIRONMENT,
            "MODAL_CLOUD_PROVIDER": "CLOUD_PROVIDER_LOOPBACK",
            "MODAL_REGION": "loopback",
            "MODAL_SERVER_URL": "unix:///__modal/plane.sock",
            "MODAL_CONTAINER_ARGUMENTS_PATH": "/__modal/arguments",
            "MODAL_HEARTBEAT_INTERVAL": "2",
        }


def _interpreter() -> list[str]:
    """Folders of the running Python and its packages that do not lie in the system's; none inside another."""
    wanted = {sys.prefix, sys.base_prefix}
    wanted |= {path for path in sys.path if path.endswith(("site-packages", "dist-packages"))}
    outside = sorted(path for path in wanted if Path(path).is_dir() and Path(path).parts[1] not in SYSTEM)
    kept: list[str] = []
    for path in outside:
        if not any(Path(path).is_relative_to(other) for other in kept):
            kept.append(path)
    return kept
