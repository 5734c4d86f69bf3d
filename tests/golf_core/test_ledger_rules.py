"""What the ledger refuses, at once and with position and rank; and what cannot be expressed through it."""

import inspect
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from golf_core.config import Config, TTTConfig
from golf_core.evaluate.ledger import ILLEGAL_TRAIN_BEFORE_SCORE, ScoreLedger
from golf_core.evaluate.sliding import evaluate_windows
from golf_core.evaluate.tokens import PURPOSES, LedgerError, TokenStore
from golf_core.evaluate.unscored_ttt import evaluate_unscored_ttt
from golf_core.evaluate.windows import ScoreWindow, score_windows
from golf_core.fields import ConfigError
from golf_core.optim.gradients import FlatGradients
from tests.golf_core.ledgers import on_ranks
from tests.golf_core.test_evaluate import CPU, TABLES, make_ledger, quiet, stream
from tests.golf_core.test_lora_ttt import trained
from tests.golf_core.test_model import SMALL

VOCAB = SMALL.vocab


def zeros(count: int) -> torch.Tensor:
    return torch.zeros(count, VOCAB)


def score(ledger: ScoreLedger, first: int, stop: int) -> None:
    ledger.predict([ScoreWindow(first, stop, first)])
    ledger.commit(zeros(stop - first))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_must_be_a_number(bad):
    """Logits that make a loss of no number raise at their commit, with the target; -inf elsewhere is a chance of 0."""
    ledger = make_ledger(tokens := stream(30), rank=2, world=3)
    score(ledger, 10, 12)
    ledger.predict([ScoreWindow(12, 16, 13), ScoreWindow(20, 24, 22)])
    logits = zeros(5)
    logits[4, int(tokens[24])] = bad
    with pytest.raises(LedgerError, match=r"test, rank 2: the logits of target 23 make a loss of"):
        ledger.commit(logits)
    ledger = make_ledger(tokens)
    ledger.predict([ScoreWindow(0, 4, 0)])
    logits = zeros(4)
    logits[0, (int(tokens[1]) + 1) % VOCAB] = -math.inf
    ledger.commit(logits)


@pytest.mark.parametrize("shape", [(9, VOCAB), (11, VOCAB), (10, VOCAB - 1), (10, VOCAB + 1), (10,), (1, 10, VOCAB)])
def test_logits_are_one_row_a_target_over_the_whole_vocabulary(shape):
    """Any other shape is refused with what was wanted, and the window stays open: the right one is taken then."""
    ledger = make_ledger(stream(20), rank=1, world=2)
    ledger.predict([ScoreWindow(0, 10, 0)])
    with pytest.raises(
        LedgerError, match=r"rank 1: logits of shape .* for 10 targets from 0 on, over a vocabulary of 61"
    ):
        ledger.commit(torch.zeros(shape))
    assert ledger.commit(zeros(10))[0] == 10


def test_every_breach_has_its_place():
    """A second commit, an unscored training token, one of another rank, a window too long: position and rank."""
    ledger = ScoreLedger("ttt", stream(40), TABLES, CPU, 3, 4, context=16)
    score(ledger, 8, 16)
    for breach, message in (
        (lambda: ledger.predict([ScoreWindow(4, 12, 6)]), "ttt, rank 3: target 8 of .* is scored already"),
        (lambda: ledger.commit(zeros(8)), "ttt, rank 3: commit without predict"),
        (lambda: ledger.adapt_own([(8, 16), (15, 18)]), "ttt, rank 3: target 16 would be learned from"),
        (lambda: ledger.adapt([(8, 12)]), "ttt, rank 3: target 8 would be learned from before it is scored"),
        (lambda: ledger.adapt_own([(3, 3)]), "ttt, rank 3: span 3 to 3 is not within 40"),
        (lambda: ledger.predict([ScoreWindow(16, 33, 32)]), "ttt, rank 3: .* reads 17 tokens, more than 16"),
        (lambda: ledger.predict([ScoreWindow(30, 41, 30)]), "ttt, rank 3: .* is not within 40 targets"),
    ):
        with pytest.raises(LedgerError, match=message):
            breach()


def test_ranks_that_score_the_same_target_are_named():
    """What two ranks have scored is found where they meet, on each of them."""

    def both(ledger: ScoreLedger) -> None:
        score(ledger, 10 * ledger.rank, 10 * ledger.rank + 12)

    with pytest.raises(LedgerError, match=r"rank [01]: target 10 is scored twice, the second time by rank 1"):
        on_ranks("test", stream(22), 2, both)


def test_a_gap_has_its_place():
    """The first target that no rank has scored is named when they finish."""

    def some(ledger: ScoreLedger) -> None:
        score(ledger, 10 * ledger.rank, 10 * ledger.rank + 9)

    with pytest.raises(LedgerError, match=r"rank [01]: target 9 of 20 was never scored, by no rank"):
        on_ranks("test", stream(20), 2, some)


@given(st.integers(2, 60), st.integers(1, 12), st.data())
def test_every_token_that_left_is_counted(targets, seq_len, data):
    """Inputs, targets and what was learned from are counted by purpose, and what is handed out is a copy."""
    stride = data.draw(st.integers(1, seq_len))
    tokens, windows = stream(targets), score_windows(targets, seq_len, stride)
    store = TokenStore("test", tokens, seq_len)
    for w in windows:
        (inputs,) = store.inputs([w])
        previous, target = store.reveal([w])
        (row,) = store.learn([(w.first, w.stop)], own=True)
        assert np.array_equal(inputs, tokens[w.start : w.stop]) and np.array_equal(
            target, tokens[w.first + 1 : w.stop + 1]
        )
        assert np.array_equal(previous, tokens[w.first : w.stop]) and np.array_equal(row, tokens[w.first : w.stop + 1])
        assert not any(np.shares_memory(one, tokens) for one in (inputs, previous, target, row))
    wanted = {"inputs": sum(w.stop - w.start for w in windows), "targets": targets, "learned": targets, "unscored": 0}
    assert store.reads == wanted and tuple(wanted) == PURPOSES
    assert store.everything().tolist() == tokens.tolist() and store.reads["unscored"] == targets + 1


def test_the_tokens_are_in_one_place_with_no_public_name():
    """Neither the ledger nor its store has the stream under a public name: who wants it must write the private one."""
    ledger = make_ledger(tokens := stream(30))
    for thing in (ledger, ledger.store):
        shared = [name for name, value in vars(thing).items() if isinstance(value, np.ndarray) and value is tokens]
        assert all(name.startswith("_TokenStore__") for name in shared)
    assert [name for name, _ in inspect.getmembers(ledger.store) if name.endswith("tokens")] == ["_TokenStore__tokens"]


def test_the_thirty_epochs_cannot_be_expressed():
    """Learning from all of the stream and scoring it then (openai/parameter-golf #672) raises at its first step,
    however it asks for the tokens: before a score, after looking at windows, or scoring again afterwards."""
    model, tokens = trained(), stream(64)
    spans = [(low, low + 16) for low in range(0, 64, 16)]
    ledger = make_ledger(tokens)

    def epoch() -> None:
        gradients = FlatGradients(list(model.parameters()))
        for span in spans:
            gradients.zero()
            model(*ledger.adapt([span])).backward()

    with pytest.raises(LedgerError, match="rank 0: target 0 would be learned from before it is scored"):
        epoch()
    ledger.predict([ScoreWindow(0, 16, 0)])
    with pytest.raises(LedgerError, match="predict before the commit of target 0"):
        ledger.predict([ScoreWindow(16, 32, 16)])
    with pytest.raises(LedgerError, match="target 0 would be learned from"):
        epoch()
    ledger.commit(zeros(16))
    for span in spans[1:]:
        score(ledger, *span)
    ledger.merge()
    epoch()
    with pytest.raises(LedgerError, match=r"target 0 of .* is scored already"):
        evaluate_windows(model, ledger, seq_len=16, stride=16, batch_seqs=2, progress=quiet)
    with pytest.raises(ConfigError, match="it needs diagnostic_only=true"):
        Config(name="x", ttt=TTTConfig(kind="unscored"))


def test_the_way_around_is_told_for_good():
    """It runs as a diagnostic, and its ledger says what it was: by its verdict, its reads, and its events."""
    ledger, config = make_ledger(stream(64)), TTTConfig(kind="unscored", unscored_epochs=1, batch_seqs=2)
    evaluate_unscored_ttt(trained(), ledger, config, seq_len=16, stride=16, batch_seqs=2, progress=quiet)
    ledger.finish()
    assert ledger.verdict == ledger.facts["verdict"] == ILLEGAL_TRAIN_BEFORE_SCORE
    assert ledger.facts["reads"]["unscored"] == 65
