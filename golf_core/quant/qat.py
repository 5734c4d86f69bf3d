"""Quantization-aware training by swapping weights: for the forward and backward passes of a step the parameters hold
their rounded values; the exact ones come back before the optimizer moves them.

That is w + stopgrad(round(w) - w), the straight-through estimator, without a trace of it in the graph: it costs
nothing while off, a compiled model needs no second graph and cannot have frozen a switch, and evaluation or training
at test time never see it. Source: the wallclock-warmdown system's weight swap; Bengio et al.,
https://arxiv.org/abs/1308.3432.
"""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from golf_core.config_quant import QATConfig, QuantConfig
from golf_core.quant.grid import Grid
from golf_core.quant.rows import Quantizer
from golf_core.routes import QAT_ROLES, tensor_role

STACKED_ELEMENTS = 1 << 16  # rounded at a time on a CPU, where more would leave its cache; a GPU wants few launches


class WeightSwap:
    """The parameters of `model` that `quantizer` puts on a grid and the config names. With clip="max" they are
    rounded to the export's grids with the row's maximum as clip, and not pruned: the sources' cheap form."""

    def __init__(self, model: nn.Module, quantizer: Quantizer, qat: QATConfig) -> None:
        self.qat = qat
        cheap = Quantizer(quantizer.quant, quantizer.layers, {"quant.clip": _row_maximum})
        self.quantizer = cheap if qat.clip == "max" else quantizer
        self.params = {
            name: p
            for name, p in model.named_parameters()
            if tensor_role(name) in QAT_ROLES[qat.tensors] and quantizer.route(name, tuple(p.shape)).kind == "grid"
        }
        self.stacks = self._stacks()
        self.exact: list[Tensor] = []
        self.begun = False

    @property
    def count(self) -> int:
        """How many tensors are rounded."""
        return len(self.params)

    def _stacks(self) -> list[list[str]]:
        """The names, those together whose tensors can be rounded as one, rows below rows. That needs one grid and rows
        of one length, and a rule that looks at a row, or at the rows of a group, alone."""
        quant, parts = self.quantizer.quant, self.quantizer.parts
        by_matrix = self.qat.clip != "max" and quant.clip.endswith("_search") and quant.clip_select == "matrix"
        by_row = not by_matrix and "quant.prune_fraction" not in parts
        stacks: list[list[str]] = []
        growing: dict[tuple[int, int, str], tuple[list[str], int]] = {}
        for name, p in self.params.items():
            stack, size = [], 0
            if by_row and p.ndim == 2 and p.size(0) % quant.group_rows == 0:
                key = (p.size(1), self.quantizer.route(name, tuple(p.shape)).bits, tensor_role(name))
                stack, size = growing.get(key, (stack, size))
                if not p.is_cuda and size + p.numel() > STACKED_ELEMENTS:
                    stack, size = [], 0
                growing[key] = (stack, size + p.numel())
            if not stack:
                stacks.append(stack)
            stack.append(name)
        return stacks

    def due(self, step: int, iterations: int, elapsed: float, max_seconds: float | None, scale: float) -> bool:
        """Whether `step` is trained at rounded weights. Once true it stays so."""
        if self.qat.start == "scale":
            arrived = scale < self.qat.at
        elif self.qat.start == "time" and max_seconds is not None:
            arrived = elapsed >= self.qat.at * max_seconds
        else:
            arrived = self.qat.start == "begin" or step >= self.qat.at * iterations
        self.begun = self.begun or arrived
        return self.begun

    @contextlib.contextmanager
    def rounded(self) -> Iterator[None]:
        """Inside, the parameters hold their rounded values; afterwards, whatever happened, the exact ones."""
        params = list(self.params.values())
        with torch.no_grad():
            if not self.exact:  # kept from step to step: the memory is needed again at once
                self.exact = [torch.empty_like(p) for p in params]
            if params:
                torch._foreach_copy_(self.exact, params)
        try:
            with torch.no_grad():
                for names in self.stacks:
                    self._round(names)
            yield
        finally:
            with torch.no_grad():
                if params:
                    torch._foreach_copy_(params, self.exact)

    def _round(self, names: list[str]) -> None:
        tensors = [self.params[name] for name in names]
        stack = torch.cat(tensors) if len(tensors) > 1 else tensors[0]
        rounded = self.quantizer.fake(names[0], stack)
        torch._foreach_copy_(tensors, list(rounded.split([len(t) for t in tensors])))


def _row_maximum(weight_MN: Tensor, grid: Grid, quant: QuantConfig, role: str) -> Tensor:
    return weight_MN.abs().amax(dim=1)
