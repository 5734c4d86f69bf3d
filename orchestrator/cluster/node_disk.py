"""What attempts leave on the disk of a node, and when it goes.

A sealed attempt is marked once its head has all of it and has held that against the seal. A day later the next attempt
that begins on the node removes it. What bears no mark stays: it may be the only copy.
"""

import contextlib
import re
import shutil
import time
from pathlib import Path

from golf_core.rundir import SEAL, file_sha256, write_bytes
from orchestrator.attempts import ATTEMPTS, now_utc
from orchestrator.proc import is_locked

BROUGHT = ".brought"  # in an attempt's folder on its node; hidden, so that it is never brought itself
KEEP_SECONDS = 24 * 3600.0
OURS = re.compile(r"[0-9a-f]+-a[1-9][0-9]*")


def mark_brought(folder: Path, seal: str) -> None:
    """`seal`: SHA-256 of the seal that the head has verified its copy by. Another execution's folder is not marked."""
    if file_sha256(folder / SEAL) == seal:
        write_bytes(folder / BROUGHT, f"{now_utc()} {seal}\n".encode())


def clear(node_dir: Path) -> list[str]:
    """Remove what was brought long ago, whichever node of this disk it ran on; the names of what went. Each is renamed
    first: one that could be removed in part is no attempt any more, and the next clearing takes the rest."""
    names = []
    for parent in node_dir.glob(f"*/{ATTEMPTS}"):
        for folder in parent.iterdir():
            with contextlib.suppress(OSError):
                if OURS.fullmatch(folder.name) and _may_go(folder):
                    folder.rename(_aside(folder, "gone"))
                    names.append(folder.name)
                    _aside(folder, "old").rename(_aside(folder, "old.gone"))
        for left in parent.glob(".*.gone"):
            shutil.rmtree(left, ignore_errors=True)
    return names


def _may_go(folder: Path) -> bool:
    mark = folder / BROUGHT
    if folder.is_symlink() or not mark.is_file() or not (folder / SEAL).is_file() or is_locked(folder):
        return False
    return time.time() - mark.stat().st_mtime > KEEP_SECONDS


def _aside(folder: Path, why: str) -> Path:
    """`.NAME.old` is what an earlier execution left of the attempt."""
    return folder.with_name(f".{folder.name}.{why}")
