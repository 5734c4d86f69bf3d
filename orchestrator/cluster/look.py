"""On the head: what there is of submissions and runs, and the bytes of their files, to stdout. transfer.py reads it."""

import json
import re
import sys
import typing
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from golf_core.rundir import BUNDLE, file_sha256
from orchestrator.attempts import ATTEMPTS, Attempt, folders_of, inspect
from orchestrator.errors import BackendFailure, UsageError
from orchestrator.ledger.store import Event, Ledger
from orchestrator.ledger.travel import event_to_dict
from orchestrator.registered import chosen, grids, meant, runs_of, spec_of
from orchestrator.spec import SUBMISSION_DIGITS

SCHEMA_VERSION = 1
CONTROLLER_JOB = "controller_job"  # event
OVER = ("counted", "void", "failed", "damaged")  # what will not change by itself
PIECE_BYTES = 16 << 20  # that one command brings: its log passes through the head's memory
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


def look(
    state: Path,
    prefix: str | None,
    run_ids: Sequence[str] | None,
    here: Sequence[str] | None,
    submissions: Sequence[str] = (),
) -> int:
    """Print what is there: of one submission, of several by their whole ids, or of runs that somebody plans. With
    `here`, the attempts that the asker has whole, small files of the others follow at once: each command costs
    seconds."""
    with Ledger.create(state) as ledger:
        told: dict[str, typing.Any] = {"schema_version": SCHEMA_VERSION, "origin": ledger.name, "state_dir": str(state)}
        if run_ids is None:
            every = [chosen(ledger, sid) for sid in submissions] or meant(ledger, prefix)
            told["variants"] = every if not submissions and prefix in grids(ledger) else []
            asked, others = (every, []) if submissions else (every[:1], every[1:])
            told["submissions"] = [_registered(state, sid) for sid in asked]
            run_ids = [run["run_id"] for one in told["submissions"] for run in one["spec"]["runs"]]
            theirs = [run_id for other in others for _, run_id in runs_of(spec_of(state, other))]
            told["events"] = [event_to_dict(event) for event in events_of(ledger, every, {*run_ids, *theirs})]
            told |= job_of(ledger, every[0])
    attempts = [_tell(run_id, inspect(*found[::-1])) for run_id in run_ids for found in folders_of(state, run_id)]
    follow = [] if here is None else _inline([one for one in attempts if one["attempt_id"] not in here])
    sys.stdout.write(json.dumps(told | {"attempts": attempts, "inline": follow}) + "\n")
    sys.stdout.flush()
    return send(state, follow)


def _registered(state: Path, submission_id: str) -> dict[str, typing.Any]:
    bundle = state / submission_id[:SUBMISSION_DIGITS] / BUNDLE
    return {"spec": spec_of(state, submission_id), "bundle": bundle.read_text(encoding="utf-8")}


def write_job(ledger: Ledger, job: str, submission_ids: Collection[str], life: str = "") -> int:
    """Which controller has these submissions to drive. The number of the event in which that was first said: `life` is
    the same for a controller that was started again in its job."""
    for event in ledger.events(kind=CONTROLLER_JOB) if life else ():
        if event.data.get("life") == life:
            return event.seq
    data = {"job": job, "submissions": list(submission_ids), "life": life}
    return ledger.append(CONTROLLER_JOB, data=data)


def job_of(ledger: Ledger, submission_id: str) -> dict[str, typing.Any]:
    """The last controller that was given it, with others or alone."""
    for event in reversed(ledger.events(kind=CONTROLLER_JOB)):
        if submission_id in (given := event.data["submissions"]):
            return {"job": event.data["job"], "several": len(given) > 1}
    return {"job": "", "several": False}


def _inline(attempts: Sequence[Mapping[str, typing.Any]]) -> list[tuple[str, str, int, int]]:
    """Whole files, as far as one command brings them."""
    pieces, room = [], PIECE_BYTES
    for one in attempts:
        for name, entry in one["files"].items():
            if entry["size"] <= room:
                pieces.append((one["attempt_id"], name, 0, entry["size"]))
                room -= entry["size"]
    return pieces


def events_of(ledger: Ledger, submission_ids: Collection[str], run_ids: Collection[str], after: int = 0) -> list[Event]:
    """Of submissions, and of their runs in others."""
    found = ledger.events(after=after)
    return [event for event in found if event.submission_id in submission_ids or event.run_id in run_ids]


def _tell(run_id: str, attempt: Attempt) -> dict[str, typing.Any]:
    files = {}
    if attempt.state in OVER:
        for path in sorted(attempt.folder.iterdir()):
            if path.is_file() and not path.is_symlink() and NAME.fullmatch(path.name):
                files[path.name] = {"size": (size := path.stat().st_size), "sha256": file_sha256(path, size)}
    told = {name: getattr(attempt, name) for name in ("number", "state", "cls", "stage", "message", "train_sealed")}
    return {"run_id": run_id, "attempt_id": attempt.attempt_id, "files": files} | told


def send(state: Path, pieces: Sequence[Sequence[typing.Any]]) -> int:
    """Write (attempt, file, offset, bytes) pieces to stdout, one behind the other."""
    for name, file, offset, size in pieces:
        if not (re.fullmatch(r"[0-9a-f]+-a[1-9][0-9]*", name) and NAME.fullmatch(file)):
            raise UsageError(f"{name}/{file} is no file of an attempt")
        path = state / ATTEMPTS / name / file
        if path.is_symlink():
            raise UsageError(f"{path} is a link")
        with path.open("rb") as opened:
            opened.seek(offset)
            data = opened.read(size)
        if len(data) != size:
            raise BackendFailure(f"{path} has become shorter")
        sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
    return 0
