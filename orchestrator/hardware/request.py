"""What `--gpus` asks for: MODEL:COUNT, any:COUNT or 0, of a seed, all on one node; and what there is to give.

The model's whole name is part of a run's id, so it is never guessed: where several models would do, one has to be
named. A dry run needs no GPU: it plans for what was asked, for what the recipe is meant for, or for the policy's own,
and says that nothing of it was checked.
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from golf_core.fields import ConfigError
from golf_core.policy import load_policy
from golf_core.recipes import Grid, Recipe
from orchestrator.cluster.survey import NodeFacts
from orchestrator.errors import UsageError
from orchestrator.hardware.gpus import installed_gpus, silence, visible
from orchestrator.hardware.placement import short_name
from orchestrator.settings import DEFAULT, Settings

MAX_GPUS = 1024
ANY = "any"
NOT_CHECKED = "not checked"  # in the source of GPUs that are planned for
MEANT = "no GPU here: planned"  # it begins so where nobody asked for them
RECORD = load_policy("record-2026-03")


@dataclass(frozen=True)
class GpuRequest:
    model: str | None  # None: any
    count: int

    def describe(self) -> str:
        return f"{self.count}x {self.model or 'GPU of one model'}"

    def fits(self, name: str | None) -> bool:
        """Whether a GPU of that name is of the model: its whole name, a word of it, or the model alone.

        >>> [GpuRequest(model, 1).fits("NVIDIA A100-SXM4-40GB") for model in (None, "A100", "NVIDIA", "H100")]
        [True, True, False, False]
        """
        if self.model is None:
            return True
        asked, words = self.model.casefold(), (name or "").casefold().split()
        return asked in {(name or "").casefold(), short_name(name or "").casefold(), *words[1:]}


@dataclass(frozen=True)
class Offer:
    """GPUs of one model on one node. Those that are declared to Ray and not there are not real."""

    node: str
    model: str | None  # as its driver names it, or as the node was labelled; None: nobody tells
    count: int
    real: bool

    def describe(self) -> str:
        return f"{self.node}: {self.count}x {self.model or 'GPU of unknown model'}" + (
            "" if self.real else " simulated"
        )


def read_request(settings: Settings) -> GpuRequest | None:
    """None where nobody asked."""
    if settings["gpus"] is None:
        return None
    text, place = str(settings["gpus"]).strip(), settings.source("gpus")
    if text == "0":
        return GpuRequest(None, 0)
    model, _, count = text.partition(":")
    model = model.strip()
    if not model or not model.isprintable() or (count and not (count.isascii() and count.isdecimal())):
        raise UsageError(f"{place}={text!r} names no GPUs; write MODEL:COUNT, as in H100:8 or any:1, or 0 for none")
    if not count and model.isdecimal() and int(model) <= MAX_GPUS:  # a number of GPUs; 4090:1 is one of a model
        raise UsageError(
            f"{place}={text!r} names no model; write MODEL:{model} as in H100:{model} (except on Modal, any:{model} "
            "will do)"
        )
    number = int(count or "1")
    if not 1 <= number <= MAX_GPUS:
        raise UsageError(f"{place}={text!r}: {number} GPUs cannot be had; 1 to {MAX_GPUS} can, or 0 for none")
    return GpuRequest(None if model == ANY else model, number)


def is_planned(source: str) -> bool:
    """Whether the GPUs of a plan, by the source of `gpus`, are none that somebody looked at."""
    return NOT_CHECKED in source


def is_asked(settings: Settings) -> bool:
    """Whether somebody said how many GPUs; else a run takes as many as it can be split over."""
    return settings["gpus"] is not None and not settings.source("gpus").startswith(MEANT)


def settings_of_request(settings: Settings) -> Settings:
    """The settings with the device that follows from `--gpus` on this machine."""
    request = read_request(settings)
    if request is None:
        return settings
    device, place = "cuda" if request.count else "cpu", f"{settings.source('gpus')}={settings['gpus']}"
    if settings.source("device") != DEFAULT and settings["device"] != device:
        why = "GPUs that are not there are a cluster's: --address" if request.count else "0 GPUs are a CPU"
        raise UsageError(f"{place} and {settings.source('device')}={settings['device']} contradict each other; {why}")
    return settings.for_device(device, place)


def settings_of_plan(found: Recipe | Grid | None, settings: Settings, dry_run: bool) -> Settings:
    """The settings with the GPUs to plan for, where a dry run asks for GPUs that are not here. `found` is None for a
    script, of which nobody says what it is meant for."""
    if not dry_run or not _wants_gpus(found, settings):
        return settings
    request = read_request(settings)
    if _are_here(request, settings):
        return settings
    model, count = _meant_for(found, settings)
    if request is not None:
        model, count = request.model or model, request.count
    whole, what = f"{_whole_name(model)}:{count}", f"{model}:{count}"
    asked = MEANT if request is None else f"{settings.source('gpus')}: not here, planned"
    return settings.replaced("gpus", whole, f"{asked} for {what}, {NOT_CHECKED}")


def gpus_of_target(settings: Settings) -> list[str]:
    """The model of each GPU that a run on this machine would use, or that is planned for. Raises UsageError where they
    are not here."""
    request = read_request(settings)
    if request is not None and is_planned(settings.source("gpus")):
        return [str(request.model)] * request.count
    return gpus_here(request, settings)


def gpus_here(request: GpuRequest | None, settings: Settings) -> list[str]:
    """Those that a process of ours would see, all of one model, as many as are asked for; UsageError where they are
    not."""
    place = f"{settings.source('gpus')}={settings['gpus']}" if request is not None else "device=cuda"
    installed = installed_gpus()
    names = [gpu.name for gpu in visible(installed, os.environ)]
    if not names:
        hidden = f"{len(installed)} are hidden by the environment" if installed else silence()
        cpu = "--device cpu" if request is None else "--gpus 0 for this CPU"
        raise UsageError(
            f"{place}: no GPU is visible here ({hidden}); use {cpu}, --dry-run to plan for it, or a machine with a GPU "
            "and its driver: --address names a cluster"
        )
    if len(set(names)) != 1:
        raise UsageError(
            f"{place}: the GPUs here are {', '.join(sorted(set(names)))}; one model is needed: "
            "choose GPUs with CUDA_VISIBLE_DEVICES"
        )
    if request is None:
        return names
    if not request.fits(names[0]) or len(names) < request.count:
        raise UsageError(
            f"{place}: {len(names)}x {names[0]} {'are' if len(names) > 1 else 'is'} visible here; ask for those, or "
            "name a cluster that has them with --address; --dry-run plans without them"
        )
    if request.count > 1 and " MIG " in names[0]:
        raise UsageError(f"{place}: {names[0]} is a part of a GPU, and parts do not work together; use any:1")
    return names[: request.count]


def offers_of(nodes: Sequence[NodeFacts]) -> list[Offer]:
    """What each node of a cluster could give to one seed: what its driver shows, but no more than was declared to Ray;
    where the driver shows nothing, what was declared."""
    offers: list[Offer] = []
    for node in (node for node in nodes if node.answered and node.declared_gpus):
        names = Counter(str(gpu["name"]) for gpu in node.gpus)
        for name, there in sorted(names.items()):
            offers.append(Offer(node.short(), name, min(there, node.declared_gpus), real=True))
        for label in () if names else node.models or (None,):
            offers.append(Offer(node.short(), label, node.declared_gpus, real=False))
    return offers


def choose(request: GpuRequest, offers: Sequence[Offer], place: str, device: str | None = None) -> Offer:
    """Of a cluster: what a run would get; real GPUs before simulated ones. `device` is what somebody asked for: cuda
    takes real GPUs alone, cpu simulated ones. Raises UsageError with what there is."""
    able = [offer for offer in offers if offer.count >= request.count and request.fits(offer.model)]
    able = [offer for offer in able if device in (None, "cuda" if offer.real else "cpu")]
    good = [offer for offer in able if offer.real] or able
    if not good:
        there = "; ".join(offer.describe() for offer in offers) or "no node with GPUs"
        kind = {"cuda": " that are really there", "cpu": " that are only declared (device=cpu)"}.get(device or "", "")
        raise UsageError(f"{place}: no node has {request.describe()}{kind}; the cluster has {there}")
    models = sorted({offer.model or "" for offer in good})
    if len(models) > 1:
        which = ", ".join(f"{short_name(model) or 'unnamed'}:{request.count} ({model})" for model in models)
        raise UsageError(f"{place}: several models would do, and a run's id names one: {which}")
    return good[0]


def _are_here(request: GpuRequest | None, settings: Settings) -> bool:
    """Without a request: whether there are any."""
    if request is None:
        return bool(visible(installed_gpus(), os.environ))
    try:
        gpus_here(request, settings)
    except UsageError:  # what a start would say
        return False
    return True


def _wants_gpus(found: Recipe | Grid | None, settings: Settings) -> bool:
    brings = isinstance(found, Grid) and found.target != "cpu" and settings.source("device") == DEFAULT
    return brings or settings["device"] == "cuda"


def _meant_for(found: Recipe | Grid | None, settings: Settings) -> tuple[str, int]:
    """Model and count; of more processes than that as many GPUs."""
    meant = "cpu" if found is None else found.target
    if meant.partition(":")[0] == "cpu":
        meant = _of_policy(settings)
    model, _, count = meant.partition(":")
    return model, max(int(count or "1"), settings["processes"] or 1)


def _of_policy(settings: Settings) -> str:
    try:
        policy = load_policy(settings["policy"])
    except ConfigError as error:
        raise UsageError(str(error)) from None
    asked = policy if policy.gpu is not None else RECORD
    return f"{asked.gpu}:{asked.gpus}"


def _whole_name(model: str) -> str:
    """Of the record's model as the driver tells it, so that a plan has the ids of the real run; of others as given."""
    return RECORD.gpu if RECORD.gpu is not None and model in RECORD.gpu.split() else model
