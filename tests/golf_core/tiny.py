"""Recipes made small enough for a test, with every technique that they turn on still on."""

from dataclasses import replace

from golf_core.config import (
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
from golf_core.recipes import GRIDS, RECIPES, Recipe

LAYERS, WIDTH, HEADS, KV_HEADS, SEQ = 4, 32, 2, 1, 32


def every_recipe() -> dict[str, Recipe]:
    """The recipes, and those of the grids, by their configs' names."""
    recipes = [make() for make in RECIPES.values()]
    recipes += [recipe for make in GRIDS.values() for recipe in make().recipes]
    return {recipe.config.name: recipe for recipe in recipes}


def tiny(config: Config) -> Config:
    """The recipe at 4 layers and width 32, three steps of four sequences; it keeps its learning rates."""
    return replace(
        config,
        model=tiny_model(config.model),
        optim=tiny_optim(config.optim),
        schedule=tiny_schedule(config.schedule),
        train=tiny_train(config.train),
        qat=tiny_qat(config.qat),
        average=tiny_average(config.average),
        quant=tiny_quant(config.quant, config.model.layers),
        evaluate=tiny_evaluate(config.evaluate),
        ttt=tiny_ttt(config.ttt),
    )


def tiny_model(model: ModelConfig) -> ModelConfig:
    layers = min(model.layers, LAYERS)
    return replace(
        model,
        layers=layers,
        width=WIDTH,
        heads=HEADS,
        kv_heads=KV_HEADS,
        rope_dims=model.rope_dims and WIDTH // HEADS // 2,
        rope_ref_len=model.rope_ref_len and SEQ // 2,  # so that the base does grow
        xsa_last_n=min(model.xsa_last_n, layers - 1),
        kv_share=str(min(int(model.kv_share), layers // 2)) if model.kv_share.isdecimal() else model.kv_share,
        bigram_buckets=min(model.bigram_buckets, 64),
        bigram_width=min(model.bigram_width, 16),
        trigram_buckets=min(model.trigram_buckets, 64),
        trigram_width=min(model.trigram_width, 8),
        value_embed_width=min(model.value_embed_width, 8),
        value_embed_last_n=min(model.value_embed_last_n, layers),
    )


def tiny_optim(optim: OptimConfig) -> OptimConfig:
    return replace(optim, momentum_steps=min(optim.momentum_steps, 2))


def tiny_schedule(schedule: ScheduleConfig) -> ScheduleConfig:
    return replace(
        schedule,
        warmdown_iterations=min(schedule.warmdown_iterations, 3),
        warmdown_fraction=max(schedule.warmdown_fraction, 0.9) if schedule.warmdown_fraction else 0.0,
    )


def tiny_train(train: TrainConfig) -> TrainConfig:
    return replace(
        train,
        iterations=3,
        max_seconds=None,
        batch_tokens=4 * SEQ,
        micro_batches=4,
        seq_len=SEQ,
        warmup_steps=1,
        val_every=0,
        log_every=1,
    )


def tiny_qat(qat: QATConfig) -> QATConfig:
    """On for a part of the three steps."""
    at = {"begin": 0.0, "scale": 0.6}.get(qat.start, min(qat.at, 0.6))
    return replace(qat, at=at)


def tiny_average(average: AverageConfig) -> AverageConfig:
    return replace(average, decay=min(average.decay, 0.5), swa_below=0.9, swa_every=1, checkpoints=3)


def tiny_quant(quant: QuantConfig, layers: int) -> QuantConfig:
    last = f"blocks.{min(layers, LAYERS) - 1}."
    return replace(
        quant,
        edge_layers=min(quant.edge_layers, 1),
        keep_numel=64,
        keep_fp16=quant.keep_fp16.replace(f"blocks.{layers - 1}.", last),
        calibration_seqs=min(quant.calibration_seqs, 4),
    )


def tiny_evaluate(evaluate: EvaluateConfig) -> EvaluateConfig:
    return replace(evaluate, seq_len=SEQ, stride=SEQ // 2 if evaluate.stride < evaluate.seq_len else SEQ, batch_seqs=8)


def tiny_ttt(ttt: TTTConfig) -> TTTConfig:
    return replace(
        ttt,
        chunk_tokens=512,
        lora_chunk_tokens=16,
        lora_documents=8,
        phased_documents=16,
        unscored_epochs=min(ttt.unscored_epochs, 2),
        epochs=min(ttt.epochs, 2),
        batch_seqs=4,
        freeze_blocks=min(ttt.freeze_blocks, 1),
        lora_rank=min(ttt.lora_rank, 2),
    )
