"""Partial rotary positions: the first channels of each head turn, the rest know no position.

Source: openai/parameter-golf, record 2026-03-21 (16 of 64 channels); GPT-J and GPT-NeoX before it.
"""

import torch
from torch import Tensor

from golf_core.model.fused import rms_norm


def partial_rotary_norm(x_BTHD: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The normed heads, their first R channels turned; `cos` and `sin` are (1, T, 1, R)."""
    n = rms_norm(x_BTHD)
    dims = cos.size(-1)
    turning = n[..., :dims]
    turned = turning * cos + turning.roll(dims // 2, -1) * sin
    return torch.cat((turned, n[..., dims:]), dim=-1)
