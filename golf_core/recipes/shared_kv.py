"""16 layers that share one key and one value projection (openai/parameter-golf #951), and a legal, smaller stand-in."""

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
from golf_core.recipes.recipe import Published, Recipe

SOURCE = "openai/parameter-golf #951"


def shared_kv_16l() -> Recipe:
    """41,947,778 parameters: more than 16,000,000 bytes whatever the codec. Scored without its author's learning from
    text not yet scored, which `--set ttt.kind=unscored --set diagnostic_only=true` shows."""
    return Recipe(
        config=Config(
            name="shared_kv_16l",
            model=ModelConfig(
                layers=16,
                mlp_ratio=3.5,
                activation="leaky_relu2",
                kv_share="all",
                rope_dims=16,
                smear="v1",
                bigram_buckets=20480,
                bigram_width=128,
                trigram_buckets=10240,
                trigram_width=64,
                matrix_init="orthogonal",
            ),
            optim=OptimConfig(
                matrix_lr=0.02,
                scalar_lr=0.02,
                embed_lr=0.03,
                momentum=0.99,
                momentum_start=0.92,
                momentum_steps=1500,
                matrix_decay=0.04,
                adam_decay=0.04,
                grad_clip=0.3,
                hash_proj="muon",
            ),
            schedule=ScheduleConfig(kind="iterations", warmdown_iterations=5000),
            train=TrainConfig(batch_tokens=786_432, seq_len=2048, val_every=500, log_every=100),
            qat=QATConfig(kind="swap", tensors="matrices", start="begin", clip="max"),
            average=AverageConfig(kind="ema", decay=0.999),
            quant=QuantConfig(
                attn_bits=6,
                mlp_bits=4,
                table_bits=6,
                embed_bits=16,
                symmetric=False,
                nibbles=True,
                prune_fraction=0.03,
                clip="ratio_search",
                clip_select="row",
                keep_numel=8192,
            ),
            artifact=ArtifactConfig(codec="zstd", level=22),
            evaluate=EvaluateConfig(seq_len=2048, stride=64, batch_seqs=32),
        ),
        summary="16 layers that share keys' and values' projections, int4 MLP, int6 attention; does not fit 16 MB.",
        source=SOURCE,
        command=RECORD_COMMAND.format(name="shared_kv_16l"),
        expects="1.02 to 1.05 by its author, after learning from the text that it scores: no legal score",
        target="H100:8",
        published=Published(
            value=1.05, status="expected", source=f"{SOURCE}: 1.02 to 1.05, by learning from unscored text (not legal)"
        ),
    )


def shared_kv_12l() -> Recipe:
    """The author's later size, with learning only from text that is scored already."""
    full = shared_kv_16l().config
    config = replace(
        full,
        name="shared_kv_12l",
        model=replace(full.model, layers=12, mlp_ratio=3.0, bigram_buckets=10240, trigram_buckets=4096),
        artifact=replace(full.artifact, target_bytes=15_950_000),
        ttt=TTTConfig(kind="chunk"),
        ship="packed",
    )
    return Recipe(
        config=config,
        summary="12 layers that share keys' and values' projections; fits 16 MB, scored legally.",
        source=f"{SOURCE}, its author's later size; test-time training of #549",
        command=RECORD_COMMAND.format(name="shared_kv_12l"),
        expects="no score was published; not run on GPUs here",
        target="H100:8",
        published=Published(value=None, status="pending", source=SOURCE),
    )
