"""A submission in the volume of runs: put there once, so that any machine with the account finds it by its id; and its
attempts brought from there."""

import contextlib
import json
import os
import shutil
import sys
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from golf_core.rundir import BUNDLE, RUN, write_bytes, write_json
from orchestrator.attempts import ATTEMPTS, FOLDER, NODE, key_of, now_utc
from orchestrator.backends import MODAL
from orchestrator.case import lease_of_submission
from orchestrator.drive import READABLE
from orchestrator.errors import CommandError, UsageError
from orchestrator.ledger.store import FILE, Ledger
from orchestrator.money.budget import STARTING
from orchestrator.registered import SPEC, grids, meant
from orchestrator.settings import DEFAULT, Settings
from orchestrator.spec import SUBMISSION_DIGITS, Submission, attempt_id, unique_prefix

if typing.TYPE_CHECKING:
    from orchestrator.backends.modal_client import Cloud

SUBMISSIONS, GRIDS = "submissions", "grids"  # folders
NAMED = 4  # submissions in a note
SENT = "sent_to_modal"  # event: whoever asks here about it is to ask there, too


@dataclass(frozen=True)
class Sent:
    """What is meant by a command, and went to Modal. `name`: of a grid, or the beginning of an id; None: the latest."""

    name: str | None
    submission_ids: tuple[str, ...] = ()
    here: bool = False  # this runs folder knows it
    driven: bool = False  # by a process of this machine


def sent_of(settings: Settings, name: str | None) -> Sent | None:
    """None where it is not on Modal: `--on modal` says so, or the ledger knows that it was sent there. Where that knows
    nothing of it, a setting says so, too."""
    runs_dir, known = Path(settings["runs_dir"]), False
    if (runs_dir / FILE).exists():
        with Ledger.open(runs_dir) as ledger, contextlib.suppress(UsageError):
            ids = meant(ledger, name)
            known = True
            if all(was_sent(ledger, sid) for sid in ids):
                driven = any(ledger.holder(lease_of_submission(sid)) is not None for sid in ids)
                return Sent(name if name in grids(ledger) else ids[0], tuple(ids), True, driven)
    asked = settings["on"] == MODAL and (settings.source("on") == "--on" or not known)
    return Sent(name) if asked else None


def tell_newer(settings: Settings, sent: Sent) -> None:
    """Where somebody names Modal and a grid that this folder knows: whether another machine has sent another one of
    that name since. Nothing where Modal cannot be asked: the command says so itself, where it has to ask."""
    if not sent.here or sent.name in sent.submission_ids or settings.source("on") != "--on":
        return
    from orchestrator.cloud.site import asking, open_cloud

    with contextlib.suppress(CommandError), asking():
        cloud = open_cloud(with_environment(settings, sent))
        there = json.loads(cloud.read(f"{GRIDS}/{sent.name}.json") or b"[]")
        if there and there != [sid[:SUBMISSION_DIGITS] for sid in sent.submission_ids]:
            print(
                f"note: this is the grid {sent.name} that {settings['runs_dir']} knows; Modal has a newer one of that "
                f"name, of {', '.join(there[:NAMED])}{', …' if there[NAMED:] else ''}: another --runs-dir shows it",
                file=sys.stderr,
            )


def publish(submission: Submission, runs_dir: Path, cloud: "Cloud") -> None:
    """Its folder, as it was registered here first; one that is there stays as it is."""
    short = submission.submission_id[:SUBMISSION_DIGITS]
    place = f"{SUBMISSIONS}/{short}"
    if SPEC in cloud.listing(place):
        return
    names = [name for name in (BUNDLE, READABLE, SPEC) if (runs_dir / short / name).exists()]
    cloud.put({f"{place}/{name}": (runs_dir / short / name).read_bytes() for name in names})


def mark_sent(ledger: Ledger, submission_id: str, environment: str | None) -> None:
    """Raises UsageError where it went to another environment of the account: its claims are there alone, and all of it
    would be paid for twice."""
    if not (sent := ledger.events(submission_id=submission_id, kind=SENT)):
        ledger.append(SENT, submission_id=submission_id, data={"environment": environment})
    elif (there := sent[-1].data.get("environment")) != environment:
        before, now = (
            f"environment {one}" if one else "the account's default environment" for one in (there, environment)
        )
        raise UsageError(
            f"{submission_id[:SUBMISSION_DIGITS]} was sent to {before} on Modal, and this asks {now}: "
            f"{f'--modal-environment {there}' if there else 'without --modal-environment or MODAL_ENVIRONMENT'}; "
            "another --runs-dir starts it anew"
        )


def with_environment(settings: Settings, sent: "Sent") -> Settings:
    """Settings that ask where a submission was sent to, unless somebody says otherwise."""
    if not sent.here or settings.source("modal_environment") != DEFAULT:
        return settings
    with Ledger.open(Path(settings["runs_dir"])) as ledger:
        told = [event for sid in sent.submission_ids for event in ledger.events(submission_id=sid, kind=SENT)]
    there = told[-1].data.get("environment") if told else None
    return settings if there is None else settings.replaced("modal_environment", there, "where it was sent")


def was_sent(ledger: Ledger, submission_id: str) -> bool:
    return bool(ledger.events(submission_id=submission_id, kind=SENT))


def publish_grid(name: str, submission_ids: Sequence[str], cloud: "Cloud") -> None:
    """The latest of that name."""
    cloud.put({f"{GRIDS}/{name}.json": json.dumps([sid[:SUBMISSION_DIGITS] for sid in submission_ids]).encode()})


def published(cloud: "Cloud", name: str | None) -> list[Submission]:
    """The submission of that id, or the only one; of a grid's name all of its variants. Raises UsageError with what
    there is."""
    there = cloud.folders(SUBMISSIONS)
    if not there:
        raise UsageError("no submission was ever sent to this Modal account; `submit --on modal` sends one")
    if name is None and len(there) > 1:
        raise UsageError(f"name one of the submissions on Modal: {', '.join(there)}")
    if name is not None and f"{name}.json" in cloud.listing(GRIDS):
        variants = json.loads(cloud.read(f"{GRIDS}/{name}.json") or b"[]")
        return [_published(short, cloud) for short in variants if short in there]
    return [_published(unique_prefix((name or there[0])[:SUBMISSION_DIGITS], there), cloud)]


def _published(short: str, cloud: "Cloud") -> Submission:
    spec, bundle = (cloud.read(f"{SUBMISSIONS}/{short}/{name}") for name in (SPEC, BUNDLE))
    if spec is None or bundle is None:
        raise UsageError(f"submission {short} is not whole on Modal; the same submit from where it was made mends that")
    return Submission.from_dict(json.loads(spec), bundle.decode())


def lay_down(submissions: Sequence[Submission], cloud: "Cloud", ledger: Ledger) -> list[str]:
    """A folder here for each attempt there that has none: what was asked, what runs, which call has it. Their names."""
    runs_dir, made = ledger.path.parent, []
    numbers: dict[str, list[int]] = {}
    for name in cloud.folders(ATTEMPTS):
        if match := FOLDER.fullmatch(name):
            numbers.setdefault(match[1], []).append(int(match[2]))
    for submission in submissions:
        for run in submission.runs:
            for number in sorted(numbers.get(key_of(run.run_id), ())):
                name = attempt_id(run.run_id, number)
                if not (runs_dir / ATTEMPTS / name).exists() and _lay_down(name, submission, cloud, runs_dir):
                    made.append(name)
                    _account(ledger, submission, run.run_id, name)
    return made


def _lay_down(name: str, submission: Submission, cloud: "Cloud", runs_dir: Path) -> bool:
    """False where its container had not written all of that yet."""
    place = f"{ATTEMPTS}/{name}"
    node, run = (read_object(cloud, f"{place}/{file}") for file in (NODE, RUN))
    if not node.get("call") or run.get("attempt_id") != name or not run.get("run_id"):
        return False
    handle = {
        "backend": "modal",
        "attempt_id": name,
        "host": "Modal",
        "app": "",
        "execution": node["execution"] if type(node.get("execution")) is int else 0,
        "stage": "train",
        "gpus": submission.target.gpus,
        "call": str(node["call"]),
        "run": str(run["run_id"]),
    }
    parent = runs_dir / ATTEMPTS
    scratch = parent / f".{name}.{os.getpid()}.there.tmp"
    try:
        scratch.mkdir(parents=True, exist_ok=True)
        write_json(scratch / RUN, run)
        write_bytes(scratch / BUNDLE, submission.bundle.encode())
        write_json(scratch / NODE, handle)
        scratch.rename(parent / name)
    except OSError:
        if not (parent / name).is_dir():
            raise
        return False  # another process did that meanwhile
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return True


def read_object(cloud: "Cloud", path: str) -> dict[str, typing.Any]:
    """A small file of the volume of runs; empty where there is none, or none of ours."""
    try:
        found = json.loads(cloud.read(path) or b"{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _account(ledger: Ledger, submission: Submission, run_id: str, name: str) -> None:
    """A container began it for us: it is paid for under what was reserved."""
    if not any(event.attempt_id == name for event in ledger.events(run_id=run_id, kind=STARTING)):
        sid = submission.submission_id
        data = {"stage": "train", "by": "Modal", "at": now_utc()}
        ledger.append(STARTING, submission_id=sid, run_id=run_id, attempt_id=name, data=data)
