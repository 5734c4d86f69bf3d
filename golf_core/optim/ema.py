"""An exponential moving average of the weights: e <- decay e + (1 - decay) w after every step, in fp32."""

import torch
from torch import Tensor, nn

from golf_core.config import AverageConfig


class Ema:
    """Starts as a copy of the weights: those given, or, `start="warmdown"`, those of the first step whose learning
    rate was below its peak. Without bias correction it keeps decay^n of its start after n steps."""

    def __init__(self, model: nn.Module, config: AverageConfig) -> None:
        self.config = config
        self.live = list(model.parameters())
        self.mean: list[Tensor] = self._copy() if config.start == "begin" else []

    def _copy(self) -> list[Tensor]:
        return [p.detach().float().clone() for p in self.live]

    @torch.no_grad()
    def update(self, step: int, scale: float, progress: float) -> None:
        """After every step; `scale` is the learning rate's multiplier of that step."""
        if self.mean:
            torch._foreach_lerp_(self.mean, [p.detach().float() for p in self.live], 1 - self.config.decay)
        elif scale < 1:
            self.mean = self._copy()

    @torch.no_grad()
    def apply(self) -> None:
        """Put the average into the model."""
        if self.mean:
            for p, mean in zip(self.live, self.mean, strict=True):
                p.copy_(mean)

    def describe(self) -> str:
        """What `apply` did, as a line of the log."""
        if not self.mean:
            return "ema:not applied, the learning rate never fell: these are the last weights"
        return f"ema:applied decay:{self.config.decay}"
