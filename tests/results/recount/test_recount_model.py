"""Our reader of SentencePiece models agrees with SentencePiece on pieces, text and normalisation; it trusts no file."""

import functools

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from golf_core.data.embedded import embedded_data
from results.recount.decode import count
from results.recount.model import BYTE, RecountError, parse_model, read_model
from results.recount.normalize import Normalizer
from results.recount.shards import find_split
from tests.results.recount.models import NORMAL, USER, model_bytes, pieces_with, write_shard


@functools.lru_cache(maxsize=1)
def embedded():
    """(our reading, SentencePiece's) of the tokenizer of the embedded corpus, with 225,000 rules of normalisation."""
    path = embedded_data()[0] / "tokenizer.model"
    model = read_model(path)
    return model, Normalizer(model), sentencepiece.SentencePieceProcessor(model_file=str(path))


def spoken(processor, text):
    """What SentencePiece makes of a text before it cuts it."""
    found = processor.normalize(text)
    return found.replace("▁", " ")


@given(st.text())
def test_a_text_is_normalised_as_sentencepiece_does(text):
    """Compositions, compatibility forms, controls and spaces of all kinds included."""
    _, normalizer, theirs = embedded()
    assert normalizer.text(text) == spoken(theirs, text)


def test_the_rules_are_read_whole():
    """Each key of the trie is rewritten as SentencePiece does, in a sample of every hundredth."""
    model, _, theirs = embedded()
    keys = sorted(model.rules)[::100]
    assert len(model.rules) > 100_000
    assert [f"x{model.rules[key]}x".replace("▁", " ") for key in keys] == [spoken(theirs, f"x{key}x") for key in keys]


@given(st.lists(st.text(alphabet="abcthe é\u2581\n字"), min_size=1, max_size=4), st.booleans(), st.booleans())
def test_decoding_gives_back_what_was_encoded(tmp_path_factory, texts, dummy, extra):
    """Every document, with and without a space put before it, spaces kept or not, unknown characters as bytes."""
    folder = tmp_path_factory.mktemp("data")
    data = model_bytes(pieces_with(), dummy=dummy, extra=extra)
    theirs = sentencepiece.SentencePieceProcessor(model_proto=data)
    write_shard(folder / "x_val_0.bin", [token for text in texts for token in (1, *theirs.encode(text))])
    model = parse_model(data)
    normalizer, decoded = Normalizer(model), []
    found = count(find_split(folder, "val").shards, model, lambda _, raw: decoded.append(raw))
    assert decoded == [normalizer.text(text).encode() for text in texts]
    assert (found.documents, found.bytes) == (len(texts), sum(map(len, decoded)))


def test_pieces_and_their_types_are_read():
    """As SentencePiece tells them, and user-defined pieces are kept from normalisation."""
    data = model_bytes([*pieces_with(), ("ab  c", USER)])
    theirs = sentencepiece.SentencePieceProcessor(model_proto=data)
    model = parse_model(data)
    assert [piece.text for piece in model.pieces] == [theirs.id_to_piece(at) for at in range(theirs.vocab_size())]
    assert model.of_type(BYTE) == [at for at in range(theirs.vocab_size()) if theirs.is_byte(at)]
    assert model.space == theirs.piece_to_id("▁")


def test_a_vocabulary_without_a_space_is_known():
    """And one that rewrites letters."""
    rules = _charsmap({"A": "a"})
    model = parse_model(model_bytes(pieces_with(["a", "b"]), rules=rules))
    assert model.space is None and model.changed_letters == ["A"]
    assert Normalizer(model).text("AbA") == "aba"


def _charsmap(rules):
    """A double-array trie of keys of one character of ASCII."""
    values = b"".join(value.encode() + b"\0" for value in rules.values())
    units = [0] * 512
    units[0] = 256 << 10  # the root's children lie at 256 ^ byte
    for place, key in enumerate(rules):
        at = 256 ^ ord(key)
        leaf = 128 + place
        units[at] = (at ^ leaf) << 10 | 1 << 8 | ord(key)
        units[leaf] = 1 << 31 | values.index(rules[key].encode())
    size = (4 * len(units)).to_bytes(4, "little")
    return size + b"".join(unit.to_bytes(4, "little") for unit in units) + values


@given(st.data())
def test_a_damaged_model_is_refused_or_read(tmp_path_factory, data):
    """Cut, or with a byte changed, there is an error of ours or a model, and nothing else."""
    whole = model_bytes([*pieces_with(), ("x", NORMAL)], rules=_charsmap({"A": "a", "B": "bb"}))
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = whole[:at] + data.draw(st.sampled_from([b"", bytes([whole[at] ^ 255]) + whole[at + 1 :]]))
    path = tmp_path_factory.mktemp("m") / "m.model"
    path.write_bytes(damaged)
    try:
        read_model(path)
    except RecountError as error:
        assert str(path) in str(error)


def test_a_trie_whose_branches_meet_is_refused(tmp_path):
    """Each level doubles its keys, and the branches have no end."""
    units = [0] * 1024
    for base in range(0, 1024, 256):
        for byte in (1, 2):
            at, below = base ^ byte, (base + 256) % 1024
            units[at] = (at ^ below) << 10 | 1 << 8 | byte
    units[0] = 0
    blob = (4 * len(units)).to_bytes(4, "little") + b"".join(one.to_bytes(4, "little") for one in units) + b"\0"
    path = tmp_path / "m.model"
    path.write_bytes(model_bytes(pieces_with(), rules=blob))
    with pytest.raises(RecountError, match=r"no end|more keys than any"):
        read_model(path)


def test_no_model_is_no_model(tmp_path):
    """A missing file, JSON, and an empty file are named."""
    (tmp_path / "json").write_text('{"a": 1}')
    (tmp_path / "empty").write_bytes(b"")
    for name in ("json", "empty", "missing"):
        with pytest.raises(RecountError, match=name):
            read_model(tmp_path / name)
