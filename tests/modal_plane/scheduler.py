"""Which input goes to which container, and what becomes of an input when its container ends."""

import asyncio
import time

from modal_proto import api_pb2

from tests.modal_plane.containers import Containers
from tests.modal_plane.world import App, Call, Container, Function, Input, World

Result = api_pb2.GenericResult


class Scheduler:
    def __init__(self, world: World, containers: Containers, gpu_capacity: int | None) -> None:
        self.world = world
        self.containers = containers
        containers.ended = self.container_ended
        self.gpu_capacity = gpu_capacity  # GPUs that may be in use at a time; None: no end of them
        self.queue: list[Input] = []  # to be delivered, first first; a duplicate delivery stands here a second time
        self.entries = 0  # outputs so far, of all calls: a client asks for those after the last it saw

    def put(self, given: Input) -> None:
        given.state = "queued"
        self.queue.append(given)
        self.kick()

    def kick(self) -> None:
        """Starts the containers that the queue needs, as far as max_containers and the GPUs there are allow."""
        for function in {given.call.function.function_id: given.call.function for given in self.queue}.values():
            waiting = sum(given.call.function is function for given in self.queue)
            live = self.world.live(function)
            room = sum(self._room(container) for container in live)
            while waiting > room and len(live) < function.max_containers and self._gpus_for(function):
                live.append(self.containers.start(function))
                room += function.slots
        self.world.bell.ring()

    async def next_input(self, container: Container) -> Input | None:
        """The next one for this container; None tells it to end."""
        function = container.function
        if function.slots == 1 and container.running:  # it asks again: the reply that told it was lost
            return container.running[0]

        def mine() -> Input | bool:
            if container.stopping or not self._room(container):
                return True
            return next((it for it in self.queue if it.call.function is function), False)

        found = await self.world.bell.until(mine, timeout=function.idle_seconds)
        if not isinstance(found, Input):
            container.stopping = True
            return None
        self._deliver(found, container)
        return found

    def _deliver(self, given: Input, container: Container) -> None:
        loop = asyncio.get_running_loop()
        self.queue.remove(given)
        given.state, given.started = "running", loop.time()
        given.containers.append(container.task_id)
        container.running.append(given)
        container.taken += 1
        container.call_id, container.input_id = given.call.call_id, given.input_id
        seconds = container.definition.timeout_secs
        loop.call_later(seconds, self._timed_out, given, container, given.retry_count)

    def output(self, given: Input, item: api_pb2.FunctionPutOutputsItem, container: Container) -> None:
        """What a container says of an input: the first word counts; of a retry, only what the retry says."""
        if given in container.running:
            container.running.remove(given)
        if given.state != "done" and item.retry_count == given.retry_count:
            self.finish(given, item.result, item.data_format, container.task_id)
        self.kick()

    def finish(self, given: Input, result: Result, data_format: int = 0, task_id: str = "") -> None:
        policy = given.call.function.definition.retry_policy
        unattended = given.call.invocation == api_pb2.FUNCTION_CALL_INVOCATION_TYPE_ASYNC
        if unattended and result.status == Result.GENERIC_STATUS_FAILURE and given.retry_count < policy.retries:
            given.retry_count += 1
            self.put(given)
            return
        given.state = "done"
        self.queue = [it for it in self.queue if it is not given]
        self.entries += 1
        output = api_pb2.FunctionGetOutputsItem(
            result=result,
            idx=given.idx,
            input_id=given.input_id,
            data_format=data_format,  # type: ignore[arg-type]
            task_id=task_id,
            retry_count=given.retry_count,
        )
        given.call.outputs.append((self.entries, output))
        self.world.bell.ring()
        self._end_if_left(given.call.function.app)

    def container_ended(self, container: Container) -> None:
        for given in list(container.running):
            if given.state == "done" or self._elsewhere(given, container):
                continue
            if container.fate in ("preempted", "lost", "moved"):
                given.state = "queued"
                self.queue.insert(0, given)
            elif container.fate:
                self.finish(given, _ended(f"the container was ended: {container.fate}"))
            else:
                self.finish(given, container.failure or _crashed(container))
        container.running.clear()
        if not container.taken and not container.fate and (container.failure or container.exit_code):
            for given in [it for it in self.queue if it.call.function is container.function]:
                self.finish(given, container.failure or _crashed(container))
        self.kick()

    def cancel(self, call: Call, terminate_containers: bool) -> None:
        for given in call.inputs:
            if given.state == "done":
                continue
            holding = [it for it in self.world.containers.values() if it.alive and given in it.running]
            if not holding:
                self.finish(given, _ended("the call was cancelled"))
            for container in holding:
                if terminate_containers:
                    self.finish(given, _ended("the call was cancelled"))
                    self.containers.end(container, "cancelled", 0)
                else:
                    container.to_cancel.append(given.input_id)
        self.world.bell.ring()

    async def stop(self, app: App) -> None:
        """Ends an app: what waits or runs is terminated, containers are told to end, and killed where they do not."""
        app.state = api_pb2.APP_STATE_STOPPED
        app.ended = time.time()
        for call in self.world.calls.values():
            if call.function.app is app:
                for given in call.inputs:
                    if given.state != "done":
                        self.finish(given, _ended("the app was stopped"))
        for container in self.world.containers.values():
            if container.alive and container.function.app is app:
                if container.running:
                    self.containers.end(container, "stopped")
                else:  # it asks for an input and is told that none will come
                    container.stopping = True
        self.world.bell.ring()

    async def leave(self, app: App) -> None:
        """A detached app whose client leaves keeps the call that was made last, and only that."""
        calls = [call for call in self.world.calls.values() if call.function.app is app]
        for call in calls[:-1]:
            self.cancel(call, terminate_containers=True)
        self._end_if_left(app)

    def delivered_twice(self, given: Input) -> None:
        self.queue.insert(0, given)
        self.kick()

    def _end_if_left(self, app: App) -> None:
        detached = app.state == api_pb2.APP_STATE_DETACHED and app.client_left
        if detached and not any(it.unfinished for it in self.world.calls.values() if it.function.app is app):
            self.containers.background(self.stop(app))

    def _room(self, container: Container) -> int:
        definition = container.definition
        if container.stopping or container.outdated or container.function.app.stopped:
            return 0
        if definition.single_use_containers or definition.max_inputs == 1:
            return 0 if container.taken else 1
        return container.function.slots - len(container.running)

    def _gpus_for(self, function: Function) -> bool:
        if not function.gpus or self.gpu_capacity is None:
            return True
        return self.world.gpus_in_use() + function.gpus <= self.gpu_capacity

    def _elsewhere(self, given: Input, container: Container) -> bool:
        others = (it for it in self.world.containers.values() if it.alive and it is not container)
        return any(given in it.running for it in others)

    def timed_out(self, given: Input) -> None:
        for container in [it for it in self.world.containers.values() if it.alive and given in it.running]:
            self._timed_out(given, container, given.retry_count)

    def _timed_out(self, given: Input, container: Container, retry_count: int) -> None:
        running = container.alive and given in container.running and given.retry_count == retry_count
        if running and given.state != "done":
            seconds = container.definition.timeout_secs
            text = f"Task's current input in {container.task_id} hit its timeout of {seconds}s"
            self.finish(given, Result(status=Result.GENERIC_STATUS_TIMEOUT, exception=text))
            self.containers.end(container, "timeout", 0)


def _ended(text: str) -> Result:
    return Result(status=Result.GENERIC_STATUS_TERMINATED, exception=text)


def _crashed(container: Container) -> Result:
    text = f"Runner failed with exit code: {container.exit_code}"
    return Result(status=Result.GENERIC_STATUS_FAILURE, exception=text, exitcode=container.exit_code or 0)
