"""Which parameter goes to which optimizer, and the step over all of them."""

import torch
from torch import nn

from golf_core.config import OptimConfig
from golf_core.optim.adam import Adam
from golf_core.optim.gradients import FlatGradients
from golf_core.routes import tensor_role


def parameter_groups(model: nn.Module, hash_proj: str = "adam") -> dict[str, list[str]]:
    """Names by group: `matrix` for Muon, `embed` and `scalar` for Adam. Every parameter that learns is in exactly
    one. `hash_proj`: whether the projections of the hash embeddings are Muon's ("muon") or Adam's."""
    groups: dict[str, list[str]] = {"matrix": [], "embed": [], "scalar": []}
    for name, p in model.named_parameters():
        if p.requires_grad:
            groups[parameter_group(name, p.ndim, hash_proj)].append(name)
    return groups


def parameter_group(name: str, ndim: int, hash_proj: str) -> str:
    role = tensor_role(name)
    if role == "embed" or (role == "table" and name.endswith(".embed.weight")):
        return "embed"
    if ndim < 2 or role == "control":
        return "scalar"
    if role == "table":  # a projection of a narrow table; the value embeddings' is always Adam's
        return "matrix" if hash_proj == "muon" and name.startswith(("bigram.", "trigram.")) else "scalar"
    return "matrix"


class Optimizers:
    """Muon on matrices, Adam on embeddings and on vectors; learning rates are scaled together. `muon` is the class
    that does the first; it also says how the gradients lie in their buffer."""

    def __init__(self, model: nn.Module, config: OptimConfig, muon: type, rank: int, world: int) -> None:
        params = dict(model.named_parameters())
        names = parameter_groups(model, config.hash_proj)
        self.config = config
        on_gpu = next(iter(params.values())).is_cuda
        self.muon = muon(
            [params[name] for name in names["matrix"]],
            decay=config.matrix_decay,
            newton_schulz_steps=config.newton_schulz_steps,
            dtype=torch.bfloat16 if on_gpu else torch.float32,  # bf16 products are emulated on most CPUs
            rank=rank,
            world=world,
        )
        self.gradients: FlatGradients = self.muon.flat_gradients([p for p in params.values() if p.requires_grad])
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
