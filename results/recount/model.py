"""A SentencePiece model, read from its bytes alone: which text each id stands for, and how text was rewritten first.

Written from the format (a protobuf message, in it a double-array trie), not from what scores runs, and without the
sentencepiece library: two programs that share a mistake would agree.

A tag of the message is (field number << 3) | wire type. Fields that are read here:

    1 piece (message): 1 text, 3 type      2 trainer (message): 24 white space as suffix, 44 the unknown's surface
    3 normaliser (message): 2 rules, 3 dummy prefix, 4 remove extra white space, 5 escape white space
"""

import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from golf_core.rundir import RunDirError

MARK = "\u2581"  # how a piece spells a space
MARK_BYTES = MARK.encode()
NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # types of pieces
TYPES = {NORMAL: "normal", UNKNOWN: "unknown", CONTROL: "control", USER: "user", UNUSED: "unused", BYTE: "byte"}
MAX_MODEL_BYTES = 64_000_000
MAX_PIECES = 1 << 20
MAX_STEPS = 2_000_000  # in a map of characters; nmt_nfkc, which most tokenizers have, takes under 300,000


class RecountError(RunDirError):
    """Something that the recount needs is missing or damaged; the message names it."""


@dataclass(frozen=True)
class Piece:
    text: str
    type: int


@dataclass(frozen=True)
class Model:
    pieces: tuple[Piece, ...]
    rules: dict[str, str] = field(repr=False)  # what normalisation makes of a string of characters
    dummy_prefix: bool  # a space is put before every text
    remove_extra_spaces: bool
    escape_spaces: bool
    spaces_at_end: bool  # a piece carries the space behind it, not the one before
    sha256: str = ""

    def of_type(self, *types: int) -> list[int]:
        return [number for number, piece in enumerate(self.pieces) if piece.type in types]

    @property
    def space(self) -> int | None:
        """The piece that is one space and nothing else; None where spaces alone cannot be written."""
        found = (number for number, piece in enumerate(self.pieces) if piece.text == MARK and piece.type in (1, 4))
        return next(found, None)

    @property
    def changed_letters(self) -> list[str]:
        """The ASCII letters that normalisation makes something else of: the text cannot be had back."""
        return [one for one in map(chr, range(128)) if one.isalpha() and self.rules.get(one, one) != one]


def read_model(path: Path) -> Model:
    """Raises RecountError for a file that is no SentencePiece model."""
    try:
        if path.stat().st_size > MAX_MODEL_BYTES:
            raise RecountError(f"{path} has {path.stat().st_size:,} bytes, more than any tokenizer")
        return parse_model(path.read_bytes())
    except OSError as error:
        raise RecountError(f"the tokenizer {path} cannot be read: {error.strerror}") from None
    except (ValueError, IndexError, RecursionError) as error:
        raise RecountError(f"{path} is no SentencePiece model: {error}") from None


def parse_model(data: bytes) -> Model:
    """Raises ValueError or IndexError where it is none."""
    pieces: list[Piece] = []
    trainer: dict[int, typing.Any] = {}
    normalizer: dict[int, typing.Any] = {}
    for number, value in _message(data):
        if number == 1:
            told = dict(_message(_bytes(value)))
            kind = told.get(3, NORMAL)
            if kind not in TYPES:
                raise ValueError(f"piece {len(pieces)} is of type {kind}")
            pieces.append(Piece(_bytes(told.get(1, b"")).decode(), kind))
        elif number in (2, 3):
            (trainer if number == 2 else normalizer).update(_message(_bytes(value)))
        if len(pieces) > MAX_PIECES:
            raise ValueError(f"it has more than {MAX_PIECES:,} pieces")
    if not pieces:
        raise ValueError("it has no pieces")
    for piece in pieces:
        if piece.type == BYTE and byte_of(piece) is None:
            raise ValueError(f"{piece.text!r:.40} is of type byte, and names none")
    return Model(
        pieces=tuple(pieces),
        rules=_rules(_bytes(normalizer.get(2, b""))),
        dummy_prefix=bool(normalizer.get(3, 1)),
        remove_extra_spaces=bool(normalizer.get(4, 1)),
        escape_spaces=bool(normalizer.get(5, 1)),
        spaces_at_end=bool(trainer.get(24, 0)),
    )


def byte_of(piece: Piece) -> int | None:
    """The byte that `<0x41>` stands for."""
    text = piece.text
    if len(text) != 6 or not text.startswith("<0x") or text[-1] != ">":
        return None
    digits = text[3:5]
    return int(digits, 16) if all(one in "0123456789ABCDEF" for one in digits) else None


def _bytes(value: typing.Any) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a number stands where bytes should")
    return value


def _number(data: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first; and where it ends."""
    total = 0
    for place in range(10):
        byte = data[at + place]
        total |= (byte & 127) << (7 * place)
        if not byte & 128:
            return total, at + place + 1
    raise ValueError("a number has more than ten bytes")


def _message(data: bytes) -> Iterator[tuple[int, typing.Any]]:
    """(field number, value) of each field: a whole number, or bytes."""
    at = 0
    while at < len(data):
        tag, at = _number(data, at)
        wire = tag & 7
        if wire == 0:
            value, at = _number(data, at)
            yield tag >> 3, value
            continue
        if wire not in (1, 2, 5):
            raise ValueError(f"wire type {wire}")
        length, at = _number(data, at) if wire == 2 else ({1: 8, 5: 4}[wire], at)
        if at + length > len(data):
            raise ValueError("it is cut")
        yield tag >> 3, data[at : at + length]
        at += length


def _rules(blob: bytes) -> dict[str, str]:
    """The keys and values of the trie: four bytes of size, units of four bytes, then the values, each ended by a zero.

    A unit that is reached from `base` by the byte c lies at base ^ c and has c as its label. Bit 8 tells that a key
    ends there: the unit at its own base, by a byte of 0, has the value's place."""
    if not blob:
        return {}
    size = int.from_bytes(blob[:4], "little")
    if size % 4 or size > len(blob) - 4:
        raise ValueError("its map of characters is cut")
    units = [int(one) for one in np.frombuffer(blob, dtype="<u4", count=size // 4, offset=4)]
    values = blob[4 + size :]
    labelled: dict[int, list[tuple[int, int]]] = {}  # base: (byte, unit)
    for place, unit in enumerate(units):
        label = unit & 0x800000FF
        if 0 < label < 256:
            labelled.setdefault(place ^ label, []).append((label, place))
    found: dict[str, str] = {}
    steps = 0
    open_nodes = [(b"", _base(units, 0))]
    while open_nodes:
        key, base = open_nodes.pop()
        if len(key) > 64:
            raise ValueError("its map of characters has no end")
        for byte, place in labelled.get(base, ()):
            if (steps := steps + 1) > MAX_STEPS:  # branches may meet again, and then keys double at each level
                raise ValueError("its map of characters has more keys than any")
            longer, below = key + bytes([byte]), _base(units, place)
            if units[place] >> 8 & 1:
                start = units[below] & 0x7FFFFFFF
                found[longer.decode()] = values[start : values.index(b"\0", start)].decode()
            open_nodes.append((longer, below))
    return found


def _base(units: list[int], place: int) -> int:
    unit = units[place]
    return place ^ ((unit >> 10) << ((unit & 512) >> 6))
