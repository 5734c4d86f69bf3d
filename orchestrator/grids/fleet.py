"""A fleet: one process drives many submissions side by side, on one backend whose places they share.

Each submission keeps its own controller, lease and events; the fleet says whose turn it is. In every round what runs is
looked after first, then free places are filled in the order of the submissions: one after another, but none waits for
the slowest seed of the one before. A controller is made when its first run can start (at once, where attempts of it are
there and may still run) and dropped when its last has ended: memory goes with what runs, not with what was asked for.
"""

import time
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.attempts import key_of, numbers_by_run
from orchestrator.backends.base import Backend, Job
from orchestrator.case import Case, lease_of_submission
from orchestrator.controller import Controller
from orchestrator.drive import nothing_is_left
from orchestrator.ledger.store import Lease, Ledger
from orchestrator.overview import Overview
from orchestrator.rounds import drive

FOLLOW_SECONDS = 1.0  # between looks at a submission that somebody else drives
BEAT_SECONDS = 20.0  # between signs of life for leases of which nothing runs yet
SWEEP_SECONDS = 10.0  # between looks at all that waits, where the backend has no room for the first of them

OpenBackend = Callable[[], Backend]


def ignore(told: object) -> None:
    pass


def nothing() -> None:
    pass


class Lent:
    """The fleet's backend in the hands of one controller: it closes with the fleet."""

    def __init__(self, backend: Backend, full: Callable[[], None]) -> None:
        self._backend, self._full = backend, full

    def hold(self, job: Job) -> str | None:
        reason = self._backend.hold(job)
        if reason is not None:
            self._full()
        return reason

    def close(self) -> None:
        pass

    def __getattr__(self, name: str) -> typing.Any:
        return getattr(self._backend, name)


@dataclass(eq=False)
class Member:
    """A submission of the fleet. `state`: queued, driven, followed (somebody else drives it), ended."""

    name: str
    submission_id: str
    runs: Sequence[tuple[int, str]]  # seed, run id
    make: Callable[[Lease, OpenBackend], Controller]  # reads what it needs then: nothing is kept until its turn
    enlisted: Callable[[Lease], None] = ignore  # called when the fleet has its lease: what must be reserved for it
    left: Callable[[], None] = nothing  # called where the fleet ends before its turn
    retry_failed: bool = False  # what failed under somebody else is tried again, when that one has ended
    state: str = "queued"
    lease: Lease | None = None
    controller: Controller | None = None
    ends: dict[int, str] = field(default_factory=dict)  # seed -> reason, where this fleet has driven it to its end

    @property
    def cases(self) -> Sequence[Case]:
        return [] if self.controller is None else self.controller.cases

    @property
    def live(self) -> int:
        return sum(case.live is not None for case in self.cases)

    @property
    def waits(self) -> bool:
        return any(case.live is None and case.end is None for case in self.cases)


class Fleet:
    def __init__(
        self,
        members: Sequence[Member],
        runs_dir: Path,
        ledger: Ledger,
        open_backend: OpenBackend,
        slots: int,
        *,
        on_end: Callable[[Member], None] = ignore,
        note: Callable[[str], None] = ignore,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.members, self.runs_dir, self.ledger, self.slots = list(members), runs_dir, ledger, slots
        self.open_backend, self.on_end, self.note, self.clock = open_backend, on_end, note, clock
        self.backend: Backend | None = None
        self.heard = ledger.append("fleet_began", data={"submissions": [one.submission_id for one in self.members]})
        self.beaten, self.looked, self.swept = clock(), clock(), clock()
        self.crashed = False
        self.full = False  # the backend has just said that it has no room
        there = numbers_by_run(runs_dir)
        for member in self.members:
            self._enlist(member, any(key_of(run_id) in there for _, run_id in member.runs))

    def drive(self, watch: Callable[["Fleet"], None], pause: float = 0.1) -> None:
        """Until every submission has ended. `watch` is called after each round."""
        drive(self, lambda: watch(self), pause)

    def round(self) -> bool:
        """One look at everything; True once there is nothing left to do."""
        self._hear_cancel()
        self._beat()
        self._look_at_others()
        for member in self.members:
            if member.controller is not None:
                self._visit(member, 0)
        self._fill()
        return all(member.state == "ended" for member in self.members)

    @property
    def live(self) -> int:
        return sum(member.live for member in self.members)

    @property
    def begun(self) -> bool:
        """Whether all runs that can begin now: each had its turn, or the backend has no room for more."""
        return self.live > 0 and (self.full or not any(member.state == "queued" for member in self.members))

    @property
    def waiting(self) -> int:
        """Members of which nothing has begun."""
        return sum(member.state == "queued" or (member.waits and not member.live) for member in self.members)

    def close(self) -> None:
        """End what runs, give back what is held; after a crash not the money, as Controller.close does."""
        if self.backend is not None:
            self.backend.close()
        for member in self.members:
            if member.controller is not None:
                member.controller.crashed = self.crashed
                member.controller.close()
            elif member.state == "queued" and member.lease is not None and not self.crashed:
                member.left()
            self._release(member)

    def interrupt(self) -> None:
        if self.backend is not None:
            self.backend.close()
        for member in self.members:
            if member.controller is not None:
                member.controller.interrupt()

    # --- one submission

    def _enlist(self, member: Member, begun: bool) -> None:
        name = lease_of_submission(member.submission_id)
        member.lease = self.ledger.acquire(name)
        if member.lease is None:
            member.state = "followed"
            holder = self.ledger.holder(name)
            who = f"process {holder.pid}" if holder is not None else "another process"
            self.note(f"{member.name}: {who} is running it already; following it")
            return
        member.enlisted(member.lease)
        if begun:  # what lives of it is adopted at once
            self._open(member)

    def _open(self, member: Member) -> None:
        assert member.lease is not None
        member.controller, member.state = member.make(member.lease, self._lend), "driven"

    def _lend(self) -> Backend:
        if self.backend is None:
            self.backend = self.open_backend()
        return typing.cast(Backend, Lent(self.backend, self._is_full))

    def _is_full(self) -> None:
        self.full = True

    def _visit(self, member: Member, free: int) -> None:
        """A round of its controller, which may fill as many of the free places."""
        assert member.controller is not None
        member.controller.slots = member.live + free
        if member.controller.round():
            member.controller.conclude()
            member.ends = {case.run.seed: case.end.reason for case in member.cases if case.end is not None}
            member.controller.close()
            self._end(member)

    def _end(self, member: Member) -> None:
        member.controller, member.state = None, "ended"
        self._release(member)
        self.on_end(member)

    def _release(self, member: Member) -> None:
        if member.lease is not None:
            self.ledger.release(member.lease)
            member.lease = None

    # --- all of them

    def _fill(self) -> None:
        """Free places, in the order of the members. Where the backend has no room for one, those behind it are not
        asked, but now and then: they may want less, or may go where that one may not."""
        free = self.slots - self.live
        if sweep := self.clock() - self.swept > SWEEP_SECONDS:
            self.swept = self.clock()
        for member in self.members:
            if free <= 0:
                return
            before, opened = member.live, member.state == "queued"
            if opened:
                self._open(member)
            elif not member.waits:
                continue
            self.full = False
            self._visit(member, free)
            free -= member.live - before
            idle = member.state != "ended" and member.live <= before
            if idle and (opened or (self.full and not sweep)):
                return

    def _hear_cancel(self) -> None:
        """A controller hears for itself; one that was not made yet is made, and hears."""
        for event in self.ledger.events(after=self.heard):
            self.heard = event.seq
            if event.kind != "cancel_requested":
                continue
            for member in self.members:
                if member.submission_id == event.submission_id and member.state == "queued":
                    self._open(member)
                    assert member.controller is not None
                    member.controller.session = event.seq - 1

    def _beat(self) -> None:
        if self.clock() - self.beaten > BEAT_SECONDS:
            self.beaten = self.clock()
            for member in self.members:
                if member.state == "queued" and member.lease is not None:
                    self.ledger.beat(member.lease)

    def _look_at_others(self) -> None:
        """Take over what they left undone."""
        followed = [member for member in self.members if member.state == "followed"]
        if not followed or self.clock() - self.looked < FOLLOW_SECONDS:
            return
        self.looked = self.clock()
        for member in followed:
            member.lease = self.ledger.acquire(lease_of_submission(member.submission_id))
            if member.lease is None:
                continue
            rows = Overview(self.runs_dir, member.runs).rows(controlled=False)
            if nothing_is_left(self.ledger, member.submission_id, rows, member.retry_failed):
                self._end(member)
            else:
                self.note(f"{member.name}: it ended before all was done that is asked for; taking over")
                member.enlisted(member.lease)
                member.state = "queued"
