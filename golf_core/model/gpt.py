"""The model: pre-norm blocks with a learned mix of the first embedding, U-Net skips, grouped-query attention with
normed q and k and rotary positions, squared-activation MLP, tied head, softcap. Techniques that a config turns on
come as parts: modules and functions of their own files, by config path.

Names of parameters follow the challenge's scripts: they are what artifacts and other people's tools know.
Source: openai/parameter-golf, the naive baseline and its records; modded-nanogpt (Keller Jordan et al.) before it.

Shapes: B batch, T positions, C width, H query heads, K key heads, D head width.
"""

import typing

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from golf_core.config_model import ModelConfig
from golf_core.model.attention import causal_attention
from golf_core.model.fused import relu2, rms_norm, rotary_norm
from golf_core.model.loss import softcapped_cross_entropy, softcapped_logits

Parts = dict[str, typing.Any]
Angles = tuple[Tensor, Tensor]  # cos and sin of the positions, (1, T, 1, R)


class Linear(nn.Linear):
    """x w^T in x's dtype; the weight is kept in fp32."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype))


class Rotary(nn.Module):
    """Rotary positions, half-split layout: of R rotary channels, j turns with j + R/2 by position * base^(-2j/R).

    The base belongs to the context, the longest sequence of a stage, not to the sequence at hand: a shorter sequence
    gives what the same tokens give at the start of a longer one. The tables are made once, outside of compiled code.
    """

    def __init__(self, config: ModelConfig, dtype: torch.dtype, context: int) -> None:
        super().__init__()
        self.config, self.dtype, self.context = config, dtype, 0
        self.register_buffer("cos", torch.empty(0), persistent=False)
        self.register_buffer("sin", torch.empty(0), persistent=False)
        self.set_context(context)

    def base(self, context: int) -> float:
        """Static NTK replaces the base; dynamic NTK raises it where the context is longer than the reference length,
        by (context / reference)^(R / (R - 2))."""
        c = self.config
        if c.rope_static_base is not None:
            return c.rope_static_base
        if c.rope_ref_len is None or context <= c.rope_ref_len:
            return c.rope_base
        return c.rope_base * (context / c.rope_ref_len) ** (c.rotary_dims / (c.rotary_dims - 2))

    def set_context(self, context: int) -> None:
        """Tables for sequences of at most `context` positions."""
        if context == self.context:
            return
        dims, device = self.config.rotary_dims, self.cos.device
        half = torch.arange(0, dims, 2, dtype=torch.float32, device=device)
        turns = torch.arange(context, dtype=torch.float32, device=device)
        angle = torch.outer(turns, self.base(context) ** (-half / dims))[None, :, None, :]
        cos, sin = angle.cos(), angle.sin()
        self.cos = torch.cat((cos, cos), dim=-1).to(self.dtype)
        self.sin = torch.cat((sin, -sin), dim=-1).to(self.dtype)
        self.context = context

    def tables(self, positions: int) -> tuple[Tensor, Tensor]:
        """cos and sin, (1, positions, 1, R), for `rotary_norm`."""
        if positions > self.context:
            raise ValueError(f"a sequence of {positions} tokens is longer than the context of {self.context}")
        return self.cos[:, :positions], self.sin[:, :positions]


class Attention(nn.Module):
    """Layer `layer`'s attention. It has c_k and c_v only where it owns them (`kv_share`)."""

    def __init__(self, config: ModelConfig, layer: int, parts: Parts) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = config.heads, config.kv_heads, config.head_dim
        self.c_q = Linear(config.width, config.width)
        if config.kv_owner(layer) == layer:
            self.c_k = Linear(config.width, config.kv_width)
            self.c_v = Linear(config.width, config.kv_width)
        self.proj = Linear(config.width, config.width)
        self.q_gain = nn.Parameter(torch.full((config.heads,), config.q_gain))
        self.rotate = parts.get("model.rope_dims", rotary_norm)
        exclusive = layer >= config.layers - config.xsa_last_n
        self.attend = parts.get("model.attention", causal_attention)
        self.exclusive = parts.get("model.xsa_last_n") if exclusive else None
        mix, gate = parts.get("model.value_residual"), parts.get("model.attn_gate")
        self.vr_lambda = mix() if mix and layer else None
        self.attn_gate = gate(config) if gate else None

    def forward(
        self, n_BTC: Tensor, angles: Angles, kv: "Attention", value_embed: Tensor | None, first_v: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The layer's output, and its own values before they are mixed with the first layer's (B, T, K, D).
        `kv`: the attention that owns c_k and c_v; `value_embed`: added to the values (B, T, K * D)."""
        b, t, _ = n_BTC.shape
        q = self.c_q(n_BTC).view(b, t, self.heads, self.head_dim)
        k = kv.c_k(n_BTC).view(b, t, self.kv_heads, self.head_dim)
        v = kv.c_v(n_BTC)
        if value_embed is not None:
            v = v + value_embed
        own_v = v = v.view(b, t, self.kv_heads, self.head_dim)
        if self.vr_lambda is not None:
            v = self.vr_lambda(v, first_v)
        gain = self.q_gain * self.head_dim**-0.5  # the attention's own scale goes with the learned one
        y = self.attend(self.rotate(q, *angles) * gain.to(q.dtype)[:, None], self.rotate(k, *angles), v)
        if self.exclusive:
            y = self.exclusive(y, v)
        if self.attn_gate is not None:
            y = self.attn_gate(y, n_BTC)
        return self.proj(y.reshape(b, t, -1)), own_v


class MLP(nn.Module):
    def __init__(self, config: ModelConfig, parts: Parts) -> None:
        super().__init__()
        self.fc = Linear(config.width, config.mlp_width)
        self.proj = Linear(config.mlp_width, config.width)
        self.activation = parts.get("model.activation", relu2)

    def forward(self, x_BTC: Tensor) -> Tensor:
        return self.proj(self.activation(self.fc(x_BTC)))


class Block(nn.Module):
    def __init__(self, config: ModelConfig, layer: int, parts: Parts) -> None:
        super().__init__()
        self.attn = Attention(config, layer, parts)
        self.mlp = MLP(config, parts)
        self.norm_scale = (layer + 1) ** -0.5 if config.ln_scale else None
        self.attn_scale = nn.Parameter(torch.ones(config.width))
        self.mlp_scale = nn.Parameter(torch.ones(config.width))
        self.resid_mix = nn.Parameter(torch.stack((torch.ones(config.width), torch.zeros(config.width))))

    def normed(self, x: Tensor) -> Tensor:
        n = rms_norm(x)
        return n if self.norm_scale is None else n * self.norm_scale

    def forward(
        self,
        x: Tensor,
        x0: Tensor,
        angles: Angles,
        kv: Attention,
        value_embed: Tensor | None,
        first_v: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        mix = self.resid_mix.to(x.dtype)
        x = torch.addcmul(mix[0] * x, mix[1], x0)
        y, own_v = self.attn(self.normed(x), angles, kv, value_embed, first_v)
        x = torch.addcmul(x, self.attn_scale.to(x.dtype), y)
        return torch.addcmul(x, self.mlp_scale.to(x.dtype), self.mlp(self.normed(x))), own_v


class GPT(nn.Module):
    """ids (B, T), T at most `context`, to a loss or to logits. The first half of the blocks saves its outputs, the
    second half takes them back last in, first out; with an odd number of blocks the last one takes none."""

    def __init__(
        self, config: ModelConfig, parts: Parts, dtype: torch.dtype = torch.float32, context: int = 2048
    ) -> None:
        super().__init__()
        self.config, self.parts, self.dtype = config, parts, dtype
        self.rotary = Rotary(config, dtype, context)
        self.encoder_layers = config.layers // 2
        skips = min(self.encoder_layers, config.layers - self.encoder_layers)
        self.tok_emb = nn.Embedding(config.vocab, config.width)
        self.blocks = nn.ModuleList(Block(config, layer, parts) for layer in range(config.layers))
        self.skip_weights = nn.Parameter(torch.ones(skips, config.width))
        smear, bigram, trigram, values = (
            parts.get(f"model.{name}") for name in ("smear", "bigram_buckets", "trigram_buckets", "value_embed_width")
        )
        self.smear = smear(config) if smear else None
        self.bigram = bigram(config) if bigram else None
        self.trigram = trigram(config) if trigram else None
        self.ve_shared = values(config) if values else None
        first_with_values = config.layers - config.value_embed_last_n
        self.value_layers = range(first_with_values, config.layers) if values else range(0)
        self.ve_layer_scales = nn.ParameterList(nn.Parameter(torch.ones(())) for _ in self.value_layers)

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator) -> None:
        """Start values: normal embedding, uniform matrices (torch's default for linear layers), zero for the
        matrices that write into the residual stream; then what the parts do differently."""
        self.tok_emb.weight.normal_(0.0, self.config.embed_std, generator=generator)
        for module in self.modules():
            if isinstance(module, Linear):
                bound = module.in_features**-0.5
                module.weight.uniform_(-bound, bound, generator=generator)
        for part in ("model.embed_init", "model.matrix_init", "model.resid_mix_init"):
            if part in self.parts:
                self.parts[part](self, generator)
        for module in (self.bigram, self.trigram, self.ve_shared):
            if module is not None:
                module.init_tables(generator)
        for block in self.blocks:
            block.attn.proj.weight.zero_()
            block.mlp.proj.weight.zero_()
            if block.attn.attn_gate is not None:
                block.attn.attn_gate.init_weights(generator)

    def embed(self, ids_BT: Tensor) -> Tensor:
        """The normed input of the first block."""
        x = self.tok_emb(ids_BT).to(self.dtype)
        for hashed in (self.bigram, self.trigram):
            if hashed is not None:
                x = x + hashed(ids_BT, x.dtype)
        if self.smear is None:
            return rms_norm(x)
        if self.smear.before_norm:
            return rms_norm(self.smear(x, ids_BT))
        return self.smear(rms_norm(x), ids_BT)

    def hidden(self, ids_BT: Tensor) -> Tensor:
        """The normed output of the last block, (B, T, C)."""
        x = x0 = self.embed(ids_BT)
        values = self.ve_shared(ids_BT, x.dtype) if self.ve_shared is not None else None
        angles, first_v = self.rotary.tables(ids_BT.size(1)), None
        skips = []
        for layer, block in enumerate(self.blocks):
            if layer >= self.encoder_layers and skips:
                skip = self.skip_weights[layer - self.encoder_layers].to(x.dtype)
                x = torch.addcmul(x, skip, skips.pop())
            value_embed = None
            if layer in self.value_layers:
                value_embed = values * self.ve_layer_scales[layer - self.value_layers.start].to(x.dtype)
            x, own_v = block(x, x0, angles, self.blocks[self.config.kv_owner(layer)].attn, value_embed, first_v)
            first_v = own_v if layer == 0 else first_v
            if layer < self.encoder_layers:
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
