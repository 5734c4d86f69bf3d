"""Attempts from the head to here: told with the hash of every file, sent in pieces, checked, and only then an attempt.

A fetch that is cut goes on where it stopped. What is here is never replaced by other evidence: an attempt of the same
name that this runs folder made itself, or a sealed one that the head now tells otherwise, is refused.
"""

import json
import os
import re
import shutil
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from golf_core.rundir import RUN, SEAL, RunDirError, file_sha256, read_json, verify_seal
from orchestrator.attempts import ATTEMPTS, Attempt, attempt_folders, folders_of
from orchestrator.cluster.look import NAME, OVER, PIECE_BYTES, SCHEMA_VERSION
from orchestrator.cluster.wire import sha256
from orchestrator.errors import BackendFailure, UsageError
from orchestrator.ledger.store import Event, Ledger
from orchestrator.ledger.travel import event_from_dict
from orchestrator.proc import folder_lock
from orchestrator.spec import Submission, attempt_id

FETCHED = "attempt_fetched"  # event
PIECES = 1000  # that one command names: an argument of a process holds 128 KiB
TRIES = 2
PATIENCE = 600.0  # seconds that another fetch into the same folder may take


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
    """What `look` told."""

    origin: str
    state_dir: str
    attempts: tuple[There, ...]
    registered: tuple[tuple[Mapping[str, typing.Any], str], ...] = ()  # spec and bundle of each submission asked for
    variants: tuple[str, ...] = ()  # of a grid that was asked for by its name: only the first of them is told
    job: str = ""  # of the first one's last controller
    several: bool = False  # it has others to drive, too
    events: tuple[Event, ...] = ()  # of all that were asked for, and of all variants
    inline: Mapping[tuple[str, str], bytes] = field(default_factory=dict)  # (attempt, file) -> its bytes

    @classmethod
    def from_bytes(cls, data: bytes) -> "Seen":
        try:
            line, _, rest = data.partition(b"\n")
            told = json.loads(line)
            if told["schema_version"] != SCHEMA_VERSION:
                raise BackendFailure(f"the head speaks version {told['schema_version']!r}, not {SCHEMA_VERSION}")
            attempts = tuple(_there(Path(told["state_dir"]), one) for one in told["attempts"])
            registered = tuple((dict(one["spec"]), str(one["bundle"])) for one in told.get("submissions", ()))
            events = tuple(event_from_dict(one) for one in told.get("events", ()))
            inline: dict[tuple[str, str], bytes] = {}
            for name, file, _, size in told["inline"]:
                inline[str(name), str(file)], rest = rest[:size], rest[size:]
            return cls(
                origin=str(told["origin"]),
                state_dir=str(told["state_dir"]),
                attempts=attempts,
                registered=registered,
                variants=tuple(map(str, told.get("variants", ()))),
                job=str(told.get("job", "")),
                several=bool(told.get("several")),
                events=events,
                inline=inline,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BackendFailure(f"the head told something that cannot be read: {error!r}") from None

    def submissions(self) -> list[Submission]:
        """Raises UsageError where a spec and its bundle do not belong together."""
        return [Submission.from_dict(spec, bundle) for spec, bundle in self.registered]

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
        wanted = [one for one in seen.attempts if one.over and not _same(parent / one.attempt.attempt_id, one)]
        for one in wanted:
            check_made_here(runs_dir, [one.run_id], seen.origin)
            seal = parent / one.attempt.attempt_id / SEAL
            if seal.exists() and one.files.get(SEAL, (0, ""))[1] != sha256(seal.read_bytes()):
                raise BackendFailure(
                    f"{seal.parent} is sealed here, and the head ({seen.state_dir}) tells of another content; neither "
                    "was touched: look at both"
                )
        for group in _groups(wanted):
            scratches = [_scratch(parent, one, seen.inline) for one in group]
            for one, scratch in zip(group, _bring(scratches, group, ask, tell), strict=True):
                # Before it is in place: a folder of which nothing was written is taken for one that was made here.
                name = one.attempt.attempt_id
                ledger.append(FETCHED, run_id=one.run_id, attempt_id=name, data={"origin": seen.origin})
                _swap(scratch, parent / name)
                brought.append(name)
    return brought


def _groups(wanted: Sequence[There]) -> Iterator[list[There]]:
    """Small attempts together, as many as one command brings: each command costs seconds."""
    group, room = list[There](), PIECE_BYTES
    for one in wanted:
        if group and one.size > room:
            yield group
            group, room = [], PIECE_BYTES
        group.append(one)
        room -= one.size
    if group:
        yield group


def _same(folder: Path, there: There) -> bool:
    if not folder.is_dir():
        return False
    return all(_has(folder / name, size, digest) for name, (size, digest) in there.files.items())


def _has(path: Path, size: int, digest: str) -> bool:
    whole = path.is_file() and not path.is_symlink() and path.stat().st_size == size
    return whole and file_sha256(path, size) == digest


def _scratch(parent: Path, there: There, inline: Mapping[tuple[str, str], bytes]) -> Path:
    """Where an attempt is gathered: a folder that outlives us where we are cut off."""
    scratch = parent / f".{there.attempt.attempt_id}.fetch"
    scratch.mkdir(exist_ok=True)
    for name in os.listdir(scratch):
        if name not in there.files:
            (scratch / name).unlink()
    for name in there.files:
        if (data := inline.get((there.attempt.attempt_id, name))) is not None:
            (scratch / name).write_bytes(data)
    return scratch


def _bring(scratches: Sequence[Path], group: Sequence[There], ask: Send, tell: Callable[[str], None]) -> Iterator[Path]:
    """The scratch folders, each with its attempt whole and checked."""
    for one in group:
        tell(f"fetching {one.attempt.attempt_id}: {one.size / 1e6:,.1f} MB")
    for left in reversed(range(TRIES)):
        _receive(scratches, group, ask)
        wrong = [
            (one, scratch / name)
            for one, scratch in zip(group, scratches, strict=True)
            for name, told in one.files.items()
            if not _has(scratch / name, *told)
        ]
        if not wrong:
            break
        for _, path in wrong:  # of an earlier state, or damaged: from its beginning
            path.unlink(missing_ok=True)
        if not left:
            one, path = wrong[0]
            raise BackendFailure(
                f"{path.name} of {one.attempt.attempt_id} is not what the head told; it may be changing there"
            )
    for one, scratch in zip(group, scratches, strict=True):
        _check(scratch, one)
        yield scratch


def _check(scratch: Path, there: There) -> None:
    """An attempt that counts is as its seal says, and of the run that it was told of."""
    if SEAL not in there.files or there.attempt.state != "counted":
        return
    name = there.attempt.attempt_id
    try:
        verify_seal(scratch)
        run_id = read_json(scratch / RUN).get("run_id")
    except RunDirError as error:
        raise BackendFailure(f"{name} does not match its seal: {error}") from None
    if run_id != there.run_id:
        raise BackendFailure(f"{name} holds an attempt of another run, {run_id}")


Piece = tuple[str, str, int, int]  # attempt, file, offset, bytes


def _receive(scratches: Sequence[Path], group: Sequence[There], ask: Send) -> None:
    where = {one.attempt.attempt_id: scratch for one, scratch in zip(group, scratches, strict=True)}
    missing = (piece for one in group for piece in _missing(where[one.attempt.attempt_id], one))
    for pieces in _commands(missing):
        data = ask(pieces)
        if len(data) != sum(size for *_, size in pieces):
            raise BackendFailure(f"{len(data)} bytes arrived of {sum(size for *_, size in pieces)}")
        for attempt, name, offset, size in pieces:
            with (where[attempt] / name).open("r+b" if offset else "wb") as file:
                file.seek(offset)
                file.write(data[:size])
            data = data[size:]


def _missing(scratch: Path, there: There) -> Iterator[Piece]:
    """What of an attempt is not here yet, a piece a file."""
    for name, (size, digest) in sorted(there.files.items()):
        path = scratch / name
        here = path.stat().st_size if path.is_file() else 0
        if here > size or (here == size and not _has(path, size, digest)):
            here = 0
        if here == 0 and size == 0:
            path.touch()
        if here < size:
            yield there.attempt.attempt_id, name, here, size - here


def _commands(missing: Iterable[Piece]) -> Iterator[list[Piece]]:
    """Cut and put together to commands of bounded size: of what is asked for, and of the question."""
    batch, room = list[Piece](), PIECE_BYTES
    for attempt, name, offset, size in missing:
        while size:
            length = min(room, size)
            batch.append((attempt, name, offset, length))
            offset, size, room = offset + length, size - length, room - length
            if not room or len(batch) == PIECES:
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
