"""From a state dict to what is stored: every tensor by its route (routes.py), grids rounded by the config's rules."""

import typing
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from golf_core.config_quant import QuantConfig
from golf_core.quant.grid import Grid, config_grid
from golf_core.routes import Route, tensor_role, tensor_route

FP16_MAX = torch.finfo(torch.float16).max


@dataclass(frozen=True)
class StoredTensor:
    """One tensor as the artifact holds it. `codes`: int8 (grid), fp16 or fp32; `scale`: fp16, grids only, one for
    every `group_rows` rows."""

    route: str  # "fp32", "fp16" or "grid"
    shape: tuple[int, ...]
    codes: Tensor
    bits: int = 0
    scale: Tensor | None = None
    group_rows: int = 1


class Quantizer:
    """Rounds tensors as a config says: `round` for the artifact, `fake` for training in its image. `layers` is the
    model's; `parts` hold the clip rule ("quant.clip"), and what else the config names: pruning before rounding, and
    rounding that knows a tensor's inputs."""

    def __init__(self, quant: QuantConfig, layers: int, parts: Mapping[str, typing.Any]) -> None:
        self.quant, self.layers, self.parts = quant, layers, parts

    def route(self, name: str, shape: tuple[int, ...]) -> Route:
        return tensor_route(name, shape, self.quant, self.layers)

    def round(self, name: str, value: Tensor, hessian_NN: Tensor | None = None) -> StoredTensor:
        """The tensor as it will be stored, on the tensor's device. With a Hessian it is rounded by the config's
        "quant.rounding", whose scales are those that it would have without."""
        tensor = value.detach()
        route, shape = self.route(name, tuple(tensor.shape)), tuple(tensor.shape)
        if route.kind == "fp32":
            return StoredTensor(route.kind, shape, tensor.float())
        if route.kind == "fp16":
            return StoredTensor(route.kind, shape, tensor.clamp(-FP16_MAX, FP16_MAX).half())
        grid, role, weight = config_grid(route.bits, self.quant), tensor_role(name), tensor.float()
        if "quant.prune_fraction" in self.parts and role in ("attn", "mlp"):
            weight = self.parts["quant.prune_fraction"](weight, self.quant.prune_fraction)
        scale = grid.scales(self.parts["quant.clip"](weight, grid, self.quant, role))
        if hessian_NN is None:
            codes = grid.quantize(weight, scale)
        else:
            codes = self.parts["quant.rounding"](weight, hessian_NN, scale, grid, self.quant.gptq_damp)
        return StoredTensor(route.kind, shape, codes, route.bits, scale, grid.group_rows)

    def fake(self, name: str, value: Tensor) -> Tensor:
        """The fp32 tensor that the artifact will give back, bit for bit (where no Hessian rounds it)."""
        return restore_tensor(self.round(name, value))

    def export(
        self, state: Mapping[str, Tensor], hessians: Mapping[str, Tensor] | None = None
    ) -> dict[str, StoredTensor]:
        """Every tensor of `state` as it will be stored, on the CPU, in the state's order. `hessians`, by name, are
        those of calibrate.py. A tensor is rounded where it lies, by the arithmetic that `fake` has there in training,
        or where its Hessian lies."""
        stored = {}
        for name, value in state.items():
            hessian = hessians.get(name) if hessians else None
            s = self.round(name, value if hessian is None else value.to(hessian.device), hessian)
            scale = None if s.scale is None else s.scale.cpu()
            stored[name] = StoredTensor(s.route, s.shape, s.codes.cpu(), s.bits, scale, s.group_rows)
        return stored


def restore_tensor(s: StoredTensor) -> Tensor:
    """fp32."""
    if s.scale is None:
        return s.codes.float()
    return Grid(s.bits, group_rows=s.group_rows).dequantize(s.codes, s.scale)


def restore_state(stored: Mapping[str, StoredTensor]) -> dict[str, Tensor]:
    """fp32 tensors by name."""
    return {name: restore_tensor(s) for name, s in stored.items()}
