"""The fast encoder: exactly SentencePiece's tokens, for any text and any tokenizer, or it says why it is slow."""

import functools
import io
import json
import pickle
import string

import numpy as np
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from golf_core.data.byte_count import byte_tables, load_tokenizer, target_bytes
from golf_core.data.corpus import load_corpus
from golf_core.data.shards import BOS_ID, DataError
from golf_core.data.tokenizer import TOKENIZER_SETTINGS
from golf_core.prepare.blocks import read_blocks
from golf_core.prepare.encode import BlockEncoder, EncoderError, text_digest
from golf_core.prepare.model_proto import read_character_map, read_model
from golf_core.prepare.sources import Source
from golf_core.prepare.words import MERGED_AT_ONCE, TextEncoder, WordMemory, pack

FAST = {
    "challenge 400": {"vocab_size": 400},
    "challenge 1024": {},
    "challenge 2048": {"vocab_size": 2048},
    "dummy prefix": {"add_dummy_prefix": True},
    "no byte fallback": {"byte_fallback": False},
    "nfkc": {"normalization_rule_name": "nfkc"},
    "case folded": {"normalization_rule_name": "nmt_nfkc_cf"},
    "identity": {"normalization_rule_name": "identity"},
    "own symbols": {"user_defined_symbols": ["<sep>", "\ufdfa", "ab", ".com", "\u2581foo", ",x", "d,"]},
    "mixed scripts": {"split_by_unicode_script": False, "split_digits": False, "split_by_number": False},
}
SLOW = {
    "unigram": ({"model_type": "unigram", "vocab_size": 400}, "no BPE model"),
    "runs of spaces": ({"remove_extra_whitespaces": False}, "runs of spaces"),
    "suffix": ({"treat_whitespace_as_suffix": True}, "ends of words"),
    "over words": ({"split_by_whitespace": False}, "reaches over the start of a word"),
}
ODD = (
    "été naïve \ufdfa \u3000 \uff46\uff55\uff4c\uff4c ½ ﬁne A\u0301ngstrom Å 漢字 x1234567,89 foo ab.com d,x <sep> 😀 "
)


@functools.cache
def model(name: str) -> bytes:
    """A tokenizer of those settings, trained once."""
    found, changes = io.BytesIO(), FAST[name] if name in FAST else SLOW[name][0]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*load_corpus().train[: 20 if name in SLOW else 60], *[ODD] * 20]),
        model_writer=found,
        minloglevel=2,
        **{**TOKENIZER_SETTINGS, **changes},
    )
    return found.getvalue()


@functools.cache
def encoder(name: str) -> TextEncoder:
    return TextEncoder(model(name))


@functools.cache
def block_encoder(name: str) -> BlockEncoder:
    return BlockEncoder(model(name))


# What has broken encoders: spaces of all kinds, marks, composition over a boundary, expansion, signs of the model.
ODD_PIECES = (
    " |  |\n|\n\n|\t|\r\n|\u2581|\u00a8|\u00a0|\u3000|\u200b|\u2028|\ufeff|\u0301|\u0344|\u00b4|\u037a| \u0308|A\u0300|"
    "\ufdfa|\u1100\u1161|\u0e33|\x00|\x01|\x0b|\x1c|\x7f|\x85|<s>|<unk>|<0x41>|<sep>|ab|foo|.com|12345|...|.,|the|government|of|"
    "word,|(x),|U.S.|d,x"
)
FRAGMENTS = st.one_of(
    st.sampled_from([*ODD_PIECES.split("|"), "x" * 70]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
    st.text(string.ascii_letters + string.digits + string.punctuation + "  ", max_size=8),
)
TEXTS = st.lists(FRAGMENTS, max_size=14).map("".join)


@settings(max_examples=200)
@given(text=TEXTS, name=st.sampled_from(list(FAST)))
def test_words_give_the_tokens_of_the_whole_text(text, name):
    """For any text the fast way's tokens are `sp.encode`'s, whatever was remembered before."""
    assert encoder(name).reason is None
    assert encoder(name).encode(text) == pack(encoder(name).tokenizer.encode(text))


@pytest.mark.parametrize("name", ["challenge 1024", "own symbols", "mixed scripts"])
def test_every_character_between_words(name):
    """Each of some 20,000 characters, within a word, at both of its ends and alone, changes nothing."""
    fast = encoder(name)
    characters = [
        chr(code) for low, high in ((0, 0x3400), (0xF900, 0x10000), (0x1D400, 0x1D500)) for code in range(low, high)
    ]
    for start in range(0, len(characters), 50):
        text = " ".join(f"a{one}b {one}c d{one} {one}" for one in characters[start : start + 50])
        assert fast.encode(text) == fast.plain(text), repr(text)


@pytest.mark.parametrize("name, why", [(name, why) for name, (_, why) in SLOW.items()], ids=SLOW.keys())
def test_other_tokenizers_are_encoded_plainly_and_say_so(name, why):
    """A model whose words are not independent is noticed; its tokens are right all the same."""
    slow = encoder(name)
    assert slow.reason is not None and why in slow.reason
    for text in (ODD, "a  b \u2581 c", ""):
        assert slow.encode(text) == pack(slow.tokenizer.encode(text))


def test_a_space_that_is_an_unused_piece_is_noticed(tmp_path):
    """SentencePiece spells it as bytes, or as unknown: words are not independent, and bytes cannot be counted."""
    name = "no byte fallback"
    piece = b"\x0a\x03\xe2\x96\x81\x15"  # the mark, and a score of four bytes behind it
    at = model(name).find(piece)
    assert at > 0 and model(name)[at - 1] == 10  # the length of the whole entry
    unused = model(name)[: at - 1] + b"\x0c" + model(name)[at : at + 10] + b"\x18\x05" + model(name)[at + 10 :]
    slow = TextEncoder(unused)
    assert slow.reason is not None and "no piece for a space" in slow.reason
    assert slow.encode("the \u9d64 \u9d65 of") == pack(slow.tokenizer.encode("the \u9d64 \u9d65 of"))
    (tmp_path / "t.model").write_bytes(unused)
    with pytest.raises(DataError, match="no piece for a space"):
        byte_tables(tmp_path / "t.model", slow.tokenizer.vocab_size())


@settings(max_examples=30)
@given(text=TEXTS, at_once=st.integers(1, 9))
def test_long_texts_are_split_in_parts(text, at_once):
    """However few words are held at once, the tokens stay."""
    fast = encoder("challenge 400")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("golf_core.prepare.words.SPLIT_AT_ONCE", at_once)
        assert fast.encode(text) == fast.plain(text)


def test_the_memory_of_words_is_bounded():
    """Two generations at most; long words are not kept; what is used again stays; the tokens are right throughout."""
    tokenizer = encoder("challenge 400").tokenizer
    memory = WordMemory(tokenizer, {",": pack([tokenizer.piece_to_id(",")])}, words=100)
    for number in range(1000):
        words = [f"w{number}", f"w{number},", "often", f"w{number}"]
        for word in words:
            _ = memory[word]
        learnt = memory.learn()
        assert all(learnt[word] == pack(tokenizer.encode(word)) for word in words[:2]) and not memory.missed
        assert len(memory) + len(memory.older) <= 206 and ("often" in memory or "often" in memory.older)
    assert memory["x" * 100] == pack(tokenizer.encode("x" * 100)) and "x" * 100 not in memory


def test_what_would_take_too_much_memory_is_a_bad_document(tmp_path):
    """A text without a space that SentencePiece could not take under a gigabyte is named; its neighbours stay."""
    path = tmp_path / "a.jsonl"
    texts = ["a b", "x" * (MERGED_AT_ONCE + 1), "c d"]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    blocks = [BlockEncoder(model("challenge 400")).encode(block) for block in read_blocks([Source(path, "jsonl")])]
    assert sum(len(block.lengths) for block in blocks) == 2
    ((bad, before),) = [(one, one.documents_before) for block in blocks for one in block.bad]
    assert (
        f"{path}:2 (byte " in bad.place
        and "4,194,305 bytes of it have to be encoded as one" in bad.reason
        and before == 1
    )


@settings(max_examples=20)
@given(texts=st.lists(TEXTS, max_size=6), name=st.sampled_from(["challenge 400", "no byte fallback", "dummy prefix"]))
def test_a_block_is_its_documents(texts, name, tmp_path_factory):
    """BOS before each document, its tokens, its length, digest and bytes as byte_count counts them; it can be sent."""
    folder = tmp_path_factory.mktemp("block")
    (folder / "t.model").write_bytes(model(name))
    (folder / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    tokenizer = load_tokenizer(folder / "t.model")
    tables = byte_tables(folder / "t.model", tokenizer.vocab_size())
    encode = block_encoder(name).encode
    found = [encode(block) for block in read_blocks([Source(folder / "a.jsonl", "jsonl")], block_bytes=100)]
    found = [pickle.loads(pickle.dumps(block)) for block in found]
    rows = [np.array([BOS_ID, *tokenizer.encode(text)]) for text in texts]
    assert [token for block in found for token in block.tokens.tolist()] == [int(one) for row in rows for one in row]
    assert all(block.tokens.dtype == np.uint16 and not block.bad for block in found)
    assert [length for block in found for length in block.lengths.tolist()] == [len(row) for row in rows]
    assert b"".join(block.digests for block in found) == b"".join(text_digest(text) for text in texts)
    counted = [int(target_bytes(row[:-1], row[1:], tables).sum()) for row in rows]
    assert [size for block in found for size in block.text_bytes.tolist()] == counted


def test_a_wrong_word_is_noticed(tmp_path):
    """A document of each block is encoded both ways: a memory that holds other tokens stops the export."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "we the people"}\n', encoding="utf-8")
    wrong = BlockEncoder(model("challenge 400"))
    wrong.texts.inner["people"] = pack([5])
    with pytest.raises(EncoderError, match=r"a.jsonl:1 \(byte 0\): word by word"):
        wrong.encode(next(iter(read_blocks([Source(path, "jsonl")]))))


def test_the_character_map_is_read_as_sentencepiece_reads_it():
    """What the map says of single ASCII characters is what normalisation does."""
    for name in ("challenge 1024", "nfkc", "case folded", "identity"):
        rules = read_character_map(read_model(model(name)).charsmap)
        tokenizer = encoder(name).tokenizer
        for code in range(1, 128):
            value = rules.alone.get(code, bytes([code])).decode()
            assert tokenizer.normalize(f"x{chr(code)}y").replace("\u2581", " ") == f"x{value}y"
        assert not rules.ascii_joined and not {ord(" "), ord("\n")} & rules.joined


@pytest.mark.parametrize(
    "data", [b"", b"abc", b"\x0a\xff", b"\x1a\x04\x12\x02ab"], ids=["none", "text", "cut", "bad map"]
)
def test_what_is_no_model_is_refused(data):
    """Bytes that are no model, or one with a damaged map, end in an error that says so."""
    with pytest.raises((DataError, RuntimeError)):
        read_character_map(read_model(data).charsmap)
        BlockEncoder(data)
