"""Function calls as their callers see them (map, spawn, poll, cancel, resume), and inputs as containers see them."""

from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError, Status
from modal_proto import api_pb2

from tests.modal_plane.objects import Apps
from tests.modal_plane.scheduler import Result, Scheduler
from tests.modal_plane.server import Caller
from tests.modal_plane.world import Call, Input, World

HEARTBEAT = 1.5  # seconds that a container's heartbeat is held while there is nothing to tell it


class Calls:
    def __init__(self, world: World, apps: Apps, scheduler: Scheduler) -> None:
        self.world = world
        self.apps = apps
        self.scheduler = scheduler

    async def FunctionMap(self, request: api_pb2.FunctionMapRequest, _: Caller) -> api_pb2.FunctionMapResponse:
        function = self.apps.function(request.function_id)
        if function.app.stopped:
            raise GRPCError(Status.FAILED_PRECONDITION, f"app {function.app.app_id} is stopped")
        call = Call(
            self.world.new_id("fc"),
            function,
            request.function_call_type == api_pb2.FUNCTION_CALL_TYPE_UNARY,
            request.function_call_invocation_type,
        )
        self.world.calls[call.call_id] = call
        policy = function.definition.retry_policy
        attended = call.invocation == api_pb2.FUNCTION_CALL_INVOCATION_TYPE_SYNC
        return api_pb2.FunctionMapResponse(
            function_call_id=call.call_id,
            function_call_jwt=call.call_id,
            pipelined_inputs=[self._put(call, item) for item in request.pipelined_inputs],
            retry_policy=policy,
            sync_client_retries_enabled=attended and policy.retries > 0,
            max_inputs_outstanding=1000,
        )

    async def FunctionPutInputs(
        self, request: api_pb2.FunctionPutInputsRequest, _: Caller
    ) -> api_pb2.FunctionPutInputsResponse:
        call = self.call(request.function_call_id)
        return api_pb2.FunctionPutInputsResponse(inputs=[self._put(call, item) for item in request.inputs])

    async def FunctionFinishInputs(self, request: api_pb2.FunctionFinishInputsRequest, _: Caller) -> Empty:
        self.call(request.function_call_id)
        return Empty()

    async def FunctionRetryInputs(
        self, request: api_pb2.FunctionRetryInputsRequest, _: Caller
    ) -> api_pb2.FunctionRetryInputsResponse:
        for item in request.inputs:
            given = self.world.inputs[item.input_jwt]
            call = given.call
            call.outputs = [(entry, it) for entry, it in call.outputs if it.input_id != given.input_id]
            given.retry_count += 1
            self.scheduler.put(given)
        return api_pb2.FunctionRetryInputsResponse(input_jwts=[item.input_jwt for item in request.inputs])

    async def FunctionGetOutputs(
        self, request: api_pb2.FunctionGetOutputsRequest, _: Caller
    ) -> api_pb2.FunctionGetOutputsResponse:
        """Outputs after the entry that the client saw last; they are kept, whatever the client clears."""
        call = self.call(request.function_call_id)
        after = int(request.last_entry_id.partition("-")[0] or 0)
        indexed = request.HasField("start_idx") and request.HasField("end_idx")

        def found() -> list[tuple[int, api_pb2.FunctionGetOutputsItem]]:
            return [
                (entry, item)
                for entry, item in call.outputs
                if entry > after and (not indexed or request.start_idx <= item.idx <= request.end_idx)
            ]

        outputs = await self.world.bell.until(lambda: call.expired or found(), timeout=request.timeout)
        if not isinstance(outputs, list):
            return api_pb2.FunctionGetOutputsResponse(last_entry_id=request.last_entry_id)
        outputs = outputs[: request.max_values or None]
        return api_pb2.FunctionGetOutputsResponse(
            idxs=[item.idx for _, item in outputs],
            outputs=[item for _, item in outputs],
            last_entry_id=f"{outputs[-1][0]}-0" if outputs else request.last_entry_id,
            num_unfinished_inputs=call.unfinished,
        )

    async def FunctionCallFromId(
        self, request: api_pb2.FunctionCallFromIdRequest, _: Caller
    ) -> api_pb2.FunctionCallFromIdResponse:
        call = self.call(request.function_call_id)
        metadata = api_pb2.FunctionCallHandleMetadata(
            app_id=call.function.app.app_id, function_id=call.function.function_id
        )
        return api_pb2.FunctionCallFromIdResponse(
            function_call_id=call.call_id, num_inputs=len(call.inputs), metadata=metadata
        )

    async def FunctionCallGetInfo(
        self, request: api_pb2.FunctionCallGetInfoRequest, _: Caller
    ) -> api_pb2.FunctionCallGetInfoResponse:
        call = self.call(request.function_call_id)
        statuses = [item.result.status for _, item in call.outputs]

        def count(*wanted: int) -> api_pb2.InputCategoryInfo:
            return api_pb2.InputCategoryInfo(total=sum(status in wanted for status in statuses))

        succeeded = count(Result.GENERIC_STATUS_SUCCESS)
        cancelled = count(Result.GENERIC_STATUS_TERMINATED)
        timeout = count(Result.GENERIC_STATUS_TIMEOUT)
        failed = len(statuses) - succeeded.total - cancelled.total - timeout.total
        return api_pb2.FunctionCallGetInfoResponse(
            info=api_pb2.FunctionCallInfo(
                function_call_id=call.call_id,
                created_at=call.created,
                pending_inputs=api_pb2.InputCategoryInfo(total=call.unfinished),
                succeeded_inputs=succeeded,
                cancelled_inputs=cancelled,
                timeout_inputs=timeout,
                failed_inputs=api_pb2.InputCategoryInfo(total=failed),
                total_inputs=len(call.inputs),
            )
        )

    async def FunctionCallCancel(self, request: api_pb2.FunctionCallCancelRequest, _: Caller) -> Empty:
        self.scheduler.cancel(self.call(request.function_call_id), request.terminate_containers)
        return Empty()

    async def FunctionGetCurrentStats(
        self, request: api_pb2.FunctionGetCurrentStatsRequest, _: Caller
    ) -> api_pb2.FunctionStats:
        function = self.apps.function(request.function_id)
        backlog = sum(given.call.function is function for given in self.scheduler.queue)
        return api_pb2.FunctionStats(backlog=backlog, num_total_tasks=len(self.world.live(function)))

    async def ContainerHello(self, _request: Empty, caller: Caller) -> Empty:
        caller.inside()
        return Empty()

    async def ContainerHeartbeat(
        self, _request: api_pb2.ContainerHeartbeatRequest, caller: Caller
    ) -> api_pb2.ContainerHeartbeatResponse:
        container = caller.inside()
        if await self.world.bell.until(lambda: container.to_cancel, timeout=HEARTBEAT):
            event = api_pb2.CancelInputEvent(input_ids=container.to_cancel)
            container.to_cancel = []
            return api_pb2.ContainerHeartbeatResponse(cancel_input_event=event)
        return api_pb2.ContainerHeartbeatResponse()

    async def ContainerStop(self, request: api_pb2.ContainerStopRequest, _: Caller) -> api_pb2.ContainerStopResponse:
        """Its inputs are given to other containers, as `modal container stop` promises."""
        container = self.world.containers[request.task_id]
        if request.graceful:
            container.stopping = True
        else:
            self.scheduler.containers.end(container, "moved")
        self.world.bell.ring()
        return api_pb2.ContainerStopResponse()

    async def TaskResult(self, request: api_pb2.TaskResultRequest, caller: Caller) -> Empty:
        caller.inside().failure = request.result
        return Empty()

    async def FunctionGetInputs(
        self, _request: api_pb2.FunctionGetInputsRequest, caller: Caller
    ) -> api_pb2.FunctionGetInputsResponse:
        given = await self.scheduler.next_input(caller.inside())
        if given is None:
            return api_pb2.FunctionGetInputsResponse(inputs=[api_pb2.FunctionGetInputsItem(kill_switch=True)])
        item = api_pb2.FunctionGetInputsItem(
            input_id=given.input_id,
            input=given.payload,
            function_call_id=given.call.call_id,
            function_call_invocation_type=given.call.invocation,  # type: ignore[arg-type]
            retry_count=given.retry_count,
        )
        return api_pb2.FunctionGetInputsResponse(inputs=[item])

    async def FunctionPutOutputs(self, request: api_pb2.FunctionPutOutputsRequest, caller: Caller) -> Empty:
        for item in request.outputs:
            self.scheduler.output(self.world.inputs[item.input_id], item, caller.inside())
        return Empty()

    def call(self, call_id: str) -> Call:
        if call_id not in self.world.calls:
            raise GRPCError(Status.NOT_FOUND, f"no function call {call_id}")
        return self.world.calls[call_id]

    def _put(self, call: Call, item: api_pb2.FunctionPutInputsItem) -> api_pb2.FunctionPutInputsResponseItem:
        """An input whose reply was lost is put again with the same index: it stays one input."""
        for given in call.inputs:
            if given.idx == item.idx:
                return api_pb2.FunctionPutInputsResponseItem(
                    idx=given.idx, input_id=given.input_id, input_jwt=given.input_id
                )
        given = Input(self.world.new_id("in"), call, item.idx, item.input)
        call.inputs.append(given)
        self.world.inputs[given.input_id] = given
        self.scheduler.put(given)
        return api_pb2.FunctionPutInputsResponseItem(idx=given.idx, input_id=given.input_id, input_jwt=given.input_id)
