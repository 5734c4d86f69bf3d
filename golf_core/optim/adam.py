"""Adam with decoupled decay, for the embedding and for vectors.

The library's formula (torch.optim.AdamW); written out because building the library's class imports torch's
compiler, 1.4 s of every stage of a run that does not compile, and so that a warm-up can be undone tensor by tensor.
"""

import torch
from torch import Tensor


class Adam:
    """`groups`: (parameters, learning rate) each. Gradients are read from `.grad`."""

    def __init__(
        self, groups: list[tuple[list[Tensor], float]], *, beta1: float, beta2: float, eps: float, decay: float
    ) -> None:
        self.groups, self.beta1, self.beta2, self.eps, self.decay = groups, beta1, beta2, eps, decay
        self.steps = 0
        self.means = [[torch.zeros_like(p) for p in params] for params, _ in groups]
        self.squares = [[torch.zeros_like(p) for p in params] for params, _ in groups]

    @torch.no_grad()
    def step(self, scale: float) -> None:
        """One update with every learning rate multiplied by `scale`."""
        self.steps += 1
        mean_share = 1 - self.beta1**self.steps
        square_share = 1 - self.beta2**self.steps
        for (params, base_lr), means, squares in zip(self.groups, self.means, self.squares, strict=True):
            grads, lr = [p.grad for p in params], base_lr * scale
            torch._foreach_lerp_(means, grads, 1 - self.beta1)
            torch._foreach_mul_(squares, self.beta2)
            torch._foreach_addcmul_(squares, grads, grads, 1 - self.beta2)
            roots = torch._foreach_sqrt(squares)
            torch._foreach_div_(roots, square_share**0.5)
            torch._foreach_add_(roots, self.eps)
            if self.decay:
                torch._foreach_mul_(params, 1 - lr * self.decay)
            torch._foreach_addcdiv_(params, means, roots, -lr / mean_share)

    def reset(self) -> None:
        """Forget every step."""
        self.steps = 0
        for tensors in (*self.means, *self.squares):
            torch._foreach_zero_(tensors)
