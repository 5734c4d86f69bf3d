"""The integer grid: one object for everything that rounds weights, in training and for export.

Scales are fp16 and weights are divided by the scale as it is stored. Early scripts of the challenge clamp scales to at
least 1 / top, which rounds every row whose clip is below 1 as if it were 1; `floor` can bring that back.

Shapes: M rows, N columns, G groups of rows that share a scale.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from golf_core.config_quant import QuantConfig


@dataclass(frozen=True)
class Grid:
    """Levels scale * q with q in [-top, top], top = 2^(bits-1) - 1 (int6: 31), or from -(top + 1) if not symmetric.
    `group_rows` consecutive rows share the scale of the largest of them."""

    bits: int
    symmetric: bool = True
    group_rows: int = 1
    floor: float = 1e-10  # of a scale

    @property
    def top(self) -> int:
        return 2 ** (self.bits - 1) - 1

    @property
    def bottom(self) -> int:
        return -self.top if self.symmetric else -self.top - 1

    def by_group(self, value_M: Tensor) -> Tensor:
        """A number for each row, laid out (G, group_rows); the last group is filled with zeros."""
        return F.pad(value_M, (0, -len(value_M) % self.group_rows)).view(-1, self.group_rows)

    def scales(self, clip_M: Tensor) -> Tensor:
        """fp16 scales (G) for the largest magnitudes to keep, one a row; what is stored is what is used."""
        clip_G = clip_M if self.group_rows == 1 else self.by_group(clip_M).amax(dim=1)
        return (clip_G / self.top).clamp(min=self.floor).clamp(max=torch.finfo(torch.float16).max).half()

    def row_scales(self, scale_G: Tensor, rows: int) -> Tensor:
        """The scale of each row in fp32 (M, 1)."""
        scale = scale_G.float()
        return (scale if self.group_rows == 1 else scale.repeat_interleave(self.group_rows)[:rows])[:, None]

    def levels(self, weight_MN: Tensor, scale_M1: Tensor) -> Tensor:
        """Codes as fp32 numbers. A row whose fp16 scale is zero (weights below 3e-8) becomes zeros."""
        codes = torch.where(scale_M1 > 0, weight_MN.float() / scale_M1.clamp(min=1e-30), 0.0)
        return codes.round_().clamp_(self.bottom, self.top)

    def quantize(self, weight_MN: Tensor, scale_G: Tensor) -> Tensor:
        """int8 codes."""
        return self.levels(weight_MN, self.row_scales(scale_G, len(weight_MN))).to(torch.int8)

    def dequantize(self, codes_MN: Tensor, scale_G: Tensor) -> Tensor:
        """fp32 weights."""
        return codes_MN.float() * self.row_scales(scale_G, len(codes_MN))

    def fake_quantize(self, weight_MN: Tensor, scale_G: Tensor) -> Tensor:
        """The weights as they will be after a trip through the artifact, bit for bit."""
        return self.dequantize(self.quantize(weight_MN, scale_G), scale_G)


def config_grid(bits: int, quant: QuantConfig) -> Grid:
    """The grid of `bits` that a config asks for."""
    grid = Grid(bits, quant.symmetric, quant.group_rows, quant.scale_floor)
    return Grid(bits, quant.symmetric, quant.group_rows, 1 / grid.top) if quant.legacy_scale_floor else grid
