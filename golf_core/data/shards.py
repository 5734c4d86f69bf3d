"""Token shards in the challenge's format: 256 little-endian int32, then the tokens as little-endian uint16.

Header: [0] = 20240520, [1] = version 1, [2] = number of tokens, the rest 0. A folder holds `*_train_*.bin` and
`*_val_*.bin`; sidecars such as `fineweb_val_bytes_000000.bin` match the same patterns and are not shards.
"""

import struct
from pathlib import Path

import numpy as np

SHARD_MAGIC = 20240520
SHARD_VERSION = 1
SHARD_HEADER_BYTES = 256 * 4
BOS_ID = 1  # the first token of every document


class DataError(ValueError):
    """A shard, a tokenizer or a corpus that is missing or damaged; the message names the file and what is wrong."""


def shard_paths(folder: Path, split: str) -> list[Path]:
    """The shards of a split ("train" or "val") in the order in which they are read. Raises DataError for none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; DATA_PATH must hold *_train_*.bin and *_val_*.bin")
    paths = sorted(path for path in folder.glob(f"*_{split}_*.bin") if "_bytes_" not in path.name)
    if not paths:
        names = sorted(path.name for path in folder.iterdir())
        there = f"it holds {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}" if names else "it is empty"
        raise DataError(f"{folder} has no *_{split}_*.bin; {there}")
    return paths


def shard_tokens(path: Path) -> int:
    """How many tokens the shard holds, after its header and its size were checked."""
    try:
        with path.open("rb") as file:
            head = file.read(12)
        size = path.stat().st_size
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    if size < SHARD_HEADER_BYTES:
        raise DataError(f"{path} has {size} bytes, less than a shard's header of {SHARD_HEADER_BYTES}")
    magic, version, count = struct.unpack("<3i", head)
    if magic != SHARD_MAGIC or version != SHARD_VERSION:
        raise DataError(
            f"{path} is no token shard: its header starts {magic}, {version}, not {SHARD_MAGIC}, {SHARD_VERSION}"
        )
    if count <= 0:
        raise DataError(f"{path} has a header that counts {count} tokens; a shard holds at least one")
    if size != (expected := SHARD_HEADER_BYTES + 2 * count):
        raise DataError(f"{path} has {size} bytes, but its header counts {count} tokens, which take {expected}")
    return int(count)


def read_shard(path: Path) -> np.ndarray:
    """The tokens of a shard as uint16, mapped into memory, not read."""
    count = shard_tokens(Path(path))
    return np.memmap(path, dtype="<u2", mode="r", offset=SHARD_HEADER_BYTES, shape=(count,))
