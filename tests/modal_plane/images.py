"""Images, secrets and environments: an image is built at once, and its recipe kept for tests to read."""

import shlex
import time
from collections.abc import AsyncIterator

from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError, Status
from modal_proto import api_pb2

from tests.modal_plane.objects import ENVIRONMENT
from tests.modal_plane.server import Caller
from tests.modal_plane.world import World

TOKEN = ("ak-loopback", "as-loopback")  # id and secret of the only one that is valid
BUILDER = "2025.06"
BUILT = api_pb2.GenericResult(status=api_pb2.GenericResult.GENERIC_STATUS_SUCCESS)


class Images:
    def __init__(self, world: World) -> None:
        self.world = world
        self.broken: str = ""  # when set, what a build fails with

    async def ImageGetOrCreate(
        self, request: api_pb2.ImageGetOrCreateRequest, _: Caller
    ) -> api_pb2.ImageGetOrCreateResponse:
        if request.HasField("image") and request.image.HasField("build_function"):
            raise GRPCError(Status.UNIMPLEMENTED, "the loopback control plane runs no function while it builds")
        wanted = request.image.SerializeToString(deterministic=True)
        for image_id, image in self.world.images.items():
            if image.SerializeToString(deterministic=True) == wanted:
                return api_pb2.ImageGetOrCreateResponse(image_id=image_id, result=BUILT, metadata=self._metadata())
        image_id = self.world.new_id("im")
        self.world.images[image_id] = request.image
        return api_pb2.ImageGetOrCreateResponse(image_id=image_id)

    async def ImageJoinStreaming(
        self, request: api_pb2.ImageJoinStreamingRequest, _: Caller
    ) -> AsyncIterator[api_pb2.ImageJoinStreamingResponse]:
        if self.broken:
            del self.world.images[request.image_id]
            failure = api_pb2.GenericResult(status=api_pb2.GenericResult.GENERIC_STATUS_FAILURE, exception=self.broken)
            yield api_pb2.ImageJoinStreamingResponse(result=failure, eof=True)
            return
        yield api_pb2.ImageJoinStreamingResponse(result=BUILT, eof=True, metadata=self._metadata())

    def recipe(self, image_id: str) -> list[str]:
        """Dockerfile lines of an image and of those below it, the lowest first."""
        image = self.world.images[image_id]
        below = [line for base in image.base_images if base.image_id for line in self.recipe(base.image_id)]
        return below + list(image.dockerfile_commands)

    def environment(self, image_id: str) -> dict[str, str]:
        """The variables that the ENV lines of its recipe set."""
        found = {}
        for line in self.recipe(image_id) if image_id else []:
            if line.startswith("ENV "):
                name, _, value = line[4:].partition("=")
                words = shlex.split(value)
                found[name] = words[0] if words else ""
        return found

    def _metadata(self) -> api_pb2.ImageMetadata:
        return api_pb2.ImageMetadata(image_builder_version=BUILDER, workdir="/root", python_version_info="Python 3.11")


class Environments:
    async def EnvironmentGetOrCreate(
        self, request: api_pb2.EnvironmentGetOrCreateRequest, _: Caller
    ) -> api_pb2.EnvironmentGetOrCreateResponse:
        name = request.deployment_name or ENVIRONMENT
        if name != ENVIRONMENT:
            raise GRPCError(Status.NOT_FOUND, f"Environment '{name}' not found; there is '{ENVIRONMENT}'")
        settings = api_pb2.EnvironmentSettings(image_builder_version=BUILDER)
        return api_pb2.EnvironmentGetOrCreateResponse(
            environment_id="en-1", metadata=api_pb2.EnvironmentMetadata(name=name, settings=settings)
        )

    async def EnvironmentList(self, _request: Empty, _: Caller) -> api_pb2.EnvironmentListResponse:
        return api_pb2.EnvironmentListResponse(
            items=[api_pb2.EnvironmentListItem(name=ENVIRONMENT, default=True, created_at=time.time())]
        )

    async def TokenInfoGet(self, _request: api_pb2.TokenInfoGetRequest, _: Caller) -> api_pb2.TokenInfoGetResponse:
        return api_pb2.TokenInfoGetResponse(token_id=TOKEN[0], workspace_id="wo-1", workspace_name="loopback")

    async def ClientHello(self, _request: Empty, _: Caller) -> api_pb2.ClientHelloResponse:
        return api_pb2.ClientHelloResponse()


class Secrets:
    def __init__(self, world: World) -> None:
        self.world = world
        self.named: dict[str, str] = {}  # deployment name -> secret id

    async def SecretGetOrCreate(
        self, request: api_pb2.SecretGetOrCreateRequest, _: Caller
    ) -> api_pb2.SecretGetOrCreateResponse:
        name, create = request.deployment_name, request.object_creation_type
        if name and name in self.named:
            if create == api_pb2.OBJECT_CREATION_TYPE_CREATE_FAIL_IF_EXISTS:
                raise GRPCError(Status.ALREADY_EXISTS, f"Secret '{name}' already exists")
            if create == api_pb2.OBJECT_CREATION_TYPE_CREATE_OVERWRITE_IF_EXISTS:
                self.world.secrets[self.named[name]] = dict(request.env_dict)
        elif name and create == api_pb2.OBJECT_CREATION_TYPE_UNSPECIFIED:
            raise GRPCError(Status.NOT_FOUND, f"Secret '{name}' not found in environment '{ENVIRONMENT}'")
        else:
            secret_id = self.create(name, dict(request.env_dict))
            return self._reply(secret_id, name)
        secret_id = self.named[name]
        if missing := sorted(set(request.required_keys) - self.world.secrets[secret_id].keys()):
            raise GRPCError(Status.NOT_FOUND, f"Secret '{name}' is missing key(s): {', '.join(missing)}")
        return self._reply(secret_id, name)

    async def SecretGetInfo(self, request: api_pb2.SecretGetInfoRequest, _: Caller) -> api_pb2.SecretGetInfoResponse:
        keys = self.world.secrets[request.secret_id].keys()
        return api_pb2.SecretGetInfoResponse(metadata=api_pb2.SecretMetadata(keys=sorted(keys)))

    async def SecretList(self, _request: api_pb2.SecretListRequest, _: Caller) -> api_pb2.SecretListResponse:
        reply = api_pb2.SecretListResponse(environment_name=ENVIRONMENT)
        for name, secret_id in self.named.items():
            metadata = self._reply(secret_id, name).metadata
            reply.items.add(label=name, secret_id=secret_id, environment_name=ENVIRONMENT, metadata=metadata)
        return reply

    async def SecretDelete(self, request: api_pb2.SecretDeleteRequest, _: Caller) -> Empty:
        self.named = {name: secret_id for name, secret_id in self.named.items() if secret_id != request.secret_id}
        return Empty()

    def create(self, name: str, variables: dict[str, str]) -> str:
        secret_id = self.world.new_id("st")
        self.world.secrets[secret_id] = variables
        if name:
            self.named[name] = secret_id
        return secret_id

    def _reply(self, secret_id: str, name: str) -> api_pb2.SecretGetOrCreateResponse:
        keys = sorted(self.world.secrets[secret_id])
        metadata = api_pb2.SecretMetadata(name=name, keys=keys, environment_name=ENVIRONMENT)
        return api_pb2.SecretGetOrCreateResponse(secret_id=secret_id, metadata=metadata)
