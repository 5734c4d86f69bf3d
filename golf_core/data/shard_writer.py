"""Writes token shards. Apart from shards.py, because a bundle reads shards and never writes one."""

import struct
from pathlib import Path

import numpy as np

from golf_core.data.shards import SHARD_HEADER_BYTES, SHARD_MAGIC, SHARD_VERSION, DataError
from golf_core.rundir import write_bytes


def write_shard(path: Path, tokens: np.ndarray) -> None:
    """Write whole or not at all. Raises DataError for tokens that a shard cannot hold."""
    tokens = np.asarray(tokens)
    if tokens.ndim != 1 or tokens.size == 0 or not np.issubdtype(tokens.dtype, np.integer):
        raise DataError(f"{path}: a shard takes a row of whole numbers, not {tokens.dtype} of shape {tokens.shape}")
    if not 0 <= int(tokens.min()) <= int(tokens.max()) <= 0xFFFF:
        raise DataError(f"{path}: tokens reach from {tokens.min()} to {tokens.max()}, outside of 16 bits")
    header = struct.pack("<3i", SHARD_MAGIC, SHARD_VERSION, tokens.size).ljust(SHARD_HEADER_BYTES, b"\0")
    write_bytes(path, header + tokens.astype("<u2").tobytes())
