"""How many bytes of text each target token stands for, so that a loss becomes bits per byte.

bytes(previous, target) = base[target] + 1 where the target starts with a space and follows a token that is text. Summed
over a document that starts with BOS this is the UTF-8 length of its normalised text, exactly. BOS costs nats, no bytes.
(One text is miscounted, by one byte: a document whose first character is a literal U+2581, SentencePiece's own sign
for a space. Normalised documents never start with a space.)
"""

from pathlib import Path

import numpy as np
import sentencepiece

from golf_core.data.shards import DataError

SPACE_MARK = "\u2581"  # how SentencePiece spells a space inside a piece


def load_tokenizer(path: Path) -> sentencepiece.SentencePieceProcessor:
    """The SentencePiece model in that file, or a DataError."""
    if not Path(path).is_file():
        raise DataError(f"there is no tokenizer at {path}; TOKENIZER_PATH must name a SentencePiece .model file")
    try:
        return sentencepiece.SentencePieceProcessor(model_file=str(path))
    except (RuntimeError, OSError):  # its own words are of the inside of the library
        with Path(path).open("rb") as file:
            json = file.read(64).lstrip()[:1] == b"{"
        what = (
            "it is JSON, as byte260's is, which scripts of your own may read" if json else "damaged, or of another kind"
        )
        raise DataError(f"{path} is no SentencePiece model ({what})") from None


def byte_tables(tokenizer_path: Path, vocab: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(bytes without a leading space: int16[vocab], has a leading space: bool[vocab], is no text: bool[vocab])."""
    tokenizer = load_tokenizer(tokenizer_path)
    pieces = tokenizer.vocab_size()
    if pieces > vocab:
        raise DataError(f"{tokenizer_path} has {pieces} pieces, more than the model's vocab of {vocab}")
    space = tokenizer.piece_to_id(SPACE_MARK)
    if tokenizer.is_unknown(space) or tokenizer.is_unused(space):
        # Without it a space falls back to the three bytes of the mark, and no count is right.
        raise DataError(f"{tokenizer_path} has no piece for a space ({SPACE_MARK}); bytes cannot be counted with it")
    base = np.zeros(vocab, dtype=np.int16)
    leading_space = np.zeros(vocab, dtype=np.bool_)
    boundary = np.ones(vocab, dtype=np.bool_)  # ids beyond the tokenizer's stay so
    for token in range(pieces):
        if tokenizer.is_control(token) or tokenizer.is_unknown(token) or tokenizer.is_unused(token):
            continue
        boundary[token] = False
        if tokenizer.is_byte(token):
            base[token] = 1
            continue
        piece = tokenizer.id_to_piece(token)
        leading_space[token] = piece.startswith(SPACE_MARK)
        base[token] = len(piece.removeprefix(SPACE_MARK).replace(SPACE_MARK, " ").encode())
    return base, leading_space, boundary


def target_bytes(
    prev_ids: np.ndarray, target_ids: np.ndarray, tables: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> np.ndarray:
    """Bytes of each target, given the token before it: int64, of the shape of the targets."""
    base, leading_space, boundary = tables
    return base[target_ids].astype(np.int64) + (leading_space[target_ids] & ~boundary[prev_ids])
