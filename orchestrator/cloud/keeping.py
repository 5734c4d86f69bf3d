"""Keeps an attempt that runs on a container's own disk in a volume, as it grows.

A seal is kept after all that it seals, so that what stands there is never less than it says. No file stays open: a
volume cannot be brought up to date while one is.
"""

import os
from pathlib import Path

from golf_core.rundir import APPENDED, RESULT, SEAL, TRAIN_SEAL, VOID, write_bytes
from orchestrator.attempts import NODE

LAST = (RESULT, TRAIN_SEAL, SEAL)  # in this order
OWN = (NODE, VOID)  # of the volume's folder: who works there, and whether it counts

Stamp = tuple[int, int, int]


class Keeper:
    def __init__(self, folder: Path, kept: Path) -> None:
        self.folder, self.kept = folder, kept
        self.known: dict[str, Stamp] = {}

    def keep(self) -> bool:
        """Bring the kept folder up to date; whether anything had changed."""
        ends = [name for name in LAST if (self.folder / name).exists()]  # as of before the rest is looked at
        names = [path.name for path in sorted(self.folder.iterdir()) if _counts(path)]
        changed = [self._keep(name) for name in (*names, *ends)]
        gone = [path for path in self.kept.iterdir() if path.name not in OWN and not (self.folder / path.name).exists()]
        for path in gone:  # of an evaluation that is repeated
            path.unlink()
        return any(changed) or bool(gone)

    def _keep(self, name: str) -> bool:
        here, kept = self.folder / name, self.kept / name
        try:
            with here.open("rb") as file:
                stamp = _stamp(os.fstat(file.fileno()))
                before = self.known.get(name)
                if stamp == before:
                    return False
                grew = before is not None and before[0] == stamp[0] and before[1] <= stamp[1]
                if name in APPENDED and before is not None and grew:
                    file.seek(before[1])
                    more = file.read(stamp[1] - before[1])
                    with kept.open("r+b") as end:  # over what a write that failed may have left
                        end.seek(before[1])
                        end.write(more)
                        end.truncate()
                else:
                    write_bytes(kept, file.read(stamp[1]))
        except FileNotFoundError:  # gone since it was listed
            return False
        self.known[name] = stamp
        return True


def _counts(path: Path) -> bool:
    hidden = path.name.startswith(".") or path.name in (*LAST, *OWN)
    return not hidden and path.is_file() and not path.is_symlink()


def _stamp(found: os.stat_result) -> Stamp:
    return found.st_ino, found.st_size, found.st_mtime_ns
