"""A dry run where there is no GPU: what it plans for, what it says of that, and that a start still needs one."""

import json
from pathlib import Path

import pytest

from golf_core.policy import load_policy
from orchestrator.catalogue import find
from orchestrator.errors import UsageError
from orchestrator.planned_gpus import planned_gpus, settings_of_plan
from orchestrator.preflight import make_target
from orchestrator.settings import Settings
from orchestrator.submit import Request, submit
from tests.orchestrator.fake_gpus import fake_nvml, install_nvml

H100 = load_policy("record-2026-03").gpu


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    """A machine whose driver names none."""
    install_nvml(monkeypatch, fake_nvml([]))
    monkeypatch.setattr("orchestrator.gpus.ROCM", ("rocm-smi-that-is-not-there",))


def settings(**flags):
    return Settings.resolve(flags, {}, Path("/nowhere"))


def test_a_grid_for_gpus_is_planned_where_there_is_none(capsys, tmp_path):
    """For what it is meant for, under the whole name that the driver would tell; the plan says that it did not look."""
    asked = settings(recipe="int6_ablation", seeds="1,2,3", runs_dir=str(tmp_path / "runs"))
    assert submit(asked, Request(dry_run=True)) == 0
    shown = capsys.readouterr().out
    assert f"1 process on 1x{H100}, bf16" in shown and "no GPU here: planned for H100:1, not checked" in shown
    assert "cost         not known" in shown and not (tmp_path / "runs").exists()
    assert submit(asked, Request(dry_run=True, json=True)) == 0
    first = json.loads(capsys.readouterr().out)["plans"][0]
    assert first["target"]["gpu"] == H100 and "not checked" in first["sources"]["gpu"]


PLANNED = {
    "as the recipe is meant": ({"recipe": "legal_ttt"}, 8, H100),
    "with more processes than that": ({"recipe": "int6_qat_warmdown", "processes": 2}, 2, H100),
    "the policy's, for a recipe that a CPU runs": ({"recipe": "demo", "policy": "record-2026-03"}, 2, H100),
    "a record's, where the policy names none": ({"recipe": "demo"}, 2, H100),
    "those that were named": ({"recipe": "legal_ttt", "gpu": "H200:4"}, 4, "H200"),
    "one, where a name has no number": ({"recipe": "legal_ttt", "gpu": "MI300X"}, 1, "MI300X"),
}


@pytest.mark.parametrize("flags, count, name", PLANNED.values(), ids=PLANNED)
def test_cuda_is_planned_where_there_is_none(flags, count, name):
    """The target of the plan is the one that a real machine with these GPUs would give."""
    recipe = find(flags["recipe"])
    target = make_target(settings_of_plan(recipe, settings(device="cuda", **flags), True), recipe.config)
    assert (target.device, target.gpus, target.processes, target.gpu) == ("cuda", count, count, name)


def test_a_start_still_needs_a_gpu():
    """Without --dry-run nothing is assumed, and GPUs that were only named are refused."""
    recipe = find("legal_ttt")
    asked = settings_of_plan(recipe, settings(device="cuda"), False)
    with pytest.raises(UsageError, match="no GPU is visible here"):
        make_target(asked, recipe.config)
    with pytest.raises(UsageError, match="is for --dry-run"):
        settings_of_plan(recipe, settings(device="cuda", gpu="H100:8"), False)
    with pytest.raises(UsageError, match="needs --device cuda"):
        settings_of_plan(recipe, settings(gpu="H100:8"), True)


def test_gpus_that_are_there_are_planned_for(monkeypatch):
    """A dry run on a machine with GPUs assumes nothing; another plan can still be asked for."""
    install_nvml(monkeypatch, fake_nvml(["NVIDIA H200"] * 2))
    recipe = find("legal_ttt")
    here = settings_of_plan(recipe, settings(device="cuda"), True)
    assert here["gpu"] is None and make_target(here, recipe.config).gpu == "NVIDIA H200"
    other = settings_of_plan(recipe, settings(device="cuda", gpu="H100:8"), True)
    assert make_target(other, recipe.config).gpus == 8


@pytest.mark.parametrize("gpu", ["", ":8", "H100:0", "H100:x", "H100:-1", "H100:99999", "H100:²"])
def test_gpus_that_cannot_be_are_refused(gpu):
    """One usage error with the value."""
    asked = settings(device="cuda", gpu=gpu)
    with pytest.raises(UsageError, match="gpu="):
        planned_gpus(asked)
