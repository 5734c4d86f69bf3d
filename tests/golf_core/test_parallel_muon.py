"""Parallel Muon computes what the plain one does, in any number of processes."""

import json

import pytest
import torch

from golf_core.bundle import build_bundle
from golf_core.config import OptimConfig
from golf_core.config_io import override
from golf_core.optim.groups import Optimizers
from golf_core.optim.parallel_muon import ParallelMuon
from golf_core.recipes import load_recipe
from tests.golf_core.parallel_ranks import STEPS, Matrices, gradients_of

WORLDS = (1, 2, 4)
pytestmark = pytest.mark.xdist_group("worlds")  # one launch for both files
CHECKS = ("bare", "decay", "clip", "clip_above")


@pytest.fixture(scope="module")
def results(launched) -> dict[int, dict]:
    return {world: json.loads((out / f"parallel{world}.json").read_text()) for world, out in launched.items()}


@pytest.mark.slow
@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("name", CHECKS)
def test_it_equals_the_plain_form(results, world, name):
    """After some steps the weights are those of plain Muon in one process that saw everybody's gradients, on every
    rank to the bit the same; numbers of matrices that the world does not divide are filled up with zeros."""
    found = results[world][name]
    assert found["moved"] > 0.05
    assert found["difference"] < 2e-4
    assert found["same_everywhere"]
    assert found["padding_zero"]
    assert (found["padded"] > 0) == (world > 1)
    assert found["clock"] == [1.5 + step for step in range(STEPS)]


@pytest.mark.slow
@pytest.mark.parametrize("world", WORLDS)
def test_each_process_keeps_its_share_of_the_momentum_and_resets_it(results, world):
    """A share is the matrices over the processes, rounded up; banks go largest first; a reset leaves no momentum."""
    found = results[world]["bare"]
    assert sorted(found["shares"]) == sorted(-(-count // world) for count in (5, 3, 1, 7))
    assert found["bank_sizes"] == sorted(found["bank_sizes"], reverse=True)
    assert found["momentum"] > 0
    assert found["momentum_after_reset"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("world", WORLDS)
def test_clipping_goes_by_the_norm_of_the_summed_gradients(results, world):
    """All ranks scale by one factor, which brings the global norm of the summed gradients to the limit."""
    assert results[world]["norm"]["before"] > 10
    assert results[world]["norm"]["after"] == pytest.approx(0.3, rel=1e-4)
    assert all(results[world][name]["same_clipping"] for name in CHECKS)


def test_a_bank_is_only_a_place():
    """Names, shapes and storage of the parameters stay; each gradient has its parameter's shape, and none overlap."""
    model, untouched = Matrices(), Matrices()
    pointers = [p.data_ptr() for p in model.parameters()]
    optimizers = Optimizers(model, OptimConfig(muon="parallel"), ParallelMuon, 0, 4)
    assert list(model.state_dict()) == list(untouched.state_dict())
    assert [p.data_ptr() for p in model.parameters()] == pointers
    for p, g in zip(model.parameters(), gradients_of(model, 0, 0), strict=True):
        p.grad.copy_(g)
    for p, g in zip(model.parameters(), gradients_of(model, 0, 0), strict=True):
        assert torch.equal(p.grad, g)
    optimizers.gradients.zero()
    assert not any(bool(p.grad.any()) for p in model.parameters())


def test_frozen_parameters_are_left_out():
    """A parameter that does not learn has no place in the buffer and is not moved."""
    model = Matrices()
    frozen = [model.matrices[0], model.vectors[1]]
    for p in frozen:
        p.requires_grad_(False)
    before = [p.clone() for p in frozen]
    optimizers = Optimizers(model, OptimConfig(muon="parallel"), ParallelMuon, 0, 1)
    for p in model.parameters():
        if p.requires_grad:
            p.grad.fill_(0.1)
    optimizers.step(0, 1.0)
    assert all(p.grad is None and torch.equal(p, value) for p, value in zip(frozen, before, strict=True))


def test_vectors_are_refused_by_banks():
    """A bank is of matrices; a vector is an error, not a guess."""
    with pytest.raises(ValueError, match="matrices"):
        ParallelMuon([torch.ones(8)], decay=0.0, newton_schulz_steps=5, dtype=torch.float32, rank=0, world=1)


def test_only_the_chosen_form_is_in_the_bundle():
    """The plain recipe carries no banks, the parallel one no plain Muon."""
    demo = load_recipe("demo").config
    plain, parallel = build_bundle(demo), build_bundle(override(demo, ["optim.muon=parallel"]))
    assert "class Muon:" in plain
    assert "MatrixBank" not in plain
    assert "MatrixBank" in parallel
    assert "class Muon:" not in parallel
