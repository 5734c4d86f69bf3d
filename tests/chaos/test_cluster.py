"""The harness itself: what it says is broken is broken, and what it mends is whole again."""

import pytest

from tests.cluster import HEAD, NODES
from tests.processes import command_line, until

pytestmark = pytest.mark.xdist_group("cluster")


def test_three_nodes_of_eight_labelled_gpus(cluster):
    """The head has no GPU; each node has eight, its name, its label, an address and a HOME of its own."""
    rows = {row["node_name"]: row for row in cluster.ray_nodes().values() if row["state"] == "ALIVE"}
    assert set(rows) == {HEAD, *NODES} and "GPU" not in rows[HEAD]["resources_total"]
    for name in NODES:
        assert rows[name]["resources_total"]["GPU"] == 8 and rows[name]["labels"]["gpu-type"] == "H100"
        assert rows[name]["node_id"] == cluster.nodes[name].node_id and "raylet" in command_line(cluster.raylet(name))
    assert len({rows[name]["node_ip"] for name in rows}) == len({cluster.home(name) for name in rows}) == 4


def raylets(cluster):
    return [pid for name in NODES for pid in cluster.processes(name) if "/raylet/raylet " in command_line(pid)]


@pytest.mark.chaos
def test_every_break_is_seen_and_mended(cluster):
    """A killed machine, a killed and a stopped raylet, a preempted node, a dead head: each is seen, and mended."""
    cluster.kill_node("n1")
    cluster.wait_dead("n1")
    assert cluster.processes("n1") == []
    cluster.stop_node("n2")
    cluster.wait_dead("n2")
    cluster.kill_raylet("n3")
    cluster.wait_dead("n3")
    cluster.mend()
    assert cluster.alive() == {HEAD, *NODES}
    cluster.preempt_node("n1")
    cluster.wait_dead("n1")
    assert "preemption" in cluster.ray_nodes()[cluster.nodes["n1"].node_id]["state_message"]
    cluster.kill_head()
    until(lambda: not raylets(cluster), "the nodes end with their head", 60)
    cluster.mend()
    assert cluster.alive() == {HEAD, *NODES}
