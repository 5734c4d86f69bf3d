"""The plan: what size, meant for what, and what is refused before anything is paid for."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from golf_core.config_io import override
from golf_core.fields import ConfigError
from golf_core.policy import load_policy
from golf_core.recipes import load_recipe
from orchestrator.errors import UsageError
from orchestrator.plan import check_sizes, is_as_meant, lines, make_plan
from orchestrator.preflight import Prepared
from orchestrator.request import Request
from orchestrator.settings import Settings
from orchestrator.size import Size
from orchestrator.spec import Target
from orchestrator.submit import submit
from tests.orchestrator.fake_gpus import fake_nvml, install_nvml
from tests.orchestrator.toy import submission

RECORD = load_policy("record-2026-03")
CPU = Target(device="cpu", processes=2)
EIGHT = Target(device="cuda", gpu=RECORD.gpu, gpus=8, processes=8, dtype="bf16")
ONE = dataclasses.replace(EIGHT, gpus=1, processes=1)


def plan_of(tmp_path, name, target=CPU, overrides=(), edited=False):
    """The plan of a recipe on a target that may not be here, and its lines by name."""
    settings = Settings.resolve({"recipe": name}, {}, tmp_path)
    recipe = load_recipe(name)
    config = override(recipe.config, overrides)
    asked = submission()
    asked = dataclasses.replace(
        asked, recipe=name, target=target, policy=RECORD, config={"diagnostic_only": config.diagnostic_only}
    )
    plan = make_plan(Prepared(asked, recipe, config), {}, settings, edited=edited)
    return plan, {line: value for line, value, _ in lines(plan, settings)}


@pytest.mark.parametrize("name", ["demo", "naive_baseline", "int6_ablation"])
def test_a_config_without_effect_is_refused_before_anything_starts(monkeypatch, tmp_path, name):
    """Neither Ray nor the check of the data is begun: one usage error that names the recipe, and no file."""

    def refuse(config):
        raise ConfigError("smear=v9 changes nothing")

    def started(*arguments, **more):
        raise AssertionError("something was started")

    monkeypatch.setattr("orchestrator.catalogue.take_inventory", refuse)
    monkeypatch.setattr("orchestrator.site.DataCheck", started)
    monkeypatch.setattr("orchestrator.site.warm_up", started)
    for device in ("cpu", "cuda"):
        install_nvml(monkeypatch, fake_nvml([RECORD.gpu]))
        settings = Settings.resolve(
            {"recipe": name, "device": device, "runs_dir": str(tmp_path / "runs")}, {}, tmp_path
        )
        for dry_run in (True, False):
            with pytest.raises(UsageError, match=rf"^{name}[.\w]*: smear=v9 changes nothing$"):
                submit(settings, Request(dry_run=dry_run))
    assert list(tmp_path.iterdir()) == []


@given(st.integers(1, 10**9), st.integers(0, 10**7), st.integers(1, 10**9))
def test_a_size_is_judged_only_where_it_is_clear(model_bytes, code_bytes, cap):
    """More than a tenth above the cap cannot fit, more than a tenth below fits, between nobody knows."""
    size = Size(parameters=1, model_bytes=model_bytes, code_bytes=code_bytes, cap=cap)
    share = (model_bytes + code_bytes) / cap
    expected = "cannot fit" if share > 1.1 else "fits" if share < 0.9 else "may not fit"
    if min(abs(share - 1.1), abs(share - 0.9)) > 1e-9:
        assert size.verdict == expected
    assert size.verdict in size.describe() and f"{size.total:,} bytes" in size.describe()


@pytest.mark.parametrize(
    "name, verdict",
    [
        ("demo", "fits"),
        ("naive_baseline", "may not fit"),
        ("legal_ttt", "may not fit"),
        ("shared_kv_16l", "cannot fit"),
    ],
)
def test_the_plan_says_whether_a_recipe_fits(tmp_path, name, verdict):
    """Parameters, weights, code and cap stand in the plan, for the eye and as JSON."""
    plan, shown = plan_of(tmp_path, name)
    told = plan.to_dict()["size"]
    assert told["verdict"] == verdict and f": {verdict}" in shown["size"] and told["cap"] == 16_000_000
    assert told["total_bytes"] == told["model_bytes"] + told["code_bytes"]
    assert shown["parameters"] == f"{told['parameters']:,}"


def test_what_cannot_fit_is_refused_on_record_hardware_alone(tmp_path):
    """Eight of the policy's GPUs: a usage error that names the way out; elsewhere, edited or smaller it goes on."""
    plan, shown = plan_of(tmp_path, "shared_kv_16l", EIGHT)
    assert "submit refuses it" in shown["size"] and plan.to_dict()["refused"] is True
    with pytest.raises(UsageError, match=r"cannot fit under policy record-2026-03: about 21,.*--policy exploration"):
        check_sizes([plan])
    for more in ({"target": ONE}, {"target": CPU}, {"edited": True}, {"overrides": ("model.layers=4",)}):
        check_sizes([plan_of(tmp_path, "shared_kv_16l", **({"target": EIGHT} | more))[0]])


@pytest.mark.parametrize(
    "meant, target, same",
    [
        ("cpu", CPU, True),
        ("cpu", ONE, False),
        ("H100:1", ONE, True),
        ("H100:1", EIGHT, False),
        ("H100:8", EIGHT, True),
        ("H100:8", CPU, False),
        ("H100:1", dataclasses.replace(ONE, gpu="NVIDIA H200"), False),
    ],
)
def test_a_target_is_as_meant_or_not(meant, target, same):
    """Model and number of the GPUs, or a CPU."""
    assert is_as_meant(meant, target) == same


def test_another_target_than_meant_is_a_line_of_the_plan(tmp_path):
    """It names both; where they agree there is no such line."""
    assert plan_of(tmp_path, "legal_ttt")[1]["meant for"].startswith("H100:8; this target is cpu, 2 processes")
    assert plan_of(tmp_path, "demo", ONE)[1]["meant for"] == f"cpu; this target is 1x {RECORD.gpu}"
    for name, target in (("legal_ttt", EIGHT), ("demo", CPU)):
        plan, shown = plan_of(tmp_path, name, target)
        assert "meant for" not in shown and plan.to_dict()["as_meant"] is True


def test_a_diagnostic_config_is_a_line_of_the_plan(tmp_path):
    """The plan says that nothing of it can be submitted, and only then."""
    plan, shown = plan_of(tmp_path, "demo", overrides=("diagnostic_only=true",))
    assert "nothing of it can be submitted" in shown["diagnostic"] and plan.to_dict()["diagnostic_only"] is True
    assert "diagnostic" not in plan_of(tmp_path, "demo")[1]


@pytest.mark.parametrize("pieces, told", [(512, True), (1024, False), (None, False)])
def test_a_tokenizer_smaller_than_the_model_is_noted(tmp_path, pieces, told):
    """Rows of an embedding that no token reaches cost bytes for nothing; the plan says what to set."""
    plan, _ = plan_of(tmp_path, "demo")
    data = dataclasses.replace(plan.submission.data, pieces=pieces)
    small = dataclasses.replace(plan.submission, data=data, config={"model": {"vocab": 1024}, "diagnostic_only": False})
    shown = {
        name: value
        for name, value, _ in lines(dataclasses.replace(plan, submission=small), Settings.resolve({}, {}, tmp_path))
    }
    assert ("--set model.vocab=512" in shown.get("vocabulary", "")) == told
