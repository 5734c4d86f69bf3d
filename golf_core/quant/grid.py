"""The symmetric integer grid: one object for everything that rounds weights."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Grid:
    """2 * top + 1 levels, scale * q with q in [-top, top]; top = 2^(bits-1) - 1 (int6: 31)."""

    bits: int

    @property
    def top(self) -> int:
        return 2 ** (self.bits - 1) - 1

    def scales(self, clip_M: Tensor, floor: float) -> Tensor:
        """fp16 scales for the largest magnitudes to keep, one a row; what is stored is what is used."""
        return (clip_M / self.top).clamp(min=floor).clamp(max=torch.finfo(torch.float16).max).half()

    def quantize(self, weight_MN: Tensor, scale_M: Tensor) -> Tensor:
        """int8 codes. A row whose fp16 scale is zero (weights below 3e-8) becomes zeros."""
        scale = scale_M.float()[:, None]
        codes = torch.where(scale > 0, weight_MN.float() / scale.clamp(min=1e-30), 0.0).round()
        return codes.clamp(-self.top, self.top).to(torch.int8)

    def dequantize(self, codes_MN: Tensor, scale_M: Tensor) -> Tensor:
        """fp32 weights."""
        return codes_MN.float() * scale_M.float()[:, None]

    def fake_quantize(self, weight_MN: Tensor, scale_M: Tensor) -> Tensor:
        """The weights as they will be after a trip through the artifact, bit for bit."""
        return self.dequantize(self.quantize(weight_MN, scale_M), scale_M)
