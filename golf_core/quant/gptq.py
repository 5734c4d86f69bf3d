"""GPTQ: columns are rounded one after another, and what each one loses is made up by those still to come, weighed by
the second moments of the layer's inputs.

Source: Frantar et al., https://arxiv.org/abs/2210.17323; openai/parameter-golf #1019, #1060, #1394. Scales are fixed
beforehand by the config's clip rule. With "percentile_search" that differs from #1019, which runs the whole loop
once for each percentile and keeps the least plain error: here the percentile is chosen by nearest rounding, one loop.

Shapes: M rows, N columns.
"""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from golf_core.quant.grid import Grid

GPTQ_BLOCK = 128  # columns whose losses reach the columns after the block in one product
DAMP_TRIES = 6  # each with ten times the damping of the last


def gptq_codes(weight_MN: Tensor, hessian_NN: Tensor, scale_M: Tensor, grid: Grid, damp: float) -> Tensor:
    """int8 codes on `weight_MN`'s device. `hessian_NN`: sum of x x^T over inputs x; a column whose input is always
    zero becomes zero. Columns are taken by falling diagonal, so that the heaviest are rounded with least to repair."""
    hessian = hessian_NN.double()
    diagonal = hessian.diagonal()
    dead = diagonal <= 0
    order = torch.where(dead, 1.0, diagonal).argsort(descending=True, stable=True)
    upper = _inverse_factor(hessian[order][:, order], damp).float()
    scale = grid.row_scales(scale_M, len(weight_MN)).T
    weight = torch.where(dead, 0.0, weight_MN.float()).T[order].contiguous()  # a column of the weight is a row here
    codes = torch.empty_like(weight, dtype=torch.int8)
    for low in range(0, len(weight), GPTQ_BLOCK):
        high = min(low + GPTQ_BLOCK, len(weight))
        losses = torch.empty_like(weight[low:high])
        for j in range(low, high):
            level = grid.levels(weight[j : j + 1], scale)
            codes[j] = level[0]
            losses[j - low] = (weight[j] - (level * scale)[0]) / upper[j, j]
            weight[j:high] -= upper[j, j:high, None] * losses[j - low]
        with _untruncated_products():
            weight[high:] -= upper[low:high, high:].T @ losses
    return codes[order.argsort()].T.contiguous()


@contextlib.contextmanager
def _untruncated_products() -> Iterator[None]:
    """fp32 products in fp32: training lets a GPU cut their factors to TF32, but losses must not be lost again."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _inverse_factor(hessian: Tensor, damp: float) -> Tensor:
    """U with U^T U = (H + damping)^-1, upper triangular, after dead columns got a diagonal of one. Sums taken in a
    narrow type may have left H not quite positive; then it takes more damping."""
    diagonal = hessian.diagonal()
    diagonal[diagonal <= 0] = 1.0
    mean = diagonal.mean()
    for power in range(DAMP_TRIES):
        damped = hessian.clone()
        damped.diagonal().add_(damp * 10**power * mean)
        lower, failed = torch.linalg.cholesky_ex(damped)
        if not failed:
            upper, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
            if not failed:
                return upper
    raise ValueError(
        f"a Hessian of {len(hessian)} columns has no Cholesky factor even with a damping of {damp * 10**power:g} "
        "times its mean diagonal: calibration saw inputs that are no numbers"
    )
