"""The training stream: the same tokens for every number of processes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from golf_core.data.loader import TokenStream, TrainLoader, validation_tokens
from golf_core.data.shard_writer import write_shard
from golf_core.data.shards import DataError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three shards that count on from each other: 0..99, 100..149, 150..219; validation 0..49."""
    path = tmp_path_factory.mktemp("shards")
    for number, (low, high) in enumerate(((0, 100), (100, 150), (150, 220))):
        write_shard(path / f"x_train_{number:06d}.bin", np.arange(low, high))
    write_shard(path / "x_val_000000.bin", np.arange(50))
    return path


@given(st.lists(st.integers(1, 300), min_size=1, max_size=8))
def test_the_stream_goes_through_all_shards_and_around(folder, counts):
    """Whatever pieces are taken, the stream is the shards in order, again and again."""
    stream = TokenStream(folder, "train", 1000)
    taken = np.concatenate([stream.take(c) for c in counts])
    assert np.array_equal(taken, np.arange(sum(counts)) % 220)
    stream.rewind()
    assert stream.take(1)[0] == 0


@pytest.mark.parametrize("steps", [1, 3])
def test_a_step_reads_the_same_spans_for_every_world_size(folder, steps):
    """The union over ranks and micro-steps of a step's inputs and targets does not depend on the world size."""
    seen = []
    for world in (1, 2, 4):
        loaders = [
            TrainLoader(
                TokenStream(folder, "train", 1000),
                batch_tokens=64,
                micro_batches=4,
                seq_len=8,
                rank=rank,
                world=world,
                device=CPU,
            )
            for rank in range(world)
        ]
        rows = [
            (x.tolist(), y.tolist())
            for _ in range(steps)
            for _ in range(4 // world)
            for x, y in (loader.next() for loader in loaders)
        ]
        seen.append(rows)
        assert all(np.array_equal(np.array(x)[:, 1:], np.array(y)[:, :-1]) for x, y in rows)
    assert seen[0] == seen[1] == seen[2]


def test_tokens_outside_the_vocabulary_are_refused(folder):
    """A shard with an id that the model has no row for names the shard and the id."""
    with pytest.raises(DataError, match="holds token 99; the model's vocab is 60"):
        TokenStream(folder, "train", 60)
    with pytest.raises(DataError, match="holds token 49"):
        validation_tokens(folder, 49)
