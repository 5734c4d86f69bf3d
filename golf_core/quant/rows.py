"""From a state dict to what is stored: every tensor by its route (routes.py), grids rounded by the config's rules."""

import typing
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from golf_core.config_quant import QuantConfig
from golf_core.quant.grid import Grid
from golf_core.routes import Route, tensor_role, tensor_route


@dataclass(frozen=True)
class StoredTensor:
    """One tensor as the artifact holds it. `codes`: int8 (grid), fp16 or fp32; `scale`: fp16 a row, grids only."""

    route: str  # "fp32", "fp16" or "grid"
    shape: tuple[int, ...]
    codes: Tensor
    bits: int = 0
    scale: Tensor | None = None


class Quantizer:
    """Rounds tensors as a config says: `round` for the artifact, `fake` for training in its image. `layers` is the
    model's; `parts` hold the clip rule ("quant.clip")."""

    def __init__(self, quant: QuantConfig, layers: int, parts: Mapping[str, typing.Any]) -> None:
        self.quant, self.layers, self.parts = quant, layers, parts

    def route(self, name: str, shape: tuple[int, ...]) -> Route:
        return tensor_route(name, shape, self.quant, self.layers)

    def round(self, name: str, value: Tensor) -> StoredTensor:
        """The tensor as it will be stored, on the tensor's device."""
        tensor = value.detach()
        route, shape = self.route(name, tuple(tensor.shape)), tuple(tensor.shape)
        if route.kind != "grid":
            return StoredTensor(route.kind, shape, tensor.to(torch.float32 if route.kind == "fp32" else torch.float16))
        grid = Grid(route.bits)
        clip_M = self.parts["quant.clip"](tensor.float(), grid, self.quant, tensor_role(name))
        scale = grid.scales(clip_M, self.quant.scale_floor)
        return StoredTensor(route.kind, shape, grid.quantize(tensor, scale), route.bits, scale)

    def fake(self, name: str, value: Tensor) -> Tensor:
        """The fp32 tensor that the artifact will give back, bit for bit."""
        return restore_tensor(self.round(name, value))

    def export(self, state: Mapping[str, Tensor]) -> dict[str, StoredTensor]:
        """Every tensor of `state` as it will be stored, on the CPU, in the state's order."""
        return {name: self.round(name, value.cpu()) for name, value in state.items()}


def restore_tensor(s: StoredTensor) -> Tensor:
    return Grid(s.bits).dequantize(s.codes, s.scale) if s.scale is not None else s.codes.float()


def restore_state(stored: Mapping[str, StoredTensor]) -> dict[str, Tensor]:
    """fp32 tensors by name."""
    return {name: restore_tensor(s) for name, s in stored.items()}
