"""What reading all of a shard tells: its SHA-256, its tokens, the largest of them.

Shards of over 64 MB are remembered by path, size and times of change.
"""

import contextlib
import hashlib
import os
import threading
import typing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from golf_core.data.shards import SHARD_HEADER_BYTES, DataError, shard_tokens
from golf_core.rundir import RunDirError, read_json, write_json

REMEMBER_BYTES = 64_000_000  # hashing this takes a tenth of a second; below, remembering is not worth a file
BLOCK_BYTES = 1 << 20  # even, since a token has two; larger ones leave the processor's cache
MAX_READERS = 8
MAX_VOCAB = 1 << 16  # shards hold 16-bit tokens

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


def is_shard(path: Path) -> bool:
    """Whether the file is there, with the header and the size of a shard."""
    try:
        return shard_tokens(path) > 0
    except DataError:
        return False
