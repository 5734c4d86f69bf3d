"""The end of a submit: tables and submission folder from what is sealed, and what to type next."""

import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from orchestrator import errors
from orchestrator.checkout import own_environment
from orchestrator.drive import make_overview
from orchestrator.last_words import last_words
from orchestrator.ledger.store import Ledger
from orchestrator.money.spending import spent_on
from orchestrator.outcome import Outcome, worst
from orchestrator.overview import Row
from orchestrator.proc import folder_lock
from orchestrator.spec import SUBMISSION_DIGITS, Submission

REPORT = "report.html"  # beside the tables, made by results
FINISH_PATIENCE = 120.0  # seconds that another submit may take to write the tables


def finish(submission: Submission, ledger: Ledger, quiet: bool) -> Outcome:
    """Tables and submission folder from what is sealed, next commands, exit code. `quiet`: nothing on stdout."""
    sid, runs_dir = submission.submission_id, ledger.path.parent
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
                codes.append(results_command(verb, sid, runs_dir, quiet, said))
        if codes and errors.BACKEND not in codes:  # evidence that contradicts itself is told of once
            _report(sid, runs_dir, folder, quiet, said)
    _tell_why(failed, sid[:SUBMISSION_DIGITS], runs_flag(runs_dir))
    reasons, spent = ended_by(ledger, sid), spent_on(ledger, sid)
    for row in open_rows:
        print(f"seed {row.seed}: {row.state} · {reasons.get(str(row.seed)) or row.note}", file=sys.stderr)
    if diagnostic and verbs:
        print("diagnostic only: tables, but no submission folder", file=sys.stderr)
    code = errors.FAILED if failed else errors.NOT_FINISHED if open_rows else worst(codes)
    if spent is not None:
        print(f"cost: {spent.describe()}", file=sys.stderr)
        code = errors.BUDGET if code == errors.NOT_FINISHED and spent.barred else code
    _next_commands(sid[:SUBMISSION_DIGITS], runs_dir, folder, bool(failed))
    return Outcome(submission, code, rows, folder, spent)


def ended_by(ledger: Ledger, submission_id: str) -> dict[str, str]:
    """Why the last controller ended with each seed, where it came to its end."""
    ends: dict[str, str] = {}
    for event in ledger.events(submission_id=submission_id):
        if event.kind in ("submit", "submission_ended"):
            ends = {str(seed): str(why) for seed, why in event.data.items()} if event.kind != "submit" else {}
    return ends


def results_command(verb: str, submission_id: str, runs_dir: Path, quiet: bool, said: set[str]) -> int:
    """`python -m results VERB`: another room, so another process. What it prints is data, unless that is not wanted.
    `said` are the lines that verbs have told: each looks at the same attempts, and would tell of them again."""
    sys.stdout.flush()
    done = subprocess.run(
        [sys.executable, "-m", "results", verb, submission_id, "--runs-dir", str(runs_dir)],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr if quiet else None,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=own_environment(),
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
    place = runs_flag(runs_dir)
    print("next:", file=sys.stderr)
    if failed:
        print("  the same submit with --retry-failed", file=sys.stderr)
    elif (folder / "submission").is_dir():
        print(f"  python -m results verify {short}{place}", file=sys.stderr)
    else:
        print(f"  python -m orchestrator status {short} -v{place}", file=sys.stderr)
    if (folder / REPORT).is_file():
        print(f"  open {folder / REPORT}", file=sys.stderr)


def runs_flag(runs_dir: Path) -> str:
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
