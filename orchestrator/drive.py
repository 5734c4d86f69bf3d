"""Register a submission, and drive it from this process, or follow whoever drives it."""

import os
import sys
import time
import typing
from collections.abc import Callable, Sequence
from pathlib import Path

from golf_core.rundir import BUNDLE, read_json, write_bytes, write_json
from orchestrator.attempts import now_utc
from orchestrator.backends import MODAL
from orchestrator.backends.base import Backend
from orchestrator.case import Case, lease_of_submission
from orchestrator.controller import Controller
from orchestrator.ledger.store import Lease, Ledger
from orchestrator.limits import limits_of
from orchestrator.money.admission import Admission
from orchestrator.money.spending import Meter, Spending
from orchestrator.other_seeds import KEY as OTHER_SEEDS
from orchestrator.other_seeds import Asked, find_other_seeds, refresh
from orchestrator.overview import Overview, Row
from orchestrator.preflight import check_folder
from orchestrator.proc import folder_lock
from orchestrator.registered import SPEC
from orchestrator.settings import Settings
from orchestrator.spec import SUBMISSION_DIGITS, Submission, Target
from orchestrator.view import View

READABLE = "train_gpt.readable.py"  # the source of a packed bundle: for the eye, never counted or submitted
FOLLOW_SECONDS = 0.5  # between looks of a submit that only follows
REGISTER_PATIENCE = 120.0  # seconds that other submits may take to register theirs


def register(submission: Submission, runs_dir: Path, ledger: Ledger, asked: Asked | None = None) -> None:
    """The submission's folder, whole or not at all; the first of several that do this at once wins. `asked` remembers
    over many submissions."""
    folder = runs_dir / submission.submission_id[:SUBMISSION_DIGITS]
    with folder_lock(runs_dir, REGISTER_PATIENCE):
        spec = spec_there(runs_dir, submission)
        others = find_other_seeds(runs_dir, submission, spec, asked)
        if check_folder(runs_dir, submission):
            refresh(folder / SPEC, spec, others)
        else:
            scratch = runs_dir / f".{folder.name}.{os.getpid()}.tmp"
            scratch.mkdir(exist_ok=True)
            write_bytes(scratch / BUNDLE, submission.bundle.encode())
            if submission.readable is not None:
                write_bytes(scratch / READABLE, submission.readable.encode())
            write_json(scratch / SPEC, submission.to_dict(now_utc()) | {OTHER_SEEDS: [one.to_dict() for one in others]})
            os.rename(scratch, folder)
        sid = submission.submission_id
        if not ledger.events(submission_id=sid, kind="submission_registered"):  # or whoever made the folder died here
            told = {"recipe": submission.recipe, "overrides": list(submission.overrides)}
            ledger.append("submission_registered", submission_id=sid, data=told | {"seeds": list(submission.seeds)})


def spec_there(runs_dir: Path, submission: Submission) -> dict[str, typing.Any]:
    """What the submission's spec.json says; nothing where it is not registered yet."""
    path = runs_dir / submission.submission_id[:SUBMISSION_DIGITS] / SPEC
    return read_json(path) if path.exists() else {}


def make_overview(submission: Submission, runs_dir: Path, meter: Meter | None = None) -> Overview:
    return Overview(runs_dir, [(run.seed, run.run_id) for run in submission.runs], submission.diagnostic_only, meter)


def drive_or_follow(
    submission: Submission,
    settings: Settings,
    retry_failed: bool,
    ledger: Ledger,
    view: View,
    spending: Spending,
    open_backend: Callable[[], Backend],
    seen: Callable[[Sequence[Case]], None] = lambda cases: None,
) -> None:
    """Drive, if nobody does; else follow whoever does, and take over if that one dies before the end. `seen` is told
    of each round."""
    runs_dir = Path(settings["runs_dir"])
    overview = make_overview(submission, runs_dir, Meter(ledger, submission.submission_id))
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
        if nothing_is_left(ledger, submission.submission_id, rows, retry_failed):
            ledger.release(lease)
            return
        view.note("it ended before all was done that is asked for; taking over")
    try:
        admission = spending.admission(submission, ledger, lease)
        controller = make_controller(submission, settings, retry_failed, ledger, lease, open_backend, admission)

        def watch(cases: Sequence[Case]) -> None:
            view.update(overview.rows(controlled=True, notes={case.run.seed: case.note for case in cases}))
            seen(cases)

        controller.drive(watch)
    finally:
        ledger.release(lease)


def nothing_is_left(ledger: Ledger, submission_id: str, rows: Sequence[Row], retry_failed: bool) -> bool:
    """Of a submission whose driver has ended, for somebody who followed it."""
    if cancelled_last(ledger, submission_id):
        return True
    over = all(row.state in ("done", "failed") for row in rows)
    return over and not (retry_failed and failed_unasked(ledger, submission_id, rows))


def failed_unasked(ledger: Ledger, submission_id: str, rows: Sequence[Row]) -> bool:
    """Whether runs failed under a driver that was not told to try failures again: it did not hear who asked later."""
    last = ledger.events(submission_id=submission_id, kind="submit")[-1:]
    return any(row.state == "failed" for row in rows) and not any(event.data.get("retry_failed") for event in last)


def cancelled_last(ledger: Ledger, submission_id: str) -> bool:
    """Whether the last controller stopped by itself after a cancel: a follower does not undo that."""
    kinds = [event.kind for event in ledger.events(submission_id=submission_id)]
    last = {kind: index for index, kind in enumerate(kinds)}
    return last.get("cancel_requested", -1) > last.get("submit", -1) and kinds[-1] == "submission_ended"


def make_controller(
    submission: Submission,
    settings: Settings,
    retry_failed: bool,
    ledger: Ledger,
    lease: Lease,
    open_backend: Callable[[], Backend],
    admission: Admission,
) -> Controller:
    return Controller(
        submission,
        Path(settings["runs_dir"]),
        ledger,
        lease,
        open_backend,
        limits_of(submission, settings),
        slots_of(submission.target, settings["on"]),
        backend_name=settings["on"],
        retry_failed=retry_failed,
        admission=admission,
    )


def slots_of(target: Target, on: str) -> int:
    """How many runs this machine works on at once; elsewhere the backend says who must wait."""
    if on == MODAL:
        return sys.maxsize
    return max(1, len(os.sched_getaffinity(0)) // (target.processes * target.threads)) if target.device == "cpu" else 1
