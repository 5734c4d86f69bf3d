"""Surveys: what a node says of itself, what becomes of it on the way, and what the doctor makes of it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.backends.ray_survey import lost
from orchestrator.cluster.node_findings import NEEDED, refuse_unfit, survey_findings
from orchestrator.cluster.node_look import look, look_at_data
from orchestrator.cluster.survey import KERNELS, PACKAGES, NodeFacts, Survey
from orchestrator.doctor.finding import OK, WARNING, WRONG
from orchestrator.errors import BackendFailure
from orchestrator.lock import pinned, requirements
from orchestrator.spec import Data
from tests.orchestrator.toy import ROOT

H100 = "NVIDIA H100 80GB HBM3"
LOCKED = {one.name: one.pin or one.least for one in requirements(ROOT)}
INSTALLED = {name: LOCKED[name] for name in PACKAGES} | {"flash_attn_3": "3.0", "flash_attn": None}


def gpu(name=H100):
    return {"name": name, "source": "nvml", "uuid": None}


def node(name="n1", **changes):
    """A node with eight H100 where nothing is wrong, changed."""
    good = NodeFacts(
        node_id=name * 10,
        hostname=name,
        address="10.0.0.1",
        models=("H100",),
        declared_gpus=8,
        declared_cpus=64.0,
        free_gpus=8,
        python="3.11.7",
        packages=INSTALLED,
        gpus=(gpu(),) * 8,
        cores=64,
        memory_bytes=10**12,
        node_dir="/root/golf-node",
        disk_free_bytes=10**12,
        clock_offset=0.001,
        clock_error=0.002,
    )
    return replace(good, **changes)


def head(**changes):
    without = {"models": (), "declared_gpus": 0, "free_gpus": 0, "gpus": (), "is_head": True}
    bare = {name: None for name in PACKAGES} | {"ray": LOCKED["ray"]}
    return node("head", **({"packages": bare} | without | changes))


def findings(*nodes, **more):
    survey = Survey(ray=more.pop("ray", "2.60.0"), python="3.11.7", nodes=nodes, lost=more.pop("lost", ()))
    return list(survey_findings(survey, ROOT, more.pop("here", "2.60.0"), **more))


def troubles(*nodes, **more):
    return [one for one in findings(*nodes, **more) if one.state != OK]


def test_a_good_cluster_is_a_line_a_node():
    """Nothing is wrong, though the head has nothing of ours installed: no attempt runs there."""
    found = findings(head(), node("n1"), node("n2", free_gpus=0))
    assert [one.state for one in found] == [OK] * 4 and [one.name for one in found] == ["ray", *["node"] * 3]
    assert "head (headhead), head: no GPU" in found[1].found and "runs no attempts" in found[1].found
    assert f"8x {H100}," in found[2].found and "torch 2.13.0" in found[2].found and "(8 busy)" in found[3].found


TROUBLES = {
    "silent": ({"error": "did not answer within 60 s"}, "node", WRONG, "did not answer", "ray status"),
    "old_python": ({"python": "3.10.2"}, "python", WRONG, ">=3.11 is needed", "on every node"),
    "torch_absent": ({"packages": INSTALLED | {"torch": None}}, "packages", WRONG, "torch (2.9", "--install-packages"),
    "numpy_old": ({"packages": INSTALLED | {"numpy": "1.26"}}, "packages", WRONG, "numpy 1.26; 2 or", "pip install"),
    "other_torch": ({"packages": INSTALLED | {"torch": "2.14.1"}}, "packages", WARNING, "2.13.0 locked", "nobody"),
    "cpu_torch": ({"packages": INSTALLED | {"torch": "2.13.0+cpu"}}, "packages", WRONG, "cannot use its GPUs", "build"),
    "no_nvml": ({"gpus": ()}, "gpus", WARNING, "simulated", "nvidia-smi"),
    "one_missing": ({"gpus": (gpu(),) * 7}, "gpus", WRONG, "8 GPUs are declared to Ray, 7 are there", "--num-gpus=7"),
    "some_unused": ({"declared_gpus": 4}, "gpus", WARNING, "8 GPUs are there, 4 of them", "without --num-gpus"),
    "mixed": ({"gpus": (gpu(),) * 7 + (gpu("NVIDIA A10"),)}, "gpus", WRONG, "several models", "CUDA_VISIBLE_DEVICES"),
    "unlabelled": ({"models": ()}, "labels", WARNING, "no label tells", "--labels gpu-type=H100"),
    "mislabelled": ({"models": ("A100",)}, "labels", WRONG, f"labelled A100 and has {H100}", "label of what it has"),
    "no_kernels": (
        {"packages": INSTALLED | {"flash_attn_3": None}},
        "kernels",
        WARNING,
        "no flash_attn",
        "flash_attn_3",
    ),
    "read_only": ({"disk_error": "/x: Read-only file system"}, "disk", WRONG, "Read-only", "--node-dir"),
    "full": ({"disk_free_bytes": 10**8}, "disk", WRONG, "0.1 GB free at /root/golf-node", "make space"),
    "nearly_full": ({"disk_free_bytes": 10**9}, "disk", WARNING, "1.0 GB free", "make space"),
    "clock_before": ({"clock_offset": 3600.0}, "clock", WARNING, "3600 s before the head's", "NTP"),
    "clock_behind": ({"clock_offset": -60.0}, "clock", WARNING, "60 s behind the head's", "NTP"),
    "no_data": ({"data_error": "there is no folder /d"}, "data", WRONG, "no folder /d", "every node"),
}


@pytest.mark.parametrize("change, name, state, found, mend", TROUBLES.values(), ids=TROUBLES)
def test_each_trouble_of_a_node_is_told_with_its_mend(change, name, state, found, mend):
    """One finding, which names the node; what is wrong has an exit code, and a doubt has none."""
    (one,) = troubles(head(), node("n1", **change))
    assert (one.name, one.state) == (name, state) and found in one.found and "n1 (n1n1n1n1)" in one.found
    assert mend in one.mend and (one.exit_code == (2 if name == "data" else 5) if state == WRONG else not one.exit_code)


def test_nodes_are_compared_with_each_other():
    """Versions and data that differ between nodes on which seeds may run; a head that runs none is left out."""
    data = Data(path="/d", sha256="a" * 64, tokenizer_path="/t", tokenizer_sha256="b" * 64, name="tiny")
    other = INSTALLED | {"torch": "2.13.0+cu128"}
    (torch,) = troubles(head(), node("n1"), node("n2", packages=other))
    assert torch.name == "alike" and "torch differs between nodes: 2.13.0 at n1" in torch.found
    (python,) = troubles(node("n1"), node("n2", python="3.12.1"))
    assert "Python differs" in python.found and "3.12.1 at n2" in python.found
    assert troubles(node("n1", data=data), node("n2", data=data)) == []
    one, two = troubles(node("n1", data=data), node("n2", data=replace(data, sha256="c" * 64)))
    assert {one.state, two.state} == {WRONG} and one.exit_code == 2 and "different data" in one.mend
    (unnamed,) = troubles(node("n1", data=replace(data, name=None)))
    assert unnamed.state == WARNING and "manifest" in unnamed.mend


def test_ray_itself_is_judged():
    """Too old is refused; another version here is a doubt; a node that went is named; no node at all is wrong."""
    (old,) = troubles(node(), ray="2.51.0", here=None)
    assert old.state == WRONG and "2.52 or newer" in old.mend
    (other,) = troubles(node(), here="2.53.1")
    assert other.state == WARNING and "Ray 2.60.0 there, 2.53.1 here" in other.found
    (lost,) = troubles(node(), lost=("n9 (10.0.0.9)",))
    assert lost.state == WARNING and "n9 (10.0.0.9) was part" in lost.found
    assert troubles()[-1].state == WRONG


def test_a_cluster_without_gpus_runs_on_all_its_nodes():
    """Its head too, which must then have what a bundle imports; a storage needs fsspec."""
    plain = {
        "models": (),
        "declared_gpus": 0,
        "free_gpus": 0,
        "gpus": (),
        "packages": INSTALLED | {"flash_attn_3": None},
    }
    (absent,) = troubles(head(), node("n1", **plain))
    assert absent.name == "packages" and all(name in absent.found for name in NEEDED)
    without = node("n1", packages=INSTALLED | {"fsspec": None})
    assert troubles(without) == [] and "fsspec" in troubles(without, storage="s3://b")[0].found


def test_a_submit_refuses_a_cluster_where_an_attempt_could_only_fail():
    """One unfit node is enough, since any could be chosen; a silent one may come back; doubts refuse nothing."""
    refuse_unfit(Survey(ray="2.60.0", python="3.11.7", nodes=(head(), node("n1"), node("n2", error="gone"))), ROOT)
    refuse_unfit(Survey(ray="2.60.0", python="3.11.7", nodes=(node("n1", clock_offset=99.0, gpus=()),)), ROOT)
    bare = node("n2", packages=INSTALLED | {"torch": None}, disk_error="/x: full")
    with pytest.raises(BackendFailure, match=r"torch.*--install-packages\nand 1 more") as refused:
        refuse_unfit(Survey(ray="2.60.0", python="3.11.7", nodes=(node("n1"), bare)), ROOT)
    assert refused.value.exit_code == 5 and str(refused.value).startswith("n2 (n2n2n2n2)")


def test_what_ray_installs_is_what_the_lock_says(tmp_path):
    """By exact version; the least where the lock has none; a package that nobody asks for is no package."""
    assert f"torch=={LOCKED['torch']}" in pinned(ROOT, NEEDED) and len(pinned(ROOT, NEEDED)) == len(NEEDED)
    (tmp_path / "pyproject.toml").write_text('[project]\ndependencies = ["fsspec>=2025.1"]\n')
    assert pinned(tmp_path, ["fsspec"]) == ["fsspec>=2025.1"]


def test_a_lost_node_is_one_whose_place_nobody_took():
    """A node that was started again under another id is there."""
    row = {"NodeID": "a", "NodeName": "n1", "NodeManagerHostname": "h", "NodeManagerAddress": "10.0.0.1"}
    gone = row | {"NodeID": "b", "NodeName": "n2"}
    again = row | {"NodeID": "c"}
    live = {"c": {"hostname": "n1", "address": "10.0.0.1"}}
    assert lost([row, gone, again], live) == ("n2 (10.0.0.1)",)


NODES = st.builds(
    node,
    st.text(min_size=1, max_size=5),
    labels=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
    error=st.sampled_from(["", "gone"]),
    declared_gpus=st.integers(0, 9),
    disk_free_bytes=st.none() | st.integers(0, 2**60),
    data=st.none()
    | st.builds(Data, path=st.text(), sha256=st.text(), tokenizer_path=st.text(), tokenizer_sha256=st.text()),
)


@given(st.lists(NODES, max_size=4), st.lists(st.text(max_size=5), max_size=2))
def test_a_survey_comes_back_as_it_was_sent(nodes, lost):
    """JSON there and back gives an equal one, and any of them can be judged."""
    survey = Survey(ray="2.60.0", python="3.11.7", nodes=tuple(nodes), lost=tuple(lost), seconds=1.5)
    assert Survey.from_dict(json.loads(json.dumps(survey.to_dict()))) == survey
    assert all(one.found for one in survey_findings(survey, ROOT))


BREAKS = {
    "no_nodes": lambda told: told.pop("nodes"),
    "other_version": lambda told: told.update(schema_version=9),
    "a_number_for_a_node": lambda told: told.update(nodes=[1]),
    "a_field_less": lambda told: told["nodes"][0].pop("labels"),
    "null_for_nodes": lambda told: told.update(nodes=None),
    "a_number_for_lost": lambda told: told.update(lost=3),
}


@pytest.mark.parametrize("break_it", BREAKS.values(), ids=BREAKS)
def test_what_is_no_survey_is_refused(break_it):
    """A head with another version of ours, or another program: a clear error."""
    told = Survey(ray="2.60.0", python="3.11.7", nodes=(node(),)).to_dict()
    break_it(told)
    with pytest.raises(BackendFailure, match="survey"):
        Survey.from_dict(told)


def test_a_machine_says_what_it_has(tmp_path, monkeypatch):
    """Every field that only a node knows; nothing is left in the folder that was written to, and none is made."""
    monkeypatch.setenv("HOME", str(tmp_path))
    told = look("~/golf-node")
    facts = NodeFacts(node_id="n", hostname="h", address="a", **json.loads(json.dumps(told)))
    assert facts.node_dir == str(tmp_path / "golf-node") and facts.disk_free_bytes > 0 and not facts.disk_error
    assert list(tmp_path.iterdir()) == [] and set(facts.packages) == {*PACKAGES, *KERNELS}
    assert facts.packages["ray"] and facts.cores > 0 and facts.memory_bytes > 10**8
    (tmp_path / "file").write_text("")
    assert "is a file" in look(str(tmp_path / "file" / "below"))["disk_error"]
    assert "/proc" in look("/proc/golf")["disk_error"]


def test_data_is_read_where_it_lies(corpus):
    """As spec.Data where it is good; else the words of the check."""
    told = look_at_data(corpus["data_path"], None, None)
    data = Data(**json.loads(json.dumps(told["data"])))
    assert data.name and data.val_tokens and Path(data.tokenizer_path).is_file()
    assert "/nowhere/data is not a folder" in look_at_data("/nowhere/data", None, None)["data_error"]
