"""Causal attention: the library's kernel on GPUs, an explicit blocked product on CPUs.

On a CPU the scores of a block of rows fit in its cache, and keys above the diagonal are skipped block by
block, so that matrix products and one softmax a block do the work; see benchmarks/train_rate.py.

Shapes: B batch, T positions, H query heads, K key heads, G = H/K query heads a key head, D head width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK_ROWS = 32  # of queries; the fastest of 32, 64 and 128 at T=256 with heads of 16 and of 32


class BlockedCausalAttention(torch.autograd.Function):
    """softmax(q k^T) v under a causal mask, for q already scaled. The backward pass is written out because
    it needs the probabilities that the forward pass has, block by block, and no T x T tensor."""

    @staticmethod
    def forward(ctx, q_BTHD: Tensor, k_BTKD: Tensor, v_BTKD: Tensor) -> Tensor:
        b, t, h, d = q_BTHD.shape
        kv = k_BTKD.size(2)
        group = h // kv
        # Query heads of one key head are rows of one product: no key is repeated.
        q = q_BTHD.view(b, t, kv, group, d).permute(0, 2, 3, 1, 4).reshape(b * kv, group, t, d)
        k = k_BTKD.transpose(1, 2).reshape(b * kv, t, d)
        v = v_BTKD.transpose(1, 2).reshape(b * kv, t, d)
        out = torch.empty_like(q)
        mask = torch.full((BLOCK_ROWS, BLOCK_ROWS), -torch.inf, dtype=q.dtype).triu(1)
        probabilities = []
        for low in range(0, t, BLOCK_ROWS):
            high = min(low + BLOCK_ROWS, t)
            rows = high - low
            scores = torch.bmm(q[:, :, low:high].reshape(b * kv, group * rows, d), k[:, :high].mT)
            scores.view(b * kv, group, rows, high)[..., low:].add_(mask[:rows, :rows])
            p = torch.softmax(scores, dim=-1)
            out[:, :, low:high] = torch.bmm(p, v[:, :high]).view(b * kv, group, rows, d)
            probabilities.append(p)
        ctx.save_for_backward(q, k, v, out, *probabilities)
        return out.view(b, kv, group, t, d).permute(0, 3, 1, 2, 4).reshape(b, t, h, d)

    @staticmethod
    def backward(ctx, grad_BTHD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v, out, *probabilities = ctx.saved_tensors
        bk, group, t, d = q.shape
        b, _, h, _ = grad_BTHD.shape
        kv = bk // b
        grad = grad_BTHD.view(b, t, kv, group, d).permute(0, 2, 3, 1, 4).reshape(bk, group, t, d)
        delta = (grad * out).sum(dim=-1, keepdim=True)
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for block, low in enumerate(range(0, t, BLOCK_ROWS)):
            high = min(low + BLOCK_ROWS, t)
            rows = group * (high - low)
            p = probabilities[block]
            g = grad[:, :, low:high].reshape(bk, rows, d)
            dv[:, :high].add_(torch.bmm(p.mT, g))
            ds = torch.bmm(g, v[:, :high].mT).sub_(delta[:, :, low:high].reshape(bk, rows, 1)).mul_(p)
            dq[:, :, low:high] = torch.bmm(ds, k[:, :high]).view(bk, group, high - low, d)
            dk[:, :high].add_(torch.bmm(ds.mT, q[:, :, low:high].reshape(bk, rows, d)))
        dq_BTHD = dq.view(b, kv, group, t, d).permute(0, 3, 1, 2, 4).reshape(b, t, h, d)
        dk_BTKD = dk.view(b, kv, t, d).transpose(1, 2)
        dv_BTKD = dv.view(b, kv, t, d).transpose(1, 2)
        return dq_BTHD, dk_BTKD, dv_BTKD


def causal_attention(q_BTHD: Tensor, k_BTKD: Tensor, v_BTKD: Tensor) -> Tensor:
    """softmax(q k^T) v, each query seeing itself and what is before it; q carries the scale. Query head h
    reads key head h // (H/K). Returns (B, T, H, D)."""
    if q_BTHD.device.type == "cpu":
        return BlockedCausalAttention.apply(q_BTHD, k_BTKD, v_BTKD)
    return library_attention(q_BTHD, k_BTKD, v_BTKD)


def library_attention(q_BTHD: Tensor, k_BTKD: Tensor, v_BTKD: Tensor) -> Tensor:
    """The same by torch's own kernels, which choose by device and dtype: CUDA, ROCm and CPU alike."""
    q, k, v = (x.transpose(1, 2) for x in (q_BTHD, k_BTKD, v_BTKD))
    y_BHTD = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True, scale=1.0)
    return y_BHTD.transpose(1, 2)
