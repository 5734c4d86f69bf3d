"""Five runs on one H100 that vary one recipe: 11 layers, int6 in groups of 8 rows (openai/parameter-golf #488)."""

from dataclasses import replace

from golf_core.config import (
    ArtifactConfig,
    AverageConfig,
    Config,
    EvaluateConfig,
    OptimConfig,
    ScheduleConfig,
    TrainConfig,
)
from golf_core.config_model import ModelConfig
from golf_core.config_quant import QATConfig, QuantConfig
from golf_core.recipes.recipe import Grid, Published, Recipe

SOURCE = "openai/parameter-golf #488"
COMMAND = (
    "python -m orchestrator submit --recipe {name} --device cuda --processes 1 "
    "--data SHARDS --tokenizer MODEL --seeds 1337,42,2025"
)


def int6_qat_warmdown() -> Recipe:
    """The best of the five: warmdown over the last 15 % of the seconds, mean of checkpoints of the second half."""
    return _recipe(
        "int6_qat_warmdown",
        base_config("int6_qat_warmdown"),
        "11 layers, int6 in groups of 8 rows, trained for it in the last 15 % of the time, mean of 8 checkpoints",
        1.3267,
        13.3,
    )


def base_config(name: str) -> Config:
    return Config(
        name=name,
        model=ModelConfig(layers=11, mlp_ratio=3.0, matrix_init="orthogonal"),
        optim=OptimConfig(
            matrix_lr=0.025,
            scalar_lr=0.025,
            embed_lr=0.035,
            momentum=0.99,
            momentum_start=0.92,
            momentum_steps=1500,
            matrix_decay=0.04,
            adam_decay=0.02,
            grad_clip=0.3,
        ),
        schedule=ScheduleConfig(kind="fraction", warmdown_fraction=0.15),
        train=TrainConfig(batch_tokens=524_288, seq_len=2048, val_every=500, log_every=100),
        qat=QATConfig(kind="swap", tensors="all", start="time", at=0.85),
        average=AverageConfig(kind="checkpoints", checkpoints=7, guard=0.5),
        quant=QuantConfig(
            attn_bits=6, mlp_bits=6, embed_bits=16, symmetric=False, group_rows=8, clip="max", legacy_scale_floor=True
        ),
        artifact=ArtifactConfig(codec="zstd", level=22),
        evaluate=EvaluateConfig(seq_len=2048, stride=64, batch_seqs=32),
    )


def int6_ablation() -> Grid:
    """Two of the variants also change the scales' granularity and what is kept: the table is no pure ablation."""
    base = base_config("base")
    steps = replace(
        base,
        schedule=ScheduleConfig(kind="iterations", warmdown_iterations=3000),
        average=replace(base.average, guard=0.0),
    )
    rows = replace(base.quant, group_rows=1, keep_fp16="blocks.10.attn.c_k")
    smeared = replace(base.model, smear="v1", bigram_buckets=2048, bigram_width=96)
    variants = [
        ("steps", steps, "warmdown of 3,000 steps, checkpoints from the start on", 1.3761, 14.0),
        (
            "steps_bigram_smear",
            replace(steps, model=smeared, optim=replace(base.optim, hash_proj="muon"), quant=rows),
            "the same with bigrams and SmearGate, a scale a row",
            1.3796,
            14.4,
        ),
        (
            "steps_mixed",
            replace(steps, quant=replace(rows, mlp_bits=5)),
            "the same with the MLP in int5, a scale a row",
            1.3874,
            11.6,
        ),
        ("fraction", base, "warmdown over the last 15 % of the seconds, checkpoints of the second half", 1.3267, 13.3),
        (
            "fraction_ema",
            replace(base, average=AverageConfig(kind="ema", decay=0.995, start="warmdown")),
            "the same with an exponential average from the warmdown on",
            1.3436,
            13.2,
        ),
    ]
    return Grid(
        name="int6_ablation",
        summary="Five variants of int6_qat_warmdown on one H100: warmdown, average, bits, embeddings.",
        source=SOURCE,
        command=COMMAND.format(name="int6_ablation"),
        target="H100:1",
        recipes=tuple(_recipe(f"int6_ablation.{name}", *rest) for name, *rest in variants),
    )


def _recipe(name: str, config: Config, what: str, bpb: float, megabytes: float) -> Recipe:
    return Recipe(
        config=replace(config, name=name),
        summary=f"{what[0].upper()}{what[1:]}.",
        source=SOURCE,
        command=COMMAND.format(name=name.partition(".")[0]),
        expects=f"about 1,250 steps on 1xH100, {megabytes} MB (published; not run on GPUs here)",
        target="H100:1",
        published=Published(value=bpb, status="measured", source=f"{SOURCE}, sliding windows, one seed"),
    )
