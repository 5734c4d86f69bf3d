"""Dicts (with expiry on demand), and what is stored by content: blobs of large arguments, files of mounts."""

import asyncio
import hashlib
import pickle
from collections.abc import AsyncIterator
from pathlib import Path

from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError, Status
from modal_proto import api_pb2

from tests.modal_plane.server import Caller
from tests.modal_plane.web import Web
from tests.modal_plane.world import World


class Dicts:
    def __init__(self, world: World) -> None:
        self.world = world
        self.named: dict[str, str] = {}
        self.entries: dict[str, dict[bytes, bytes]] = {}  # dict id -> pickled key -> pickled value

    async def DictGetOrCreate(
        self, request: api_pb2.DictGetOrCreateRequest, _: Caller
    ) -> api_pb2.DictGetOrCreateResponse:
        name = request.deployment_name
        if name not in self.named:
            if name and request.object_creation_type == api_pb2.OBJECT_CREATION_TYPE_UNSPECIFIED:
                raise GRPCError(Status.NOT_FOUND, f"Dict '{name}' not found")
            dict_id = self.world.new_id("di")
            self.entries[dict_id] = {}
            if name:
                self.named[name] = dict_id
        else:
            dict_id = self.named[name]
        return api_pb2.DictGetOrCreateResponse(dict_id=dict_id, metadata=api_pb2.DictMetadata(name=name))

    async def DictGetById(self, request: api_pb2.DictGetByIdRequest, _: Caller) -> api_pb2.DictGetByIdResponse:
        self._of(request.dict_id)
        name = next((name for name, dict_id in self.named.items() if dict_id == request.dict_id), "")
        return api_pb2.DictGetByIdResponse(dict_id=request.dict_id, metadata=api_pb2.DictMetadata(name=name))

    async def DictList(self, _request: api_pb2.DictListRequest, _: Caller) -> api_pb2.DictListResponse:
        found = api_pb2.DictListResponse()
        for name, dict_id in self.named.items():
            found.dicts.add(name=name, dict_id=dict_id, metadata=api_pb2.DictMetadata(name=name))
        return found

    async def DictHeartbeat(self, _request: api_pb2.DictHeartbeatRequest, _: Caller) -> Empty:
        return Empty()

    async def DictUpdate(self, request: api_pb2.DictUpdateRequest, _: Caller) -> api_pb2.DictUpdateResponse:
        entries = self._of(request.dict_id)
        created = False
        for update in request.updates:
            if request.if_not_exists and update.key in entries:
                continue
            entries[update.key] = update.value
            created = True
        return api_pb2.DictUpdateResponse(created=created)

    async def DictGet(self, request: api_pb2.DictGetRequest, _: Caller) -> api_pb2.DictGetResponse:
        value = self._of(request.dict_id).get(request.key)
        return api_pb2.DictGetResponse(found=value is not None, value=value)

    async def DictContains(self, request: api_pb2.DictContainsRequest, _: Caller) -> api_pb2.DictContainsResponse:
        return api_pb2.DictContainsResponse(found=request.key in self._of(request.dict_id))

    async def DictPop(self, request: api_pb2.DictPopRequest, _: Caller) -> api_pb2.DictPopResponse:
        value = self._of(request.dict_id).pop(request.key, None)
        return api_pb2.DictPopResponse(found=value is not None, value=value)

    async def DictLen(self, request: api_pb2.DictLenRequest, _: Caller) -> api_pb2.DictLenResponse:
        return api_pb2.DictLenResponse(len=len(self._of(request.dict_id)))

    async def DictClear(self, request: api_pb2.DictClearRequest, _: Caller) -> Empty:
        self._of(request.dict_id).clear()
        return Empty()

    async def DictDelete(self, request: api_pb2.DictDeleteRequest, _: Caller) -> Empty:
        del self.entries[request.dict_id]
        self.named = {name: dict_id for name, dict_id in self.named.items() if dict_id != request.dict_id}
        return Empty()

    async def DictContents(self, request: api_pb2.DictContentsRequest, _: Caller) -> AsyncIterator[api_pb2.DictEntry]:
        for key, value in list(self._of(request.dict_id).items()):
            # Values are told of with their keys, by which the client names what it cannot read.
            yield api_pb2.DictEntry(key=key, value=value if request.values else b"")

    def read(self, name: str) -> dict[object, object]:
        """The entries of a named Dict, unpickled: the keys and values that the code under test put there."""
        entries = self.entries.get(self.named.get(name, ""), {})
        return {pickle.loads(key): pickle.loads(value) for key, value in list(entries.items())}

    def expire(self, name: str, key: object) -> bool:
        """Forgets one entry, as Modal does of an entry that nobody used for seven days; whether it was there."""
        entries = self.entries.get(self.named.get(name, ""), {})
        for pickled in list(entries):
            if pickle.loads(pickled) == key:
                del entries[pickled]
                return True
        return False

    def _of(self, dict_id: str) -> dict[bytes, bytes]:
        if dict_id not in self.entries:
            raise GRPCError(Status.NOT_FOUND, f"no dict {dict_id}")
        return self.entries[dict_id]


class Blobs:
    """Files by content. A mount is a list of names with hashes; its files are laid into each container's folder."""

    def __init__(self, world: World, web: Web) -> None:
        self.world = world
        self.web = web
        self.mounts: dict[str, list[api_pb2.MountFile]] = {}

    async def BlobCreate(self, request: api_pb2.BlobCreateRequest, _: Caller) -> api_pb2.BlobCreateResponse:
        blob_id = self.world.new_id("bl")
        urls = api_pb2.UploadUrlList(items=[self.web.url("blob", blob_id)])
        return api_pb2.BlobCreateResponse(blob_ids=[blob_id], upload_urls=urls)

    async def BlobGet(self, request: api_pb2.BlobGetRequest, _: Caller) -> api_pb2.BlobGetResponse:
        return api_pb2.BlobGetResponse(download_url=self.web.url("blob", request.blob_id))

    async def MountBatchedCheckExistence(
        self, request: api_pb2.MountBatchedCheckExistenceRequest, _: Caller
    ) -> api_pb2.MountBatchedCheckExistenceResponse:
        missing = [name for name in request.sha256_hex_hashes if not self.web.stored(name).is_file()]
        return api_pb2.MountBatchedCheckExistenceResponse(missing_sha256_hex_hashes=missing)

    async def MountPutFile(self, request: api_pb2.MountPutFileRequest, _: Caller) -> api_pb2.MountPutFileResponse:
        kind = request.WhichOneof("data_oneof")
        if kind == "data_blob_id":
            content = await asyncio.to_thread(self.web.stored(request.data_blob_id).read_bytes)
        else:
            content = request.data
        found = hashlib.sha256(content).hexdigest()
        if found != request.sha256_hex:
            raise GRPCError(Status.INVALID_ARGUMENT, f"file {request.sha256_hex} came with the hash {found}")
        self.web.stored(found).write_bytes(content)
        return api_pb2.MountPutFileResponse(exists=True)

    async def MountGetOrCreate(
        self, request: api_pb2.MountGetOrCreateRequest, _: Caller
    ) -> api_pb2.MountGetOrCreateResponse:
        """The mount of the client's own package, asked for by name, is empty: containers have it installed."""
        mount_id = self.world.new_id("mo")
        self.mounts[mount_id] = list(request.files)
        digest = hashlib.sha256("".join(sorted(it.filename + it.sha256_hex for it in request.files)).encode())
        return api_pb2.MountGetOrCreateResponse(
            mount_id=mount_id,
            handle_metadata=api_pb2.MountHandleMetadata(content_checksum_sha256_hex=digest.hexdigest()),
        )

    def lay(self, mount_id: str, root: Path) -> None:
        """Writes the files of a mount where a container with this root will see them."""
        for file in self.mounts[mount_id]:
            target = root / file.filename.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(self.web.stored(file.sha256_hex).read_bytes())
            target.chmod(file.mode or 0o644)
