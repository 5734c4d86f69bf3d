"""What a SentencePiece .model file says of itself: its pieces and their types, and how it normalises text.

A .model file is a protobuf message; sentencepiece's own Python module for it needs the protobuf package, and a few
fields are all we need. The map of characters inside is a double-array trie ("Darts"), whose keys are walked here.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from golf_core.data.shards import DataError

NORMAL, UNUSED, USER_DEFINED = 1, 5, 4  # types of pieces that text can become by merging
BPE = 2  # of model_type
Field = int | bytes  # a number, or what has a length


@dataclass(frozen=True)
class ModelFacts:
    pieces: tuple[tuple[str, int], ...]  # (piece, type)
    model_type: int
    whitespace_as_suffix: bool
    charsmap: bytes
    add_dummy_prefix: bool
    remove_extra_whitespaces: bool
    escape_whitespaces: bool


def read_model(model: bytes) -> ModelFacts:
    """The facts of a .model file. Raises DataError where it is none."""
    try:
        pieces: list[tuple[str, int]] = []
        trainer: dict[int, Field] = {}
        normalizer: dict[int, Field] = {}
        for number, value in _fields(model):
            if number == 1:
                piece = dict(_fields(value))
                pieces.append((bytes(piece[1]).decode(), int(piece.get(3, NORMAL))))
            elif number == 2:
                trainer.update(_fields(value))
            elif number == 3:
                normalizer.update(_fields(value))
        return ModelFacts(
            pieces=tuple(pieces),
            model_type=int(trainer.get(3, 1)),
            whitespace_as_suffix=bool(trainer.get(24, 0)),
            charsmap=bytes(normalizer.get(2, b"")),
            add_dummy_prefix=bool(normalizer.get(3, 1)),
            remove_extra_whitespaces=bool(normalizer.get(4, 1)),
            escape_whitespaces=bool(normalizer.get(5, 1)),
        )
    except (ValueError, KeyError, TypeError, IndexError, struct.error) as error:
        raise DataError(f"the tokenizer is no SentencePiece model: {error!r}") from None


def with_dummy_prefix(model: bytes) -> bytes:
    """The same model, except that it puts a space before every text. (A field that comes again replaces the first.)"""
    return model + b"\x1a\x02\x18\x01"


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _fields(data: Field) -> Iterator[tuple[int, Field]]:
    """(number, value) of every field of a message."""
    if not isinstance(data, bytes):
        raise ValueError("a number stands where a message should")
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind, size = tag & 7, 0
        if kind == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"a field of kind {kind}")
        if at + size > len(data):
            raise ValueError("it is cut")
        yield tag >> 3, data[at : at + size]
        at += size


@dataclass(frozen=True)
class CharacterMap:
    """How normalisation rewrites text: the longest key at a place becomes its value."""

    alone: Mapping[int, bytes]  # values of keys of one byte
    joined: frozenset[int]  # bytes that stand in a longer key
    ascii_joined: bool  # whether a longer key is all ASCII
    values: bytes  # every value, each ended by a zero byte


def read_character_map(charsmap: bytes) -> CharacterMap:
    """The map of a model, of which an empty one changes nothing. Raises DataError where it is damaged."""
    if not charsmap:
        return CharacterMap({}, frozenset(), False, b"")
    try:
        (size,) = struct.unpack_from("<I", charsmap)
        units, values = np.frombuffer(charsmap, dtype="<u4", count=size // 4, offset=4), charsmap[4 + size :]
        return _walk(units, values)
    except (ValueError, IndexError, struct.error) as error:
        raise DataError(f"the tokenizer's map of characters is damaged: {error!r}") from None


def _walk(units: np.ndarray, values: bytes) -> CharacterMap:
    """Follow every edge of the trie, a level at a time.

    A unit that is reached by byte b lies at (its parent's base) ^ b and carries b as its label."""
    labels = units & np.uint32(0x800000FF)  # a leaf's has the highest bit
    nodes = np.flatnonzero((labels > 0) & (labels < 256)).astype(np.uint32)
    nodes = nodes[np.argsort(nodes ^ labels[nodes], kind="stable")]
    parents = nodes ^ labels[nodes]
    offsets = (units >> np.uint32(10)) << ((units & np.uint32(1 << 9)) >> np.uint32(6))
    bases = np.arange(len(units), dtype=np.uint32) ^ offsets
    alone: dict[int, bytes] = {}
    joined: set[int] = set()
    above, depth = np.zeros(1, dtype=np.uint32), 0  # the root
    above_ascii, ascii_joined = np.ones(1, dtype=np.bool_), False
    while len(above):
        low, high = (np.searchsorted(parents, bases[above], side=side) for side in ("left", "right"))
        counts = high - low
        starts = np.repeat(low - (np.cumsum(counts) - counts), counts)
        below = nodes[starts + np.arange(counts.sum())]
        below_ascii = np.repeat(above_ascii, counts) & (labels[below] < 128)
        if depth:
            ascii_joined = ascii_joined or bool(below_ascii.any())
            joined |= {*labels[below].tolist(), *labels[above[counts > 0]].tolist()}
        else:
            for node in below[(units[below] >> np.uint32(8) & np.uint32(1)).astype(bool)].tolist():
                start = int(units[bases[node]] & np.uint32(0x7FFFFFFF))
                alone[int(labels[node])] = values[start : values.index(b"\0", start)]
        above, above_ascii, depth = below, below_ascii, depth + 1
        if depth > len(units):
            raise ValueError("its trie has no end")
    return CharacterMap(alone, frozenset(joined), ascii_joined, values)
