"""Clip rules that look at a row's spread alone: the magnitude that the row's largest code stands for.

A rule takes the weight, its grid, the config and the tensor's role, and gives a clip for each row. The quantile is
the challenge's baseline; "sd" is SDClip, openai/parameter-golf #1394: the clip in standard deviations fixes the step
in standard deviations, and with it the entropy of the codes.

Shapes: M rows, N columns.
"""

from torch import Tensor

from golf_core.config_quant import QuantConfig
from golf_core.quant.grid import Grid
from golf_core.quant.row_quantile import row_quantiles


def quantile_clip(weight_MN: Tensor, grid: Grid, quant: QuantConfig, role: str) -> Tensor:
    """That quantile of |w| in each row; 1.0 is its maximum."""
    return row_quantiles(weight_MN.float().abs(), (quant.clip_quantile,))[0]


def max_clip(weight_MN: Tensor, grid: Grid, quant: QuantConfig, role: str) -> Tensor:
    """The largest |w| of each row."""
    return weight_MN.float().abs().amax(dim=1)


def sd_clip(weight_MN: Tensor, grid: Grid, quant: QuantConfig, role: str) -> Tensor:
    """A multiple of each row's standard deviation; the embedding has a multiple of its own."""
    deviations = quant.sd_embed if role == "embed" else quant.sd_matrix
    return deviations * weight_MN.float().std(dim=1, correction=min(1, weight_MN.size(1) - 1))
