"""Which parameter goes to which optimizer, and the step over all of them."""

import torch
from torch import Tensor, nn

from golf_core.config import OptimConfig
from golf_core.optim.adam import Adam
from golf_core.optim.muon import Muon
from golf_core.routes import is_control


def parameter_groups(model: nn.Module) -> dict[str, list[str]]:
    """Names by group: `matrix` for Muon, `embed` and `scalar` for Adam. Every parameter is in exactly one."""
    groups: dict[str, list[str]] = {"matrix": [], "embed": [], "scalar": []}
    for name, p in model.named_parameters():
        if name.startswith("tok_emb."):
            groups["embed"].append(name)
        elif p.ndim < 2 or is_control(name):
            groups["scalar"].append(name)
        else:
            groups["matrix"].append(name)
    return groups


class Optimizers:
    """Muon on matrices, Adam on the embedding and on vectors; learning rates are scaled together."""

    def __init__(self, model: nn.Module, config: OptimConfig, rank: int, world: int) -> None:
        params = dict(model.named_parameters())
        names = parameter_groups(model)
        self.config = config
        on_gpu = next(iter(params.values())).is_cuda
        self.muon = Muon(
            [params[name] for name in names["matrix"]],
            decay=config.matrix_decay,
            newton_schulz_steps=config.newton_schulz_steps,
            dtype=torch.bfloat16 if on_gpu else torch.float32,  # bf16 products are emulated on most CPUs
            rank=rank,
            world=world,
        )
        self.adam = Adam(
            [
                ([params[n] for n in names["embed"]], config.embed_lr),
                ([params[n] for n in names["scalar"]], config.scalar_lr),
            ],
            beta1=config.beta1,
            beta2=config.beta2,
            eps=config.eps,
            decay=config.adam_decay,
        )

    def momentum(self, step: int) -> float:
        """Muon's momentum at a step: linear from `momentum_start` over `momentum_steps`."""
        c = self.config
        part = min(step / c.momentum_steps, 1.0) if c.momentum_steps else 1.0
        return (1 - part) * c.momentum_start + part * c.momentum

    def step(self, step: int, scale: float) -> None:
        """One update from the gradients in place; `scale` multiplies every learning rate."""
        self.adam.step(scale)
        self.muon.step(self.config.matrix_lr * scale, self.momentum(step))

    def reset(self) -> None:
        """Forget every step: what a warm-up leaves behind."""
        self.muon.reset()
        self.adam.reset()


class FlatGradients:
    """All gradients as views of one buffer, so that averaging over processes is one all-reduce without copies.

    One more element carries rank 0's clock: every rank then decides the learning rate and the stop from the
    same seconds, and no message is needed for it.
    """

    def __init__(self, params: list[Tensor]) -> None:
        self.params = params
        self.buffer = torch.zeros(sum(p.numel() for p in params) + 1, device=params[0].device)
        parts = self.buffer[:-1].split([p.numel() for p in params])
        for p, part in zip(params, parts, strict=True):
            p.grad = part.view(p.shape)

    @property
    def clock(self) -> Tensor:
        return self.buffer[-1]

    def zero(self) -> None:
        self.buffer.zero_()

    def clip(self, limit: float) -> None:
        """Scale all gradients so that their global norm is at most `limit`; 0 leaves them."""
        if limit > 0:
            gradients = self.buffer[:-1]
            norm = torch.linalg.vector_norm(gradients)
            gradients.mul_(torch.clamp(limit / (norm + 1e-6), max=1.0))
