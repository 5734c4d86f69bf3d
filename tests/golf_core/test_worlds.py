"""Every recipe and every recipe of a grid, made tiny, trains the same with one process, two and four (the grids' with
four by `make test-whole`)."""

import json

import pytest

from golf_core.recipes import RECIPES
from tests.golf_core.tiny import every_recipe

WORLDS = (1, 2, 4)
pytestmark = pytest.mark.xdist_group("worlds")  # one launch for both files


@pytest.fixture(scope="module")
def results(launched) -> dict[int, dict]:
    """What each world size made of every recipe."""
    return {world: json.loads((out / f"world{world}.json").read_text()) for world, out in launched.items()}


def assert_trained_the_same(alone: dict, other: dict) -> None:
    assert alone["steps"] == len(alone["losses"]) == 3
    assert alone["losses"][-1] != alone["losses"][0]
    assert other["same_on_all"]
    assert other["rounding"] == alone["rounding"]
    assert other["losses"] == pytest.approx(alone["losses"], rel=1e-4)
    for which in ("last", "shipped"):
        assert other[which].keys() == alone[which].keys()
        for tensor, numbers in alone[which].items():
            assert other[which][tensor] == pytest.approx(numbers, rel=2e-3, abs=2e-3), tensor


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(every_recipe()))
def test_a_recipe_trains_the_same_in_every_world(results, name):
    """Losses of all steps, the last weights and the shipped ones agree between 1, 2 and 4 processes to rounding, and
    all processes of a world have the same weights to the bit."""
    others = [world for world in WORLDS[1:] if name in results[world]]
    assert others == ([2, 4] if name in RECIPES else [2])
    for world in others:
        assert_trained_the_same(results[1][name], results[world][name])


@pytest.mark.whole
@pytest.mark.parametrize("name", sorted(set(every_recipe()) - set(RECIPES)))
def test_a_variant_of_a_grid_trains_the_same_in_four_processes(results, launched_variants, name):
    """The same holds for the grids' variants with 4 processes."""
    assert_trained_the_same(results[1][name], json.loads((launched_variants / "world4.json").read_text())[name])


@pytest.mark.slow
@pytest.mark.parametrize("world", WORLDS)
def test_a_warm_up_leaves_no_trace_in_any_world(results, world):
    """Losses and weights after warm-up steps are those without, to the bit, where each process holds a share of the
    momentum and the loader draws its blocks."""
    cold, warm = results[world]["warm_up 0"], results[world]["warm_up 2"]
    assert warm == cold
    assert cold["losses"] == pytest.approx(results[1]["warm_up 0"]["losses"], rel=1e-4)


@pytest.mark.slow
def test_the_tiny_recipes_exercise_what_they_turn_on(results):
    """Recipes that train for their rounding do so within the three steps; averages differ from the last weights."""
    for name, recipe in every_recipe().items():
        found, config = results[1][name], recipe.config
        assert found["rounding"] == (config.qat.kind != "none")
        assert (found["last"] != found["shipped"]) == (config.average.kind != "none")
