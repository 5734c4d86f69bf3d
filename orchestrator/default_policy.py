"""Which policy holds where nobody named one: on a CPU that of the demo, on the race's own GPUs the race's.

A record's GPUs are rented for a record, so its caps hold from the start. One GPU needs longer to evaluate than those
caps allow, and can claim nothing: it gets the policy for explorations.
"""

from collections.abc import Sequence

from golf_core.policy import Policy, load_policy
from golf_core.recipes import Grid, Recipe
from orchestrator.catalogue import changed, variants
from orchestrator.settings import DEFAULT, Settings
from orchestrator.site import MakeTarget, make_target
from orchestrator.spec import Target, target_class

RECORD, EXPLORATION = "record-2026-03", "exploration"


def settings_of_policy(
    found: Recipe | Grid | None, settings: Settings, overrides: Sequence[str], target_of: MakeTarget = make_target
) -> Settings:
    """The settings with the policy that the target asks for, where nobody gave one. A grid has one for all variants;
    of a script (None) nobody says what it is meant for."""
    if settings["device"] != "cuda" or settings.source("policy") != DEFAULT:
        return settings
    if found is None:
        return settings.with_default("policy", *default_policy(None, [target_of(settings, None)]))
    targets = [target_of(settings, changed(recipe, overrides)) for recipe in variants(found)]
    return settings.with_default("policy", *default_policy(found.target, targets))


def default_policy(meant_for: str | None, targets: Sequence[Target]) -> tuple[str, str]:
    """Name and source. `meant_for`: of the recipe or grid, such as H100:1."""
    record = load_policy(RECORD)
    other = next((target for target in targets if target_class(target, record) != "record"), None)
    if other is not None:
        return EXPLORATION, f"default for {other.gpus}x{other.gpu}"
    if meant_for is not None and is_meant_for_fewer(meant_for, record):
        return EXPLORATION, f"default for what is meant for {meant_for}"
    return RECORD, f"default for {record.gpus}x{record.gpu}"


def is_meant_for_fewer(meant_for: str, record: Policy) -> bool:
    """Whether `MODEL:COUNT` asks for fewer GPUs than the record has. A recipe for a CPU asks for none.

    >>> [is_meant_for_fewer(one, load_policy(RECORD)) for one in ("H100:1", "H100", "H100:8", "cpu")]
    [True, True, False, False]
    """
    model, _, count = meant_for.partition(":")
    return model != "cpu" and (count or "1").isdecimal() and int(count or "1") < record.gpus
