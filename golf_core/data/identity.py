"""`python -m golf_core.data.identity --data DIR [--tokenizer FILE] [--vocab N]`: what a run will read, checked, hashed.

Prints one JSON line: {"data_sha256", "tokenizer_sha256", "tokenizer_path", "train_tokens", "val_tokens", "shards",
"vocab", "pieces", "name", "source", "verified"}. Every shard is read whole: its header, its size, and that no token is
beyond the vocabulary. The hash covers the content of the shards in reading order, not their names. A folder with a
manifest must be as that says, and its tokenizer is the manifest's. Shards of over 64 MB are remembered by path, size
and times of change.
"""

import argparse
import contextlib
import hashlib
import json
import os
import re
import shlex
import sys
import threading
import time
import typing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

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
from golf_core.data.shards import SHARD_HEADER_BYTES, DataError, shard_paths, shard_tokens
from golf_core.rundir import RunDirError, content_id, file_sha256, read_json, write_json

REMEMBER_BYTES = 64_000_000  # hashing this takes a tenth of a second; below, remembering is not worth a file
BLOCK_BYTES = 1 << 20  # even, since a token has two; larger ones leave the processor's cache
MAX_READERS = 8
PUBLISHED_REPO = "willdepueoai/parameter-golf"  # dataset repository of the challenge, on Hugging Face's hub
PUBLISHED_TRAIN = re.compile(r"fineweb_train_(\d{6})\.bin")  # a train shard of it
MAX_VOCAB = 1 << 16  # shards hold 16-bit tokens
TELL_SECONDS = 0.5
FETCH_FOLDER = ".fetch"  # hidden, beside the place of what comes into it
EXPORT_SUFFIX = ".export"  # of the hidden folder that an export from documents works in
NAMED_SOURCES = 3  # of an export, in a message

Tell = Callable[[int, int], None]  # bytes read, bytes to read


def memory_path() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "golf-orchestrator" / "shards.json"


class Facts(typing.TypedDict):
    """What reading all of a shard told."""

    sha256: str  # of the whole file
    tokens: int
    largest: int


FACTS = typing.get_type_hints(Facts)


def _is_facts(value: typing.Any) -> bool:
    return isinstance(value, dict) and {name: type(one) for name, one in value.items()} == FACTS


def shard_facts(path: Path, advance: Callable[[int], None] = lambda count: None) -> Facts:
    """All of a shard read. `advance` is told of the bytes as they come, from whichever thread reads."""
    tokens, digest, largest = shard_tokens(path), hashlib.sha256(), 0
    block = memoryview(bytearray(BLOCK_BYTES))
    values = np.frombuffer(block, dtype="<u2")
    with path.open("rb", buffering=0) as file:
        digest.update(head := file.read(SHARD_HEADER_BYTES))
        left = 2 * tokens
        while left > 0 and (count := file.readinto(block[: min(BLOCK_BYTES, left)]) or 0):
            if count % 2:  # a short read: never in practice, and never a wrong answer
                raise DataError(f"{path} was cut while it was read")
            digest.update(block[:count])
            largest = max(largest, int(values[: count // 2].max()))
            left -= count
            advance(count)
    if left or len(head) != SHARD_HEADER_BYTES:
        raise DataError(f"{path} was cut while it was read")
    return Facts(sha256=digest.hexdigest(), tokens=tokens, largest=largest)


def _memory_key(path: Path) -> str | None:
    """Under which a large file is remembered; None for a small one."""
    status = path.stat()
    if status.st_size < REMEMBER_BYTES:
        return None
    times = f"{status.st_mtime_ns}:{status.st_ctime_ns}"  # the second cannot be set back
    return f"{path.resolve()}:{status.st_size}:{times}:{status.st_ino}"


def read_shards(paths: Sequence[Path], tell: Tell | None = None) -> dict[Path, Facts]:
    """The facts of shards, side by side, and read again only where a large one changed since.

    A thread a core: hashing holds no lock, so that the disk is the limit."""
    try:
        memory = read_json(memory_path())
    except RunDirError:
        memory = {}
    keys = {path: _memory_key(path) for path in paths}
    known = {path: memory[key] for path, key in keys.items() if key is not None and _is_facts(memory.get(key))}
    unknown = [path for path in paths if path not in known]
    total, done, lock = sum(path.stat().st_size for path in unknown), 0, threading.Lock()

    def advance(count: int) -> None:
        nonlocal done
        with lock:
            done += count
            if tell is not None:
                tell(done, total)

    found: dict[Path, Facts] = dict(known)
    with ThreadPoolExecutor(min(MAX_READERS, len(os.sched_getaffinity(0)))) as pool:
        try:
            for path, facts in zip(unknown, pool.map(lambda path: shard_facts(path, advance), unknown), strict=True):
                found[path] = facts
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            fresh = {key: found[path] for path, key in keys.items() if key is not None and path in found}
            if fresh.keys() - memory.keys():
                _remember(memory | fresh)
    return found


def _remember(memory: Mapping[str, typing.Any]) -> None:
    with contextlib.suppress(OSError):  # the next call reads the shards again, nothing more
        memory_path().parent.mkdir(parents=True, exist_ok=True)
        write_json(memory_path(), memory)


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


def fetch_command(data: Path, manifest: DataManifest, train: int) -> str:
    """What brings so many train shards of a folder from the hub, at the revision that it is of."""
    source, into = manifest.source, data.parent.parent
    options = ["--variant", source.get("variant", "..."), "--train-shards", train]
    options += ["--into", into] if str(into) != "data" else []
    options += ["--repo", source["repo"]] if source.get("repo", PUBLISHED_REPO) != PUBLISHED_REPO else []
    options += ["--revision", source["revision"]] if "revision" in source else []
    return shlex.join(["python", "jobs/prepare_data.py", *map(str, options)])


def mend(data: Path, manifest: DataManifest) -> str:
    """What to do where a file of a folder is not as its manifest says."""
    again = {
        "hub": fetch_command(data, manifest, sum("_train_" in name for name in manifest.files)),
        "embedded": "python -m golf_core.data.embedded",
    }.get(str(manifest.source["kind"]), "what made it")
    told = f"`{again}` again brings it back"
    if manifest.source["kind"] == "documents":
        told = f"remove {data}, and make it anew: {_export_command(data, manifest)}"
    if not all(_is_shard(data / name) for name in manifest.files):  # nobody means to have half a shard
        return told
    return f"{told}; where the change is meant, remove {data / DATA_MANIFEST} and name --tokenizer FILE"


def mend_extra(data: Path, manifest: DataManifest, names: Sequence[str]) -> str:
    """What to do where a folder holds shards that its manifest does not list."""
    told = "a run would read it, so move it away" if len(names) == 1 else "a run would read them, so move them away"
    numbers = [int(found[1]) for name in names if (found := PUBLISHED_TRAIN.fullmatch(name))]
    count, published = max(numbers, default=0) + 1, manifest.source.get("train_shards_published")
    if manifest.source["kind"] != "hub" or len(numbers) < len(names) or not isinstance(published, int):
        return told
    return told if count > published else f"{told}; or list so many: `{fetch_command(data, manifest, count)}`"


def _is_shard(path: Path) -> bool:
    try:
        return shard_tokens(path) > 0
    except DataError:
        return False


def refuse_no_folder(data: Path) -> None:
    """Say of a folder that is not there whether it is still being made."""
    if data.is_dir():
        return
    home = data.parent / FETCH_FOLDER
    hidden = {
        "a fetch": (home / data.name, home / f"{data.name}.parts"),
        "an export": (data.with_name(f".{data.name}{EXPORT_SUFFIX}"),) if data.name else (),
    }
    for what, places in hidden.items():
        if found := [place for place in places if place.is_dir()]:
            status = shlex.join(["python", "jobs/prepare_data.py", "--status", "--into", str(data.parent.parent)])
            raise DataError(
                f"{data} is not there yet: {what} has not come to its end (what came is in {found[0]}); wait for it, "
                f"or give its command again; `{status}` tells more"
            )
    raise DataError(f"{data} is not a folder")


def _export_command(data: Path, manifest: DataManifest) -> str:
    """The command that made a folder from documents, as far as its manifest knows."""
    source, into, options = manifest.source, data.parent.parent, []
    names = [str(one["name"]) for one in source.get("sources", [])]
    trained = "trained" in source.get("tokenizer", {})
    tokenizer = tokenizer_path(data, manifest).resolve()  # a path that does not lead through the folder
    digest = manifest.tokenizer.sha256
    lost = not trained and not (tokenizer.is_file() and file_sha256(tokenizer) == digest)
    options += ["--vocab", manifest.tokenizer.vocab] if trained else ["--tokenizer", "..." if lost else tokenizer]
    options += ["--name", manifest.name, "--val-documents", source.get("val_documents", "...")]
    options += ["--shard-tokens", source.get("shard_tokens", "...")]
    options += ["--text-field", source["text_field"]] if source.get("text_field", "text") != "text" else []
    options += ["--skip-bad"] if source.get("skipped_bad") else []
    options += ["--into", into] if str(into) != "data" else []
    command = shlex.join(["python", "jobs/prepare_data.py", "--documents", *names[:NAMED_SOURCES], *map(str, options)])
    more = f" (of {len(names)} files the first {NAMED_SOURCES} are named)" if len(names) > NAMED_SOURCES else ""
    other = f" and a tokenizer of SHA-256 {digest[:12]}, which {tokenizer.name} was" if lost else ""
    return f"`{command}`, with the paths of those files{more}{other}"


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
