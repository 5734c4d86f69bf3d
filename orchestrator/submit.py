"""The submit command: plan, register, drive or follow, then collect and pack; of a grid, its variants side by side."""

import contextlib
import json
import signal
import sys
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from golf_core.config import Config
from golf_core.recipes import Grid, Recipe
from orchestrator import errors
from orchestrator.attempts import counted, inspect_all, numbers_by_run
from orchestrator.backends import check_backend, warm_up
from orchestrator.catalogue import find
from orchestrator.default_policy import settings_of_policy
from orchestrator.drive import drive_or_follow, register, spec_there
from orchestrator.errors import UsageError
from orchestrator.finish import finish
from orchestrator.grids.file import use_grid_file
from orchestrator.grids.run import run_grid
from orchestrator.grids.submit import grid_lines, grid_plan, plan_lines, settings_of_grid, tell_grid
from orchestrator.hardware.request import settings_of_plan, settings_of_request
from orchestrator.ledger.rebuild import mend
from orchestrator.ledger.store import Ledger, check_ownership
from orchestrator.money.budget import check
from orchestrator.money.cost import Cost
from orchestrator.money.rehearsal import has_run, key_of, plan_rehearsal, write_rehearsed
from orchestrator.money.spending import Spending, account_of, budget_rows, confirm, terminal
from orchestrator.other_seeds import Asked, find_other_seeds
from orchestrator.outcome import Outcome, worst
from orchestrator.plan import Plan, check_sizes, lines, make_plan
from orchestrator.preflight import Prepared, check_folder, check_here, make_target, prepare, prepare_script
from orchestrator.settings import Settings
from orchestrator.settled import Settled
from orchestrator.spec import SUBMISSION_DIGITS
from orchestrator.view import View, make_view

if typing.TYPE_CHECKING:
    from orchestrator.cluster.site import Cluster

OF_A_CLUSTER = ("state_dir", "node_dir", "storage")


@dataclass(frozen=True)
class Request:
    """The command line of `submit`, beyond its settings."""

    overrides: tuple[str, ...] = ()
    bundle: Path | None = None
    script: Path | None = None
    env: tuple[str, ...] = ()  # NAME=VALUE, for the script
    artifact: str | None = None  # glob, for the script
    dry_run: bool = False
    json: bool = False
    quiet: bool = False
    retry_failed: bool = False
    yes: bool = False
    parallel: bool = False
    rehearsal: bool = True
    install_packages: bool = False
    insecure: bool = False
    grid: Path | None = None


def submit(settings: Settings, request: Request) -> int:
    """Run the command; its exit code."""
    check_backend(settings["on"])
    runs_dir = Path(settings["runs_dir"])
    check_ownership(runs_dir)
    if not request.dry_run:
        mend(runs_dir, lambda line: print(line, file=sys.stderr, flush=True))
    check_script_flags(settings, request)
    cluster = open_cluster(settings, request)
    settings = settings_of_request(settings) if cluster is None else cluster.settings(settings)
    settings, grid, prepared = prepare_all(settings, request, cluster)
    plans = make_plans(prepared, settings, request, cluster)
    print_plan(plans, grid, settings, request, cluster)
    if request.dry_run:
        return errors.OK
    check_sizes(plans)
    check(costs_of(plans), account_of(runs_dir), settings["budget"])
    if not confirm([cost for _, cost in costs_of(plans)], request.yes, terminal()):
        print("nothing was started", file=sys.stderr)
        return errors.NOT_FINISHED
    with Ledger.create(runs_dir) as ledger, _terminated_like_interrupted():
        outcomes: list[Outcome] = []
        try:
            whole = (
                _run_all(plans, grid, settings, request, ledger, outcomes)
                if cluster is None
                else _run_there(cluster, plans, grid, settings, request, ledger, outcomes)
            )
        finally:
            if grid is not None:
                tell_grid(grid, plans, outcomes, request.json, request.quiet)
    if not whole:
        return errors.INTERRUPTED
    if grid is None:
        _tell(outcomes[0], request)
    return worst(outcome.exit_code for outcome in outcomes)


def open_cluster(settings: Settings, request: Request) -> "Cluster | None":
    """The cluster that is to run it; None: this machine does."""
    if settings["address"] is None:
        given = [f"--{name.replace('_', '-')}" for name in OF_A_CLUSTER if settings.source(name).startswith("--")]
        given += ["--install-packages"] * request.install_packages + ["--insecure"] * request.insecure
        if given:
            raise UsageError(f"{given[0]} is of a cluster, and --address names none")
        return None
    if settings["on"] != "ray":
        raise UsageError(f"{settings.source('address')}: a cluster is Ray's; use --on ray, not {settings['on']}")
    from orchestrator.cluster.site import Cluster

    return Cluster(settings, Path(settings["runs_dir"]), request.insecure, request.install_packages)


def prepare_all(
    settings: Settings, request: Request, cluster: "Cluster | None"
) -> tuple[Settings, Grid | None, list[Prepared]]:
    """Everything that is asked for, and the settings as they follow from it."""
    grid: Grid | None = None
    local = cluster is None and not request.dry_run
    meanwhile = (lambda: warm_up(settings["on"])) if local else (lambda: None)
    target_of, begin_check = (make_target, check_here) if cluster is None else (cluster.target, cluster.check)
    if request.script is not None:
        settings = settings if cluster is not None else settings_of_plan(None, settings, request.dry_run)
        settings = settings_of_policy(None, settings, (), target_of)
        script = prepare_script(
            settings, request.script, request.env, request.artifact, meanwhile, target_of, begin_check
        )
        return settings, None, [script]
    found: Recipe | Grid
    if request.grid is not None:
        found, settings = use_grid_file(request.grid, settings, request.overrides)
    else:
        found = find(settings["recipe"])
    settings = settings if cluster is not None else settings_of_plan(found, settings, request.dry_run)
    if isinstance(found, Grid):
        grid, settings = found, settings_of_grid(found, settings, request.bundle)
    settings = settings_of_policy(found, settings, request.overrides, target_of)
    prepared = prepare(settings, found, request.overrides, request.bundle, meanwhile, target_of, begin_check)
    return settings, grid, prepared


def make_plans(
    prepared: Sequence[Prepared], settings: Settings, request: Request, cluster: "Cluster | None"
) -> list[Plan]:
    """What would run, and what is there already: here, or on the cluster."""
    runs_dir = Path(settings["runs_dir"])
    plans: list[Plan] = []
    there = None if cluster is None else cluster.attempts([one.submission for one in prepared])
    here, asked, settled = numbers_by_run(runs_dir), Asked(runs_dir), Settled(runs_dir)
    for one in prepared:
        check_folder(runs_dir, one.submission)
        run_ids = [run.run_id for run in one.submission.runs]
        attempts = (
            {run_id: settled.of(run_id, here) for run_id in run_ids}
            if there is None
            else {run_id: there[run_id] for run_id in run_ids}
        )
        others = find_other_seeds(runs_dir, one.submission, spec_there(runs_dir, one.submission), asked)
        edited = request.bundle is not None
        plan = make_plan(one, attempts, settings, request.retry_failed, edited, others)
        plans.append(with_rehearsal(plan, None if edited else one.config, plans, request.rehearsal, runs_dir))
    return plans


def _run_all(
    plans: Sequence[Plan],
    grid: Grid | None,
    settings: Settings,
    request: Request,
    ledger: Ledger,
    outcomes: list[Outcome],
) -> bool:
    """On this machine, a grid's variants side by side; False where it was interrupted."""
    if grid is not None:
        return _run_grid(grid, plans, settings, request, ledger, outcomes)
    for plan in plans:
        if (outcome := _run(plan, settings, request, ledger)) is None:
            return False
        outcomes.append(outcome)
    return True


def _run_grid(
    grid: Grid,
    plans: Sequence[Plan],
    settings: Settings,
    request: Request,
    ledger: Ledger,
    outcomes: list[Outcome],
) -> bool:
    """All variants, after what rehearses for them; False where it was interrupted."""
    view = make_view(sys.stderr)
    try:
        for plan in plans:
            if (failed := _rehearse(plan, settings, request, ledger, view)) is not None:
                outcomes.append(failed)
                return True
        view.close()
        run_grid(
            grid.name,
            plans,
            settings,
            ledger,
            outcomes,
            retry_failed=request.retry_failed,
            parallel=request.parallel,
            quiet=request.json or request.quiet,
        )
    except KeyboardInterrupt:
        print(_interrupted(f"of {grid.name}"), file=sys.stderr)
        return False
    finally:
        view.close()
    return True


def _run_there(
    cluster: "Cluster",
    plans: Sequence[Plan],
    grid: Grid | None,
    settings: Settings,
    request: Request,
    ledger: Ledger,
    outcomes: list[Outcome],
) -> bool:
    """On the cluster; False where we left before the end."""
    from orchestrator.cluster.submit import Sending, detached, run_on_cluster

    name = None if grid is None else grid.name
    sending = Sending(cluster, plans, settings, name, request.retry_failed, request.parallel)
    view = make_view(sys.stderr)
    try:
        outcomes += run_on_cluster(sending, request.json or request.quiet, ledger, view)
    except KeyboardInterrupt:
        view.close()
        what = name or plans[0].submission.submission_id[:SUBMISSION_DIGITS]
        print(detached(what, ledger.path.parent, cluster.server.url), file=sys.stderr)
        return False
    finally:
        view.close()
    return True


def with_rehearsal(plan: Plan, config: Config | None, before: Sequence[Plan], wanted: bool, runs_dir: Path) -> Plan:
    """The plan with what goes first. Of several variants of the same code the first one is rehearsed."""
    submission = plan.submission
    if plan.cost.free or not submission.target.gpus:  # nothing to ask: it takes a look at all text of all variants
        return plan
    known = any(planned.done for planned in plan.runs) or has_run(runs_dir, submission)
    known = known or any(key_of(other.submission) == key_of(submission) for other in before)
    return replace(plan, rehearsal=plan_rehearsal(submission, config, plan.cost, wanted=wanted, known=known))


def costs_of(plans: Sequence[Plan]) -> list[tuple[str, Cost]]:
    found = []
    for plan in plans:
        if plan.rehearsal is not None and plan.rehearsal.submission is not None and plan.rehearsal.cost is not None:
            found.append((plan.rehearsal.submission.submission_id, plan.rehearsal.cost))
        found.append((plan.submission.submission_id, plan.cost))
    return found


def check_script_flags(settings: Settings, request: Request) -> None:
    """A script is an alternative to a recipe; what belongs to one is refused with the other."""
    if request.grid is not None:
        given = [name for name in ("script", "bundle") if getattr(request, name, None) is not None]
        given += ["recipe"] * (settings.source("recipe") == "--recipe")
        if given:
            raise UsageError(f"--grid {request.grid} excludes --{given[0]}: the file names the recipe that it varies")
    if request.script is None:
        if request.env or request.artifact is not None:
            flag = "--env" if request.env else "--artifact"
            raise UsageError(f"{flag} is for --script, somebody's own program; a recipe has its values by --set")
        return
    given = [f"--{name}" for name in ("recipe", "dtype") if settings.source(name) == f"--{name}"]
    given += ["--set"] * bool(request.overrides) + ["--bundle"] * (request.bundle is not None)
    why = {
        "--recipe": "a submission runs either a recipe or a script",
        "--set": "a script's values are environment variables: --env NAME=VALUE",
        "--bundle": "a bundle is an edited train_gpt.py of a recipe",
        "--dtype": "a script chooses its dtype itself",
    }
    if given:
        raise UsageError(f"--script {request.script} excludes {given[0]}: {why[given[0]]}")


def print_plan(
    plans: Sequence[Plan], grid: Grid | None, settings: Settings, request: Request, cluster: "Cluster | None" = None
) -> None:
    """On stdout where it is all that was asked for, else on stderr."""
    stream = sys.stdout if request.dry_run else sys.stderr
    if request.json and request.dry_run:
        told = plans[0].to_dict() if grid is None else grid_plan(grid, plans)
        more = {} if cluster is None else {"cluster": cluster.to_dict()}
        print(json.dumps(told | more, indent=1), file=stream)
        return
    bundle = f"--bundle {request.bundle}" if request.bundle else None
    text = (
        plan_lines(lines(plans[0], settings, bundle), plans[0]) if grid is None else grid_lines(grid, plans, settings)
    )
    there = [] if cluster is None else cluster.rows(settings)
    for name, value, source in [*there, *budget_rows(costs_of(plans), settings)]:
        text.append(f"{name:<12} {value}  [{source}]")
    for line in text:
        print(line, file=stream)
    stream.flush()


def _run(plan: Plan, settings: Settings, request: Request, ledger: Ledger) -> Outcome | None:
    """Register, drive or follow, make the tables; None where it was interrupted."""
    submission, runs_dir, quiet = plan.submission, Path(settings["runs_dir"]), request.json or request.quiet
    view = make_view(sys.stderr)
    try:
        if (failed := _rehearse(plan, settings, request, ledger, view)) is not None:
            return failed
        register(submission, runs_dir, ledger)
        if not plan.finished:
            spending = Spending(plan.cost, settings["budget"], request.parallel)
            drive_or_follow(submission, settings, request.retry_failed, ledger, view, spending)
    except KeyboardInterrupt:
        print(_interrupted(submission.submission_id[:SUBMISSION_DIGITS]), file=sys.stderr)
        return None
    finally:
        view.close()
    return finish(submission, runs_dir, quiet)


def _rehearse(plan: Plan, settings: Settings, request: Request, ledger: Ledger, view: View) -> Outcome | None:
    """None where it went well, or nothing is rehearsed; else how it ended, and nothing that it was for is begun."""
    first = plan.rehearsal
    if first is None or first.submission is None or first.cost is None:
        return None
    submission, runs_dir = first.submission, Path(settings["runs_dir"])
    view.note(f"rehearsal: {first.why}")
    register(submission, runs_dir, ledger)
    spending = Spending(first.cost, settings["budget"], parallel=True)
    drive_or_follow(submission, settings, request.retry_failed, ledger, view, spending)
    if all(counted(inspect_all(runs_dir, run.run_id)) is not None for run in submission.runs):
        write_rehearsed(ledger, submission)
        return None
    view.note("the rehearsal did not come to its end: nothing that it was for was started")
    return finish(submission, runs_dir, request.json or request.quiet)


def _tell(outcome: Outcome, request: Request) -> None:
    """What a script reads, alone on stdout."""
    if request.json:
        print(json.dumps({"schema_version": 1} | outcome.to_dict()))
    elif request.quiet:
        print(outcome.submission.submission_id)


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
