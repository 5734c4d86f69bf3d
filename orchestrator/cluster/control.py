"""On the head of a cluster: `python3 -m orchestrator.cluster.control VERB ...`, a job of remote.py's. Internal.

* supervise: the controller (JOB) of the order in the parcel of this job, started again where it dies
* drive:     that controller; tells its events and rows in frames (wire.py)
* answer:    another command, whose output becomes frames
* command:   status, logs, cancel and what fetch asks, in the state folder
"""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
import typing
from collections.abc import Sequence
from pathlib import Path

from orchestrator import commands, errors
from orchestrator.attempts import counted, inspect_all
from orchestrator.backends.base import Backend, Unavailable
from orchestrator.cancel import cancel
from orchestrator.cluster.abandoned import cancel_abandoned
from orchestrator.cluster.look import events_of, look, send, write_job
from orchestrator.cluster.order import Order, Part
from orchestrator.cluster.parcel import ORDER
from orchestrator.cluster.wire import Sender, say
from orchestrator.controller import Controller
from orchestrator.drive import register
from orchestrator.errors import BackendFailure, CommandError, UsageError
from orchestrator.grids.fleet import Fleet, Member, OpenBackend
from orchestrator.grids.status import GridOverview
from orchestrator.ledger.store import Lease, Ledger
from orchestrator.ledger.travel import event_to_dict
from orchestrator.money.admission import Admission
from orchestrator.money.rehearsal import has_run, write_rehearsed
from orchestrator.money.spending import Meter, make_admission
from orchestrator.other_seeds import Asked
from orchestrator.overview import Overview
from orchestrator.registered import write_grid

DRIVE = (sys.executable, "-m", "orchestrator.cluster.control", "drive")
RESTARTS = 5
FIRST_WAIT = 1.0  # seconds before the first of them; doubles
EVENT_SECONDS, ROW_SECONDS = 0.5, 2.0  # at most so often


def supervise(command: Sequence[str] = DRIVE) -> int:
    """Keep a controller alive. One that ends by itself has said why; one that is killed or crashes is started again."""
    child: subprocess.Popen[bytes] | None = None

    def ended(signum: int, frame: typing.Any) -> None:
        if child is not None:
            child.terminate()
        sys.exit(128 + signum)

    signal.signal(signal.SIGTERM, ended)
    code, life = 0, secrets.token_hex(8)
    for number in range(RESTARTS + 1):
        if number:
            wait = FIRST_WAIT * 2 ** (number - 1)
            print(f"the controller ended with code {code}; it starts again in {wait:g} s ({number} of {RESTARTS})")
            time.sleep(wait)
        child = subprocess.Popen([*command, life], stdin=subprocess.DEVNULL)
        if (code := child.wait()) == 0:
            return 0
    say(
        "error",
        message=f"the controller died {RESTARTS + 1} times, the last time with code {code}",
        code=errors.BACKEND,
    )
    return 1


def drive(job: str, life: str = "") -> int:
    """Every submission of the order, to its end; 0 where all was said that there is to say. `life`: our supervisor."""
    try:
        order = Order.read(Path(ORDER))
        state = folder_of(order.options.state_dir)
        with Ledger.create(state) as ledger:
            say("hello", origin=ledger.name, state_dir=str(state), pid=os.getpid())
            parts = (*order.parts, *order.rehearsals)
            since = write_job(ledger, job, [part.submission.submission_id for part in parts], life)
            if order.grid is not None:
                write_grid(ledger, order.grid, [part.submission.submission_id for part in order.parts])
            teller = Teller(order, state, ledger)
            for rehearsal in order.rehearsals:
                if not _rehearsed(order, rehearsal, state, ledger, teller, since):
                    say("end", unrehearsed=rehearsal.submission.submission_id)
                    return 0
            _fleet(order, order.parts, state, ledger, teller, since)
            say("end")
            # Remembered: the next look need not read all that is sealed.
            GridOverview(state, [part.submission.submission_id for part in order.parts]).rows(ledger)
    except CommandError as error:
        say("error", message=str(error), code=error.exit_code)
    return 0


def folder_of(state_dir: str) -> Path:
    return Path(state_dir).expanduser().absolute()


def _rehearsed(order: Order, part: Part, state: Path, ledger: Ledger, teller: "Teller", since: int) -> bool:
    """Whether it came to its end. The same code on the same GPUs is not rehearsed twice."""
    _fleet(order, [part], state, ledger, teller, since)
    done = all(counted(inspect_all(state, run.run_id)) is not None for run in part.submission.runs)
    if done and not has_run(state, part.submission):
        write_rehearsed(ledger, part.submission)
        teller.events()
    return done


def _fleet(order: Order, parts: Sequence[Part], state: Path, ledger: Ledger, teller: "Teller", since: int) -> None:
    """Submissions side by side, as the cluster has room."""
    asked = Asked(state)
    for part in parts:
        register(part.submission, state, ledger, asked)
    members = [_Turn(order, part, state, ledger, since).member() for part in parts]
    slots = sum(len(part.submission.runs) for part in parts)  # what limits is the cluster's room
    fleet = Fleet(members, state, ledger, lambda: open_backend(order, state), slots, on_end=teller.ended, note=print)
    fleet.drive(teller.tell)


def open_backend(order: Order, state: Path) -> Backend:
    from orchestrator.backends.ray_cluster import RayClusterBackend

    try:
        return RayClusterBackend(state, order.options)
    except Unavailable as error:
        raise BackendFailure(str(error)) from error


class _Turn:
    """A part of the order in the fleet."""

    def __init__(self, order: Order, part: Part, state: Path, ledger: Ledger, since: int) -> None:
        self.order, self.part, self.state, self.ledger, self.since = order, part, state, ledger, since
        self.admission: Admission | None = None

    def member(self) -> Member:
        submission = self.part.submission
        runs = [(run.seed, run.run_id) for run in submission.runs]
        return Member(
            submission.recipe,
            submission.submission_id,
            runs,
            self.make,
            enlisted=self.admit,
            left=self.release,
            retry_failed=self.order.retry_failed,
        )

    def admit(self, lease: Lease) -> None:
        part = self.part
        self.admission = make_admission(part.submission, part.terms, part.canary, self.ledger, lease)

    def release(self) -> None:
        if self.admission is not None:
            self.admission.close([])

    def make(self, lease: Lease, lend: OpenBackend) -> Controller:
        return Controller(
            self.part.submission,
            self.state,
            self.ledger,
            lease,
            lend,
            self.part.limits,
            len(self.part.submission.runs),
            backend_name="ray-cluster",
            retry_failed=self.order.retry_failed,
            admission=self.admission,
            since=self.since,
        )


class Teller:
    """Tells the events of the order's submissions as they are written, and their rows as they change, not too often."""

    def __init__(self, order: Order, state: Path, ledger: Ledger) -> None:
        self.state, self.ledger = state, ledger
        submissions = [part.submission for part in (*order.rehearsals, *order.parts)]
        self.sids = {one.submission_id for one in submissions}
        self.run_ids = {run.run_id for one in submissions for run in one.runs}
        self.seen, self.events_at, self.rows_at = 0, float("-inf"), float("-inf")
        self.overviews: dict[str, Overview] = {}
        self.rows: dict[str, list[dict[str, typing.Any]]] = {}

    def tell(self, fleet: Fleet) -> None:
        now = time.monotonic()
        if now - self.events_at > EVENT_SECONDS:
            self.events_at = now
            self.events()
        if now - self.rows_at > ROW_SECONDS:
            self.rows_at = now
            for member in fleet.members:
                if member.state in ("driven", "followed"):
                    self._rows(member, controlled=True)

    def ended(self, member: Member) -> None:
        self.events()
        self._rows(member, controlled=False)
        self.rows.pop(member.submission_id, None)
        self.overviews.pop(member.submission_id, None)

    def events(self) -> None:
        for event in events_of(self.ledger, self.sids, self.run_ids, self.seen):
            self.seen = event.seq
            say("event", origin=self.ledger.name, **event_to_dict(event))

    def _rows(self, member: Member, controlled: bool) -> None:
        sid = member.submission_id
        overview = self.overviews.setdefault(sid, Overview(self.state, member.runs, meter=Meter(self.ledger, sid)))
        notes = {case.run.seed: case.note for case in member.cases}
        rows = [row.to_dict() for row in overview.rows(controlled, notes)]
        if rows != self.rows.get(sid):
            self.rows[sid] = rows
            say("rows", submission_id=sid, name=member.name, rows=rows)


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
        seeds = None if asked["seeds"] is None else tuple(asked["seeds"])
        cancel_abandoned(state, prefix, seeds)
        return cancel(state, prefix, seeds)
    if verb == "look":
        return look(state, prefix, asked["run_ids"], asked["here"], asked.get("submissions", ()))
    if verb == "send":
        return send(state, asked["files"])
    raise UsageError(f"control: there is no verb {verb!r}")


def main(arguments: Sequence[str]) -> int:
    verb, *rest = arguments
    if verb == "supervise":
        return supervise([*DRIVE, *rest])
    if verb == "drive":
        return drive(*rest)
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
