"""The embedded corpus and its cache."""

import json
import lzma
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from golf_core.data.byte_count import load_tokenizer
from golf_core.data.corpus import CORPUS_PATH, MAX_DOCUMENT_BYTES, load_corpus, split_document
from golf_core.data.embedded import SHARD_NAMES, TOKENIZER_NAME, cache_root, embedded_data
from golf_core.data.manifest import DATA_MANIFEST, read_manifest
from golf_core.data.shards import BOS_ID, DataError, read_shard


@pytest.fixture(scope="module")
def folder():
    return embedded_data()[0]


@pytest.fixture
def small_corpus(tmp_path):
    """Twelve short messages made of the real text, so that a tokenizer trains in a moment."""
    texts = load_corpus().train
    path = tmp_path / "corpus.jsonl.xz"
    with lzma.open(path, "wt", encoding="utf-8") as file:
        for index in range(72):
            print(json.dumps({"id": f"m{index % 12}", "text": texts[index]}), file=file)
    return path


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_no_document_is_in_both_splits():
    """Training and validation share no document."""
    corpus = load_corpus()
    assert corpus.train and corpus.val and not set(corpus.train) & set(corpus.val)


def test_documents_keep_the_text_and_the_limit():
    """Nothing is lost but white space at the cuts, and no document is longer than the limit."""
    with lzma.open(CORPUS_PATH, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    corpus = load_corpus()
    held_out = set(list(dict.fromkeys(row["id"] for row in rows))[:10])
    assert "".join("".join(corpus.val).split()) == "".join(
        "".join(row["text"].split()) for row in rows if row["id"] in held_out
    )
    assert "".join("".join(corpus.train).split()) == "".join(
        "".join(row["text"].split()) for row in rows if row["id"] not in held_out
    )
    assert all(0 < len(text.encode()) <= MAX_DOCUMENT_BYTES for text in (*corpus.train, *corpus.val))


@given(text=st.text(st.characters(exclude_categories=["Cs"])), limit=st.integers(4, 40))
def test_a_split_keeps_every_character_that_is_not_space(text, limit):
    """Whatever the text: parts within the limit, which join to the text."""
    parts = split_document(text, limit)
    assert all(0 < len(part.encode()) <= limit for part in parts)
    assert "".join("".join(parts).split()) == "".join(text.split())


def test_shards_are_the_encoded_documents(folder):
    """Each document starts with BOS_ID, BOS_ID is nowhere else, and the rest is its encoding."""
    tokenizer, corpus = load_tokenizer(folder / TOKENIZER_NAME), load_corpus()
    for split, texts in (("train", corpus.train), ("val", corpus.val)):
        tokens = read_shard(folder / SHARD_NAMES[split])
        starts = np.flatnonzero(tokens == BOS_ID)
        assert starts[0] == 0 and len(starts) == len(texts) and tokens.max() < 1024
        assert tokens[1 : starts[1]].tolist() == tokenizer.encode(texts[0])
        assert tokens[starts[-1] + 1 :].tolist() == tokenizer.encode(texts[-1])


def test_the_tokenizer_has_the_challenges_settings(folder):
    """1,024 pieces, the challenge's special ids, byte fallback, single digits, no dummy prefix."""
    tokenizer = load_tokenizer(folder / TOKENIZER_NAME)
    assert tokenizer.vocab_size() == 1024
    assert [tokenizer.pad_id(), tokenizer.bos_id(), tokenizer.eos_id(), tokenizer.unk_id()] == [0, 1, 2, 3]
    assert sum(tokenizer.is_byte(token) for token in range(1024)) == 256
    assert tokenizer.encode("1901", out_type=str) == ["1", "9", "0", "1"]
    assert not tokenizer.encode("the", out_type=str)[0].startswith("\u2581")


def test_the_manifest_tells_what_the_data_sheet_promises(folder):
    """About 120,900 validation tokens of 345,573 bytes of text."""
    manifest = read_manifest(folder)
    assert 120_000 < manifest.splits["val"].tokens < 122_000
    assert abs(manifest.splits["val"].bytes - 345_573) < 100
    assert manifest.source["kind"] == "embedded" and manifest.source["settings"]["validation_messages"] == 10


def test_two_builds_are_the_same_bytes_and_the_second_call_builds_nothing(small_corpus, tmp_path):
    """Determinism across folders; a hit leaves every file as it was."""
    first, cached = embedded_data(tmp_path / "a", small_corpus)
    second, _ = embedded_data(tmp_path / "b", small_corpus)
    assert not cached and contents(first) == contents(second)
    before = {path: path.stat().st_mtime_ns for path in first.iterdir()}
    assert embedded_data(tmp_path / "a", small_corpus) == (first, True)
    assert {path: path.stat().st_mtime_ns for path in first.iterdir()} == before


@pytest.mark.parametrize("name", [TOKENIZER_NAME, *SHARD_NAMES.values(), DATA_MANIFEST])
@pytest.mark.parametrize("damage", ["flip", "remove"])
def test_a_damaged_cache_is_made_anew(name, damage, small_corpus, tmp_path):
    """A changed or missing file is noticed, and the bytes come back."""
    folder, _ = embedded_data(tmp_path / "cache", small_corpus)
    whole = contents(folder)
    path = folder / name
    if damage == "flip":
        path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    else:
        path.unlink()
    assert embedded_data(tmp_path / "cache", small_corpus) == (folder, False)
    assert contents(folder) == whole
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_another_corpus_is_another_folder(small_corpus, tmp_path):
    """The cache is named by what it was made of."""
    first, _ = embedded_data(tmp_path / "cache", small_corpus)
    with lzma.open(small_corpus, "at", encoding="utf-8") as file:
        print(json.dumps({"id": "m99", "text": "One more message to the Congress."}), file=file)
    assert embedded_data(tmp_path / "cache", small_corpus)[0] != first


def test_two_at_once_agree(small_corpus, tmp_path):
    """Four processes that start on an empty cache all end with the same whole folder, and nothing else is left."""
    script = (
        "import sys, pathlib; from golf_core.data.embedded import embedded_data;"
        "print(embedded_data(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))[0])"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "cache"), str(small_corpus)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = {process.communicate(timeout=120)[0].strip() for process in running}
    assert [process.returncode for process in running] == [0] * 4 and len(said) == 1
    assert embedded_data(tmp_path / "cache", small_corpus)[1]
    assert len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.parametrize(
    "data",
    [b"", b"no archive", lzma.compress(b"no json\n"), lzma.compress(b'{"id": "a"}\n'), lzma.compress(b"[]\n")],
    ids=["empty", "noise", "no json", "no text", "no object"],
)
def test_a_damaged_corpus_is_refused(data, tmp_path):
    """One DataError that names the file, and no cache folder."""
    path = tmp_path / "corpus.xz"
    path.write_bytes(data)
    with pytest.raises(DataError, match=str(path)):
        embedded_data(tmp_path / "cache", path)
    assert not any((tmp_path / "cache").glob("*"))


def test_a_checkout_that_cannot_be_written_uses_the_users_cache(monkeypatch, tmp_path):
    """The cache goes beside the corpus, or where XDG_CACHE_HOME says."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_root() == CORPUS_PATH.parent / "cache"
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert cache_root() == tmp_path / "golf-orchestrator"


def test_the_command_prints_one_object_and_says_when_it_was_cached(folder, tmp_path):
    """Paths of shards and tokenizer on stdout, from any working folder."""
    command = [sys.executable, "-m", "golf_core.data.embedded"]
    environment = {**os.environ, "PYTHONPATH": str(CORPUS_PATH.parents[1])}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {
        "data_path": str(folder),
        "tokenizer_path": str(folder / TOKENIZER_NAME),
        "cached": True,
    }
