"""The files that documents come from: which ones, of what kind, and in which order.

A folder gives its files, those of its subfolders too, sorted by their paths. Hidden files are left out. A folder that
holds text files beside record files, or a file that we cannot read, is refused: what belongs to a data set is the
user's to say, by naming files.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from golf_core.data.shards import DataError

SUFFIXES = {
    ".jsonl": "jsonl",
    ".jsonl.gz": "jsonl.gz",
    ".jsonl.xz": "jsonl.xz",
    ".jsonl.zst": "jsonl.zst",
    ".parquet": "parquet",
    ".txt": "text",
    ".md": "text",
}
READABLE = f"what can be read ends in {', '.join(SUFFIXES)}"


@dataclass(frozen=True)
class Source:
    path: Path
    kind: str  # one of SUFFIXES' values


def find_sources(paths: Sequence[Path]) -> tuple[Source, ...]:
    """Every file under these files and folders, in reading order. Raises DataError for none, and for unknown ones."""
    found: list[Source] = []
    for path in map(Path, paths):
        if path.is_dir():
            found += _folder(path)
        elif path.is_file():
            found.append(Source(path, _kind(path)))
        else:
            raise DataError(f"there is no file or folder {path}")
    if not found:
        raise DataError(f"no documents were named; {READABLE}")
    seen: dict[Path, Path] = {}
    for source in found:
        real = source.path.resolve()
        if real in seen:
            raise DataError(f"{source.path} is the same file as {seen[real]}: name it once")
        seen[real] = source.path
    return tuple(found)


def _kind(path: Path) -> str:
    for suffix, kind in SUFFIXES.items():
        if path.name.lower().endswith(suffix):
            return kind
    raise DataError(f"{path} is of no kind that is known here; {READABLE}")


def _folder(folder: Path) -> list[Source]:
    files = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [Path(parent, name) for name in names if not name.startswith(".")]
    files.sort(key=lambda path: path.relative_to(folder).parts)
    if not files:
        raise DataError(f"{folder} holds no files; {READABLE}")
    found = [Source(path, _kind(path)) for path in files]
    texts = [source.path for source in found if source.kind == "text"]
    records = [source.path for source in found if source.kind != "text"]
    if texts and records:
        raise DataError(
            f"{folder} holds both text files ({texts[0].name}, {len(texts)} in all) and record files "
            f"({records[0].name}, {len(records)} in all); name the files that you mean"
        )
    return found
