"""Which policy a submission has where nobody named one, and where the plan says that it is from."""

import pytest

from golf_core.policy import load_policy
from golf_core.recipes import RECIPES, Grid, load_recipe
from orchestrator.catalogue import find
from orchestrator.default_policy import settings_of_policy
from orchestrator.grids.plan import settings_of_grid
from orchestrator.request import Request
from orchestrator.settings import Settings
from orchestrator.submit import submit
from tests.orchestrator.fake_gpus import fake_nvml, install_nvml

H100 = "NVIDIA H100 80GB HBM3"
ONE_H100, EIGHT_H100 = f"default for 1x{H100}", f"default for 8x{H100}"


def policy_of(monkeypatch, folder, gpus, flags, environ=None, overrides=()):
    """Name and source of the policy of a submit on a machine whose driver names these GPUs."""
    install_nvml(monkeypatch, fake_nvml(gpus))
    monkeypatch.setattr("orchestrator.hardware.gpus.ROCM", ("rocm-smi-that-is-not-there",))
    settings = Settings.resolve(flags, environ or {}, folder)
    found = find(settings["recipe"])
    if isinstance(found, Grid):
        settings = settings_of_grid(found, settings, None)
    settings = settings_of_policy(found, settings, overrides)
    return settings["policy"], settings.source("policy")


RENTED = {
    "a record's GPUs": ([H100] * 8, {"device": "cuda"}, "record-2026-03", EIGHT_H100),
    "a grid for a record's GPUs": ([H100] * 8, {"recipe": "full_sota_4096"}, "record-2026-03", EIGHT_H100),
    "fewer of them": ([H100] * 4, {"device": "cuda"}, "exploration", f"default for 4x{H100}"),
    "one of them": ([H100] * 8, {"device": "cuda", "processes": 1}, "exploration", ONE_H100),
    "others": (["NVIDIA H200"] * 8, {"device": "cuda"}, "exploration", "default for 8xNVIDIA H200"),
    "a grid for one GPU": ([H100] * 8, {"recipe": "int6_ablation"}, "exploration", ONE_H100),
    "a recipe for one GPU on one": (
        [H100], {"device": "cuda", "recipe": "int6_qat_warmdown"}, "exploration", ONE_H100,
    ),
    "a recipe for one GPU on eight": (
        [H100] * 8, {"device": "cuda", "recipe": "int6_qat_warmdown"}, "exploration",
        "default for what is meant for H100:1",
    ),
    "the demo": ([H100], {"device": "cuda", "recipe": "demo"}, "exploration", ONE_H100),
}  # fmt: skip


@pytest.mark.parametrize("gpus, flags, name, source", RENTED.values(), ids=RENTED)
def test_gpus_bring_a_policy_with_its_source(monkeypatch, tmp_path, gpus, flags, name, source):
    """The record's where target and recipe are the record's; else the one for explorations."""
    assert policy_of(monkeypatch, tmp_path, gpus, flags) == (name, source)


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_a_cpu_keeps_the_demos_policy(monkeypatch, tmp_path, recipe):
    """Whatever the recipe is meant for, and whatever GPUs the machine has."""
    assert policy_of(monkeypatch, tmp_path, [H100] * 8, {"recipe": recipe}) == ("demo", "default")


@pytest.mark.parametrize("given", ["demo", "record-2026-03", "exploration"])
@pytest.mark.parametrize("gpus", [1, 8])
def test_a_policy_that_somebody_gave_stays(monkeypatch, tmp_path, given, gpus):
    """By flag, environment or project file: the hardware changes nothing about it, even where it is the default."""
    flags, machine = {"device": "cuda"}, [H100] * gpus
    assert policy_of(monkeypatch, tmp_path, machine, flags | {"policy": given}) == (given, "--policy")
    assert policy_of(monkeypatch, tmp_path, machine, flags, {"GOLF_POLICY": given}) == (given, "GOLF_POLICY")
    (tmp_path / "golf.toml").write_text(f"policy = '{given}'\n")
    assert policy_of(monkeypatch, tmp_path, machine, flags) == (given, "golf.toml")


@pytest.mark.parametrize("gpus, name", [(1, "exploration"), (8, "record-2026-03")])
def test_the_plan_shows_policy_and_source(monkeypatch, tmp_path, corpus, capsys, gpus, name):
    """A dry run of the command itself: name, caps, target class and where the policy came from."""
    install_nvml(monkeypatch, fake_nvml([H100] * gpus))
    flags = {"device": "cuda", "recipe": "demo", "runs_dir": str(tmp_path / "runs"), "on": "process"}
    flags |= {"data": corpus["data_path"], "tokenizer": corpus["tokenizer_path"]}
    settings = Settings.resolve(flags, {}, tmp_path)
    assert submit(settings, Request(dry_run=True, overrides=("train.micro_batches=8",))) == 0
    shown = capsys.readouterr().out
    line = next(line for line in shown.splitlines() if line.startswith("policy "))
    seconds = load_policy(name).evaluate_seconds
    assert f"{name}: 16,000,000 bytes" in line and f"{seconds:g} s evaluation" in line
    assert line.endswith(f"[default for {gpus}x{H100}]")
    assert ("(record)" if gpus == 8 else "(exploratory)") in shown and not (tmp_path / "runs").exists()


def test_an_exploration_is_the_race_with_an_hour_to_evaluate():
    """Bytes and training time are the race's; no hardware is asked for, so no record can be claimed under it."""
    exploration, record = load_policy("exploration"), load_policy("record-2026-03")
    for cap in ("artifact_bytes", "train_seconds", "kill_after_seconds"):
        assert getattr(exploration, cap) == getattr(record, cap)
    assert (exploration.evaluate_seconds, exploration.seeds, exploration.gpu) == (3600, 1, None)
    assert "no claim for the race" in exploration.summary.lower()


def test_a_recipe_for_one_gpu_names_no_policy_that_kills_it():
    """Its own command leaves the policy to the hardware, or names one that lets one GPU evaluate."""
    for recipe in [load_recipe("int6_qat_warmdown"), *find("int6_ablation").recipes]:
        assert "record-2026-03" not in recipe.command and "--policy demo" not in recipe.command
