"""Token shards, read again: 256 little-endian int32 (20240520, 1, number of tokens), then the tokens as uint16."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from results.recount.model import RecountError

HEADER_BYTES = 1024
MAGIC, VERSION = 20240520, 1
BLOCK_TOKENS = 1 << 20  # read at once
MAX_DOCUMENT_TOKENS = 1 << 23  # the challenge's longest has less than a tenth of that
SIDECAR = "_bytes_"  # in the name of a file of bytes a token, which the glob of a split matches too


@dataclass(frozen=True)
class Shard:
    path: Path
    tokens: int


@dataclass(frozen=True)
class Split:
    """The files of one split of a data folder, in the order in which they are read."""

    shards: tuple[Shard, ...]
    sidecars: tuple[Shard, ...]

    @property
    def tokens(self) -> int:
        return sum(shard.tokens for shard in self.shards)


def find_split(folder: Path, split: str) -> Split:
    """Raises RecountError for a folder without such shards, or a file that is none."""
    paths = sorted(folder.glob(f"*_{split}_*.bin"))
    shards = tuple(_shard(path) for path in paths if SIDECAR not in path.name)
    if not shards:
        raise RecountError(f"{folder} has no *_{split}_*.bin: the data folder of the run must be named (--data)")
    return Split(shards, tuple(_shard(path) for path in paths if SIDECAR in path.name))


def _shard(path: Path) -> Shard:
    try:
        with path.open("rb") as file:
            head = np.frombuffer(file.read(12), dtype="<i4")
        size = path.stat().st_size
    except (OSError, ValueError) as error:
        raise RecountError(f"{path} cannot be read: {error}") from None
    if len(head) < 3 or (head[0], head[1]) != (MAGIC, VERSION):
        raise RecountError(f"{path} is no token shard: it does not begin with {MAGIC}, {VERSION}")
    if size != HEADER_BYTES + 2 * int(head[2]) or head[2] <= 0:
        raise RecountError(f"{path} has {size:,} bytes, but its header counts {int(head[2]):,} tokens")
    return Shard(path, int(head[2]))


def blocks(shards: Sequence[Shard], digests: "dict[Path, str] | None" = None) -> Iterator[np.ndarray]:
    """The tokens of the shards, a block at a time; `digests` is filled with the SHA-256 of each whole file."""
    for shard in shards:
        digest = hashlib.sha256()
        with shard.path.open("rb") as file:
            digest.update(file.read(HEADER_BYTES))
            left = shard.tokens
            while left:
                data = file.read(2 * min(BLOCK_TOKENS, left))
                if not data or len(data) % 2:
                    raise RecountError(f"{shard.path} was cut while it was read")
                if digests is not None:
                    digest.update(data)
                left -= len(data) // 2
                yield np.frombuffer(data, dtype="<u2")
        if digests is not None:
            digests[shard.path] = digest.hexdigest()


def documents(stream: Iterator[np.ndarray], bos: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(tokens, where documents begin in them) in groups of whole documents. Tokens before the first BOS are a document
    too. A document lies in memory whole."""
    kept: list[np.ndarray] = []
    for block in stream:
        starts = np.flatnonzero(block == bos)
        if not len(starts):
            kept.append(block)
            if sum(map(len, kept)) > MAX_DOCUMENT_TOKENS:
                raise RecountError(
                    f"no BOS within {MAX_DOCUMENT_TOKENS:,} tokens: the documents of the shards have none"
                )
            continue
        whole = np.concatenate([*kept, block[: starts[-1]]])
        if len(whole):
            yield whole, _starts(whole, bos)
        kept = [block[starts[-1] :]]
    rest = np.concatenate(kept) if kept else np.zeros(0, dtype="<u2")
    if len(rest):
        yield rest, _starts(rest, bos)


def _starts(tokens: np.ndarray, bos: int) -> np.ndarray:
    starts = np.flatnonzero(tokens == bos)
    return starts if len(starts) and starts[0] == 0 else np.concatenate([[0], starts])
