"""The part of the configuration that rounds weights: for export, and during training in its image."""

from dataclasses import dataclass

from golf_core.fields import check_choices, choice, require, switch

GRID_BITS = (4, 5, 6, 7, 8)


@dataclass(frozen=True, kw_only=True)
class QuantConfig:
    """Integer grids for the shipped weights: a scale for every `group_rows` rows, bits by a tensor's role."""

    attn_bits: int = 8
    mlp_bits: int = 8
    embed_bits: int = 8  # the tied embedding; 16: kept as fp16
    table_bits: int = 8  # tables of hash and value embeddings, and their projections; 16: kept as fp16
    edge_layers: int = 0  # this many layers at either end use `edge_bits` for attention and MLP
    edge_bits: int = 8
    symmetric: bool = True  # codes -top..top; else one more below, which a clip under the maximum can use
    group_rows: int = 1  # rows that share a scale
    nibbles: bool = switch("golf_core.quant.nibbles:Nibbles", False)  # store int4 codes two a byte
    prune_fraction: float = switch("golf_core.quant.prune:zero_smallest", 0.0)  # of each matrix, before rounding

    # What a row's largest code stands for
    clip: str = choice(
        {
            "quantile": "golf_core.quant.clip:quantile_clip",
            "max": "golf_core.quant.clip:max_clip",
            "percentile_search": "golf_core.quant.clip_search:percentile_search_clip",
            "ratio_search": "golf_core.quant.clip_search:ratio_search_clip",
            "sd": "golf_core.quant.clip:sd_clip",
        },
        "quantile",
    )  # the searches are "GPTQ-lite": of a few clips the one with the least squared error
    clip_quantile: float = 0.9999984  # of |w| in a row; 1.0 is the row's maximum
    clip_select: str = "row"  # the searches choose one for each row, or one for the whole matrix
    sd_matrix: float = 12.85  # sd: clip = this many standard deviations of the row
    sd_embed: float = 20.0

    # How a weight is rounded
    rounding: str = choice({"nearest": None, "gptq": "golf_core.quant.gptq:gptq_codes"}, "nearest")
    calibration: str = choice(
        {
            "none": None,
            "train": "golf_core.quant.calibrate:train_calibration",
            "self": "golf_core.quant.calibrate:self_calibration",
        },
        "none",
    )  # inputs for gptq: training batches, inside the training budget, or text that the model writes itself
    calibration_seqs: int = 64
    calibration_seconds: float = 8.0  # train: kept free of the training budget
    gptq_damp: float = 0.01

    # What is not rounded
    keep_numel: int = 65_536  # tensors of at most this many elements are kept as fp16
    keep_fp16: str = ""  # parts of names, separated by commas: these tensors are kept as fp16
    scale_floor: float = 1e-10
    legacy_scale_floor: bool = False  # scale >= 1/top, as the challenge's early scripts have it; ruins small weights

    def __post_init__(self) -> None:
        check_choices(self, "quant.")
        for name in ("attn_bits", "mlp_bits", "edge_bits"):
            require(
                getattr(self, name) in GRID_BITS, f"quant.{name}={getattr(self, name)}: there are {list(GRID_BITS)}"
            )
        for name in ("embed_bits", "table_bits"):
            allowed = (*GRID_BITS, 16)
            require(getattr(self, name) in allowed, f"quant.{name}={getattr(self, name)}: there are {list(allowed)}")
        require(self.edge_layers >= 0, f"quant.edge_layers={self.edge_layers} must not be negative")
        require(self.group_rows > 0, f"quant.group_rows={self.group_rows} must be positive")
        bits = {f"quant.{role}_bits": getattr(self, f"{role}_bits") for role in ("attn", "mlp", "embed", "table")}
        bits |= {"quant.edge_bits": self.edge_bits} if self.edge_layers else {}
        require(
            not self.nibbles or 4 in bits.values(),
            f"quant.nibbles=true packs 4-bit codes, but there is {', '.join(f'{k}={v}' for k, v in bits.items())}",
        )
        require(
            not self.prune_fraction or self.rounding == "nearest",
            f"quant.prune_fraction={self.prune_fraction} and quant.rounding={self.rounding!r} contradict each other: "
            f"gptq moves weights that were pruned; artifact.target_bytes prunes after rounding",
        )
        require(0 <= self.prune_fraction < 1, f"quant.prune_fraction={self.prune_fraction} must be in [0, 1)")
        require(0.5 < self.clip_quantile <= 1, f"quant.clip_quantile={self.clip_quantile} must be in (0.5, 1]")
        require(
            self.clip_select in ("row", "matrix"),
            f"quant.clip_select={self.clip_select!r} is not known; there are row, matrix",
        )
        require(self.sd_matrix > 0 and self.sd_embed > 0, "quant.sd_matrix and quant.sd_embed must be positive")
        require(
            (self.rounding == "gptq") == (self.calibration != "none"),
            f"quant.rounding={self.rounding!r} and quant.calibration={self.calibration!r} contradict each other: "
            f"gptq needs train or self, nearest needs none",
        )
        require(
            self.group_rows == 1 or self.rounding == "nearest",
            f"quant.group_rows={self.group_rows} is not built for quant.rounding={self.rounding!r}; use 1 or nearest",
        )
        require(self.calibration_seqs > 0, f"quant.calibration_seqs={self.calibration_seqs} must be positive")
        require(self.calibration_seconds >= 0, "quant.calibration_seconds must not be negative")
        require(self.gptq_damp > 0, f"quant.gptq_damp={self.gptq_damp} must be positive")
        require(self.keep_numel >= 0 and self.scale_floor > 0, "quant.keep_numel >= 0 and quant.scale_floor > 0")

    @property
    def kept_names(self) -> tuple[str, ...]:
        return tuple(part.strip() for part in self.keep_fp16.split(",") if part.strip())


@dataclass(frozen=True, kw_only=True)
class QATConfig:
    """Training with the weights as they will be shipped: each step's gradient is taken at the rounded weights and
    moves the exact ones (straight-through). Only tensors that export rounds are touched."""

    kind: str = choice({"none": None, "swap": "golf_core.quant.qat:WeightSwap"}, "none")
    tensors: str = "all"  # all that export puts on a grid; "matrices": attention and MLP; "mlp"
    start: str = (
        "begin"  # or "steps", "time": once `at` of the iterations, or of the seconds, is used; "scale": once the
    )
    at: float = 0.0  # learning rate's multiplier is below `at`. Without a cap on seconds, "time" counts iterations
    clip: str = "export"  # the export's clip rule, or "max": the row's maximum

    def __post_init__(self) -> None:
        check_choices(self, "qat.")
        for name, allowed in (
            ("tensors", ("all", "matrices", "mlp")),
            ("start", ("begin", "steps", "time", "scale")),
            ("clip", ("export", "max")),
        ):
            require(
                getattr(self, name) in allowed,
                f"qat.{name}={getattr(self, name)!r} is not known; there are {', '.join(allowed)}",
            )
        require(0 <= self.at <= 1, f"qat.at={self.at} must be in [0, 1]")
