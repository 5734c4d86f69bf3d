"""Value residual: every layer mixes the first layer's values into its own.

Source: "Value Residual Learning" (Zhou et al. 2024); openai/parameter-golf #824.
"""

import torch
from torch import Tensor, nn


class ValueMix(nn.Module):
    """lambda_0 * first layer's v + lambda_1 * own v, both learned, 0.5 at the start."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((2,), 0.5))

    def forward(self, v_BTKD: Tensor, first_v_BTKD: Tensor) -> Tensor:
        first, own = self.weight.to(v_BTKD.dtype)
        return first * first_v_BTKD + own * v_BTKD
