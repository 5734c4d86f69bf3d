"""Clip rules that try a few clips and keep the one whose rounded weights err least: "GPTQ-lite", no Hessian in it.

Percentiles of |w|: openai/parameter-golf #414, #549, which choose one for a whole matrix. Fractions of the row's
maximum, one for each row: the shared-KV system. Errors are those of weights really rounded, with their fp16 scale.

Shapes: M rows, N columns, C candidates, G groups of rows that share a scale.
"""

import torch
from torch import Tensor

from golf_core.config_quant import QuantConfig
from golf_core.quant.grid import Grid
from golf_core.quant.row_quantile import row_quantiles

PERCENTILES = (0.999, 0.9995, 0.9999, 0.99999, 1.0)
RATIOS = (0.80, 0.85, 0.90, 0.93, 0.95, 0.97, 0.98, 0.99, 1.00)
CACHED_ELEMENTS = 1 << 16  # rounded at a time on a CPU, where the passes over them then stay in its cache


def percentile_search_clip(weight_MN: Tensor, grid: Grid, quant: QuantConfig, role: str) -> Tensor:
    """The best of PERCENTILES for each row, or one for all rows."""
    weight = weight_MN.float()
    return _best_clip(weight, grid, torch.stack(row_quantiles(weight.abs(), PERCENTILES)), quant.clip_select)


def ratio_search_clip(weight_MN: Tensor, grid: Grid, quant: QuantConfig, role: str) -> Tensor:
    """The best of RATIOS times the row's maximum, for each row, or one for all rows."""
    weight = weight_MN.float()
    largest_M = weight.abs().amax(dim=1)
    return _best_clip(weight, grid, torch.stack([ratio * largest_M for ratio in RATIOS]), quant.clip_select)


def _best_clip(weight_MN: Tensor, grid: Grid, clip_CM: Tensor, select: str) -> Tensor:
    """Rows that share a scale are chosen for together: their scale is that of the largest clip among them."""
    error_CG = torch.stack([grid.by_group(_squared_error(weight_MN, grid, clip)).sum(dim=1) for clip in clip_CM])
    if select == "matrix":
        best_1 = error_CG.sum(dim=1).argmin(dim=0, keepdim=True)
        return clip_CM.index_select(0, best_1)[0]  # an index in brackets would make a GPU's host wait for it
    best_M = error_CG.argmin(dim=0).repeat_interleave(grid.group_rows)[: len(weight_MN)]
    return clip_CM.gather(0, best_M[None])[0]


def _squared_error(weight_MN: Tensor, grid: Grid, clip_M: Tensor) -> Tensor:
    """Of each row, in fp64."""
    scale_M1 = grid.row_scales(grid.scales(clip_M), len(weight_MN))
    rows = len(weight_MN) if weight_MN.is_cuda else max(1, CACHED_ELEMENTS // weight_MN.size(1))
    errors = []
    for weight, scale in zip(weight_MN.split(rows), scale_M1.split(rows), strict=True):
        difference = grid.levels(weight, scale).mul_(scale).sub_(weight)
        errors.append(difference.square_().sum(dim=1, dtype=torch.float64))
    return torch.cat(errors)
