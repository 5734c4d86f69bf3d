"""Documents of any number of files as blocks of about 4 MiB, each whole documents, cut by the input alone.

A block is what a worker gets, and where reading can go on: its `after` is the Position of the next one. Memory stays
bounded: a document over LARGEST_DOCUMENT is read over, never held, and reported as bad with its place.

JSONL is cut at line ends and not parsed here. Empty lines hold no document. Files of other kinds become blocks of
texts: a row of a Parquet file, or a file of text, is a document.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import arro3.io

from golf_core.data.shards import DataError
from golf_core.prepare.sources import Source
from golf_core.prepare.streams import READ_ERRORS, open_lines, skip_to

BLOCK_BYTES = 4 * 1024 * 1024
LARGEST_DOCUMENT = 16 * 1024 * 1024  # bytes of its line, row or file
SKIP_BYTES = 1024 * 1024  # read at once of what is skipped
PARQUET_ROWS = 64  # decoded at once
PARQUET_WORDS: dict[type, str] = {
    bool: "true or false",
    int: "whole numbers",
    float: "numbers",
    bytes: "bytes",
    list: "lists",
    dict: "records",
}
NO_TEXT = "it has no text (null)"
UTF8_MARK = b"\xef\xbb\xbf"  # some editors begin files with it

# Where a block starts: "file" counts the sources; "offset" is in bytes of the (unpacked) lines, or in rows of a
# Parquet file; "line" is the number of the line there, from 1.
Position = dict[str, int]
START: Position = {"file": 0, "offset": 0, "line": 1}


@dataclass(frozen=True)
class BadDocument:
    """A document that cannot be used."""

    place: str  # file, line or row, byte offset
    reason: str  # what is wrong, and what to do
    documents_before: int  # good ones of the same block


@dataclass(frozen=True)
class TextBlock:
    payload: bytes  # lines of JSON, or texts end to end
    lengths: tuple[int, ...] | None  # bytes of each text; None: the payload is lines
    places: tuple[str, ...]  # of each text; of lines: the file alone
    start: Position
    after: Position
    text_field: str
    bad: tuple[BadDocument, ...] = ()  # found in reading; they follow the payload's documents

    @property
    def place(self) -> str:
        """Where it is from, for messages."""
        return self.places[0] if self.places else self.bad[0].place


def read_blocks(
    sources: Sequence[Source],
    start: Position | None = None,
    block_bytes: int = BLOCK_BYTES,
    text_field: str = "text",
    largest: int = LARGEST_DOCUMENT,
) -> Iterator[TextBlock]:
    """Every block from `start` on; the same ones wherever reading starts. Raises DataError for a damaged file."""
    position = dict(start or START)
    block_bytes = min(block_bytes, largest)  # so that no line within a block is larger
    while position["file"] < len(sources):
        source = sources[position["file"]]
        try:
            if source.kind == "text":
                block = _texts(sources, position, block_bytes, text_field, largest)
                yield block
                position = block.after
                continue
            read = _rows if source.kind == "parquet" else _lines
            yield from read(source, position, block_bytes, text_field, largest)
        except READ_ERRORS as error:
            raise DataError(f"{source.path} cannot be read: {error}; it is damaged or cut, fetch it again") from None
        except OSError as error:
            raise DataError(f"{source.path} cannot be read: {error.strerror or error}") from None
        position = {"file": position["file"] + 1, "offset": 0, "line": 1}


def _lines(source: Source, start: Position, block_bytes: int, text_field: str, largest: int) -> Iterator[TextBlock]:
    with open_lines(source) as file:
        skip_to(file, source, start["offset"])
        position = dict(start)
        while payload := file.read(block_bytes):
            bad: tuple[BadDocument, ...] = ()
            size = len(payload)
            if not payload.endswith(b"\n"):
                head = payload.rfind(b"\n") + 1
                rest = file.readline(largest - (size - head) + 1)
                size += len(rest)
                if size - head > largest and not rest.endswith(b"\n"):
                    line = position["line"] + payload.count(b"\n", 0, head)
                    place = f"{source.path}:{line} (byte {position['offset'] + head:,})"
                    size += _skip_line(file)
                    bad = (_too_large(place, size - head, largest),)
                    payload = payload[:head]
                else:
                    payload += rest
            after = {
                "file": position["file"],
                "offset": position["offset"] + size,
                "line": position["line"] + payload.count(b"\n") + len(bad),
            }
            yield TextBlock(payload, None, (str(source.path),), position, after, text_field, bad)
            position = after


def _too_large(place: str, size: int, largest: int) -> BadDocument:
    reason = f"it has {size:,} bytes; a document may have {largest:,}: cut it into several"
    return BadDocument(place, reason, -1)


def _skip_line(file: IO[bytes]) -> int:
    skipped = 0
    while part := file.readline(SKIP_BYTES):
        skipped += len(part)
        if part.endswith(b"\n"):
            break
    return skipped


def _texts(sources: Sequence[Source], start: Position, block_bytes: int, text_field: str, largest: int) -> TextBlock:
    """One block of text files, from the first at `start` on."""
    number, size = start["file"], 0
    texts: list[bytes] = []
    places: list[str] = []
    bad: tuple[BadDocument, ...] = ()
    while number < len(sources) and sources[number].kind == "text" and size < block_bytes and not bad:
        path = sources[number].path
        try:
            with path.open("rb") as file:
                text = file.read(largest + 1).removeprefix(UTF8_MARK)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from None
        if len(text) > largest:
            bad = (_too_large(str(path), path.stat().st_size, largest),)
        else:
            texts.append(text)
            places.append(str(path))
            size += len(text) + 1  # so that empty ones count
        number += 1
    after = {"file": number, "offset": 0, "line": 1}
    lengths = tuple(map(len, texts))
    return TextBlock(b"".join(texts), lengths, tuple(places), dict(start), after, text_field, bad)


def _rows(source: Source, start: Position, block_bytes: int, text_field: str, largest: int) -> Iterator[TextBlock]:
    path, position = source.path, dict(start)
    texts: list[bytes] = []
    row = size = 0

    def block(bad: tuple[BadDocument, ...] = ()) -> TextBlock:
        first = position["offset"]
        places = tuple(f"{path} row {first + number:,}" for number in range(len(texts)))
        after = {**position, "offset": first + len(texts) + len(bad)}
        lengths = tuple(map(len, texts))
        return TextBlock(b"".join(texts), lengths, places, dict(position), after, text_field, bad)

    for values in _column(path, text_field):
        for value in values[max(position["offset"] - row, 0) :] if row < position["offset"] else values:
            text = None if value is None else value.encode()
            if text is None or len(text) > largest:
                place = f"{path} row {position['offset'] + len(texts):,}"
                why = _too_large(place, len(text), largest) if text else BadDocument(place, NO_TEXT, -1)
                found = block((why,))
            else:
                texts.append(text)
                size += len(text) + 1
                if size < block_bytes:
                    continue
                found = block()
            yield found
            position, texts, size = found.after, [], 0
        row += len(values)
    if row < start["offset"]:
        raise EOFError("it has fewer rows than when reading began")
    if texts:
        yield block()


def _column(path: Path, name: str) -> Iterator[list[str | None]]:
    """The texts of a Parquet file, some rows at a time."""
    with path.open("rb") as file:
        magic = file.read(4)
        file.seek(-min(4, path.stat().st_size), 2)
        if magic != b"PAR1" or file.read(4) != b"PAR1":
            raise EOFError("it does not begin and end as a Parquet file does")
    try:
        reader = arro3.io.read_parquet(path, batch_size=PARQUET_ROWS)
        if name not in reader.schema.names:
            raise DataError(f"{path} has no column {name!r}; it has {', '.join(reader.schema.names)}: --text-field")
        for batch in reader:
            values: Any = batch.column(name).to_pylist()
            if (other := next((one for one in values if not isinstance(one, str | None)), None)) is not None:
                kind = PARQUET_WORDS.get(type(other), type(other).__name__)
                raise DataError(
                    f"{path}: column {name!r} holds {kind}, not text; its columns are "
                    f"{', '.join(reader.schema.names)}: --text-field names the one of the texts"
                )
            yield values
    except BaseException as error:
        # arro3's, of Rust, which raises plain ones, too.
        if type(error) is Exception or type(error).__name__ in ("PanicException", "ArrowException", "ParquetException"):
            raise EOFError(str(error)) from None
        raise
