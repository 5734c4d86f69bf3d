"""The training stream: shards in order of their names, read on and on, cut into one span a process.

For each micro-step `world` spans of n + 1 tokens lie side by side; rank r trains on the r-th. Because a step
has a fixed number of micro-batches over all processes, the spans of a step are the same for every world size.
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from golf_core.data.shards import DataError, read_shard, shard_paths

HEAD_TOKENS = 1 << 20
AHEAD = 4  # batches: what a cold disk takes long for now and then is spread over as many steps


class TokenStream:
    """Tokens of all shards of a split, in order, starting again at the end."""

    def __init__(self, folder: Path, split: str, vocab: int) -> None:
        # Plain arrays over the same mapped memory: a slice of a memmap costs several times as much.
        self.shards = [np.asarray(read_shard(path)) for path in shard_paths(folder, split)]
        for path, shard in zip(shard_paths(folder, split), self.shards, strict=True):
            # A glance at its head: reading all of 16 GB here would cost minutes; the data check before a run does.
            if (largest := int(shard[:HEAD_TOKENS].max())) >= vocab:
                raise DataError(f"{path} holds token {largest}; the model's vocab is {vocab}")
        self.rewind()

    def rewind(self) -> None:
        self.shard = self.position = 0

    def take(self, count: int) -> np.ndarray:
        """The next `count` tokens, uint16."""
        parts = []
        while count:
            shard = self.shards[self.shard]
            part = shard[self.position : self.position + count]
            parts.append(part)
            count -= len(part)
            self.position += len(part)
            if self.position == len(shard):
                self.shard, self.position = (self.shard + 1) % len(self.shards), 0
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


class Ahead:
    """What `make` gives, call after call, made by a thread before it is asked for, so that no step waits for a disk."""

    def __init__(self, make: Callable[[], np.ndarray]) -> None:
        self.make, self.thread = make, ThreadPoolExecutor(1)
        self.coming: deque[Future[np.ndarray]] = deque()

    def next(self) -> np.ndarray:
        while len(self.coming) < AHEAD:
            self.coming.append(self.thread.submit(self.make))
        made = self.coming.popleft().result()
        self.coming.append(self.thread.submit(self.make))
        return made

    def drop(self) -> None:
        """Forget what was made. When this returns, `make` is not running."""
        for future in self.coming:
            future.cancel()
        wait(self.coming)
        self.coming.clear()


def on_device(ids: np.ndarray, device: torch.device) -> Tensor:
    """int64 there. By the thread that trains, since the current GPU is a thread's own."""
    there = torch.from_numpy(ids)
    return there.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else there


class TrainLoader:
    """Batches of one rank: inputs and targets of (sequences, seq_len), int64 on `device`."""

    def __init__(
        self,
        stream: TokenStream,
        *,
        batch_tokens: int,
        micro_batches: int,
        seq_len: int,
        rank: int,
        world: int,
        device: torch.device,
        seed: int = 0,
    ) -> None:
        """`seed` is there for the loaders that draw; this one reads the same for every seed."""
        self.stream, self.seq_len, self.rank, self.world, self.device = stream, seq_len, rank, world, device
        self.span = batch_tokens // micro_batches + 1
        self.ahead = Ahead(self._read)

    def rewind(self) -> None:
        """Start again, as if nothing had been read."""
        self.ahead.drop()
        self.stream.rewind()

    def _read(self) -> np.ndarray:
        tokens = self.stream.take(self.world * self.span)
        return tokens[self.rank * self.span : (self.rank + 1) * self.span].astype(np.int64)

    def next(self) -> tuple[Tensor, Tensor]:
        mine = on_device(self.ahead.next(), self.device)
        return mine[:-1].view(-1, self.seq_len), mine[1:].view(-1, self.seq_len)


def validation_tokens(folder: Path, vocab: int) -> np.ndarray:
    """The whole validation split as one uint16 array."""
    tokens = np.concatenate([read_shard(path) for path in shard_paths(folder, "val")])
    if int(tokens.max()) >= vocab:
        raise DataError(f"the validation split holds token {int(tokens.max())}; the model's vocab is {vocab}")
    return tokens
