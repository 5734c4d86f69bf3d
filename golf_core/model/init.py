"""Start values that differ from the baseline's. Source: openai/parameter-golf, records of 2026-03-19 and later."""

import torch
from torch import Tensor, nn

MIN_ORTHOGONAL = 64  # smaller matrices keep their uniform start


def random_orthogonal(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """A matrix with orthonormal rows or columns, whichever are fewer, from the uniform distribution over them."""
    tall = torch.randn(max(rows, columns), min(rows, columns), generator=generator)
    q, r = torch.linalg.qr(tall)
    q = q * r.diagonal().sign()
    return q if rows >= columns else q.T


def orthogonal_matrices(model: nn.Module, generator: torch.Generator) -> None:
    """Every linear layer of at least 64 x 64 starts orthogonal; those that start at zero are zeroed afterwards."""
    for module in model.modules():
        if isinstance(module, nn.Linear) and min(module.weight.shape) >= MIN_ORTHOGONAL:
            module.weight.copy_(random_orthogonal(*module.weight.shape, generator))


def overtone_spectrum(model: nn.Module, generator: torch.Generator) -> None:
    """The embedding's singular values become S_1 / sqrt(k), its singular vectors stay. Not renormalised."""
    u, s, v = torch.linalg.svd(model.tok_emb.weight, full_matrices=False)
    k = torch.arange(1, s.numel() + 1, dtype=s.dtype)
    model.tok_emb.weight.copy_((u * (s[0] * k**-0.5)) @ v)


def phase_resid_mix(model: nn.Module, generator: torch.Generator) -> None:
    """resid_mix of layer l starts as (p, 1 - p) with p = sigmoid(3 (l/(L-1) - 1/2)): early layers lean on x0."""
    last = max(len(model.blocks) - 1, 1)
    for layer, block in enumerate(model.blocks):
        p = torch.sigmoid(torch.tensor(3 * (layer / last - 0.5)))
        block.resid_mix[0] = p
        block.resid_mix[1] = 1 - p
