"""The identity of a data set: what no run could use is refused before it starts, and other content is another run."""

import dataclasses
import json
import os
import shutil
import struct
import subprocess
import sys

import numpy as np
import pytest

from golf_core.data.embedded import SHARD_NAMES, TOKENIZER_NAME, embedded_data
from golf_core.data.identity import data_identity
from golf_core.data.manifest import (
    DATA_MANIFEST,
    DataManifest,
    ShardEntry,
    SplitEntry,
    TokenizerEntry,
    read_manifest,
    write_manifest,
)
from golf_core.data.shard_facts import read_shards, shard_facts
from golf_core.data.shard_writer import write_shard
from golf_core.data.shards import DataError
from golf_core.rundir import file_sha256


@pytest.fixture(scope="module")
def folder():
    return embedded_data()[0]


@pytest.fixture
def listed(folder, tmp_path):
    """A data folder with three small shards, its tokenizer in another folder, and a manifest of both."""
    data, model = tmp_path / "datasets" / "fineweb_toy", tmp_path / "tokenizers" / "toy.model"
    for path in (data, model.parent):
        path.mkdir(parents=True)
    shutil.copyfile(folder / TOKENIZER_NAME, model)
    files = {}
    for number, name in enumerate(("train_000000", "train_000001", "val_000000")):
        path = data / f"fineweb_{name}.bin"
        write_shard(path, np.arange(10 + number))
        files[path.name] = ShardEntry(file_sha256(path), path.stat().st_size, 10 + number)
    entry = TokenizerEntry("../../tokenizers/toy.model", file_sha256(model), model.stat().st_size, 1024)
    splits = {"train": SplitEntry(21, None, None), "val": SplitEntry(12, None, None)}
    source = {"kind": "hub", "variant": "toy", "revision": "f" * 40, "files": ["not told"]}
    write_manifest(data, DataManifest("fineweb_toy", source, entry, splits, files))
    return data


def identity_command(data, tokenizer, vocab=1024, **environment):
    command = [sys.executable, "-m", "golf_core.data.identity", "--data", data, "--tokenizer", tokenizer]
    return subprocess.run(
        [*map(str, command), "--vocab", str(vocab)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def test_the_identity_command_prints_one_object(folder):
    """Hashes, counts and vocab on stdout, nothing on stderr, exit 0."""
    done = identity_command(folder, folder / TOKENIZER_NAME)
    found = json.loads(done.stdout)
    manifest = read_manifest(folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert found["train_tokens"] == manifest.splits["train"].tokens
    assert found["tokenizer_sha256"] == manifest.tokenizer.sha256
    assert len(found["data_sha256"]) == 64 and found["vocab"] == 1024


@pytest.mark.parametrize("case", ["no folder", "no tokenizer", "bad tokenizer", "bad shard", "no val", "vocab"])
def test_bad_data_is_one_line_and_exit_2(case, folder, tmp_path):
    """What a run could not use is refused by one clear line, without a traceback."""
    for split, name in SHARD_NAMES.items():
        if case != "no val" or split != "val":
            write_shard(tmp_path / name, np.arange(10) + (split == "val"))
    if case == "bad shard":
        (tmp_path / SHARD_NAMES["train"]).write_bytes(b"x" * 2000)
    if case == "bad tokenizer":
        (tmp_path / "bad.model").write_bytes(b"x")
    data = tmp_path / "absent" if case == "no folder" else tmp_path
    tokenizer = {"no tokenizer": tmp_path / "absent.model", "bad tokenizer": tmp_path / "bad.model"}
    done = identity_command(data, tokenizer.get(case, folder / TOKENIZER_NAME), 100 if case == "vocab" else 1024)
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and str(data.parent if case == "no folder" else "") in done.stderr


def test_identity_follows_content_not_names(folder, tmp_path):
    """Renamed shards are the same data; a changed token is other data."""
    write_shard(tmp_path / "a_train_000000.bin", np.arange(10))
    write_shard(tmp_path / "a_val_000000.bin", np.arange(20))
    first = data_identity(tmp_path, folder / TOKENIZER_NAME, 1024)
    (tmp_path / "a_train_000000.bin").rename(tmp_path / "b_train_000007.bin")
    (tmp_path / "a_val_000000.bin").rename(tmp_path / "b_val_000007.bin")
    assert data_identity(tmp_path, folder / TOKENIZER_NAME, 1024) == first
    write_shard(tmp_path / "b_val_000007.bin", np.arange(20)[::-1])
    assert data_identity(tmp_path, folder / TOKENIZER_NAME, 1024)["data_sha256"] != first["data_sha256"]


def test_a_token_beyond_the_vocab_and_a_shared_shard_are_refused(folder, tmp_path):
    """Both would spoil a run: one crashes it on the device, the other scores what was learned."""
    write_shard(tmp_path / "a_train_000000.bin", np.array([1, 2, 5000]))
    write_shard(tmp_path / "a_val_000000.bin", np.array([1, 2, 3]))
    with pytest.raises(DataError, match="token 5000"):
        data_identity(tmp_path, folder / TOKENIZER_NAME, 1024)
    write_shard(tmp_path / "a_train_000000.bin", np.array([1, 2, 3]))
    with pytest.raises(DataError, match="also a val shard"):
        data_identity(tmp_path, folder / TOKENIZER_NAME, 1024)


def test_large_shards_are_remembered_until_they_change(folder, tmp_path, monkeypatch):
    """A remembered hash is the hash; a changed file is read again, and one of which the memory holds nonsense."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("golf_core.data.shard_facts.REMEMBER_BYTES", 0)
    data = tmp_path / "data"
    data.mkdir()
    write_shard(data / "a_train_000000.bin", np.arange(10))
    write_shard(data / "a_val_000000.bin", np.arange(20))
    first = data_identity(data, folder / TOKENIZER_NAME, 1024)
    memory = tmp_path / "home" / "golf-orchestrator" / "shards.json"
    for nonsense in (5, [], {}, {"sha256": "", "tokens": 1, "largest": None}):
        memory.write_text(json.dumps(dict.fromkeys(json.loads(memory.read_text()), nonsense)))
        assert data_identity(data, folder / TOKENIZER_NAME, 1024) == first
    assert data_identity(data, folder / TOKENIZER_NAME, 1024) == first
    write_shard(data / "a_val_000000.bin", np.arange(30))
    assert data_identity(data, folder / TOKENIZER_NAME, 1024)["val_tokens"] == 30


def test_the_tokenizer_is_the_manifests(listed):
    """The folder alone tells it all: tokenizer, name, where from; and a given tokenizer of the same content will do."""
    found = data_identity(listed, None, 1024)
    model = listed.parents[1] / "tokenizers" / "toy.model"
    assert found["tokenizer_path"] == str(model) and found["tokenizer_sha256"] == file_sha256(model)
    assert (found["name"], found["verified"], found["shards"]) == ("fineweb_toy", True, {"train": 2, "val": 1})
    assert found["source"] == {"kind": "hub", "variant": "toy", "revision": "f" * 40}
    shutil.copyfile(model, listed.parent / "other.model")
    given = data_identity(listed, listed.parent / "other.model", 1024)
    assert given == found | {"tokenizer_path": str(listed.parent / "other.model")}


def test_a_manifest_changes_no_hash(listed):
    """The same shards without their manifest are the same run, of unknown origin."""
    found = data_identity(listed, None, None)
    (listed / DATA_MANIFEST).unlink()
    bare = data_identity(listed, listed.parents[1] / "tokenizers" / "toy.model", None)
    assert bare == found | {"name": None, "source": None, "verified": False}


def flipped(path):
    data = path.read_bytes()
    path.write_bytes(data[:-2] + bytes([data[-2] ^ 1]) + data[-1:])


DAMAGES = {
    "flipped token": (flipped, "has SHA-256"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-2]), "bytes; its manifest says"),
    "empty": (lambda path: path.write_bytes(b""), "has 0 bytes"),
    "other tokens": (lambda path: write_shard(path, np.arange(9)), "bytes; its manifest says"),
    "gone": (lambda path: path.unlink(), "is missing"),
}


@pytest.mark.parametrize("damage, says", DAMAGES.values(), ids=DAMAGES.keys())
@pytest.mark.parametrize("name", ["fineweb_train_000001.bin", "fineweb_val_000000.bin"])
def test_a_shard_that_is_not_as_listed_is_refused_with_the_mend(name, damage, says, listed):
    """The message names the file, what differs, and the ways out: keeping it only where it is whole."""
    damage(listed / name)
    if damage is DAMAGES["gone"][0] and "val" in name:  # no validation shard at all has a message of its own
        says = "has no"
    with pytest.raises(DataError, match=says) as refusal:
        data_identity(listed, None, 1024)
    if says != "has no":
        assert str(listed / name) in str(refusal.value)
        options = f"--variant toy --train-shards 2 --into {listed.parents[1]} --revision {'f' * 40}"
        again = f"`python jobs/prepare_data.py {options}`"
        assert again in str(refusal.value)
        meant = f"remove {listed / DATA_MANIFEST} and name --tokenizer" in str(refusal.value)
        assert meant is (damage in (flipped, DAMAGES["other tokens"][0]))


def test_a_shard_that_is_not_listed_is_refused(listed):
    """A foreign shard would be trained on; a sidecar is none, and changes nothing."""
    before = data_identity(listed, None, 1024)
    for name in ("fineweb_val_bytes_000000.bin", "fineweb_train_bytes_000000.bin"):
        write_shard(listed / name, np.arange(7))
    assert data_identity(listed, None, 1024) == before
    write_shard(listed / "fineweb_train_000002.bin", np.arange(7))
    with pytest.raises(DataError, match=r"fineweb_train_000002.bin is not listed by .* move it away"):
        data_identity(listed, None, 1024)


@pytest.mark.parametrize("case", ["changed", "gone", "another given", "absent given"])
def test_a_tokenizer_that_did_not_make_the_shards_is_refused(case, listed):
    """By content, whatever its name; the message says which one is meant."""
    model = listed.parents[1] / "tokenizers" / "toy.model"
    given = None
    if case == "changed":
        model.write_bytes(model.read_bytes() + b"x")
    elif case == "gone":
        model.unlink()
    else:
        given = listed / f"{case}.model"
        if case == "another given":
            given.write_bytes(model.read_bytes() + b"x")
    with pytest.raises(DataError) as refusal:
        data_identity(listed, given, 1024)
    assert str(model) in str(refusal.value)
    assert ("prepare_data" if given is None else "--tokenizer") in str(refusal.value)


def test_sums_that_do_not_agree_are_refused(listed):
    """A manifest whose split has other tokens than its shards is damaged."""
    manifest = read_manifest(listed)
    splits = {**manifest.splits, "train": SplitEntry(22, None, None)}
    write_manifest(listed, dataclasses.replace(manifest, splits=splits))
    with pytest.raises(DataError, match="says 22 train tokens, but its shards hold 21"):
        data_identity(listed, None, 1024)


def test_a_damaged_manifest_is_refused_not_passed_over(listed):
    """Data whose manifest cannot be read is not taken for data without one."""
    (listed / DATA_MANIFEST).write_text("{")
    with pytest.raises(DataError, match=DATA_MANIFEST):
        data_identity(listed, listed.parents[1] / "tokenizers" / "toy.model", 1024)


def test_without_manifest_and_tokenizer_the_flag_is_named(listed):
    """The message says what is missing: a manifest, or --tokenizer."""
    (listed / DATA_MANIFEST).unlink()
    with pytest.raises(DataError, match=r"has no manifest.json that names its tokenizer.*--tokenizer FILE"):
        data_identity(listed, None, 1024)


def test_the_folder_above_names_the_data_set_below(listed):
    """`--data data` says which folder holds shards: the one, or all of several; hidden scratch folders are none. So it
    does where a tokenizer is given."""
    shutil.copytree(listed, listed.parent / ".scratch")
    for above in (listed.parents[1], listed.parent):
        for model in (None, listed.parents[1] / "tokenizers" / "toy.model"):
            with pytest.raises(DataError, match=rf"did you mean {listed}\?$"):
                data_identity(above, model, 1024)
    shutil.copytree(listed, listed.parent / "zweite")
    with pytest.raises(DataError, match=rf"there are {listed}, {listed.parent / 'zweite'}$"):
        data_identity(listed.parents[1], None, 1024)


@pytest.mark.parametrize("names", [("a_train_0", "b_train_0", "a_val_0"), ("a_train_0", "b_val_0")])
def test_two_sets_in_one_folder_are_refused(names, folder, tmp_path):
    """Two names in one split, or train of one set and validation of another: both files are named."""
    for number, name in enumerate(names):
        write_shard(tmp_path / f"{name}.bin", np.arange(5 + number))
    with pytest.raises(DataError, match=r"mixes two data sets, a_train_0.bin and b_\w+_0.bin"):
        data_identity(tmp_path, folder / TOKENIZER_NAME, None)


def test_a_token_that_the_tokenizer_lacks_is_refused(folder, tmp_path):
    """Also of a program that is not ours: those shards were made with a larger tokenizer."""
    write_shard(tmp_path / "a_train_0.bin", np.array([1, 1024]))
    write_shard(tmp_path / "a_val_0.bin", np.array([1, 2]))
    with pytest.raises(DataError, match=r"a_train_0.bin holds token 1024, but .* has 1024 pieces"):
        data_identity(tmp_path, folder / TOKENIZER_NAME, None)
    (tmp_path / "tokens.json").write_text("{}")  # of a kind that we cannot read: its program may
    assert data_identity(tmp_path, tmp_path / "tokens.json", None)["train_tokens"] == 2


def test_a_shard_read_by_threads_is_the_file(tmp_path, monkeypatch):
    """Hash, count and largest token of shards of many blocks, in the order asked; every byte of tokens is told once."""
    monkeypatch.setattr("golf_core.data.shard_facts.BLOCK_BYTES", 1 << 10)
    paths = [tmp_path / f"a_train_{number}.bin" for number in range(9)]
    for number, path in enumerate(paths):
        write_shard(path, np.arange(1000 * number, 1000 * number + 1500))
    told = []
    found = read_shards(paths, lambda done, total: told.append((done, total)))
    for number, path in enumerate(paths):
        assert found[path] == {"sha256": file_sha256(path), "tokens": 1500, "largest": 1000 * number + 1499}
        assert shard_facts(path) == found[path]
    assert told == sorted(told) and told[-1][0] == 9 * 3000 and {total for _, total in told} == {9 * 4024}


def test_a_damaged_shard_among_many_ends_the_reading(tmp_path):
    """The error of a thread is the error of the call."""
    for number in range(9):
        write_shard(tmp_path / f"a_train_{number}.bin", np.arange(9))
    (tmp_path / "a_train_4.bin").write_bytes(struct.pack("<3i", 20240520, 1, 7))
    with pytest.raises(DataError, match=r"a_train_4.bin has 12 bytes"):
        read_shards(sorted(tmp_path.iterdir()))


def test_the_command_tells_how_much_is_read(listed):
    """With --progress the answer stands last; what stands before it are counts of bytes."""
    command = [sys.executable, "-m", "golf_core.data.identity", "--data", str(listed), "--progress"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    *before, last = map(json.loads, done.stdout.splitlines())
    assert last == data_identity(listed, None, None) and all(set(line) == {"read", "of"} for line in before)
