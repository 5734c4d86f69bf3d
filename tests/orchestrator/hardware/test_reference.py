"""What a run's hardware is held against: the policy's thresholds, and a step time published for what it runs."""

import dataclasses
from dataclasses import asdict

import pytest

from golf_core.config_io import override, to_dict
from golf_core.fields import ConfigError
from golf_core.policy import Hardware, load_policy, policy_from, policy_names
from golf_core.recipes import GRIDS, RECIPES, load_recipe
from orchestrator.catalogue import base_of
from orchestrator.hardware.reference import describe
from orchestrator.spec import Target
from tests.orchestrator.toy import limits, submission

RECORD = load_policy("record-2026-03")
EIGHT = Target(device="cuda", gpu=RECORD.gpu, gpus=8, processes=8, dtype="bf16")


def asked(name="legal_ttt", overrides=(), target=EIGHT, policy=RECORD, **changed):
    """What run.json of a recipe says of hardware."""
    recipe = load_recipe(name)
    made = dataclasses.replace(
        submission(),
        target=target,
        policy=policy,
        config=to_dict(override(recipe.config, overrides)),
        published=asdict(recipe.published) if recipe.published else None,
        base=base_of(recipe, recipe),
        **changed,
    )
    return made.run_json(made.runs[0], 1, limits())["hardware"]


def test_a_published_step_time_travels_with_its_source():
    """The two that were measured on the record's hardware, with the thresholds of the policy beside them."""
    told = asked()
    assert told["reference"]["step_ms"] == 83.9 and "#347" in told["reference"]["source"]
    assert asked("naive_baseline")["reference"]["step_ms"] == 43.54
    assert Hardware(**told["thresholds"]) == RECORD.hardware and RECORD.hardware.step_factor == 2.0


NO_REFERENCE = {
    "nothing published": ({"name": "long_context_4096"}, "no step time was published"),
    "another model": ({"overrides": ["model.layers=12"]}, "without the changes"),
    "another batch": ({"overrides": ["train.batch_tokens=393216"]}, "without the changes"),
    "other hardware": ({"target": dataclasses.replace(EIGHT, gpu="NVIDIA H200")}, "not for this"),
    "fewer GPUs": ({"target": dataclasses.replace(EIGHT, gpus=4, processes=4)}, "not for this"),
    "a user's recipe": ({"recipe_file": {"name": "mine.py"}}, "made from"),
}


@pytest.mark.parametrize("changed, why", NO_REFERENCE.values(), ids=NO_REFERENCE)
def test_a_step_time_of_something_else_is_no_reference(changed, why):
    """No number is made up: there is none, and why is written down."""
    reference = asked(**changed)["reference"]
    assert reference["step_ms"] is None and why in reference["why"]


@pytest.mark.parametrize(
    "free", ["train.iterations=100", "train.log_every=7", "quant.mlp_bits=5", "evaluate.stride=32"]
)
def test_what_changes_no_step_keeps_the_reference(free):
    """Length, logging, what ships and how it is scored have no part in the time of a step."""
    assert asked(overrides=[free])["reference"]["step_ms"] == 83.9


def test_the_plan_says_what_will_be_looked_at():
    """With the reference, without it and why, and on other hardware than the policy's."""
    assert describe(asked(), True).endswith("500 TFLOPS, 2300 and 200 GB/s; first steps in 2 x 83.9 ms")
    assert "no step is judged: no step time was published" in describe(asked("long_context_4096"), True)
    assert "nothing of speed" in describe(asked(), False)
    assert "nothing of speed" in describe(asked(policy=load_policy("exploration")), True)


def test_a_cpu_is_held_against_nothing():
    """Nor are simulated GPUs."""
    cpu = submission().target
    assert asked(target=cpu) is None and asked(target=dataclasses.replace(cpu, gpus=8)) is None


def test_only_published_times_are_in_the_recipes():
    """Each is of a score that was measured, on the hardware that the recipe is meant for."""
    known = [make() for make in RECIPES.values()] + [one for make in GRIDS.values() for one in make().recipes]
    timed = [one for one in known if one.published is not None and one.published.step_ms is not None]
    assert [one.config.name for one in timed] == ["naive_baseline", "legal_ttt"]
    assert all(one.published.status == "measured" and one.target == "H100:8" for one in timed)
    assert all(f"{one.published.step_ms:g} ms" in one.expects for one in timed)


@pytest.mark.parametrize("name", policy_names())
def test_a_policy_survives_its_registration(name):
    """With its thresholds, where it has some: those that name hardware do, and all of them the same."""
    policy = load_policy(name)
    assert policy_from(policy.to_dict()) == policy
    assert (policy.hardware is None) == (policy.gpu is None) and policy.hardware in (None, RECORD.hardware)


@pytest.mark.parametrize(
    "line", ["step_factor = 0.5", "nvlinks = -1", "probe_seconds = 0.0", "speed = 1.0", "copy_gb_s = 'fast'"]
)
def test_thresholds_that_cannot_be_are_refused(tmp_path, line):
    """With the file and the field."""
    path = tmp_path / "mine.toml"
    caps = "summary='s'\nartifact_bytes=1\ntrain_seconds=1.0\nevaluate_seconds=1.0\nkill_after_seconds=1.0\nseeds=1\n"
    path.write_text(f"{caps}[hardware]\n{line}\n")
    with pytest.raises(ConfigError, match=rf"mine.toml.*hardware\.{line.split()[0]}"):
        load_policy(str(path))
