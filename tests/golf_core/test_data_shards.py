"""Shards: what is written is read, and what is damaged is refused by name."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from golf_core.data.shard_writer import write_shard
from golf_core.data.shards import SHARD_HEADER_BYTES, DataError, read_shard, shard_paths, shard_tokens


@settings(deadline=None)
@given(tokens=arrays(np.uint16, st.integers(1, 300)))
def test_what_is_written_is_read(tokens, tmp_path_factory):
    """Tokens survive, and the file is the header and two bytes a token."""
    path = tmp_path_factory.mktemp("shard") / "a_val_000000.bin"
    write_shard(path, tokens)
    assert np.array_equal(read_shard(path), tokens) and read_shard(path).dtype == np.uint16
    assert path.stat().st_size == SHARD_HEADER_BYTES + 2 * len(tokens) and shard_tokens(path) == len(tokens)
    assert struct.unpack("<256i", path.read_bytes()[:1024]) == (20240520, 1, len(tokens), *[0] * 253)


def test_a_shard_is_mapped_not_read(tmp_path):
    """A long shard costs no memory until its tokens are looked at."""
    path = tmp_path / "a_train_000000.bin"
    write_shard(path, np.arange(1000))
    assert isinstance(read_shard(path), np.memmap)


DAMAGES = {
    "empty": (lambda data: b"", "0 bytes"),
    "half a header": (lambda data: data[:500], "500 bytes"),
    "wrong magic": (lambda data: struct.pack("<i", 7) + data[4:], "starts 7, 1"),
    "wrong version": (lambda data: data[:4] + struct.pack("<i", 2) + data[8:], "starts 20240520, 2"),
    "big endian": (lambda data: struct.pack(">3i", 20240520, 1, 10) + data[12:], "no token shard"),
    "cut by a byte": (lambda data: data[:-1], "10 tokens"),
    "cut by a token": (lambda data: data[:-2], "10 tokens"),
    "a token too many": (lambda data: data + b"ab", "1046 bytes"),
    "count too high": (lambda data: data[:8] + struct.pack("<i", 11) + data[12:], "11 tokens"),
    "no tokens": (lambda data: data[:8] + struct.pack("<i", 0) + data[12:1024], "0 tokens"),
    "negative count": (lambda data: data[:8] + struct.pack("<i", -10) + data[12:], "-10 tokens"),
}


@pytest.mark.parametrize("damage, says", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_shard_is_refused(damage, says, tmp_path):
    """The message names the file and the value that is wrong."""
    path = tmp_path / "a_val_000000.bin"
    write_shard(path, np.arange(10))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=says) as refusal:
        read_shard(path)
    assert str(path) in str(refusal.value)


@settings(deadline=None)
@given(data=st.binary(max_size=1100))
def test_arbitrary_bytes_are_no_shard(data, tmp_path_factory):
    """Any other file gives a DataError, never another error."""
    path = tmp_path_factory.mktemp("noise") / "a_val_000000.bin"
    path.write_bytes(data)
    with pytest.raises(DataError):
        read_shard(path)


def test_a_missing_shard_is_refused(tmp_path):
    """A path that is not there is a DataError, not a traceback of the system."""
    with pytest.raises(DataError, match="cannot be read"):
        read_shard(tmp_path / "a_val_000000.bin")


@pytest.mark.parametrize(
    "tokens", [[], [[1, 2]], [-1], [65_536], [0.5]], ids=["none", "matrix", "negative", "too large", "fraction"]
)
def test_what_a_shard_cannot_hold_is_refused_and_leaves_no_file(tokens, tmp_path):
    """A refused write leaves the folder as it was."""
    with pytest.raises(DataError):
        write_shard(tmp_path / "a_val_000000.bin", np.array(tokens))
    assert list(tmp_path.iterdir()) == []


def test_shards_come_in_order_without_sidecars(tmp_path):
    """Sorted by name, one split, and never a `_bytes_` file."""
    for name in ("f_val_000001.bin", "f_val_000000.bin", "f_val_bytes_000000.bin", "f_train_000000.bin", "val.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in shard_paths(tmp_path, "val")] == ["f_val_000000.bin", "f_val_000001.bin"]
    assert [path.name for path in shard_paths(tmp_path, "train")] == ["f_train_000000.bin"]


@pytest.mark.parametrize("files, says", [([], "it is empty"), (["f_val_bytes_0.bin", "x"], "f_val_bytes_0.bin, x")])
def test_a_folder_without_shards_says_what_it_holds(files, says, tmp_path):
    """The message lists what is there instead."""
    for name in files:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match=says):
        shard_paths(tmp_path, "val")
