"""The attempt folder: the names of its files, how they are written, sealed and checked.

State is which files exist; each file has one writer. JSON is written whole, by rename. A seal lists the
SHA-256 and the size of every file of a stage and is written last: it means that the stage ended and
nothing changed since. Files that later stages append to are sealed as a prefix.

No torch here: the command line, the worker and the tables read this module.
"""

import hashlib
import json
import math
import os
import stat
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath

RUN = "run.json"  # what was asked                                            written by the controller
BUNDLE = "train_gpt.py"  # what ran                                           the controller
ENV = "env.json"  # packages, driver, GPUs; no secrets                        the worker
HARDWARE = "hardware.json"  # what it found of its GPUs, and held against       the worker
HARDWARE_AGAIN = "hardware-evaluate.json"  # where evaluation alone ran later   the worker
LOG = "log.txt"  # what the bundle printed                                    the worker
PHASES = "phases.jsonl"  # begin and end of each phase on the worker's clock  the worker
RESULT = "result.json"  # how it ended                                        the worker
METRICS = "metrics.jsonl"  # one object a line                                the bundle, rank 0
ARTIFACT = "artifact.bin"  #                                                  the bundle, rank 0
SCORES = "scores.json"  # each evaluation stage's loss, BPB, bytes, seconds   the bundle, rank 0
SCORE_LEDGER = "score_ledger.bin"  #                                          the bundle, rank 0
TRAIN_SEAL = "MANIFEST.train.json"  # seals the train stage                   the worker
SEAL = "MANIFEST.json"  # seals the whole attempt                             the worker
VOID = "VOID.json"  # why this attempt never counts                           the controller

APPENDED = (LOG, METRICS, PHASES)  # grow over both stages
TRAIN_FILES = (RUN, BUNDLE, ENV, LOG, METRICS, PHASES, ARTIFACT)
SCHEMA_VERSION = 1
MAX_JSON_BYTES = 64 * 1024 * 1024  # of one JSON file that we read: a hostile folder must not fill the memory


class RunDirError(Exception):
    """A file of a run folder is missing, damaged or not ours; the message names it."""


class SealError(RunDirError):
    """A sealed file is missing or differs from its seal."""


def canonical_json(value: typing.Any) -> bytes:
    """The one spelling of `value` that is hashed: sorted keys, no spaces, no NaN, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def content_id(value: typing.Any) -> str:
    """SHA-256 of canonical JSON, as 64 hex digits."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def file_sha256(path: Path, size: int | None = None) -> str:
    """SHA-256 of a file, or of its first `size` bytes."""
    digest, left = hashlib.sha256(), math.inf if size is None else size
    with path.open("rb") as file:
        while left > 0 and (block := file.read(int(min(1 << 20, left)))):
            digest.update(block)
            left -= len(block)
    return digest.hexdigest()


def write_bytes(path: Path, data: bytes) -> None:
    """Write whole or not at all: a temporary neighbour, flushed to disk, then renamed."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with scratch.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: typing.Any) -> None:
    write_bytes(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n")


def _no_constant(name: str) -> typing.NoReturn:
    raise ValueError(f"{name} is not a number")


def read_json(path: Path) -> dict[str, typing.Any]:
    """An object from a JSON file. Raises RunDirError where it is missing, too large, no JSON, or no object."""
    try:
        if path.is_symlink() or not path.is_file():
            raise RunDirError(f"{path} is missing or not a plain file")
        if (size := path.stat().st_size) > MAX_JSON_BYTES:
            raise RunDirError(f"{path} has {size} bytes, more than any file of ours")
        value = json.loads(path.read_bytes(), parse_constant=_no_constant)
    except (OSError, ValueError, RecursionError) as error:
        raise RunDirError(f"{path} cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise RunDirError(f"{path} holds {type(value).__name__}, not an object")
    return value


def read_jsonl(path: Path, word: str = "") -> list[dict[str, typing.Any]]:
    """The objects of a JSON-lines file; a cut or foreign line is left out, a missing file is empty.

    With a `word` of plain letters: those alone that have it as a key or value. A line without it is not parsed, unless
    it has escapes, in which it could hide."""
    wanted = word.encode()
    rows: list[dict[str, typing.Any]] = []
    if path.is_file():
        for line in path.read_bytes().splitlines():
            if wanted not in line and b"\\" not in line:
                continue
            try:
                value = json.loads(line, parse_constant=_no_constant)
            except (ValueError, RecursionError):
                continue
            if isinstance(value, dict):
                rows.append(value)
    return rows


def write_seal(folder: Path, name: str, files: Iterable[str], facts: Mapping[str, typing.Any]) -> None:
    """Seal `files` of `folder` in the file `name` with `facts` (attempt id, stage). Every file must exist."""
    entries = {}
    for file in sorted(files):
        path = folder / file
        if path.is_symlink() or not path.is_file():
            raise SealError(f"{path} is missing or not a plain file: the stage cannot be sealed")
        size = path.stat().st_size
        entries[file] = {"sha256": file_sha256(path, size), "size": size}
        if name == TRAIN_SEAL and file in APPENDED:
            entries[file]["prefix"] = True
    write_json(folder / name, {"schema_version": SCHEMA_VERSION, **facts, "files": entries})


def _plain_size(path: Path) -> int | None:
    """Bytes of a plain file; None for a link, a folder, or nothing."""
    try:
        found = path.lstat()
    except (OSError, ValueError):  # a name with a zero byte
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def verify_seal(
    folder: Path, name: str = SEAL, sha256_of: Callable[[Path, int], str] = file_sha256
) -> dict[str, typing.Any]:
    """The seal's content, after every file in it was read and found unchanged. Raises SealError otherwise.

    `sha256_of` is what reads: another one may remember what a file held that nobody touched since."""
    seal = read_json(folder / name)
    files = seal.get("files")
    if not isinstance(files, dict) or not files:
        raise SealError(f"{folder / name} lists no files")
    for file, entry in files.items():
        parts = PurePosixPath(file).parts
        if not parts or PurePosixPath(file).is_absolute() or ".." in parts or "\\" in file:
            raise SealError(f"{folder / name} names {file!r}, which is outside the attempt")
        path = folder / file
        if (actual := _plain_size(path)) is None:
            raise SealError(f"{path} is sealed but missing or not a plain file")
        if not isinstance(entry, dict) or type(size := entry.get("size")) is not int or size < 0:
            raise SealError(f"{folder / name} gives no size for {file!r}")
        if actual < size or (actual > size and not entry.get("prefix")):
            raise SealError(f"{path} has {actual} bytes; its seal says {size}")
        if sha256_of(path, size) != entry.get("sha256"):
            raise SealError(f"{path} differs from its seal ({folder / name})")
    return seal


def is_sealed(folder: Path, name: str = SEAL) -> bool:
    """Whether the seal is there and every file in it unchanged."""
    try:
        verify_seal(folder, name)
    except RunDirError:
        return False
    return True
