"""Legal test-time training by chunks: score a chunk of targets, commit, then learn from it; go on.

A window belongs to the chunk of its first scored target. The last chunk is not learned from: nothing would
be scored after it. Ranks share the windows and the training sequences; each step sums gradients over ranks,
with as many steps on every rank, so that one process and many take the same steps.
Source: openai/parameter-golf #549; the rules are the challenge's README's.
"""

import math
from collections.abc import Callable

import torch

from golf_core.config import TTTConfig
from golf_core.evaluate.frozen import freeze_blocks, zero_frozen_rows
from golf_core.evaluate.ledger import ScoreLedger
from golf_core.evaluate.sliding import same_length_batches, score_batch
from golf_core.evaluate.tokens import Span
from golf_core.evaluate.windows import ScoreWindow, score_windows
from golf_core.model.gpt import GPT
from golf_core.optim.gradients import FlatGradients


def chunk_lr(lr: float, chunk: int, chunks: int) -> float:
    """Cosine over the chunks: `lr` for the first, 0 for the last."""
    return lr * 0.5 * (1 + math.cos(math.pi * chunk / max(chunks - 1, 1)))


class ChunkLearner:
    """SGD with momentum that lasts over the chunks, on all weights but those of frozen blocks."""

    def __init__(self, model: GPT, config: TTTConfig, rank: int, world: int) -> None:
        self.model, self.config, self.rank, self.world = model, config, rank, world
        self.frozen_rows = freeze_blocks(model, config.freeze_blocks)
        self.params = [p for p in model.parameters() if p.requires_grad]
        self.gradients = FlatGradients(self.params, world)
        self.velocity = [torch.zeros_like(p) for p in self.params]

    def learn(self, ledger: ScoreLedger, spans: list[Span], lr: float, epochs: int) -> None:
        """`epochs` passes over committed spans of targets, `batch_seqs` of them a step over all ranks. Every rank takes
        every step, with nothing of its own where there are fewer spans than ranks."""
        for _ in range(epochs):
            for low in range(0, len(spans), self.config.batch_seqs):
                batch = spans[low : low + self.config.batch_seqs]
                tokens = sum(stop - first for first, stop in batch)
                self.gradients.zero()
                by_length: dict[int, list[Span]] = {}
                for first, stop in batch[self.rank :: self.world]:
                    by_length.setdefault(stop - first, []).append((first, stop))
                for length, part in by_length.items():
                    x, y = ledger.adapt(part)
                    (self.model(x, y) * (length * len(part) / tokens)).backward()
                self.gradients.reduce()
                zero_frozen_rows(self.frozen_rows)
                self.gradients.clip(self.config.grad_clip)
                self.step(lr)

    @torch.no_grad()
    def step(self, lr: float) -> None:
        torch._foreach_mul_(self.velocity, self.config.momentum)
        torch._foreach_add_(self.velocity, [p.grad for p in self.params])
        torch._foreach_add_(self.params, self.velocity, alpha=-lr)


def evaluate_chunk_ttt(
    model: GPT,
    ledger: ScoreLedger,
    config: TTTConfig,
    *,
    seq_len: int,
    stride: int,
    batch_seqs: int,
    progress: Callable[[int, int], None],
) -> int:
    """Score the whole stream, learning on the way. Returns the number of chunks; `model` is changed."""
    last = (ledger.targets - 1) // config.chunk_tokens
    chunks: list[list[ScoreWindow]] = [[] for _ in range(last + 1)]
    for window in score_windows(ledger.targets, seq_len, stride):
        chunks[window.first // config.chunk_tokens].append(window)
    ledger.watch(model.parameters())
    learner = ChunkLearner(model, config, ledger.rank, ledger.world)
    done = 0
    for chunk, windows in enumerate(chunks):
        low, high = (len(windows) * r // ledger.world for r in (ledger.rank, ledger.rank + 1))
        for batch in same_length_batches(windows[low:high], batch_seqs):
            done += score_batch(model, ledger, batch)
        ledger.merge()
        if chunk < last:
            start = chunk * config.chunk_tokens
            stop = min(start + config.chunk_tokens, ledger.targets)
            spans = [(i, min(i + seq_len, stop)) for i in range(start, stop, seq_len)]
            learner.learn(ledger, spans, chunk_lr(config.lr, chunk, last + 1), config.epochs)
        progress(done * ledger.world, ledger.targets)
    return last + 1
