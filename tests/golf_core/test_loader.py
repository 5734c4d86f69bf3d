"""The training loaders: the same tokens for every number of processes."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from golf_core.data.coprime_loader import CoprimeLoader, ShardWalk, coprime_stride
from golf_core.data.loader import AHEAD, Ahead, TokenStream, TrainLoader, validation_tokens
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


def test_tokens_outside_the_vocabulary_are_refused(folder):
    """A shard with an id that the model has no row for names the shard and the id."""
    with pytest.raises(DataError, match="holds token 99; the model's vocab is 60"):
        TokenStream(folder, "train", 60)
    with pytest.raises(DataError, match="holds token 49"):
        validation_tokens(folder, 49)


def loaders(kind, folder, world, **more):
    """One loader a rank; eight sequences of 8 tokens an optimizer step."""
    return [
        kind(
            TokenStream(folder, "train", 1000),
            **{"batch_tokens": 64, "micro_batches": 8, "seq_len": 8, "world": world, "device": CPU, "seed": 5} | more,
            rank=rank,
        )
        for rank in range(world)
    ]


def step_rows(ranks, world, micro_batches=8) -> list[tuple]:
    """All (x, y) sequences that an optimizer step trains on, over all ranks, sorted."""
    rows = []
    for loader in ranks:
        for _ in range(micro_batches // world):
            x, y = loader.next()
            assert torch.equal(x[:, 1:], y[:, :-1])
            rows += [(*a.tolist(), *b.tolist()) for a, b in zip(x, y, strict=True)]
    return sorted(rows)


@pytest.mark.parametrize("kind", [TrainLoader, CoprimeLoader])
def test_the_union_of_a_step_is_the_same_for_every_world_size(folder, kind):
    """With 1, 2, 4 and 8 processes, each of which takes 8 / world micro-batches, every optimizer step trains on the
    same sequences."""
    seen = {}
    for world in (1, 2, 4, 8):
        ranks = loaders(kind, folder, world)
        seen[world] = [step_rows(ranks, world) for _ in range(6)]
    assert seen[1] == seen[2] == seen[4] == seen[8]
    assert seen[1][0] != seen[1][1]


@pytest.mark.parametrize("kind", [TrainLoader, CoprimeLoader])
def test_a_rewound_loader_starts_again(folder, kind):
    """After any number of batches `rewind` gives the same batches as a new loader, its draws included."""
    (loader,) = loaders(kind, folder, 1, micro_batches=2)
    fresh = [loader.next() for _ in range(9)]
    loader.rewind()
    again = [loader.next() for _ in range(9)]
    for (x, y), (x2, y2) in zip(fresh, again, strict=True):
        assert torch.equal(x, x2)
        assert torch.equal(y, y2)


def test_what_is_made_ahead_comes_in_order_and_in_bounds():
    """Whatever the thread does, results come as the calls were made, at most AHEAD more than were asked for; after
    `drop` the next one follows the last that was made."""
    made = []

    def make():
        made.append(len(made))
        return np.array(made[-1])

    ahead = Ahead(make)
    assert [int(ahead.next()) for _ in range(50)] == list(range(50)) and len(made) <= 50 + AHEAD
    ahead.drop()
    there = len(made)
    assert int(ahead.next()) == there


def test_an_error_while_reading_ahead_is_the_error_of_the_step():
    """A shard that cannot be read ends training; it is not lost in a thread."""

    def make():
        raise DataError("gone")

    with pytest.raises(DataError, match="gone"):
        Ahead(make).next()


@pytest.mark.parametrize("kind", [TrainLoader, CoprimeLoader])
def test_batches_are_what_reading_without_a_thread_gives(folder, kind):
    """The thread changes when a batch is read, and nothing of it."""
    (loader,), (plain,) = (loaders(kind, folder, 1, micro_batches=2) for _ in range(2))
    for _ in range(30):
        rows = torch.from_numpy(plain._read())
        x, y = loader.next()
        expected = (rows[:-1].view(-1, 8), rows[1:].view(-1, 8)) if rows.ndim == 1 else (rows[:, :-1], rows[:, 1:])
        assert torch.equal(x, expected[0]) and torch.equal(y, expected[1])


@given(st.integers(13, 400), st.integers(1, 12), st.integers(0, 2**32))
def test_over_its_number_of_blocks_a_shard_is_a_permutation(tokens, seq_len, seed):
    """As many draws as a shard has blocks give each of them once, all inside the shard; the tokens they leave out are
    fewer than two blocks'."""
    walk = ShardWalk(np.arange(tokens), seq_len, np.random.default_rng(seed))
    blocks = [walk.next() for _ in range(walk.blocks)]
    assert walk.remaining == 0
    assert all(len(block) == seq_len + 1 for block in blocks)
    assert sorted(int(block[0]) for block in blocks) == [walk.phase + i * seq_len for i in range(walk.blocks)]
    assert all(np.array_equal(block, np.arange(block[0], block[0] + seq_len + 1)) for block in blocks)
    assert tokens - 1 - walk.blocks * seq_len < 2 * seq_len


@given(st.integers(1, 500), st.integers(0, 2**32))
def test_a_stride_shares_no_divisor_with_the_number_of_blocks(blocks, seed):
    """gcd(stride, blocks) = 1 and, where there is a choice, 1 <= stride < blocks."""
    stride = coprime_stride(blocks, np.random.default_rng(seed))
    assert math.gcd(stride, blocks) == 1
    assert 1 <= stride < max(blocks, 2)


@given(st.integers(0, 2**40), st.sampled_from([4, 8, 16, 64]))
def test_every_block_comes_once_before_any_comes_again(folder, seed, batch_tokens):
    """Over all shards together: an epoch is each block once; then phases are drawn anew and all comes again."""
    (loader,) = loaders(CoprimeLoader, folder, 1, seq_len=4, micro_batches=1, batch_tokens=batch_tokens, seed=seed)
    for _ in range(2):
        expected = sorted(w.phase + i * 4 + int(w.tokens[0]) for w in loader.walks for i in range(w.blocks))
        walks, firsts = loader.walks, []
        while any(walk.remaining for walk in walks):
            wanted = min(loader.blocks_a_step, sum(walk.remaining for walk in walks))
            firsts += [int(block[0]) for block in loader._mix(wanted)]
        assert sorted(firsts) == expected
        loader._new_epoch()


def test_the_seed_alone_decides(folder, tmp_path):
    """The same seed gives the same stream wherever the shards lie, another seed another; the stream loader reads the
    same for all."""
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())

    def stream(kind, where, seed):
        (loader,) = loaders(kind, where, 1, seed=seed)
        return torch.stack([loader.next()[0] for _ in range(30)])

    assert torch.equal(stream(CoprimeLoader, folder, 5), stream(CoprimeLoader, tmp_path, 5))
    assert not torch.equal(stream(CoprimeLoader, folder, 5), stream(CoprimeLoader, folder, -6))
    assert torch.equal(stream(TrainLoader, folder, 5), stream(TrainLoader, folder, 6))


@pytest.fixture(scope="module")
def forty_shards(tmp_path_factory):
    """Forty shards of 200 tokens, each holding its own number."""
    path = tmp_path_factory.mktemp("forty")
    for number in range(40):
        write_shard(path / f"x_train_{number:06d}.bin", np.full(200, number))
    return path


@pytest.mark.parametrize(("batches", "most"), [(0, 8), (900, 20), (1800, 32), (5000, 32)])
def test_a_batch_mixes_more_shards_as_training_goes_on(forty_shards, batches, most):
    """From 8 shards a batch to 32 after 1,800 batches, dealt out in turn: neighbours are of different shards."""
    (loader,) = loaders(CoprimeLoader, forty_shards, 1, batch_tokens=4 * 64, seq_len=4, micro_batches=1)
    loader.batches = batches
    shards = [int(block[0]) for block in loader.step_blocks()]
    assert len(shards) == 64
    assert most * 0.6 <= len(set(shards)) <= most
    assert len(set(shards[:6])) == 6


def test_a_corpus_shorter_than_a_block_is_refused(folder):
    """Where no shard holds a block, the message names the field, the longest shard and what would do."""
    with pytest.raises(DataError, match=r"train.seq_len=128.*longest has 100 tokens.*train.loader=stream"):
        loaders(CoprimeLoader, folder, 1, seq_len=128, batch_tokens=128, micro_batches=1)
