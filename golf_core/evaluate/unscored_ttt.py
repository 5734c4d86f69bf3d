"""Not legal, and kept to be looked at: learn from the whole validation stream, many times, and only then score it.

The challenge allows learning from targets that are scored already; this learns from every one before. Its score
says how well a model remembers a text, not how well it predicts one. The ledger hands the tokens out under a name
that taints it, and a config must say `diagnostic_only`, which stamps every output and stops a submission.

Each rank takes a contiguous share of the sequences; a step has the mean gradient over the tokens of all ranks, and
every rank takes as many steps, though its share may be a sequence shorter. AdamW without decay, over all weights;
the rate falls by a cosine to 0, step by step, and is larger for the matrices that write into the residual stream
from the MLP and smaller for those that read it.
Source: the method of openai/parameter-golf #672; why it is not legal: #402, #677, #1017.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from golf_core.config import TTTConfig
from golf_core.evaluate.ledger import ScoreLedger
from golf_core.evaluate.sliding import evaluate_windows
from golf_core.evaluate.tokens import Span
from golf_core.model.gpt import GPT
from golf_core.optim.adam import Adam
from golf_core.optim.gradients import FlatGradients

MLP_OUT_RATE, MLP_IN_RATE = 3.0, 0.5
ADAMW_BETAS, ADAMW_EPS = (0.9, 0.999), 1e-8


def rate_groups(model: GPT, lr: float) -> list[tuple[list[Tensor], float]]:
    """All parameters, in three groups with their rates."""
    groups: dict[float, list[Tensor]] = {1.0: [], MLP_OUT_RATE: [], MLP_IN_RATE: []}
    for name, p in model.named_parameters():
        rate = MLP_OUT_RATE if ".mlp.proj." in name else MLP_IN_RATE if ".mlp.fc." in name else 1.0
        groups[rate].append(p)
    return [(params, lr * rate) for rate, params in groups.items()]


def shared_steps(targets: int, seq_len: int, batch_seqs: int, world: int) -> list[list[list[Span]]]:
    """The steps of one epoch, and in each the spans of every rank: contiguous shares, `batch_seqs` in all."""
    spans = [(i, min(i + seq_len, targets)) for i in range(0, targets, seq_len)]
    shares = [spans[len(spans) * r // world : len(spans) * (r + 1) // world] for r in range(world)]
    size = max(batch_seqs // world, 1)
    steps = math.ceil(max(map(len, shares)) / size)
    return [[share[step * size : (step + 1) * size] for share in shares] for step in range(steps)]


def same_length_rows(tokens: np.ndarray, spans: list[Span], device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs and targets of the spans, those of one length together."""
    for length in sorted({stop - first for first, stop in spans}):
        rows = np.stack([tokens[first : stop + 1] for first, stop in spans if stop - first == length])
        ids = torch.from_numpy(rows.astype(np.int64)).to(device)
        yield ids[:, :-1], ids[:, 1:]


def learn_unscored(model: GPT, ledger: ScoreLedger, config: TTTConfig, seq_len: int) -> int:
    """`unscored_epochs` passes over the whole stream; the number of steps. The ledger is tainted from here on."""
    ledger.watch(model.parameters())
    tokens = ledger.unscored_tokens()
    gradients = FlatGradients(list(model.parameters()), ledger.world)
    beta1, beta2 = ADAMW_BETAS
    adam = Adam(rate_groups(model, config.unscored_lr), beta1=beta1, beta2=beta2, eps=ADAMW_EPS, decay=0.0)
    plan = shared_steps(ledger.targets, seq_len, config.batch_seqs, ledger.world)
    for step in range(total := len(plan) * config.unscored_epochs):
        shares = plan[step % len(plan)]
        counted = sum(stop - first for share in shares for first, stop in share)
        gradients.zero()
        for x, y in same_length_rows(tokens, shares[ledger.rank], ledger.device):
            (model(x, y) * (x.numel() / counted)).backward()
        gradients.reduce()
        gradients.clip(config.grad_clip)
        adam.step(0.5 * (1 + math.cos(math.pi * step / total)))
    return total


def evaluate_unscored_ttt(
    model: GPT,
    ledger: ScoreLedger,
    config: TTTConfig,
    *,
    seq_len: int,
    stride: int,
    batch_seqs: int,
    progress: Callable[[int, int], None],
) -> int:
    """Learn from everything, then score it with sliding windows. Returns 0: no chunk was scored before it was
    learned from. `model` is changed."""
    learn_unscored(model, ledger, config, seq_len)
    evaluate_windows(model, ledger, seq_len=seq_len, stride=stride, batch_seqs=batch_seqs, progress=progress)
    return 0
