"""The survey and the doctor on a real cluster: every node answers for itself, and one that does not is found."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.doctor.finding import OK, WARNING, WRONG
from tests.cluster import HEAD, NODES

pytestmark = pytest.mark.xdist_group("cluster")


def doctor(cluster, folder, *arguments):
    """The findings from a machine that has the address alone, and the exit code."""
    command = [sys.executable, "-m", "orchestrator", "doctor", "--address", cluster.address, "--json"]
    done = subprocess.run(
        [*command, *map(str, arguments)],
        cwd=folder,
        env=cluster.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout)["findings"], done.returncode


def of(found, name, words=""):
    return [one for one in found if one["name"] == name and words in one["found"]]


def test_every_node_is_asked_what_it_has(cluster, corpus, tmp_path):
    """Each with its GPUs (declared, and simulated), packages, space in its own home, clock; the data is read on every
    node that would need it, though this machine was given no copy of it."""
    found, code = doctor(cluster, tmp_path, "--data", corpus["data_path"])
    assert code == 0, found
    (server,) = of(found, "job server")
    assert "asks for no token" in server["found"] and server["state"] == OK
    assert len(of(found, "node")) == 4 and "runs no attempts" in of(found, "node", HEAD)[0]["found"]
    for name in NODES:
        (node,) = of(found, "node", f"{name} ({cluster.nodes[name].node_id[:8]})")
        assert "8 declared GPUs, simulated" in node["found"] and str(cluster.home(name)) in node["found"]
        (gpus,) = of(found, "gpus", name)
        assert gpus["state"] == WARNING and "nvidia-smi" in gpus["mend"]
        assert not (cluster.home(name) / "golf-node").exists()
    (data,) = of(found, "data")
    assert data["state"] == OK and all(name in data["found"] for name in NODES) and HEAD not in data["found"]
    assert not of(found, "clock") and not of(found, "alike")


@pytest.mark.chaos
def test_a_node_that_does_not_answer_is_a_finding(cluster, tmp_path):
    """Stopped or gone, mislabelled, without the data: each is told, and the others are asked all the same."""
    cluster.kill_node("n1")
    cluster.stop_node("n2")
    Path(tmp_path / "other").mkdir()
    cluster.add_node("n4", gpus=8, gpu=None)
    found, code = doctor(cluster, tmp_path, "--data", tmp_path / "other")
    assert code in (2, 5)
    for name in ("n1", "n2"):
        (lost,) = of(found, "node", name)
        assert lost["state"] in (WARNING, WRONG) and lost["mend"]
    assert "no label tells" in of(found, "labels", "n4")[0]["found"]
    assert of(found, "data", "n3")[0]["state"] == WRONG
