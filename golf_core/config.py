"""Configuration: frozen data that checks itself. It is part of every bundle; config_io.py reads and overrides it.

A config says everything a run does except its seed and where its data lies. A field whose value names an
implementation carries the places of all of them in its metadata (see `choice`), so that the bundle can
contain just the one in use. No torch here: the command line reads this module.
"""

import difflib
import re
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass


class ConfigError(ValueError):
    """A config value that cannot be: the message holds the value, its place and what would do."""


def choice(options: Mapping[str, str | None], default: str) -> typing.Any:
    """A field that names one implementation: `options` maps each name to `module:symbol`, or to None for nothing."""
    return field(default=default, metadata={"parts": dict(options)})


def require(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigError(message)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network. Source: the challenge's baseline (9 layers, width 512)."""

    vocab: int = 1024  # pieces of the tokenizer
    layers: int = 9
    width: int = 512  # residual stream
    heads: int = 8  # query heads
    kv_heads: int = 4  # key and value heads; query head h reads kv head h // (heads / kv_heads)
    mlp_ratio: float = 2.0  # hidden width of the MLP over `width`
    rope_base: float = 10000.0
    q_gain: float = 1.5  # start of the learned gain a head, applied to q after its norm and rotation
    softcap: float = 30.0  # logits = softcap * tanh(z / softcap)
    embed_std: float = 0.005  # start of the tied embedding, normal

    def __post_init__(self) -> None:
        for name in ("vocab", "layers", "width", "heads", "kv_heads"):
            require(getattr(self, name) > 0, f"model.{name}={getattr(self, name)} must be positive")
        require(self.width % self.heads == 0, f"model.width={self.width} is not a multiple of model.heads={self.heads}")
        require(
            self.heads % self.kv_heads == 0,
            f"model.heads={self.heads} is not a multiple of model.kv_heads={self.kv_heads}",
        )
        require(self.head_dim % 2 == 0, f"model.width/heads={self.head_dim} must be even for rotary positions")
        require(self.mlp_ratio > 0, f"model.mlp_ratio={self.mlp_ratio} must be positive")
        require(self.vocab <= 65536, f"model.vocab={self.vocab} is more than a shard's 16 bits hold (65536)")
        # Up to 80 exp(logit) fits in fp32 without a shift, which the loss on CPUs relies on.
        require(0 < self.softcap <= 80, f"model.softcap={self.softcap} must be above 0 and at most 80")
        require(self.rope_base > 1, f"model.rope_base={self.rope_base} must be above 1")

    @property
    def head_dim(self) -> int:
        return self.width // self.heads

    @property
    def mlp_width(self) -> int:
        return int(self.width * self.mlp_ratio)


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Muon for matrices, Adam for the embedding and for vectors. Learning rates are those before the schedule."""

    matrix_lr: float = 0.04
    scalar_lr: float = 0.04
    embed_lr: float = 0.05
    momentum: float = 0.95
    momentum_start: float = 0.85  # reaches `momentum` linearly over `momentum_steps`
    momentum_steps: int = 500
    newton_schulz_steps: int = 5
    matrix_decay: float = 0.0  # decoupled, multiplied by the scheduled learning rate
    adam_decay: float = 0.0  # likewise
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    grad_clip: float = 0.0  # global norm; 0 is off

    def __post_init__(self) -> None:
        for name in ("matrix_lr", "scalar_lr", "embed_lr", "matrix_decay", "adam_decay", "grad_clip"):
            require(getattr(self, name) >= 0, f"optim.{name}={getattr(self, name)} must not be negative")
        for name in ("momentum", "momentum_start", "beta1", "beta2"):
            require(0 <= getattr(self, name) < 1, f"optim.{name}={getattr(self, name)} must be in [0, 1)")
        require(self.newton_schulz_steps > 0, "optim.newton_schulz_steps must be positive")
        require(self.momentum_steps >= 0, f"optim.momentum_steps={self.momentum_steps} must not be negative")
        require(self.eps > 0, f"optim.eps={self.eps} must be positive")


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """How the learning rate falls. `iterations`: the last `warmdown_iterations` steps, or what is left of the
    time at the present rate; `fraction`: the last `warmdown_fraction` of the time cap, or of the steps."""

    kind: str = "iterations"
    warmdown_iterations: int = 1200
    warmdown_fraction: float = 0.4
    min_scale: float = 0.0  # floor of the multiplier

    def __post_init__(self) -> None:
        require(
            self.kind in ("iterations", "fraction"),
            f"schedule.kind={self.kind!r} is not known; there are 'iterations' and 'fraction'",
        )
        require(self.warmdown_iterations >= 0, "schedule.warmdown_iterations must not be negative")
        require(0 <= self.warmdown_fraction <= 1, "schedule.warmdown_fraction must be in [0, 1]")
        require(0 <= self.min_scale <= 1, "schedule.min_scale must be in [0, 1]")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    iterations: int = 20000
    max_seconds: float | None = 600.0  # of training by the trainer's own clock; None: steps alone decide
    batch_tokens: int = 524_288  # of one optimizer step, over all processes
    micro_batches: int = 8  # pieces of a step over all processes; each process takes micro_batches / processes
    seq_len: int = 1024
    warmup_steps: int = 20  # compile everything, then put weights, optimizer and loader back
    val_every: int = 0  # steps; 0: only after the last
    log_every: int = 50  # steps
    compile: bool = True  # torch.compile, where the device is a GPU

    def __post_init__(self) -> None:
        for name in ("iterations", "batch_tokens", "micro_batches", "seq_len", "log_every"):
            require(getattr(self, name) > 0, f"train.{name}={getattr(self, name)} must be positive")
        piece = self.seq_len * self.micro_batches
        require(
            self.batch_tokens % piece == 0,
            f"train.batch_tokens={self.batch_tokens} is not a multiple of "
            f"train.seq_len * train.micro_batches = {self.seq_len} * {self.micro_batches} = {piece}",
        )
        require(
            self.max_seconds is None or self.max_seconds > 0,
            f"train.max_seconds={self.max_seconds} must be positive, or null for no time cap",
        )
        require(self.warmup_steps >= 0 and self.val_every >= 0, "train.warmup_steps and val_every must not be negative")


@dataclass(frozen=True, kw_only=True)
class AverageConfig:
    """What is shipped: the last weights, or their exponential average over the steps."""

    kind: str = choice({"none": None, "ema": "golf_core.optim.ema:Ema"}, "none")
    decay: float = 0.997

    def __post_init__(self) -> None:
        require(0 <= self.decay < 1, f"average.decay={self.decay} must be in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class QuantConfig:
    """Row-wise symmetric grids for the shipped weights."""

    matrix_bits: int = 8  # attention and MLP matrices
    embed_bits: int = 8  # 16: kept as fp16
    clip_quantile: float = 0.9999984  # of |w| in a row; 1.0 is the row's maximum
    keep_numel: int = 65_536  # tensors of at most this many elements are kept as fp16
    scale_floor: float = 1e-10

    def __post_init__(self) -> None:
        for name, allowed in (("matrix_bits", (4, 5, 6, 7, 8)), ("embed_bits", (4, 5, 6, 7, 8, 16))):
            require(getattr(self, name) in allowed, f"quant.{name}={getattr(self, name)}: there are {list(allowed)}")
        require(0.5 < self.clip_quantile <= 1, f"quant.clip_quantile={self.clip_quantile} must be in (0.5, 1]")
        require(self.keep_numel >= 0 and self.scale_floor > 0, "quant.keep_numel >= 0 and quant.scale_floor > 0")


@dataclass(frozen=True, kw_only=True)
class ArtifactConfig:
    codec: str = choice(
        {
            "zlib": "golf_core.artifact.zlib_codec:ZlibCodec",
            "zstd": "golf_core.artifact.zstd_codec:ZstdCodec",
            "lzma": "golf_core.artifact.lzma_codec:LzmaCodec",
            "brotli": "golf_core.artifact.brotli_codec:BrotliCodec",
        },
        "zlib",
    )
    level: int | None = None  # None: the codec's strongest

    def __post_init__(self) -> None:
        low, high = {"zlib": (0, 9), "zstd": (1, 22), "lzma": (0, 9), "brotli": (0, 11)}.get(self.codec, (0, 22))
        require(
            self.level is None or low <= self.level <= high,
            f"artifact.level={self.level} must be {low} to {high} for {self.codec}",
        )


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Windows of `seq_len`, every `stride` targets; each target is scored once, with at least
    seq_len - stride tokens of context after the first window. stride = seq_len is the plain evaluation."""

    seq_len: int = 1024
    stride: int = 1024
    batch_seqs: int = 64  # windows in one forward pass of one process

    def __post_init__(self) -> None:
        require(self.seq_len > 0 and self.batch_seqs > 0, "evaluate.seq_len and evaluate.batch_seqs must be positive")
        require(
            0 < self.stride <= self.seq_len,
            f"evaluate.stride={self.stride} must be between 1 and evaluate.seq_len={self.seq_len}",
        )


@dataclass(frozen=True, kw_only=True)
class TTTConfig:
    """Legal test-time training: score a chunk, commit the scores, then learn from it."""

    kind: str = choice({"none": None, "chunk": "golf_core.evaluate.chunk_ttt:evaluate_chunk_ttt"}, "none")
    chunk_tokens: int = 32_768
    lr: float = 0.002  # SGD; falls by a cosine over the chunks
    momentum: float = 0.9
    epochs: int = 3  # over each chunk, once it is scored
    batch_seqs: int = 32  # of evaluate.seq_len tokens, over all processes
    grad_clip: float = 1.0
    freeze_blocks: int = 0  # the first blocks that do not learn

    def __post_init__(self) -> None:
        for name in ("chunk_tokens", "batch_seqs"):
            require(getattr(self, name) > 0, f"ttt.{name}={getattr(self, name)} must be positive")
        for name in ("lr", "epochs", "grad_clip", "freeze_blocks"):
            require(getattr(self, name) >= 0, f"ttt.{name}={getattr(self, name)} must not be negative")
        require(0 <= self.momentum < 1, f"ttt.momentum={self.momentum} must be in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run, but for its seed and its data. `seed`, data and tokenizer come from the environment."""

    name: str
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    average: AverageConfig = field(default_factory=AverageConfig)
    quant: QuantConfig = field(default_factory=QuantConfig)
    artifact: ArtifactConfig = field(default_factory=ArtifactConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    ttt: TTTConfig = field(default_factory=TTTConfig)
    ship: str = "readable"

    def __post_init__(self) -> None:
        require(
            re.fullmatch(r"[A-Za-z0-9][\w.-]*", self.name) is not None,
            f"name={self.name!r} must be letters, digits, '_', '.' and '-', and start with a letter or digit",
        )
        require(self.ship == "readable", f"ship={self.ship!r} is not known; there is 'readable'")
        for path, value, options in chosen_parts(self):
            if value not in options:
                raise ConfigError(f"{path}={value!r} is not known; {nearest(value, options)}")


def nearest(name: str, names: Iterable[str]) -> str:
    """The end of an error message about an unknown name: the likeliest meant, and all there are."""
    known = sorted(names)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}there are {', '.join(known)}"


def chosen_parts(config: typing.Any, prefix: str = "") -> Iterator[tuple[str, str, dict[str, str | None]]]:
    """(path, chosen name, all options) of every field made by `choice`, in order of definition."""
    for f in fields(config):
        value = getattr(config, f.name)
        if "parts" in f.metadata:
            yield prefix + f.name, value, f.metadata["parts"]
        elif is_dataclass(value):
            yield from chosen_parts(value, f"{prefix}{f.name}.")
