"""What the plane knows: apps, functions, calls and their inputs, containers. All of it belongs to one event loop."""

import asyncio
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from modal_proto import api_pb2

T = TypeVar("T")


class Bell:
    """Wakes whoever waits for the world to change; a condition is looked at again after each ring."""

    def __init__(self) -> None:
        self.waiting: set[asyncio.Future[None]] = set()

    def ring(self) -> None:
        for future in self.waiting:
            if not future.done():
                future.set_result(None)

    async def until(self, condition: Callable[[], T], timeout: float | None) -> T:
        """The first true value of `condition`, or its last value when `timeout` seconds have passed."""
        end = None if timeout is None else time.monotonic() + timeout
        while not (value := condition()):
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                return value
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.waiting.add(future)
            try:
                await asyncio.wait([future], timeout=left)
            finally:
                self.waiting.discard(future)
        return value


@dataclass
class App:
    app_id: str
    description: str
    state: int  # api_pb2.APP_STATE_*
    name: str = ""  # of its deployment
    environment: str = ""
    function_ids: dict[str, str] = field(default_factory=dict)  # tag -> function id
    created: float = field(default_factory=time.time)
    deployed: list[float] = field(default_factory=list)  # when each version was published under the name
    ended: float = 0.0
    heard: float = field(default_factory=time.monotonic)  # the last heartbeat of its client
    client_left: bool = False

    @property
    def stopped(self) -> bool:
        return self.state == api_pb2.APP_STATE_STOPPED


@dataclass
class Function:
    function_id: str
    app: App
    tag: str
    handle: api_pb2.FunctionHandleMetadata
    data: api_pb2.FunctionData | None = None
    coming: dict[str, tuple[api_pb2.FunctionHandleMetadata, api_pb2.FunctionData]] = field(default_factory=dict)
    base: "Function | None" = None  # of one `with_options`: what it is a variant of
    options: api_pb2.FunctionOptions | None = None

    @property
    def version(self) -> str:
        """Changes when the app is published anew: a container of an earlier one is given no more inputs."""
        return self.base.version if self.base else self.handle.definition_id

    @property
    def definition(self) -> api_pb2.Function:
        """What a container is started from (of several GPU choices, the first)."""
        if self.base is not None and self.options is not None:
            return _varied(self.base.definition, self.options)
        if self.data is None:
            raise LookupError(f"function {self.tag} was announced but not created")
        first: api_pb2.Function = self.data.ranked_functions[0].function
        return first

    @property
    def gpus(self) -> int:
        return self.definition.resources.gpu_config.count

    @property
    def max_containers(self) -> int:
        settings = self.definition.autoscaler_settings
        return settings.max_containers or self.definition.concurrency_limit or 100

    @property
    def slots(self) -> int:
        """Inputs that one container takes at a time."""
        return self.definition.max_concurrent_inputs or 1

    @property
    def idle_seconds(self) -> float:
        """How long a container waits for another input before it is scaled down; 60 s is Modal's default."""
        settings = self.definition.autoscaler_settings
        return settings.scaledown_window or self.definition.task_idle_timeout_secs or 60

    def publish(self, definition_id: str) -> None:
        """Makes a definition that was sent the one that new containers are started from."""
        if definition_id in self.coming:
            self.handle, self.data = self.coming[definition_id]
            self.coming = {}


def _varied(base: api_pb2.Function, options: Any) -> api_pb2.Function:
    """A definition with the options of `with_options`: lists replace those of the base, all else overlays them."""
    varied: Any = api_pb2.Function()
    varied.CopyFrom(base)
    varied.resources.MergeFrom(options.resources)
    for name in ("retry_policy", "scheduler_placement"):
        if options.HasField(name):
            getattr(varied, name).CopyFrom(getattr(options, name))
    for name in ("timeout_secs", "task_idle_timeout_secs", "max_concurrent_inputs", "concurrency_limit"):
        if options.HasField(name):
            setattr(varied, name, getattr(options, name))
    if options.HasField("concurrency_limit"):
        varied.autoscaler_settings.max_containers = options.concurrency_limit
    if options.HasField("task_idle_timeout_secs"):
        varied.autoscaler_settings.scaledown_window = options.task_idle_timeout_secs
    for name in ("secret_ids", "volume_mounts"):
        if getattr(options, f"replace_{name}"):
            varied.ClearField(name)
            getattr(varied, name).extend(getattr(options, name))
    result: api_pb2.Function = varied
    return result


@dataclass
class Input:
    input_id: str
    call: "Call"
    idx: int
    payload: api_pb2.FunctionInput
    retry_count: int = 0
    state: str = "queued"  # queued, running, done
    containers: list[str] = field(default_factory=list)  # every container it was given to, first first
    started: float = 0.0


@dataclass
class Call:
    call_id: str
    function: Function
    unary: bool
    invocation: int  # api_pb2.FUNCTION_CALL_INVOCATION_TYPE_*
    created: float = field(default_factory=time.time)
    inputs: list[Input] = field(default_factory=list)
    outputs: list[tuple[int, api_pb2.FunctionGetOutputsItem]] = field(default_factory=list)  # (entry, item)
    expired: bool = False

    @property
    def unfinished(self) -> int:
        return sum(given.state != "done" for given in self.inputs)


@dataclass
class Container:
    task_id: str
    function: Function
    definition: api_pb2.Function  # what it was started from, whatever is deployed later
    version: str
    folder: Path
    gpus: int
    gpu_type: str
    started: float = field(default_factory=time.time)
    began: float = field(default_factory=time.monotonic)
    ended: float | None = None
    exit_code: int | None = None
    process: asyncio.subprocess.Process | None = None
    running: list[Input] = field(default_factory=list)
    taken: int = 0  # inputs it was ever given
    stopping: bool = False  # it is given no more inputs
    fate: str = ""  # preempted, lost, moved, cancelled, timeout, stopped: why the plane ended it
    to_cancel: list[str] = field(default_factory=list)  # input ids, told at the next heartbeat
    failure: api_pb2.GenericResult | None = None  # what it reported of its own start
    call_id: str = ""  # of the input it was last given: whose its log lines are
    input_id: str = ""

    @property
    def alive(self) -> bool:
        return self.ended is None

    @property
    def outdated(self) -> bool:
        return self.version != self.function.version

    @property
    def seconds(self) -> float:
        return (time.monotonic() if self.ended is None else self.ended) - self.began


class World:
    """All of it, by id."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bell = Bell()
        self.apps: dict[str, App] = {}
        self.functions: dict[str, Function] = {}
        self.calls: dict[str, Call] = {}
        self.inputs: dict[str, Input] = {}
        self.containers: dict[str, Container] = {}
        self.images: dict[str, api_pb2.Image] = {}
        self.secrets: dict[str, dict[str, str]] = {}
        self.numbers = itertools.count(1)

    def new_id(self, prefix: str) -> str:
        return f"{prefix}-{next(self.numbers):022d}"

    def live(self, function: Function) -> list[Container]:
        return [it for it in self.containers.values() if it.alive and it.function is function]

    def gpus_in_use(self) -> int:
        return sum(it.gpus for it in self.containers.values() if it.alive)
