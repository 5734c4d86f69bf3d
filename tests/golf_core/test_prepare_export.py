"""Exports from documents: what the shards hold, where they are cut, and that no interruption changes a byte."""

import json
import os
import random
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from golf_core.data.byte_count import byte_tables, target_bytes
from golf_core.data.embedded import embedded_data
from golf_core.data.identity import data_identity
from golf_core.data.manifest import damage, read_manifest, tokenizer_path
from golf_core.data.shards import BOS_ID, DataError, read_shard, shard_paths
from golf_core.prepare.blocks import read_blocks
from golf_core.prepare.encode import BlockEncoder
from golf_core.prepare.export import Busy, DiskError, export
from golf_core.prepare.export_plan import ExportRequest
from golf_core.prepare.export_workers import encode_function
from golf_core.prepare.sources import find_sources

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.filterwarnings("error")
small = settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
LAST = ["the last words", "and more of them"]  # so that something is left for training
TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), min_size=2, max_size=20)


@pytest.fixture(scope="module")
def tokenizer():
    folder, _ = embedded_data()
    return folder / "tokenizer.model"


class Stopped(Exception):
    """What ends an export in these tests."""


def in_blocks(documents, block_bytes, stop_after=None):
    """Encodes here, in blocks of another size; stops after some of them."""

    def encode_in_order(model, blocks):
        encoder = BlockEncoder(model)
        first = next(blocks)
        blocks = read_blocks(find_sources([documents]), first.start, block_bytes)
        for number, block in enumerate(blocks):
            if number == stop_after:
                raise Stopped
            yield encoder.encode(block)

    return encode_in_order


def written(path, texts):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


def request(folder, documents, tokenizer, **changes):
    asked = {"val_documents": 1, "shard_tokens": 50, "name": "made"} | changes
    return ExportRequest(documents=(documents,), into=folder / "data", tokenizer=tokenizer, **asked)


def exported(asked, block_bytes=4096, stop_after=None, tell=lambda event: None):
    return export(asked, in_blocks(asked.documents[0], block_bytes, stop_after), tell)


def content(folder):
    """Every file below a folder, with its bytes; hidden lock files left out."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


def fresh(tmp_path):
    shutil.rmtree(tmp_path, ignore_errors=True)
    tmp_path.mkdir()
    return tmp_path


def tokens_of(folder, split):
    return np.concatenate([read_shard(path) for path in shard_paths(folder, split)]).tolist()


@small
@given(
    texts=TEXTS,
    val=st.integers(1, 5),
    shard_tokens=st.integers(1, 80).map(lambda n: n * n),
    block_bytes=st.integers(1, 500),
)
def test_the_shards_hold_every_document_behind_its_bos(tmp_path, tokenizer, texts, val, shard_tokens, block_bytes):
    """The first documents in val, the others in train but those whose tokens val has, in shards of exactly the asked
    size."""
    encode = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer)).encode
    held_out = texts[:val]
    train = [text for text in texts[val:] if encode(text) not in encode(held_out)]
    if not train:
        return
    documents = written(fresh(tmp_path) / "documents.jsonl", texts)
    asked = request(tmp_path, documents, tokenizer, val_documents=val, shard_tokens=shard_tokens)
    folder = exported(asked, block_bytes)
    manifest = read_manifest(folder)
    for split, expected in (("val", held_out), ("train", train)):
        flat = [token for text in expected for token in (BOS_ID, *encode(text))]
        assert tokens_of(folder, split) == flat
        sizes = [len(read_shard(path)) for path in shard_paths(folder, split)]
        assert set(sizes[:-1]) <= {shard_tokens} and sizes[-1] <= shard_tokens
        entry = manifest.splits[split]
        assert (entry.tokens, entry.documents) == (len(flat), len(expected))
    assert manifest.source["dropped_shared"] == len(texts) - len(held_out) - len(train)
    assert damage(folder, manifest) == []


@small
@given(texts=TEXTS)
def test_the_bytes_are_those_of_the_normalised_text(tmp_path, tokenizer, texts):
    """The bytes of a split are the UTF-8 length of what its tokens decode to, and what byte_count says of them."""
    texts = [text.replace("\u2581", "") for text in texts]  # the one sign that byte_count miscounts
    documents = written(fresh(tmp_path) / "documents.jsonl", [*texts, *LAST])
    folder = exported(request(tmp_path, documents, tokenizer, shard_tokens=10_000))
    manifest = read_manifest(folder)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer))
    for split, entry in manifest.splits.items():
        flat = np.array(tokens_of(folder, split))
        parts = np.split(flat, np.flatnonzero(flat == BOS_ID))[1:]
        decoded = [processor.decode(part[1:].tolist()) for part in parts]
        assert entry.bytes == sum(len(text.encode()) for text in decoded)
        counted = target_bytes(flat[:-1], flat[1:], byte_tables(tokenizer, 1024))
        assert entry.bytes == int(counted.sum())


@small
@given(
    texts=TEXTS.filter(lambda texts: len(set(texts)) > 8),
    sizes=st.lists(st.tuples(st.integers(1, 300), st.integers(0, 20)), min_size=1, max_size=2),
    val=st.integers(1, 4),
    shard_tokens=st.integers(8, 60),
)
def test_no_interruption_changes_a_byte(tmp_path, tokenizer, texts, sizes, val, shard_tokens):
    """Stopped after any blocks, gone on with blocks of other sizes: the same files as of an export in one go."""
    documents = written(fresh(tmp_path) / "documents.jsonl", [*texts, *LAST])
    asked = request(tmp_path, documents, tokenizer, val_documents=val, shard_tokens=shard_tokens)
    exported(asked)
    expected = content(asked.into)
    shutil.rmtree(asked.into)
    for block_bytes, stop_after in sizes:
        try:
            exported(asked, block_bytes, stop_after)
        except Stopped:
            assert not (asked.into / "datasets" / "made").exists()
    exported(asked, 7)
    assert content(asked.into) == expected


def test_a_shard_that_was_renamed_and_not_noted_is_made_again(tmp_path, tokenizer):
    """The moment between the rename of a shard and its checkpoint is no different from any other."""
    documents = written(tmp_path / "documents.jsonl", [f"document {i}" for i in range(40)])
    asked = request(tmp_path, documents, tokenizer)
    exported(asked)
    expected = content(asked.into)
    shutil.rmtree(asked.into)
    with pytest.raises(Stopped):
        exported(asked, 1, 20)
    shards = asked.into / "datasets" / ".made.export" / "shards"
    there = sorted(path.name for path in shards.glob("*_train_*.bin"))
    (shards / f"fineweb_train_{len(there):06d}.bin").write_bytes(b"not noted")
    exported(asked)
    assert content(asked.into) == expected


def test_what_is_finished_is_not_made_again(tmp_path, tokenizer):
    """The same command says so and touches nothing; other settings are refused, and name the difference."""
    documents = written(tmp_path / "documents.jsonl", ["one", "two", "three"])
    asked = request(tmp_path, documents, tokenizer)
    folder = exported(asked)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    said = []
    assert exported(asked, tell=said.append) == folder
    assert "nothing to do" in said[-1] and before == {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    with pytest.raises(DataError, match=r"--val-documents 1 there, 2 here.*--name"):
        exported(request(tmp_path, documents, tokenizer, val_documents=2))
    (folder / "fineweb_val_000000.bin").write_bytes(b"cut")
    with pytest.raises(DataError, match=r"3 bytes.*makes it anew"):
        exported(asked)


def test_unfinished_work_of_another_export_is_not_mixed_in(tmp_path, tokenizer):
    """With sealed shards it is refused, and stays; without any, the new export starts anew and says so."""
    documents = written(tmp_path / "documents.jsonl", [f"document {i}" for i in range(40)])
    with pytest.raises(Stopped):
        exported(request(tmp_path, documents, tokenizer), 1, 30)
    with pytest.raises(DataError, match=r"--shard-tokens 50 there, 60 here.*rm -r"):
        exported(request(tmp_path, documents, tokenizer, shard_tokens=60))
    exported(request(tmp_path, documents, tokenizer))
    with pytest.raises(Stopped):
        exported(request(tmp_path, documents, tokenizer, name="other", shard_tokens=10_000, val_documents=30), 1, 5)
    said = []
    exported(request(tmp_path, documents, tokenizer, name="other"), tell=said.append)
    assert any("starting anew" in event for event in said if isinstance(event, str))


def test_documents_that_change_meanwhile_are_noticed(tmp_path, tokenizer):
    """During an export, and between an interruption and the next try, whatever their time of change says; the file as
    it was before goes on, from shards of it alone."""
    documents = written(tmp_path / "documents.jsonl", [f"document {i}" for i in range(40)])
    asked, before = request(tmp_path, documents, tokenizer), documents.stat()

    def write(word):
        written(documents, [f"{word} {i}" for i in range(40)])
        os.utime(documents, ns=(before.st_atime_ns, before.st_mtime_ns))

    def changing(model, blocks):
        for number, block in enumerate(in_blocks(documents, 1)(model, blocks)):
            if number == 20:
                write("DOCUMENT")
            yield block

    with pytest.raises(DataError, match=r"changed while it was read.*goes on"):
        export(asked, changing, lambda event: None)
    with pytest.raises(DataError, match="of other documents"):
        exported(asked)
    write("document")
    with pytest.raises(Stopped):
        exported(asked, 1, 10)
    write("Document")
    with pytest.raises(DataError, match="of other documents"):
        exported(asked)
    write("document")
    whole = content(exported(asked))
    documents.touch()  # nothing is known of it any more, and its content is the same
    assert content(exported(request(tmp_path / "again", documents, tokenizer))) == whole


def test_what_an_interrupted_clean_up_left_is_not_used(tmp_path, tokenizer):
    """A tokenizer in the hidden folder belongs to the plan there; without a plan it is nobody's."""
    documents = written(tmp_path / "documents.jsonl", [f"document {i}" for i in range(40)])
    asked = request(tmp_path, documents, tokenizer)
    (scratch := asked.into / "datasets" / ".made.export").mkdir(parents=True)
    (scratch / "tokenizer.model").write_bytes(b"of another plan")
    folder = exported(asked)
    assert damage(folder, read_manifest(folder)) == []


def test_data_sets_may_lie_behind_a_link(tmp_path, tokenizer):
    """The manifest leads to the tokenizer wherever the folder of data sets really is, and whatever its name was."""
    documents = written(tmp_path / "documents.jsonl", ["one", "two", "three"])
    (odd := tmp_path / "a b\\c").write_bytes(tokenizer.read_bytes())
    asked = request(tmp_path, documents, odd)
    (disk := tmp_path / "disk" / "deep" / "datasets").mkdir(parents=True)
    asked.into.mkdir()
    (asked.into / "datasets").symlink_to(disk)
    folder = exported(asked)
    assert damage(folder, read_manifest(folder)) == []
    assert tokenizer_path(folder, read_manifest(folder)).samefile(asked.into / "tokenizers" / "a_b_c.model")


def test_a_bad_document_ends_it_and_can_be_left_out(tmp_path, tokenizer):
    """Named by file, line and offset; --skip-bad goes on from what is sealed; the manifest names what it left out."""
    texts = [f"document {i} " + "some words " * 15_000 for i in range(40)]
    documents = written(tmp_path / "documents.jsonl", texts)
    lines = documents.read_bytes().splitlines(keepends=True)
    lines[30:30] = [b'{"text": "\xff"}\n', b'{"txet": "misspelt"}\n']
    documents.write_bytes(b"".join(lines))
    shard_tokens = 200_000
    asked = request(tmp_path, documents, tokenizer, shard_tokens=shard_tokens)
    with pytest.raises(DataError, match=r"documents.jsonl:31 \(byte .*UTF-8.*--skip-bad"):
        exported(asked, 1)
    scratch = asked.into / "datasets" / ".made.export"
    sealed = len(json.loads((scratch / "checkpoint.json").read_text())["shards"])
    said = []
    again = request(tmp_path, documents, tokenizer, skip_bad=True, shard_tokens=shard_tokens)
    folder = exported(again, tell=said.append)
    assert sealed and any(f"going on: {sealed} shard" in event for event in said if isinstance(event, str))
    source = read_manifest(folder).source
    assert source["skipped_bad"] == 2 and "documents.jsonl:32" in source["skipped"][1] and source["documents"] == 40
    without = request(
        tmp_path, written(tmp_path / "good.jsonl", texts), tokenizer, name="good", shard_tokens=shard_tokens
    )
    assert tokens_of(folder, "train") == tokens_of(exported(without), "train")


def test_a_worker_with_another_sentencepiece_is_refused(tokenizer):
    """Its tokens could be others, and the output would depend on where it was made."""
    with pytest.raises(DataError, match=r"sentencepiece .* this process 0\.0"):
        encode_function(tokenizer.read_bytes(), "0.0")


def test_two_at_once_are_one(tmp_path, tokenizer):
    """A second export into the same place is refused while the first runs, and changes nothing of it."""
    documents = written(tmp_path / "documents.jsonl", ["one", "two", "three"])
    asked = request(tmp_path, documents, tokenizer)

    def meanwhile(model, blocks):
        with pytest.raises(Busy, match="another export"):
            exported(asked)
        yield from in_blocks(documents, 4096)(model, blocks)

    folder = export(asked, meanwhile, lambda event: None)
    assert damage(folder, read_manifest(folder)) == []


def test_a_tokenizer_is_never_written_over_another(tmp_path, tokenizer):
    """Where its name is taken by other content, the copy gets a name of its own, and the manifest knows it."""
    documents = written(tmp_path / "documents.jsonl", ["one", "two", "three"])
    asked = request(tmp_path, documents, tokenizer)
    (asked.into / "tokenizers").mkdir(parents=True)
    (other := asked.into / "tokenizers" / tokenizer.name).write_bytes(b"another")
    folder = exported(asked)
    found = tokenizer_path(folder, read_manifest(folder))
    assert found.read_bytes() == tokenizer.read_bytes() and other.read_bytes() == b"another"


@pytest.mark.parametrize(
    "texts, changes, said",
    [
        ([], {}, "nothing in it"),
        ([""], {}, "there is 1 document,"),
        (["one", "two"], {"val_documents": 2}, "smaller --val-documents"),
        (["one two", "one  two\n", "\tone two"], {}, "has the tokens of one of them"),
        (["one", "two"], {"val_documents": 0}, "at least one"),
        (["one", "two"], {"shard_tokens": 0}, "--shard-tokens 0"),
        (["one", "two"], {"name": "../up"}, "no name of a folder"),
        (["one", "two"], {"vocab": 2048}, "exactly one"),
        (["one", "two"], {"tokenizer": None}, "exactly one"),
        (["one", "two"], {"tokenizer": None, "vocab": 1 << 17}, "16-bit"),
        (["one", "two"], {"tokenizer": None, "vocab": 256}, "--vocab 256 is not between 261 and 65,536: 256 pieces"),
        (["one", "two"], {"tokenizer": None, "vocab": 60_000}, "bytes of 1 training documents give"),
    ],
)
def test_what_cannot_be_exported_is_refused(tmp_path, tokenizer, texts, changes, said):
    """With the reason, and without a data folder, begun or whole: no other try could go on with it."""
    documents = written(tmp_path / "documents.jsonl", texts)
    with pytest.raises(DataError, match=said):
        exported(request(tmp_path, documents, changes.pop("tokenizer", tokenizer), **changes))
    there = tmp_path / "data" / "datasets"
    assert not (there / "made").exists() and not (there / ".made.export").exists()


def test_a_disk_that_cannot_hold_it_is_noticed_before_work(tmp_path, tokenizer, monkeypatch):
    """Free space is held against the least that the documents can give."""
    documents = written(tmp_path / "documents.jsonl", ["word " * 100] * 40 + ["other"])
    usage = shutil.disk_usage(tmp_path)._replace(free=3000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DiskError, match=r"MB are still to be written.*run the same command"):
        exported(request(tmp_path, documents, tokenizer))


def test_a_damaged_checkpoint_is_no_guess(tmp_path, tokenizer):
    """Cut, or without a shard that it lists: an error that names the folder to remove."""
    documents = written(tmp_path / "documents.jsonl", [f"document {i}" for i in range(40)])
    asked = request(tmp_path, documents, tokenizer)
    with pytest.raises(Stopped):
        exported(asked, 1, 30)
    scratch = asked.into / "datasets" / ".made.export"
    whole = (scratch / "checkpoint.json").read_bytes()
    for cut in random.Random(1).sample(range(len(whole) - 2), 20):
        (scratch / "checkpoint.json").write_bytes(whole[:cut])
        with pytest.raises(DataError, match="damaged"):
            exported(asked)
    (scratch / "checkpoint.json").write_bytes(whole)
    (scratch / "shards" / "fineweb_val_000000.bin").unlink()
    with pytest.raises(DataError, match="vanished"):
        exported(asked)


def test_what_differs_is_told_as_options(tmp_path, tokenizer):
    """Of a finished folder and of other settings: each that differs, as the option that sets it, and no other."""
    documents = written(tmp_path / "documents.jsonl", [f"document {i} of them" for i in range(60)])
    trained = {"vocab": 290, "shard_tokens": 9999}
    exported(request(tmp_path, documents, None, **trained))
    with pytest.raises(DataError, match=r"other data \(--vocab 290 there, 295 here; --val-documents 1 there, 2 here\)"):
        exported(request(tmp_path, documents, None, **trained | {"vocab": 295, "val_documents": 2}))
    with pytest.raises(DataError, match=r"\(--vocab 290 there, --tokenizer with SHA-256 [0-9a-f]{12} here\)"):
        exported(request(tmp_path, documents, tokenizer, shard_tokens=9999))


def test_a_damaged_folder_is_made_anew_as_it_says(tmp_path, tokenizer):
    """What the manifest knows of the command is in the advice; an export that finds the damage asks the same."""
    documents = written(tmp_path / "my documents.jsonl", ["one", "two", "three"])
    folder = exported(request(tmp_path, documents, tokenizer))
    before = content(folder)
    shard_paths(folder, "train")[0].write_bytes(b"damaged")
    with pytest.raises(DataError) as told:
        data_identity(folder, None, None)
    advice = str(told.value).split("`")[1]
    assert f"remove {folder}, and make it anew" in str(told.value)
    _, script, *options = shlex.split(advice)
    assert script == "jobs/prepare_data.py" and options[:2] == ["--documents", "my documents.jsonl"]
    with pytest.raises(DataError, match=f"Remove {folder}"):
        exported(request(tmp_path, documents, tokenizer))
    shutil.rmtree(folder)
    done = subprocess.run([sys.executable, str(ROOT / script), *options, "--on", "process"], cwd=tmp_path)
    assert done.returncode == 0 and content(folder) == before


def test_bad_documents_left_out_before_are_told_of(tmp_path, tokenizer):
    """Begun with --skip-bad and gone on with without it: what the first try left out is said."""
    documents = written(tmp_path / "documents.jsonl", [f"document {i}" for i in range(40)])
    documents.write_bytes(b"{}\n" + documents.read_bytes())
    with pytest.raises(Stopped):
        exported(request(tmp_path, documents, tokenizer, skip_bad=True), 1, 30)
    said = []
    exported(request(tmp_path, documents, tokenizer), tell=said.append)
    assert "1 bad document left out by an earlier try with --skip-bad" in said


def test_bad_documents_are_named_however_the_paths_were_typed(tmp_path, tokenizer, monkeypatch):
    """Relative or absolute, the manifest is the same; files of one name are told apart by their number."""
    for part in ("a", "b"):
        (tmp_path / "in" / part).mkdir(parents=True)
        path = written(tmp_path / "in" / part / "part.jsonl", ["one", "two", "three"])
        path.write_bytes(path.read_bytes() + b"{}\n")
    monkeypatch.chdir(tmp_path)
    found = []
    for typed, name in ((tmp_path / "in", "one"), (Path("in/../in"), "two")):
        found.append(read_manifest(exported(request(tmp_path / name, typed, tokenizer, skip_bad=True))))
    assert found[0] == found[1]
    assert [told.split(": ")[0] for told in found[0].source["skipped"]] == [
        "part.jsonl (file 1):4 (byte 50)",
        "part.jsonl (file 2):4 (byte 50)",
    ]
