"""What a run's hardware is held against: the policy's thresholds, and the step time that was published for its recipe.

A published time is of one recipe on one kind of machine. Where either is changed in a way that changes the time of a
step, there is no reference: the probe's thresholds stand alone, and why is written down.
"""

import typing
from collections.abc import Mapping

# Of a config, what the time of a training step depends on; of `train` all but how long and how often it is looked at.
PARTS = ("model", "optim", "qat", "average", "train")
NO_MATTER = ("iterations", "max_seconds", "val_every", "log_every", "warmup_steps")


def reference_of(
    config: Mapping[str, typing.Any],
    base: Mapping[str, typing.Any] | None,
    published: Mapping[str, typing.Any] | None,
    *,
    is_ours: bool,
    is_record: bool,
) -> dict[str, typing.Any]:
    """`step_ms` and `source`, or `step_ms` None and `why`. `base` is what the config started from; `is_ours`: a recipe
    of this package, whose published facts are about its own config."""
    step_ms = (published or {}).get("step_ms")
    if published is None or step_ms is None:
        return {"step_ms": None, "why": "no step time was published for what runs"}
    if not is_ours or base is None:
        return {"step_ms": None, "why": "the published step time is of a recipe that this one was made from"}
    if not is_record:
        return {"step_ms": None, "why": "the step time was published for the policy's hardware, not for this"}
    if _timed(config) != _timed(base["config"]):
        return {"step_ms": None, "why": "the step time was published for the recipe without the changes made here"}
    return {"step_ms": step_ms, "source": str(published["source"])}


def _timed(config: Mapping[str, typing.Any]) -> dict[str, typing.Any]:
    parts = {name: config.get(name) for name in PARTS}
    train = {key: value for key, value in (parts["train"] or {}).items() if key not in NO_MATTER}
    return parts | {"train": train}


def describe(hardware: Mapping[str, typing.Any], is_record: bool) -> str:
    """What a worker will look at before it trains, for the plan. `hardware`: of run.json."""
    limits, reference = hardware["thresholds"], hardware["reference"]
    if limits is None or not is_record:
        return "number and model of the GPUs, memory errors; nothing of speed"
    text = (
        f"model, links, errors, who else is there; {limits['matmul_tflops']:g} TFLOPS, {limits['copy_gb_s']:g} and "
        f"{limits['all_reduce_gb_s']:g} GB/s; "
    )
    if not reference["step_ms"] or not limits["step_factor"]:
        return text + f"no step is judged: {reference.get('why', 'the policy sets no factor')}"
    return text + f"first steps in {limits['step_factor']:g} x {reference['step_ms']:g} ms"
