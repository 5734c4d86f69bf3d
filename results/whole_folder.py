"""A folder of ours that is written whole or not at all, and never over somebody else's work."""

import contextlib
import glob
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
MARKER = ".golf-pack"  # in a scratch folder: it is ours
STALE_SECONDS = 600  # writing the folder takes less than a second


class PackError(Exception):
    """The folder cannot be made or must not be touched; the message says what to do."""


def fingerprint(data: bytes) -> dict[str, typing.Any]:
    return {"bytes": len(data), "sha256": sha256(data).hexdigest()}


def write_whole(out: Path, files: Mapping[str, bytes], document: str, submission_id: str) -> bool:
    """False where it was there already, byte for byte. `document` lists the other files with their hashes: what is
    not listed, or was changed, is not ours, and PackError is raised."""
    scratch_name = f".golf-pack-{submission_id[:12]}-"
    _sweep(out.parent, scratch_name)
    if out.exists() or out.is_symlink():
        if _is_same(out, files):
            return False
        _refuse_foreign(out, document, submission_id)
    scratch = _scratch(out, scratch_name)
    try:
        made = scratch / out.name
        made.mkdir(mode=0o755)
        for name, data in files.items():
            (made / name).write_bytes(data)
        if out.exists():
            if _is_same(out, files):  # made by another process since we looked: others may be reading it
                return False
            with contextlib.suppress(FileNotFoundError):  # another process has it in hand
                os.rename(out, scratch / "old")
        try:
            os.rename(made, out)
        except OSError:
            if not _is_same(out, files):  # not the identical work of another process
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return True


def _scratch(out: Path, name: str) -> Path:
    """A folder of our own beside `out`, with our marker in it."""
    try:
        scratch = Path(tempfile.mkdtemp(prefix=name, dir=out.parent))
    except OSError as error:
        what = (
            f"there is no folder {out.parent}; make it, or name another place with --out"
            if not out.parent.exists()
            else f"nothing can be written in {out.parent} ({error.strerror}); name another place with --out"
        )
        raise PackError(f"{out} cannot be written: {what}") from None
    (scratch / MARKER).write_text(f"{GENERATOR}: unfinished, may be deleted\n", encoding="utf-8")
    return scratch


def _sweep(parent: Path, name: str) -> None:
    """Take away what a process that was killed left here: of our name and with our marker, and nothing else."""
    for scratch in parent.glob(f"{glob.escape(name)}*"):
        marker = scratch / MARKER
        if scratch.is_symlink() or marker.is_symlink() or not marker.is_file():
            continue
        if time.time() - scratch.stat().st_mtime > STALE_SECONDS:
            shutil.rmtree(scratch, ignore_errors=True)


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
