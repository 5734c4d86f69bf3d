"""Scoring: each target once, scored before learned from, and the numbers are the plain formulas'."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from golf_core.config import TTTConfig
from golf_core.evaluate.chain import ADAPT
from golf_core.evaluate.chunk_ttt import chunk_lr, evaluate_chunk_ttt
from golf_core.evaluate.ledger import ScoreLedger
from golf_core.evaluate.sliding import evaluate_windows, same_length_batches
from golf_core.evaluate.tokens import LedgerError
from golf_core.evaluate.windows import ScoreWindow, score_windows
from tests.golf_core.test_model import SMALL, small_model

CPU = torch.device("cpu")
# Ids 3 and up stand for 1 to 4 bytes; odd ones start with a space; 0 to 2 are no text.
TABLES = (
    np.array([0, 0, 0] + [1 + i % 4 for i in range(3, SMALL.vocab)], dtype=np.int16),
    np.array([i > 2 and i % 2 == 1 for i in range(SMALL.vocab)]),
    np.array([i <= 2 for i in range(SMALL.vocab)]),
)


def stream(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, SMALL.vocab, count + 1).astype(np.uint16)


def make_ledger(tokens: np.ndarray, **place) -> ScoreLedger:
    return ScoreLedger("test", tokens, TABLES, CPU, place.get("rank", 0), place.get("world", 1))


def events_of(ledger: ScoreLedger) -> list[tuple[int, int, int, int]]:
    """(kind, how many events came before, first, stop) of every run of the record so far."""
    ledger.chain.flush()
    events = enumerate(ledger.chain.events)
    return [(event.kind, place, first, stop) for place, event in events for first, stop in event.runs.tolist()]


def quiet(done: int, total: int) -> None:
    """Progress that nobody reads."""


@given(st.integers(1, 400), st.integers(1, 64), st.data())
def test_every_target_is_scored_once(targets, seq_len, data):
    """For any length, window and stride, the scored spans cover the targets in order, once, with enough context."""
    stride = data.draw(st.integers(1, seq_len))
    windows = score_windows(targets, seq_len, stride)
    assert [t for w in windows for t in range(w.first, w.stop)] == list(range(targets))
    assert all(w.stop - w.start <= seq_len for w in windows)
    assert all(w.first - w.start >= seq_len - stride for w in windows[1:])
    assert [w for batch in same_length_batches(windows, 4) for w in batch] == windows


def scored(tokens: np.ndarray, stride: int, world: int = 1) -> list[float]:
    model = small_model()
    ledgers = [make_ledger(tokens, rank=r, world=world) for r in range(world)]
    for ledger in ledgers:
        evaluate_windows(model, ledger, seq_len=16, stride=stride, batch_seqs=3, progress=quiet)
    return [float(ledger._nats) for ledger in ledgers]


@pytest.mark.parametrize("stride", [16, 5, 1])
@pytest.mark.parametrize("count", [7, 16, 97])
def test_the_ledgers_loss_is_the_formula(stride, count):
    """Loss and bits per byte are those of a plain computation, window by window, in double precision."""
    tokens, model = stream(count), small_model()
    ledger = make_ledger(tokens)
    evaluate_windows(model, ledger, seq_len=16, stride=stride, batch_seqs=3, progress=quiet)
    score = ledger.finish()
    ids = torch.from_numpy(tokens.astype(np.int64))
    nats = 0.0
    for w in score_windows(count, 16, stride):
        with torch.no_grad():
            logits = model.logits(model.hidden(ids[None, w.start : w.stop]))[0]
        losses = F.cross_entropy(logits, ids[w.start + 1 : w.stop + 1], reduction="none")
        nats += float(losses[w.first - w.start :].double().sum())
    text = sum(int(TABLES[0][t]) + int(bool(TABLES[1][t]) and not TABLES[2][p]) for p, t in itertools.pairwise(tokens))
    assert score.tokens == count
    assert score.bytes == text
    assert score.val_loss == pytest.approx(nats / count, rel=1e-5)
    assert score.val_bpb == pytest.approx(nats / math.log(2) / text, rel=1e-5)


def test_splitting_over_ranks_changes_nothing():
    """The ranks' sums add up to one process's sum."""
    tokens = stream(203)
    assert sum(scored(tokens, 4, world=3)) == pytest.approx(scored(tokens, 4)[0], rel=1e-9)


def test_guessing_costs_the_log_of_the_vocabulary():
    """A uniform model has log2(V) * tokens / bytes bits per byte."""
    ledger = make_ledger(stream(90))
    ledger.predict([ScoreWindow(0, 90, 0)])
    ledger.commit(torch.zeros(90, SMALL.vocab))
    score = ledger.finish()
    assert score.val_bpb == pytest.approx(math.log2(SMALL.vocab) * 90 / score.bytes, rel=1e-6)


@given(st.sets(st.integers(1, 119)), st.integers(1, 4))
def test_any_split_gives_the_same_sums(cuts, world):
    """The same logits, cut into any windows and dealt to any ranks, sum to the same nats (1e-12) and bytes."""
    tokens, edges = stream(120), [0, *sorted(cuts), 120]
    logits = torch.randn(120, SMALL.vocab, generator=torch.Generator().manual_seed(3)) * 4
    whole = make_ledger(tokens)
    whole.predict([ScoreWindow(0, 120, 0)])
    whole.commit(logits)
    ledgers = [make_ledger(tokens, rank=r, world=world) for r in range(world)]
    for place, (first, stop) in enumerate(itertools.pairwise(edges)):
        ledgers[place % world].predict([ScoreWindow(first, stop, first)])
        ledgers[place % world].commit(logits[first:stop])
    assert sum(float(ledger._nats) for ledger in ledgers) == pytest.approx(float(whole._nats), rel=1e-12)
    assert sum(ledger._bytes for ledger in ledgers) == whole._bytes


@given(st.sets(st.integers(1, 119)), st.integers(1, 130))
def test_the_parts_of_a_stream_sum_to_its_score(cuts, part):
    """However windows lie, each part has the nats and bytes of its own targets, and they sum to the whole (1e-12)."""
    tokens, edges = stream(120), [0, *sorted(cuts), 120]
    logits = torch.randn(120, SMALL.vocab, generator=torch.Generator().manual_seed(4)) * 4
    ledger = ScoreLedger("test", tokens, TABLES, CPU, 0, 1, part)
    for first, stop in itertools.pairwise(edges):
        ledger.predict([ScoreWindow(first, stop, first)])
        ledger.commit(logits[first:stop])
    score = ledger.finish()
    nats, count = ledger.parts()
    targets = torch.from_numpy(tokens[1:].astype(np.int64))
    each = F.cross_entropy(logits, targets, reduction="none").double()
    assert nats == pytest.approx([float(one.sum()) for one in each.split(part)], rel=1e-12)
    assert sum(nats) == pytest.approx(score.val_loss * 120, rel=1e-12)
    assert sum(count) == score.bytes


def test_a_target_cannot_be_scored_twice():
    """Predicting a scored target raises with its position and the rank."""
    ledger = make_ledger(stream(20))
    ledger.predict([ScoreWindow(0, 10, 0)])
    ledger.commit(torch.zeros(10, SMALL.vocab))
    with pytest.raises(LedgerError, match=r"rank 0: target 9 of .* is scored already"):
        ledger.predict([ScoreWindow(5, 15, 9)])


def test_nothing_is_learned_before_it_is_scored():
    """Training tokens that are not committed, or not yet merged, raise with their position."""
    ledger = make_ledger(stream(20))
    ledger.predict([ScoreWindow(0, 10, 0)])
    ledger.commit(torch.zeros(10, SMALL.vocab))
    with pytest.raises(LedgerError, match="target 0 would be learned from before it is scored"):
        ledger.adapt([(0, 10)])
    ledger.merge()
    x, y = ledger.adapt([(0, 10)])
    assert torch.equal(x[0, 1:], y[0, :-1])
    with pytest.raises(LedgerError, match="target 10 would be learned from"):
        ledger.adapt([(5, 12)])


@given(st.sets(st.integers(1, 119), max_size=12), st.data())
def test_neighbours_are_told_as_one_run(cuts, data):
    """However many windows were committed, a merge goes over as many runs as they make; every target is known then."""
    edges = list(itertools.pairwise([0, *sorted(cuts), 120]))
    left_out = data.draw(st.sets(st.sampled_from(edges), max_size=3))
    ledger = make_ledger(stream(120))
    for first, stop in edges:
        if (first, stop) not in left_out:
            ledger.predict([ScoreWindow(first, stop, first)])
            ledger.commit(torch.zeros(stop - first, SMALL.vocab))
    runs = list(ledger._unsent)
    assert len(runs) <= len(left_out) + 1
    assert all(stop < first for (_, stop), (first, _) in itertools.pairwise(runs))
    ledger.merge()
    assert ledger._unsent == []
    for first, stop in edges:
        if (first, stop) in left_out:
            with pytest.raises(LedgerError, match=f"target {first} would be learned from"):
                ledger.adapt([(first, stop)])
        else:
            ledger.adapt([(first, stop)])


def test_a_gpu_copies_from_pinned_memory(monkeypatch):
    """On a GPU the inputs, the targets that a commit reveals and their parts of the stream are pinned before they
    are copied without waiting; on a CPU nothing is pinned."""
    pinned, copied, to = [], [], torch.Tensor.to

    def record_pin(tensor):
        pinned.append(tensor)
        return tensor

    def record_copy(tensor, *args, **kwargs):
        if args and args[0] == torch.device("cuda"):
            copied.append((tensor, kwargs))
            return tensor
        return to(tensor, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "pin_memory", record_pin)
    monkeypatch.setattr(torch.Tensor, "to", record_copy)
    for device, count in ((CPU, 0), (torch.device("cuda"), 3)):
        ledger = make_ledger(stream(20))
        ledger.device = device
        ids = ledger.predict([ScoreWindow(0, 10, 0)])
        _, revealed = ledger.commit(torch.zeros(10, SMALL.vocab))
        assert torch.equal(ids[0, 1:], revealed[:-1])
        assert len(pinned) == len(copied) == count
    assert all(tensor is pin and kw == {"non_blocking": True} for (tensor, kw), pin in zip(copied, pinned, strict=True))


def test_a_gap_or_an_open_prediction_is_no_score():
    """A stage with a target that was never scored, or predicted and never committed, has no result."""
    ledger = make_ledger(stream(20))
    ledger.predict([ScoreWindow(0, 10, 0)])
    with pytest.raises(LedgerError, match="never committed"):
        ledger.finish()
    ledger.commit(torch.zeros(10, SMALL.vocab))
    with pytest.raises(LedgerError, match="target 10 of 20 was never scored"):
        ledger.finish()


def test_predict_and_commit_alternate():
    """A commit without a prediction, two predictions, wrong shapes and windows outside the stream raise."""
    ledger = make_ledger(stream(20))
    with pytest.raises(LedgerError, match="without predict"):
        ledger.commit(torch.zeros(1, SMALL.vocab))
    with pytest.raises(LedgerError, match="not within 20 targets"):
        ledger.predict([ScoreWindow(15, 21, 15)])
    ledger.predict([ScoreWindow(0, 10, 4)])
    with pytest.raises(LedgerError, match="before the commit"):
        ledger.predict([ScoreWindow(10, 20, 10)])
    with pytest.raises(LedgerError, match="for 6 targets"):
        ledger.commit(torch.zeros(10, SMALL.vocab))


def run_ttt(tokens: np.ndarray, **values) -> tuple[ScoreLedger, list[float]]:
    """The ledger, and the nats after each chunk."""
    ledger, sums = make_ledger(tokens), []
    config = TTTConfig(kind="chunk", **{"chunk_tokens": 32, "lr": 0.05, "epochs": 2, "batch_seqs": 2, **values})
    evaluate_chunk_ttt(
        small_model(),
        ledger,
        config,
        seq_len=16,
        stride=8,
        batch_seqs=3,
        progress=lambda *_: sums.append(float(ledger._nats)),
    )
    return ledger, sums


def test_a_rate_of_zero_is_the_frozen_evaluation():
    """With learning rate 0 test-time training scores what sliding evaluation scores."""
    tokens = stream(150)
    frozen = make_ledger(tokens)
    evaluate_windows(small_model(), frozen, seq_len=16, stride=8, batch_seqs=3, progress=quiet)
    score, reference = run_ttt(tokens, lr=0.0)[0].finish(), frozen.finish()
    assert (score.tokens, score.bytes) == (reference.tokens, reference.bytes)
    assert score.val_loss == pytest.approx(reference.val_loss, rel=1e-7)


def test_what_was_learned_can_be_taken_back():
    """The weights from before, loaded again, score what they scored before, to the bit."""
    tokens, model = stream(150), small_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    reference, again = make_ledger(tokens), make_ledger(tokens)
    evaluate_windows(model, reference, seq_len=16, stride=8, batch_seqs=3, progress=quiet)
    config = TTTConfig(kind="chunk", chunk_tokens=32, lr=0.05, freeze_blocks=1)
    evaluate_chunk_ttt(model, make_ledger(tokens), config, seq_len=16, stride=8, batch_seqs=3, progress=quiet)
    model.load_state_dict(before)
    evaluate_windows(model, again, seq_len=16, stride=8, batch_seqs=3, progress=quiet)
    assert again.finish() == reference.finish()


def test_later_chunks_change_no_earlier_score():
    """Other tokens from chunk 2 on leave the scores of chunks 0 and 1 as they were, and learning changes chunk 1."""
    tokens = stream(150)
    other = tokens.copy()
    # Chunk 1's last window starts scoring at 56 and ends at 64: everything later is free to change.
    other[65:] = stream(150, seed=9)[65:]
    _, before = run_ttt(tokens)
    _, after = run_ttt(other)
    _, frozen = run_ttt(tokens, lr=0.0)
    assert before[:2] == after[:2]
    assert before[2:] != after[2:]
    assert before[0] == frozen[0]
    assert before[1] != frozen[1]


def test_learning_on_what_repeats_pays():
    """On a stream that repeats itself, learning from scored chunks lowers the loss."""
    tokens = np.tile(stream(31), 12)
    assert run_ttt(tokens)[0].finish().val_loss < run_ttt(tokens, lr=0.0)[0].finish().val_loss - 0.05


def test_chunks_shorter_than_a_stride_are_learned_too():
    """Every chunk but the last is learned from once, also those in which no window begins to score."""
    ledger, sums = run_ttt(stream(100), chunk_tokens=4, epochs=1)
    learned = sorted((first, stop) for kind, _, first, stop in events_of(ledger) if kind == ADAPT)
    assert [t for first, stop in learned for t in range(first, stop)] == list(range(96))
    assert len(sums) == 25


def test_frozen_blocks_do_not_move():
    """With every block frozen, blocks keep their weights and the rest learns."""
    model = small_model()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    config = TTTConfig(kind="chunk", chunk_tokens=32, lr=0.1, epochs=1, batch_seqs=2, freeze_blocks=3)
    evaluate_chunk_ttt(model, make_ledger(stream(100)), config, seq_len=16, stride=8, batch_seqs=3, progress=quiet)
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert not {
        name for name in moved if name.split(".")[1:2] and name.startswith(("blocks.0.", "blocks.1.", "blocks.2."))
    }
    assert {"tok_emb.weight", "blocks.4.mlp.fc.weight"} <= moved


def test_the_ttt_rate_is_a_cosine():
    """Full at the first chunk, nothing at the last."""
    assert [chunk_lr(2.0, c, 3) for c in range(3)] == pytest.approx([2.0, 1.0, 0.0])
    assert chunk_lr(2.0, 0, 1) == 2.0
