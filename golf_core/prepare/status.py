"""What lies under a folder of data sets: whole, damaged, or not finished; told without a network."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from golf_core.data.manifest import (
    DATA_MANIFEST,
    SPLITS,
    DataManifest,
    ManifestError,
    damage,
    read_manifest,
    tokenizer_path,
)
from golf_core.data.mending import EXPORT_SUFFIX, FETCH_FOLDER, mend, mend_extra
from golf_core.data.shard_facts import is_shard, read_shards
from golf_core.data.shards import DataError, shard_paths
from golf_core.prepare.hub_parallel import FetchEvent, FetchProgress
from golf_core.rundir import file_sha256

WHOLE, DAMAGED, INCOMPLETE, UNFINISHED, UNVERIFIED = "whole", "damaged", "incomplete", "unfinished", "unverified"


@dataclass(frozen=True)
class DataStatus:
    """One data set. `state`: whole; damaged (a file differs from the manifest, or does not belong); incomplete (files
    are missing); unverified (shards without a manifest); unfinished (a fetch that has not come to its end)."""

    folder: Path  # of an unfinished export the hidden one
    state: str
    size: int  # bytes that are there
    problems: tuple[str, ...] = ()  # sentences; the last tells the mend
    manifest: DataManifest | None = None
    shards: tuple[int, int] = (0, 0)  # train, val


def data_status(into: Path, tell: Callable[[FetchEvent], None] = lambda event: None) -> tuple[DataStatus, ...]:
    """Every data set under `into`/datasets, every file of it held against its manifest."""
    root = into / "datasets"
    folders = sorted(path for path in root.glob("*") if path.is_dir() and not path.name.startswith("."))
    found = [status for folder in folders if (status := _status_of(folder, tell)) is not None]
    unfinished = {path.name.removesuffix(".parts") for path in root.glob(f"{FETCH_FOLDER}/*") if path.is_dir()}
    exports = sorted(path for path in root.glob(f".*{EXPORT_SUFFIX}") if path.is_dir())
    return (*found, *(_unfinished(root / name) for name in sorted(unfinished)), *map(_unfinished_export, exports))


def _unfinished(folder: Path) -> DataStatus:
    waiting, parts = _files(folder.parent / FETCH_FOLDER / folder.name), _files(_parts(folder))
    size = sum(path.stat().st_size for path in (*waiting, *parts))
    told = (
        f"a fetch has not come to its end: {len(waiting)} files verified, {len(parts)} begun, in "
        f"{folder.parent / FETCH_FOLDER}; the same command goes on"
    )
    return DataStatus(folder, UNFINISHED, size, (told,))


def _unfinished_export(scratch: Path) -> DataStatus:
    files = [path for path in scratch.rglob("*") if path.is_file()]
    sealed = sum(path.suffix == ".bin" for path in files)
    told = (
        f"an export has not come to its end: {sealed} shards sealed; the same command goes on, and where none is at "
        f"work, `rm -r {shlex.quote(str(scratch))}` drops it"
    )
    return DataStatus(scratch, UNFINISHED, sum(path.stat().st_size for path in files), (told,))


def _parts(folder: Path) -> Path:
    return folder.parent / FETCH_FOLDER / f"{folder.name}.parts"


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*") if path.is_file()]


def _status_of(folder: Path, tell: Callable[[FetchEvent], None]) -> DataStatus | None:
    """None: no data set."""
    there = {split: _shards(folder, split) for split in SPLITS}
    paths = [*there["train"], *there["val"]]
    size, shards = sum(path.stat().st_size for path in paths), (len(there["train"]), len(there["val"]))
    try:
        manifest = read_manifest(folder)
    except ManifestError as error:
        return DataStatus(folder, DAMAGED, size, (f"{error}; the command that made it writes it anew",), None, shards)
    if manifest is None:
        told = f"it has no {DATA_MANIFEST}; the command that made it verifies what is there, and writes it"
        return DataStatus(folder, UNVERIFIED, size, (told,), None, shards) if paths else None
    problems = damage(folder, manifest, _reader(folder, manifest, tell))
    missing = [
        path for path in (*map(folder.joinpath, manifest.files), tokenizer_path(folder, manifest)) if not path.is_file()
    ]
    others = [path.name for path in paths if path.name not in manifest.files]
    strange = [f"{folder / name} is not listed by the manifest" for name in others]
    state = WHOLE if not problems and not others else DAMAGED if others or len(problems) > len(missing) else INCOMPLETE
    remedy = [mend(folder, manifest)] if problems else []
    remedy += [mend_extra(folder, manifest, others)] if others else []
    return DataStatus(folder, state, size, (*problems, *strange, *remedy), manifest, shards)


def _shards(folder: Path, split: str) -> list[Path]:
    try:
        return shard_paths(folder, split)
    except DataError:
        return []


def _reader(folder: Path, manifest: DataManifest, tell: Callable[[FetchEvent], None]) -> Callable[[Path], str]:
    """What tells the SHA-256 of a file: of shards, all are read side by side, and large ones are remembered."""
    paths = [folder / name for name, entry in manifest.files.items() if _readable(folder / name, entry.size)]
    facts = read_shards(paths, lambda done, total: tell(FetchProgress("checking", done, total, files=len(paths))))
    return lambda path: facts[path]["sha256"] if path in facts else file_sha256(path)


def _readable(path: Path, size: int) -> bool:
    return is_shard(path) and path.stat().st_size == size
