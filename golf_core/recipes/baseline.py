"""The challenge's own starting point."""

from golf_core.config import Config, TrainConfig
from golf_core.config_quant import QuantConfig
from golf_core.recipes.recipe import Published, Recipe

RECORD_COMMAND = (
    "python -m orchestrator submit --recipe {name} --policy record-2026-03 --device cuda "
    "--data SHARDS --tokenizer MODEL --seeds 1337,42,2025"
)


def naive_baseline() -> Recipe:
    """9 layers, width 512, 17,059,912 parameters, int8 + zlib; 10 minutes on 8xH100."""
    return Recipe(
        config=Config(
            name="naive_baseline",
            train=TrainConfig(val_every=1000, log_every=200),
            quant=QuantConfig(legacy_scale_floor=True),
        ),
        summary="The challenge's 9-layer baseline: Muon + Adam, int8 rows, zlib-9, plain evaluation at 1024.",
        source="openai/parameter-golf, records/track_10min_16mb/2026-03-17_NaiveBaseline",
        command=RECORD_COMMAND.format(name="naive_baseline"),
        expects="13,780 steps of 43.54 ms on 8xH100 SXM (published; not run here)",
        target="H100:8",
        published=Published(value=1.22436570, status="measured", source="the record's own log", step_ms=43.54),
    )
