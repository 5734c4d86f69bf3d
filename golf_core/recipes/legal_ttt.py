"""The strongest recipe of openai/parameter-golf #347: 11 layers, int6, legal test-time training; its experiments."""

from dataclasses import replace

from golf_core.config import (
    ArtifactConfig,
    AverageConfig,
    Config,
    EvaluateConfig,
    OptimConfig,
    ScheduleConfig,
    TrainConfig,
    TTTConfig,
)
from golf_core.config_model import ModelConfig
from golf_core.config_quant import QATConfig, QuantConfig
from golf_core.recipes.baseline import RECORD_COMMAND
from golf_core.recipes.recipe import Grid, Published, Recipe

SOURCE = "openai/parameter-golf #347, final state; its base is #549"


def legal_ttt() -> Recipe:
    """26,928,220 parameters. What a rented 8xH100 runs if nothing else is asked for."""
    return Recipe(
        config=Config(
            name="legal_ttt",
            model=ModelConfig(
                layers=11,
                mlp_ratio=3.0,
                activation="leaky_relu2",
                ln_scale=True,
                rope_dims=16,
                rope_ref_len=1024,
                xsa_last_n=4,
                smear="v1",
                bigram_buckets=1536,
                bigram_width=128,
                value_embed_width=128,
                value_embed_last_n=2,
                matrix_init="orthogonal",
            ),
            optim=OptimConfig(
                muon="parallel",
                matrix_lr=0.025,
                scalar_lr=0.025,
                embed_lr=0.035,
                momentum=0.99,
                momentum_start=0.92,
                momentum_steps=1500,
                matrix_decay=0.04,
                adam_decay=0.04,
                grad_clip=0.3,
            ),
            schedule=ScheduleConfig(kind="iterations", warmdown_iterations=3500),
            train=TrainConfig(iterations=9000, batch_tokens=786_432, seq_len=2048, val_every=4000, log_every=500),
            qat=QATConfig(kind="swap", tensors="matrices", start="scale", at=0.15, clip="max"),
            average=AverageConfig(kind="ema", decay=0.997),
            quant=QuantConfig(
                attn_bits=6, mlp_bits=6, clip="percentile_search", clip_select="matrix", legacy_scale_floor=True
            ),
            artifact=ArtifactConfig(codec="lzma", level=9, target_bytes=15_950_000),
            evaluate=EvaluateConfig(seq_len=2048, stride=64, batch_seqs=32),
            ttt=TTTConfig(kind="chunk", chunk_tokens=32_768, lr=0.002, epochs=3, batch_seqs=32),
            ship="packed",
        ),
        summary="11 layers, int6 and lzma, EMA, parallel Muon, score-first test-time training: the record of its week.",
        source=SOURCE,
        command=RECORD_COMMAND.format(name="legal_ttt"),
        expects="7,155 steps of 83.9 ms on 8xH100 SXM, 15.85 MB (published; not run on GPUs here)",
        target="H100:8",
        published=Published(
            value=1.11927, status="measured", source=f"{SOURCE}: mean of seeds 1337, 42, 2025", step_ms=83.9
        ),
    )


def full_sota_4096() -> Grid:
    """The experiments on the way to `legal_ttt`."""
    base = legal_ttt().config
    long = replace(
        base,
        train=replace(base.train, seq_len=4096),
        evaluate=replace(base.evaluate, seq_len=4096, batch_seqs=16),
    )
    # The source's early quantization-aware training of int4 reached only matrices that ship as fp16: none, in effect.
    int4 = {
        "quant": QuantConfig(attn_bits=4, mlp_bits=4, embed_bits=16, clip="max", symmetric=False, nibbles=True),
        "qat": QATConfig(),
        "ttt": TTTConfig(),
    }
    layers16 = replace(base.model, layers=16, mlp_ratio=2.0)
    short = replace(
        base,
        train=replace(base.train, seq_len=1024),
        evaluate=replace(base.evaluate, seq_len=1024, batch_seqs=64),
    )
    gated = replace(base.model, attn_gate="dense", value_residual=True, bigram_buckets=2048)
    from_start = QATConfig(kind="swap", tensors="matrices", start="begin", clip="max")
    banks = QATConfig(kind="swap", tensors="matrices", start="scale", at=0.15)
    variants = [
        ("base", long, "the base at 4,096 tokens"),
        ("int4_16l_1024", replace(short, model=layers16, **int4), "16 layers in int4 at 1,024 tokens"),
        ("int4_16l_4096", replace(long, model=layers16, **int4), "16 layers in int4 at 4,096 tokens"),
        ("int6_qat_from_start", replace(long, qat=from_start), "int6 training from step 1 on"),
        (
            "int4_bank_qat",
            replace(long, model=layers16, **(int4 | {"qat": banks})),
            "16 layers in int4 at 4,096 tokens, trained for it at the end",
        ),
        (
            "gated_value_residual",
            replace(long, model=gated),
            "gated attention, value residual and 2,048 bigram buckets",
        ),
    ]
    recipes = [
        Recipe(
            config=replace(config, name=f"full_sota_4096.{name}"),
            summary=f"legal_ttt's experiment: {what}.",
            source=SOURCE,
            command=RECORD_COMMAND.format(name="full_sota_4096"),
            expects="no score was published; not run on GPUs here",
            target="H100:8",
            published=Published(value=None, status="pending", source=SOURCE),
        )
        for name, config, what in variants
    ]
    return Grid(
        name="full_sota_4096",
        summary="Six experiments around legal_ttt: context, depth in int4, QAT's start, gates.",
        source=SOURCE,
        command=RECORD_COMMAND.format(name="full_sota_4096"),
        target="H100:8",
        recipes=tuple(recipes),
    )
