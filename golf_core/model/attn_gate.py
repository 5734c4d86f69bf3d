"""Gated attention: each head's output times a gate that reads the layer's normed input n.

Four forms. Source: openai/parameter-golf #549 (dense), #1736 (qwen), #1667 (out), #1787 (sparse).

Shapes: B batch, T positions, H heads, D head width, C width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from golf_core.config_model import GATE_WINDOW, ModelConfig


class HeadGate(nn.Module):
    """y_h <- g_h y_h; a form says how many channels it reads, and by its `gate` what g is."""

    def __init__(self, config: ModelConfig, columns: int) -> None:
        super().__init__()
        self.columns = columns
        self.weight = nn.Parameter(torch.zeros(config.heads, columns))

    def init_weights(self, generator: torch.Generator) -> None:
        """Zero weights, unless a form differs."""
        self.weight.zero_()

    def forward(self, y_BTHD: Tensor, n_BTC: Tensor) -> Tensor:
        z = F.linear(n_BTC[..., : self.columns], self.weight.to(n_BTC.dtype))
        return y_BTHD * self.gate(z)[..., None]


class DenseGate(HeadGate):
    """g = sigmoid(W n + b), W = 0 and b = 4 at the start: nearly open."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, config.width)
        self.bias = nn.Parameter(torch.full((config.heads,), 4.0))

    def gate(self, z_BTH: Tensor) -> Tensor:
        return torch.sigmoid(z_BTH + self.bias.to(z_BTH.dtype))


class QwenGate(HeadGate):
    """g = sigmoid(W n), W normal with standard deviation 0.005: half open."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, config.width)

    def init_weights(self, generator: torch.Generator) -> None:
        self.weight.normal_(0.0, 0.005, generator=generator)

    def gate(self, z_BTH: Tensor) -> Tensor:
        return torch.sigmoid(z_BTH)


class OutGate(HeadGate):
    """g = 2 sigmoid(W n[:12]), W = 0 at the start: exactly 1."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, GATE_WINDOW)

    def gate(self, z_BTH: Tensor) -> Tensor:
        return 2 * torch.sigmoid(z_BTH)


class SparseGate(HeadGate):
    """g = sigmoid(s W n[:12]), W = 0 at the start: one half; s is `attn_gate_scale`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, GATE_WINDOW)
        self.scale = config.attn_gate_scale

    def gate(self, z_BTH: Tensor) -> Tensor:
        return torch.sigmoid(self.scale * z_BTH)
