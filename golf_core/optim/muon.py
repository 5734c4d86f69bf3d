"""Muon: momentum whose every step is replaced by its nearest orthogonal matrix.

For the hidden matrices only; the embedding and the vectors belong to Adam (adam.py).
Method and coefficients: K. Jordan et al., https://kellerjordan.github.io/posts/muon/

Shapes: S stacked matrices of one shape, M rows, N columns.
"""

import math

import torch
import torch.distributed as dist
from torch import Tensor

# Steep at zero, so that small singular values come near 1 in five steps. They settle in a band around 1
# rather than at 1; training does not mind, and the band is much cheaper.
QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonalize(g_SMN: Tensor, steps: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """The polar factor of each matrix, approximately: same singular vectors, singular values near 1.

    Computed in `dtype`; the input is left as it is. Raises ValueError for what is not a matrix.
    """
    if g_SMN.ndim < 2:
        raise ValueError(f"orthogonalize takes matrices, not a tensor of shape {tuple(g_SMN.shape)}")
    a, b, c = QUINTIC
    tall = g_SMN.size(-2) > g_SMN.size(-1)
    x = g_SMN.mT if tall else g_SMN  # the small Gram matrix is the cheap one
    x = (x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)).to(dtype)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(g_SMN.dtype)


class Muon:
    """Parameter i is updated by rank i mod world; one all-reduce hands every rank all updates.

    With one process nothing is sent. `lr` is set by the caller before each step. `reset` undoes
    a warm-up.
    """

    def __init__(
        self, params: list[Tensor], *, decay: float, newton_schulz_steps: int, dtype: torch.dtype, rank: int, world: int
    ) -> None:
        for p in params:
            if p.ndim != 2:
                raise ValueError(f"Muon takes matrices, not a parameter of shape {tuple(p.shape)}")
        self.params, self.decay, self.steps, self.dtype = params, decay, newton_schulz_steps, dtype
        self.world = world
        device = params[0].device if params else torch.device("cpu")
        self.updates = torch.zeros(sum(p.numel() for p in params), dtype=dtype, device=device)
        self.views = [
            part.view(p.shape) for part, p in zip(self.updates.split([p.numel() for p in params]), params, strict=True)
        ]
        mine = [i for i in range(len(params)) if i % world == rank]
        self.momenta = {i: torch.zeros_like(params[i]) for i in mine}
        shapes: dict[torch.Size, list[int]] = {}
        for i in mine:  # matrices of one shape go through Newton-Schulz together
            shapes.setdefault(params[i].shape, []).append(i)
        self.groups = list(shapes.values())

    def reset(self) -> None:
        """Forget every step."""
        for momentum in self.momenta.values():
            momentum.zero_()

    @torch.no_grad()
    def step(self, lr: float, momentum: float) -> None:
        if self.world > 1:
            self.updates.zero_()  # every rank adds its own part to zeros
        for group in self.groups:
            nesterov = []
            for i in group:
                grad, m = self.params[i].grad, self.momenta[i]
                m.mul_(momentum).add_(grad)
                nesterov.append(grad.add(m, alpha=momentum))
            orthogonal = orthogonalize(torch.stack(nesterov), self.steps, self.dtype)
            for i, update in zip(group, orthogonal, strict=True):
                self.views[i].copy_(update)
        if self.world > 1:
            dist.all_reduce(self.updates)
        for p, update in zip(self.params, self.views, strict=True):
            if self.decay:
                p.mul_(1 - lr * self.decay)
            rows, columns = p.shape
            p.add_(update.to(p.dtype), alpha=-lr * math.sqrt(max(1.0, rows / columns)))
