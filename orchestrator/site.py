"""Where a submission would run: this machine here, a cluster in cluster/site.py. Each tells what target its settings
come to, looks at the data there, and knows which attempts are there already."""

import os
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from golf_core.config import Config
from golf_core.hardware import DTYPES, cpu_dtype
from golf_core.recipes import Grid, Recipe
from orchestrator.attempts import Attempt, numbers_by_run
from orchestrator.backends import warm_up
from orchestrator.data_check import DataCheck
from orchestrator.errors import UsageError
from orchestrator.hardware.request import gpus_of_target, is_asked, settings_of_plan, settings_of_request
from orchestrator.settings import Settings
from orchestrator.settled import Settled
from orchestrator.spec import OWN_DTYPE, Data, Submission, Target

MakeTarget = Callable[[Settings, Config | None], Target]


class Check(typing.Protocol):
    """A look at shards and tokenizer, under way."""

    def result(self) -> Data:
        """Waits for it. Raises UsageError for bad data."""

    def close(self) -> None:
        """End it; nothing happens where it is over."""


class Site(typing.Protocol):
    def settings_of_request(self, settings: Settings) -> Settings:
        """The settings with the device that follows from `--gpus`."""

    def settings_of_plan(self, found: Recipe | Grid | None, settings: Settings) -> Settings:
        """The settings with the GPUs to plan for, where none are there and none need be. `found` is None for a
        script."""

    def target(self, settings: Settings, config: Config | None) -> Target:
        """What the settings ask for, as far as it is there. `config` is None for a script, which splits its batches
        and chooses its dtype itself."""

    def check(self, settings: Settings, vocab: int | None) -> Check:
        """Begin to look at the data."""

    def warm_up(self, settings: Settings) -> None:
        """Called while data is read: what can be begun beside that."""

    def attempts(self, submissions: Sequence[Submission]) -> Mapping[str, Sequence[Attempt]]:
        """What is there of each run id."""


class ThisMachine:
    """A dry run needs no GPUs, and starts nothing."""

    def __init__(self, runs_dir: Path, dry_run: bool) -> None:
        self.runs_dir, self.dry_run = runs_dir, dry_run

    def settings_of_request(self, settings: Settings) -> Settings:
        return settings_of_request(settings)

    def settings_of_plan(self, found: Recipe | Grid | None, settings: Settings) -> Settings:
        return settings_of_plan(found, settings, self.dry_run)

    def target(self, settings: Settings, config: Config | None) -> Target:
        return make_target(settings, config)

    def check(self, settings: Settings, vocab: int | None) -> Check:
        return DataCheck(settings["data"], settings["tokenizer"], vocab)

    def warm_up(self, settings: Settings) -> None:
        if not self.dry_run:
            warm_up(settings["on"])

    def attempts(self, submissions: Sequence[Submission]) -> Mapping[str, Sequence[Attempt]]:
        there, settled = numbers_by_run(self.runs_dir), Settled(self.runs_dir)
        return {run.run_id: settled.of(run.run_id, there) for one in submissions for run in one.runs}


def make_target(settings: Settings, config: Config | None) -> Target:
    """What the settings ask for, as far as this machine has it."""
    device, cores = settings["device"], len(os.sched_getaffinity(0))
    if device not in ("cpu", "cuda"):
        raise UsageError(f"device={device!r} is not known; there are cpu, cuda")
    gpus = [] if device == "cpu" else gpus_of_target(settings)
    asked = device == "cuda" and is_asked(settings)
    processes, pieces = settings["processes"], 0 if config is None else config.train.micro_batches
    if processes is None and asked and settings["launcher"] != "python":
        processes = len(gpus)
    elif processes is None and device == "cuda":
        most = 1 if settings["launcher"] == "python" else len(gpus)  # every GPU, as far as the recipe can be split
        processes = next(n for n in range(most, 0, -1) if pieces % n == 0)
    elif processes is None:
        single = settings["launcher"] == "python" or cores < 2 or pieces % 2 or not pieces
        processes = 1 if single else 2
    if device == "cuda" and (processes > len(gpus) or (asked and processes < len(gpus))):
        given = f"of {settings.source('gpus')}" if asked else "visible here"
        less = "more" if processes > len(gpus) else "less"
        raise UsageError(
            f"processes={processes} is {less} than the GPUs {given} ({len(gpus)}); every process has one of its own"
        )
    return checked_target(
        settings,
        config,
        gpu=gpus[0] if device == "cuda" else None,
        gpus=processes if device == "cuda" else 0,
        processes=processes,
        dtype="bf16" if device == "cuda" else cpu_dtype(),
    )


def checked_target(
    settings: Settings, config: Config | None, *, gpu: str | None, gpus: int, processes: int, dtype: str
) -> Target:
    """A target whose processes divide the recipe's batch. `dtype` is the one for where nobody gave another."""
    pieces = 0 if config is None else config.train.micro_batches
    if pieces and (processes < 1 or pieces % processes):
        good = ", ".join(str(n) for n in range(1, pieces + 1) if pieces % n == 0)
        raise UsageError(f"processes={processes} does not divide train.micro_batches={pieces}; it may be {good}")
    dtype = OWN_DTYPE if config is None else settings["dtype"] or dtype
    if config is not None and dtype not in DTYPES:
        raise UsageError(f"dtype={dtype!r} is not known; there are {', '.join(DTYPES)}")
    return Target(
        device=settings["device"],
        gpu=gpu,
        gpus=gpus,
        processes=processes,
        threads=settings["threads"],
        dtype=dtype,
        launcher=settings["launcher"],
    )
