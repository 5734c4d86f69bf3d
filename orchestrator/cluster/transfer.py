"""Attempts from the head to here: told with the hash of every file, sent in pieces, checked, and only then an attempt.

A fetch that is cut goes on where it stopped. What is here is never replaced by other evidence: an attempt of the same
name that this runs folder made itself, or a sealed one that the head now tells otherwise, is refused.
"""

import json
import os
import re
import shutil
import sys
import typing
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from golf_core.rundir import BUNDLE, RUN, SEAL, RunDirError, file_sha256, read_json, verify_seal
from orchestrator.attempts import ATTEMPTS, Attempt, attempt_folders, folders_of, inspect
from orchestrator.cluster.wire import sha256
from orchestrator.errors import BackendFailure, UsageError
from orchestrator.ledger.store import Event, Ledger
from orchestrator.ledger.travel import event_from_dict, event_to_dict
from orchestrator.proc import folder_lock
from orchestrator.registered import grids, meant, runs_of, spec_of
from orchestrator.spec import SUBMISSION_DIGITS, Submission, attempt_id

SCHEMA_VERSION = 1
FETCHED = "attempt_fetched"
CONTROLLER_JOB = "controller_job"
OVER = ("counted", "void", "failed", "damaged")  # what will not change by itself
PIECE_BYTES = 16 << 20  # that one command brings: its log passes through the head's memory
TRIES = 2
PATIENCE = 600.0  # seconds that another fetch into the same folder may take
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


# --- on the head


def look(state: Path, prefix: str | None, run_ids: Sequence[str] | None, here: Sequence[str] | None) -> int:
    """Print what is there: of one submission, or of runs that somebody plans. With `here`, the attempts that the asker
    has whole, small files of the others follow at once: each command costs seconds."""
    with Ledger.create(state) as ledger:
        told: dict[str, typing.Any] = {"schema_version": SCHEMA_VERSION, "origin": ledger.name, "state_dir": str(state)}
        if run_ids is None:
            every = meant(ledger, prefix)
            told["variants"] = every if prefix in grids(ledger) else []
            spec = spec_of(state, sid := every[0])
            bundle = (state / sid[:SUBMISSION_DIGITS] / BUNDLE).read_text(encoding="utf-8")
            run_ids = [run["run_id"] for run in spec["runs"]]
            others = [run_id for other in every[1:] for _, run_id in runs_of(spec_of(state, other))]
            events = [event_to_dict(event) for event in events_of(ledger, every, {*run_ids, *others})]
            told |= {"spec": spec, "bundle": bundle, "events": events} | job_of(ledger, sid)
    attempts = [_tell(run_id, inspect(*found[::-1])) for run_id in run_ids for found in folders_of(state, run_id)]
    follow = [] if here is None else _inline([one for one in attempts if one["attempt_id"] not in here])
    sys.stdout.write(json.dumps(told | {"attempts": attempts, "inline": follow}) + "\n")
    sys.stdout.flush()
    return send(state, follow)


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


# --- here


@dataclass(frozen=True)
class There:
    """An attempt on the head, as it was told."""

    run_id: str
    attempt: Attempt  # its folder is one of the head
    files: Mapping[str, tuple[int, str]]  # size, SHA-256

    @property
    def over(self) -> bool:
        return self.attempt.state in OVER

    @property
    def size(self) -> int:
        return sum(size for size, _ in self.files.values())


@dataclass(frozen=True)
class Seen:
    """What `look` told. Without a submission asked for there is no spec."""

    origin: str
    state_dir: str
    attempts: tuple[There, ...]
    spec: Mapping[str, typing.Any] | None = None
    variants: tuple[str, ...] = ()  # of a grid that was asked for by its name: this submission is the first of them
    bundle: str = ""
    job: str = ""  # of its last controller
    several: bool = False  # it has others to drive, too
    events: tuple[Event, ...] = ()  # of all variants
    inline: Mapping[tuple[str, str], bytes] = field(default_factory=dict)  # (attempt, file) -> its bytes

    @classmethod
    def from_bytes(cls, data: bytes) -> "Seen":
        try:
            line, _, rest = data.partition(b"\n")
            told = json.loads(line)
            if told["schema_version"] != SCHEMA_VERSION:
                raise BackendFailure(f"the head speaks version {told['schema_version']!r}, not {SCHEMA_VERSION}")
            attempts = tuple(_there(Path(told["state_dir"]), one) for one in told["attempts"])
            spec, bundle = told.get("spec"), str(told.get("bundle", ""))
            events = tuple(event_from_dict(one) for one in told.get("events", ()))
            inline: dict[tuple[str, str], bytes] = {}
            for name, file, _, size in told["inline"]:
                inline[str(name), str(file)], rest = rest[:size], rest[size:]
            return cls(
                origin=str(told["origin"]),
                state_dir=str(told["state_dir"]),
                attempts=attempts,
                spec=spec,
                variants=tuple(map(str, told.get("variants", ()))),
                bundle=bundle,
                job=str(told.get("job", "")),
                several=bool(told.get("several")),
                events=events,
                inline=inline,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BackendFailure(f"the head told something that cannot be read: {error!r}") from None

    @property
    def submission_id(self) -> str:
        return str((self.spec or {}).get("submission_id", ""))

    def submission(self) -> Submission:
        """Raises UsageError where spec and bundle do not belong together."""
        return Submission.from_dict(self.spec or {}, self.bundle)

    def of_runs(self, run_ids: Sequence[str]) -> dict[str, list[Attempt]]:
        return {run_id: [one.attempt for one in self.attempts if one.run_id == run_id] for run_id in run_ids}


def _there(state: Path, told: Mapping[str, typing.Any]) -> There:
    run_id, number, name, files = str(told["run_id"]), int(told["number"]), str(told["attempt_id"]), {}
    if not re.fullmatch(r"[0-9a-f]{64}", run_id) or number < 1 or name != attempt_id(run_id, number):
        raise ValueError(f"{name} is not attempt {number} of {run_id}")  # it would take the place of another run's
    for file, entry in told["files"].items():
        if not NAME.fullmatch(file) or type(entry["size"]) is not int or entry["size"] < 0:
            raise ValueError(file)
        files[file] = (entry["size"], str(entry["sha256"]))
    facts = {key: str(told[key]) for key in ("state", "cls", "stage", "message")}
    attempt = Attempt(state / ATTEMPTS / name, number, train_sealed=bool(told["train_sealed"]), **facts)
    return There(run_id, attempt, files)


def check_made_here(runs_dir: Path, run_ids: Sequence[str], origin: str) -> None:
    """Refuse to mix: attempts of a run come from one place, or two of them could count."""
    folders = [folder for run_id in run_ids for _, folder in folders_of(runs_dir, run_id)]
    if not folders:
        return
    with Ledger.open(runs_dir) as ledger:
        origins = {event.attempt_id: event.data["origin"] for event in ledger.events(kind=FETCHED)}
    for folder in folders:
        if origins.get(folder.name) != origin:
            where = "on another cluster" if folder.name in origins else "by this runs folder itself"
            raise UsageError(
                f"{folder} was made {where}: attempts of a run come from one place alone; use another --runs-dir for "
                "this cluster"
            )


def sealed_here(runs_dir: Path) -> list[str]:
    """Attempts that will not change any more."""
    return [folder.name for folder in attempt_folders(runs_dir) if (folder / SEAL).exists()]


Send = Callable[[Sequence[Sequence[typing.Any]]], bytes]


def fetch(seen: Seen, runs_dir: Path, ledger: Ledger, ask: Send, tell: Callable[[str], None]) -> list[str]:
    """Bring every attempt that is over and is not here as it is there; their names. `ask` sends pieces."""
    parent = runs_dir / ATTEMPTS
    parent.mkdir(exist_ok=True)
    brought = []
    with folder_lock(parent, PATIENCE):
        for one in seen.attempts:
            folder = parent / one.attempt.attempt_id
            if not one.over or _same(folder, one):
                continue
            check_made_here(runs_dir, [one.run_id], seen.origin)
            if (folder / SEAL).exists() and one.files.get(SEAL, (0, ""))[1] != sha256((folder / SEAL).read_bytes()):
                raise BackendFailure(
                    f"{folder} is sealed here, and the head ({seen.state_dir}) tells of another content; neither was "
                    "touched: look at both"
                )
            scratch = _bring(folder, one, seen.inline, ask, tell)
            # Before it is in place: a folder of which nothing was written is taken for one that was made here.
            ledger.append(FETCHED, run_id=one.run_id, attempt_id=folder.name, data={"origin": seen.origin})
            _swap(scratch, folder)
            brought.append(folder.name)
    return brought


def _same(folder: Path, there: There) -> bool:
    if not folder.is_dir():
        return False
    return all(_has(folder / name, size, digest) for name, (size, digest) in there.files.items())


def _has(path: Path, size: int, digest: str) -> bool:
    whole = path.is_file() and not path.is_symlink() and path.stat().st_size == size
    return whole and file_sha256(path, size) == digest


def _bring(
    folder: Path, there: There, inline: Mapping[tuple[str, str], bytes], ask: Send, tell: Callable[[str], None]
) -> Path:
    """The attempt, whole and checked, in a scratch folder, which outlives us where we are cut off."""
    scratch = folder.with_name(f".{folder.name}.fetch")
    scratch.mkdir(exist_ok=True)
    for name in os.listdir(scratch):
        if name not in there.files:
            (scratch / name).unlink()
    for name in there.files:
        if (data := inline.get((folder.name, name))) is not None:
            (scratch / name).write_bytes(data)
    tell(f"fetching {folder.name}: {there.size / 1e6:,.1f} MB")
    for left in reversed(range(TRIES)):
        _receive(scratch, there, ask)
        if not (wrong := [name for name, told in there.files.items() if not _has(scratch / name, *told)]):
            break
        for name in wrong:  # of an earlier state, or damaged: from its beginning
            (scratch / name).unlink(missing_ok=True)
        if not left:
            raise BackendFailure(f"{wrong[0]} of {folder.name} is not what the head told; it may be changing there")
    if SEAL in there.files and there.attempt.state == "counted":
        try:
            verify_seal(scratch)
            run_id = read_json(scratch / RUN).get("run_id")
        except RunDirError as error:
            raise BackendFailure(f"{folder.name} does not match its seal: {error}") from None
        if run_id != there.run_id:
            raise BackendFailure(f"{folder.name} holds an attempt of another run, {run_id}")
    return scratch


def _receive(scratch: Path, there: There, ask: Send) -> None:
    for pieces in _pieces(scratch, there):
        data = ask(pieces)
        if len(data) != sum(size for *_, size in pieces):
            raise BackendFailure(f"{len(data)} bytes arrived of {sum(size for *_, size in pieces)}")
        for _, name, offset, size in pieces:
            with (scratch / name).open("r+b" if offset else "wb") as file:
                file.seek(offset)
                file.write(data[:size])
            data = data[size:]


def _pieces(scratch: Path, there: There) -> Iterator[list[tuple[str, str, int, int]]]:
    """What is missing, in commands of bounded size."""
    batch: list[tuple[str, str, int, int]] = []
    room = PIECE_BYTES
    for name, (size, digest) in sorted(there.files.items()):
        path = scratch / name
        here = path.stat().st_size if path.is_file() else 0
        if here > size or (here == size and not _has(path, size, digest)):
            here = 0
        if here == 0 and size == 0:
            path.touch()
        while here < size:
            length = min(room, size - here)
            batch.append((there.attempt.attempt_id, name, here, length))
            here, room = here + length, room - length
            if not room:
                yield batch
                batch, room = [], PIECE_BYTES
    if batch:
        yield batch


def _swap(scratch: Path, folder: Path) -> None:
    """An attempt that failed here, and was evaluated again there, or is void now, is replaced as a whole."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.rename(folder, old)
    os.rename(scratch, folder)
    shutil.rmtree(old, ignore_errors=True)
