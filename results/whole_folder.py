"""A folder of ours that is written whole or not at all, and never over somebody else's work."""

import os
import shutil
import tempfile
import time
import typing
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from golf_core.rundir import RunDirError
from results.untrusted import Folder

GENERATOR = "golf-orchestrator"
STALE_SECONDS = 600  # writing the folder takes less than a second


class PackError(Exception):
    """The folder cannot be made or must not be touched; the message says what to do."""


def fingerprint(data: bytes) -> dict[str, typing.Any]:
    return {"bytes": len(data), "sha256": sha256(data).hexdigest()}


def write_whole(out: Path, files: Mapping[str, bytes], document: str, submission_id: str) -> bool:
    """False where it was there already, byte for byte. `document` lists the other files with their hashes: what is
    not listed, or was changed, is not ours, and PackError is raised."""
    for scratch in out.parent.glob(f".{out.name}-*"):  # left by a process that was killed here
        if time.time() - scratch.stat().st_mtime > STALE_SECONDS:
            shutil.rmtree(scratch, ignore_errors=True)
    if out.exists() or out.is_symlink():
        if _is_same(out, files):
            return False
        _refuse_foreign(out, document, submission_id)
    scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        scratch.chmod(0o755)
        for name, data in files.items():
            (scratch / name).write_bytes(data)
        if out.exists():
            if _is_same(out, files):  # made by another process since we looked: others may be reading it
                return False
            old = Path(tempfile.mkdtemp(prefix=f".{out.name}-old-", dir=out.parent))
            os.rename(out, old / out.name)
            shutil.rmtree(old, ignore_errors=True)
        try:
            os.rename(scratch, out)
        except OSError:
            if not _is_same(out, files):  # not the identical work of another process
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return True


def _is_same(out: Path, files: Mapping[str, bytes]) -> bool:
    if out.is_symlink() or not out.is_dir() or {path.name for path in out.iterdir()} != set(files):
        return False
    return all(
        (path := out / name).is_file()
        and not path.is_symlink()
        and path.stat().st_size == len(data)
        and path.read_bytes() == data
        for name, data in files.items()
    )


def _refuse_foreign(out: Path, document: str, submission_id: str) -> None:
    """Raise PackError unless every file in the folder is one that we wrote for this submission, unchanged."""
    away = "move it away or name another folder with --out"
    if out.is_symlink() or not out.is_dir():
        raise PackError(f"{out} is not a folder of ours; {away}")
    try:
        folder = Folder(out)
        facts = folder.document(document) if folder.has(document) else {}
    except RunDirError as error:
        raise PackError(f"{error}; it is not from us; {away}") from None
    if not facts:
        raise PackError(f"{out} holds no {document} of ours; {away}")
    if facts.get("generated_by") != GENERATOR or facts.get("submission_id") != submission_id:
        raise PackError(f"{out} is of another submission; {away}")
    known = facts.get("files")
    known = known if isinstance(known, dict) else {}
    for name, file in folder.files.items():
        entry = known.get(name)
        if name == document:
            continue
        if not isinstance(entry, dict):
            raise PackError(f"{out / name} is not from us; {away}")
        if entry.get("bytes") != file.size or entry != fingerprint(folder.read(name, file.size)):
            raise PackError(f"{out / name} was changed by hand; {away}")
