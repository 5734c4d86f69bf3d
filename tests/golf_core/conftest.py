"""What the tests of golf_core share: one thread, and a little of the embedded corpus as shards."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from golf_core.data.embedded import TOKENIZER_NAME, embedded_data
from golf_core.data.shard_writer import write_shard
from golf_core.data.shards import read_shard, shard_paths


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that `make` filled, in one of the suite's processes; the others wait and share it. (pytest-xdist's
    groups would keep a file in one process, but do nothing under pytest 9.2.)"""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        folder = factory.mktemp(name)
        make(folder)
        return folder
    folder = factory.getbasetemp().parent / name
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            scratch = folder.with_suffix(".part")
            scratch.mkdir(exist_ok=True)
            make(scratch)
            scratch.rename(folder)
    return folder


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
