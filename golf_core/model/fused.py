"""Element-wise work in few passes over memory, for eager CPUs; on GPUs torch.compile does the same by itself.

Each function below is its plain formula on a GPU. On a CPU its backward pass is written out, so that nothing
is saved or swept over twice: small models spend a third of a step on such sweeps (benchmarks/train_rate.py).
"""

import torch
import torch.nn.functional as F
from torch import Tensor


class RmsNormFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        rate = _inverse_rms(x)
        y = x * rate
        ctx.save_for_backward(y, rate)
        return y

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        y, rate = ctx.saved_tensors
        along = (grad * y).sum(dim=-1, keepdim=True).mul_(-1 / y.size(-1))
        return torch.addcmul(grad, y, along).mul_(rate)


def _inverse_rms(x: Tensor) -> Tensor:
    # Sums and eps are those of fp32 for bf16 input, as in the library's rms_norm: bf16's own eps would swamp
    # a fresh embedding, whose mean square is 2.5e-5.
    wide = torch.promote_types(x.dtype, torch.float32)
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=wide)
    return norm.square_().mul_(1 / x.size(-1)).add_(torch.finfo(wide).eps).rsqrt_().to(x.dtype)


def rms_norm(x: Tensor) -> Tensor:
    """x / sqrt(mean(x^2) + eps) over the last dimension, without a learned weight; eps is fp32's for bf16."""
    return RmsNormFunction.apply(x) if x.device.type == "cpu" else F.rms_norm(x, (x.size(-1),))


class Relu2Function(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        y = x.relu()
        ctx.save_for_backward(y)
        return y * y

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors  # zero where x was negative, so it is the mask too
        return (grad * y).mul_(2)


def relu2(x: Tensor) -> Tensor:
    """max(x, 0)^2."""
    return Relu2Function.apply(x) if x.device.type == "cpu" else x.relu().square()


class RotaryNormFunction(torch.autograd.Function):
    """A rotation keeps lengths: norm and rotation commute, and so do their backward passes."""

    @staticmethod
    def forward(ctx, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        rate = _inverse_rms(x)
        y = torch.addcmul(x * cos, x.roll(x.size(-1) // 2, -1), sin).mul_(rate)
        ctx.save_for_backward(y, rate, cos, sin)
        return y

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        y, rate, cos, sin = ctx.saved_tensors
        along = (grad * y).sum(dim=-1, keepdim=True).mul_(-1 / y.size(-1))
        turned = torch.addcmul(grad, y, along)
        back = torch.addcmul(turned * cos, turned.roll(y.size(-1) // 2, -1), sin, value=-1)
        return back.mul_(rate), None, None


def rotary_norm(x_BTHD: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The normed heads, turned by their positions: x/rms(x) * cos + (its halves swapped) * sin.

    `cos` and `sin` are (1, T, 1, D): the angles twice, and sin with the sign of each half.
    """
    if x_BTHD.device.type == "cpu":
        return RotaryNormFunction.apply(x_BTHD, cos, sin)
    n = F.rms_norm(x_BTHD, (x_BTHD.size(-1),))
    return n * cos + n.roll(x_BTHD.size(-1) // 2, -1) * sin
