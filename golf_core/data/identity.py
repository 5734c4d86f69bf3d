"""`python -m golf_core.data.identity --data DIR --tokenizer FILE [--vocab N]`: what a run will read, checked, hashed.

Prints one JSON line: {"data_sha256", "tokenizer_sha256", "train_tokens", "val_tokens", "vocab"}. Every shard is read
whole: its header, its size, and that no token is beyond the vocabulary. The hash covers the content of the shards in
reading order, not their names. Shards of over 64 MB are remembered by path, size and time of change.
"""

import argparse
import contextlib
import hashlib
import json
import os
import sys
import typing
from pathlib import Path

import numpy as np

from golf_core.data.byte_count import byte_tables, load_tokenizer
from golf_core.data.shards import SHARD_HEADER_BYTES, DataError, read_shard, shard_paths
from golf_core.rundir import RunDirError, content_id, file_sha256, read_json, write_json

REMEMBER_BYTES = 64_000_000  # hashing this takes a tenth of a second; below, remembering is not worth a file
BLOCK_TOKENS = 1 << 22
MAX_VOCAB = 1 << 16  # shards hold 16-bit tokens


def memory_path() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "golf-orchestrator" / "shards.json"


def shard_facts(path: Path) -> dict[str, typing.Any]:
    """{"sha256", "tokens", "largest"} of a shard, all of it read."""
    tokens = read_shard(path)
    with path.open("rb") as file:
        digest = hashlib.sha256(file.read(SHARD_HEADER_BYTES))
    largest = 0
    for start in range(0, len(tokens), BLOCK_TOKENS):
        block = np.ascontiguousarray(tokens[start : start + BLOCK_TOKENS])
        digest.update(block)
        largest = max(largest, int(block.max()))
    return {"sha256": digest.hexdigest(), "tokens": len(tokens), "largest": largest}


def remembered_facts(path: Path, memory: dict[str, typing.Any]) -> dict[str, typing.Any]:
    """The same, read again only where the file changed since."""
    status = path.stat()
    if status.st_size < REMEMBER_BYTES:
        return shard_facts(path)
    key = f"{path.resolve()}:{status.st_size}:{status.st_mtime_ns}:{status.st_ino}"
    known = memory.get(key)
    if not isinstance(known, dict) or set(known) != {"sha256", "tokens", "largest"}:
        memory[key] = known = shard_facts(path)
    return known


def data_identity(data: Path, tokenizer: Path, vocab: int | None) -> dict[str, typing.Any]:
    """Hashes and counts of a data folder and a tokenizer. Raises DataError for anything a run could not use. Without
    `vocab` the program is not ours: it may read a tokenizer of another kind, and its model may have any size."""
    if vocab is not None:
        byte_tables(tokenizer, vocab)  # a tokenizer that cannot be loaded or counted with is refused here
    elif tokenizer.suffix == ".model" or not tokenizer.is_file():
        load_tokenizer(tokenizer)
    vocab = MAX_VOCAB if vocab is None else vocab
    try:
        memory = read_json(memory_path())
    except RunDirError:
        memory = {}
    before = dict(memory)
    hashes: dict[str, list[str]] = {}
    counts: dict[str, int] = {}
    for split in ("train", "val"):
        hashes[split], counts[split] = [], 0
        for path in shard_paths(data, split):
            facts = remembered_facts(path, memory)
            if facts["largest"] >= vocab:
                raise DataError(
                    f"{path} holds token {facts['largest']}, beyond the vocab of {vocab}: another tokenizer"
                )
            hashes[split].append(facts["sha256"])
            counts[split] += facts["tokens"]
    if shared := set(hashes["train"]) & set(hashes["val"]):
        raise DataError(f"{data}: a train shard is also a val shard (SHA-256 {min(shared)[:12]}); scores would be void")
    if memory != before:
        with contextlib.suppress(OSError):  # the next call reads the shards again, nothing more
            memory_path().parent.mkdir(parents=True, exist_ok=True)
            write_json(memory_path(), memory)
    return {
        "data_sha256": content_id(hashes),
        "tokenizer_sha256": file_sha256(tokenizer),
        "train_tokens": counts["train"],
        "val_tokens": counts["val"],
        "vocab": vocab,
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m golf_core.data.identity", description="hash and check a data set")
    parser.add_argument("--data", type=Path, required=True, help="folder of *_train_*.bin and *_val_*.bin")
    parser.add_argument("--tokenizer", type=Path, required=True, help="SentencePiece .model file")
    parser.add_argument("--vocab", type=int, help="model.vocab of the recipe")
    args = parser.parse_args()
    try:
        identity = data_identity(args.data, args.tokenizer, args.vocab)
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
