"""What --gpus asks for, here and of a cluster; a dry run where there is no GPU: what it plans for and says of it."""

import dataclasses
import json
from pathlib import Path

import pytest

from golf_core.config_io import override
from golf_core.policy import load_policy
from orchestrator.catalogue import find
from orchestrator.cluster.survey import NodeFacts
from orchestrator.errors import UsageError
from orchestrator.hardware.request import (
    GpuRequest,
    Offer,
    choose,
    offers_of,
    read_request,
    settings_of_plan,
    settings_of_request,
)
from orchestrator.request import Request
from orchestrator.settings import Settings
from orchestrator.site import make_target
from orchestrator.submit import submit
from tests.orchestrator.fake_gpus import fake_nvml, install_nvml

H100 = load_policy("record-2026-03").gpu


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    """A machine whose driver names none."""
    install_nvml(monkeypatch, fake_nvml([]))
    monkeypatch.setattr("orchestrator.hardware.gpus.ROCM", ("rocm-smi-that-is-not-there",))


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
    assert first["target"]["gpu"] == H100 and "not checked" in first["sources"]["gpus"]


PLANNED = {
    "as the recipe is meant": ({"recipe": "legal_ttt"}, 8, H100),
    "with more processes than that": ({"recipe": "int6_qat_warmdown", "processes": 2}, 2, H100),
    "the policy's, for a recipe that a CPU runs": ({"recipe": "demo", "policy": "record-2026-03"}, 2, H100),
    "a record's, where the policy names none": ({"recipe": "demo"}, 2, H100),
    "those that were named": ({"recipe": "legal_ttt", "gpus": "H200:4"}, 4, "H200"),
    "one, where a name has no number": ({"recipe": "legal_ttt", "gpus": "MI300X"}, 1, "MI300X"),
    "any, of the model that the recipe is meant for": ({"recipe": "legal_ttt", "gpus": "any:2"}, 2, H100),
}


@pytest.mark.parametrize("flags, count, name", PLANNED.values(), ids=PLANNED)
def test_cuda_is_planned_where_there_is_none(flags, count, name):
    """The target of the plan is the one that a real machine with these GPUs would give."""
    recipe = find(flags["recipe"])
    target = make_target(settings_of_plan(recipe, settings(device="cuda", **flags), True), recipe.config)
    assert (target.device, target.gpus, target.processes, target.gpu) == ("cuda", count, count, name)


def refusal(gpus, **flags):
    """What a start says to --gpus here."""
    asked = settings(gpus=gpus, recipe="demo", **flags)
    with pytest.raises(UsageError) as refused:
        make_target(settings_of_plan(None, settings_of_request(asked), False), None)
    return str(refused.value)


def test_a_start_needs_the_gpus_here():
    """Without --dry-run nothing is assumed: what is missing, and what could be done about it."""
    recipe = find("legal_ttt")
    with pytest.raises(UsageError, match="no GPU is visible here"):
        make_target(settings_of_plan(recipe, settings(device="cuda"), False), recipe.config)
    said = refusal("any:1")
    assert said.startswith("--gpus=any:1: no GPU is visible here (NVML and rocm-smi name none)")
    assert all(way in said for way in ("--gpus 0", "--dry-run", "--address"))


def test_zero_gpus_are_this_cpu():
    """--gpus 0 is a CPU, for a grid that is meant for GPUs too; a device that says otherwise is refused."""
    asked = settings_of_request(settings(gpus="0", recipe="int6_ablation"))
    assert (asked["device"], asked.source("device")) == ("cpu", "--gpus=0")
    for gpus, device in (("0", "cuda"), ("H100:8", "cpu")):
        with pytest.raises(UsageError, match=f"--gpus={gpus} and --device={device} contradict each other"):
            settings_of_request(settings(gpus=gpus, device=device))


def test_gpus_bring_their_default_recipe():
    """As --device cuda does: what a rented machine would run."""
    assert settings_of_request(settings(gpus="H100:8"))["recipe"] == "legal_ttt"
    assert settings_of_request(settings(gpus="H100:8", recipe="demo"))["recipe"] == "demo"


@pytest.mark.parametrize("gpus, count", [("H200:2", 2), ("NVIDIA H200:1", 1), ("any:2", 2), ("h200", 1)])
def test_gpus_that_are_here_are_taken(monkeypatch, gpus, count):
    """As many as are asked for, under the driver's whole name; a process for each."""
    install_nvml(monkeypatch, fake_nvml(["NVIDIA H200"] * 2))
    target = make_target(settings_of_request(settings(gpus=gpus)), find("legal_ttt").config)
    assert (target.device, target.gpu, target.gpus, target.processes) == ("cuda", "NVIDIA H200", count, count)


def test_other_gpus_than_those_here_are_refused(monkeypatch):
    """Another model, more than there are, more or fewer processes than GPUs: each with what is here."""
    install_nvml(monkeypatch, fake_nvml(["NVIDIA H200"] * 2))
    for gpus in ("H100:2", "H200:4", "NVIDIA:1"):
        assert "2x NVIDIA H200 are visible here" in refusal(gpus)
    for processes in (1, 3):
        assert "every process has one of its own" in refusal("H200:2", processes=processes)
    with pytest.raises(UsageError, match=r"processes=2 does not divide train.micro_batches=1"):
        make_target(
            settings_of_request(settings(gpus="H200:2")), override(find("demo").config, ["train.micro_batches=1"])
        )


def test_parts_of_a_gpu_and_hidden_ones_have_a_clear_word(monkeypatch):
    """Two MIG instances cannot work together, one can; hidden GPUs are told as hidden."""
    install_nvml(monkeypatch, fake_nvml([H100], mig=(0,)))
    assert "parts do not work together" in refusal("any:2")
    assert make_target(settings_of_request(settings(gpus="any:1")), None).gpu == f"{H100} MIG 1g.10gb"
    install_nvml(monkeypatch, fake_nvml([H100] * 8))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "8 are hidden by the environment" in refusal("H100:8")


def test_gpus_that_are_there_are_planned_for(monkeypatch):
    """A dry run on a machine with GPUs assumes nothing; another plan can still be asked for."""
    install_nvml(monkeypatch, fake_nvml(["NVIDIA H200"] * 2))
    recipe = find("legal_ttt")
    here = settings_of_plan(recipe, settings(device="cuda"), True)
    assert here["gpus"] is None and make_target(here, recipe.config).gpu == "NVIDIA H200"
    other = settings_of_plan(recipe, settings(device="cuda", gpus="H100:8"), True)
    assert (make_target(other, recipe.config).gpus, make_target(other, recipe.config).gpu) == (8, H100)
    assert other.source("gpus") == "--gpus: not here, planned for H100:8, not checked"


@pytest.mark.parametrize("gpus", ["", " ", ":8", "H100:0", "H100:x", "H100:-1", "H100:99999", "H100:²", "H1\n00:1"])
def test_gpus_that_cannot_be_are_refused(gpus):
    """One usage error with the value."""
    with pytest.raises(UsageError, match="--gpus="):
        read_request(settings(gpus=gpus))


def test_a_number_alone_is_no_model():
    """`8` asks for what is written any:8; a number that is a model's name can be one."""
    with pytest.raises(UsageError, match="write MODEL:8 as in H100:8"):
        read_request(settings(gpus="8"))
    assert read_request(settings(gpus="4090:1")) == GpuRequest("4090", 1) == read_request(settings(gpus="4090"))


NODES = {
    "n1": Offer("n1", "NVIDIA H100 80GB HBM3", 8, real=True),
    "n2": Offer("n2", "NVIDIA H100 PCIe", 4, real=True),
    "n3": Offer("n3", "NVIDIA A100-SXM4-40GB", 8, real=True),
    "n4": Offer("n4", "H100", 8, real=False),
    "n5": Offer("n5", None, 8, real=False),
}
CHOICES = {
    "the only one of that size": (("H100", 8), ("n1", "n2", "n4"), None, "n1"),
    "by its whole name": (("NVIDIA H100 PCIe", 2), ("n1", "n2"), None, "n2"),
    "any, where one model would do": ((None, 8), ("n2", "n3"), None, "n3"),
    "the short name of a longer one": (("A100", 1), ("n1", "n3"), None, "n3"),
    "simulated, where nothing is really there": (("H100", 8), ("n4", "n5"), None, "n4"),
    "simulated, because somebody asked": (("H100", 8), ("n1", "n4"), "cpu", "n4"),
    "any that nobody named": ((None, 8), ("n5",), None, "n5"),
    "both forms of a model": (("H100", 4), ("n1", "n2"), None, "several models would do"),
    "nothing of that size": (
        ("H100", 8),
        ("n2", "n3"),
        None,
        "no node has 8x H100; the cluster has n2: 4x NVIDIA",
    ),
    "not really there": (("H100", 8), ("n4",), "cuda", "that are really there; the cluster has n4: 8x H100 simulated"),
    "nothing at all": ((None, 1), (), None, "the cluster has no node with GPUs"),
}


@pytest.mark.parametrize("asked, nodes, device, expected", CHOICES.values(), ids=CHOICES)
def test_a_cluster_gives_one_model_or_says_what_it_has(asked, nodes, device, expected):
    """All of a seed's GPUs on one node; real ones first; never a guess between models, since ids name them."""
    request, offers = GpuRequest(*asked), [NODES[name] for name in nodes]
    if expected in NODES:
        assert choose(request, offers, "--gpus=x", device) == NODES[expected]
        return
    with pytest.raises(UsageError, match=f"^--gpus=x: .*{expected}"):
        choose(request, offers, "--gpus=x", device)


NODE = NodeFacts(node_id="ab" * 14, hostname="n1", address="10.0.0.1", declared_gpus=8, models=("H100",))
SEEN = {
    "real": (NODE, ({"name": H100},) * 8, [(H100, 8, True)]),
    "fewer declared": (dataclasses.replace(NODE, declared_gpus=4), ({"name": H100},) * 8, [(H100, 4, True)]),
    "fewer there": (NODE, ({"name": H100},) * 7, [(H100, 7, True)]),
    "two models": (NODE, ({"name": "B"}, {"name": "A"}, {"name": "A"}), [("A", 2, True), ("B", 1, True)]),
    "declared alone": (NODE, (), [("H100", 8, False)]),
    "declared without a label": (dataclasses.replace(NODE, models=()), (), [(None, 8, False)]),
    "none declared": (dataclasses.replace(NODE, declared_gpus=0), ({"name": H100},) * 8, []),
    "no answer": (dataclasses.replace(NODE, error="late"), (), []),
}  # fmt: skip


@pytest.mark.parametrize("node, gpus, expected", SEEN.values(), ids=SEEN)
def test_a_node_offers_what_is_there_and_declared(node, gpus, expected):
    """The driver's names where it shows any; GPUs are simulated only where the node answered and has none."""
    offers = offers_of([dataclasses.replace(node, gpus=gpus)])
    assert [(offer.model, offer.count, offer.real) for offer in offers] == expected
