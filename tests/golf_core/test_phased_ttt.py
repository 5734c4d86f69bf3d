"""Learning in phases: longest documents first, and all weights learn only from documents that are scored whole."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from golf_core.config import Config, TTTConfig
from golf_core.data.shards import BOS_ID
from golf_core.evaluate.chain import ADAPT, COMMIT, MERGE
from golf_core.evaluate.ledger import ScoreLedger
from golf_core.evaluate.lora_ttt import evaluate_lora_ttt
from golf_core.evaluate.phased_ttt import document_queue, evaluate_phased_ttt, learning_pieces, phase_ends
from golf_core.fields import ConfigError
from tests.golf_core.test_evaluate import CPU, TABLES, events_of, quiet, stream
from tests.golf_core.test_lora_ttt import documents, trained

LENGTHS = (12, 40, 17, 33, 9, 25, 21)
STREAM = documents(*LENGTHS)
USUAL = {"phased_documents": 4, "phases": 2, "phased_lr": 0.05, "chunk_tokens": 20, "batch_seqs": 2}
LORA = {"lora_chunk_tokens": 8, "lora_lr": 0.02, "lora_documents": 2, "lora_rank": 2}
WINDOWS = {"seq_len": 16, "stride": 16, "batch_seqs": 1, "progress": quiet}


def scored(tokens: np.ndarray, model=None, evaluate=evaluate_phased_ttt, **values) -> ScoreLedger:
    """A finished evaluation that keeps each target's loss and the order."""
    ledger = ScoreLedger("test", tokens, TABLES, CPU, 0, 1, keep=True)
    evaluate(model or trained(), ledger, TTTConfig(kind="phased", **{**USUAL, **LORA, **values}), **WINDOWS)
    ledger.finish()
    return ledger


SPANS = st.lists(st.integers(1, 60), min_size=1, max_size=9).map(
    lambda lengths: list(zip(np.cumsum([0, *lengths[:-1]]).tolist(), np.cumsum(lengths).tolist(), strict=True))
)


@given(SPANS, st.integers(1, 4), st.integers(1, 50), st.integers(1, 20))
def test_the_queue_and_its_pieces_hold_every_document(spans, size, piece, seq_len):
    """Batches fall in length, each from short to long; pieces have their size but the last, and no sequence crosses a
    document's start."""
    queue = document_queue(spans, size)
    flat = [one for batch in queue for one in reversed(batch)]
    lengths = [stop - first for first, stop in flat]
    assert sorted(flat) == spans and lengths == sorted(lengths, reverse=True)
    assert all(len(batch) == size for batch in queue[:-1])
    pieces = learning_pieces(flat, piece, seq_len)
    sizes = [sum(stop - first for first, stop in one) for one in pieces]
    assert set(sizes[:-1]) <= {piece} and 0 < sizes[-1] <= piece
    assert [t for one in pieces for first, stop in one for t in range(first, stop)] == [
        t for first, stop in flat for t in range(first, stop)
    ]
    for first, stop in (span for one in pieces for span in one):
        assert stop - first <= seq_len
        assert any(low <= first and stop <= high for low, high in spans)


def test_phases_end_after_equal_shares():
    """As the source has it, and never after the last document."""
    config = TTTConfig(kind="phased")
    assert phase_ends(config, 50_000) == [833, 1666, 2500]
    assert phase_ends(config, 2500) == [833, 1666]
    assert phase_ends(TTTConfig(kind="phased", phased_documents=2, phases=5), 9) == [1, 2]
    assert phase_ends(config, 1) == []


def test_it_goes_in_phases():
    """Two batches of two documents, longest first; after each a barrier, and a pass over what is scored without its
    last piece; then the others."""
    ledger = scored(STREAM)
    spans = sorted(ledger.documents(), key=lambda span: span[0] - span[1])
    rank = {t: place for place, (first, stop) in enumerate(spans) for t in range(first, stop)}
    phases: list[dict[int, list[int]]] = [{COMMIT: [], ADAPT: []}]
    for event in ledger.chain.events:
        if event.kind == MERGE:
            phases.append({COMMIT: [], ADAPT: []})
        elif event.kind in (COMMIT, ADAPT):
            phases[-1][event.kind] += [t for first, stop in event.runs.tolist() for t in range(first, stop)]
    assert [{rank[t] for t in phase[COMMIT]} for phase in phases] == [{0, 1}, {2, 3}, {4, 5, 6}, set()]
    first, second = 40 + 33, 40 + 33 + 25 + 21
    queue = [t for low, high in spans for t in range(low, high)]
    assert [sorted(phase[ADAPT]) for phase in phases] == [
        [],
        sorted(queue[: (first - 1) // 20 * 20]),
        sorted(queue[: (second - 1) // 20 * 20]),
        [],
    ]
    alone = scored(STREAM, evaluate=evaluate_lora_ttt)
    early = ledger.order <= ledger.order[spans[1][0] : spans[1][1]].max()
    np.testing.assert_allclose(ledger.nll[early], alone.nll[early], rtol=1e-5)
    assert not np.isclose(ledger.nll[~early], alone.nll[~early]).all()


def test_without_rates_it_is_the_frozen_evaluation():
    """With the global rate 0 it scores as learning per document does, with both 0 as the artifact's weights do."""
    for rate in (0.02, 0.0):
        ledger = scored(STREAM, phased_lr=0.0, lora_lr=rate)
        assert any(kind == ADAPT for kind, *_ in events_of(ledger))
        alone = scored(STREAM, evaluate=evaluate_lora_ttt, lora_lr=rate)
        np.testing.assert_allclose(ledger.nll, alone.nll, rtol=1e-4)


def committed_later(order: np.ndarray, cut: int, seed: int) -> np.ndarray:
    """The stream with every token replaced that commit `cut` or a later one scores; documents stay where they are."""
    tokens = STREAM.copy()
    late = np.flatnonzero(order >= cut) + 1
    late = late[STREAM[late] != BOS_ID]
    tokens[late] = np.maximum(stream(len(tokens) - 1, seed)[late], BOS_ID + 1)
    return tokens


def test_what_is_committed_later_changes_no_score():
    """In the order of commits: other words in everything scored later leave every earlier loss as it was, to the bit,
    with the cut right before and after each barrier and within the phases."""
    before = scored(STREAM)
    counts, times = np.unique(before.learned, return_counts=True)
    first, second = counts[times > 1].tolist()  # a pass learns many times between two commits
    for cut in (first - 1, first, second + 1):
        after = scored(committed_later(before.order, cut, cut))
        assert np.array_equal(before.order, after.order)
        early = before.order < cut
        assert np.array_equal(before.nll[early], after.nll[early])
        assert not np.array_equal(before.nll[~early], after.nll[~early])


def test_learning_on_what_repeats_pays():
    """Where short documents say what long ones said, all weights' learning makes them cheaper."""
    text = np.maximum(stream(40), BOS_ID + 1)
    parts = [np.tile(text, 2)] * 3 + [text[:20]] * 6
    tokens = np.concatenate([np.append(np.array([BOS_ID], dtype=np.uint16), part) for part in parts])
    short = slice(3 * 84, None)
    learned, without = (scored(tokens, phased_documents=3, phases=1, phased_lr=lr).nll[short] for lr in (0.05, 0.0))
    assert learned.mean() < without.mean() - 0.05


def test_frozen_blocks_stay_through_all_phases():
    """All weights move but the frozen blocks', and nothing is left that asks for no gradients but those."""
    model = trained()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    scored(STREAM, model, freeze_blocks=2)
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name in before if not name.startswith(("blocks.0.", "blocks.1."))}
    assert {name for name, p in model.named_parameters() if p.requires_grad} == moved


@pytest.mark.parametrize("field", ["phased_documents", "phases"])
def test_phases_are_counted_from_one(field):
    """A phase without documents is refused, as is a piece of a document that its window does not hold."""
    with pytest.raises(ConfigError, match=f"ttt.{field}=0 must be positive"):
        TTTConfig(kind="phased", **{field: 0})
    with pytest.raises(ConfigError, match=r"is more than evaluate\.seq_len"):
        Config(name="x", ttt=TTTConfig(kind="phased", lora_chunk_tokens=2048))
