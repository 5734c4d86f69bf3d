"""On the head of a cluster: `python3 -m orchestrator.control VERB [JSON]`, started as a job by remote.py. Internal.

* supervise: the controller of the order in this job's parcel, started again where it dies
* drive:     that controller; tells its events and rows in frames (wire.py)
* answer:    another command, whose output becomes frames
* command:   status, logs, cancel and what fetch asks, in the state folder
"""

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import threading
import time
import typing
from collections.abc import Sequence
from pathlib import Path

from orchestrator import commands, errors, transfer
from orchestrator.admission import Admission
from orchestrator.backends.base import Backend, Unavailable
from orchestrator.budget import Terms
from orchestrator.case import Case
from orchestrator.controller import Controller
from orchestrator.drive import make_overview, register
from orchestrator.errors import BackendFailure, CommandError, UsageError
from orchestrator.fleet import Fleet, Member, OpenBackend
from orchestrator.ledger import Lease, Ledger
from orchestrator.ledger_rebuild import mend
from orchestrator.money import make_admission
from orchestrator.overview import Overview
from orchestrator.parcel import ORDER, Order
from orchestrator.spec import Limits, Submission
from orchestrator.wire import Sender, say

RESTARTS = 5
FIRST_WAIT = 1.0  # seconds before the first of them; doubles
EVENT_SECONDS, ROW_SECONDS = 0.5, 2.0  # at most so often


def supervise() -> int:
    """Keep a controller alive. One that ends by itself has said why; one that is killed or crashes is started again."""
    child: subprocess.Popen[bytes] | None = None

    def ended(signum: int, frame: typing.Any) -> None:
        if child is not None:
            child.terminate()
        sys.exit(128 + signum)

    signal.signal(signal.SIGTERM, ended)
    code = 0
    for number in range(RESTARTS + 1):
        if number:
            wait = FIRST_WAIT * 2 ** (number - 1)
            print(f"the controller ended with code {code}; it starts again in {wait:g} s ({number} of {RESTARTS})")
            time.sleep(wait)
        child = subprocess.Popen([sys.executable, "-m", "orchestrator.control", "drive"], stdin=subprocess.DEVNULL)
        if (code := child.wait()) == 0:
            return 0
    say(
        "error",
        message=f"the controller died {RESTARTS + 1} times, the last time with code {code}",
        code=errors.BACKEND,
    )
    return 1


def drive() -> int:
    """Every submission of the order, to its end; 0 where all that there is to say was said."""
    try:
        order = Order.read(Path(ORDER))
        state = folder_of(order.options.state_dir)
        mend(state, lambda line: print(line, flush=True))
        with Ledger.create(state) as ledger:
            say("hello", origin=ledger.name, state_dir=str(state), pid=os.getpid())
            _fleet(order, state, ledger)
        say("end")
    except CommandError as error:
        say("error", message=str(error), code=error.exit_code)
    return 0


def folder_of(state_dir: str) -> Path:
    return Path(state_dir).expanduser().absolute()


def _fleet(order: Order, state: Path, ledger: Ledger) -> None:
    """Every submission of the order, side by side as the cluster has room."""
    tellers = {}
    admissions: dict[str, Admission] = {}
    members = []
    for number, (submission, limits) in enumerate(order.submissions):
        register(submission, state, ledger)
        terms = order.terms[number] if order.terms else None
        sid = submission.submission_id
        tellers[sid] = Teller(submission, ledger, make_overview(submission, state))
        make = functools.partial(_controller, order, submission, limits, terms, state, ledger, admissions)
        runs = [(run.seed, run.run_id) for run in submission.runs]
        members.append(Member(submission.recipe, sid, runs, make))

    def watch(fleet: Fleet) -> None:
        for member in fleet.members:
            if member.controller is not None and member.submission_id in admissions:
                admissions[member.submission_id].settle(member.cases)
            if member.state != "ended":
                tellers[member.submission_id].tell(member.cases)

    def ended(member: Member) -> None:
        tellers[member.submission_id].last()

    slots = sum(len(submission.runs) for submission, _ in order.submissions)  # the cluster's room is what limits
    fleet = Fleet(
        members, state, ledger, functools.partial(open_backend, order, state), slots, on_end=ended, note=print
    )
    fleet.drive(watch)


def open_backend(order: Order, state: Path) -> Backend:
    from orchestrator.backends.ray_cluster import RayClusterBackend

    try:
        return RayClusterBackend(state, order.options)
    except Unavailable as error:
        raise BackendFailure(str(error)) from error


def _controller(
    order: Order,
    submission: Submission,
    limits: Limits,
    terms: Terms | None,
    state: Path,
    ledger: Ledger,
    admissions: dict[str, Admission],
    lease: Lease,
    lend: OpenBackend,
) -> Controller:
    admission = make_admission(submission, terms, order.canary, ledger, lease)
    admissions[submission.submission_id] = admission
    return Controller(
        submission,
        state,
        ledger,
        lease,
        lend,
        limits,
        len(submission.runs),
        backend_name="ray-cluster",
        retry_failed=order.retry_failed,
        admission=admission,
    )


class Teller:
    """Tells the events of a submission as they are written, and its rows as they change, not too often."""

    def __init__(self, submission: Submission, ledger: Ledger, overview: Overview) -> None:
        self.sid, self.ledger, self.overview = submission.submission_id, ledger, overview
        self.run_ids = [run.run_id for run in submission.runs]
        self.seen, self.events_at, self.rows_at = 0, float("-inf"), float("-inf")
        self.rows: list[dict[str, typing.Any]] = []

    def tell(self, cases: Sequence[Case]) -> None:
        now = time.monotonic()
        if now - self.events_at > EVENT_SECONDS:
            self.events_at = now
            self._events()
        if now - self.rows_at > ROW_SECONDS:
            self.rows_at = now
            self._rows(controlled=True, notes={case.run.seed: case.note for case in cases})

    def last(self) -> None:
        self._events()
        self._rows(controlled=False)

    def _events(self) -> None:
        for event in transfer.events_of(self.ledger, self.sid, self.run_ids, self.seen):
            self.seen = event.seq
            say("event", origin=self.ledger.name, **transfer.event_to_dict(event))

    def _rows(self, controlled: bool, notes: typing.Mapping[int, str] | None = None) -> None:
        rows = [row.to_dict() for row in self.overview.rows(controlled, notes)]
        if rows != self.rows:
            self.rows = rows
            say("rows", submission_id=self.sid, rows=rows)


def answer(command: Sequence[str]) -> int:
    """Run a command, and send what it prints as frames."""
    words = [sys.executable if word == "python3" else word for word in command[:1]] + list(command[1:])
    child = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None and child.stderr is not None
    errs = child.stderr

    def listen() -> None:
        for line in errs:
            say("text", text=line.decode("utf-8", errors="replace").rstrip("\n"))

    listener = threading.Thread(target=listen)
    listener.start()
    sender = Sender()
    while data := os.read(child.stdout.fileno(), 1 << 20):
        sender.send(data)
    listener.join()
    sender.end(child.wait())
    return 0


def command(asked: typing.Mapping[str, typing.Any]) -> int:
    """One of the verbs that look at the state folder, or at what fetch wants of it."""
    state = folder_of(asked["state_dir"])
    verb, prefix = asked["verb"], asked.get("submission")
    if verb == "status":
        return commands.status(state, prefix, False, asked["verbose"], asked["json"])
    if verb == "logs":
        return commands.logs(state, prefix, asked["seed"], asked["attempt"], asked["follow"], asked["tail"])
    if verb == "cancel":
        return commands.cancel(state, prefix, None if asked["seeds"] is None else tuple(asked["seeds"]))
    if verb == "look":
        return transfer.look(state, prefix, asked["run_ids"])
    if verb == "send":
        return transfer.send(state, asked["files"])
    raise UsageError(f"control: there is no verb {verb!r}")


def main(arguments: Sequence[str]) -> int:
    verb, *rest = arguments
    if verb == "supervise":
        return supervise()
    if verb == "drive":
        return drive()
    if verb == "answer":
        return answer(rest)
    try:
        return command(json.loads(rest[0]))
    except CommandError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main(sys.argv[1:]))
