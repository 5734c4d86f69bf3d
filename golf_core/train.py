"""The training loop: from start weights to weights to be shipped, inside the budget of steps or of seconds.

One clock decides, rank 0's: it travels with the gradients, so that every rank sees the same seconds, and the
same learning rate, without a message of its own. Validation and warm-up do not count; what the calibration
of the weights' rounding needs of the seconds is kept free.
"""

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from golf_core.config import Config, TrainConfig
from golf_core.data.loader import TrainLoader
from golf_core.evaluate.ledger import Score
from golf_core.journal import Journal
from golf_core.model.gpt import GPT, Parts
from golf_core.optim.groups import Optimizers
from golf_core.optim.schedule import lr_scale
from golf_core.process import Place
from golf_core.quant.rows import Quantizer

STOP_RESERVE_SECONDS = 0.25


class TrainingDiverged(Exception):
    """The loss is no number any more."""


@dataclass(frozen=True)
class TrainOutcome:
    steps: int
    seconds: float  # of training, by rank 0's clock
    stopped_by: str  # "iterations" or "wallclock"

    @property
    def step_avg_ms(self) -> float:
        return 1000 * self.seconds / max(self.steps, 1)


def training_budget(config: Config) -> TrainConfig:
    """`config.train` with the seconds that training may use: calibration on training data is part of them."""
    train = config.train
    if config.quant.calibration != "train" or train.max_seconds is None:
        return train
    return replace(train, max_seconds=train.max_seconds - config.quant.calibration_seconds)


class Trainer:
    """Owns model, optimizers, loader and averager of one process; `run` takes the steps."""

    def __init__(
        self,
        config: Config,
        model: GPT,
        loader: TrainLoader,
        parts: Parts,
        place: Place,
        journal: Journal,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`clock` gives the seconds that the budget is counted in."""
        self.config, self.model, self.loader, self.place, self.journal = config, model, loader, place, journal
        self.train, self.seconds = training_budget(config), clock
        self.micro_steps, rest = divmod(config.train.micro_batches, place.world)
        if rest:
            raise ValueError(
                f"train.micro_batches={config.train.micro_batches} is not a multiple of the {place.world} processes"
            )
        self.optimizers = Optimizers(model, config.optim, parts["optim.muon"], place.rank, place.world)
        self.gradients = self.optimizers.gradients
        swap = parts.get("qat.kind")
        self.swap = swap(model, Quantizer(config.quant, config.model.layers, parts), config.qat) if swap else None
        self.rounding = False  # whether steps take their gradients at the rounded weights
        self.loss = (
            torch.compile(model, dynamic=False) if config.train.compile and place.device.type == "cuda" else model
        )
        on_gpu = place.device.type == "cuda"
        self.clock = torch.zeros((), pin_memory=on_gpu)  # rank 0's seconds at the last step, as every rank knows them
        self.clock_arrived = torch.cuda.Event() if on_gpu else None
        self._warm_up()
        average = parts.get("average.kind")
        self.averager = average(model, config.average) if average else None

    def _step(self, step: int, scale: float, elapsed: float) -> torch.Tensor:
        """One optimizer step; the mean loss of this rank's micro-batches."""
        self.gradients.zero()
        total = torch.zeros((), device=self.place.device)
        with self.swap.rounded() if self.rounding else contextlib.nullcontext():
            for _ in range(self.micro_steps):
                x, y = self.loader.next()
                loss = self.loss(x, y) / self.config.train.micro_batches
                loss.backward()
                total += loss.detach()
        if self.place.first:
            self.gradients.clock.fill_(elapsed)
        self.gradients.reduce()
        self.clock.copy_(self.gradients.clock, non_blocking=True)
        if self.clock_arrived:
            self.clock_arrived.record()
        self.gradients.clip(self.config.optim.grad_clip)
        self.optimizers.step(step, scale)
        return total * self.place.world

    def _warm_up(self) -> None:
        """Take real steps so that everything is compiled and cached, then undo every trace of them.
        Where weights will be rounded in training, every other step rounds them."""
        if not self.train.warmup_steps:
            return
        steps = max(self.train.warmup_steps, 2 if self.swap else 1)
        before = [p.detach().clone() for p in self.model.parameters()]
        for step in range(steps):
            self.rounding = self.swap is not None and step % 2 == 1
            self._step(step, 1.0, 0.0)
            self.journal.say(f"warmup_step:{step + 1}/{steps}")
        self.rounding = False
        with torch.no_grad():
            for p, value in zip(self.model.parameters(), before, strict=True):
                p.copy_(value)
        self.optimizers.reset()
        self.gradients.zero()
        self.loader.rewind()

    def run(self, validate: Callable[[int], Score]) -> TrainOutcome:
        """Train until the steps or the seconds are used up. `validate(step)` is called outside the clock."""
        train, schedule = self.train, self.config.schedule
        cap = train.max_seconds
        paused, elapsed, step_seconds = 0.0, 0.0, 0.0
        self._synchronize()
        begin = self.seconds()
        step, stopped_by = 0, "iterations"
        while step < train.iterations:
            if cap is not None and step:
                now = self._last_clock()
                step_seconds = max(now - elapsed, step_seconds * 0.9)
                elapsed = now
                # The clock was read inside the last step, a GPU may be one step behind this loop, and the worker's
                # clock, which counts too, starts before ours and stops after it.
                if elapsed + 3 * step_seconds + min(STOP_RESERVE_SECONDS, 0.01 * cap) >= cap:
                    stopped_by = "wallclock"
                    break
            scale = lr_scale(schedule, train, step, elapsed)
            if self.swap and not self.rounding and self.swap.due(step, train.iterations, elapsed, cap, scale):
                self.rounding = True
                self.journal.say(f"qat:enabled step:{step + 1} scale:{scale:.4f} tensors:{self.swap.count}")
            loss = self._step(step, scale, self.seconds() - begin - paused)
            step += 1
            if self.averager:
                self.averager.update(step, scale, self._progress(step, elapsed))
            if step % train.log_every == 0 or step <= 3 or step == train.iterations:
                self._log(step, loss, self.seconds() - begin - paused, scale)
            if train.val_every and step % train.val_every == 0 and step < train.iterations:
                self._synchronize()
                pause = self.seconds()
                self.journal.say("phase:end train")
                with self.journal.phase("validate"):
                    score = validate(step)
                self.journal.note("val", step=step, val_loss=score.val_loss, val_bpb=score.val_bpb)
                self.journal.say(
                    f"step:{step}/{train.iterations} val_loss:{score.val_loss:.4f} val_bpb:{score.val_bpb:.4f}"
                )
                self._synchronize()
                self.journal.say("phase:begin train")
                paused += self.seconds() - pause
        self._synchronize()
        return TrainOutcome(step, self.seconds() - begin - paused, stopped_by)

    def _last_clock(self) -> float:
        """Waits for the last step's all-reduce, not for its optimizer: the next step is launched meanwhile."""
        if self.clock_arrived:
            self.clock_arrived.synchronize()
        return float(self.clock)

    def _log(self, step: int, loss: torch.Tensor, elapsed: float, scale: float) -> None:
        value, train = float(loss), self.train
        if not math.isfinite(value):
            raise TrainingDiverged(f"step {step}: the training loss is {value}")
        rate = step * train.batch_tokens / max(elapsed, 1e-9)
        self.journal.say(
            f"step:{step}/{train.iterations} train_loss:{value:.4f} train_time:{1000 * elapsed:.0f}ms "
            f"step_avg:{1000 * elapsed / step:.2f}ms"
        )
        self.journal.note(
            "step",
            step=step,
            steps=train.iterations,
            loss=value,
            tokens_per_s=rate,
            elapsed_s=elapsed,
            progress=self._progress(step, elapsed),
            lr_scale=scale,
        )

    def _progress(self, step: int, elapsed: float) -> float:
        """How much of the budget is used, of steps or of seconds, whichever is more."""
        by_time = elapsed / self.train.max_seconds if self.train.max_seconds else 0.0
        return min(max(by_time, step / self.train.iterations), 1.0)

    def _synchronize(self) -> None:
        if self.place.device.type == "cuda":
            torch.cuda.synchronize(self.place.device)
