"""`python -m golf_core.data.identity --data DIR [--tokenizer FILE] [--vocab N]`: what a run will read, checked, hashed.

Prints one JSON line: {"data_sha256", "tokenizer_sha256", "tokenizer_path", "train_tokens", "val_tokens", "shards",
"vocab", "pieces", "name", "source", "verified", "hashes"}. Every shard is read whole: its header, its size, and that
no token is beyond the vocabulary. The hash covers the content of the shards in reading order, not their names; it is
that of the shards' own, which `hashes` tells for each split. A folder with a manifest must be as that says, and its
tokenizer is the manifest's. Shards of over 64 MB are remembered by path, size and times of change.
"""

import argparse
import json
import sys
import time
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path

from golf_core.data.byte_count import byte_tables, load_tokenizer
from golf_core.data.manifest import (
    DATA_MANIFEST,
    SPLITS,
    DataManifest,
    ManifestError,
    ShardEntry,
    read_manifest,
    tokenizer_path,
)
from golf_core.data.mending import mend, mend_extra, refuse_no_folder
from golf_core.data.shard_facts import MAX_VOCAB, Facts, Tell, read_shards
from golf_core.data.shards import DataError, shard_paths
from golf_core.rundir import content_id, file_sha256

TELL_SECONDS = 0.5


def find_shards(data: Path) -> dict[str, list[Path]]:
    """The shards of each split. Raises DataError where there are none, and says where there are some nearby."""
    try:
        return {split: shard_paths(data, split) for split in SPLITS}
    except DataError as error:
        raise DataError(f"{error}{sets_below(data)}") from None


def sets_below(data: Path) -> str:
    """The end of a message about a folder that holds no shards: which folders in it do."""
    places = [place for pattern in ("datasets/*", "*") for place in sorted(data.glob(pattern))]
    found = [str(place) for place in places if place.name[0] != "." and any(place.glob("*_val_*.bin"))]
    return "" if not found else f"; did you mean {found[0]}?" if len(found) == 1 else f"; there are {', '.join(found)}"


def check_one_set(data: Path, shards: Mapping[str, Sequence[Path]]) -> None:
    """Refuse shards of two sets in one folder: a run would read both, one after the other."""
    stems: dict[str, Path] = {}
    for split, paths in shards.items():
        for path in paths:
            stems.setdefault(path.name.rpartition(f"_{split}_")[0], path)
    if len(stems) > 1:
        first, second, *_ = stems.values()
        raise DataError(f"{data} mixes two data sets, {first.name} and {second.name}: keep each in a folder of its own")


def check_listed(data: Path, manifest: DataManifest, shards: Mapping[str, Sequence[Path]]) -> None:
    """Every shard of the folder is in the manifest, and every file of the manifest is there in its size."""
    listed = {data / name: entry for name, entry in manifest.files.items()}
    if others := [path for paths in shards.values() for path in paths if path not in listed]:
        what = f"{others[0]} is" if len(others) == 1 else f"{others[0]} and {len(others) - 1} more are"
        told = mend_extra(data, manifest, [path.name for path in others])
        raise DataError(f"{what} not listed by the manifest of {data}: {told}")
    for path, entry in listed.items():
        if not path.is_file():
            raise DataError(f"{path} is missing, and the manifest beside it lists it; {mend(data, manifest)}")
        if (size := path.stat().st_size) != entry.size:
            told = f"{path} has {size:,} bytes; its manifest says {entry.size:,}"
            raise DataError(f"{told}; {mend(data, manifest)}")


def check_content(
    data: Path, manifest: DataManifest, shards: Mapping[str, Sequence[Path]], facts: Mapping[Path, Facts]
) -> None:
    """What was read is what the manifest says."""
    for name, entry in manifest.files.items():
        found = facts[data / name]
        if entry != ShardEntry(sha256=found["sha256"], size=entry.size, tokens=found["tokens"]):
            told = f"has SHA-256 {found['sha256'][:12]} and {found['tokens']:,} tokens"
            listed = f"its manifest says {entry.sha256[:12]} and {entry.tokens:,}"
            raise DataError(f"{data / name} {told}; {listed}; {mend(data, manifest)}")
    for split, paths in shards.items():
        if (tokens := sum(facts[path]["tokens"] for path in paths)) != (said := manifest.splits[split].tokens):
            raise DataError(f"{data / DATA_MANIFEST} says {said:,} {split} tokens, but its shards hold {tokens:,}")


def find_tokenizer(data: Path, manifest: DataManifest | None, given: Path | None) -> Path:
    """The tokenizer of a data folder: the manifest's, by content, or the one given."""
    if manifest is None:
        if given is None:
            raise DataError(
                f"{data} has no {DATA_MANIFEST} that names its tokenizer: shards are made with one tokenizer, "
                f"which --tokenizer FILE must name{sets_below(data)}"
            )
        return given
    meant = tokenizer_path(data, manifest).resolve()
    path = meant if given is None else given
    if not path.is_file():
        if given is None:
            raise DataError(f"there is no tokenizer at {path}, which the manifest names; {mend(data, manifest)}")
        raise DataError(f"there is no tokenizer at {path}; without --tokenizer it is {meant}, which made {data}")
    if file_sha256(path) != manifest.tokenizer.sha256:
        if given is None:
            raise DataError(f"{path} is not the tokenizer that made {data}; {mend(data, manifest)}")
        raise DataError(f"{path} is not the tokenizer that made {data}: leave --tokenizer out, and {meant} is used")
    return path


def pieces_of(tokenizer: Path, vocab: int | None) -> int | None:
    """How many pieces it has; None where it is of another kind. With `vocab` it must be one that we can count with."""
    if vocab is not None:
        byte_tables(tokenizer, vocab)
    elif tokenizer.suffix != ".model" and tokenizer.is_file():
        return None
    return int(load_tokenizer(tokenizer).vocab_size())


def data_identity(
    data: Path, tokenizer: Path | None, vocab: int | None, tell: Tell | None = None
) -> dict[str, typing.Any]:
    """Hashes and counts of a data folder and its tokenizer. Raises DataError for anything a run could not use. Without
    `vocab` the program is not ours: it may read a tokenizer of another kind, and its model may have any size."""
    refuse_no_folder(data)
    try:
        manifest = read_manifest(data)
    except ManifestError as error:
        raise DataError(f"{error}; without the file, --tokenizer names what it names") from None
    tokenizer = find_tokenizer(data, manifest, tokenizer)
    pieces = pieces_of(tokenizer, vocab)
    shards = find_shards(data)
    if manifest is not None:
        check_listed(data, manifest, shards)
    check_one_set(data, shards)
    listed = [] if manifest is None else [data / name for name in manifest.files]
    facts = read_shards(list(dict.fromkeys([*shards["train"], *shards["val"], *listed])), tell)
    if manifest is not None:
        check_content(data, manifest, shards, facts)
    for path in (*shards["train"], *shards["val"]):
        check_largest(path, facts[path]["largest"], tokenizer, pieces, vocab)
    hashes = {split: [facts[path]["sha256"] for path in paths] for split, paths in shards.items()}
    counts = {split: sum(facts[path]["tokens"] for path in paths) for split, paths in shards.items()}
    if shared := set(hashes["train"]) & set(hashes["val"]):
        raise DataError(f"{data}: a train shard is also a val shard (SHA-256 {min(shared)[:12]}); scores would be void")
    source = {} if manifest is None else manifest.source
    return {
        "data_sha256": content_id(hashes),
        "tokenizer_sha256": file_sha256(tokenizer),
        "tokenizer_path": str(tokenizer),
        "train_tokens": counts["train"],
        "val_tokens": counts["val"],
        "shards": {split: len(paths) for split, paths in shards.items()},
        "vocab": MAX_VOCAB if vocab is None else vocab,
        "pieces": pieces,
        "name": None if manifest is None else manifest.name,
        "source": {key: value for key, value in source.items() if isinstance(value, str | int | float)} or None,
        "verified": manifest is not None,
        "hashes": hashes,
    }


def check_largest(path: Path, largest: int, tokenizer: Path, pieces: int | None, vocab: int | None) -> None:
    if vocab is not None and largest >= vocab:
        raise DataError(f"{path} holds token {largest}, beyond the vocab of {vocab}: another tokenizer")
    if pieces is not None and largest >= pieces:
        raise DataError(f"{path} holds token {largest}, but {tokenizer} has {pieces} pieces: another tokenizer made it")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m golf_core.data.identity", description="hash and check a data set")
    parser.add_argument("--data", type=Path, required=True, help="folder of *_train_*.bin and *_val_*.bin")
    parser.add_argument("--tokenizer", type=Path, help="SentencePiece .model file; default: the manifest's")
    parser.add_argument("--vocab", type=int, help="model.vocab of the recipe")
    parser.add_argument("--progress", action="store_true", help='lines {"read": BYTES, "of": BYTES} before the answer')
    args = parser.parse_args()

    told = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal told
        if time.monotonic() - told < TELL_SECONDS:
            return
        told = time.monotonic()
        print(json.dumps({"read": done, "of": total}), flush=True)

    try:
        identity = data_identity(args.data, args.tokenizer, args.vocab, tell if args.progress else None)
    except DataError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{args.data} cannot be read: {error}", file=sys.stderr)
        return 2
    print(json.dumps(identity))
    return 0


if __name__ == "__main__":
    sys.exit(main())
