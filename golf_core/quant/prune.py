"""Magnitude pruning before rounding: zeros are what compresses best. Source: openai/parameter-golf, the 10-layer
int5/int6 record and the shared-KV system."""

import torch
from torch import Tensor


def zero_smallest(weight: Tensor, fraction: float) -> Tensor:
    """A copy whose int(fraction * elements) smallest magnitudes are zero; among equals the first in memory's order."""
    count = int(fraction * weight.numel())
    if not count:
        return weight.clone()
    magnitude = weight.abs().flatten()
    limit = magnitude.kthvalue(count).values
    smaller = magnitude < limit
    equal = magnitude == limit
    drop = smaller | (equal & (equal.cumsum(0) <= count - smaller.sum()))
    return torch.where(drop.view_as(weight), 0.0, weight)
