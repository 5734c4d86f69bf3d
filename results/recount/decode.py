"""From ids to bytes to documents, and a count of all that a wrong count of bytes could be explained by."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from results.recount.model import BYTE, CONTROL, MARK, MARK_BYTES, UNKNOWN, UNUSED, Model, RecountError, byte_of
from results.recount.shards import Shard, blocks, documents

BOS = 1  # in the challenge's shards the first token of every document


@dataclass(frozen=True)
class Table:
    """What each id stands for."""

    text: list[bytes]  # spaces for marks
    length: np.ndarray  # of `text`
    spaced: np.ndarray  # its piece begins with a space
    silent: np.ndarray  # it is no text: control, unknown, unused
    byte: np.ndarray  # it is one byte
    unknown: np.ndarray
    unused: np.ndarray
    marks: np.ndarray  # spaces within it, which a count of UTF-8 takes for three bytes each
    spelled: np.ndarray  # bytes of the piece as it is written: of `<0x41>` six


def table_of(model: Model) -> Table:
    """Raises RecountError for a model whose pieces carry the space behind them, which nobody of the race has."""
    if model.spaces_at_end:
        raise RecountError("the tokenizer's pieces carry the space behind them; such a one is not counted here")
    text: list[bytes] = []
    for piece in model.pieces:
        if piece.type in (CONTROL, UNKNOWN, UNUSED):
            text.append(b"")
        elif (byte := byte_of(piece) if piece.type == BYTE else None) is not None:
            text.append(bytes([byte]))
        else:
            text.append((piece.text.replace(MARK, " ") if model.escape_spaces else piece.text).encode())
    kinds = np.array([piece.type for piece in model.pieces])
    silent = np.isin(kinds, (CONTROL, UNKNOWN, UNUSED))
    plain = ~silent & (kinds != BYTE)
    return Table(
        text=text,
        length=np.array([len(one) for one in text], dtype=np.int64),
        spaced=plain & np.array([piece.text.startswith(MARK) for piece in model.pieces]),
        silent=silent,
        byte=kinds == BYTE,
        unknown=kinds == UNKNOWN,
        unused=kinds == UNUSED,
        marks=np.where(plain, [piece.text.count(MARK) for piece in model.pieces], 0),
        spelled=np.array([len(piece.text.encode()) for piece in model.pieces], dtype=np.int64),
    )


@dataclass
class Counts:
    """Of a stream of tokens. Every number is of targets: the stream's first token is none, and no text either."""

    tokens: int = 0
    documents: int = 0
    bytes: int = 0  # of the text, all documents
    begins_with_bos: bool = True
    byte_tokens: int = 0
    spaced: int = 0  # whose piece begins with a space, behind text
    first_spaced: int = 0  # the same at the start of a document
    behind_silent: int = 0  # the same behind a control piece within a document
    marks: int = 0
    unknown: int = 0
    unused: int = 0
    silent: int = 0  # control pieces within a document
    silent_spelled: int = 0  # bytes of the names of all pieces that are no text, BOS too
    byte_spelled: int = 0  # bytes of the names of byte pieces
    spaces_as_bytes: int = 0  # spaces spelled by three byte pieces, for want of a piece
    document_bytes: list[int] = field(default_factory=list)
    document_tokens: list[int] = field(default_factory=list)


Look = Callable[[int, bytes], None]  # the number of a document, and its text


def count(
    shards: Sequence[Shard], model: Model, look: Look | None = None, digests: "dict[Path, str] | None" = None
) -> Counts:
    """All of a stream, decoded. Raises RecountError for an id that the tokenizer has not."""
    table, found = table_of(model), Counts()
    text = table.text.__getitem__
    dummy = model.dummy_prefix and model.escape_spaces
    spelled = model.space is None  # a space that stands alone is then three byte pieces
    for tokens, starts in documents(blocks(shards, digests), BOS):
        if (largest := int(tokens.max())) >= len(table.text):
            raise RecountError(
                f"the shards hold token {largest}, and the tokenizer has {len(table.text):,} pieces: it is another"
            )
        if not found.tokens:
            found.begins_with_bos = int(tokens[0]) == BOS
        _tally(found, table, tokens, starts)
        first_spaced = _first_spaced(table, tokens, starts)
        ends = np.append(starts[1:], len(tokens))
        values = tokens.tolist()
        for start, end, spaced in zip(starts.tolist(), ends.tolist(), first_spaced.tolist(), strict=True):
            raw = b"".join(map(text, values[start:end]))
            if spaced and dummy:
                raw = raw[1:]
            if spelled:
                raw = raw.replace(MARK_BYTES, b" ")
            found.document_bytes.append(len(raw))
            found.document_tokens.append(end - start)
            if look is not None:
                look(found.documents, raw)
            found.documents += 1
        found.tokens += len(tokens)
    found.bytes = sum(found.document_bytes)
    return found


def _first_spaced(table: Table, tokens: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Of each document, whether its first piece of text begins with a space."""
    firsts = np.minimum(starts + (tokens[starts] == BOS), len(tokens) - 1)
    inside = firsts < np.append(starts[1:], len(tokens))
    found: np.ndarray = table.spaced[tokens[firsts]] & inside
    return found


def _tally(found: Counts, table: Table, tokens: np.ndarray, starts: np.ndarray) -> None:
    held = np.bincount(tokens, minlength=len(table.text)).astype(np.int64)
    found.byte_tokens += int(held[table.byte].sum())
    found.unknown += int(held[table.unknown].sum())
    found.unused += int(held[table.unused].sum())
    found.marks += int((held * table.marks).sum())
    found.silent_spelled += int((held * table.spelled)[table.silent].sum())
    found.byte_spelled += int((held * table.spelled)[table.byte].sum())
    found.silent += int(held[table.silent].sum()) - int((tokens[starts] == BOS).sum())
    behind = np.append(np.array([True]), table.silent[tokens[:-1]])
    spaced, first = table.spaced[tokens], int(_first_spaced(table, tokens, starts).sum())
    found.first_spaced += first
    found.spaced += int((spaced & ~behind).sum())
    found.behind_silent += max(0, int((spaced & behind).sum()) - first)
    if held[table.byte].any():
        found.spaces_as_bytes += _spelled_spaces(table, tokens)


def _spelled_spaces(table: Table, tokens: np.ndarray) -> int:
    """Three byte pieces in a row that are the mark itself."""
    ids = {one: number for number, one in enumerate(table.text) if table.byte[number]}
    wanted = [ids.get(bytes([byte])) for byte in MARK_BYTES]
    if None in wanted or len(tokens) < 3:
        return 0
    a, b, c = wanted
    return int(((tokens[:-2] == a) & (tokens[1:-1] == b) & (tokens[2:] == c)).sum())


def bytes_of_first(shards: Sequence[Shard], model: Model, targets: int) -> int:
    """The bytes of the stream's first so many targets."""
    table, left, total = table_of(model), targets + 1, 0
    previous_silent = True
    dummy = model.dummy_prefix and model.escape_spaces
    for block in _first(blocks(shards), left):
        lengths = table.length[block]
        total += int(lengths.sum())
        if dummy:  # the space before a document is no text of it
            behind = np.append(np.array([previous_silent]), table.silent[block[:-1]])
            total -= int((table.spaced[block] & behind).sum())
            previous_silent = bool(table.silent[block[-1]])
    return total


def _first(stream: Iterator[np.ndarray], left: int) -> Iterator[np.ndarray]:
    for block in stream:
        if left <= 0:
            return
        yield block[:left]
        left -= len(block)
