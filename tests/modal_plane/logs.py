"""What containers printed, line by line as it comes, told apart by app, function, call and container."""

import functools
import math
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from google.protobuf.timestamp_pb2 import Timestamp
from modal_proto import api_pb2

from tests.modal_plane.server import Caller
from tests.modal_plane.world import Container, World


@dataclass(frozen=True)
class Entry:
    number: int
    app_id: str
    function_id: str
    call_id: str
    input_id: str
    task_id: str
    source: int  # api_pb2.FILE_DESCRIPTOR_*
    text: str
    at: float = field(default_factory=time.time)

    def batch(self) -> api_pb2.TaskLogsBatch:
        item = api_pb2.TaskLogs(
            data=self.text,
            timestamp=self.at,
            timestamp_ns=int(self.at * 1e9),
            file_descriptor=self.source,  # type: ignore[arg-type]
            function_call_id=self.call_id,
            input_id=self.input_id,
            container_id=self.task_id,
        )
        return api_pb2.TaskLogsBatch(
            task_id=self.task_id,
            items=[item],
            entry_id=f"{self.number}-0",
            function_id=self.function_id,
            input_id=self.input_id,
        )


Wanted = Callable[[Entry], bool]


class Logs:
    def __init__(self, world: World) -> None:
        self.world = world
        self.entries: list[Entry] = []

    def write(self, container: Container, source: int, text: str) -> None:
        function = container.function
        self.entries.append(
            Entry(
                len(self.entries) + 1,
                function.app.app_id,
                function.function_id,
                container.call_id,
                container.input_id,
                container.task_id,
                source,
                text,
            )
        )
        self.world.bell.ring()

    async def AppGetLogs(self, request: api_pb2.AppGetLogsRequest, _: Caller) -> AsyncIterator[api_pb2.TaskLogsBatch]:
        """Follows for `timeout` seconds; tells `app_done` when nothing more can come."""
        position = int(request.last_entry_id.partition("-")[0] or 0)
        wanted = _wanted(request, request.file_descriptor)
        end = time.monotonic() + request.timeout
        while True:
            fresh = self.entries[position:]
            position += len(fresh)
            for entry in filter(wanted, fresh):
                yield entry.batch()
            if self._done(request.app_id) and position == len(self.entries):
                yield api_pb2.TaskLogsBatch(app_done=True)
                return
            left = end - time.monotonic()
            if left <= 0:
                return
            await self.world.bell.until(functools.partial(self._more, request.app_id, position), timeout=left)

    async def AppFetchLogs(self, request: api_pb2.AppFetchLogsRequest, _: Caller) -> api_pb2.AppFetchLogsResponse:
        """The last `limit` of a time range, oldest first."""
        found = self._between(request, request.since, request.until)
        return api_pb2.AppFetchLogsResponse(batches=[it.batch() for it in found[-(request.limit or len(found) or 1) :]])

    async def AppCountLogs(self, request: api_pb2.AppCountLogsRequest, _: Caller) -> api_pb2.AppCountLogsResponse:
        size = request.bucket_secs or 60
        reply = api_pb2.AppCountLogsResponse(app_id=request.app_id)
        first = math.floor(request.since.ToNanoseconds() / 1e9 / size)
        last = math.ceil(request.until.ToNanoseconds() / 1e9 / size)
        counts: dict[int, list[Entry]] = {}
        for entry in self._between(request, request.since, request.until):
            counts.setdefault(math.floor(entry.at / size), []).append(entry)
        for number in range(first, last):
            entries = counts.get(number, [])
            reply.buckets.add(
                bucket_start_at=Timestamp(seconds=number * size),
                stdout_logs=sum(it.source == api_pb2.FILE_DESCRIPTOR_STDOUT for it in entries),
                stderr_logs=sum(it.source == api_pb2.FILE_DESCRIPTOR_STDERR for it in entries),
                system_logs=sum(it.source == api_pb2.FILE_DESCRIPTOR_INFO for it in entries),
            )
        return reply

    def text(self, call_id: str) -> str:
        return "".join(entry.text for entry in self.entries if entry.call_id == call_id)

    def _between(
        self, request: api_pb2.AppFetchLogsRequest | api_pb2.AppCountLogsRequest, since: Timestamp, until: Timestamp
    ) -> list[Entry]:
        wanted = _wanted(request, request.source)
        start, end = since.ToNanoseconds() / 1e9, until.ToNanoseconds() / 1e9
        return [it for it in self.entries if start <= it.at <= end and wanted(it)]

    def _more(self, app_id: str, position: int) -> bool:
        return len(self.entries) > position or self._done(app_id)

    def _done(self, app_id: str) -> bool:
        app = self.world.apps.get(app_id)
        if app is None or not app.stopped:
            return False
        return not any(it.alive and it.function.app is app for it in self.world.containers.values())


def _wanted(
    request: api_pb2.AppGetLogsRequest | api_pb2.AppFetchLogsRequest | api_pb2.AppCountLogsRequest, source: int
) -> Wanted:
    asked = {
        "app_id": request.app_id,
        "function_id": request.function_id,
        "call_id": request.function_call_id,
        "task_id": request.task_id,
    }
    fixed = {name: value for name, value in asked.items() if value}

    def wanted(entry: Entry) -> bool:
        if source and entry.source != source:
            return False
        if request.search_text and request.search_text not in entry.text:
            return False
        return all(getattr(entry, name) == value for name, value in fixed.items())

    return wanted
