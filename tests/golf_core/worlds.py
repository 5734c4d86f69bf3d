"""A program for test_worlds.py, one process of several: trains recipes, made tiny, and writes what came out. Then the
checks of parallel Muon for test_parallel_muon.py.

python tests/golf_core/worlds.py OUT DATA NAME..., alone or as one of a group.
"""

import json
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from golf_core.config import Config, EvaluateConfig, TTTConfig
from golf_core.config_io import override
from golf_core.data.loader import TokenStream
from golf_core.journal import Journal
from golf_core.model.gpt import GPT
from golf_core.parts import load_parts
from golf_core.process import Place, joined_group
from golf_core.recipes import load_recipe
from golf_core.train import Trainer
from tests.golf_core.parallel_ranks import check_all
from tests.golf_core.tiny import every_recipe, tiny


class RecordingTrainer(Trainer):
    """Keeps the loss of every step, the mean over all processes."""

    def run(self, validate):
        self.losses: list[float] = []
        return super().run(validate)

    def _step(self, step: int, scale: float, elapsed: float) -> Tensor:
        loss = super()._step(step, scale, elapsed)
        if hasattr(self, "losses"):
            mean = loss.clone()
            if self.place.world > 1:
                dist.all_reduce(mean)
            self.losses.append(float(mean) / self.place.world)
        return loss


def fingerprint(model: nn.Module) -> dict[str, list[float]]:
    """Three numbers a tensor: its norm, its sum, and its product with a fixed random direction."""
    generator = torch.Generator().manual_seed(7)
    found = {}
    for name, p in model.state_dict().items():
        direction = torch.randn(p.shape, generator=generator, dtype=torch.float64)
        w = p.double()
        found[name] = [float(w.norm()), float(w.sum()), float((w * direction).sum())]
    return found


def train_tiny(config: Config, data: Path, place: Place, out: Path) -> dict:
    parts = load_parts(config)
    train = config.train
    loader = parts["train.loader"](
        TokenStream(data, "train", config.model.vocab),
        batch_tokens=train.batch_tokens,
        micro_batches=train.micro_batches,
        seq_len=train.seq_len,
        rank=place.rank,
        world=place.world,
        device=place.device,
        seed=1,
    )
    model = GPT(config.model, parts, place.dtype)
    model.init_weights(torch.Generator().manual_seed(1))
    trainer = RecordingTrainer(config, model, loader, parts, place, Journal(out, place.first))
    outcome = trainer.run(lambda step: None)
    last = fingerprint(model)
    if trainer.averager:
        trainer.averager.apply()
    shipped = fingerprint(model)
    everyone = [shipped]
    if place.world > 1:
        everyone = [None] * place.world
        dist.all_gather_object(everyone, shipped)
    return {
        "steps": outcome.steps,
        "losses": trainer.losses,
        "rounding": trainer.rounding,
        "last": last,
        "shipped": shipped,
        "same_on_all": all(found == shipped for found in everyone),
    }


def warmed_up(steps: int) -> Config:
    """Sharded momenta, rounding, an average and a loader that draws, after so many warm-up steps."""
    config = tiny(load_recipe("legal_ttt").config)
    return override(config, [f"train.warmup_steps={steps}", "train.loader=coprime"])


def main(out: Path, data: Path, names: list[str]) -> None:
    torch.set_num_threads(1)
    warnings.filterwarnings("error", category=FutureWarning)  # old names of collectives, as in the suite
    with joined_group("fp32") as place:
        results, trained, recipes = {}, {}, every_recipe()
        for name in names:
            config = tiny(recipes[name].config)
            alike = replace(config, name="any", evaluate=EvaluateConfig(), ttt=TTTConfig(), ship="readable")
            if alike not in trained:  # recipes that differ in their size alone are one when they are tiny
                trained[alike] = train_tiny(config, data, place, out)
            results[name] = trained[alike]
        for warm_up in (0, 2):
            results[f"warm_up {warm_up}"] = train_tiny(warmed_up(warm_up), data, place, out)
        if place.first:
            (out / f"world{place.world}.json").write_text(json.dumps(results))
        check_all(place, out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
