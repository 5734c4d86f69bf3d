"""The training loop: from start weights to weights to be shipped, inside the budget of steps or of seconds.

One clock decides, rank 0's: it travels with the gradients, so that every rank sees the same seconds, and the
same learning rate, without a message of its own. Validation and warm-up do not count.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist

from golf_core.config import Config
from golf_core.data.loader import TrainLoader
from golf_core.evaluate.ledger import Score
from golf_core.journal import Journal
from golf_core.model.gpt import GPT
from golf_core.optim.groups import FlatGradients, Optimizers
from golf_core.optim.schedule import lr_scale
from golf_core.process import Place

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


class Trainer:
    """Owns model, optimizers, loader and averager of one process; `run` takes the steps."""

    def __init__(
        self, config: Config, model: GPT, loader: TrainLoader, averager: type | None, place: Place, journal: Journal
    ) -> None:
        self.config, self.model, self.loader, self.place, self.journal = config, model, loader, place, journal
        self.micro_steps, rest = divmod(config.train.micro_batches, place.world)
        if rest:
            raise ValueError(
                f"train.micro_batches={config.train.micro_batches} is not a multiple of the {place.world} processes"
            )
        params = list(model.parameters())
        self.gradients = FlatGradients(params)
        self.optimizers = Optimizers(model, config.optim, place.rank, place.world)
        self.loss = (
            torch.compile(model, dynamic=False) if config.train.compile and place.device.type == "cuda" else model
        )
        on_gpu = place.device.type == "cuda"
        self.clock = torch.zeros((), pin_memory=on_gpu)  # rank 0's seconds at the last step, as every rank knows them
        self.clock_arrived = torch.cuda.Event() if on_gpu else None
        self._warm_up()
        self.averager = averager(model, config.average.decay) if averager else None

    def _step(self, step: int, scale: float, elapsed: float) -> torch.Tensor:
        """One optimizer step; the mean loss of this rank's micro-batches."""
        self.gradients.zero()
        total = torch.zeros((), device=self.place.device)
        for _ in range(self.micro_steps):
            x, y = self.loader.next()
            loss = self.loss(x, y) / self.config.train.micro_batches
            loss.backward()
            total += loss.detach()
        if self.place.first:
            self.gradients.clock.fill_(elapsed)
        if self.place.world > 1:
            dist.all_reduce(self.gradients.buffer)
        self.clock.copy_(self.gradients.clock, non_blocking=True)
        if self.clock_arrived:
            self.clock_arrived.record()
        self.gradients.clip(self.config.optim.grad_clip)
        self.optimizers.step(step, scale)
        return total * self.place.world

    def _warm_up(self) -> None:
        """Take real steps so that everything is compiled and cached, then undo every trace of them."""
        if not self.config.train.warmup_steps:
            return
        before = [p.detach().clone() for p in self.model.parameters()]
        for step in range(self.config.train.warmup_steps):
            self._step(step, 1.0, 0.0)
            self.journal.say(f"warmup_step:{step + 1}/{self.config.train.warmup_steps}")
        with torch.no_grad():
            for p, value in zip(self.model.parameters(), before, strict=True):
                p.copy_(value)
        self.optimizers.reset()
        self.gradients.zero()
        self.loader.stream.rewind()

    def run(self, validate: Callable[[int], Score]) -> TrainOutcome:
        """Train until the steps or the seconds are used up. `validate(step)` is called outside the clock."""
        train, schedule = self.config.train, self.config.schedule
        cap = train.max_seconds
        paused, elapsed, step_seconds = 0.0, 0.0, 0.0
        self._synchronize()
        begin = time.perf_counter()
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
            loss = self._step(step, scale, time.perf_counter() - begin - paused)
            if self.averager:
                self.averager.update()
            step += 1
            if step % train.log_every == 0 or step <= 3 or step == train.iterations:
                self._log(step, loss, time.perf_counter() - begin - paused, scale)
            if train.val_every and step % train.val_every == 0 and step < train.iterations:
                self._synchronize()
                pause = time.perf_counter()
                self.journal.say("phase:end train")
                with self.journal.phase("validate"):
                    score = validate(step)
                self.journal.note("val", step=step, val_loss=score.val_loss, val_bpb=score.val_bpb)
                self.journal.say(
                    f"step:{step}/{train.iterations} val_loss:{score.val_loss:.4f} val_bpb:{score.val_bpb:.4f}"
                )
                self._synchronize()
                self.journal.say("phase:begin train")
                paused += time.perf_counter() - pause
        self._synchronize()
        return TrainOutcome(step, time.perf_counter() - begin - paused, stopped_by)

    def _last_clock(self) -> float:
        """Waits for the last step's all-reduce, not for its optimizer: the next step is launched meanwhile."""
        if self.clock_arrived:
            self.clock_arrived.synchronize()
        return float(self.clock)

    def _log(self, step: int, loss: torch.Tensor, elapsed: float, scale: float) -> None:
        value, train = float(loss), self.config.train
        if not math.isfinite(value):
            raise TrainingDiverged(f"step {step}: the training loss is {value}")
        by_time = elapsed / train.max_seconds if train.max_seconds else 0.0
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
            progress=min(max(by_time, step / train.iterations), 1.0),
            lr_scale=scale,
        )

    def _synchronize(self) -> None:
        if self.place.device.type == "cuda":
            torch.cuda.synchronize(self.place.device)
