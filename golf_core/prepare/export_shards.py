"""Writes a stream of tokens as shards: straight to disk, each sealed by a rename when it is full.

A shard grows in a `.part` file and gets its name only when header, size and SHA-256 are final and flushed: a file
named `.bin` is whole. Nothing is written twice. Documents may cross from one shard into the next of their split.
"""

import io
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

from golf_core.data.manifest import ShardEntry
from golf_core.data.shards import SHARD_HEADER_BYTES, SHARD_MAGIC, SHARD_VERSION
from golf_core.rundir import file_sha256

PART = ".part"


def shard_name(split: str, number: int) -> str:
    """As the challenge's scripts look for them, whatever the text is."""
    return f"fineweb_{split}_{number:06d}.bin"


class ShardStream:
    """`sealed` lists the shards that are there; `at_seal` is called after each new one was added to it."""

    def __init__(
        self, folder: Path, shard_tokens: int, sealed: dict[str, ShardEntry], at_seal: Callable[[], None]
    ) -> None:
        self.folder, self.shard_tokens, self.sealed, self.at_seal = folder, shard_tokens, sealed, at_seal
        self.split = ""
        self.file: io.FileIO | None = None
        self.tokens = 0  # in the open shard
        self.passed = 0  # tokens since `passed` was last set to 0, sealed or open

    def write(self, split: str, tokens: np.ndarray) -> None:
        """Append tokens to a split. Another split than before ends the last shard of that one."""
        if split != self.split:
            self.seal()
            self.split = split
        while len(tokens):
            if self.file is None:
                self.file = self._part().open("wb", buffering=0)
                self.tokens = 0
                self._append(bytes(SHARD_HEADER_BYTES))
            part, tokens = tokens[: self.shard_tokens - self.tokens], tokens[self.shard_tokens - self.tokens :]
            self._append(np.ascontiguousarray(part, dtype="<u2").tobytes())
            self.tokens += len(part)
            self.passed += len(part)
            if self.tokens == self.shard_tokens:
                self.seal()

    def seal(self) -> None:
        """Give the open shard its header and its name; nothing happens where none is open."""
        if self.file is None:
            return
        self.file.seek(0)
        self._append(struct.pack("<3i", SHARD_MAGIC, SHARD_VERSION, self.tokens))
        os.fsync(self.file.fileno())
        self.file.close()
        self.file = None
        path = self.folder / self._name()
        part = self._part()
        entry = ShardEntry(sha256=file_sha256(part), size=part.stat().st_size, tokens=self.tokens)
        part.rename(path)
        sync_folder(self.folder)
        self.sealed[path.name] = entry
        self.at_seal()

    def drop(self) -> None:
        """Forget the open shard, so that it takes no place on the disk."""
        if self.file is not None:
            self.file.close()
            self.file = None
            self._part().unlink(missing_ok=True)

    def _append(self, data: bytes) -> None:
        """All of it: a disk that is nearly full takes a part, and complains at the next call."""
        assert self.file is not None
        rest = memoryview(data)
        while rest:
            rest = rest[self.file.write(rest) :]

    def _name(self) -> str:
        return shard_name(self.split, sum(f"_{self.split}_" in name for name in self.sealed))

    def _part(self) -> Path:
        return self.folder / (self._name() + PART)


def sync_folder(folder: Path) -> None:
    """Flush a folder's names to disk, so that a rename in it outlives a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
