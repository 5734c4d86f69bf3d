"""The model: the challenge's baseline GPT. Pre-norm blocks with a learned mix of the first embedding,
U-Net skips, grouped-query attention with normed q and k and rotary positions, relu^2 MLP, tied head, softcap.

Names of parameters follow the challenge's scripts: they are what artifacts and other people's tools know.
Source: openai/parameter-golf, the naive baseline; modded-nanogpt (Keller Jordan et al.) before it.

Shapes: B batch, T positions, C width, H query heads, K key heads, D head width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from golf_core.config import ModelConfig
from golf_core.model.attention import causal_attention
from golf_core.model.fused import relu2, rms_norm, rotary_norm
from golf_core.model.loss import softcapped_cross_entropy, softcapped_logits


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """x w^T in x's dtype; weights are kept in fp32."""
    return F.linear(x, weight.to(x.dtype))


class Rotary(nn.Module):
    """Rotary positions, half-split layout: channel j turns with channel j + D/2 by position * base^(-2j/D)."""

    def __init__(self, head_dim: int, base: float) -> None:
        super().__init__()
        self.head_dim, self.base = head_dim, base
        self.tables: dict[tuple[int, torch.device, torch.dtype], tuple[Tensor, Tensor]] = {}

    def angles(self, positions: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin for `rotary_norm`, kept for the next call; a compiler folds them by itself."""
        if torch.compiler.is_compiling():
            return self._tables(positions, like)
        key = (positions, like.device, like.dtype)
        if key not in self.tables:
            with torch.inference_mode(False):  # a table made while scoring must serve autograd later
                self.tables[key] = self._tables(positions, like)
        return self.tables[key]

    def _tables(self, positions: int, like: Tensor) -> tuple[Tensor, Tensor]:
        half = torch.arange(0, self.head_dim, 2, dtype=torch.float32, device=like.device)
        turns = torch.arange(positions, dtype=torch.float32, device=like.device)
        angle = torch.outer(turns, self.base ** (-half / self.head_dim))[None, :, None, :]
        cos, sin = angle.cos(), angle.sin()
        return torch.cat((cos, cos), dim=-1).to(like.dtype), torch.cat((sin, -sin), dim=-1).to(like.dtype)

    def forward(self, x_BTHD: Tensor) -> Tensor:
        """Normed over D, then turned."""
        return rotary_norm(x_BTHD, *self.angles(x_BTHD.size(1), x_BTHD))


class Attention(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = config.heads, config.kv_heads, config.head_dim
        kv_width = config.kv_heads * config.head_dim
        self.c_q = nn.Linear(config.width, config.width, bias=False)
        self.c_k = nn.Linear(config.width, kv_width, bias=False)
        self.c_v = nn.Linear(config.width, kv_width, bias=False)
        self.proj = nn.Linear(config.width, config.width, bias=False)
        self.q_gain = nn.Parameter(torch.full((config.heads,), config.q_gain))
        self.rotary = Rotary(config.head_dim, config.rope_base)

    def forward(self, x_BTC: Tensor) -> Tensor:
        b, t, _ = x_BTC.shape
        q = linear(x_BTC, self.c_q.weight).view(b, t, self.heads, self.head_dim)
        k = linear(x_BTC, self.c_k.weight).view(b, t, self.kv_heads, self.head_dim)
        v = linear(x_BTC, self.c_v.weight).view(b, t, self.kv_heads, self.head_dim)
        gain = self.q_gain * self.head_dim**-0.5  # the attention's own scale goes with the learned one
        y = causal_attention(self.rotary(q) * gain.to(q.dtype)[:, None], self.rotary(k), v)
        return linear(y.reshape(b, t, -1), self.proj.weight)


class MLP(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.fc = nn.Linear(config.width, config.mlp_width, bias=False)
        self.proj = nn.Linear(config.mlp_width, config.width, bias=False)

    def forward(self, x_BTC: Tensor) -> Tensor:
        return linear(relu2(linear(x_BTC, self.fc.weight)), self.proj.weight)


class Block(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attn = Attention(config)
        self.mlp = MLP(config)
        self.attn_scale = nn.Parameter(torch.ones(config.width))
        self.mlp_scale = nn.Parameter(torch.ones(config.width))
        self.resid_mix = nn.Parameter(torch.stack((torch.ones(config.width), torch.zeros(config.width))))

    def forward(self, x: Tensor, x0: Tensor) -> Tensor:
        mix = self.resid_mix.to(x.dtype)
        x = torch.addcmul(mix[0] * x, mix[1], x0)
        x = torch.addcmul(x, self.attn_scale.to(x.dtype), self.attn(rms_norm(x)))
        return torch.addcmul(x, self.mlp_scale.to(x.dtype), self.mlp(rms_norm(x)))


class GPT(nn.Module):
    """ids (B, T) to a loss or to logits. The first half of the blocks saves its outputs, the second half
    takes them back last in, first out; with an odd number of blocks the last one takes none."""

    def __init__(self, config: ModelConfig, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.config, self.dtype = config, dtype
        self.encoder_layers = config.layers // 2
        skips = min(self.encoder_layers, config.layers - self.encoder_layers)
        self.tok_emb = nn.Embedding(config.vocab, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.skip_weights = nn.Parameter(torch.ones(skips, config.width))

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator) -> None:
        """Start values: normal embedding, uniform matrices (torch's default for linear layers), zero for the
        matrices that write into the residual stream."""
        self.tok_emb.weight.normal_(0.0, self.config.embed_std, generator=generator)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                bound = module.in_features**-0.5
                module.weight.uniform_(-bound, bound, generator=generator)
        for block in self.blocks:
            block.attn.proj.weight.zero_()
            block.mlp.proj.weight.zero_()

    def hidden(self, ids_BT: Tensor) -> Tensor:
        """The normed output of the last block, (B, T, C)."""
        x = rms_norm(self.tok_emb(ids_BT).to(self.dtype))
        x0 = x
        skips = []
        for index, block in enumerate(self.blocks):
            if index >= self.encoder_layers and skips:
                skip = self.skip_weights[index - self.encoder_layers].to(x.dtype)
                x = torch.addcmul(x, skip, skips.pop())
            x = block(x, x0)
            if index < self.encoder_layers:
                skips.append(x)
        return rms_norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """Softcapped logits in fp32 for any positions of `hidden`."""
        return softcapped_logits(hidden, self.tok_emb.weight, self.config.softcap)

    def forward(self, ids_BT: Tensor, targets_BT: Tensor) -> Tensor:
        """Mean cross-entropy in nats."""
        x = self.hidden(ids_BT)
        return softcapped_cross_entropy(
            x.reshape(-1, x.size(-1)), self.tok_emb.weight, targets_BT.reshape(-1), self.config.softcap
        )


CONTROL_NAMES = ("attn_scale", "mlp_scale", "resid_mix", "q_gain", "skip_weights")


def is_control(name: str) -> bool:
    """Whether a parameter is one of the small fp32 vectors that are never quantized."""
    return any(control in name for control in CONTROL_NAMES)
