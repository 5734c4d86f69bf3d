"""LeakyReLU(0.5)^2, an activation of the MLP that lets negative inputs through, squared and at a quarter.

Source: openai/parameter-golf #493 and #549.
"""

import torch
from torch import Tensor


class LeakyRelu2Function(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        leaky = torch.nn.functional.leaky_relu(x, 0.5)
        ctx.save_for_backward(x, leaky)
        return leaky * leaky

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        x, leaky = ctx.saved_tensors
        # d/dx leaky^2 = 2 leaky * slope; for x < 0 that is 2 * x/2 * 1/2 = leaky.
        return grad * torch.where(x > 0, 2 * leaky, leaky)


def leaky_relu2(x: Tensor) -> Tensor:
    """(max(x, 0) + min(x, 0) / 2)^2."""
    if x.device.type == "cpu":
        return LeakyRelu2Function.apply(x)
    return torch.nn.functional.leaky_relu(x, 0.5).square()
