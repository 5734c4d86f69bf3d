"""Value embeddings: a second, narrow embedding of the token, added to the values of the last layers.

One table and one projection serve all of them; each layer has a learned scale.
Source: openai/parameter-golf #374, #549; modded-nanogpt before it.
"""

import torch
from torch import Tensor, nn

from golf_core.config_model import ModelConfig
from golf_core.model.gpt import Linear


class ValueEmbedding(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed = nn.Embedding(config.vocab, config.value_embed_width)
        self.proj = Linear(config.value_embed_width, config.kv_width)
        self.scale = nn.Parameter(torch.tensor(0.1))

    def init_tables(self, generator: torch.Generator) -> None:
        self.embed.weight.normal_(0.0, 0.01, generator=generator)

    def forward(self, ids_BT: Tensor, dtype: torch.dtype) -> Tensor:
        """(B, T, K * D)."""
        return self.proj(self.embed(ids_BT).to(dtype)) * self.scale.to(dtype)
