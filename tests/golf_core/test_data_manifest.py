"""The manifest of a data folder: what is written is read, what is not one is refused, and what changed is named."""

import copy
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golf_core.data.manifest import (
    DATA_MANIFEST,
    MOST,
    DataManifest,
    ManifestError,
    ShardEntry,
    SplitEntry,
    TokenizerEntry,
    damage,
    read_manifest,
    tokenizer_path,
    write_manifest,
)
from golf_core.rundir import file_sha256

NAMES = st.text(st.characters(categories=["L", "N", "P"], exclude_characters="/\\"), min_size=1, max_size=20).filter(
    lambda name: name not in (".", "..")
)
COUNTS = st.integers(0, MOST)
HASHES = st.text("0123456789abcdef", min_size=64, max_size=64)
SPLITS = st.builds(SplitEntry, tokens=COUNTS, documents=st.none() | COUNTS, bytes=st.none() | COUNTS)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
MANIFESTS = st.builds(
    DataManifest,
    name=NAMES,
    source=st.dictionaries(st.text(max_size=8), JSON, max_size=3).flatmap(
        lambda more: st.builds(lambda kind: {**more, "kind": kind}, NAMES)
    ),
    tokenizer=st.builds(
        TokenizerEntry, path=NAMES | NAMES.map("../../tokenizers/{}".format), sha256=HASHES, size=COUNTS, vocab=COUNTS
    ),
    splits=st.fixed_dictionaries({"train": SPLITS, "val": SPLITS}),
    files=st.dictionaries(NAMES, st.builds(ShardEntry, sha256=HASHES, size=COUNTS, tokens=COUNTS), max_size=4),
)


@settings(max_examples=40)
@given(MANIFESTS)
def test_what_is_written_is_read(manifest):
    """Every manifest comes back as it was, its files in the order in which they are read."""
    with tempfile.TemporaryDirectory() as folder:
        write_manifest(Path(folder), manifest)
        found = read_manifest(Path(folder))
        assert found == manifest and list(found.files) == sorted(manifest.files)
        assert list(Path(folder).iterdir()) == [Path(folder, DATA_MANIFEST)]


def test_a_folder_without_one_has_none(tmp_path):
    """No manifest is no error; a dangling link in its place is one."""
    assert read_manifest(tmp_path) is None
    (tmp_path / DATA_MANIFEST).symlink_to(tmp_path / "nowhere")
    with pytest.raises(ManifestError, match=DATA_MANIFEST):
        read_manifest(tmp_path)


@pytest.fixture
def whole(tmp_path):
    """A folder with two shards and its tokenizer beside it, as its manifest says; the manifest as an object."""
    folder, model = tmp_path / "datasets" / "toy", tmp_path / "tokenizers" / "toy.model"
    for path in (folder, model.parent):
        path.mkdir(parents=True)
    model.write_bytes(b"a tokenizer")
    files = {}
    for name in ("toy_train_000000.bin", "toy_val_000000.bin"):
        (folder / name).write_bytes(name.encode())
        files[name] = ShardEntry(file_sha256(folder / name), len(name), 1)
    entry = TokenizerEntry("../../tokenizers/toy.model", file_sha256(model), model.stat().st_size, 4)
    splits = {"train": SplitEntry(1, None, None), "val": SplitEntry(1, 1, 4)}
    write_manifest(folder, DataManifest("toy", {"kind": "documents"}, entry, splits, files))
    return folder, json.loads((folder / DATA_MANIFEST).read_text())


def places(value, path=()):
    """The path to every field of a JSON object, those inside of it too; what the source says is its own affair."""
    for name in value:
        yield (*path, name)
        if isinstance(value[name], dict) and name != "source":
            yield from places(value[name], (*path, name))


def refused(folder, value):
    """The text of the refusal of a manifest that says `value`."""
    (folder / DATA_MANIFEST).write_text(value if isinstance(value, str) else json.dumps(value))
    with pytest.raises(ManifestError) as refusal:
        read_manifest(folder)
    assert str(folder / DATA_MANIFEST) in str(refusal.value)
    return str(refusal.value)


def inside(value, path):
    for name in path:
        value = value[name]
    return value


def test_every_missing_foreign_and_odd_field_is_refused(whole):
    """Whichever field is taken away, added or made another kind of thing: one error that names the file."""
    folder, good = whole
    shards = {("files", name) for name in good["files"]}  # fewer shards are another, good manifest
    found = list(places(good))
    assert len(found) > 20
    for path in found:
        for odd in (None, True, -1, 1.5, [], {}, "", "\0", "\ud800", "a\nb", MOST + 1, 10**300):
            changed = copy.deepcopy(good)
            inside(changed, path[:-1])[path[-1]] = odd
            may_be_null = path[0] == "splits" and path[-1] in ("documents", "bytes")
            if not (may_be_null and odd is None) and not (path == ("files",) and odd == {}):
                refused(folder, changed)
        if path not in shards:
            changed = copy.deepcopy(good)
            del inside(changed, path[:-1])[path[-1]]
            refused(folder, changed)
        if isinstance(inside(good, path), dict) and path != ("source",):
            changed = copy.deepcopy(good)
            inside(changed, path)["surprise"] = 1
            refused(folder, changed)
    assert "surprise" in refused(folder, {**good, "surprise": 1})


@pytest.mark.parametrize("name", ["../a.bin", "/etc/passwd", "a/b.bin", "a\\b.bin", "..", ".", "", "a\0.bin", "a/"])
def test_a_shard_outside_of_the_folder_is_refused(whole, name):
    """A name that leads anywhere but to a file of this folder is no shard of it."""
    folder, good = whole
    good["files"][name] = good["files"].pop("toy_train_000000.bin")
    assert "no file of this folder" in refused(folder, good) or "where a name should" in refused(folder, good)


@pytest.mark.parametrize("path", ["/etc/passwd", "..\\tokenizer.model", "C:\\t.model"])
def test_the_tokenizers_path_is_relative(whole, path):
    """A manifest that names an absolute path could not be moved, and is refused."""
    folder, good = whole
    good["tokenizer"]["path"] = path
    assert "is not relative" in refused(folder, good)


@pytest.mark.parametrize("text", ["", "[]", "7", "{", '{"a": NaN}', "[" * 10_000, '{"schema_version": 2' + " " * 99])
def test_what_is_no_object_is_refused(whole, text):
    """Cut, nested or empty: the same error, which names the file, never another."""
    assert str(whole[0] / DATA_MANIFEST) in refused(whole[0], text)


@settings(max_examples=50)
@given(at=st.integers(0, 10**6), byte=st.integers(0, 255))
def test_a_flipped_byte_is_another_manifest_or_none(at, byte):
    """Whatever one byte becomes: a ManifestError, or a manifest that can be read."""
    with tempfile.TemporaryDirectory() as folder:
        entry, shard = TokenizerEntry("t.model", "0" * 64, 9, 4), ShardEntry("1" * 64, 5, 1)
        splits = dict.fromkeys(("train", "val"), SplitEntry(1, 2, 3))
        write_manifest(Path(folder), DataManifest("n", {"kind": "hub"}, entry, splits, {"a_val_0.bin": shard}))
        path = Path(folder, DATA_MANIFEST)
        data = bytearray(path.read_bytes())
        data[at % len(data)] = byte
        path.write_bytes(data)
        try:
            found = read_manifest(Path(folder))
        except ManifestError as error:
            assert str(path) in str(error)
        else:
            assert isinstance(found, DataManifest)


@pytest.mark.parametrize("version", [1, 3, None, "2", True])
def test_another_schema_says_what_to_do(whole, version):
    """An older or newer manifest is not guessed at: the data is prepared again."""
    folder, good = whole
    good["schema_version"] = version
    assert "prepare the data again" in refused(folder, good)


def test_a_whole_folder_has_no_damage_and_can_be_moved(whole, tmp_path):
    """The tokenizer is found from the folder, wherever both lie."""
    folder, _ = whole
    assert damage(folder, read_manifest(folder)) == []
    (tmp_path / "elsewhere").mkdir()
    for name in ("datasets", "tokenizers"):
        (tmp_path / name).rename(tmp_path / "elsewhere" / name)
    moved = tmp_path / "elsewhere" / "datasets" / "toy"
    assert damage(moved, read_manifest(moved)) == []
    assert tokenizer_path(moved, read_manifest(moved)).read_bytes() == b"a tokenizer"


@pytest.mark.parametrize("name", ["toy_train_000000.bin", "toy_val_000000.bin", "../../tokenizers/toy.model"])
@pytest.mark.parametrize("what, says", [("flip", "has SHA-256"), ("cut", "bytes"), ("remove", "cannot be read")])
def test_damage_names_the_file(whole, name, what, says):
    """A flipped bit, a missing byte or file of a shard or the tokenizer: one sentence, of that file alone."""
    folder, _ = whole
    path = folder / name
    data = path.read_bytes()
    path.unlink() if what == "remove" else path.write_bytes(bytes([data[0] ^ 1]) * (what == "flip") + data[1:])
    found = damage(folder, read_manifest(folder))
    assert len(found) == 1 and str(path) in found[0] and says in found[0]
