"""A data folder on Modal's data volume, and checked.json beside its shards: what a check of all its content found.

Written once, when the folder is filled, with the size and time of every file. After that a plan takes the folder for
what checked.json says where the volume lists the same sizes and times, and so does a container, which would else read
16 GB on eight GPUs. Whoever can write to the volume can write a false checked.json, so that nothing which a score
stands on is taken from it: the hashes of the shards must add up to the one that the run's id names, and a container
hashes the validation shards and the tokenizer itself, each time. Train shards are taken at their size and time.
"""

import json
import os
import re
import subprocess
import sys
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from golf_core.data.manifest import DATA_MANIFEST, SPLITS, DataManifest
from golf_core.rundir import MAX_JSON_BYTES, RunDirError, content_id, file_sha256, read_json, write_json
from orchestrator.checkout import own_environment
from orchestrator.cluster.node_data import EMBEDDED_PATH, DataUnfit, data_on_node
from orchestrator.data_stamp import IDENTITY, data_stamp

CHECKED = "checked.json"
CHECKED_SCHEMA = 1
SHARDS = "*.bin"
MOST_UP = 2  # folders that the tokenizer may lie above its data: datasets/NAME is so deep in the volume
SHA256 = re.compile(r"[0-9a-f]{64}")
NAMED = 3  # differences that a message tells

Seen = tuple[int, int]  # size, and time of the last change in whole seconds
Listing = Mapping[str, Seen]


class CheckedError(Exception):
    """A checked.json that is damaged, hostile, or of another format."""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """Names are relative to the data folder."""

    data_sha256: str
    tokenizer_sha256: str
    tokenizer_path: str
    identity: Mapping[str, typing.Any]  # all that golf_core.data.identity said
    files: Mapping[str, Seen]  # shards, manifest, tokenizer

    def to_dict(self) -> dict[str, typing.Any]:
        files = {name: list(seen) for name, seen in self.files.items()}
        return {"schema_version": CHECKED_SCHEMA} | asdict(self) | {"files": files}

    @classmethod
    def from_bytes(cls, data: bytes, place: str) -> "Checked":
        if len(data) > MAX_JSON_BYTES:
            raise CheckedError(f"{place} has {len(data):,} bytes, more than any file of ours")
        try:
            return cls.from_dict(json.loads(data), place)
        except (ValueError, RecursionError) as error:
            raise CheckedError(f"{place} is no JSON: {error}") from None

    @classmethod
    def from_dict(cls, found: typing.Any, place: str = CHECKED) -> "Checked":
        """Raises CheckedError."""
        try:
            if found["schema_version"] != CHECKED_SCHEMA:
                raise ValueError(f"schema {found['schema_version']!r} is not {CHECKED_SCHEMA}")
            made = cls(
                data_sha256=_sha256(found["data_sha256"]),
                tokenizer_sha256=_sha256(found["tokenizer_sha256"]),
                tokenizer_path=_relative(found["tokenizer_path"]),
                identity=_identity(found["identity"]),
                files={_relative(name): _seen(entry) for name, entry in found["files"].items()},
            )
            made._check()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            why = f"it has no {error}" if isinstance(error, KeyError) else str(error)
            raise CheckedError(f"{place} does not tell of a checked data folder: {why}") from None
        return made

    def _check(self) -> None:
        """Whether its parts are of one and the same data."""
        hashes = self.identity["hashes"]
        if content_id(hashes) != self.data_sha256:
            raise ValueError(f"the hashes of its shards do not add up to data {self.data_sha256[:12]}")
        if shared := set(hashes["train"]) & set(hashes["val"]):
            raise ValueError(f"a train shard is also a val shard (SHA-256 {min(shared)[:12]})")
        for split in SPLITS:  # or a shard that nobody hashed would be trained on
            if (count := len(self.shards(split))) != len(hashes[split]):
                raise ValueError(f"it lists {count} {split} shards, and hashes of {len(hashes[split])}")
        if missing := ({self.tokenizer_path, DATA_MANIFEST} - self.files.keys()):
            raise ValueError(f"it lists no size of {min(missing)}")
        told = (self.identity["data_sha256"], self.identity["tokenizer_sha256"])
        if told != (self.data_sha256, self.tokenizer_sha256):
            raise ValueError("it tells two hashes of one thing")

    def shards(self, split: str) -> list[str]:
        """In reading order."""
        return sorted(name for name in self.files if _is_shard_of(split, name))

    def hashes(self, split: str) -> dict[str, str]:
        return dict(zip(self.shards(split), self.identity["hashes"][split], strict=True))


def fits(checked: Checked, listing: Listing) -> str | None:
    """What differs from the files that were checked, in words; None: nothing. Shards that came since differ too, since
    a run would read them; other files are nobody's business."""
    found = []
    for name, (size, time) in checked.files.items():
        if (now := listing.get(name)) is None:
            found.append(f"{name} is gone")
        elif now[0] != size:
            found.append(f"{name} has {now[0]:,} bytes, not {size:,}")
        elif now[1] != time:
            found.append(f"{name} was written again")
    found += [f"{name} was added" for name in sorted(listing) if _is_shard(name) and name not in checked.files]
    more = f" and {len(found) - NAMED} more" if found[NAMED:] else ""
    return "; ".join(found[:NAMED]) + more if found else None


def _is_shard(name: str) -> bool:
    return "/" not in name and PurePosixPath(name).match(SHARDS)


def _is_shard_of(split: str, name: str) -> bool:
    """As a run finds its shards."""
    return "/" not in name and PurePosixPath(name).match(f"*_{split}_*.bin") and "_bytes_" not in name


def sha256_of(manifest: DataManifest) -> str:
    """What a check will find the data of a manifest to be, if its files are as it says."""
    return content_id(
        {
            split: [entry.sha256 for name, entry in sorted(manifest.files.items()) if _is_shard_of(split, name)]
            for split in SPLITS
        }
    )


def listing_of(folder: Path, names: Mapping[str, Seen]) -> dict[str, Seen]:
    """The files of a folder here, and those with a name in `names` that lie elsewhere."""
    there = [path.name for path in folder.iterdir()]
    found = {}
    for name in {*there, *names}:
        path = folder / name
        if path.is_file():
            found[name] = _stat(path)
    return found


def _stat(path: Path) -> Seen:
    facts = path.stat()
    return facts.st_size, facts.st_mtime_ns // 10**9


def make_checked(folder: Path) -> Checked:
    """Read all of a data folder, and write checked.json into it, last. Raises DataUnfit."""
    if not (folder / DATA_MANIFEST).is_file():
        raise DataUnfit(f"{folder} has no {DATA_MANIFEST}: nobody can tell whether its data is as it was published")
    (folder / CHECKED).unlink(missing_ok=True)
    said = _identify(folder)
    tokenizer = os.path.relpath(Path(said["tokenizer_path"]).resolve(), folder.resolve()).replace(os.sep, "/")
    shards = [path.name for path in folder.glob(SHARDS) if any(_is_shard_of(split, path.name) for split in SPLITS)]
    names = [*sorted(shards), DATA_MANIFEST, tokenizer]
    before = {name: _stat(folder / name) for name in names}
    found = {
        "schema_version": CHECKED_SCHEMA,
        "data_sha256": said["data_sha256"],
        "tokenizer_sha256": said["tokenizer_sha256"],
        "tokenizer_path": tokenizer,
        "identity": said | {"tokenizer_path": tokenizer},
        "files": {name: list(seen) for name, seen in before.items()},
    }
    try:
        checked = Checked.from_dict(found, str(folder))
    except CheckedError as error:
        raise DataUnfit(str(error)) from None
    if (differs := fits(checked, listing_of(folder, checked.files))) is not None:
        raise DataUnfit(f"the data in {folder} was changed while it was checked: {differs}")
    write_json(folder / CHECKED, checked.to_dict())
    return checked


def _identify(folder: Path) -> dict[str, typing.Any]:
    """What golf_core.data.identity says of a folder that nobody touches meanwhile."""
    paths = [path for path in folder.iterdir() if path.is_file()]
    before = {path: _stat(path) for path in paths}
    command = [sys.executable, "-P", "-m", IDENTITY, "--data", str(folder)]
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, env=own_environment()
    )
    if done.returncode:
        raise DataUnfit((done.stderr.strip().splitlines() or [f"{folder}: the check said nothing"])[-1])
    if any(not path.is_file() or _stat(path) != before[path] for path in paths):
        raise DataUnfit(f"the data in {folder} was changed while it was checked")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def data_in_container(data: Mapping[str, typing.Any], cache: Path) -> dict[str, str]:
    """{path, tokenizer_path, stamp} of a run's `data` where it runs. Raises DataUnfit.

    Train shards that nobody touched since they were checked are not read; where anything differs, all is."""
    if data["path"] == EMBEDDED_PATH:
        return data_on_node(data, cache)
    folder = Path(data["path"])
    try:
        checked = Checked.from_dict(read_json(folder / CHECKED), str(folder / CHECKED))
        tokenizer = folder / checked.tokenizer_path
        stamp = data_stamp(folder, tokenizer)
        same = fits(checked, listing_of(folder, checked.files)) is None
    except (OSError, RunDirError, CheckedError):
        return data_on_node(data, cache)
    asked = (data["sha256"], data["tokenizer_sha256"])
    if not same or (checked.data_sha256, checked.tokenizer_sha256) != asked:
        return data_on_node(data, cache)
    _check_scored(folder, checked)
    return {"path": str(folder), "tokenizer_path": str(tokenizer), "stamp": stamp}


def _check_scored(folder: Path, checked: Checked) -> None:
    """What a score is made of: read, whatever checked.json says of its time."""
    wanted = checked.hashes("val") | {checked.tokenizer_path: checked.tokenizer_sha256}
    for name, sha256 in wanted.items():
        try:
            found = file_sha256(folder / name)
        except OSError as error:
            raise DataUnfit(f"{folder / name} cannot be read: {error}") from None
        if found != sha256:
            raise DataUnfit(
                f"{folder / name} has SHA-256 {found[:12]}; the run's data has {sha256[:12]} there, and {CHECKED} "
                "does not tell of the change"
            )


def _sha256(value: typing.Any) -> str:
    if not isinstance(value, str) or not SHA256.fullmatch(value):
        raise ValueError(f"{value!r} is no SHA-256")
    return value


def _relative(name: typing.Any) -> str:
    """A name below the data folder, or not further above it than the volume reaches."""
    parts = PurePosixPath(name).parts if isinstance(name, str) and name.isprintable() and "\\" not in name else ()
    up = next((number for number, part in enumerate(parts) if part != ".."), len(parts))
    if not parts or name != "/".join(parts) or up == len(parts) or up > MOST_UP or ".." in parts[up:]:
        raise ValueError(f"{name!r} is no file of the volume")
    return str(name)


def _count(value: typing.Any) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError(f"{value!r} stands where a number should")
    return value


def _seen(entry: typing.Any) -> Seen:
    size, time = entry
    return _count(size), _count(time)


def _identity(found: typing.Any) -> dict[str, typing.Any]:
    """What a plan reads of it, of the right kinds."""
    _sha256(found["data_sha256"]), _sha256(found["tokenizer_sha256"])
    if set(found["hashes"]) != set(SPLITS):
        raise ValueError(f"hashes of {sorted(found['hashes'])}, not of train and val")
    for split in SPLITS:
        hashes = [_sha256(value) for value in found["hashes"][split]]
        if not hashes or _count(found["shards"][split]) != len(hashes):
            raise ValueError(f"it counts {found['shards'][split]} {split} shards, and has hashes of {len(hashes)}")
        _count(found[f"{split}_tokens"])
    if found["pieces"] is not None:
        _count(found["pieces"])
    if not isinstance(found["name"], str) or not found["name"].isprintable():
        raise ValueError(f"{found['name']!r} is no name")
    source = found["source"]
    if source is not None and not all(isinstance(value, str | int | float) for value in source.values()):
        raise ValueError("its source is no table of texts and numbers")
    return dict(found)
