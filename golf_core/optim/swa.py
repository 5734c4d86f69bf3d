"""Means of the weights at some steps (stochastic weight averaging), in fp32, on the device that trains.

Source: Izmailov et al., https://arxiv.org/abs/1803.05407; when to take them: openai/parameter-golf #162 (every k steps
late in the warmdown), #488 (one each time that the learning rate has fallen by another part).
"""

import torch
from torch import Tensor, nn

from golf_core.config import AverageConfig


class WeightMean:
    """A running mean of weights. One that never took any leaves the model as it is."""

    def __init__(self, model: nn.Module, config: AverageConfig) -> None:
        self.config = config
        self.live = list(model.parameters())
        self.mean: list[Tensor] = []
        self.taken = 0

    @torch.no_grad()
    def take(self) -> None:
        """Count the present weights in. A lerp keeps the mean of equal weights what they are, to the bit."""
        self.taken += 1
        now = [p.detach().float() for p in self.live]
        if self.taken == 1:
            self.mean = [w.clone() for w in now]
        else:
            torch._foreach_lerp_(self.mean, now, 1 / self.taken)

    @torch.no_grad()
    def apply(self) -> None:
        """Put the mean into the model."""
        for p, mean in zip(self.live, self.mean, strict=False):  # nothing taken: no mean
            p.copy_(mean)

    def describe(self) -> str:
        """What `apply` did, as a line of the log."""
        if not self.taken:
            return "swa:not applied, no checkpoint was taken: these are the last weights"
        return f"swa:applied checkpoints:{self.taken}"


class PeriodicMean(WeightMean):
    """Every `swa_every` steps while the learning rate's multiplier is below `swa_below`."""

    def update(self, step: int, scale: float, progress: float) -> None:
        """After every step; `step` counts from 1, `scale` is the multiplier of that step."""
        if scale < self.config.swa_below and step % self.config.swa_every == 0:
            self.take()


class CheckpointMean(WeightMean):
    """Checkpoint j of n once the learning rate's multiplier is at most 1 - j/(n + 1), one a step at most, and only
    after `guard` of the budget; at the end the last weights are one more."""

    def update(self, step: int, scale: float, progress: float) -> None:
        """After every step; `progress` is the part of the budget, of steps or seconds, that is used."""
        j, n = self.taken + 1, self.config.checkpoints
        if j <= n and scale <= 1 - j / (n + 1) and progress >= self.config.guard:
            self.take()

    def apply(self) -> None:
        """Put the mean, the last weights among it, into the model."""
        if self.taken:
            self.take()
        super().apply()
