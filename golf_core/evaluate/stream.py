"""Scores of every target of any stream, by the evaluation of a config: what a probe of causality asks for.

A bundle offers it as `score_stream(artifact, tokens, learn="on")` to whoever imports the file instead of running it.
It is the last stage that the config names, through the same ledger: a fresh model of the artifact at every call, one
process, nothing compiled, so that the same stream has the same scores to the bit wherever torch can promise it.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from golf_core.config import Config
from golf_core.evaluate.ledger import ScoreLedger
from golf_core.evaluate.restored import restored_model
from golf_core.evaluate.sliding import evaluate_windows
from golf_core.evaluate.tokens import LedgerError, Span
from golf_core.hardware import cpu_dtype
from golf_core.model.gpt import Parts

RATES = ("lr", "lora_lr", "phased_lr", "unscored_lr")  # of TTTConfig
LEARN = ("on", "off", "shuffled")


@dataclass(frozen=True)
class StreamScore:
    """Target i is token i + 1 of the stream."""

    nll: np.ndarray  # (targets,) float64, nats
    order: np.ndarray  # (targets,) int64: the number of the commit that scored it, from 0, in time
    learned: np.ndarray  # (adaptation events,) int64: how many commits came before each, ascending


class ShuffledLedger(ScoreLedger):
    """A control: whoever learns is given wrong targets, each id another by one fixed permutation of the vocabulary.
    What is learned from them can be no help; a gain that stays does not come from learning."""

    def _training_rows(self, kind: int, spans: list[Span]) -> tuple[Tensor, Tensor]:
        x, y = super()._training_rows(kind, spans)
        return x, torch.from_numpy(self._other_ids()).to(y.device)[y]

    def unscored_tokens(self) -> np.ndarray:
        others: np.ndarray = self._other_ids()[super().unscored_tokens()]
        return others

    def _other_ids(self) -> np.ndarray:
        return np.random.default_rng(0).permutation(len(self._tables[0]))


def stream_scores(config: Config, parts: Parts, artifact: Path, tokens: np.ndarray, learn: str) -> StreamScore:
    """`learn`: "on" as the config says; "off" with every learning rate 0; "shuffled" from wrong targets."""
    if learn not in LEARN:
        raise LedgerError(f"learn={learn!r} is not known; there are {', '.join(LEARN)}")
    tokens, vocab = np.asarray(tokens), config.model.vocab
    if tokens.ndim != 1 or tokens.dtype.kind not in "iu" or len(tokens) < 2:
        raise LedgerError(f"a stream is a row of at least 2 ids, not {tokens.dtype} of shape {tokens.shape}")
    if tokens.min() < 0 or tokens.max() >= vocab:
        wrong = int(np.argmax((tokens < 0) | (tokens >= vocab)))
        raise LedgerError(f"token {wrong} of the stream is {tokens[wrong]}; the model knows 0 to {vocab - 1}")
    device = _deterministic_device()
    dtype = torch.bfloat16 if device.type == "cuda" or cpu_dtype() == "bf16" else torch.float32
    model, _ = restored_model(config, parts, artifact, dtype, device)
    tables = np.ones(vocab, dtype=np.int16), np.zeros(vocab, dtype=np.bool_), np.zeros(vocab, dtype=np.bool_)
    make = ShuffledLedger if learn == "shuffled" else ScoreLedger
    evaluate = config.evaluate
    # A byte a token: nobody asks for bytes here.
    ledger = make("stream", tokens, tables, device, 0, 1, context=evaluate.seq_len, keep=True)
    windows = {"seq_len": evaluate.seq_len, "stride": evaluate.stride, "batch_seqs": evaluate.batch_seqs}
    if evaluate_ttt := parts.get("ttt.kind"):
        ttt = replace(config.ttt, **dict.fromkeys(RATES, 0.0)) if learn == "off" else config.ttt
        evaluate_ttt(model, ledger, ttt, progress=_unwatched, **windows)
    else:
        evaluate_windows(model, ledger, progress=_unwatched, **windows)
    ledger.finish()
    return StreamScore(ledger.nll, ledger.order, np.array(ledger.learned, dtype=np.int64))


def _unwatched(done: int, total: int) -> None:
    """Progress that nobody reads."""


def _deterministic_device() -> torch.device:
    """The GPU that there is, told to be deterministic where it can, or the CPU, which is."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    return torch.device("cuda", torch.cuda.current_device())
