"""All submissions of a runs folder at once, and runs/results.csv over them.

Ordered by the id of the submission, then by seed as registered: neither the file system nor the time of looking
changes a byte of it. What cannot be read is listed, never left out in silence.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from golf_core.rundir import RunDirError, write_bytes
from results.collect import Collected, collect
from results.content import FRESH, Fresh, Remembered
from results.outputs import RESULTS_CSV, csv_text
from results.rows import Row
from results.spec import FOLDER_DIGITS, SPEC

FOLDER_NAME = re.compile(rf"[0-9a-f]{{{FOLDER_DIGITS}}}")


@dataclass(frozen=True)
class Overview:
    found: list[Collected]  # of what could be read
    unreadable: list[str]  # of what could not, in words: it has no rows

    @property
    def problems(self) -> list[str]:
        """What could not be read, and seeds with nothing but damaged evidence."""
        return self.unreadable + [problem for one in self.found for problem in damaged_seeds(one)]

    @property
    def rows(self) -> list[Row]:
        return [row for one in self.found for row in one.rows]


def look_at_all(runs_dir: Path, known: Sequence[Collected] = (), fresh: bool = False) -> Overview:
    """Every submission of the folder; `known` ones are taken as they are. `fresh` reads every file again, and
    remembers what it read. Raises OSError where nothing can be written there."""
    given = {one.spec.folder: one for one in known}
    if not runs_dir.is_dir():
        return Overview([], [f"{runs_dir} is no folder: there are no submissions"])
    content = Remembered(runs_dir, forget=fresh)
    folders = sorted(path for path in runs_dir.iterdir() if FOLDER_NAME.fullmatch(path.name) and path.is_dir())
    looked = [given[folder] if folder in given else read(folder, content) for folder in folders]
    content.save(all_seen=not given)
    found = [one for one in looked if not isinstance(one, str)]
    return Overview(found, [one for one in looked if isinstance(one, str)])


def read(folder: Path, content: Fresh = FRESH) -> Collected | str:
    """A submission, or in words why it cannot be read."""
    if not (folder / SPEC).is_file():
        return f"{folder} has no {SPEC}: what it is of cannot be known"
    try:
        return collect(folder, content)
    except (RunDirError, OSError) as error:  # a file may go while we look: a submit may be running
        return str(error)


def damaged_seeds(found: Collected) -> list[str]:
    """The seeds that have nothing but damaged evidence, each with what is wrong."""
    damaged = {row.seed for row in found.rows if row.status == "damaged"}
    return [
        f"{found.spec.folder}: {note}"
        for note in found.notes
        if any(note.startswith(f"seed {seed}: ") for seed in damaged)
    ]


def write_overview(runs_dir: Path, overview: Overview) -> None:
    """runs/results.csv, whole or not at all."""
    write_bytes(runs_dir / RESULTS_CSV, csv_text(overview.rows).encode())
