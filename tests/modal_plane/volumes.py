"""Volumes, version 2: the committed files, each container's own view of them, listing, reading and batch upload."""

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError, Status
from modal_proto import api_pb2

from tests.modal_plane.objects import ENVIRONMENT
from tests.modal_plane.server import Caller
from tests.modal_plane.trees import Copy
from tests.modal_plane.web import BLOCK, Web
from tests.modal_plane.world import World

BATCH = 100  # entries in one message of a listing


@dataclass
class Volume:
    volume_id: str
    name: str
    folder: Path
    created: float


class Volumes:
    def __init__(self, world: World) -> None:
        self.world = world
        self.web = Web(world.folder / "blobs", self.locate)
        self.volumes: dict[str, Volume] = {}
        self.copies: dict[tuple[str, str], Copy] = {}  # (container, volume)

    async def VolumeGetOrCreate(
        self, request: api_pb2.VolumeGetOrCreateRequest, _: Caller
    ) -> api_pb2.VolumeGetOrCreateResponse:
        if request.version == api_pb2.VOLUME_FS_VERSION_V1:
            raise GRPCError(Status.UNIMPLEMENTED, "the loopback control plane has volumes of version 2 only")
        name, create = request.deployment_name, request.object_creation_type
        volume = self.named(name) if name else None
        if volume is None:
            if name and create == api_pb2.OBJECT_CREATION_TYPE_UNSPECIFIED:
                raise GRPCError(Status.NOT_FOUND, f"Volume '{name}' not found")
            volume = self._create(name)
        elif create == api_pb2.OBJECT_CREATION_TYPE_CREATE_FAIL_IF_EXISTS:
            raise GRPCError(Status.ALREADY_EXISTS, f"Volume '{name}' already exists")
        return api_pb2.VolumeGetOrCreateResponse(
            volume_id=volume.volume_id, version=api_pb2.VOLUME_FS_VERSION_V2, metadata=self._metadata(volume)
        )

    async def VolumeGetById(self, request: api_pb2.VolumeGetByIdRequest, _: Caller) -> api_pb2.VolumeGetByIdResponse:
        volume = self.volume(request.volume_id)
        return api_pb2.VolumeGetByIdResponse(volume_id=volume.volume_id, metadata=self._metadata(volume))

    async def VolumeHeartbeat(self, _request: api_pb2.VolumeHeartbeatRequest, _: Caller) -> Empty:
        return Empty()

    async def VolumeList(self, _request: api_pb2.VolumeListRequest, _: Caller) -> api_pb2.VolumeListResponse:
        reply = api_pb2.VolumeListResponse(environment_name=ENVIRONMENT)
        for it in self.volumes.values():
            if it.name:
                reply.items.add(
                    label=it.name, volume_id=it.volume_id, created_at=it.created, metadata=self._metadata(it)
                )
        return reply

    async def VolumeDelete(self, request: api_pb2.VolumeDeleteRequest, _: Caller) -> Empty:
        shutil.rmtree(self.volumes.pop(request.volume_id).folder)
        return Empty()

    async def VolumeCommit(self, request: api_pb2.VolumeCommitRequest, caller: Caller) -> api_pb2.VolumeCommitResponse:
        copy = self._copy(request.volume_id, caller)
        if copy is not None:
            await asyncio.to_thread(copy.commit)
        return api_pb2.VolumeCommitResponse(skip_reload=True)

    async def VolumeReload(self, request: api_pb2.VolumeReloadRequest, caller: Caller) -> Empty:
        copy = self._copy(request.volume_id, caller)
        if copy is not None:
            process = caller.inside().process
            if process and (name := copy.is_open(_descendants(process.pid))):
                raise GRPCError(
                    Status.FAILED_PRECONDITION, f"there are open files preventing the operation: {name} is open"
                )
            await asyncio.to_thread(copy.reload)
        return Empty()

    async def VolumeListFiles2(
        self, request: api_pb2.VolumeListFiles2Request, _: Caller
    ) -> AsyncIterator[api_pb2.VolumeListFiles2Response]:
        root = self.volume(request.volume_id).folder
        start = self.locate(request.volume_id, request.path)
        if not os.path.lexists(start):
            raise GRPCError(Status.NOT_FOUND, f"path '{request.path}' not found on the volume")
        below = start.rglob("*") if request.recursive else start.iterdir()
        paths = sorted(below) if start.is_dir() else [start]
        entries = [_entry(path, root) for path in paths]
        for first in range(0, len(entries), BATCH):
            yield api_pb2.VolumeListFiles2Response(entries=entries[first : first + BATCH])

    async def VolumeGetFile2(self, request: api_pb2.VolumeGetFile2Request, _: Caller) -> api_pb2.VolumeGetFile2Response:
        path = self.locate(request.volume_id, request.path)
        if not path.is_file():
            raise GRPCError(Status.NOT_FOUND, f"file '{request.path}' not found on the volume")
        size = path.stat().st_size
        start = min(request.start, size)
        end = min(start + request.len, size) if request.len else size
        urls, position = [], start
        while position < end:
            stop = min(end, (position // BLOCK + 1) * BLOCK)
            urls.append(self.web.block_url(request.volume_id, request.path, position, stop - position))
            position = stop
        return api_pb2.VolumeGetFile2Response(get_urls=urls, size=size, start=start, len=end - start)

    async def VolumePutFiles2(
        self, request: api_pb2.VolumePutFiles2Request, _: Caller
    ) -> api_pb2.VolumePutFiles2Response:
        if request.disallow_overwrite_existing_files:
            for file in request.files:
                if self.locate(request.volume_id, file.path).exists():
                    raise GRPCError(Status.ALREADY_EXISTS, f"{file.path}: already exists on the volume")
        reply = api_pb2.VolumePutFiles2Response()
        for number, file in enumerate(request.files):
            for position, block in enumerate(file.blocks):
                name = block.contents_sha256.hex()
                if not self.web.stored(name).is_file():
                    reply.missing_blocks.add(
                        file_index=number, block_index=position, put_url=self.web.url("block", name)
                    )
        if not reply.missing_blocks:
            for file in request.files:
                await asyncio.to_thread(self._write, self.locate(request.volume_id, file.path), file)
        return reply

    async def VolumeCopyFiles2(self, request: api_pb2.VolumeCopyFiles2Request, _: Caller) -> Empty:
        """Into a folder where the target is one, or where there are several sources; else to the target's name."""
        sources = {path: self.locate(request.volume_id, path) for path in request.src_paths}
        target = self.locate(request.volume_id, request.dst_path)
        for path, source in sources.items():
            if not source.exists():
                raise GRPCError(Status.NOT_FOUND, f"file '{path}' not found on the volume")
            if source.is_dir() and not request.recursive:
                raise GRPCError(Status.INVALID_ARGUMENT, f"'{path}' is a directory; copy it with recursive=True")
            place = target / source.name if target.is_dir() or len(sources) > 1 else target
            place.parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if source.is_dir() else shutil.copy2
            await asyncio.to_thread(copy, source, place)
        return Empty()

    async def VolumeRemoveFile2(self, request: api_pb2.VolumeRemoveFile2Request, _: Caller) -> Empty:
        path = self.locate(request.volume_id, request.path)
        if path.is_dir() and request.recursive:
            shutil.rmtree(path)
        elif path.is_file():
            path.unlink()
        else:
            raise GRPCError(Status.NOT_FOUND, f"file '{request.path}' not found on the volume")
        return Empty()

    def volume(self, volume_id: str) -> Volume:
        if volume_id not in self.volumes:
            raise GRPCError(Status.NOT_FOUND, f"no volume {volume_id}")
        return self.volumes[volume_id]

    def named(self, name: str) -> Volume | None:
        return next((it for it in self.volumes.values() if it.name == name), None)

    def locate(self, volume_id: str, path: str) -> Path:
        """Where a path of a volume lies; the volume's root is never left."""
        parts = [part for part in PurePosixPath(path).parts if part not in ("/", ".")]
        if ".." in parts:
            raise GRPCError(Status.INVALID_ARGUMENT, f"path {path!r} leaves the volume")
        return self.volume(volume_id).folder.joinpath(*parts)

    def mount(self, task_id: str, mount: api_pb2.VolumeMount, working: Path) -> Path:
        """The folder that a container sees: the committed files where it only reads, else a copy of its own."""
        committed = self.locate(mount.volume_id, mount.sub_path)
        committed.mkdir(parents=True, exist_ok=True)
        if mount.read_only:
            return committed
        working.mkdir(parents=True)
        copy = self.copies[task_id, mount.volume_id] = Copy(committed, working)
        copy.reload()
        return working

    def _copy(self, volume_id: str, caller: Caller) -> Copy | None:
        container = caller.inside()
        definition = container.definition
        mounts = {mount.volume_id: mount for mount in definition.volume_mounts}
        if volume_id not in mounts:
            raise GRPCError(Status.NOT_FOUND, f"volume {volume_id} is not mounted in {container.task_id}")
        return self.copies.get((container.task_id, volume_id))

    def _create(self, name: str) -> Volume:
        volume_id = self.world.new_id("vo")
        folder = self.world.folder / "volumes" / (name or volume_id)
        folder.mkdir(parents=True)
        volume = self.volumes[volume_id] = Volume(volume_id, name, folder, time.time())
        return volume

    def _metadata(self, volume: Volume) -> api_pb2.VolumeMetadata:
        return api_pb2.VolumeMetadata(
            version=api_pb2.VOLUME_FS_VERSION_V2,
            name=volume.name,
            creation_info=api_pb2.CreationInfo(created_at=volume.created),
        )

    def _write(self, path: Path, file: api_pb2.VolumePutFiles2Request.File) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f".{path.name}.uploading")
        with scratch.open("wb") as out:
            for block in file.blocks:
                out.write(self.web.stored(block.contents_sha256.hex()).read_bytes())
            out.truncate(file.size)
        scratch.chmod(file.mode or 0o644)
        scratch.replace(path)


def _entry(path: Path, root: Path) -> api_pb2.FileEntry:
    facts = path.lstat()
    kind = api_pb2.FileEntry.DIRECTORY if path.is_dir() else api_pb2.FileEntry.FILE
    return api_pb2.FileEntry(
        path=path.relative_to(root).as_posix(), type=kind, mtime=int(facts.st_mtime), size=facts.st_size
    )


def _descendants(pid: int) -> list[int]:
    """This process and all below it."""
    found, waiting = [], [pid]
    while waiting:
        found.append(waiting.pop())
        try:
            for task in os.listdir(f"/proc/{found[-1]}/task"):
                children = Path(f"/proc/{found[-1]}/task/{task}/children").read_text()
                waiting += map(int, children.split())
        except OSError:
            continue
    return found
