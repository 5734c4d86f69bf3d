"""The coprime-stride loader: blocks of many shards in one batch, each block once before any comes again.

A shard is cut into blocks of seq_len + 1 tokens, one token shared by neighbours, from a random phase on. Its blocks
are visited in steps of a stride that has no divisor in common with their number: that reaches each of them once, in
an order that costs no memory. A batch draws shards by what is left of them, from a few at first to many later. When
all is read, phases and strides are drawn anew.

Every rank draws the same from the seed and takes every `world`-th block, so that an optimizer step trains on the
same blocks for every world size.
Source: openai/parameter-golf #726, #1060; there the draws hang on the shards' paths.
"""

import math

import numpy as np
import torch
from torch import Tensor

from golf_core.data.loader import Ahead, TokenStream, on_device
from golf_core.data.shards import DataError

RAMP_BATCHES = 1800  # over which a batch goes from the first value to the second:
ALPHA = (0.9, 0.5)  # a shard's weight is its remaining blocks to this power
SHARDS_A_BATCH = (8, 32)


def coprime_stride(blocks: int, draws: np.random.Generator) -> int:
    """A random number below `blocks` that shares no divisor with it; 1 where there is nothing to choose."""
    stride = 1
    while blocks > 2:
        stride = int(draws.integers(1, blocks))
        if math.gcd(stride, blocks) == 1:
            break
    return stride


class ShardWalk:
    """All blocks of a shard, each once, in an order drawn from `draws`."""

    def __init__(self, tokens: np.ndarray, seq_len: int, draws: np.random.Generator) -> None:
        self.tokens, self.seq_len = tokens, seq_len
        self.phase = int(draws.integers(min(seq_len, max(len(tokens) - seq_len, 1))))
        self.blocks = max((len(tokens) - 1 - self.phase) // seq_len, 0)
        self.start = int(draws.integers(max(self.blocks, 1)))
        self.stride = coprime_stride(self.blocks, draws)
        self.taken = 0

    @property
    def remaining(self) -> int:
        return self.blocks - self.taken

    def next(self) -> np.ndarray:
        """The next block: seq_len + 1 tokens."""
        block = (self.start + self.taken * self.stride) % self.blocks
        self.taken += 1
        first = self.phase + block * self.seq_len
        return self.tokens[first : first + self.seq_len + 1]


class CoprimeLoader:
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
        if all(len(shard) <= seq_len for shard in stream.shards):
            longest = max(len(shard) for shard in stream.shards)
            raise DataError(
                f"no training shard holds a block of train.seq_len={seq_len} tokens and its next token; "
                f"the longest has {longest} tokens; use train.loader=stream or a shorter train.seq_len"
            )
        self.stream, self.seq_len, self.rank, self.world, self.device = stream, seq_len, rank, world, device
        self.blocks_a_step = batch_tokens // seq_len
        self.sequences = self.blocks_a_step // micro_batches
        self.seed = seed % 2**64
        self.ahead = Ahead(self._read)
        self.rewind()

    def rewind(self) -> None:
        """Start again, as if nothing had been read."""
        self.ahead.drop()
        self.draws = np.random.default_rng(self.seed)
        self.batches = 0
        self.waiting: list[np.ndarray] = []  # this rank's blocks of the present step
        self._new_epoch()

    def _new_epoch(self) -> None:
        self.walks = [ShardWalk(shard, self.seq_len, self.draws) for shard in self.stream.shards]

    def _read(self) -> np.ndarray:
        if not self.waiting:
            self.waiting = self.step_blocks()[self.rank :: self.world]
        mine, self.waiting = self.waiting[: self.sequences], self.waiting[self.sequences :]
        return np.stack(mine).astype(np.int64)

    def next(self) -> tuple[Tensor, Tensor]:
        """One micro-batch."""
        blocks = on_device(self.ahead.next(), self.device)
        return blocks[:, :-1].contiguous(), blocks[:, 1:].contiguous()

    def step_blocks(self) -> list[np.ndarray]:
        """The blocks of one optimizer step over all ranks."""
        blocks: list[np.ndarray] = []
        while len(blocks) < self.blocks_a_step:
            if not any(walk.remaining for walk in self.walks):
                self._new_epoch()
            blocks += self._mix(self.blocks_a_step - len(blocks))
        self.batches += 1
        return blocks

    def _mix(self, wanted: int) -> list[np.ndarray]:
        """At most `wanted` blocks of a few shards, dealt out in turn; fewer where those shards have not as many."""
        ramp = min(self.batches / RAMP_BATCHES, 1.0)
        alpha, most = (low + (high - low) * ramp for low, high in (ALPHA, SHARDS_A_BATCH))
        open_walks = [walk for walk in self.walks if walk.remaining]
        weights = np.array([walk.remaining for walk in open_walks], dtype=np.float64) ** alpha
        count = min(int(most), len(open_walks))
        chosen = self.draws.choice(len(open_walks), size=count, replace=False, p=weights / weights.sum())
        shares = weights[chosen] / weights[chosen].sum()
        drawn = self.draws.multinomial(wanted, shares)
        piles = [
            [open_walks[i].next() for _ in range(min(int(n), open_walks[i].remaining))]
            for i, n in zip(chosen, drawn, strict=True)
        ]
        longest = max(len(pile) for pile in piles)
        return [pile[turn] for turn in range(longest) for pile in piles if turn < len(pile)]
