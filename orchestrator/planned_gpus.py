"""The GPUs of a plan where there are none: a dry run needs no GPU, only the start does.

Planned is for what the recipe is meant for, for what `--gpu` names, or for the policy's own; which is said, and that
nothing of it was checked. Of the record's model the whole name is known, so that the ids are those of the real run.
"""

import os

from golf_core.fields import ConfigError
from golf_core.policy import load_policy
from golf_core.recipes import Grid, Recipe
from orchestrator.errors import UsageError
from orchestrator.gpus import installed_gpus, visible
from orchestrator.settings import DEFAULT, Settings

MAX_GPUS = 1024
RECORD = load_policy("record-2026-03")


def settings_of_plan(found: Recipe | Grid | None, settings: Settings, dry_run: bool) -> Settings:
    """The settings with the GPUs to plan for, where GPUs are asked for and there is none. `found` is None for a
    script, of which nobody says what it is meant for."""
    if settings["gpu"] is not None:
        if not dry_run:
            raise UsageError(
                f"{settings.source('gpu')}={settings['gpu']} is for --dry-run: a start takes the GPUs that are there"
            )
        planned_gpus(settings)
    if not _wants_gpus(found, settings):
        if settings["gpu"] is not None:
            raise UsageError(f"{settings.source('gpu')}={settings['gpu']} needs --device cuda: this plan is for a CPU")
        return settings
    if not dry_run:
        return settings
    if settings["gpu"] is None and visible(installed_gpus(), os.environ):
        return settings
    meant = _meant_for(found, settings)
    return settings.with_default("gpu", meant, f"no GPU here: planned for {meant}, not checked")


def planned_gpus(settings: Settings) -> list[str]:
    """The model of each GPU that is planned for, as `visible_gpus` tells those that are there."""
    place = f"gpu={settings['gpu']!r}"
    model, _, count = str(settings["gpu"]).partition(":")
    if not model.strip() or not model.isprintable() or (count and not (count.isascii() and count.isdigit())):
        raise UsageError(f"{place} names no GPUs; write MODEL:COUNT, such as H100:8")
    number = int(count or "1")
    if not 1 <= number <= MAX_GPUS:
        raise UsageError(f"{place}: {number} GPUs cannot be planned for; 1 to {MAX_GPUS} can")
    return [_whole_name(model.strip())] * number


def _wants_gpus(found: Recipe | Grid | None, settings: Settings) -> bool:
    brings = isinstance(found, Grid) and found.target != "cpu" and settings.source("device") == DEFAULT
    return brings or settings["device"] == "cuda"


def _meant_for(found: Recipe | Grid | None, settings: Settings) -> str:
    """MODEL:COUNT; of more processes than that as many GPUs."""
    meant = "cpu" if found is None else found.target
    if meant.partition(":")[0] == "cpu":
        meant = _of_policy(settings)
    model, _, count = meant.partition(":")
    return f"{model}:{max(int(count or '1'), settings['processes'] or 1)}"


def _of_policy(settings: Settings) -> str:
    try:
        policy = load_policy(settings["policy"])
    except ConfigError as error:
        raise UsageError(str(error)) from None
    asked = policy if policy.gpu is not None else RECORD
    return f"{asked.gpu}:{asked.gpus}"


def _whole_name(model: str) -> str:
    """Of the record's model, as the driver tells it; of another as it was given."""
    return RECORD.gpu if RECORD.gpu is not None and model in RECORD.gpu.split() else model
