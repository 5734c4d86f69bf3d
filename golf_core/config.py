"""Configuration: frozen data that checks itself. It is part of every bundle; config_io.py reads and overrides it.

A config says everything a run does except its seed and where its data lies. No torch here: the command line
reads this module.
"""

import re
from dataclasses import dataclass, field

from golf_core.config_model import ModelConfig
from golf_core.config_quant import QATConfig, QuantConfig
from golf_core.fields import check_choices, choice, require, switch


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Muon for matrices, Adam for the embedding and for vectors. Learning rates are those before the schedule."""

    muon: str = choice(
        {"plain": "golf_core.optim.muon:Muon", "parallel": "golf_core.optim.parallel_muon:ParallelMuon"}, "plain"
    )  # parallel: gradients reduce-scattered, each process orthogonalizes its share of every bank of matrices
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
    hash_proj: str = "adam"  # who trains the projections of the hash embeddings: adam or muon

    def __post_init__(self) -> None:
        check_choices(self, "optim.")
        for name in ("matrix_lr", "scalar_lr", "embed_lr", "matrix_decay", "adam_decay", "grad_clip"):
            require(getattr(self, name) >= 0, f"optim.{name}={getattr(self, name)} must not be negative")
        for name in ("momentum", "momentum_start", "beta1", "beta2"):
            require(0 <= getattr(self, name) < 1, f"optim.{name}={getattr(self, name)} must be in [0, 1)")
        require(self.newton_schulz_steps > 0, "optim.newton_schulz_steps must be positive")
        require(self.momentum_steps >= 0, f"optim.momentum_steps={self.momentum_steps} must not be negative")
        require(self.eps > 0, f"optim.eps={self.eps} must be positive")
        require(
            self.hash_proj in ("adam", "muon"),
            f"optim.hash_proj={self.hash_proj!r} is not known; there are adam, muon",
        )


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
    loader: str = choice(
        {
            "stream": "golf_core.data.loader:TrainLoader",
            "coprime": "golf_core.data.coprime_loader:CoprimeLoader",
        },
        "stream",
    )  # stream: shards one after another; coprime: blocks of many shards, each once before any comes again
    warmup_steps: int = 20  # compile everything, then put weights, optimizer and loader back
    val_every: int = 0  # steps; 0: only after the last
    log_every: int = 50  # steps
    compile: bool = True  # torch.compile, where the device is a GPU

    def __post_init__(self) -> None:
        check_choices(self, "train.")
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
    """What is shipped: the last weights, their exponential average, or a mean of some of them.

    `swa`: every `swa_every` steps while the learning rate's multiplier is below `swa_below`. `checkpoints`:
    number j of n is taken when the multiplier first falls to 1 - j/(n + 1), but not before `guard` of the
    budget is used; the last weights are one more.
    """

    kind: str = choice(
        {
            "none": None,
            "ema": "golf_core.optim.ema:Ema",
            "swa": "golf_core.optim.swa:PeriodicMean",
            "checkpoints": "golf_core.optim.swa:CheckpointMean",
        },
        "none",
    )
    decay: float = 0.997
    start: str = "begin"  # of the exponential average: "begin", or "warmdown", when the learning rate begins to fall
    swa_below: float = 0.2
    swa_every: int = 50
    checkpoints: int = 7
    guard: float = 0.5

    def __post_init__(self) -> None:
        check_choices(self, "average.")
        require(0 <= self.decay < 1, f"average.decay={self.decay} must be in [0, 1)")
        require(
            self.start in ("begin", "warmdown"),
            f"average.start={self.start!r} is not known; there are begin, warmdown",
        )
        require(0 < self.swa_below <= 1, f"average.swa_below={self.swa_below} must be in (0, 1]")
        for name in ("swa_every", "checkpoints"):
            require(getattr(self, name) > 0, f"average.{name}={getattr(self, name)} must be positive")
        require(0 <= self.guard < 1, f"average.guard={self.guard} must be in [0, 1)")


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
    target_bytes: int | None = switch("golf_core.artifact.budget:prune_to_budget", None)  # code + weights, decimal

    def __post_init__(self) -> None:
        check_choices(self, "artifact.")
        low, high = {"zlib": (0, 9), "zstd": (1, 22), "lzma": (0, 9), "brotli": (0, 11)}.get(self.codec, (0, 22))
        require(
            self.level is None or low <= self.level <= high,
            f"artifact.level={self.level} must be {low} to {high} for {self.codec}",
        )
        require(
            self.target_bytes is None or self.target_bytes > 0,
            f"artifact.target_bytes={self.target_bytes} must be positive, or none",
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
    """Learning while the validation text is scored.

    `chunk`: score a chunk, commit the scores, then learn from it: all weights, SGD. `lora`: the same a document,
    with low-rank additions of its own, Adam; forgotten at its end. `phased`: that, longest documents first, and at
    given points all weights learn from documents scored whole. `unscored`: learns from text that it has not scored
    yet, for a look at what that would do; it needs `diagnostic_only`.
    """

    kind: str = choice(
        {
            "none": None,
            "chunk": "golf_core.evaluate.chunk_ttt:evaluate_chunk_ttt",
            "lora": "golf_core.evaluate.lora_ttt:evaluate_lora_ttt",
            "phased": "golf_core.evaluate.phased_ttt:evaluate_phased_ttt",
            "unscored": "golf_core.evaluate.unscored_ttt:evaluate_unscored_ttt",
        },
        "none",
    )
    # chunk; of phased too, but for lr and epochs
    chunk_tokens: int = 32_768  # targets scored before they are learned from; of phased: that one rate holds for
    lr: float = 0.002  # SGD, falls by a cosine over the chunks
    momentum: float = 0.9
    epochs: int = 3  # over each chunk, once it is scored
    batch_seqs: int = 32  # sequences of evaluate.seq_len tokens a step over all processes; of unscored too
    grad_clip: float = 1.0  # of unscored too
    freeze_blocks: int = 0  # the first blocks that do not learn

    # lora; of phased too
    lora_chunk_tokens: int = 256  # targets of a document scored before they are learned from
    lora_lr: float = 0.01  # Adam, constant
    lora_rank: int = 8
    lora_documents: int = 64  # in a batch

    # phased
    phased_documents: int = 2500  # the longest ones, from which all weights learn
    phases: int = 3  # points at which they do, after equal shares of these documents
    phased_lr: float = 0.001  # SGD, falls by a cosine in each pass

    # unscored
    unscored_lr: float = 5e-4  # AdamW, falls by a cosine over the steps
    unscored_epochs: int = 30

    def __post_init__(self) -> None:
        check_choices(self, "ttt.")
        positive = ("chunk_tokens", "batch_seqs", "lora_chunk_tokens", "lora_rank", "lora_documents")
        for name in (*positive, "phased_documents", "phases"):
            require(getattr(self, name) > 0, f"ttt.{name}={getattr(self, name)} must be positive")
        rates = ("lr", "lora_lr", "phased_lr", "unscored_lr")
        for name in (*rates, "epochs", "grad_clip", "freeze_blocks", "unscored_epochs"):
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
    qat: QATConfig = field(default_factory=QATConfig)
    average: AverageConfig = field(default_factory=AverageConfig)
    quant: QuantConfig = field(default_factory=QuantConfig)
    artifact: ArtifactConfig = field(default_factory=ArtifactConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    ttt: TTTConfig = field(default_factory=TTTConfig)
    diagnostic_only: bool = False  # its scores are no scores: every output says so, and nothing can be submitted
    ship: str = "readable"  # the form in which the bundle runs, is counted and is submitted: readable or packed

    def __post_init__(self) -> None:
        require(
            re.fullmatch(r"[A-Za-z0-9][\w.-]*", self.name) is not None,
            f"name={self.name!r} must be letters, digits, '_', '.' and '-', and start with a letter or digit",
        )
        require(
            self.ship in ("readable", "packed"), f"ship={self.ship!r} is not known; there are 'readable' and 'packed'"
        )
        require(
            self.ttt.kind != "unscored" or self.diagnostic_only,
            "ttt.kind='unscored' learns from targets before they are scored, outside of the score ledger; "
            "it needs diagnostic_only=true, and then nothing of the run can be submitted",
        )
        require(
            self.ttt.kind not in ("lora", "phased") or self.ttt.lora_chunk_tokens <= self.evaluate.seq_len,
            f"ttt.lora_chunk_tokens={self.ttt.lora_chunk_tokens} is more than evaluate.seq_len="
            f"{self.evaluate.seq_len}, the window in which a chunk of a document is scored",
        )
        require(
            self.ttt.kind not in ("chunk", "phased") or self.ttt.freeze_blocks <= self.model.layers,
            f"ttt.freeze_blocks={self.ttt.freeze_blocks} is more than model.layers={self.model.layers}",
        )
        self._check_starts()
        require(
            self.quant.edge_layers == 0 or 2 * self.quant.edge_layers < self.model.layers,
            f"quant.edge_layers={self.quant.edge_layers} at either end leaves none of model.layers={self.model.layers}",
        )
        require(
            self.quant.calibration != "train"
            or self.train.max_seconds is None
            or self.quant.calibration_seconds < self.train.max_seconds,
            f"quant.calibration_seconds={self.quant.calibration_seconds} leaves nothing of "
            f"train.max_seconds={self.train.max_seconds}",
        )

    def _check_starts(self) -> None:
        """Refuse what waits for the learning rate to fall lower than it ever does."""
        low = self.schedule.min_scale
        require(
            self.qat.kind == "none" or self.qat.start != "scale" or self.qat.at > low,
            f"qat.start='scale' with qat.at={self.qat.at} never starts: the learning rate's multiplier does not fall "
            f"below schedule.min_scale={low}; set qat.at above it",
        )
        require(
            self.average.kind != "swa" or self.average.swa_below > low,
            f"average.swa_below={self.average.swa_below} never holds: the learning rate's multiplier does not fall "
            f"below schedule.min_scale={low}",
        )
