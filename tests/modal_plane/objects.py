"""Apps and functions: created, published, deployed under a name, found again, stopped."""

import time
from collections.abc import Awaitable, Callable

from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError, Status
from modal_proto import api_pb2

from tests.modal_plane.server import Caller
from tests.modal_plane.world import App, Function, World

ENVIRONMENT = "main"  # what a fresh account has

Stop = Callable[[App], Awaitable[None]]
Leave = Callable[[App], Awaitable[None]]


class Apps:
    def __init__(self, world: World, stop: Stop, leave: Leave) -> None:
        self.world = world
        self.stop = stop  # ends an app: its calls, its containers
        self.leave = leave  # what becomes of a detached app when its client leaves
        self.published: Callable[[], None] = lambda: None  # told when functions have a new definition

    async def AppCreate(self, request: api_pb2.AppCreateRequest, _: Caller) -> api_pb2.AppCreateResponse:
        app = App(
            self.world.new_id("ap"),
            request.description,
            request.app_state,
            environment=request.environment_name or ENVIRONMENT,
        )
        self.world.apps[app.app_id] = app
        return api_pb2.AppCreateResponse(app_id=app.app_id, app_page_url=self._page(app), app_logs_url=self._page(app))

    async def AppHeartbeat(self, request: api_pb2.AppHeartbeatRequest, _: Caller) -> Empty:
        self.app(request.app_id).heard = time.monotonic()
        return Empty()

    async def AppGetByDeploymentName(
        self, request: api_pb2.AppGetByDeploymentNameRequest, _: Caller
    ) -> api_pb2.AppGetByDeploymentNameResponse:
        app = self.deployed(request.name, request.environment_name)
        return api_pb2.AppGetByDeploymentNameResponse(
            app_id=app.app_id if app else "",
            environment_name=request.environment_name or ENVIRONMENT,
            lifecycle=_lifecycle(app) if app else None,
        )

    async def AppGetLifecycle(
        self, request: api_pb2.AppGetLifecycleRequest, _: Caller
    ) -> api_pb2.AppGetLifecycleResponse:
        return api_pb2.AppGetLifecycleResponse(lifecycle=_lifecycle(self.app(request.app_id)))

    async def AppGetLayout(self, request: api_pb2.AppGetLayoutRequest, _: Caller) -> api_pb2.AppGetLayoutResponse:
        return api_pb2.AppGetLayoutResponse(app_layout=self.layout(self.app(request.app_id)))

    async def AppPublish(self, request: api_pb2.AppPublishRequest, _: Caller) -> api_pb2.AppPublishResponse:
        app = self.app(request.app_id)
        if request.name:
            if (before := self.deployed(request.name, app.environment)) and before is not app:
                raise GRPCError(Status.ALREADY_EXISTS, f"app {request.name!r} is deployed as {before.app_id}")
            app.name = request.name
            app.deployed.append(time.time())
        app.state = request.app_state
        app.function_ids = dict(request.function_ids)
        for function_id, definition_id in request.definition_ids.items():
            self.function(function_id).publish(definition_id)
        self.published()
        return api_pb2.AppPublishResponse(url=self._page(app), deployed_at=time.time())

    async def AppClientDisconnect(self, request: api_pb2.AppClientDisconnectRequest, _: Caller) -> Empty:
        app = self.app(request.app_id)
        app.client_left = True
        if app.state == api_pb2.APP_STATE_DETACHED:
            await self.leave(app)
        elif app.state in (api_pb2.APP_STATE_EPHEMERAL, api_pb2.APP_STATE_INITIALIZING):
            await self.stop(app)
        return Empty()

    async def AppStop(self, request: api_pb2.AppStopRequest, _: Caller) -> Empty:
        await self.stop(self.app(request.app_id))
        return Empty()

    async def AppList(self, request: api_pb2.AppListRequest, _: Caller) -> api_pb2.AppListResponse:
        return api_pb2.AppListResponse(
            apps=[
                api_pb2.AppListResponse.AppListItem(
                    app_id=app.app_id,
                    name=app.name,
                    description=app.description or app.name,
                    state=app.state,  # type: ignore[arg-type]
                    created_at=app.created,
                    stopped_at=app.ended,
                    n_running_tasks=self._living(app),
                )
                for app in self.world.apps.values()
            ]
        )

    async def TaskList(self, request: api_pb2.TaskListRequest, _: Caller) -> api_pb2.TaskListResponse:
        """The containers that live, of one app or of all."""
        reply = api_pb2.TaskListResponse()
        for container in self.world.containers.values():
            app = container.function.app
            if container.alive and request.app_id in ("", app.app_id):
                reply.tasks.add(
                    task_id=container.task_id,
                    app_id=app.app_id,
                    app_description=app.description,
                    started_at=container.started,
                    enqueued_at=container.started,
                )
        return reply

    async def TaskGetInfo(self, request: api_pb2.TaskGetInfoRequest, _: Caller) -> api_pb2.TaskGetInfoResponse:
        container = self.world.containers.get(request.task_id)
        if container is None:
            raise GRPCError(Status.NOT_FOUND, f"no container {request.task_id}")
        info = api_pb2.TaskInfo(
            id=container.task_id,
            started_at=container.started,
            finished_at=0 if container.alive else container.started + container.seconds,
            gpu_config=container.definition.resources.gpu_config,
        )
        return api_pb2.TaskGetInfoResponse(app_id=container.function.app.app_id, info=info)

    async def FunctionPrecreate(
        self, request: api_pb2.FunctionPrecreateRequest, _: Caller
    ) -> api_pb2.FunctionPrecreateResponse:
        app = self.app(request.app_id)
        function_id = request.existing_function_id or self.world.new_id("fu")
        handle = api_pb2.FunctionHandleMetadata(
            app_id=app.app_id,
            function_name=request.function_name,
            function_type=request.function_type,
            function_schema=request.function_schema,
            supported_input_formats=request.supported_input_formats,
            supported_output_formats=request.supported_output_formats,
        )
        before = self.world.functions.get(function_id)
        if before is None:
            self.world.functions[function_id] = Function(function_id, app, request.function_name, handle)
        return api_pb2.FunctionPrecreateResponse(function_id=function_id, handle_metadata=handle)

    async def FunctionCreate(self, request: api_pb2.FunctionCreateRequest, _: Caller) -> api_pb2.FunctionCreateResponse:
        app = self.app(request.app_id)
        data = request.function_data if request.HasField("function_data") else _data(request.function)
        if data.is_class or data.is_server:
            raise GRPCError(Status.UNIMPLEMENTED, "the loopback control plane runs functions, not classes or servers")
        function_id = request.existing_function_id or self.world.new_id("fu")
        handle = api_pb2.FunctionHandleMetadata(
            app_id=app.app_id,
            function_name=data.function_name,
            function_type=data.function_type,
            function_schema=data.function_schema,
            supported_input_formats=data.supported_input_formats,
            supported_output_formats=data.supported_output_formats,
            definition_id=self.world.new_id("de"),
        )
        function = self.world.functions.get(function_id)
        if function is None:
            function = self.world.functions[function_id] = Function(function_id, app, data.function_name, handle)
        function.coming[handle.definition_id] = (handle, data)
        if function.data is None:
            function.publish(handle.definition_id)
        return api_pb2.FunctionCreateResponse(
            function_id=function_id,
            function=data.ranked_functions[0].function,
            function_data=data,
            handle_metadata=handle,
        )

    async def FunctionGet(self, request: api_pb2.FunctionGetRequest, _: Caller) -> api_pb2.FunctionGetResponse:
        app = self.deployed(request.app_name, request.environment_name)
        if app is None:
            raise GRPCError(
                Status.NOT_FOUND,
                f"App '{request.app_name}' not found in environment '{request.environment_name or ENVIRONMENT}'",
            )
        if request.object_tag not in app.function_ids:
            raise GRPCError(
                Status.NOT_FOUND, f"app '{request.app_name}' has no '{request.object_tag}', only {[*app.function_ids]}"
            )
        function = self.world.functions[app.function_ids[request.object_tag]]
        return api_pb2.FunctionGetResponse(
            function_id=function.function_id, handle_metadata=function.handle, function=function.data
        )

    async def FunctionGetById(
        self, request: api_pb2.FunctionGetByIdRequest, _: Caller
    ) -> api_pb2.FunctionGetByIdResponse:
        function = self.function(request.function_id)
        return api_pb2.FunctionGetByIdResponse(handle_metadata=function.handle, function=function.data)

    async def FunctionBindParams(
        self, request: api_pb2.FunctionBindParamsRequest, _: Caller
    ) -> api_pb2.FunctionBindParamsResponse:
        """`with_options`: a function of its own, with containers of its own; of the same options the same one."""
        base = self.function(request.function_id)
        for function in self.world.functions.values():
            if function.base is base and function.options == request.function_options:
                break
        else:
            function_id = self.world.new_id("fu")
            function = Function(function_id, base.app, base.tag, base.handle, None, {}, base, request.function_options)
            self.world.functions[function_id] = function
        handle = api_pb2.FunctionHandleMetadata()
        handle.CopyFrom(base.handle)
        handle.base_function_id = base.function_id
        return api_pb2.FunctionBindParamsResponse(bound_function_id=function.function_id, handle_metadata=handle)

    async def AppGetOrCreate(self, request: api_pb2.AppGetOrCreateRequest, _: Caller) -> api_pb2.AppGetOrCreateResponse:
        app = self.deployed(request.app_name, request.environment_name)
        if app is None:
            if request.object_creation_type == api_pb2.OBJECT_CREATION_TYPE_UNSPECIFIED:
                raise GRPCError(Status.NOT_FOUND, f"App '{request.app_name}' not found in environment '{ENVIRONMENT}'")
            app = App(
                self.world.new_id("ap"), request.app_name, api_pb2.APP_STATE_DEPLOYED, request.app_name, ENVIRONMENT
            )
            self.world.apps[app.app_id] = app
        return api_pb2.AppGetOrCreateResponse(app_id=app.app_id)

    async def AppDeploymentHistory(
        self, request: api_pb2.AppDeploymentHistoryRequest, _: Caller
    ) -> api_pb2.AppDeploymentHistoryResponse:
        deployed = self.app(request.app_id).deployed
        history = [
            api_pb2.AppDeploymentHistory(app_id=request.app_id, version=number, deployed_at=at)
            for number, at in enumerate(deployed, 1)
        ]
        return api_pb2.AppDeploymentHistoryResponse(
            app_deployment_histories=history[::-1], production_app_version=len(deployed)
        )

    def app(self, app_id: str) -> App:
        if app_id not in self.world.apps:
            raise GRPCError(Status.NOT_FOUND, f"no app {app_id}")
        return self.world.apps[app_id]

    def function(self, function_id: str) -> Function:
        if function_id not in self.world.functions:
            raise GRPCError(Status.NOT_FOUND, f"no function {function_id}")
        return self.world.functions[function_id]

    def deployed(self, name: str, environment: str) -> App | None:
        for app in self.world.apps.values():
            here = app.environment == (environment or ENVIRONMENT)
            if here and app.name == name and app.state == api_pb2.APP_STATE_DEPLOYED:
                return app
        return None

    def layout(self, app: App) -> api_pb2.AppLayout:
        """What a container or a redeploy is told of an app: its functions, and all that they depend on."""
        objects = []
        for function_id in app.function_ids.values():
            function = self.world.functions[function_id]
            objects.append(api_pb2.Object(object_id=function_id, function_handle_metadata=function.handle))
            for dependency in function.definition.object_dependencies:
                objects.append(api_pb2.Object(object_id=dependency.object_id))
        return api_pb2.AppLayout(objects=objects, function_ids=app.function_ids)

    def _living(self, app: App) -> int:
        return sum(it.alive and it.function.app is app for it in self.world.containers.values())

    def _page(self, app: App) -> str:
        return f"http://loopback.invalid/apps/{app.app_id}"


def _lifecycle(app: App) -> api_pb2.AppLifecycle:
    return api_pb2.AppLifecycle(
        app_state=app.state,  # type: ignore[arg-type]
        created_at=app.created,
        deployed_at=app.deployed[-1] if app.deployed else 0,
        version=len(app.deployed),
        stopped_at=app.ended,
    )


def _data(function: api_pb2.Function) -> api_pb2.FunctionData:
    """A definition as the several-choices message that the client reads back; its ranked functions must be filled."""
    data = api_pb2.FunctionData(
        module_name=function.module_name,
        function_name=function.function_name,
        function_type=function.function_type,
        function_schema=function.function_schema,
        supported_input_formats=function.supported_input_formats,
        supported_output_formats=function.supported_output_formats,
        timeout_secs=function.timeout_secs,
        is_class=function.is_class,
        is_server=function.is_server,
        autoscaler_settings=function.autoscaler_settings,
    )
    data.ranked_functions.add(rank=0, function=function)
    return data
