"""Two recipes of openai/parameter-golf #347, first state: a context of 4,096, and 16 layers in int4."""

from golf_core.config import ArtifactConfig, Config, EvaluateConfig, OptimConfig, ScheduleConfig, TrainConfig
from golf_core.config_model import ModelConfig
from golf_core.config_quant import QATConfig, QuantConfig
from golf_core.recipes.baseline import RECORD_COMMAND
from golf_core.recipes.recipe import Published, Recipe

SOURCE = "openai/parameter-golf #347, first state"


def long_context_4096() -> Recipe:
    """10 layers, trained and scored at 4,096 tokens with a static NTK base; 18,897,488 parameters."""
    return Recipe(
        config=Config(
            name="long_context_4096",
            model=ModelConfig(layers=10, rope_static_base=41832.0, embed_init="overtone", resid_mix_init="phase"),
            optim=OptimConfig(
                matrix_lr=0.025,
                scalar_lr=0.025,
                embed_lr=0.05,
                momentum=0.98,
                momentum_start=0.90,
                momentum_steps=400,
                matrix_decay=0.02,
                adam_decay=0.01,
            ),
            schedule=ScheduleConfig(kind="iterations", warmdown_iterations=800),
            train=TrainConfig(batch_tokens=262_144, seq_len=4096, val_every=1000, log_every=200),
            quant=QuantConfig(embed_bits=16, legacy_scale_floor=True),
            evaluate=EvaluateConfig(seq_len=4096, stride=256, batch_seqs=64),
        ),
        summary="10 layers at 4,096 tokens: static NTK base 41832, overtone embedding, phase mix, sliding 4096/256.",
        source=SOURCE,
        command=RECORD_COMMAND.format(name="long_context_4096"),
        expects="1.14 to 1.16 by its author's page; it was never run there, and not here",
        target="H100:8",
        published=Published(value=1.16, status="expected", source=f"{SOURCE}: the page gives 1.14 to 1.16"),
    )


def qat_int4_16l() -> Recipe:
    """16 layers whose matrices are trained for, and shipped as, int4 nibbles; 29,921,408 parameters."""
    return Recipe(
        config=Config(
            name="qat_int4_16l",
            model=ModelConfig(layers=16, embed_init="overtone", resid_mix_init="phase"),
            optim=OptimConfig(
                matrix_lr=0.030,
                scalar_lr=0.030,
                embed_lr=0.10,
                momentum=0.97,
                momentum_start=0.85,
                momentum_steps=500,
                matrix_decay=0.02,
                adam_decay=0.01,
                grad_clip=1.0,
            ),
            schedule=ScheduleConfig(kind="iterations", warmdown_iterations=2500),
            train=TrainConfig(val_every=1000, log_every=200),
            qat=QATConfig(kind="swap", tensors="matrices", start="steps", at=0.15),
            quant=QuantConfig(attn_bits=4, mlp_bits=4, embed_bits=16, nibbles=True),
            artifact=ArtifactConfig(codec="zlib"),
            evaluate=EvaluateConfig(seq_len=1024, stride=64, batch_seqs=256),
        ),
        summary="16 layers in int4: trained for it from step 3,000 on, stored two weights a byte, sliding 1024/64.",
        source=SOURCE,
        command=RECORD_COMMAND.format(name="qat_int4_16l"),
        expects="never run by its author, whose export fails at its own check; not run on GPUs here",
        target="H100:8",
        published=Published(value=None, status="pending", source=SOURCE),
    )
