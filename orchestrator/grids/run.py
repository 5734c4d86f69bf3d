"""A grid on this machine: its variants side by side as there are places, and the tables of each as it ends."""

from pathlib import Path

from orchestrator.controller import Controller
from orchestrator.drive import make_controller, register, slots_of
from orchestrator.grids.fleet import Fleet, Member, OpenBackend
from orchestrator.grids.fleet_view import FleetView
from orchestrator.grids.status import GridOverview
from orchestrator.grids.tables import Tables
from orchestrator.ledger.store import Lease, Ledger
from orchestrator.money.admission import Admission
from orchestrator.money.spending import settle, spending_on
from orchestrator.other_seeds import Asked
from orchestrator.outcome import Outcome
from orchestrator.plan import Plan
from orchestrator.planning import PlannedSubmit
from orchestrator.registered import submission_of, write_grid
from orchestrator.request import Request
from orchestrator.rounds import Detached
from orchestrator.settings import Settings


class _Variant:
    """What is kept of a plan while the grid runs: its text is read again when its turn comes."""

    def __init__(self, plan: Plan, settings: Settings, request: Request, ledger: Ledger) -> None:
        submission = plan.submission
        self.sid, self.name = submission.submission_id, submission.recipe
        self.runs = [(run.seed, run.run_id) for run in submission.runs]
        self.spending = spending_on(submission, plan.cost, settings, request.parallel)
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
    """Register all, run what is not done, make the tables of each variant beside it. KeyboardInterrupt ends the runs,
    save on Modal; `outcomes` has then what had ended."""
    plans, settings, runs_dir = planned.plans, planned.settings, planned.runs_dir
    asked = Asked(runs_dir)
    for plan in plans:
        register(plan.submission, runs_dir, ledger, asked)
    write_grid(ledger, name, [plan.submission.submission_id for plan in plans])
    brought = planned.cloud is not None and planned.cloud.enter([plan.submission for plan in plans], ledger, name)
    slots = slots_of(plans[0].submission.target, settings["on"])
    left = [_Variant(plan, settings, planned.request, ledger) for plan in plans if brought or not plan.finished]
    order = [plan.submission.submission_id for plan in plans]
    view = FleetView(runs_dir, sum(len(one.runs) for one in left))

    def watch(fleet: Fleet) -> None:
        view.update(fleet)
        if planned.request.detach and fleet.begun:
            raise Detached(fleet.waiting)

    def on_end(member: Member) -> None:
        view.ended(member)
        tables.make(member.submission_id)

    with Tables(runs_dir, planned.quiet) as tables:
        try:
            for plan in plans:
                if plan.finished and not brought:
                    tables.make(plan.submission.submission_id)
            if left:
                members = [one.member() for one in left]
                fleet = Fleet(
                    members,
                    runs_dir,
                    ledger,
                    planned.open_backend(view.note),
                    slots,
                    on_end=on_end,
                    note=view.note,
                )
                fleet.drive(watch)
            if planned.cloud is not None:
                settle([plan.submission for plan in plans], ledger)
            outcomes += tables.outcomes(order)
            GridOverview(runs_dir, order).rows(ledger)  # remembered: the next look need not read all that is sealed
        except BaseException:
            outcomes[:] = tables.begun(order)
            raise
        finally:
            view.close()
