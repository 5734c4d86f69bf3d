"""A grid on this machine: its variants side by side as there are places, and the tables of each as it ends."""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from orchestrator.backends import load_backend
from orchestrator.controller import Controller
from orchestrator.drive import make_controller, register, slots_of
from orchestrator.finish import finish
from orchestrator.grids.fleet import Fleet, Member, OpenBackend
from orchestrator.grids.fleet_view import FleetView
from orchestrator.ledger.store import Lease, Ledger
from orchestrator.money.admission import Admission
from orchestrator.money.spending import Spending
from orchestrator.other_seeds import Asked
from orchestrator.outcome import Outcome
from orchestrator.plan import Plan
from orchestrator.planning import PlannedSubmit
from orchestrator.registered import submission_of, write_grid
from orchestrator.request import Request
from orchestrator.settings import Settings


class _Variant:
    """What is kept of a plan while the grid runs: its text is read again when its turn comes."""

    def __init__(self, plan: Plan, settings: Settings, request: Request, ledger: Ledger) -> None:
        submission = plan.submission
        self.sid, self.name = submission.submission_id, submission.recipe
        self.runs = [(run.seed, run.run_id) for run in submission.runs]
        self.spending = Spending(plan.cost, settings["budget"], request.parallel)
        self.settings, self.ledger, self.retry_failed = settings, ledger, request.retry_failed
        self.admission: Admission | None = None

    @property
    def runs_dir(self) -> Path:
        return Path(self.settings["runs_dir"])

    def member(self) -> Member:
        return Member(
            self.name,
            self.sid,
            self.runs,
            self.make,
            enlisted=self.reserve,
            left=self.release,
            retry_failed=self.retry_failed,
        )

    def reserve(self, lease: Lease) -> None:
        """All of the grid's money is reserved before any of it is spent."""
        self.admission = self.spending.admission(submission_of(self.runs_dir, self.sid), self.ledger, lease)

    def release(self) -> None:
        if self.admission is not None:
            self.admission.close([])

    def make(self, lease: Lease, lend: OpenBackend) -> Controller:
        assert self.admission is not None
        submission = submission_of(self.runs_dir, self.sid)
        return make_controller(submission, self.settings, self.retry_failed, self.ledger, lease, lend, self.admission)


def run_grid(name: str, planned: PlannedSubmit, ledger: Ledger, outcomes: list[Outcome]) -> None:
    """Register all, run what is not done, make the tables of each variant beside it. KeyboardInterrupt ends the runs;
    `outcomes` has then what had ended."""
    plans, settings, runs_dir = planned.plans, planned.settings, planned.runs_dir
    asked = Asked(runs_dir)
    for plan in plans:
        register(plan.submission, runs_dir, ledger, asked)
    write_grid(ledger, name, [plan.submission.submission_id for plan in plans])
    slots = slots_of(plans[0].submission.target)
    left = [_Variant(plan, settings, planned.request, ledger) for plan in plans if not plan.finished]
    order = [plan.submission.submission_id for plan in plans]
    view = FleetView(runs_dir, sum(len(one.runs) for one in left))
    ended: dict[str, Future[Outcome]] = {}

    def tables(submission_id: str) -> None:
        def made() -> Outcome:
            return finish(submission_of(runs_dir, submission_id), runs_dir, planned.quiet)

        ended[submission_id] = beside.submit(made)

    def on_end(member: Member) -> None:
        view.ended(member)
        tables(member.submission_id)

    with ThreadPoolExecutor(1, thread_name_prefix="tables") as beside:
        try:
            for plan in plans:
                if plan.finished:
                    tables(plan.submission.submission_id)
            if left:
                members = [one.member() for one in left]
                fleet = Fleet(
                    members,
                    runs_dir,
                    ledger,
                    lambda: load_backend(settings["on"], runs_dir),
                    slots,
                    on_end=on_end,
                    note=view.note,
                )
                fleet.drive(view.update)
            outcomes += [ended[sid].result() for sid in order]
        except BaseException:
            beside.shutdown(cancel_futures=True)
            outcomes[:] = [ended[sid].result() for sid in order if _has_result(ended.get(sid))]
            raise
        finally:
            view.close()


def _has_result(future: "Future[Outcome] | None") -> bool:
    """Waits for one that was begun."""
    return future is not None and not future.cancelled() and future.exception() is None
