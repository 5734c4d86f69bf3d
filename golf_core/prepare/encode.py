"""From a block of documents to tokens, with the digest and the bytes of each document."""

import hashlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import sentencepiece

from golf_core.data.byte_count import byte_tables, target_bytes
from golf_core.data.shards import BOS_ID
from golf_core.prepare.blocks import BadDocument, Position, TextBlock

DIGEST_BYTES = 16


@dataclass(frozen=True)
class EncodedBlock:
    tokens: np.ndarray  # uint16: every document behind its BOS
    lengths: np.ndarray  # int64: tokens of each document, BOS included
    digests: bytes  # 16 a document: BLAKE2b of its UTF-8 text
    text_bytes: np.ndarray  # int64: bytes of each document as byte_count counts them
    bad: tuple[BadDocument, ...]  # in order; documents_before says between which documents of this block they stood
    after: Position


class BlockEncoder:
    """Encodes blocks with one tokenizer: what `sp.encode` gives for each document, behind a BOS."""

    def __init__(self, tokenizer_model: bytes) -> None:
        self.tokenizer = sentencepiece.SentencePieceProcessor(model_proto=tokenizer_model)
        with tempfile.NamedTemporaryFile(suffix=".model") as file:
            file.write(tokenizer_model)
            file.flush()
            self.tables = byte_tables(Path(file.name), self.tokenizer.vocab_size())

    def encode(self, block: TextBlock) -> EncodedBlock:
        texts, bad = documents_of(block)
        bos = BOS_ID.to_bytes(2, "little")
        parts = [bos + np.array(self.tokenizer.encode(text), dtype="<u2").tobytes() for text in texts]
        tokens = np.frombuffer(b"".join(parts), dtype="<u2")
        lengths = np.array([len(part) // 2 for part in parts], dtype=np.int64)
        digests = b"".join(hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).digest() for text in texts)
        return EncodedBlock(tokens, lengths, digests, self._bytes(tokens, lengths), bad, block.after)

    def _bytes(self, tokens: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Bytes of each document: a BOS stands for none, whatever came before it."""
        if not len(tokens):
            return np.zeros(0, dtype=np.int64)
        previous = np.empty_like(tokens)
        previous[0], previous[1:] = BOS_ID, tokens[:-1]
        starts = np.cumsum(lengths) - lengths
        counted: np.ndarray = np.add.reduceat(target_bytes(previous, tokens, self.tables), starts)
        return counted


def documents_of(block: TextBlock) -> tuple[list[str], tuple[BadDocument, ...]]:
    """The texts of a block, and what in it is none."""
    texts: list[str] = []
    bad: list[BadDocument] = []
    for place, raw in _raw_documents(block):
        try:
            texts.append(_text(raw, block.text_field) if block.lengths is None else raw.decode())
            continue
        except UnicodeDecodeError as error:
            reason = f"byte {error.start:,} of it is no UTF-8 ({error.reason}): convert the file to UTF-8"
        except UnicodeEncodeError as error:
            reason = f"its text has half a surrogate pair ({error.object[error.start]!r}), which is no character"
        except (ValueError, RecursionError) as error:
            reason = str(error)
            if block.lengths is None and not block.payload.endswith(b"\n") and block.payload.endswith(raw):
                reason += "; the file ends within this line: it was cut, fetch it again"
        bad.append(BadDocument(place, reason, len(texts)))
    bad += [replace(one, documents_before=len(texts)) for one in block.bad]
    return texts, tuple(bad)


def _raw_documents(block: TextBlock) -> Iterator[tuple[str, bytes]]:
    """(place, bytes) of each document."""
    if block.lengths is not None:
        start = 0
        for place, length in zip(block.places, block.lengths, strict=True):
            yield place, block.payload[start : start + length]
            start += length
        return
    offset = block.start["offset"]
    for number, line in enumerate(block.payload.split(b"\n"), block.start["line"]):
        if line.strip():
            yield f"{block.places[0]}:{number} (byte {offset:,})", line
        offset += len(line) + 1


def _text(line: bytes, name: str) -> str:
    """The text in a line of JSON. Raises ValueError for anything else."""
    try:
        row = json.loads(line.decode())
    except json.JSONDecodeError as error:
        raise ValueError(f"it is no JSON: {error.msg} at character {error.pos + 1:,}") from None
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
