"""The nearest orthogonal matrix, by Newton-Schulz steps: products of matrices only.

Method and coefficients: K. Jordan et al., https://kellerjordan.github.io/posts/muon/

Shapes: S stacked matrices of one shape, M rows, N columns.
"""

import math

import torch
from torch import Tensor

# Steep at zero, so that small singular values come near 1 in five steps. They settle in a band around 1
# rather than at 1; training does not mind, and the band is much cheaper.
QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonalize(g_SMN: Tensor, steps: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """The polar factor of each matrix, approximately: same singular vectors, singular values near 1.

    Computed in `dtype`; the input is left as it is. Raises ValueError for what is not a matrix.
    """
    if g_SMN.ndim < 2:
        raise ValueError(f"orthogonalize takes matrices, not a tensor of shape {tuple(g_SMN.shape)}")
    a, b, c = QUINTIC
    tall = g_SMN.size(-2) > g_SMN.size(-1)
    x = g_SMN.mT if tall else g_SMN  # the small Gram matrix is the cheap one
    x = (x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)).to(dtype)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(g_SMN.dtype)


def shape_gain(rows: int, columns: int) -> float:
    """What an orthogonal update of that shape is multiplied by: sqrt(max(1, rows / columns))."""
    return math.sqrt(max(1.0, rows / columns))
