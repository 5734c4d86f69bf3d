"""The training loop: what a warm-up leaves behind, when weights are rounded, and which budget counts."""

import contextlib
from dataclasses import replace

import pytest
import torch

from golf_core.config import AverageConfig, Config
from golf_core.config_io import override
from golf_core.data.loader import TokenStream
from golf_core.journal import Journal
from golf_core.model.gpt import GPT
from golf_core.parts import load_parts
from golf_core.process import Place
from golf_core.recipes import load_recipe
from golf_core.train import Trainer, training_budget
from tests.golf_core.tiny import tiny

ALONE = Place(0, 1, torch.device("cpu"), torch.float32)


class StepClock:
    """Seconds that pass by reading: each reading is `tick` later than the one before."""

    def __init__(self, tick: float) -> None:
        self.now, self.tick = 0.0, tick

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


def config_of(*overrides: str, recipe: str = "legal_ttt") -> Config:
    return override(tiny(load_recipe(recipe).config), overrides)


def trainer_of(config: Config, data, out, parts=None, clock=None) -> Trainer:
    parts = load_parts(config) if parts is None else parts
    train = config.train
    loader = parts["train.loader"](
        TokenStream(data[0], "train", config.model.vocab),
        batch_tokens=train.batch_tokens,
        micro_batches=train.micro_batches,
        seq_len=train.seq_len,
        rank=0,
        world=1,
        device=ALONE.device,
        seed=3,
    )
    model = GPT(config.model, parts, torch.float32)
    model.init_weights(torch.Generator().manual_seed(3))
    more = {} if clock is None else {"clock": clock}
    return Trainer(config, model, loader, parts, ALONE, Journal(out, True), **more)


def no_score(step):
    raise AssertionError("nothing is validated here")


def optimizer_state(trainer: Trainer) -> list[torch.Tensor]:
    adam, muon = trainer.optimizers.adam, trainer.optimizers.muon
    momenta = [b.momentum_SMN for b in muon.banks] if hasattr(muon, "banks") else list(muon.momenta.values())
    return [*(t for part in (*adam.means, *adam.squares) for t in part), *momenta, trainer.gradients.buffer]


@pytest.mark.parametrize("muon", ["plain", "parallel"])
@pytest.mark.parametrize("loader", ["stream", "coprime"])
def test_a_warm_up_leaves_no_trace(small_data, tmp_path, muon, loader):
    """After warm-up steps, rounded ones among them, weights, optimizers, gradients, the loader's place and draws and
    the average are as they would be without, and training gives the same weights to the bit."""
    chosen = [f"optim.muon={muon}", f"train.loader={loader}"]
    cold = trainer_of(config_of(*chosen, "train.warmup_steps=0"), small_data, tmp_path)
    warm = trainer_of(config_of(*chosen, "train.warmup_steps=3"), small_data, tmp_path)
    assert cold.swap is not None
    assert not warm.rounding
    for a, b in zip(cold.model.parameters(), warm.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert warm.optimizers.adam.steps == 0
    assert not any(bool(t.any()) for t in optimizer_state(warm))
    assert all(torch.equal(a, b) for a, b in zip(cold.averager.mean, warm.averager.mean, strict=True))
    outcomes = [t.run(no_score) for t in (cold, warm)]
    assert [o.steps for o in outcomes] == [3, 3]
    assert any(bool(t.any()) for t in optimizer_state(warm))
    for trainer in (cold, warm):
        trainer.averager.apply()
    for a, b in zip(cold.model.parameters(), warm.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert all(torch.equal(a, b) for a, b in zip(cold.loader.next(), warm.loader.next(), strict=True))


class CountingSwap:
    """Stands for the part that rounds weights: on from a step on; counts its use."""

    first_step, count = 2, 7

    def __init__(self, model, quantizer, qat) -> None:
        self.asked: list[tuple] = []
        self.uses = 0
        self.inside = False

    def due(self, step, iterations, elapsed, max_seconds, scale) -> bool:
        assert not self.inside
        self.asked.append((step, iterations, max_seconds))
        return step >= self.first_step

    @contextlib.contextmanager
    def rounded(self):
        self.uses += 1
        self.inside = True
        yield
        self.inside = False


def test_weights_are_rounded_from_the_due_step_on(small_data, tmp_path, capsys):
    """Both ways are warmed up, even by a single warm-up step; then every step from the due one on is rounded, the log
    says so once, and nothing is asked any more."""
    config = config_of("train.iterations=5", "train.warmup_steps=1")
    trainer = trainer_of(config, small_data, tmp_path, parts=load_parts(config) | {"qat.kind": CountingSwap})
    assert capsys.readouterr().out.count("warmup_step:") == 2
    assert trainer.swap.uses == 1
    trainer.run(no_score)
    assert trainer.swap.uses == 1 + 3
    assert trainer.swap.asked == [(0, 5, None), (1, 5, None), (2, 5, None)]
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("qat:")]
    assert lines == ["qat:enabled step:3 scale:1.0000 tensors:7"]


def test_without_the_part_nothing_is_rounded(small_data, tmp_path, capsys):
    """A recipe that does not train for its rounding warms up as often as it says and never speaks of it."""
    trainer = trainer_of(config_of(recipe="naive_baseline"), small_data, tmp_path)
    trainer.run(no_score)
    out = capsys.readouterr().out
    assert trainer.swap is None
    assert out.count("warmup_step:") == 1
    assert "qat:" not in out


@pytest.mark.parametrize(("calibration", "expected"), [("none", 600.0), ("self", 600.0), ("train", 592.0)])
def test_calibration_on_training_data_is_part_of_the_budget(calibration, expected):
    """Seconds for reading training data again are kept free of the cap; what needs none of it leaves the cap."""
    rounding = "nearest" if calibration == "none" else "gptq"
    config = load_recipe("naive_baseline").config
    config = override(config, [f"quant.calibration={calibration}", f"quant.rounding={rounding}"])
    assert training_budget(config).max_seconds == expected
    endless = replace(config, train=replace(config.train, max_seconds=None))
    assert training_budget(endless).max_seconds is None


def test_the_stop_and_the_schedule_follow_the_reduced_budget(small_data, tmp_path):
    """With 8 of 20 seconds kept for calibration, training ends before the 12th, and the learning rate with it."""
    budget = ["train.iterations=100000", "train.max_seconds=20", "schedule.kind=fraction", "train.log_every=1000000"]
    calibration = ["quant.rounding=gptq", "quant.calibration=train", "quant.calibration_seconds=8"]
    config = config_of(*budget, *calibration, "qat.kind=none", "average.kind=none")
    trainer = trainer_of(config, small_data, tmp_path, clock=StepClock(0.5))
    scales = []
    step = trainer.optimizers.step
    trainer.optimizers.step = lambda number, scale: (scales.append(scale), step(number, scale))
    outcome = trainer.run(no_score)
    assert outcome.stopped_by == "wallclock"
    assert 8 < outcome.seconds <= 12
    assert scales == sorted(scales, reverse=True)
    assert scales[-1] < 0.4


class RecordingAverage:
    """Stands for an average: keeps what it is told."""

    def __init__(self, model, config: AverageConfig) -> None:
        self.told: list[tuple[int, float, float]] = []

    def update(self, step, scale, progress) -> None:
        self.told.append((step, scale, progress))


def test_an_average_is_told_of_every_step_with_its_rate_and_the_budget_used(small_data, tmp_path):
    """Steps count from 1; the multiplier is the step's own; progress is by steps or by seconds, whichever is more."""
    config = config_of("train.iterations=4", "schedule.kind=fraction", "schedule.warmdown_fraction=0.5")
    parts = load_parts(config) | {"average.kind": RecordingAverage}
    trainer = trainer_of(config, small_data, tmp_path, parts=parts)
    trainer.run(no_score)
    assert trainer.averager.told == [(1, 1.0, 0.25), (2, 1.0, 0.5), (3, 1.0, 0.75), (4, 0.5, 1.0)]
    capped = override(config, ["train.iterations=1000", "train.max_seconds=10", "qat.kind=none"])
    trainer = trainer_of(capped, small_data, tmp_path, parts=parts, clock=StepClock(0.5))
    trainer.run(no_score)
    progress = [told[2] for told in trainer.averager.told]
    assert progress == sorted(progress)
    assert 0.5 < progress[-1] <= 1
