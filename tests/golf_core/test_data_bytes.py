"""Byte accounting: the bytes of the targets of a document are the bytes of its normalised text."""

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from golf_core.data.byte_count import byte_tables, load_tokenizer, target_bytes
from golf_core.data.corpus import load_corpus
from golf_core.data.embedded import TOKENIZER_NAME, embedded_data
from golf_core.data.shards import DataError, read_shard, shard_paths

MARK = "\u2581"
# Surrogates cannot be encoded; the mark at the very start is the one documented miscount.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60).filter(lambda text: MARK not in text)


@pytest.fixture(scope="module")
def folder():
    return embedded_data()[0]


@pytest.fixture(scope="module")
def tokenizer(folder):
    return load_tokenizer(folder / TOKENIZER_NAME)


@pytest.fixture(scope="module")
def tables(folder):
    return byte_tables(folder / TOKENIZER_NAME, 1024)


def counted(tokenizer, tables, text):
    tokens = np.array([tokenizer.bos_id(), *tokenizer.encode(text)])
    return int(target_bytes(tokens[:-1], tokens[1:], tables).sum())


def normalised_bytes(tokenizer, text):
    return len(tokenizer.normalize(text).replace(MARK, " ").encode())


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXT)
def test_any_text_counts_as_its_normalised_bytes(text, tokenizer, tables):
    """For arbitrary unicode the sum over targets is the length of the normalised text."""
    assert counted(tokenizer, tables, text) == normalised_bytes(tokenizer, text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "a",
        " a  b ",
        "\u4e2d\u6587\u5b57",
        "\U0001f600\U0001f680",
        "caf\u00e9 na\u00efve",
        "1234 5",
        "x\ny\n\nz",
        "\ufb01ne",
        "\x00\x7f",
    ],
    ids=["empty", "space", "letter", "spaces", "han", "emoji", "accents", "digits", "newlines", "ligature", "control"],
)
def test_chosen_texts_count_as_their_normalised_bytes(text, tokenizer, tables):
    """Empty, blank, byte-fallback, composed and folded texts are counted exactly."""
    assert counted(tokenizer, tables, text) == normalised_bytes(tokenizer, text)


def test_a_string_of_byte_fallback_counts_one_byte_a_token(tokenizer, tables):
    """Characters outside of the vocabulary become byte tokens of one byte each."""
    text = "\u4e2d\U0001f680\u0bb5"
    tokens = tokenizer.encode(text)
    assert all(tokenizer.is_byte(token) for token in tokens)
    assert counted(tokenizer, tables, text) == len(tokens) == len(text.encode())


def test_every_validation_document_counts_as_its_normalised_bytes(folder, tokenizer, tables):
    """Document by document, and over the whole shard, where a BOS between documents adds no byte."""
    texts = load_corpus().val
    expected = [normalised_bytes(tokenizer, text) for text in texts]
    assert [counted(tokenizer, tables, text) for text in texts] == expected
    tokens = read_shard(shard_paths(folder, "val")[0])
    assert int(target_bytes(tokens[:-1], tokens[1:], tables).sum()) == sum(expected)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(1, 120_000), max_size=8))
def test_parts_of_a_stream_sum_to_the_whole(cuts, folder, tables):
    """Bytes do not depend on how targets are batched."""
    tokens = read_shard(shard_paths(folder, "val")[0])
    whole = target_bytes(tokens[:-1], tokens[1:], tables)
    edges = [0, *sorted(cuts), len(tokens) - 1]
    parts = [target_bytes(tokens[a:b], tokens[a + 1 : b + 1], tables).sum() for a, b in itertools.pairwise(edges)]
    assert sum(int(part) for part in parts) == int(whole.sum())


def test_ids_beyond_the_tokenizer_are_no_text(folder, tables):
    """A vocab larger than the tokenizer adds tokens of no bytes that end a word."""
    wide = byte_tables(folder / TOKENIZER_NAME, 1100)
    assert all(np.array_equal(a, b[:1024]) for a, b in zip(tables, wide, strict=True))
    assert wide[2][1024:].all() and not wide[0][1024:].any() and not wide[1][1024:].any()


def test_control_tokens_have_no_bytes(tokenizer, tables):
    """Pad, BOS, EOS and unknown count nothing, and a space after them is not text."""
    base, leading, boundary = tables
    assert not base[:4].any() and boundary[:4].all() and not leading[:4].any()
    assert not boundary[4 : tokenizer.vocab_size()].any()


def test_a_vocab_smaller_than_the_tokenizer_is_refused(folder):
    """The message names both numbers."""
    with pytest.raises(DataError, match=r"1024 pieces.*vocab of 512"):
        byte_tables(folder / TOKENIZER_NAME, 512)


@pytest.mark.parametrize(
    "content", [None, b"", b"no model", bytes(range(256)) * 9], ids=["missing", "empty", "text", "noise"]
)
def test_what_is_no_tokenizer_is_refused(content, tmp_path):
    """Missing and foreign files are a DataError with the path."""
    path = tmp_path / "t.model"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=str(path)):
        byte_tables(path, 1024)
