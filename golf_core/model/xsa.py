"""Exclusive Self Attention: what a head says has no part along the token's own value.

After attention, y <- y - (y . v^) v^ with v^ the normed value of the token itself under the head's key head. (Sharing
key and value projections between layers has also been called XSA; that is `kv_share`.)
Source: openai/parameter-golf #265, #287.
"""

import torch.nn.functional as F
from torch import Tensor


def without_own_value(y_BTHD: Tensor, v_BTKD: Tensor) -> Tensor:
    """Each query head without its component along its own value; query head h has key head h // (H/K)."""
    b, t, heads, d = y_BTHD.shape
    kv_heads = v_BTKD.size(2)
    y = y_BTHD.reshape(b, t, kv_heads, heads // kv_heads, d)
    along = F.normalize(v_BTKD, dim=-1)[:, :, :, None]
    return (y - (y * along).sum(dim=-1, keepdim=True) * along).reshape(b, t, heads, d)
