"""Muon: momentum whose every step is replaced by its nearest orthogonal matrix.

For the hidden matrices only; the embedding and the vectors belong to Adam (adam.py).
Method: K. Jordan et al., https://kellerjordan.github.io/posts/muon/
"""

import torch
import torch.distributed as dist
from torch import Tensor

from golf_core.optim.gradients import FlatGradients
from golf_core.optim.newton_schulz import orthogonalize, shape_gain


class Muon:
    """Parameter i is updated by rank i mod world; one all-reduce hands every rank all updates.

    With one process nothing is sent. `reset` undoes a warm-up.
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

    def flat_gradients(self, params: list[Tensor]) -> FlatGradients:
        """The buffer for the gradients of all parameters of the model: how this optimizer wants them laid out."""
        return FlatGradients(params, self.world)

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
            p.add_(update.to(p.dtype), alpha=-lr * shape_gain(*p.shape))
