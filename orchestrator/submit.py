"""The submit command: plan, register, drive or follow, then collect and pack; of a grid, one variant after another."""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from golf_core.recipes import Grid
from golf_core.rundir import BUNDLE, read_json, write_bytes, write_json
from orchestrator import errors
from orchestrator.attempts import inspect_all, now_utc
from orchestrator.backends import check_backend, load_backend, warm_up
from orchestrator.catalogue import find
from orchestrator.controller import Case, Controller, lease_of_submission
from orchestrator.default_policy import settings_of_policy
from orchestrator.errors import UsageError
from orchestrator.grid import grid_lines, grid_plan, plan_lines, settings_of_grid, tell_grid, variant_heading
from orchestrator.last_words import last_words
from orchestrator.ledger import Lease, Ledger, check_ownership
from orchestrator.other_seeds import KEY as OTHER_SEEDS
from orchestrator.other_seeds import find_other_seeds, refresh
from orchestrator.outcome import Outcome, worst
from orchestrator.overview import Overview, Row
from orchestrator.plan import Plan, check_sizes, lines, make_plan
from orchestrator.planned_gpus import settings_of_plan
from orchestrator.preflight import ROOT, SPEC, check_folder, prepare, prepare_script
from orchestrator.proc import folder_lock
from orchestrator.settings import DEFAULT, Settings
from orchestrator.spec import SUBMISSION_DIGITS, Limits, Submission
from orchestrator.view import View, make_view

READABLE = "train_gpt.readable.py"  # the source of a packed bundle: for the eye, never counted or submitted
REPORT = "report.html"  # beside the tables, made by results
FOLLOW_SECONDS = 0.5  # between looks of a submit that only follows
FINISH_PATIENCE = 120.0  # seconds that another submit may take to write the tables


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
    cost = "none: this machine" if settings["gpu"] is None else "not known: these GPUs are not here"
    for line in [*text, f"{'cost':<12} {cost}"]:
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
            _drive_or_follow(submission, settings, request, ledger, view)
    except KeyboardInterrupt:
        print(_interrupted(submission), file=sys.stderr)
        return None
    finally:
        if view is not None:
            view.close()
    return finish(submission, runs_dir, request)


def register(submission: Submission, runs_dir: Path, ledger: Ledger) -> None:
    """The submission's folder, whole or not at all; the first of several that do this at once wins."""
    folder = runs_dir / submission.submission_id[:SUBMISSION_DIGITS]
    with folder_lock(runs_dir, FINISH_PATIENCE):
        spec = spec_there(runs_dir, submission)
        others = find_other_seeds(runs_dir, submission, spec)
        if check_folder(runs_dir, submission):
            refresh(folder / SPEC, spec, others)
            return
        scratch = runs_dir / f".{folder.name}.{os.getpid()}.tmp"
        scratch.mkdir(exist_ok=True)
        write_bytes(scratch / BUNDLE, submission.bundle.encode())
        if submission.readable is not None:
            write_bytes(scratch / READABLE, submission.readable.encode())
        write_json(scratch / SPEC, submission.to_dict(now_utc()) | {OTHER_SEEDS: [one.to_dict() for one in others]})
        os.rename(scratch, folder)
        data = {"recipe": submission.recipe, "overrides": list(submission.overrides), "seeds": list(submission.seeds)}
        ledger.append("submission_registered", submission_id=submission.submission_id, data=data)


def spec_there(runs_dir: Path, submission: Submission) -> dict[str, typing.Any]:
    """What the submission's spec.json says; nothing where it is not registered yet."""
    path = runs_dir / submission.submission_id[:SUBMISSION_DIGITS] / SPEC
    return read_json(path) if path.exists() else {}


def make_overview(submission: Submission, runs_dir: Path) -> Overview:
    return Overview(runs_dir, [(run.seed, run.run_id) for run in submission.runs], submission.diagnostic_only)


def _drive_or_follow(submission: Submission, settings: Settings, request: Request, ledger: Ledger, view: View) -> None:
    """Drive, if nobody does; else follow whoever does, and take over if that one dies before the end."""
    runs_dir = Path(settings["runs_dir"])
    overview = make_overview(submission, runs_dir)
    name = lease_of_submission(submission.submission_id)
    lease = ledger.acquire(name)
    if lease is None:
        holder = ledger.holder(name)
        who = f"process {holder.pid}" if holder is not None else "another process"
        view.note(f"{who} is running this submission already; following it (Ctrl-C stops following, not it)")
        while (lease := ledger.acquire(name)) is None:
            view.update(overview.rows(controlled=True))
            time.sleep(FOLLOW_SECONDS)
        rows = overview.rows(controlled=False)
        view.update(rows)
        if all(row.state in ("done", "failed") for row in rows) or _cancelled_last(ledger, submission):
            ledger.release(lease)
            return
        view.note("it ended before its work was done; taking over")
    _drive(submission, settings, request, ledger, lease, view, overview)


def _cancelled_last(ledger: Ledger, submission: Submission) -> bool:
    """Whether the last controller stopped by itself after a cancel: a follower does not undo that."""
    kinds = [event.kind for event in ledger.events(submission_id=submission.submission_id)]
    last = {kind: index for index, kind in enumerate(kinds)}
    return last.get("cancel_requested", -1) > last.get("submit", -1) and kinds[-1] == "submission_ended"


def _drive(
    submission: Submission,
    settings: Settings,
    request: Request,
    ledger: Ledger,
    lease: Lease,
    view: View,
    overview: Overview,
) -> None:
    policy, target, runs_dir = submission.policy, submission.target, Path(settings["runs_dir"])
    limits = Limits(
        train_s=policy.train_seconds,
        evaluate_s=policy.evaluate_seconds,
        kill_after_s=policy.kill_after_seconds,
        startup_s=settings["startup_seconds"],
        silence_s=_silence(submission, settings),
    )
    slots = max(1, len(os.sched_getaffinity(0)) // (target.processes * target.threads)) if target.device == "cpu" else 1
    controller = Controller(
        submission,
        runs_dir,
        ledger,
        lease,
        lambda: load_backend(settings["on"], runs_dir),
        limits,
        slots,
        backend_name=settings["on"],
        retry_failed=request.retry_failed,
    )

    def watch(cases: Sequence[Case]) -> None:
        view.update(overview.rows(controlled=True, notes={case.run.seed: case.note for case in cases}))

    try:
        controller.drive(watch)
    finally:
        ledger.release(lease)


def _silence(submission: Submission, settings: Settings) -> float:
    """Where nobody gave one, a script may be silent for as long as an evaluation: most print nothing in theirs."""
    seconds, policy = float(settings["silence_seconds"]), submission.policy
    if submission.script is None or settings.source("silence_seconds") != DEFAULT:
        return seconds
    return max(seconds, policy.evaluate_seconds + policy.kill_after_seconds)


def finish(submission: Submission, runs_dir: Path, request: Request) -> Outcome:
    """Tables and submission folder from what is sealed, the next commands, the exit code."""
    sid = submission.submission_id
    folder = runs_dir / sid[:SUBMISSION_DIGITS]
    rows = make_overview(submission, runs_dir).rows(controlled=False)
    failed = [row for row in rows if row.state == "failed"]
    open_rows = [row for row in rows if row.state not in ("done", "failed")]
    missing = len(failed) + len(open_rows)
    diagnostic = any(row.diagnostic_only for row in rows)
    verbs = [] if missing == len(rows) else ["collect"] if missing or diagnostic else ["collect", "pack"]
    with folder_lock(folder, FINISH_PATIENCE):
        codes: list[int] = []
        said: set[str] = set()
        for verb in verbs:
            if errors.BACKEND not in codes:
                codes.append(results_command(verb, sid, runs_dir, request.json or request.quiet, said))
        if codes and errors.BACKEND not in codes:  # evidence that contradicts itself is told of once
            _report(sid, runs_dir, folder, request.json or request.quiet, said)
    _tell_why(failed, sid[:SUBMISSION_DIGITS], _place(runs_dir))
    for row in open_rows:
        print(f"seed {row.seed}: {row.state} · {row.note}", file=sys.stderr)
    if diagnostic and verbs:
        print("diagnostic only: tables, but no submission folder", file=sys.stderr)
    code = errors.FAILED if failed else errors.NOT_FINISHED if open_rows else worst(codes)
    _next_commands(sid[:SUBMISSION_DIGITS], runs_dir, folder, bool(failed))
    return Outcome(submission, code, rows, folder)


def _tell(outcome: Outcome, request: Request) -> None:
    """What a script reads, alone on stdout."""
    if request.json:
        print(json.dumps({"schema_version": 1} | outcome.to_dict()))
    elif request.quiet:
        print(outcome.submission.submission_id)


def results_command(verb: str, submission_id: str, runs_dir: Path, quiet: bool, said: set[str]) -> int:
    """`python -m results VERB`: another room, so another process. What it prints is data, unless that is not wanted.
    `said` are the lines that verbs have told: each looks at the same attempts, and would tell of them again."""
    env = dict(os.environ)
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), env.get("PYTHONPATH")]))
    sys.stdout.flush()
    done = subprocess.run(
        [sys.executable, "-m", "results", verb, submission_id, "--runs-dir", str(runs_dir)],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr if quiet else None,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=env,
    )
    for line in done.stderr.splitlines():
        if line not in said:
            print(line, file=sys.stderr, flush=True)
        said.add(line)
    return done.returncode if done.returncode >= 0 else errors.BACKEND


def _report(submission_id: str, runs_dir: Path, folder: Path, quiet: bool, said: set[str]) -> None:
    """The page beside the tables. It is for the eye: where it cannot be made, that is said and fails nothing."""
    code = results_command("report", submission_id, runs_dir, quiet, said)
    if code not in (errors.OK, errors.FAILED, errors.NOT_FINISHED) or not (folder / REPORT).is_file():
        again = f"python -m results report {folder.name} --runs-dir {runs_dir}"
        print(f"no {REPORT} (exit code {code}); the tables stand. Again: {again}", file=sys.stderr)


def _next_commands(short: str, runs_dir: Path, folder: Path, failed: bool) -> None:
    place = _place(runs_dir)
    print("next:", file=sys.stderr)
    if failed:
        print("  the same submit with --retry-failed", file=sys.stderr)
    elif (folder / "submission").is_dir():
        print(f"  python -m results verify {short}{place}", file=sys.stderr)
    else:
        print(f"  python -m orchestrator status {short} -v{place}", file=sys.stderr)
    if (folder / REPORT).is_file():
        print(f"  open {folder / REPORT}", file=sys.stderr)


def _place(runs_dir: Path) -> str:
    """The flag that a command needs to find these runs."""
    return "" if str(runs_dir) == "runs" else f" --runs-dir {shlex.quote(str(runs_dir))}"


def _tell_why(failed: Sequence[Row], short: str, place: str) -> None:
    """What each failed seed said last, once, and where all of it is. That it failed the view has told."""
    for row in failed:
        words = last_words(row.folder) if row.folder is not None else []
        print(f"seed {row.seed}: the end of the log of attempt {row.attempt}", file=sys.stderr)
        for line in words or ["(it is empty)"]:
            print(f"  | {line}", file=sys.stderr)
        print(f"  all of it: python -m orchestrator logs {short} --seed {row.seed}{place}", file=sys.stderr)


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
