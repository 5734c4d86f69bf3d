"""The local side of a fetch: what is there already, what must not be touched, and how it becomes a data folder."""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from golf_core.data.manifest import (
    SPLITS,
    DataManifest,
    ManifestError,
    ShardEntry,
    SplitEntry,
    TokenizerEntry,
    path_from,
    read_manifest,
    write_manifest,
)
from golf_core.data.mending import FETCH_FOLDER
from golf_core.data.shard_facts import is_shard, read_shards
from golf_core.data.shards import DataError, shard_tokens
from golf_core.prepare.hub_client import HubFile
from golf_core.prepare.hub_manifest import HubDataset
from golf_core.prepare.hub_parallel import FetchEvent, FetchProgress
from golf_core.rundir import file_sha256

NAMED = 3  # files that a message names


@dataclass(frozen=True)
class Wanted:
    """A file of the hub and its place here. It comes to `part`, is verified, waits as `staged`, becomes `final`."""

    file: HubFile
    kind: str  # train, val, tokenizer, vocab or documents
    final: Path
    group: str  # of files that become visible together

    @property
    def home(self) -> Path:
        """The folder of files that come and wait: on the same disk as the place that they are moved to."""
        return (self.final.parent.parent if self.is_shard else self.final.parent) / FETCH_FOLDER

    @property
    def staged(self) -> Path:
        return self.home / self.group / self.final.name

    @property
    def part(self) -> Path:
        return self.home / f"{self.group}.parts" / self.file.digest

    @property
    def is_shard(self) -> bool:
        return self.kind in SPLITS

    @property
    def here(self) -> Path:
        """Where the verified file lies now."""
        return self.staged if self.staged.exists() else self.final


def missing_files(folder: Path, wanted: Sequence[Wanted], tell: Callable[[FetchEvent], None]) -> list[Wanted]:
    """What is not here yet. Raises DataError where the place holds content that is not the hub's."""
    if os.path.lexists(folder) and not folder.is_dir():
        raise DataError(f"{folder} is no folder, but a file or a link to nothing: move it away, or use another --into")
    if folder.is_dir() and folder.stat().st_dev != folder.parent.stat().st_dev:
        raise DataError(
            f"{folder} is on another disk than {folder.parent}, so that nothing can be moved into it at once; "
            f"let {folder.parent} be the link, or use --into on that disk"
        )
    manifest = _manifest_of(folder, tell)
    refuse_other_shards(folder, wanted)
    present = {one: one.final for one in wanted if os.path.lexists(one.final)}
    verified = _verified(present, tell)
    for one in present.keys() - verified:
        if _listed_sha256(one, manifest) != one.file.digest:
            raise DataError(_differs(one, manifest, wanted))
        tell(f"{one.final} is not what the manifest of {folder} says any more; it is fetched again")
    waiting = {one: one.staged for one in wanted if one not in verified and one.staged.exists()}
    ready = _verified(waiting, tell)
    for one in waiting.keys() - ready:  # of another revision, or damaged since
        one.staged.unlink()
    return [one for one in wanted if one not in verified and one not in ready]


def _listed_sha256(one: Wanted, manifest: DataManifest | None) -> str | None:
    """What the manifest of the data folder says that a file should be."""
    if manifest is None or not (one.is_shard or one.kind == "tokenizer"):
        return None
    if one.kind == "tokenizer":
        return manifest.tokenizer.sha256
    entry = manifest.files.get(one.final.name)
    return None if entry is None else entry.sha256


def _manifest_of(folder: Path, tell: Callable[[FetchEvent], None]) -> DataManifest | None:
    try:
        return read_manifest(folder)
    except ManifestError as error:
        tell(f"{error}; its files are held against the hub's")
        return None


def refuse_other_shards(folder: Path, wanted: Iterable[Wanted]) -> None:
    """A shard that was not asked for would be trained on: name it, and never remove it unasked."""
    names = {one.final.name for one in wanted if one.is_shard}
    there = {path.name for split in SPLITS for path in folder.glob(f"*_{split}_*.bin") if "_bytes_" not in path.name}
    if not (others := sorted(there - names)):
        return
    train = sum("_train_" in name for name in names)
    if all(name.startswith("fineweb_train_") for name in others):
        raise DataError(
            f"{folder} holds {len(others)} train shards more than the {train} asked for (from {others[0]} on); runs "
            f"read all that is there. Nothing was touched: ask for --train-shards {train + len(others)}, use another "
            f"--into, or remove those files and run this again"
        )
    told = ", ".join(others[:NAMED]) + (" ..." if len(others) > NAMED else "")
    raise DataError(
        f"{folder} holds shards that the hub does not have there ({told}); runs would read them too. "
        "Nothing was touched: use another --into, or move them away"
    )


def _verified(places: Mapping[Wanted, Path], tell: Callable[[FetchEvent], None]) -> set[Wanted]:
    """Those of which the file at that place is the hub's. Large shards are read once and remembered."""
    sized = {one: path for one, path in places.items() if path.is_file() and path.stat().st_size == one.file.size}
    shards = {one: path for one, path in sized.items() if one.is_shard and is_shard(path)}
    facts = read_shards(
        list(shards.values()), lambda done, total: tell(FetchProgress("checking", done, total, files=len(shards)))
    )
    found = set()
    for one, path in sized.items():
        if one.is_shard and path not in facts:
            continue
        known = facts[path]["sha256"] if path in facts and len(one.file.digest) == 64 else one.file.digest_of(path)
        if known == one.file.digest:
            found.add(one)
    return found


def _differs(one: Wanted, manifest: DataManifest | None, wanted: Sequence[Wanted]) -> str:
    """Why what lies at the place of a file is not touched."""
    path = one.final
    if manifest is None and one.is_shard and path.is_file():
        try:
            shard_tokens(path)
        except DataError as error:
            return (
                f"{error}: it is cut, or no shard. Nothing was touched: move that file away, and the same command "
                "brings it; or use another --into"
            )
    size = path.stat().st_size if path.is_file() else 0
    what = f"{path} is another file than the hub's ({size:,} bytes; {one.file.path} has {one.file.size:,})"
    if size == one.file.size:
        what = f"{path} differs from the hub's {one.file.path} (hash {one.file.digest[:12]})"
    origin, again, mixed = "", "", one.kind == "tokenizer"
    if manifest is not None and one.is_shard:
        told = {key: manifest.source.get(key) for key in ("kind", "repo", "revision") if manifest.source.get(key)}
        origin = f"; its manifest says {', '.join(f'{key} {str(value)[:60]}' for key, value in told.items())}"
        again = f"go on with what is there (--revision {told['revision']}), " if "revision" in told else ""
        model = next(one for one in wanted if one.kind == "tokenizer")
        mixed = len(model.file.digest) == 64 and manifest.tokenizer.sha256 != model.file.digest
    why = " Shards of two tokenizers do not mix." if mixed else ""
    return f"{what}{origin}.{why} Nothing was touched: {again}use another --into, or move it away"


def unwanted_files(wanted: Sequence[Wanted]) -> list[Path]:
    """Shards that an earlier, larger fetch staged."""
    shards = [one.staged for one in wanted if one.is_shard]
    return sorted(path for path in shards[0].parent.glob("*") if path not in shards)


def put_in_place(
    folder: Path, wanted: Sequence[Wanted], manifest: DataManifest, tell: Callable[[FetchEvent], None]
) -> None:
    """Move what waits to where it belongs; the folder's manifest is the last to come. What waits and was not asked for
    goes: the manifest does not list it, and a run would read it."""
    for one in wanted:
        if not one.is_shard and one.staged.exists():
            one.final.parent.mkdir(parents=True, exist_ok=True)
            if one.final.exists():  # perhaps of another data folder: small, so it is kept
                kept = one.final.with_name(f"{one.final.name}.replaced")
                os.replace(one.final, kept)
                tell(f"{one.final} was another file than the hub's; that one is kept as {kept}")
            os.replace(one.staged, one.final)
    shards = [one for one in wanted if one.is_shard]
    staging = shards[0].staged.parent
    if not os.path.lexists(folder):
        for path in unwanted_files(wanted):
            path.unlink()
        write_manifest(staging, manifest)
        staging.rename(folder)
    else:
        for one in shards:
            if one.staged.exists():
                os.replace(one.staged, one.final)
        write_manifest(folder, manifest)
    for one in wanted:
        for rest in (one.staged.parent, one.part.parent):
            shutil.rmtree(rest, ignore_errors=True)
        with contextlib.suppress(OSError):  # there is more in it
            one.home.rmdir()


def manifest_of(
    folder: Path, dataset: HubDataset, wanted: Sequence[Wanted], source: Mapping[str, object], vocab: int
) -> DataManifest:
    """The manifest of a folder whose files are all here and verified."""
    files, tokens = {}, dict.fromkeys(SPLITS, 0)
    for one in wanted:
        if one.is_shard:
            files[one.final.name] = ShardEntry(_sha256(one), one.file.size, count := shard_tokens(one.here))
            tokens[one.kind] += count
    whole = sum(one.kind == "train" for one in wanted) == dataset.files_train
    model = next(one for one in wanted if one.kind == "tokenizer")
    return DataManifest(
        name=dataset.name,
        source=source,
        tokenizer=TokenizerEntry(path_from(folder, model.final), _sha256(model), model.file.size, vocab),
        splits={
            "train": SplitEntry(tokens["train"], dataset.docs_train if whole else None, None),
            "val": SplitEntry(tokens["val"], dataset.docs_val, None),
        },
        files=files,
    )


def _sha256(one: Wanted) -> str:
    return one.file.digest if len(one.file.digest) == 64 else file_sha256(one.here)
