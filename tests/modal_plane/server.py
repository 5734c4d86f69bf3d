"""The gRPC side: takes requests apart, lets faults strike, asks the rooms, refuses by name what none knows."""

import asyncio
import inspect
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message
from grpclib import GRPCError, Status
from grpclib.const import Handler
from grpclib.exceptions import StreamTerminatedError
from modal_proto import api_grpc

from tests.modal_plane.faults import Faults
from tests.modal_plane.world import Container

Loss = Callable[[Any], Awaitable[None]]


@dataclass(frozen=True)
class Caller:
    """Who asks: a container, known by the socket it was given, or a client with a token."""

    container: Container | None = None

    @property
    def kind(self) -> str:
        return "client" if self.container is None else "container"

    def inside(self) -> Container:
        if self.container is None:
            raise GRPCError(Status.PERMISSION_DENIED, "only a container may ask for this")
        return self.container


class _Names:
    """Stands in for a service whose methods are their own names: so the wheel's list of RPCs can be read."""

    def __getattr__(self, name: str) -> str:
        return name


def rpcs() -> dict[str, Handler]:
    """Every RPC of the installed wheel: path -> (name, cardinality, message types)."""
    return dict(api_grpc.ModalClientBase.__mapping__(_Names()))  # type: ignore[arg-type]


class Service:
    """One table of rooms for all callers: a room's method has the name of its RPC and takes (request, caller).

    A method that returns a message answers a unary RPC; an async generator answers a stream.
    """

    def __init__(self, faults: Faults, token: tuple[str, str], idempotent: bool) -> None:
        self.rpcs = rpcs()
        self.methods: dict[str, Callable[..., Any]] = {}
        self.faults = faults
        self.token = token
        self.idempotent = idempotent
        self.answered: dict[str, Message] = {}  # by idempotency key
        self.seen: list[tuple[str, str]] = []  # (RPC, client or container), in order of arrival
        self.unknown: list[str] = []
        self.errors: list[str] = []  # tracebacks of this program's own mistakes

    def add(self, room: object) -> None:
        names = {str(handler.func) for handler in self.rpcs.values()}
        self.methods |= {name: method for name, method in inspect.getmembers(room, inspect.ismethod) if name in names}

    def servable(self, caller: Caller) -> "_Servable":
        return _Servable(self, caller)

    async def serve(self, name: str, streaming: bool, stream: Any, caller: Caller) -> None:
        request = await stream.recv_message()
        self.seen.append((name, caller.kind))
        if caller.container is None:
            self._check(stream.metadata)
        if name not in self.methods:
            self.unknown.append(name)
            raise GRPCError(Status.UNIMPLEMENTED, f"the loopback control plane does not serve {name}")
        struck = self.faults.strike(name, caller.kind)
        for rule in struck:
            if rule.kind == "lose_request":
                await stream.cancel()
                return
            if rule.kind == "refuse":
                raise GRPCError(rule.status, rule.message)
            if rule.kind == "delay":
                await asyncio.sleep(rule.seconds)
        lost = next((_LOSSES[rule.kind] for rule in struck if rule.kind in _LOSSES), None)
        try:
            if streaming:
                await self._stream(self.methods[name](request, caller), stream, lost)
            else:
                reply = await self._unary(name, request, caller, stream.metadata)
                if lost:
                    await lost(stream)
                else:
                    await stream.send_message(reply)
        except (GRPCError, StreamTerminatedError):
            raise
        except Exception as error:
            self.errors.append(f"{name}: {traceback.format_exc()}")
            raise GRPCError(Status.INTERNAL, f"{name}: {error!r}") from error

    async def _unary(self, name: str, request: Message, caller: Caller, metadata: Any) -> Message:
        key = metadata.get("x-idempotency-key") if self.idempotent else None
        if key is not None and f"{name} {key}" in self.answered:
            return self.answered[f"{name} {key}"]
        reply: Message = await self.methods[name](request, caller)
        if key is not None:
            self.answered[f"{name} {key}"] = reply
        return reply

    async def _stream(self, replies: AsyncIterator[Message], stream: Any, lost: Loss | None) -> None:
        async for reply in replies:
            if lost:
                await lost(stream)
                return
            await stream.send_message(reply)

    def _check(self, metadata: Any) -> None:
        given = (metadata.get("x-modal-token-id"), metadata.get("x-modal-token-secret"))
        if given != self.token:
            raise GRPCError(
                Status.UNAUTHENTICATED,
                f"Token validation failed: no account has the token {given[0]!r}. Check `modal token info`.",
            )


async def _reset(stream: Any) -> None:
    await stream.cancel()


async def _cut(stream: Any) -> None:
    stream._stream._transport.abort()  # grpclib has no name for the connection below a stream


_LOSSES: dict[str, Loss] = {"lose_reply": _reset, "cut": _cut}


class _Servable:
    """What grpclib mounts: the service as one caller sees it."""

    def __init__(self, service: Service, caller: Caller) -> None:
        self.service = service
        self.caller = caller

    def __mapping__(self) -> dict[str, Handler]:
        return {
            path: Handler(self._bound(handler), handler.cardinality, handler.request_type, handler.reply_type)
            for path, handler in self.service.rpcs.items()
        }

    def _bound(self, handler: Handler) -> Callable[[Any], Any]:
        name, streaming = str(handler.func), handler.cardinality.server_streaming

        async def answer(stream: Any) -> None:
            await self.service.serve(name, streaming, stream, self.caller)

        return answer


class Front:
    """The plane's door for clients: a port on loopback that can be shut and opened again while the plane lives on."""

    def __init__(self, path: str) -> None:
        self.path = path  # the unix socket of the gRPC server behind it
        self.port = 0
        self.server: asyncio.Server | None = None
        self.writers: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        self.server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = self.server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        """Refuses new connections and drops the present ones, without a word."""
        if self.server is not None:
            self.server.close()
            self.server = None
        self.cut()

    def cut(self) -> None:
        for writer in list(self.writers):
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner_reader, inner_writer = await asyncio.open_unix_connection(self.path)
        except OSError:
            writer.transport.abort()
            return
        pair = {writer, inner_writer}
        self.writers |= pair
        ways = [self._pass(reader, inner_writer), self._pass(inner_reader, writer)]
        try:
            await asyncio.gather(*ways)
        finally:
            self.writers -= pair
            for end in pair:
                end.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(1 << 16):
                writer.write(chunk)
                await writer.drain()
        except (ConnectionError, OSError):
            pass
        finally:
            if not writer.is_closing():
                writer.close()
