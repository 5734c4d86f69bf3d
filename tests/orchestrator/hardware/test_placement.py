"""Where an attempt goes: what fits, what is free, what is refused, and what is said where nothing fits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.hardware.placement import AllRefused, Ask, Infeasible, NodeView, Use, models_of, place

H100 = "NVIDIA H100 80GB HBM3"


def node(name, gpus=8, free=None, model="H100", cpus=4.0, **more):
    models = frozenset({model} if model else set())
    free = gpus if free is None else free
    return NodeView(
        node_id=name, host=name, gpus=gpus, gpus_free=free, cpus=cpus, cpus_free=cpus, models=models, **more
    )


@pytest.mark.parametrize(
    "labels, resources",
    [({"ray.io/accelerator-type": "H100"}, {}), ({"gpu-type": "H100"}, {}), ({}, {"accelerator_type:H100": 1.0})],
)
def test_a_node_tells_its_model_in_three_ways(labels, resources):
    """By Ray's own label, by ours, or by Ray's resource; the driver's long name asks for the same."""
    one = NodeView(node_id="a", host="a", gpus=8, gpus_free=8, models=models_of(labels, resources))
    assert place(Ask(gpus=8, gpu=H100), [one]).node == one == place(Ask(gpus=8, gpu="h100"), [one]).node


def test_a_node_of_another_or_no_model_never_gets_it():
    """Strict: what is not known to be the model is not the model; without a model any GPU will do."""
    others = [node("a", model="H200"), node("b", model=None), node("c", gpus=0)]
    with pytest.raises(
        Infeasible, match=r"no node has 8x H100; the cluster has a: 8x H200, b: 8x GPU of unknown model"
    ):
        place(Ask(gpus=8, gpu=H100), others)
    assert place(Ask(gpus=1), others).node is not None


def test_what_can_never_fit_is_told_with_what_there_is():
    """Eight GPUs spread over two nodes are not eight on one."""
    with pytest.raises(Infeasible, match=r"no node has 8x H100; the cluster has a: 4x H100, b: 4x H100, h: no GPU"):
        place(Ask(gpus=8, gpu=H100), [node("a", 4), node("b", 4), node("h", 0, head=True)])
    with pytest.raises(Infeasible, match="the cluster has no node"):
        place(Ask(gpus=1), [])
    with pytest.raises(Infeasible, match="max_gpus=4"):
        place(Ask(gpus=8, gpu=H100), [node("a")], max_gpus=4)


def test_three_seeds_on_three_nodes_and_one_after_another_on_one():
    """What of ours begins is counted at once, though the cluster may tell of it later."""
    ask, nodes, mine = Ask(gpus=8, gpu=H100), [node("a"), node("b"), node("c")], {}
    for _ in nodes:
        chosen = place(ask, nodes, mine=mine).node
        mine[chosen.node_id] = mine.get(chosen.node_id, Use()) + Use(gpus=8)
    assert set(mine) == {"a", "b", "c"}
    waits = place(ask, nodes, mine=mine)
    assert waits.node is None and waits.reason == "every node with 8x H100 is busy (a, b, c)"
    assert place(ask, nodes[:1], mine={"a": Use(gpus=8)}).node is None


def test_work_of_others_is_waited_for():
    """GPUs that somebody else holds are not free, whoever that is."""
    assert place(Ask(gpus=8, gpu=H100), [node("a", free=7)]).reason == "every node with 8x H100 is busy (a)"


def test_a_refused_node_gets_nothing_more():
    """Another is tried; where none is left that is told, with why each was refused."""
    ask, nodes = Ask(gpus=8, gpu=H100), [node("a"), node("b")]
    assert place(ask, nodes, refused={"a": "PCIe"}).node.host == "b"
    with pytest.raises(AllRefused, match=r"a: PCIe; b: too slow"):
        place(ask, nodes, refused={"a": "PCIe", "b": "too slow"})


def test_max_gpus_holds_over_all_seeds():
    """With 8 of 12 in use another seed of 8 waits though a node is free, whoever of ours uses them."""
    waits = place(Ask(gpus=8, gpu=H100), [node("a"), node("b")], mine={"a": Use(gpus=8)}, max_gpus=12)
    assert waits.node is None and waits.reason == "max_gpus=12: 8 are in use"
    assert place(Ask(gpus=8, gpu=H100), [node("a"), node("b")], others=8, max_gpus=12) == waits
    assert place(Ask(gpus=4, gpu=H100), [node("a"), node("b")], others=8, max_gpus=12).node is not None


def test_small_seeds_share_a_node_and_faults_are_avoided():
    """One GPU goes where the fewest are free; a node where attempts were lost comes last; the head too."""
    ask = Ask(gpus=1, gpu=H100)
    assert place(ask, [node("a"), node("b", free=3)]).node.host == "b"
    assert place(ask, [node("a"), node("b", free=3)], faults={"b": 1}).node.host == "a"
    assert place(Ask(cpus=1), [node("h", 0, cpus=9.0, head=True), node("a", 0)]).node.host == "a"
    assert place(Ask(cpus=4), [node("a", 0)], mine={"a": Use(cpus=1)}).node is None


views = st.builds(
    lambda number, gpus, free, model: node(f"n{number}", gpus, min(gpus, free), model),
    st.integers(0, 99),
    st.integers(0, 8),
    st.integers(0, 8),
    st.sampled_from(["H100", "H200", None]),
)


@given(st.lists(views, max_size=6, unique_by=lambda view: view.node_id), st.integers(1, 8), st.booleans())
def test_a_placed_attempt_fits_and_an_infeasible_one_never_would(nodes, gpus, strict):
    """A node that is chosen has the model and the room; nothing is infeasible that a free cluster could take."""
    ask = Ask(gpus=gpus, gpu=H100 if strict else None)
    able = [one for one in nodes if one.gpus >= gpus and (not strict or one.models == {"H100"})]
    try:
        found = place(ask, nodes)
    except Infeasible:
        assert not able
        return
    assert able and (found.node in able if found.node else found.reason)
    assert (found.node is not None) == any(one.gpus_free >= gpus for one in able)
    assert found.node is None or found.node.gpus_free >= gpus
