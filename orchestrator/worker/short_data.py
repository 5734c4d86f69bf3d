"""The data of a rehearsal: the same training shards, and a short piece of the validation text."""

import struct
from pathlib import Path

from golf_core.rundir import RunDirError, write_bytes

HEADER_BYTES = 256 * 4  # of a shard: magic, version, number of tokens
TOKEN_BYTES = 2


def lay_out_short(data: Path, into: Path, tokens: int) -> Path:
    """A folder with links to the training shards, and the first `tokens` of the validation split as its one shard."""
    into.mkdir()
    shards = sorted(path for path in data.glob("*_val_*.bin") if "_bytes_" not in path.name)
    if not shards:
        raise RunDirError(f"{data} has no validation shard")
    with shards[0].open("rb") as file:
        head, body = file.read(HEADER_BYTES), file.read(tokens * TOKEN_BYTES)
    if len(head) < HEADER_BYTES or len(body) < TOKEN_BYTES:
        raise RunDirError(f"{shards[0]} is no token shard")
    kept = len(body) // TOKEN_BYTES
    head = head[:8] + struct.pack("<i", kept) + head[12:]
    write_bytes(into / shards[0].name, head + body[: kept * TOKEN_BYTES])
    for shard in data.glob("*_train_*.bin"):
        (into / shard.name).symlink_to(shard.resolve())
    return into
