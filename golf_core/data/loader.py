"""The training stream: shards in order of their names, read on and on, cut into one span a process.

For each micro-step `world` spans of n + 1 tokens lie side by side; rank r trains on the r-th. Because a step
has a fixed number of micro-batches over all processes, the spans of a step are the same for every world size.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from golf_core.data.shards import DataError, read_shard, shard_paths

HEAD_TOKENS = 1 << 20


class TokenStream:
    """Tokens of all shards of a split, in order, starting again at the end."""

    def __init__(self, folder: Path, split: str, vocab: int) -> None:
        self.shards = [read_shard(path) for path in shard_paths(folder, split)]
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

    def rewind(self) -> None:
        """Start again, as if nothing had been read."""
        self.stream.rewind()

    def next(self) -> tuple[Tensor, Tensor]:
        tokens = self.stream.take(self.world * self.span)
        mine = torch.from_numpy(tokens[self.rank * self.span : (self.rank + 1) * self.span].astype(np.int64))
        if self.device.type == "cuda":
            mine = mine.pin_memory().to(self.device, non_blocking=True)
        return mine[:-1].view(-1, self.seq_len), mine[1:].view(-1, self.seq_len)


def validation_tokens(folder: Path, vocab: int) -> np.ndarray:
    """The whole validation split as one uint16 array."""
    tokens = np.concatenate([read_shard(path) for path in shard_paths(folder, "val")])
    if int(tokens.max()) >= vocab:
        raise DataError(f"the validation split holds token {int(tokens.max())}; the model's vocab is {vocab}")
    return tokens
