"""What the tests of golf_core share: one thread, and a little of the embedded corpus as shards."""

import os
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch

from golf_core.data.embedded import TOKENIZER_NAME, embedded_data
from golf_core.data.shard_writer import write_shard
from golf_core.data.shards import read_shard, shard_paths
from golf_core.recipes import RECIPES
from tests.golf_core.forked import ON_ONE_CORE, run_forked
from tests.golf_core.tiny import every_recipe

ROOT = Path(__file__).resolve().parents[2]
torch.set_num_threads(1)  # the suite runs one test a core


@pytest.fixture(scope="session")
def embedded() -> tuple[Path, Path]:
    """The embedded corpus: the folder of its shards, and its tokenizer."""
    folder, _ = embedded_data()
    return folder, folder / TOKENIZER_NAME


@pytest.fixture(scope="session")
def small_data(embedded, tmp_path_factory) -> tuple[Path, Path]:
    """The first 20,000 tokens for training and 3,000 for validation, and the tokenizer."""
    folder, tokenizer = embedded
    small = tmp_path_factory.mktemp("small_data")
    for split, count in (("train", 20_000), ("val", 3_000)):
        write_shard(small / f"sotu_{split}_000000.bin", read_shard(shard_paths(folder, split)[0])[:count])
    return small, tokenizer


def launch(world: int, names: Iterable[str], data: Path, out: Path) -> Path:
    """The folder, filled with what so many processes made of these recipes."""
    script = ROOT / "tests" / "golf_core" / "worlds.py"
    done = run_forked(script, out, data, *names, env={**os.environ, **ON_ONE_CORE}, world=world)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return out


@pytest.fixture(scope="session")
def launched(tmp_path_factory, small_data) -> dict[int, Path]:
    """The folder of what 1, 2 and 4 processes computed, for test_worlds.py and test_parallel_muon.py: of 4, of the
    recipes; else of the grids' variants, too."""
    names = {1: every_recipe(), 2: every_recipe(), 4: RECIPES}
    return {w: launch(w, names[w], small_data[0], tmp_path_factory.mktemp(f"world{w}")) for w in names}


@pytest.fixture(scope="session")
def launched_variants(tmp_path_factory, small_data) -> Path:
    """The folder of what 4 processes made of the grids' variants."""
    names = [name for name in every_recipe() if name not in RECIPES]
    return launch(4, names, small_data[0], tmp_path_factory.mktemp("variants4"))
