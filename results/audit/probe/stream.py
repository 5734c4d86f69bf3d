"""The stream that a probe works on: whole documents, taken in order from a shard in the challenge's format.

A shard is 256 little-endian int32 (20240520, version 1, number of tokens, zeros) and the tokens as little-endian
uint16. A document begins with the token 1 (BOS).
"""

import itertools
from pathlib import Path

import numpy as np
import numpy.typing as npt

from results.audit.probe.scorer import Ints
from results.project import ProjectError
from results.recount.shards import HEADER_BYTES, MAGIC, VERSION

BOS = 1
MIN_DOCUMENTS = 3  # in a stream: fewer have no neighbours to keep apart
MIN_TOKENS = 16


class StreamError(ProjectError):
    """There is no stream to probe with; the message names the file and what is wrong."""


def read_shard(path: Path) -> npt.NDArray[np.uint16]:
    """The tokens of a shard, mapped into memory. Raises StreamError."""
    try:
        with path.open("rb") as file:
            head = np.frombuffer(file.read(12).ljust(12, b"\0"), dtype="<i4").tolist()
        size = path.stat().st_size
    except OSError as error:
        raise StreamError(f"{path} cannot be read: {error.strerror}") from None
    magic, version, count = head
    if (magic, version) != (MAGIC, VERSION) or count < MIN_TOKENS:
        raise StreamError(
            f"{path} is no token shard: its header says {magic}, {version}, {count}, not {MAGIC}, {VERSION} and a "
            f"number of tokens from {MIN_TOKENS}"
        )
    if size != (expected := HEADER_BYTES + 2 * count):
        raise StreamError(f"{path} has {size:,} bytes; {count:,} tokens, as its header says, take {expected:,}")
    return np.memmap(path, dtype="<u2", mode="r", offset=HEADER_BYTES, shape=(count,))


def whole_documents(shard: npt.NDArray[np.uint16], wanted: int) -> Ints:
    """Whole documents from the front of a shard, until there are at least `wanted` tokens; one that alone is longer
    than half of that is left out. A shard without document starts gives its first tokens."""
    starts = np.flatnonzero(shard[: 64 * wanted] == BOS)
    if len(starts) < MIN_DOCUMENTS:
        return _varied(np.asarray(shard[:wanted], dtype=np.int64))
    parts: list[Ints] = []
    used = 0
    for first, stop in itertools.pairwise(starts.tolist()):
        if stop - first <= max(wanted // 2, MIN_TOKENS):
            parts.append(np.asarray(shard[first:stop], dtype=np.int64))
            used += stop - first
        if used >= wanted and len(parts) >= MIN_DOCUMENTS:
            break
    if len(parts) < MIN_DOCUMENTS:
        longest = int(np.diff(starts).max())
        raise StreamError(
            f"no {MIN_DOCUMENTS} whole documents fit into {wanted:,} tokens (one has {longest:,}); ask for more tokens "
            "with --probe-tokens"
        )
    return _varied(np.concatenate(parts))


def _varied(tokens: Ints) -> Ints:
    """Where nothing can be put in another's place there is nothing to probe."""
    if len(kinds := np.unique(tokens[tokens != BOS])) < 2:
        raise StreamError(f"the first {len(tokens):,} tokens hold {len(kinds)} kinds beside document starts: no text")
    return tokens


def documents_of(tokens: Ints) -> Ints:
    """For each target the number of its document. A document's targets go from the one after its BOS to the next BOS,
    which is the last of them."""
    starts = np.flatnonzero(tokens[:-1] == BOS)
    return np.searchsorted(starts, np.arange(len(tokens) - 1), side="right").astype(np.int64)
