"""The head and its loss: tied projection, softcap, cross-entropy.

On a CPU the loss and its gradient are made together, a slice of rows at a time, so that logits never
leave the cache (the idea of gradient-in-forward: Liger-Kernel, https://github.com/linkedin/Liger-Kernel).

Shapes: N positions, C width, V vocabulary.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

SLICE_ROWS = 256  # 256 x 1024 logits are 1 MiB of fp32


def softcapped_logits(x_NC: Tensor, weight_VC: Tensor, cap: float) -> Tensor:
    """cap * tanh(x w^T / cap) in fp32, (..., V); every logit lies in (-cap, cap)."""
    return cap * torch.tanh(F.linear(x_NC, weight_VC.to(x_NC.dtype)).float() / cap)


class SlicedSoftcapCrossEntropy(torch.autograd.Function):
    """Mean over N of -log softmax(cap * tanh(x w^T / cap))[target]; exp needs no shift because |logit| <= cap."""

    @staticmethod
    def forward(ctx, x_NC: Tensor, weight_VC: Tensor, target_N: Tensor, cap: float) -> Tensor:
        weight = weight_VC.detach().to(x_NC.dtype)
        needs_grad = any(ctx.needs_input_grad[:2])
        dx, dw = torch.empty_like(x_NC), torch.zeros_like(weight_VC, dtype=torch.float32)
        total = torch.zeros((), dtype=torch.float64)
        for low in range(0, x_NC.size(0), SLICE_ROWS):
            x = x_NC[low : low + SLICE_ROWS]
            target = target_N[low : low + SLICE_ROWS, None]
            t = (x @ weight.T).float().mul_(1 / cap).tanh_()  # logit / cap
            e = (t * cap).exp_()
            sums = e.sum(dim=-1, keepdim=True)
            total += (sums.log() - cap * t.gather(-1, target)).sum()
            if needs_grad:
                p = e.div_(sums)
                p.scatter_add_(-1, target, torch.full_like(sums, -1.0))
                dz = t.square_().neg_().add_(1).mul_(p).to(x.dtype)  # d/dz of cap*tanh(z/cap) is 1 - tanh^2
                torch.mm(dz, weight, out=dx[low : low + SLICE_ROWS])
                if x.dtype == torch.float32:
                    dw.addmm_(dz.T, x)
                else:
                    dw.add_(dz.T @ x)
        ctx.save_for_backward(dx, dw)
        ctx.count = x_NC.size(0)
        return (total / ctx.count).float()

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        dx, dw = ctx.saved_tensors
        scale = grad / ctx.count
        return dx * scale.to(dx.dtype), dw * scale, None, None


def softcapped_cross_entropy(x_NC: Tensor, weight_VC: Tensor, target_N: Tensor, cap: float) -> Tensor:
    """Mean cross-entropy in nats of the softcapped logits of x against the targets; a scalar in fp32.

    `cap` must be below 80: the CPU's path takes exp(logit) without a shift.
    """
    if x_NC.device.type == "cpu":
        return SlicedSoftcapCrossEntropy.apply(x_NC, weight_VC, target_N, cap)
    return F.cross_entropy(softcapped_logits(x_NC, weight_VC, cap), target_N)
