"""Two folders that are brought together on demand: a container's view of a volume, and the committed volume."""

import os
import shutil
import stat
import threading
from dataclasses import dataclass, field
from pathlib import Path

Mark = tuple[int, int, int]  # what tells that a file changed: mtime in ns, size, inode


def listing(folder: Path) -> dict[str, Mark]:
    """Every file, link and folder below, by relative path; a folder's mark is that it is one."""
    found: dict[str, Mark] = {}
    waiting = [folder]
    while waiting:
        for entry in os.scandir(waiting.pop()):
            name = os.path.relpath(entry.path, folder)
            try:
                facts = entry.stat(follow_symlinks=False)
            except FileNotFoundError:  # it was there a moment ago
                continue
            if stat.S_ISDIR(facts.st_mode):
                found[name] = (0, 0, 0)
                waiting.append(Path(entry.path))
            elif stat.S_ISREG(facts.st_mode) or stat.S_ISLNK(facts.st_mode):
                found[name] = (facts.st_mtime_ns, facts.st_size, facts.st_ino)
    return found


@dataclass
class Copy:
    """A container's own view: what it writes is seen by others after `commit`, what they commit is seen after `reload`.

    Of two that change one file the last to commit wins, as on a volume.
    """

    committed: Path
    working: Path
    mine: dict[str, Mark] = field(default_factory=dict)  # marks of the working folder when last brought together
    theirs: dict[str, Mark] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def commit(self) -> None:
        with self.lock:
            self.theirs.update(_bring(self.working, self.committed, self.mine))

    def reload(self) -> None:
        """Changes not yet committed are committed first, as the client's documentation allows."""
        self.commit()
        with self.lock:
            self.mine.update(_bring(self.committed, self.working, self.theirs))

    def is_open(self, pids: list[int]) -> str:
        """A file of the working folder that one of these processes holds open, or nothing."""
        names = {mark[2]: name for name, mark in listing(self.working).items() if mark[2]}
        for pid in pids:
            try:
                descriptors = os.listdir(f"/proc/{pid}/fd")
            except OSError:
                continue
            for descriptor in descriptors:
                try:
                    inode = os.stat(f"/proc/{pid}/fd/{descriptor}").st_ino
                except OSError:
                    continue
                if inode in names:
                    return names[inode]
        return ""


def _bring(source: Path, target: Path, known: dict[str, Mark]) -> dict[str, Mark]:
    """Makes `target` hold what changed in `source` since `known`, which is brought up to date; returns new marks."""
    now = listing(source)
    written: dict[str, Mark] = {}
    for name in sorted(known.keys() - now.keys(), reverse=True):  # what is inside a folder before the folder
        _remove(target / name)
    for name in sorted(name for name, mark in now.items() if known.get(name) != mark):
        try:
            written[name] = _copy(source / name, target / name)
        except FileNotFoundError:  # removed since it was listed: the next time will see that
            continue
    known.clear()
    known.update(now)
    return written


def _copy(source: Path, target: Path) -> Mark:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir() and not source.is_symlink():
        target.mkdir(exist_ok=True)
        return (0, 0, 0)
    scratch = target.with_name(f".{target.name}.incoming")
    shutil.copy2(source, scratch, follow_symlinks=False)
    scratch.replace(target)
    facts = target.lstat()
    return (facts.st_mtime_ns, facts.st_size, facts.st_ino)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
