"""The submit command: plan, register, drive or follow, then collect and pack; of a grid, one variant after another."""

import contextlib
import json
import signal
import sys
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from golf_core.recipes import Grid
from orchestrator import errors
from orchestrator.attempts import inspect_all
from orchestrator.backends import check_backend, warm_up
from orchestrator.budget import check
from orchestrator.catalogue import find
from orchestrator.cost import Cost
from orchestrator.default_policy import settings_of_policy
from orchestrator.drive import drive_or_follow, register, spec_there
from orchestrator.errors import UsageError
from orchestrator.finish import finish
from orchestrator.grid import grid_lines, grid_plan, plan_lines, settings_of_grid, tell_grid, variant_heading
from orchestrator.ledger import Ledger, check_ownership
from orchestrator.money import Spending, account_of, budget_rows, confirm, terminal
from orchestrator.other_seeds import find_other_seeds
from orchestrator.outcome import Outcome, worst
from orchestrator.plan import Plan, check_sizes, lines, make_plan
from orchestrator.planned_gpus import settings_of_plan
from orchestrator.preflight import check_folder, prepare, prepare_script
from orchestrator.settings import Settings
from orchestrator.spec import SUBMISSION_DIGITS, Submission
from orchestrator.view import View, make_view


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
    check_script_flags(settings, request)
    grid: Grid | None = None
    meanwhile = (lambda: None) if request.dry_run else (lambda: warm_up(settings["on"]))
    if request.script is not None:
        settings = settings_of_plan(None, settings, request.dry_run)
        settings = settings_of_policy(None, settings, ())
        prepared = [prepare_script(settings, request.script, request.env, request.artifact, meanwhile)]
    else:
        found = find(settings["recipe"])
        settings = settings_of_plan(found, settings, request.dry_run)
        if isinstance(found, Grid):
            grid, settings = found, settings_of_grid(found, settings, request.bundle)
        settings = settings_of_policy(found, settings, request.overrides)
        prepared = prepare(settings, found, request.overrides, request.bundle, meanwhile)
    plans = []
    for one in prepared:
        check_folder(runs_dir, one.submission)
        attempts = {run.run_id: inspect_all(runs_dir, run.run_id) for run in one.submission.runs}
        others = find_other_seeds(runs_dir, one.submission, spec_there(runs_dir, one.submission))
        edited = request.bundle is not None
        plans.append(make_plan(one, attempts, settings, request.retry_failed, edited, others))
    print_plan(plans, grid, settings, request)
    if request.dry_run:
        return errors.OK
    check_sizes(plans)
    check(costs_of(plans), account_of(runs_dir), settings["budget"])
    if not confirm([plan.cost for plan in plans], request.yes, terminal()):
        print("nothing was started", file=sys.stderr)
        return errors.NOT_FINISHED
    outcomes: list[Outcome] = []
    with Ledger.create(runs_dir) as ledger, _terminated_like_interrupted():
        try:
            for number, plan in enumerate(plans, 1):
                if grid is not None:
                    print(f"\n{variant_heading(plan, number, len(plans))}", file=sys.stderr, flush=True)
                if (outcome := _run(plan, settings, request, ledger)) is None:
                    return errors.INTERRUPTED
                outcomes.append(outcome)
        finally:
            if grid is not None:
                tell_grid(grid, plans, outcomes, request.json, request.quiet)
    if grid is None:
        _tell(outcomes[0], request)
    return worst(outcome.exit_code for outcome in outcomes)


def costs_of(plans: Sequence[Plan]) -> list[tuple[str, Cost]]:
    return [(plan.submission.submission_id, plan.cost) for plan in plans]


def check_script_flags(settings: Settings, request: Request) -> None:
    """A script is an alternative to a recipe; what belongs to one is refused with the other."""
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


def print_plan(plans: Sequence[Plan], grid: Grid | None, settings: Settings, request: Request) -> None:
    """On stdout where it is all that was asked for, else on stderr."""
    stream = sys.stdout if request.dry_run else sys.stderr
    if request.json and request.dry_run:
        told = plans[0].to_dict() if grid is None else grid_plan(grid, plans)
        print(json.dumps(told, indent=1), file=stream)
        return
    bundle = f"--bundle {request.bundle}" if request.bundle else None
    text = (
        plan_lines(lines(plans[0], settings, bundle), plans[0]) if grid is None else grid_lines(grid, plans, settings)
    )
    text += [f"{name:<12} {value}  [{source}]" for name, value, source in budget_rows(costs_of(plans), settings)]
    for line in text:
        print(line, file=stream)
    stream.flush()


def _run(plan: Plan, settings: Settings, request: Request, ledger: Ledger) -> Outcome | None:
    """Register, drive or follow, make the tables; None where it was interrupted."""
    submission, runs_dir = plan.submission, Path(settings["runs_dir"])
    view: View | None = None
    register(submission, runs_dir, ledger)
    try:
        if not plan.finished:
            view = make_view(sys.stderr)
            spending = Spending(plan.cost, settings["budget"], request.parallel)
            drive_or_follow(submission, settings, request.retry_failed, ledger, view, spending)
    except KeyboardInterrupt:
        print(_interrupted(submission), file=sys.stderr)
        return None
    finally:
        if view is not None:
            view.close()
    return finish(submission, runs_dir, request.json or request.quiet)


def _tell(outcome: Outcome, request: Request) -> None:
    """What a script reads, alone on stdout."""
    if request.json:
        print(json.dumps({"schema_version": 1} | outcome.to_dict()))
    elif request.quiet:
        print(outcome.submission.submission_id)


def _interrupted(submission: Submission) -> str:
    return (
        f"interrupted: what {submission.submission_id[:SUBMISSION_DIGITS]} was training is void, what is sealed stays; "
        "the same submit goes on from there"
    )


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
