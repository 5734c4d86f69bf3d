"""Hash embeddings: the last two or three tokens of the context pick a row of a table, added to the token embedding.

Only context is hashed, never the target. The last bucket belongs to the positions that have no full n-gram. The table
starts at zero and its projection does not, so that the branch adds nothing at first and learns.
Source: openai/parameter-golf #162 (bigrams), #951 (trigrams).
"""

import torch
from torch import Tensor, nn

from golf_core.config_model import ModelConfig
from golf_core.model.gpt import Linear


class HashEmbedding(nn.Module):
    """scale * projection of a row, the row chosen by a hash of the tokens t, t-1, ...; no projection where the
    table is as wide as the model."""

    multipliers: tuple[int, ...]

    def __init__(self, buckets: int, width: int, model_width: int) -> None:
        super().__init__()
        self.buckets = buckets
        self.embed = nn.Embedding(buckets, width)
        self.proj = Linear(width, model_width) if width != model_width else None
        self.scale = nn.Parameter(torch.tensor(0.05))

    def init_tables(self, generator: torch.Generator) -> None:
        self.embed.weight.zero_()

    def rows(self, ids_BT: Tensor) -> Tensor:
        """The row of each position: the products' XOR modulo buckets - 1, in 64 bits because 32 overflow."""
        hashed = ids_BT.long() * self.multipliers[0]
        for distance, multiplier in enumerate(self.multipliers[1:], 1):
            hashed = hashed ^ (ids_BT.long().roll(distance, -1) * multiplier)
        hashed = hashed % (self.buckets - 1)
        first = torch.arange(ids_BT.size(1), device=ids_BT.device) < len(self.multipliers) - 1
        return torch.where(first, self.buckets - 1, hashed)

    def forward(self, ids_BT: Tensor, dtype: torch.dtype) -> Tensor:
        x = self.embed(self.rows(ids_BT)).to(dtype)
        if self.proj is not None:
            x = self.proj(x)
        return x * self.scale.to(dtype)


class BigramHash(HashEmbedding):
    multipliers = (36313, 27191)

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config.bigram_buckets, config.bigram_width, config.width)


class TrigramHash(HashEmbedding):
    multipliers = (73856, 19349, 83492)

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config.trigram_buckets, config.trigram_width, config.width)
