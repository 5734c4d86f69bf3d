"""SmearGate: each position takes in a little of the one before it, right after the embedding.

The first token of a document must not take in the last of the one before: it is masked by default
(`smear_bos_mask`); the challenge's early scripts do not mask it.
Source: openai/parameter-golf #162 (v1), #1667 (v2).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from golf_core.config_model import GATE_WINDOW, ModelConfig
from golf_core.data.shards import BOS_ID


def previous(x_BTC: Tensor) -> Tensor:
    """Each position's predecessor; zeros before the first."""
    return F.pad(x_BTC[:, :-1], (0, 0, 1, 0))


def inside_document(ids_BT: Tensor, masked: bool, dtype: torch.dtype) -> Tensor | None:
    """0 where a document starts, else 1, as (B, T, 1); None where nothing is masked."""
    return (ids_BT != BOS_ID)[..., None].to(dtype) if masked else None


class ChannelSmear(nn.Module):
    """v1: x_t <- (1 - g) x_t + g x_{t-1} with g = sigmoid(gate), a gate a channel, 0 at the start: g is one half.
    A document's first token stays as it is."""

    before_norm = False

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.masked = config.smear_bos_mask
        self.gate = nn.Parameter(torch.zeros(config.width))

    def forward(self, x_BTC: Tensor, ids_BT: Tensor) -> Tensor:
        g = torch.sigmoid(self.gate).to(x_BTC.dtype)
        mask = inside_document(ids_BT, self.masked, x_BTC.dtype)
        if mask is not None:
            g = g * mask
        return torch.lerp(x_BTC, previous(x_BTC), g.expand_as(x_BTC))


class TokenSmear(nn.Module):
    """v2: x_t <- x_t + strength * sigmoid(gate . x_t[:12]) * x_{t-1}; strength is 0 at the start."""

    before_norm = True

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.masked = config.smear_bos_mask
        self.gate = nn.Parameter(torch.zeros(1, GATE_WINDOW))
        self.strength = nn.Parameter(torch.zeros(1))

    def forward(self, x_BTC: Tensor, ids_BT: Tensor) -> Tensor:
        g = self.strength.to(x_BTC.dtype) * torch.sigmoid(F.linear(x_BTC[..., :GATE_WINDOW], self.gate.to(x_BTC.dtype)))
        mask = inside_document(ids_BT, self.masked, x_BTC.dtype)
        if mask is not None:
            g = g * mask
        return torch.addcmul(x_BTC, g, previous(x_BTC))
