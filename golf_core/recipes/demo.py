"""The recipe that a laptop finishes: the baseline's architecture, small, on the embedded corpus."""

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
from golf_core.config_quant import QuantConfig
from golf_core.recipes.recipe import Recipe


def demo() -> Recipe:
    """`python -m orchestrator submit --seeds 1337,42,2025`; see `expects` for time and score.

    Limited by steps, not by time: the same machine gives the same bytes again.
    """
    return Recipe(
        config=Config(
            name="demo",
            model=ModelConfig(layers=2, width=128, heads=2, kv_heads=1),
            optim=OptimConfig(matrix_lr=0.02, scalar_lr=0.04, embed_lr=0.1, momentum_steps=100),
            schedule=ScheduleConfig(kind="fraction", warmdown_fraction=0.8),
            train=TrainConfig(
                iterations=600,
                max_seconds=None,
                batch_tokens=2048,
                micro_batches=2,
                seq_len=128,
                loader="coprime",  # the corpus is in order of years
                warmup_steps=0,
                log_every=20,
            ),
            average=AverageConfig(kind="ema", decay=0.98),
            quant=QuantConfig(attn_bits=6, mlp_bits=6, embed_bits=8, keep_numel=4096),
            artifact=ArtifactConfig(codec="lzma"),
            evaluate=EvaluateConfig(seq_len=128, stride=64, batch_seqs=32),
            ttt=TTTConfig(kind="chunk", chunk_tokens=4096, lr=0.003, epochs=2, batch_seqs=8),
        ),
        summary="The baseline's architecture at 2 layers and width 128, on the embedded corpus, in minutes on a CPU.",
        source="this project",
        command="python -m orchestrator submit --seeds 1337,42,2025",
        expects="4 minutes on two cores; mean post-TTT 1.603 BPB of the embedded corpus (LOG 2026-11-22)",
    )
