"""All gradients in one buffer, so that summing them over processes needs one message and no copies."""

import torch
import torch.distributed as dist
from torch import Tensor


def view_gradients(params: list[Tensor], flat: Tensor) -> None:
    """Make every `.grad` a view of `flat`, one after another."""
    for p, part in zip(params, flat.split([p.numel() for p in params]), strict=True):
        p.grad = part.view(p.shape)


class FlatGradients:
    """All gradients as views of one buffer, and the sum over processes as one all-reduce.

    One more element carries rank 0's clock: every rank then decides the learning rate and the stop from the
    same seconds, and no message is needed for it.
    """

    def __init__(self, params: list[Tensor], world: int = 1) -> None:
        self.params, self.world = params, world
        self.buffer = torch.zeros(sum(p.numel() for p in params) + 1, device=params[0].device)
        view_gradients(params, self.buffer[:-1])

    @property
    def clock(self) -> Tensor:
        return self.buffer[-1]

    def zero(self) -> None:
        self.buffer.zero_()

    def reduce(self) -> None:
        """Sum over all processes; the clock is there when this returns (on a GPU: when it is read in order)."""
        if self.world > 1:
            dist.all_reduce(self.buffer)

    def clip(self, limit: float) -> None:
        """Scale all gradients so that their global norm is at most `limit`; 0 leaves them."""
        if limit > 0:
            gradients = self.buffer[:-1]
            norm = torch.linalg.vector_norm(gradients)
            gradients.mul_(torch.clamp(limit / (norm + 1e-6), max=1.0))
