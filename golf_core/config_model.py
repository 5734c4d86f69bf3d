"""The network's part of the configuration. Each technique is off by default; names follow the challenge's scripts."""

from dataclasses import dataclass

from golf_core.fields import check_choices, choice, require, switch

GATE_WINDOW = 12  # channels of the residual stream that the small gates read


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network. Source: the challenge's baseline (9 layers, width 512), and its records after it."""

    vocab: int = 1024  # pieces of the tokenizer
    layers: int = 9
    width: int = 512  # residual stream
    heads: int = 8  # query heads
    kv_heads: int = 4  # key and value heads; query head h reads kv head h // (heads / kv_heads)
    mlp_ratio: float = 2.0  # hidden width of the MLP over `width`
    activation: str = choice(
        {"relu2": "golf_core.model.fused:relu2", "leaky_relu2": "golf_core.model.leaky:leaky_relu2"}, "relu2"
    )
    q_gain: float = 1.5  # start of the learned gain a head, applied to q after its norm and rotation
    softcap: float = 30.0  # logits = softcap * tanh(z / softcap)
    ln_scale: bool = False  # layer l (from 0) reads its normed input times 1 / sqrt(l + 1)

    # Rotary positions
    rope_base: float = 10000.0
    rope_static_base: float | None = None  # static NTK: this base instead, for a longer context at every length
    rope_ref_len: int | None = None  # dynamic NTK: beyond this length the base grows with the length
    rope_dims: int | None = switch("golf_core.model.partial_rope:partial_rotary_norm", None)  # None: all of a head

    # Attention
    attention: str = choice({"library": None, "flash": "golf_core.model.flash:flash_attention"}, "library")
    xsa_last_n: int = switch("golf_core.model.xsa:without_own_value", 0)  # Exclusive Self Attention, last layers
    kv_share: str = "none"  # whose c_k and c_v a layer uses: its own; "all": layer 0's; N: the last N, N layers before
    value_residual: bool = switch("golf_core.model.value_residual:ValueMix", False)  # mix in layer 0's values
    attn_gate: str = choice(
        {
            "none": None,
            "dense": "golf_core.model.attn_gate:DenseGate",
            "qwen": "golf_core.model.attn_gate:QwenGate",
            "out": "golf_core.model.attn_gate:OutGate",
            "sparse": "golf_core.model.attn_gate:SparseGate",
        },
        "none",
    )
    attn_gate_scale: float = 1.0  # of the sparse gate's pre-activation

    # Around the token embedding
    smear: str = choice(
        {"none": None, "v1": "golf_core.model.smear:ChannelSmear", "v2": "golf_core.model.smear:TokenSmear"}, "none"
    )
    smear_bos_mask: bool = True  # a document's first token takes nothing of the document before
    bigram_buckets: int = switch("golf_core.model.hash_embed:BigramHash", 0)
    bigram_width: int = 128
    trigram_buckets: int = switch("golf_core.model.hash_embed:TrigramHash", 0)
    trigram_width: int = 64
    value_embed_width: int = switch("golf_core.model.value_embed:ValueEmbedding", 0)
    value_embed_last_n: int = 2  # layers whose values it is added to

    # Start values
    embed_std: float = 0.005  # of the tied embedding, normal
    embed_init: str = choice({"normal": None, "overtone": "golf_core.model.init:overtone_spectrum"}, "normal")
    matrix_init: str = choice({"uniform": None, "orthogonal": "golf_core.model.init:orthogonal_matrices"}, "uniform")
    resid_mix_init: str = choice({"plain": None, "phase": "golf_core.model.init:phase_resid_mix"}, "plain")

    def __post_init__(self) -> None:
        check_choices(self, "model.")
        for name in ("vocab", "layers", "width", "heads", "kv_heads"):
            require(getattr(self, name) > 0, f"model.{name}={getattr(self, name)} must be positive")
        require(self.width % self.heads == 0, f"model.width={self.width} is not a multiple of model.heads={self.heads}")
        require(
            self.heads % self.kv_heads == 0,
            f"model.heads={self.heads} is not a multiple of model.kv_heads={self.kv_heads}",
        )
        require(self.width >= GATE_WINDOW, f"model.width={self.width} must be at least {GATE_WINDOW}")
        require(self.head_dim % 2 == 0, f"model.width/heads={self.head_dim} must be even for rotary positions")
        require(
            self.mlp_width > 0, f"model.mlp_ratio={self.mlp_ratio} of model.width={self.width} leaves no hidden channel"
        )
        require(self.vocab <= 65536, f"model.vocab={self.vocab} is more than a shard's 16 bits hold (65536)")
        # Up to 80 exp(logit) fits in fp32 without a shift, which the loss on CPUs relies on.
        require(0 < self.softcap <= 80, f"model.softcap={self.softcap} must be above 0 and at most 80")
        self._check_positions()
        self._check_attention()
        self._check_embeddings()

    def _check_positions(self) -> None:
        require(self.rope_base > 1, f"model.rope_base={self.rope_base} must be above 1")
        require(
            self.rope_static_base is None or self.rope_ref_len is None,
            f"model.rope_static_base={self.rope_static_base} (static NTK) and model.rope_ref_len={self.rope_ref_len} "
            f"(dynamic NTK) would scale the rotation twice; set one of them to none",
        )
        require(
            self.rope_static_base is None or self.rope_static_base > 1,
            f"model.rope_static_base={self.rope_static_base} must be above 1, or none",
        )
        require(
            self.rope_ref_len is None or self.rope_ref_len > 0,
            f"model.rope_ref_len={self.rope_ref_len} must be a positive length, or none",
        )
        require(
            self.rope_dims is None or (0 < self.rope_dims <= self.head_dim and self.rope_dims % 2 == 0),
            f"model.rope_dims={self.rope_dims} must be even, above 0 and at most model.width/heads={self.head_dim}",
        )
        require(
            self.rope_ref_len is None or self.rotary_dims > 2,
            f"model.rope_ref_len={self.rope_ref_len} (dynamic NTK) needs more than 2 rotary dims, "
            f"not model.rope_dims={self.rope_dims}",
        )

    def _check_attention(self) -> None:
        require(
            0 <= self.xsa_last_n <= self.layers,
            f"model.xsa_last_n={self.xsa_last_n} must be 0 to model.layers={self.layers}",
        )
        require(
            self.kv_share in ("none", "all") or (self.kv_share.isdecimal() and int(self.kv_share) > 0),
            f"model.kv_share={self.kv_share!r} must be none, all, or a number of layers",
        )
        if self.kv_share.isdecimal():
            require(
                2 * int(self.kv_share) <= self.layers,
                f"model.kv_share={self.kv_share}: each of the last {self.kv_share} layers uses the keys and values of "
                f"the layer {self.kv_share} before it, which model.layers={self.layers} does not have; "
                f"at most {self.layers // 2}, or all",
            )
        require(self.attn_gate_scale > 0, f"model.attn_gate_scale={self.attn_gate_scale} must be positive")
        require(
            self.attn_gate_scale == 1.0 or self.attn_gate == "sparse",
            f"model.attn_gate_scale={self.attn_gate_scale} belongs to model.attn_gate='sparse', not {self.attn_gate!r}",
        )

    def _check_embeddings(self) -> None:
        for name in ("bigram", "trigram"):
            buckets, width = getattr(self, f"{name}_buckets"), getattr(self, f"{name}_width")
            require(
                buckets == 0 or buckets >= 2,
                f"model.{name}_buckets={buckets} must be 0 (off) or at least 2: one is kept for the first positions",
            )
            require(width > 0, f"model.{name}_width={width} must be positive")
        require(self.value_embed_width >= 0, f"model.value_embed_width={self.value_embed_width} must not be negative")
        require(
            0 < self.value_embed_last_n <= self.layers or not self.value_embed_width,
            f"model.value_embed_last_n={self.value_embed_last_n} must be 1 to model.layers={self.layers}",
        )
        require(self.embed_std > 0, f"model.embed_std={self.embed_std} must be positive")

    @property
    def head_dim(self) -> int:
        return self.width // self.heads

    @property
    def kv_width(self) -> int:
        return self.kv_heads * self.head_dim

    @property
    def mlp_width(self) -> int:
        return int(self.width * self.mlp_ratio)

    @property
    def rotary_dims(self) -> int:
        """Channels of a head that turn with the position."""
        return self.rope_dims or self.head_dim

    def kv_owner(self, layer: int) -> int:
        """The layer whose c_k and c_v `layer` uses."""
        if self.kv_share == "all":
            return 0
        if self.kv_share != "none" and layer >= self.layers - int(self.kv_share):
            return layer - int(self.kv_share)
        return layer
