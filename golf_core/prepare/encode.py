"""From a block of documents to tokens, with the digest and the bytes of each document.

A line of JSON holds a document where it is an object whose text field is a string; other fields are not looked at. A
text may be empty (its document is a BOS alone, so that counts stay those of the source) and may contain NUL or any
other character. Bad are: a line that is no JSON, no object, or has no such string; bytes that are no UTF-8; half of a
surrogate pair; what would take too much memory.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from golf_core.data.byte_count import byte_tables, target_bytes
from golf_core.data.shard_facts import MAX_VOCAB
from golf_core.data.shards import BOS_ID, DataError
from golf_core.prepare.blocks import UTF8_MARK, BadDocument, Position, TextBlock
from golf_core.prepare.words import TextEncoder

DIGEST_BYTES = 16
PACKED_BOS = BOS_ID.to_bytes(2, "little")
COUNTED_AT_ONCE = 1 << 18  # tokens whose bytes are looked up at once: eight bytes each
CHECKED_CHARACTERS = 65_536


@dataclass(frozen=True)
class EncodedBlock:
    tokens: np.ndarray  # uint16: every document behind its BOS
    lengths: np.ndarray  # int64: tokens of each document, BOS included
    digests: bytes  # 16 a document: BLAKE2b of its UTF-8 text
    token_digests: bytes  # 16 a document: of its tokens, which texts that differ in spaces alone have in common
    text_bytes: np.ndarray  # int64: bytes of each document as byte_count counts them
    bad: tuple[BadDocument, ...]  # in order; documents_before says between which documents of this block they stood
    after: Position


def text_digest(text: str) -> bytes:
    """What a document is known by: 16 bytes."""
    return _digest(text.encode())


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


class EncoderError(DataError):
    """The fast way and SentencePiece's own gave different tokens: a fault of this program."""


class BlockEncoder:
    """Encodes blocks with one tokenizer: what `sp.encode` gives for each document, behind a BOS."""

    def __init__(self, tokenizer_model: bytes) -> None:
        self.texts = TextEncoder(tokenizer_model)
        pieces = self.texts.tokenizer.vocab_size()
        if pieces > MAX_VOCAB:
            raise DataError(f"the tokenizer has {pieces:,} pieces; a shard holds tokens below {MAX_VOCAB:,}")
        with tempfile.NamedTemporaryFile(suffix=".model") as file:  # byte_tables reads files
            file.write(tokenizer_model)
            file.flush()
            self.tables = byte_tables(Path(file.name), pieces)

    @property
    def exact_words(self) -> bool:
        """Whether documents are encoded word by word, the fast way; `texts.reason` says why not."""
        return self.texts.reason is None

    def encode(self, block: TextBlock) -> EncodedBlock:
        """Tokens, digests and bytes of a block's documents. The same block gives the same result."""
        documents = list(documents_of(block))
        encoded = iter(self.texts.encode_all([text for _, text in documents if isinstance(text, str)]))
        parts: list[bytes] = []
        digests: list[bytes] = []
        bad: list[BadDocument] = []
        sample: tuple[bytes, str, str] | None = None  # the document of the lowest digest
        for place, text in documents:
            found = next(encoded) if isinstance(text, str) else text
            if isinstance(found, DataError) or not isinstance(text, str):
                bad.append(BadDocument(place, str(found), len(parts)))
                continue
            parts.append(PACKED_BOS + found)
            digests.append(text_digest(text))
            if sample is None or digests[-1] < sample[0]:
                sample = digests[-1], place, text
        if sample is not None:
            self._check(*sample[1:])
        bad += [replace(one, documents_before=len(parts)) for one in block.bad]
        lengths = np.array([len(part) // 2 for part in parts], dtype=np.int64)
        token_digests = b"".join(map(_digest, parts))
        tokens = np.frombuffer(b"".join(parts), dtype="<u2")
        parts.clear()  # not twice in memory
        return EncodedBlock(
            tokens=tokens,
            lengths=lengths,
            digests=b"".join(digests),
            token_digests=token_digests,
            text_bytes=self._bytes(tokens, lengths),
            bad=tuple(bad),
            after=block.after,
        )

    def _check(self, place: str, text: str) -> None:
        """Encode a document of each block both ways. Raises EncoderError where they differ."""
        text = text[:CHECKED_CHARACTERS]
        if self.exact_words and self.texts.encode(text) != self.texts.plain(text):
            raise EncoderError(
                f"{place}: word by word it has other tokens than from SentencePiece at once; its block was not "
                "written. Please report this with the document and the tokenizer"
            )

    def _bytes(self, tokens: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Bytes of each document: a BOS stands for none, whatever came before it."""
        if not len(tokens):
            return np.zeros(0, dtype=np.int64)
        counted = np.empty(len(tokens), dtype=np.int16)
        counted[0] = 0  # a BOS
        for start in range(1, len(tokens), COUNTED_AT_ONCE):
            end = min(start + COUNTED_AT_ONCE, len(tokens))
            counted[start:end] = target_bytes(tokens[start - 1 : end - 1], tokens[start:end], self.tables)
        found: np.ndarray = np.add.reduceat(counted, np.cumsum(lengths) - lengths, dtype=np.int64)
        return found


def documents_of(block: TextBlock) -> Iterator[tuple[str, str | DataError]]:
    """(place, text) of every document of a block, or (place, why it is none)."""
    for place, raw, cut in _raw_documents(block):
        try:
            yield place, _text(raw, block.text_field) if block.lengths is None else raw.decode()
            continue
        except UnicodeDecodeError as error:
            reason = f"byte {error.start + 1:,} of it is no UTF-8 ({error.reason}): convert the file to UTF-8"
        except UnicodeEncodeError as error:
            reason = f"its text has half a surrogate pair ({error.object[error.start]!r}), which is no character"
        except ValueError as error:
            reason = str(error)
        yield (
            place,
            DataError(f"{reason}; the file ends within this line: it was cut, fetch it again" if cut else reason),
        )


def _raw_documents(block: TextBlock) -> Iterator[tuple[str, bytes, bool]]:
    """(place, bytes, whether the file ends without the end of this line) of each document."""
    payload, offset = block.payload, block.start["offset"]
    if block.lengths is not None:
        start = 0
        for place, length in zip(block.places, block.lengths, strict=True):
            yield place, payload[start : start + length], False
            start += length
        return
    if offset == 0 and payload.startswith(UTF8_MARK):
        payload, offset = payload.removeprefix(UTF8_MARK), len(UTF8_MARK)
    *lines, last = payload.split(b"\n")
    for number, line in enumerate((*lines, last), block.start["line"]):
        if line.strip():
            yield f"{block.places[0]}:{number} (byte {offset:,})", line, line is last
        offset += len(line) + 1


def _text(line: bytes, name: str) -> str:
    """The text in a line of JSON. Raises ValueError for anything else."""
    try:
        row = json.loads(line.decode())
    except json.JSONDecodeError as error:
        what = error.msg.rstrip(": ").removesuffix(" at")
        raise ValueError(f"it is no JSON: {what} at character {error.pos + 1:,}") from None
    except RecursionError:
        raise ValueError("it is nested too deep for JSON") from None
    if not isinstance(row, dict):
        raise ValueError(f"it is {type(row).__name__}, not an object with a text")
    if name not in row:
        raise ValueError(f"it has no {name!r}; it has {', '.join(map(repr, row)) or 'nothing'}: --text-field names it")
    text = row[name]
    if not isinstance(text, str):
        raise ValueError(f"its {name!r} is {type(text).__name__}, not text")
    text.encode()  # half a surrogate pair
    return text
