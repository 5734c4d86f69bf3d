"""The submit command: plan, register, drive or follow, then collect and pack; of a grid, its variants side by side."""

import contextlib
import json
import signal
import sys
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path

from orchestrator import errors
from orchestrator.attempts import counted, inspect_all
from orchestrator.backends import check_backend
from orchestrator.case import Case
from orchestrator.drive import drive_or_follow, register
from orchestrator.finish import finish, runs_flag
from orchestrator.grids.plan import grid_lines, grid_plan, tell_grid
from orchestrator.grids.run import run_grid
from orchestrator.ledger.rebuild import mend
from orchestrator.ledger.store import Ledger, check_ownership
from orchestrator.money.budget import check
from orchestrator.money.rehearsal import write_rehearsed
from orchestrator.money.spending import Spending, account_of, budget_rows, confirm, settle, spending_on, terminal
from orchestrator.outcome import Outcome, worst
from orchestrator.plan import Plan, check_sizes, lines, plan_lines
from orchestrator.planning import PlannedSubmit, plan_submit
from orchestrator.request import Request
from orchestrator.rounds import Detached
from orchestrator.settings import Settings
from orchestrator.spec import SUBMISSION_DIGITS
from orchestrator.view import View, make_view

if typing.TYPE_CHECKING:
    from orchestrator.cluster.site import Cluster


def submit(settings: Settings, request: Request) -> int:
    """Run the command; its exit code."""
    check_backend(settings["on"])
    runs_dir = Path(settings["runs_dir"])
    check_ownership(runs_dir)
    if not request.dry_run:
        mend(runs_dir, lambda line: print(line, file=sys.stderr, flush=True))
    planned = plan_submit(settings, request)
    print_plan(planned)
    if request.dry_run:
        return errors.OK
    check_sizes(planned.plans)
    if planned.cloud is not None:
        planned.cloud.check_budget(settings, planned.costs)
    check(planned.costs, account_of(runs_dir), settings["budget"])
    if not confirm([cost for _, cost in planned.costs], request.yes, terminal()):
        print("nothing was started", file=sys.stderr)
        return errors.NOT_FINISHED
    with Ledger.create(runs_dir) as ledger, _terminated_like_interrupted():
        outcomes: list[Outcome] = []
        detached = False
        try:
            whole = _run_all(planned, ledger, outcomes)
        except Detached:
            detached = True
        finally:
            if planned.grid is not None and not detached:
                tell_grid(planned.grid, planned.plans, outcomes, request.json, request.quiet)
    if detached:
        tell_ids(planned)
        return errors.OK
    if not whole:
        return errors.INTERRUPTED
    if planned.grid is None:
        _tell(outcomes[0], request)
    return worst(outcome.exit_code for outcome in outcomes)


def print_plan(planned: PlannedSubmit) -> None:
    """On stdout where it is all that was asked for, else on stderr."""
    plans, grid, settings, request = planned.plans, planned.grid, planned.settings, planned.request
    stream = sys.stdout if request.dry_run else sys.stderr
    if request.json and request.dry_run:
        told = plans[0].to_dict() if grid is None else grid_plan(grid, plans)
        more = {} if planned.cluster is None else {"cluster": planned.cluster.to_dict()}
        more |= {} if planned.cloud is None else {"modal": planned.cloud.to_dict(settings, plans)}
        print(json.dumps(told | more, indent=1), file=stream)
        return
    bundle = f"--bundle {request.bundle}" if request.bundle else None
    text = (
        plan_lines(lines(plans[0], settings, bundle), plans[0]) if grid is None else grid_lines(grid, plans, settings)
    )
    there = [] if planned.cluster is None else planned.cluster.rows(settings)
    there += [] if planned.cloud is None else planned.cloud.rows(settings, plans)
    for name, value, source in [*there, *budget_rows(planned.costs, settings, request.dry_run)]:
        text.append(f"{name:<12} {value}  [{source}]")
    for line in text:
        print(line, file=stream)
    stream.flush()


def _run_all(planned: PlannedSubmit, ledger: Ledger, outcomes: list[Outcome]) -> bool:
    """`outcomes` gets what ended; False where it was interrupted."""
    if planned.cluster is not None:
        return _run_there(planned.cluster, planned, ledger, outcomes)
    if planned.grid is not None:
        return _run_grid(planned.grid.name, planned, ledger, outcomes)
    (plan,) = planned.plans
    if (outcome := _run(plan, planned, ledger)) is None:
        return False
    outcomes.append(outcome)
    return True


def _run(plan: Plan, planned: PlannedSubmit, ledger: Ledger) -> Outcome | None:
    """Register, drive or follow, make the tables; None where it was interrupted."""
    submission, settings, request = plan.submission, planned.settings, planned.request
    view = make_view(sys.stderr)
    try:
        if (failed := rehearse(plan, planned, ledger, view)) is not None:
            return failed
        register(submission, planned.runs_dir, ledger)
        brought = planned.cloud is not None and planned.cloud.enter([submission], ledger)
        if brought or not plan.finished:
            spending = spending_on(submission, plan.cost, settings, request.parallel)
            opened = planned.open_backend(view.note)
            seen = leave_when_begun if request.detach else _stay
            drive_or_follow(submission, settings, request.retry_failed, ledger, view, spending, opened, seen)
        if planned.cloud is not None:
            settle([submission], ledger)
    except KeyboardInterrupt as error:
        view.close()
        print(_left(planned, submission.submission_id[:SUBMISSION_DIGITS]), file=sys.stderr)
        if isinstance(error, Detached):
            raise
        return None
    finally:
        view.close()
    return finish(submission, ledger, planned.quiet)


def _run_grid(name: str, planned: PlannedSubmit, ledger: Ledger, outcomes: list[Outcome]) -> bool:
    """All variants side by side, after what rehearses for them."""
    view = make_view(sys.stderr)
    try:
        for plan in planned.plans:
            if (failed := rehearse(plan, planned, ledger, view)) is not None:
                outcomes.append(failed)
                return True
        view.close()
        run_grid(name, planned, ledger, outcomes)
    except KeyboardInterrupt as error:
        view.close()
        waiting = error.waiting if isinstance(error, Detached) else 0
        print(_left(planned, name if planned.cloud is not None else f"of {name}", waiting), file=sys.stderr)
        if isinstance(error, Detached):
            raise
        return False
    finally:
        view.close()
    return True


def _run_there(cluster: "Cluster", planned: PlannedSubmit, ledger: Ledger, outcomes: list[Outcome]) -> bool:
    """On the cluster, which goes on where this process is interrupted."""
    from orchestrator.cluster.submit import Sending, detached, run_on_cluster

    name, request = None if planned.grid is None else planned.grid.name, planned.request
    sending = Sending(cluster, planned.plans, planned.settings, name, request.retry_failed, request.parallel)
    view = make_view(sys.stderr)
    try:
        outcomes += run_on_cluster(sending, planned.quiet, ledger, view)
    except KeyboardInterrupt:
        view.close()
        what = name or planned.plans[0].submission.submission_id[:SUBMISSION_DIGITS]
        print(detached(what, ledger.path.parent, cluster.server.url), file=sys.stderr)
        return False
    finally:
        view.close()
    return True


def rehearse(plan: Plan, planned: PlannedSubmit, ledger: Ledger, view: View) -> Outcome | None:
    """None where it went well, or nothing is rehearsed; else how it ended, and nothing that it was for is begun."""
    first = plan.rehearsal
    if first is None or first.submission is None or first.cost is None:
        return None
    submission, settings = first.submission, planned.settings
    view.note(f"rehearsal: {first.why}")
    register(submission, planned.runs_dir, ledger)
    spending = Spending(first.cost, settings["budget"], parallel=True)
    opened = planned.open_backend(view.note)
    drive_or_follow(submission, settings, planned.request.retry_failed, ledger, view, spending, opened)
    if all(counted(inspect_all(planned.runs_dir, run.run_id)) is not None for run in submission.runs):
        write_rehearsed(ledger, submission)
        return None
    view.note("the rehearsal did not come to its end: nothing that it was for was started")
    return finish(submission, ledger, planned.quiet)


def tell_ids(planned: PlannedSubmit) -> None:
    """Of what was left: what a script comes back with."""
    ids = [plan.submission.submission_id for plan in planned.plans]
    what = {"submission_id": ids[0]} if planned.grid is None else {"grid": planned.grid.name, "submission_ids": ids}
    print(json.dumps({"schema_version": 1, **what, "detached": True}) if planned.request.json else "\n".join(ids))


def _tell(outcome: Outcome, request: Request) -> None:
    """What a script reads, alone on stdout."""
    if request.json:
        print(json.dumps({"schema_version": 1} | outcome.to_dict()))
    elif request.quiet:
        print(outcome.submission.submission_id)


def _stay(cases: Sequence[Case]) -> None:
    pass


def leave_when_begun(cases: Sequence[Case]) -> None:
    if any(case.live is not None for case in cases):
        raise Detached


def _left(planned: PlannedSubmit, what: str, waiting: int = 0) -> str:
    """`what`: the beginning of a submission's id, or the name of a grid, of which so many variants have not begun."""
    if planned.cloud is None:
        return _interrupted(what)
    flag = runs_flag(planned.runs_dir)
    return (
        f"detached: {what} goes on on Modal. Come back with `python -m orchestrator status {what} -f{flag}`, or from "
        "any machine with --on modal; the same submit brings it home, `cancel` ends it"
        + (f". Not begun for want of room: {waiting} variants, which the same submit begins" if waiting else "")
    )


def _interrupted(what: str) -> str:
    return f"interrupted: what {what} was training is void, what is sealed stays; the same submit goes on from there"


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM ends us as Ctrl-C does: with our workers ended first."""

    def interrupt(signum: int, frame: typing.Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
