"""What the tests of golf_core share: one thread, and a little of the embedded corpus as shards."""

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest
import torch
from filelock import FileLock, Timeout

from golf_core.data.embedded import TOKENIZER_NAME, embedded_data
from golf_core.data.shard_writer import write_shard
from golf_core.data.shards import read_shard, shard_paths
from golf_core.recipes import RECIPES
from tests.golf_core.forked import ON_ONE_CORE, run_forked
from tests.golf_core.tiny import every_recipe


def made_together(factory: pytest.TempPathFactory, makes: Mapping[str, Callable[[Path], None]]) -> dict[str, Path]:
    """Folders that `makes` filled, once for all of the suite's processes: each makes what no other is making yet, then
    waits for the rest. (pytest-xdist's groups would keep a file in one process, but do nothing under pytest 9.2.)"""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        folders = {name: factory.mktemp(name) for name in makes}
        for name, make in makes.items():
            make(folders[name])
        return folders
    folders = {name: factory.getbasetemp().parent / name for name in makes}
    for patience in (0, -1):  # -1: for as long as it takes
        for name, make in makes.items():
            folder = folders[name]
            with contextlib.suppress(Timeout), FileLock(f"{folder}.lock", timeout=patience):
                if not folder.exists():
                    scratch = folder.with_suffix(".part")
                    scratch.mkdir(exist_ok=True)
                    make(scratch)
                    scratch.rename(folder)
    return folders


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


def launch(world: int, names: Iterable[str], data: Path) -> Callable[[Path], None]:
    """Fills a folder with what so many processes made of these recipes."""

    def fill(out: Path) -> None:
        script = ROOT / "tests" / "golf_core" / "worlds.py"
        done = run_forked(script, out, data, *names, env={**os.environ, **ON_ONE_CORE}, world=world)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]

    return fill


@pytest.fixture(scope="session")
def launched(tmp_path_factory, small_data) -> dict[int, Path]:
    """The folder of what 1, 2 and 4 processes computed, for test_worlds.py and test_parallel_muon.py: of 4, of the
    recipes; else of the grids' variants, too."""
    makes = {world: launch(world, RECIPES if world == 4 else every_recipe(), small_data[0]) for world in (4, 2, 1)}
    folders = made_together(tmp_path_factory, {f"world{world}": make for world, make in makes.items()})
    return {world: folders[f"world{world}"] for world in (1, 2, 4)}


@pytest.fixture(scope="session")
def launched_variants(tmp_path_factory, small_data) -> Path:
    """The folder of what 4 processes made of the grids' variants."""
    names = [name for name in every_recipe() if name not in RECIPES]
    return made_together(tmp_path_factory, {"variants4": launch(4, names, small_data[0])})["variants4"]
