"""Clip rules that look at one row at a time: the magnitude that a row's largest code stands for.

Shapes: M rows, N columns.
"""

import torch
from torch import Tensor

from golf_core.config_quant import QuantConfig
from golf_core.quant.grid import Grid


def row_clip(weight_MN: Tensor, quantile: float) -> Tensor:
    """The largest magnitude to keep in each row: its maximum, or that quantile of |w|."""
    magnitude = weight_MN.float().abs()
    return magnitude.amax(dim=1) if quantile >= 1 else torch.quantile(magnitude, quantile, dim=1)


def quantile_clip(weight_MN: Tensor, grid: Grid, quant: QuantConfig, role: str) -> Tensor:
    return row_clip(weight_MN, quant.clip_quantile)
