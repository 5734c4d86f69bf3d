"""An exponential moving average of the weights: e <- decay e + (1 - decay) w after every step, in fp32."""

import torch
from torch import Tensor, nn


class Ema:
    """Starts from the weights given; has no bias correction, so it keeps decay^n of them after n steps."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.live = list(model.parameters())
        self.mean: list[Tensor] = [p.detach().float().clone() for p in self.live]

    @torch.no_grad()
    def update(self) -> None:
        torch._foreach_lerp_(self.mean, [p.detach().float() for p in self.live], 1 - self.decay)

    @torch.no_grad()
    def apply(self) -> None:
        """Put the average into the model."""
        for p, mean in zip(self.live, self.mean, strict=True):
            p.copy_(mean)
