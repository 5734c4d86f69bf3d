"""What runs in a container on Modal: one execution of one attempt.

First whose turn it is (cloud/claims.py), then a line and the attempt's folder in the volume of runs, then the worker, a
process of its own, on the container's own disk: training does not wait for a volume. What it leaves is kept in the
volume every few seconds, what it prints is printed here too. A cancel and the notice that the machine is taken away
arrive as exceptions; the worker is told, and what it leaves is kept.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import time
import traceback
import typing
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import modal

from golf_core.rundir import (
    BUNDLE,
    LOG,
    RESULT,
    RUN,
    TRAIN_SEAL,
    RunDirError,
    is_sealed,
    read_json,
    verify_seal,
    write_bytes,
    write_json,
)
from orchestrator.attempts import ATTEMPTS, NODE, now_utc
from orchestrator.backends.modal_app import runs_volume
from orchestrator.backends.modal_client import ClaimsDict, spawn
from orchestrator.checkout import own_environment
from orchestrator.cloud.claims import follow_up, is_in_place, take_turn
from orchestrator.cloud.code import code_digest
from orchestrator.cloud.data import data_in_container
from orchestrator.cloud.keeping import Keeper
from orchestrator.cloud.options import RUNS_MOUNT, AppOptions, timeout_of
from orchestrator.cloud.order import Order, Told
from orchestrator.cloud.starts import Start, append_start, path_of, read_starts, seconds_before
from orchestrator.cluster.node_data import DataUnfit
from orchestrator.money.canary import measured
from orchestrator.spec import Limits
from orchestrator.worker.attempt import cut_to_train_seal
from orchestrator.worker.result import refusal

T = typing.TypeVar("T")
SCRATCH = Path("/tmp/golf")
KEEP_SECONDS = 2.0  # between looks at what grew
END_SECONDS = 20.0  # that a worker has to end its process tree: a machine that is taken away gives 30
PLACE_SECONDS = 10.0  # between looks whether the call was given to another container too
TRIES = 5


class _Late(KeyboardInterrupt):
    """Another container was given this call later: this one goes as if its machine was taken away."""


def execute(told: dict[str, typing.Any]) -> dict[str, typing.Any]:
    """The function of the app. What goes wrong here is told: an exception would reach the caller as one of its own."""
    began, order = time.monotonic(), Order.from_dict(told)
    try:
        found = _execute(order, str(modal.current_function_call_id()))
    except Exception as error:
        traceback.print_exc()
        found = Told(order.attempt_id, "launch_error", f"{type(error).__name__}: {error}")
    return replace(found, seconds=found.seconds + time.monotonic() - began).to_dict()


def _execute(order: Order, call: str) -> Told:
    if order.code != (mine := code_digest(AppOptions.from_environment(os.environ))):
        why = f"{order.app} was deployed again, of code {mine}; the order is for {order.code}"
        return Told(order.attempt_id, "launch_error", why)
    claims, runs = _Remote(), Path(RUNS_MOUNT)
    turn, container = _again(lambda: _take_turn(order, call, claims, runs))
    if isinstance(turn, Told):
        _again(_commit)  # a mark that an attempt before this one is void
        print(f"{turn.attempt_id}: call {turn.duplicate_of} does it" if turn.duplicate_of else turn.message, flush=True)
        if turn.duplicate_of is None:
            _follow(order, claims, turn.cls, runs / ATTEMPTS / turn.attempt_id)
        return turn
    most = timeout_of(Limits(**turn.run["limits"]).attempt_s)
    before = seconds_before(read_starts(path_of(runs, turn.run_id)), turn.attempt_id, call, now_utc(), most)
    execution = _Execution(turn, call, runs, lambda: is_in_place(turn, container, claims))
    try:
        execution.run()
    finally:
        execution.end()
    result = execution.result()
    cls = str(result.get("class", "worker_lost"))
    _follow(order, claims, cls, execution.folder)
    return Told(turn.attempt_id, cls, str(result.get("message", "")), before)


def _take_turn(order: Order, call: str, claims: "_Remote", runs: Path) -> tuple[Order | Told, str]:
    """With the name under which this container did: of each try another, since one may have been half done."""
    container = uuid.uuid4().hex
    return take_turn(order, call, container, claims, runs), container


def _follow(order: Order, claims: "_Remote", cls: str, folder: Path) -> None:
    """Give the orders of what comes next."""
    over = measured(folder).over(order.canary) if cls == "completed" and order.canary is not None else ""
    for begun in _again(lambda: follow_up(order, claims, cls == "completed", over)):
        print(f"what comes next is call {begun}", flush=True)


class _Remote(ClaimsDict):
    """Claims, as seen from a container, and the calls that it makes."""

    def call(self, order: Order) -> str:
        return spawn(order.app, order)

    def cancel(self, call: str) -> None:
        modal.FunctionCall.from_id(call).cancel()


class _Execution:
    def __init__(self, order: Order, call: str, runs: Path, in_place: Callable[[], bool]) -> None:
        self.order, self.call, self.in_place, self.looked = order, call, in_place, time.monotonic()
        self.folder = SCRATCH / ATTEMPTS / self.order.attempt_id
        self.kept = runs / ATTEMPTS / self.order.attempt_id
        self.lay_down()
        start = Start(self.order.attempt_id, self.order.number, self.order.execution, self.order.stage, call, now_utc())
        append_start(path_of(runs, self.order.run_id), start)
        write_json(self.kept / NODE, {"call": call, "execution": self.order.execution, "started_at": start.at})
        self.keeper, self.uncommitted = Keeper(self.folder, self.kept), False
        self.keeper.keep()
        self.echoed = (self.folder / LOG).stat().st_size if (self.folder / LOG).exists() else 0
        _again(_commit)

    def lay_down(self) -> None:
        """The attempt as it begins: what was asked, or everything up to the seal of its training."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.kept.mkdir(parents=True, exist_ok=True)
        if self.order.stage == "evaluate":
            names = [*verify_seal(self.kept, TRAIN_SEAL)["files"], TRAIN_SEAL]
            for name in [*names, *(path.name for path in self.kept.glob("evaluate-*.void.log"))]:
                shutil.copyfile(self.kept / name, self.folder / name)
            cut_to_train_seal(self.folder)
        else:
            write_json(self.folder / RUN, dict(self.order.run))
            write_bytes(self.folder / BUNDLE, self.order.bundle.encode())

    def run(self) -> None:
        """To the worker's end, or to whatever ends it."""
        try:
            asked = read_json(self.folder / RUN)
            data = data_in_container(asked["data"], SCRATCH / "data")
            write_json(self.folder / NODE, {"data": data})
        except DataUnfit as error:
            self.refuse("data_changed", str(error))
            return
        except (OSError, RunDirError) as error:
            traceback.print_exc()
            self.refuse("launch_error", str(error))
            return
        with self.worker() as worker:
            while worker.poll() is None:
                self.keep()
                self.look()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    worker.wait(KEEP_SECONDS)

    @contextlib.contextmanager
    def worker(self) -> Iterator["subprocess.Popen[bytes]"]:
        """Ended with what it started, however this is left."""
        worker = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.worker", str(self.folder)],
            stdin=subprocess.PIPE,
            env=own_environment(),
            start_new_session=True,  # a notice that is sent to all processes here is for us to pass on
        )
        assert worker.stdin is not None
        try:
            yield worker
        except modal.exception.InputCancellation:
            with contextlib.suppress(BrokenPipeError):
                worker.stdin.write(b"c")
                worker.stdin.flush()
            raise
        except KeyboardInterrupt:
            worker.terminate()  # to the worker: preempted
            raise
        finally:
            try:
                worker.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                worker.kill()  # its watchdog clears the rest
                worker.wait()
            with contextlib.suppress(BrokenPipeError):
                worker.stdin.close()

    def keep(self) -> None:
        """What grew, as far as it can be kept now."""
        self.echo()
        try:
            self.bring()
        except Exception as error:  # a cut stream comes out as anything, and must not end what trains
            print(f"cannot be kept now: {error}", file=sys.stderr, flush=True)

    def bring(self) -> None:
        """Into the volume, and commit; where that fails, all of it the next time."""
        before, self.uncommitted = self.uncommitted, True
        if self.keeper.keep() or before:
            _commit()
        self.uncommitted = False

    def look(self) -> None:
        if time.monotonic() - self.looked < PLACE_SECONDS:
            return
        self.looked = time.monotonic()
        try:
            late = not self.in_place()
        except Exception as error:
            print(f"claims cannot be read now: {error}", file=sys.stderr, flush=True)
            return
        if late:
            raise _Late("this call was given to another container, too")

    def echo(self) -> None:
        """What it prints is printed here too: the container's log shows a seed while it runs."""
        with contextlib.suppress(FileNotFoundError), (self.folder / LOG).open("rb") as log:
            log.seek(self.echoed)
            text = log.read()
            whole = text.rfind(b"\n") + 1
            self.echoed += whole
            sys.stdout.write(text[:whole].decode("utf-8", errors="replace"))
            sys.stdout.flush()

    def end(self) -> None:
        """The last word of this container."""
        self.echo()
        _again(self.bring)

    def refuse(self, cls: str, message: str) -> None:
        stage = "evaluate" if is_sealed(self.folder, TRAIN_SEAL) else self.order.stage
        write_json(self.folder / RESULT, refusal(cls, stage, message))

    def result(self) -> dict[str, typing.Any]:
        try:
            return read_json(self.folder / RESULT)
        except RunDirError:
            return {}


def _commit() -> None:
    runs_volume().commit()


def _again(ask: Callable[[], T]) -> T:
    """Its answer; raises what the last try met."""
    for number in range(TRIES - 1):
        try:
            return ask()
        except Exception as error:
            print(f"no answer from Modal now: {error}", file=sys.stderr, flush=True)
            time.sleep(2.0**number)
    return ask()
