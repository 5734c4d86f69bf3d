"""From a state dict to what is stored: a route for every tensor, and row-wise rounding.

Routes, in order: vectors and control tensors stay fp32; small tensors become fp16; the embedding and the
matrices go on their grids, one fp16 scale a row.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from golf_core.config import QuantConfig
from golf_core.model.gpt import is_control
from golf_core.quant.grid import Grid


@dataclass(frozen=True)
class StoredTensor:
    """One tensor as the artifact holds it. `codes`: int8 (grid), fp16 or fp32; `scale`: fp16 a row, grids only."""

    route: str  # "fp32", "fp16" or "grid"
    shape: tuple[int, ...]
    codes: Tensor
    bits: int = 0
    scale: Tensor | None = None


def tensor_route(name: str, tensor: Tensor, config: QuantConfig) -> tuple[str, int]:
    """("fp32" | "fp16" | "grid", bits of the grid)."""
    if tensor.ndim < 2 or is_control(name):
        return "fp32", 0
    bits = config.embed_bits if name.startswith("tok_emb.") else config.matrix_bits
    if bits == 16 or tensor.numel() <= config.keep_numel:
        return "fp16", 0
    return "grid", bits


def row_clip(weight_MN: Tensor, quantile: float) -> Tensor:
    """The largest magnitude to keep in each row: its maximum, or that quantile of |w|."""
    magnitude = weight_MN.float().abs()
    return magnitude.amax(dim=1) if quantile >= 1 else torch.quantile(magnitude, quantile, dim=1)


def quantize_state(state: Mapping[str, Tensor], config: QuantConfig) -> dict[str, StoredTensor]:
    """Every tensor of `state` as it will be stored, on the CPU, in the state's order."""
    stored = {}
    for name, value in state.items():
        tensor = value.detach().cpu()
        route, bits = tensor_route(name, tensor, config)
        shape = tuple(tensor.shape)
        if route == "grid":
            grid = Grid(bits)
            scale = grid.scales(row_clip(tensor, config.clip_quantile), config.scale_floor)
            stored[name] = StoredTensor(route, shape, grid.quantize(tensor, scale), bits, scale)
        else:
            stored[name] = StoredTensor(route, shape, tensor.to(torch.float32 if route == "fp32" else torch.float16))
    return stored


def restore_state(stored: Mapping[str, StoredTensor]) -> dict[str, Tensor]:
    """fp32 tensors by name."""
    return {
        name: Grid(s.bits).dequantize(s.codes, s.scale) if s.scale is not None else s.codes.float()
        for name, s in stored.items()
    }
