"""FlashAttention where it is installed and the card is a Hopper; else the usual attention.

The package is optional: `flash_attn_interface` (version 3), else `flash_attn` (version 2).
Source: Dao et al., https://github.com/Dao-AILab/flash-attention
"""

import torch
from torch import Tensor

from golf_core.model.attention import causal_attention

try:
    from flash_attn_interface import flash_attn_func
except ImportError:
    try:
        from flash_attn import flash_attn_func
    except ImportError:
        flash_attn_func = None

HOPPER = 9


def flash_usable(x: Tensor) -> bool:
    """Installed, on an NVIDIA Hopper, and in a dtype that its kernels have."""
    return (
        flash_attn_func is not None
        and x.device.type == "cuda"
        and torch.version.hip is None
        and torch.cuda.get_device_capability(x.device)[0] == HOPPER
        and x.dtype in (torch.bfloat16, torch.float16)
    )


def flash_attention(q_BTHD: Tensor, k_BTKD: Tensor, v_BTKD: Tensor) -> Tensor:
    """softmax(q k^T) v as `causal_attention` has it; key heads need not be repeated."""
    if not flash_usable(q_BTHD):
        return causal_attention(q_BTHD, k_BTKD, v_BTKD)
    out = flash_attn_func(q_BTHD, k_BTKD, v_BTKD, softmax_scale=1.0, causal=True)
    return out[0] if isinstance(out, tuple) else out  # some versions return the row sums too
