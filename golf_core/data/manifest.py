"""The manifest of a data folder: which shards and which tokenizer belong together, with the SHA-256 of each.

Written last, by rename: a folder with a manifest is whole. The tokenizer's path is relative to the folder, so that
both can be moved together. No numpy here: the command line reads this module.
"""

import os
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from golf_core.rundir import RunDirError, file_sha256, read_json, write_json

DATA_MANIFEST = "manifest.json"
DATA_SCHEMA = 2
SPLITS = ("train", "val")
SHA256 = re.compile(r"[0-9a-f]{64}")
MOST = 2**63 - 1  # bytes, tokens or documents: more is a damaged number


class ManifestError(RunDirError):
    """A manifest that is damaged or of another format, or a file that is not as it says."""


@dataclass(frozen=True)
class TokenizerEntry:
    path: str  # of the .model file, relative to the data folder, with slashes
    sha256: str
    size: int  # bytes
    vocab: int  # pieces


@dataclass(frozen=True)
class ShardEntry:
    sha256: str  # of the whole file, header included
    size: int  # bytes
    tokens: int


@dataclass(frozen=True)
class SplitEntry:
    tokens: int
    documents: int | None  # None: the source does not tell
    bytes: int | None  # of normalised text; None: not counted


@dataclass(frozen=True)
class DataManifest:
    name: str  # such as fineweb10B_sp1024
    source: Mapping[str, typing.Any]  # {"kind": "hub" | "documents" | "embedded", ...}: where the bytes are from
    tokenizer: TokenizerEntry
    splits: Mapping[str, SplitEntry]  # train, val
    files: Mapping[str, ShardEntry]  # every shard by its name, in reading order


def write_manifest(folder: Path, manifest: DataManifest) -> None:
    """Write whole or not at all; the last file of a data folder to be written."""
    write_json(
        folder / DATA_MANIFEST,
        {
            "schema_version": DATA_SCHEMA,
            "name": manifest.name,
            "source": dict(manifest.source),
            "tokenizer": vars(manifest.tokenizer),
            "splits": {split: vars(manifest.splits[split]) for split in SPLITS},
            "files": {name: vars(manifest.files[name]) for name in sorted(manifest.files)},
        },
    )


def read_manifest(folder: Path) -> DataManifest | None:
    """The manifest of a folder, None where it has none. Raises ManifestError for one that cannot be relied on."""
    path = folder / DATA_MANIFEST
    if not path.exists() and not path.is_symlink():
        return None
    try:
        found = read_json(path)
    except RunDirError as error:
        raise ManifestError(str(error)) from None
    if (version := found.get("schema_version")) != DATA_SCHEMA:
        raise ManifestError(f"{path} is of schema {version!r}, not {DATA_SCHEMA}: prepare the data again")
    try:
        _check_keys(found, {"schema_version", "name", "source", "tokenizer", "splits", "files"}, "")
        _check_keys(found["splits"], set(SPLITS), "splits: ")
        if not isinstance(found["files"], dict):
            raise ValueError("files is no table")
        manifest = DataManifest(
            name=_text(found["name"]),
            source={**found["source"], "kind": _text(found["source"]["kind"])},
            tokenizer=_entry(TokenizerEntry, found["tokenizer"]),
            splits={split: _entry(SplitEntry, found["splits"][split]) for split in SPLITS},
            files={_file_name(name): _entry(ShardEntry, found["files"][name]) for name in sorted(found["files"])},
        )
        if "\\" in manifest.tokenizer.path or PurePosixPath(manifest.tokenizer.path).is_absolute():
            raise ValueError(f"the tokenizer's path {manifest.tokenizer.path!r} is not relative")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        why = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise ManifestError(f"{path} is no manifest of a data folder: {why}") from None
    return manifest


def _check_keys(found: typing.Any, wanted: set[str], place: str) -> None:
    if set(found) != wanted:
        raise ValueError(f"{place}fields {sorted(found)} are not {sorted(wanted)}")


def _text(value: typing.Any) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ValueError(f"{value!r} stands where a name should")
    return value


def _file_name(name: str) -> str:
    if PurePosixPath(name).name != name or "\\" in name or name == "..":
        raise ValueError(f"{name!r} is no file of this folder")
    return _text(name)


def _entry(cls: type, found: typing.Any) -> typing.Any:
    """A `cls` of names, hashes and whole numbers from 0 on; a number may be null where the class says so."""
    hints = typing.get_type_hints(cls)
    _check_keys(found, set(hints), "")
    for name, hint in hints.items():
        value, kinds = found[name], typing.get_args(hint) or (hint,)
        if type(value) not in kinds or (type(value) is int and not 0 <= value <= MOST):
            raise ValueError(f"{name}={value!r}")
        if type(value) is str and not (SHA256.fullmatch(value) if name == "sha256" else _text(value)):
            raise ValueError(f"{name}={value!r} is no SHA-256")
    return cls(**found)


def tokenizer_path(folder: Path, manifest: DataManifest) -> Path:
    """Where the tokenizer of a data folder lies."""
    return Path(folder, *PurePosixPath(manifest.tokenizer.path).parts)


def path_from(folder: Path, tokenizer: Path) -> str:
    """What a manifest says of the place of its tokenizer: relative, where links lead, since `..` starts from there."""
    return os.path.relpath(tokenizer.parent.resolve() / tokenizer.name, folder.resolve()).replace(os.sep, "/")


def damage(folder: Path, manifest: DataManifest, sha256_of: Callable[[Path], str] = file_sha256) -> list[str]:
    """What differs from the manifest, a sentence a file; empty where the folder is as it was made.

    `sha256_of` is what reads: another one may remember what a file held that nobody touched since."""
    found = []
    entries: list[tuple[Path, TokenizerEntry | ShardEntry]] = [
        *((folder / name, entry) for name, entry in manifest.files.items()),
        (tokenizer_path(folder, manifest), manifest.tokenizer),
    ]
    for path, entry in entries:
        try:
            if (size := path.stat().st_size) != entry.size:
                found.append(f"{path} has {size:,} bytes; its manifest says {entry.size:,}")
            elif (digest := sha256_of(path)) != entry.sha256:
                found.append(f"{path} has SHA-256 {digest[:12]}; its manifest says {entry.sha256[:12]}")
        except OSError as error:
            found.append(f"{path} cannot be read: {error.strerror}")
    return found
