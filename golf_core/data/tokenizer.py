"""Trains tokenizers: SentencePiece BPE with the challenge's settings; 1,024 pieces for the embedded corpus."""

import io
import typing
from collections.abc import Iterable

import sentencepiece

from golf_core.data.shards import BOS_ID

# The challenge's. One thread: the same text gives the same bytes.
TOKENIZER_SETTINGS: dict[str, typing.Any] = {
    "model_type": "bpe",
    "vocab_size": 1024,
    "character_coverage": 0.999,
    "byte_fallback": True,
    "split_digits": True,
    "normalization_rule_name": "nmt_nfkc",
    "add_dummy_prefix": False,
    "pad_id": 0,
    "bos_id": BOS_ID,
    "eos_id": 2,
    "unk_id": 3,
    "hard_vocab_limit": False,
    "num_threads": 1,
}
MAX_SENTENCE_BYTES = 4192  # SentencePiece's default: longer ones are left out without a word


def train_tokenizer(documents: Iterable[str], vocab: int = TOKENIZER_SETTINGS["vocab_size"]) -> bytes:
    """The model file of a tokenizer trained on these documents."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(documents),
        model_writer=model,
        minloglevel=2,
        **{**TOKENIZER_SETTINGS, "vocab_size": vocab},
    )
    return model.getvalue()
