"""Validation documents among the training documents, found by digests: the shards pass by, a document at a time."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from results.recount.decode import BOS
from results.recount.shards import Shard, blocks, documents

DIGEST_BYTES = 16
SHORT_TOKENS = 16  # a document of fewer (a title, an error page) comes twice in any crawl, and proves nothing


@dataclass(frozen=True)
class Overlap:
    train_documents: int
    validation_documents: int  # of at least SHORT_TOKENS tokens
    shared: int  # of these, found in training
    first: tuple[int, ...]  # the numbers of the first ones
    run: tuple[int, int] | None  # the longest row of shared documents: (first, last)

    @property
    def share(self) -> float:
        return self.shared / self.validation_documents if self.validation_documents else 0.0


def overlap(train: Sequence[Shard], val: Sequence[Shard], hashes: "dict[Path, str] | None" = None) -> Overlap:
    """By the tokens of whole documents, which equal texts have in common. `hashes` is filled with the SHA-256 of the
    train shards."""
    wanted: dict[bytes, list[int]] = {}
    for number, digest in enumerate(_digests(val)):
        if digest is not None:
            wanted.setdefault(digest, []).append(number)
    known = sum(map(len, wanted.values()))
    found: set[int] = set()
    seen = 0
    for digest in _digests(train, hashes):
        seen += 1
        if digest is not None and digest in wanted:
            found.update(wanted[digest])
    ordered = sorted(found)
    return Overlap(seen, known, len(ordered), tuple(ordered[:10]), _longest_row(ordered))


def _digests(shards: Sequence[Shard], hashes: "dict[Path, str] | None" = None) -> Iterator[bytes | None]:
    """One of each document, None of a short one. A document's BOS is left out, as some sets have none."""
    for tokens, starts in documents(blocks(shards, hashes), BOS):
        raw = memoryview(tokens.tobytes())
        ends = [*starts[1:].tolist(), len(tokens)]
        for start, end in zip((starts + (tokens[starts] == BOS)).tolist(), ends, strict=True):
            if end - start < SHORT_TOKENS:
                yield None
            else:
                yield hashlib.blake2b(raw[2 * start : 2 * end], digest_size=DIGEST_BYTES).digest()


def _longest_row(numbers: list[int]) -> tuple[int, int] | None:
    best: tuple[int, int] | None = None
    start = None
    for place, number in enumerate(numbers):
        if start is None or number != numbers[place - 1] + 1:
            start = number
        if best is None or number - start > best[1] - best[0]:
            best = (start, number)
    return best
