"""The controller: drives all runs of one submission to their end, as the policy decides.

It holds the submission's lease, and a run's lease while it works on that run; every write goes through them.
What is true is in the attempt folders: the controller looks at them, asks the policy, acts, and writes down
what it did. A controller that takes over from a dead one does the same, and nothing else.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from orchestrator.attempts import (
    ATTEMPTS,
    NODE,
    Attempt,
    counted,
    create,
    first_stage,
    inspect,
    inspect_all,
    write_void,
)
from orchestrator.backends.base import Backend, BackendError, Job, Refused, State, Unavailable
from orchestrator.case import Admission, AdmitAll, Barred, Case, lease_of_run
from orchestrator.errors import BackendFailure
from orchestrator.ledger.store import Lease, Ledger
from orchestrator.policy import OF_THE_NODE, OUTSIDE, Decision, Past, View, decide
from orchestrator.rounds import drive
from orchestrator.spec import Limits, Submission, attempt_id

BEAT_SECONDS = 5.0
INTERRUPTED = "the submit was interrupted"
NO_NODE_SECONDS = 600.0  # that a run waits for a node to come back, before it stops
LOOK_SECONDS = 0.5  # between looks at an attempt, or a lease, of somebody else


class Controller:
    def __init__(
        self,
        submission: Submission,
        runs_dir: Path,
        ledger: Ledger,
        lease: Lease,
        open_backend: Callable[[], Backend],
        limits: Limits,
        slots: int,
        *,
        backend_name: str,
        retry_failed: bool = False,
        clock: Callable[[], float] = time.monotonic,
        admission: Admission | None = None,
        since: int | None = None,
    ) -> None:
        """`since`: number of the event from which on a `cancel` is meant for us; None: from now."""
        self.submission, self.runs_dir, self.ledger, self.lease = submission, runs_dir, ledger, lease
        self.open_backend, self.limits, self.slots, self.clock = open_backend, limits, slots, clock
        self.retry_failed, self.admission = retry_failed, admission or AdmitAll()
        self.backend: Backend | None = None
        self.cases = [Case(run, inspect_all(runs_dir, run.run_id)) for run in submission.runs]
        data = {"backend": backend_name, "pid": ledger.owner.pid, "retry_failed": retry_failed}
        began = self._write("submit", data=data)
        self.session = began if since is None else since
        self.beaten = clock()
        self.cancelled: frozenset[int] = frozenset()
        self.crashed = False  # by an error that is nobody's answer

    def drive(self, watch: Callable[[Sequence[Case]], None], pause: float = 0.1) -> list[Case]:
        """Until every run is done or stopped. `watch` is called after each round."""
        drive(self, lambda: watch(self.cases), pause, then=self.conclude)
        return self.cases

    def conclude(self) -> None:
        """Say that nothing is left to do."""
        self._write("submission_ended", data={str(c.run.seed): c.end.reason for c in self.cases if c.end})

    def interrupt(self) -> None:
        """Somebody ended us: what was training is void now, not only once the same submit comes again. A sealed
        training stays, and only its evaluation will be repeated. On a cluster everything goes on."""
        running = [case for case in self.cases if case.live_folder is not None and case.live is not None]
        outlives = self.backend is not None and self.backend.outlives
        kind = "submission_detached" if outlives else "submission_interrupted"
        self._write(kind, data={"seeds": [case.run.seed for case in running]})
        if self.backend is not None:
            self.backend.close()
        if outlives:
            return
        for case in running:
            assert case.live_folder is not None
            attempt = inspect(case.live_folder, int(case.live_folder.name.rpartition("-a")[2]))
            ended = attempt.state in ("failed", "lost") and attempt.cls in OUTSIDE
            if ended and not (attempt.train_sealed and attempt.stage == "evaluate"):
                self._void(case, dataclasses.replace(attempt, message=INTERRUPTED))

    def close(self) -> None:
        """End what runs, or on a cluster leave it running; give back what is held. After a crash the money stays
        reserved, as after a kill: who is started in our place goes on under it."""
        if self.backend is not None:
            self.backend.close()
        if not self.crashed:
            self.admission.close(self.cases)
        for case in self.cases:
            self._let_go(case)

    def round(self) -> bool:
        """One look at everything; True once there is nothing left to do."""
        self._stay_owner()
        self._hear_cancel()
        for case in self.cases:
            while case.end is None and not self._step(case):
                pass
        self.admission.settle(self.cases)
        return all(case.end is not None for case in self.cases)

    # --- one run

    def _step(self, case: Case) -> bool:
        """Do what is next; False where something was done that may make something else next."""
        if case.live is not None:
            return self._follow(case)
        self._look(case)
        decision = decide(self._view(case))
        case.note = decision.reason
        if decision.verb in ("start", "evaluate", "void") and not self._take(case):
            return True
        if decision.verb in ("evaluate", "void") and (found := self._adopt(case, decision.number)) is not None:
            return not found
        if decision.verb in ("start", "evaluate") and self._must_wait(case, decision):
            return True
        if decision.verb == "start":
            self._start(case, decision.number)
        elif decision.verb == "evaluate":
            self._launch(case, self._attempt(case, decision.number).folder, decision.number, "evaluate")
        elif decision.verb == "void":
            self._void(case, self._attempt(case, decision.number))
        elif decision.verb in ("done", "stop"):
            self._end(case, decision)
        return decision.verb in ("wait", "cancel", "done", "stop")

    def _view(self, case: Case) -> View:
        pasts = [
            Past(one.number, one.state, one.cls, one.stage, one.train_sealed, one.number in case.fresh, one.message)
            for one in case.attempts
        ]
        free = sum(other.live is not None for other in self.cases) < self.slots
        wanted = case.run.seed not in self.cancelled
        why = self.admission(case, self.cases) if free and wanted else None
        return View(
            pasts,
            train_faults=case.faults["train"],
            evaluate_faults=case.faults["evaluate"],
            since_fault=self.clock() - case.fault_at,
            refusals=case.faults["node"],
            other_nodes=self.backend is not None and self.backend.outlives,
            slot_free=free,
            held=why or "",
            barred=why if isinstance(why, Barred) else "",
            elsewhere=case.elsewhere,
            cancel=not wanted,
            retry_failed=self.retry_failed,
        )

    def _look(self, case: Case) -> None:
        """See again what others may have changed: a worker of a dead controller, a run of another submission."""
        others = case.elsewhere or any(one.state == "busy" for one in case.attempts)
        if others and self.clock() - case.looked > LOOK_SECONDS:
            case.looked = self.clock()
            case.attempts = inspect_all(self.runs_dir, case.run.run_id)
            if case.elsewhere and self._take(case):
                self._let_go(case)
        if others and not case.elsewhere and case.lease is None and case.run.seed in self.cancelled:
            case.elsewhere = self.ledger.holder(lease_of_run(case.run.run_id)) is not None  # before it is waited for

    def _take(self, case: Case) -> bool:
        """Have the run's lease; what was seen without it is seen again."""
        if case.lease is None:
            case.lease = self.ledger.acquire(lease_of_run(case.run.run_id))
            case.elsewhere = case.lease is None
            if case.elsewhere:
                return False
            before, case.attempts = case.attempts, inspect_all(self.runs_dir, case.run.run_id)
            return before == case.attempts
        return True

    def _let_go(self, case: Case) -> None:
        if case.lease is not None:
            self.ledger.release(case.lease)
            case.lease = None

    def _attempt(self, case: Case, number: int) -> Attempt:
        return next(one for one in case.attempts if one.number == number)

    def _start(self, case: Case, number: int) -> None:
        name = attempt_id(case.run.run_id, number)
        self._write("attempt_created", case, name)
        folder = create(self.runs_dir, self.submission.run_json(case.run, number, self.limits), self.submission.bundle)
        self._launch(case, folder, number, first_stage(folder))

    def _job(self, folder: Path, stage: str) -> Job:
        target = self.submission.target
        return Job(folder.name, folder, target.processes * target.threads, target.gpus, target.gpu, stage)

    def _opened(self) -> Backend:
        if self.backend is None:
            try:
                self.backend = self.open_backend()
            except Unavailable as error:
                raise BackendFailure(str(error)) from error
        return self.backend

    def _adopt(self, case: Case, number: int) -> bool | None:
        """Before an attempt of an earlier controller is called lost: does it run on the cluster, or lie there ended?
        True: it is ours to follow now. False: that cannot be told yet. None: there is nothing of it."""
        folder = self._attempt(case, number).folder
        if number in case.fresh or number in case.sought or not (folder / NODE).exists():
            return None
        if self.clock() - case.looked <= LOOK_SECONDS:
            return False
        try:
            case.live = self._opened().find(folder.name)
        except BackendError as error:
            case.looked, case.note = self.clock(), str(error)
            return False
        if case.live is None:
            case.sought.add(number)
            return None
        case.live_folder, case.doing = folder, "taken over"
        self._write("attempt_adopted", case, folder.name, {"handle": case.live})
        return True

    def _must_wait(self, case: Case, decision: Decision) -> bool:
        """Whether nothing can take it now, or, after a while, ever: then the run stops."""
        name = attempt_id(case.run.run_id, decision.number)
        folder = self.runs_dir / ATTEMPTS / name
        stage = decision.verb if decision.verb == "evaluate" else "train"
        try:
            why = self._opened().hold(self._job(folder, stage))
            case.no_node_since = None
        except Unavailable as error:
            now, why = self.clock(), str(error)
            case.no_node_since = now if case.no_node_since is None else case.no_node_since
            if not error.passing and not any(one.live or one.fresh or one.sought for one in self.cases):
                raise BackendFailure(why) from error  # nothing was begun: said at once
            if isinstance(error, Refused) or now - case.no_node_since > NO_NODE_SECONDS:
                self._end(case, Decision("stop", why))
        except BackendError as error:
            why = str(error)
        case.note = why or case.note
        return why is not None

    def _launch(self, case: Case, folder: Path, number: int, stage: str) -> None:
        job = self._job(folder, stage)
        self._write("attempt_starting", case, folder.name, {"stage": stage})
        try:
            case.live = self._opened().start(job)
        except BackendError as error:
            data = {"class": "launch_error", "stage": stage, "message": str(error)}
            self._write("attempt_ended", case, folder.name, data)
            if isinstance(error, Unavailable):
                raise BackendFailure(str(error)) from error
            case.attempts = [*[one for one in case.attempts if one.number != number], inspect(folder, number)]
            self._count_fault(case, stage)
            return
        case.live_folder, case.doing = folder, stage
        self._write("attempt_started", case, folder.name, {"stage": stage, "handle": case.live})

    def _follow(self, case: Case) -> bool:
        """Look after the attempt that runs; False once it has ended."""
        assert self.backend is not None and case.live is not None and case.live_folder is not None
        if case.run.seed in self.cancelled and not case.cancelling:
            case.cancelling = True
            self.backend.cancel(case.live)
        try:
            state = self.backend.poll(case.live)
            if state.over:
                self.backend.fetch(case.live, case.live_folder)
        except BackendError as error:
            state = State("lost", str(error))
        if not state.over:
            case.note = state.message or case.doing
            return True
        number = int(case.live_folder.name.rpartition("-a")[2])
        attempt = inspect(case.live_folder, number)
        if attempt.state == "lost" and state.cls:
            attempt = dataclasses.replace(attempt, cls=state.cls, message=state.message)
        if attempt.state == "busy":  # the worker is gone from the backend's books but not from the machine
            return True
        case.attempts = [*[one for one in case.attempts if one.number != number], attempt]
        where = {"host": case.live["host"]} if "host" in case.live else {}
        case.live, case.cancelling = None, False
        case.fresh.add(number)
        if attempt.state != "counted":
            stage = attempt.stage or first_stage(case.live_folder)
            data = {"class": attempt.cls, "stage": stage, "message": attempt.message or state.message, **where}
            self._write("attempt_ended", case, attempt.attempt_id, data)
            if attempt.cls != "cancelled":
                self._count_fault(case, "node" if attempt.cls in OF_THE_NODE else stage)
        return False

    def _count_fault(self, case: Case, stage: str) -> None:
        """A fault of a script's one stage counts as one in training: the whole run is repeated."""
        case.faults[stage if stage in case.faults else "train"] += 1
        case.fault_at = self.clock()

    def _void(self, case: Case, attempt: Attempt) -> None:
        """The event first: a controller whose lease has gone fails there, before it touches the folder."""
        self._write("attempt_voided", case, attempt.attempt_id, {"class": attempt.cls, "message": attempt.message})
        write_void(attempt.folder, attempt.cls, attempt.message)
        case.attempts = inspect_all(self.runs_dir, case.run.run_id)

    def _end(self, case: Case, decision: Decision) -> None:
        case.end = decision
        done = counted(case.attempts)
        if done is not None:
            events = self.ledger.events(run_id=case.run.run_id, kind="attempt_counted")
            told = events[-1].attempt_id if events else None  # another one, where that was damaged since
            if told != done.attempt_id and self._take(case):
                self._write("attempt_counted", case, done.attempt_id)
        self._let_go(case)

    # --- the submission

    def _write(
        self, kind: str, case: Case | None = None, attempt: str | None = None, data: Mapping[str, object] | None = None
    ) -> int:
        return self.ledger.append(
            kind,
            lease=(case.lease if case is not None else None) or self.lease,
            submission_id=self.submission.submission_id,
            run_id=case.run.run_id if case is not None else None,
            attempt_id=attempt,
            data=data,
        )

    def _stay_owner(self) -> None:
        if self.clock() - self.beaten > BEAT_SECONDS:
            self.beaten = self.clock()
            for lease in (self.lease, *(case.lease for case in self.cases if case.lease is not None)):
                self.ledger.beat(lease)

    def _hear_cancel(self) -> None:
        sid = self.submission.submission_id
        asked = self.ledger.events(submission_id=sid, kind="cancel_requested", after=self.session)
        self.cancelled = frozenset(seed for event in asked for seed in event.data["seeds"])
