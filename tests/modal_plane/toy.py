"""What tests do with the toy app: spawn it with source, wait for what it does, ask for what became of it."""

from pathlib import Path
from typing import Any

from tests.modal_plane import Plane
from tests.modal_plane.client import Client
from tests.modal_plane.plane import CallView, ContainerView
from tests.processes import until

HERE = Path(__file__).parent
APP = str(HERE / "toy_app.py")
MARK = "MODAL_PLANE_TEST"  # in the environment of every process of a plane of these tests
H100 = "NVIDIA H100 80GB HBM3"

# Source for the toy: tells that it runs, then waits until `let_go`. The data volume is read-only, so it shows at once.
HELD = """
import os, time
print("begun", flush=True)
while not os.path.exists("/data/" + modal.current_function_call_id()):
    time.sleep(0.01)
"""


def make(folder: Path, **options: Any) -> Plane:
    """A plane that has the secret which the toy app asks for, once it is entered."""
    plane = Plane(folder, gpus={"*": H100}, variables={MARK: str(folder)}, **options)
    plane.secrets.create("hub", {"HUB_TOKEN": "hidden"})
    return plane


def call(plane: Plane, call_id: str) -> CallView:
    return next(it for it in plane.calls() if it.call_id == call_id)


def containers(plane: Plane, call_id: str) -> list[ContainerView]:
    """Those that were given the call, in that order."""
    found = {it.task_id: it for it in plane.containers()}
    return [found[task_id] for task_id in call(plane, call_id).containers]


def spawn(client: Client, source: str, function: str = "toy") -> str:
    call_id: str = client.do(f"result = {function}.spawn({source!r}).object_id")
    return call_id


def get(client: Client, call_id: str, timeout: float = 90) -> Any:
    return client.do(f"result = from_id({call_id!r}).get(timeout={timeout})")


def running(plane: Plane, call_id: str, containers: int = 1) -> None:
    """Waits until a call is at work in its last container: it has printed its first line there."""
    until(lambda: plane.log(call_id).count("begun") >= containers, f"begin of {call_id}")


def let_go(plane: Plane, call_id: str) -> None:
    (plane.volume("data") / call_id).touch()


def quiet(plane: Plane) -> None:
    until(lambda: not any(it.alive for it in plane.containers()), "end of the containers")
