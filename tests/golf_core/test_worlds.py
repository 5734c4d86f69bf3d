"""Every recipe and every recipe of a grid, made tiny, trains the same with one process, two and four."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.golf_core.conftest import made_together
from tests.golf_core.tiny import every_recipe

ROOT = Path(__file__).resolve().parents[2]
WORLDS = (1, 2, 4)


def launch(program: str, processes: int, *arguments: str) -> None:
    """Run a module of the tests in that many processes; old names of collectives are errors, as in the suite."""
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    done = subprocess.run(
        [*command, str(ROOT / "tests" / "golf_core" / program), *arguments],
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "error::FutureWarning:torch.distributed.c10d_logger",
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


@pytest.fixture(scope="module")
def results(tmp_path_factory, small_data) -> dict[int, dict]:
    """What each world size made of every recipe: one launch a world size."""

    def train(world: int) -> Callable[[Path], None]:
        return lambda out: launch("worlds.py", world, str(out), str(small_data[0]))

    out = made_together(tmp_path_factory, {f"worlds{world}": train(world) for world in reversed(WORLDS)})
    return {world: json.loads((out[f"worlds{world}"] / f"world{world}.json").read_text()) for world in WORLDS}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(every_recipe()))
def test_a_recipe_trains_the_same_in_every_world(results, name):
    """Losses of all steps, the last weights and the shipped ones agree between 1, 2 and 4 processes to rounding, and
    all processes of a world have the same weights to the bit."""
    alone = results[1][name]
    assert alone["steps"] == len(alone["losses"]) == 3
    assert alone["losses"][-1] != alone["losses"][0]
    for world in WORLDS[1:]:
        other = results[world][name]
        assert other["same_on_all"]
        assert other["rounding"] == alone["rounding"]
        assert other["losses"] == pytest.approx(alone["losses"], rel=1e-4)
        for which in ("last", "shipped"):
            assert other[which].keys() == alone[which].keys()
            for tensor, numbers in alone[which].items():
                assert other[which][tensor] == pytest.approx(numbers, rel=2e-3, abs=2e-3), tensor


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
