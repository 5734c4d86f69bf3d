"""A SentencePiece tokenizer of any number of pieces, trained on training documents with the challenge's settings.

The text is the first TRAINING_BYTES behind the validation documents, in parts that SentencePiece does not leave out:
under 4,192 bytes, and without the two characters for which it drops a sentence silently, which become spaces.
SentencePiece takes some six bytes of memory for each byte of text, so 64 MB stay under half a gigabyte.
One thread: the same documents give the same bytes.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sentencepiece

from golf_core.data.byte_count import SPACE_MARK
from golf_core.data.corpus import MAX_DOCUMENT_BYTES, split_document
from golf_core.data.shard_facts import MAX_VOCAB
from golf_core.data.shards import DataError
from golf_core.data.tokenizer import TOKENIZER_SETTINGS, train_tokenizer
from golf_core.prepare.blocks import read_blocks
from golf_core.prepare.encode import documents_of, text_digest
from golf_core.prepare.sources import Source

TRAINING_BYTES = 64_000_000
CUT_AT_ONCE = 65_536  # characters; split_document takes the square of a text's length
DROPPED = str.maketrans({"\0": " ", "\u2585": " "})  # a sentence with one of them is not trained on


@dataclass(frozen=True)
class TrainedTokenizer:
    model: bytes
    pieces: int
    documents: int  # that it was trained on
    text_bytes: int  # of them


def training_settings(vocab: int) -> dict[str, Any]:
    """Everything but the documents that decides the bytes of a trained tokenizer, SentencePiece's version aside."""
    settings = {**TOKENIZER_SETTINGS, "vocab_size": vocab}
    return {**settings, "text_bytes": TRAINING_BYTES, "part_bytes": MAX_DOCUMENT_BYTES}


def train_on(
    sources: Sequence[Source],
    vocab: int,
    *,
    val_documents: int,
    text_field: str = "text",
    skip_bad: bool = False,
    text_bytes: int = TRAINING_BYTES,
) -> TrainedTokenizer:
    """Train on the documents after the first `val_documents`, those that validation holds too left out.

    Raises DataError for bad documents, and where the text does not give as many pieces."""
    if not 1 <= vocab <= MAX_VOCAB:
        raise DataError(f"a vocabulary of {vocab:,} pieces is not between 1 and {MAX_VOCAB:,}: shards hold 16 bits")
    parts = _Parts(sources, val_documents, text_field, skip_bad, text_bytes)
    try:
        model = train_tokenizer(parts, vocab)
    except RuntimeError as error:
        raise parts.stopped_by or _explained(error, vocab, parts) from None
    tokenizer = sentencepiece.SentencePieceProcessor(model_proto=model)
    if (pieces := tokenizer.vocab_size()) != vocab:
        raise DataError(
            f"the {parts.text_bytes:,} bytes of {parts.documents:,} training documents give {pieces:,} pieces, not "
            f"{vocab:,}: ask for {pieces:,} at most, or give more text"
        )
    if tokenizer.is_unknown(tokenizer.piece_to_id(SPACE_MARK)):
        raise DataError(
            f"the training documents hold so few spaces that a tokenizer trained on them has no piece for one "
            f"({SPACE_MARK}); bytes cannot be counted with it"
        )
    return TrainedTokenizer(model, pieces, parts.documents, parts.text_bytes)


class _Parts:
    """The parts of the training documents, and what was met on the way."""

    def __init__(
        self, sources: Sequence[Source], val_documents: int, text_field: str, skip_bad: bool, text_bytes: int
    ) -> None:
        self.sources, self.val_documents, self.text_field = sources, val_documents, text_field
        self.skip_bad, self.limit = skip_bad, text_bytes
        self.documents = self.text_bytes = self.held_out = self.shared = 0
        self.stopped_by: BaseException | None = None

    def __iter__(self) -> Iterator[str]:
        try:
            for text in self._training_documents():
                self.documents += 1
                for start in range(0, len(text), CUT_AT_ONCE):
                    for part in split_document(text[start : start + CUT_AT_ONCE].translate(DROPPED)):
                        if part.isspace():
                            continue
                        self.text_bytes += len(part.encode())
                        yield part
                        if self.text_bytes >= self.limit:
                            return
        except BaseException as error:  # SentencePiece makes a RuntimeError of any, which train_on turns back
            self.stopped_by = error
            raise

    def _training_documents(self) -> Iterator[str]:
        validation: set[bytes] = set()
        for block in read_blocks(self.sources, text_field=self.text_field):
            for place, found in documents_of(block):
                if isinstance(found, DataError):
                    self._refuse(place, str(found))
                elif self.held_out < self.val_documents:
                    self.held_out += 1
                    validation.add(text_digest(found))
                elif text_digest(found) in validation:
                    self.shared += 1
                else:
                    yield found
            for one in block.bad:
                self._refuse(one.place, one.reason)

    def _refuse(self, place: str, reason: str) -> None:
        if not self.skip_bad:
            raise DataError(f"{place}: {reason}; or leave bad documents out by --skip-bad")


def _explained(error: RuntimeError, vocab: int, parts: _Parts) -> DataError:
    """What SentencePiece's refusal means for the user."""
    if needed := re.search(r"smaller than required_chars\. \d+ vs (\d+)", str(error)):
        return DataError(
            f"{vocab:,} pieces are too few for this text, whose characters, with 256 bytes and 4 signs, take "
            f"{int(needed[1]):,}: ask for {int(needed[1]):,} at least"
        )
    if not parts.text_bytes:
        return DataError(
            f"there is no text to train a tokenizer on: the first {parts.held_out:,} documents are for validation, "
            f"{parts.shared:,} behind them are the same as one of those, and {parts.documents:,} hold no text; give "
            "more documents, or a smaller --val-documents"
        )
    return DataError(f"SentencePiece cannot train {vocab:,} pieces on this text: {error}")
