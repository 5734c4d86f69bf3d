"""Learning per document: it is the base model before it learns, no document touches another, nothing stays."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import functional_call

from golf_core.config import Config, EvaluateConfig, TTTConfig
from golf_core.config_io import override
from golf_core.data.shards import BOS_ID
from golf_core.evaluate.chain import ADAPT_OWN, COMMIT
from golf_core.evaluate.ledger import SCORE_FIRST_OK, ScoreLedger
from golf_core.evaluate.lora_ttt import DocumentAdapters, adapted_projections, evaluate_lora_ttt
from golf_core.evaluate.tokens import LedgerError
from golf_core.evaluate.windows import ScoreWindow
from golf_core.fields import ConfigError
from golf_core.model.gpt import GPT
from golf_core.model.loss import softcapped_logits
from golf_core.parts import load_parts
from tests.golf_core.test_evaluate import CPU, TABLES, events_of, quiet, stream
from tests.golf_core.test_model import SMALL

CONFIG = Config(name="lora", model=SMALL)
TECHNIQUES = {
    "none": [],
    "kv_share": ["model.kv_share=all", "model.xsa_last_n=2"],
    "kv_share_some": ["model.kv_share=2", "model.value_residual=true"],
    "gates": ["model.attn_gate=dense", "model.smear=v1", "model.value_embed_width=8"],
    "sparse": ["model.attn_gate=sparse", "model.smear=v2", "model.bigram_buckets=64", "model.ln_scale=true"],
    "rotary": ["model.rope_dims=4", "model.activation=leaky_relu2", "model.xsa_last_n=5"],
}


class RecordingLedger(ScoreLedger):
    """Keeps each target's loss."""

    def __init__(self, tokens: np.ndarray, rank: int = 0, world: int = 1) -> None:
        super().__init__("test", tokens, TABLES, CPU, rank, world)
        self.nats = np.full(self.targets, np.nan)

    def commit(self, logits_NV: torch.Tensor) -> tuple[int, torch.Tensor]:
        places = np.concatenate([np.arange(w.first, w.stop) for w in self._open])
        count, target = super().commit(logits_NV)
        self.nats[places] = F.cross_entropy(logits_NV.detach().float(), target, reduction="none").numpy()
        return count, target


def trained(*overrides: str) -> GPT:
    """A small model with the techniques, whose every tensor has been moved."""
    config = override(CONFIG, list(overrides))
    generator = torch.Generator().manual_seed(0)
    model = GPT(config.model, load_parts(config))
    model.init_weights(generator)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return model


def documents(*lengths: int, seed: int = 0) -> np.ndarray:
    """A stream of documents of so many targets each; no BOS but at their starts."""
    tokens = np.maximum(stream(sum(lengths), seed), BOS_ID + 1)
    tokens[np.cumsum([0, *lengths[:-1]])] = BOS_ID
    return tokens


def learned(tokens: np.ndarray, model: GPT | None = None, rank: int = 0, world: int = 1, **values) -> RecordingLedger:
    ledger = RecordingLedger(tokens, rank, world)
    usual = {"lora_chunk_tokens": 8, "lora_lr": 0.02, "lora_documents": 3, "lora_rank": 2}
    config = TTTConfig(kind="lora", **{**usual, **values})
    evaluate_lora_ttt(model or trained(), ledger, config, seq_len=24, stride=24, batch_seqs=1, progress=quiet)
    return ledger


def reference(model: GPT, tokens: np.ndarray, first: int, stop: int, config: TTTConfig, seq_len: int) -> list[float]:
    """One document's losses, written down plainly: weights W + B A, torch's own Adam, no batch, no padding."""
    adapters = DocumentAdapters(model, [(first, stop)], config)
    pairs = [(x.a[0].detach().clone(), x.b[0].detach().clone()) for x in adapters.additions]
    params = [p.requires_grad_() for pair in pairs for p in pair]
    adam = torch.optim.Adam(params, lr=config.lora_lr, betas=(0.9, 0.95), eps=1e-10)
    names = {id(m): name for name, m in model.named_modules()}
    ids, size, nats = torch.from_numpy(tokens.astype(np.int64)), config.lora_chunk_tokens, []
    for low in range(first, stop, size):
        start, end = max(first, low + size - seq_len), min(low + size, stop)
        weights = {
            f"{names[id(linear)]}.weight": linear.weight + b @ a
            for linear, (a, b) in zip(adapted_projections(model), pairs[:-1], strict=True)
        }
        hidden = functional_call(Hidden(model), {f"model.{k}": v for k, v in weights.items()}, (ids[None, start:end],))
        a, b = pairs[-1]
        logits = softcapped_logits(hidden[0, low - start :], model.tok_emb.weight + b @ a, model.config.softcap)
        losses = F.cross_entropy(logits, ids[low + 1 : end + 1], reduction="none")
        nats += losses.tolist()
        adam.zero_grad()
        losses.mean().backward()
        adam.step()
    return nats


class Hidden(torch.nn.Module):
    """`model.hidden` as a forward."""

    def __init__(self, model: GPT) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.model.hidden(ids)


PLAINLY = [(name, 0.003) for name in TECHNIQUES] + [("none", 0.0), ("gates", 0.0)]
PLAINLY += [pytest.param(n, 0.0, marks=pytest.mark.whole) for n in TECHNIQUES if (n, 0.0) not in PLAINLY]


@pytest.mark.parametrize(("name", "lr"), PLAINLY)
def test_a_document_is_scored_as_written_down_plainly(name, lr):
    """With any technique of the forward, losses are those of one document alone with merged weights; at a rate of 0
    those are the base model's by windows."""
    model, lengths = trained(*TECHNIQUES[name]), (5, 40, 17, 8, 33)
    tokens, start = documents(*lengths), 0
    config = TTTConfig(kind="lora", lora_chunk_tokens=8, lora_lr=lr, lora_documents=3, lora_rank=2)
    ledger = learned(tokens, model, lora_lr=lr)
    for length in lengths:
        plain = reference(model, tokens, start, start + length, config, 24)
        np.testing.assert_allclose(ledger.nats[start : start + length], plain, rtol=2e-4, atol=2e-4)
        start += length
    if lr == 0:
        ids = torch.from_numpy(tokens.astype(np.int64))[None, 5:29]
        with torch.no_grad():
            base = F.cross_entropy(model.logits(model.hidden(ids[:, :8]))[0], ids[0, 1:9], reduction="none")
        np.testing.assert_allclose(ledger.nats[5:13], base, rtol=1e-5)


def test_other_documents_change_nothing():
    """A document's scores stay to the bit when the others' words change, and to rounding in batches of any size."""
    tokens = documents(30, 33, 31, 12)
    other = documents(30, 33, 31, 12, seed=5)
    other[30:63] = tokens[30:63]
    here, there, frozen = learned(tokens), learned(other), learned(tokens, lora_lr=0.0)
    assert np.array_equal(here.nats[30:62], there.nats[30:62])
    assert not np.isclose(here.nats[:30], there.nats[:30]).any()
    assert np.array_equal(here.nats[30:38], frozen.nats[30:38])
    assert not np.isclose(here.nats[38:62], frozen.nats[38:62]).all()
    np.testing.assert_allclose(learned(tokens, lora_documents=1).nats, here.nats, rtol=1e-3)
    np.testing.assert_allclose(learned(tokens, lora_documents=64).nats, here.nats, rtol=1e-3)


def test_ranks_share_the_documents():
    """Two ranks' losses are one rank's, target by target, each scored by one of them."""
    tokens = documents(30, 9, 31, 12, 3, 1, 26)
    parts = [learned(tokens, rank=r, world=2, lora_documents=2).nats for r in range(2)]
    assert (np.isnan(parts[0]) ^ np.isnan(parts[1])).all()
    together = np.where(np.isnan(parts[0]), parts[1], parts[0])
    np.testing.assert_allclose(together, learned(tokens, lora_documents=2).nats, rtol=1e-5)


def has_text(lengths: list[int]) -> bool:
    """Not only document starts: a stream without bytes has no score, and the ledger says so."""
    return max(lengths) > 1


@settings(max_examples=25)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=6).filter(has_text), st.booleans(), st.booleans())
def test_every_target_is_scored_once_and_first(lengths, headless, open_end):
    """Any documents, a stream that starts within one or ends with a BOS: every target once, each learned from only
    in the rounds after its score, and the last chunk of a document never."""
    tokens = documents(*lengths)
    if headless:
        tokens[0] = BOS_ID + 1
    if open_end:
        tokens[-1] = BOS_ID
    ledger = learned(tokens)
    score = ledger.finish()
    assert score.tokens == sum(lengths) and ledger.verdict in (SCORE_FIRST_OK, "TRACK_A")
    assert (ledger.verdict == SCORE_FIRST_OK) == any(length > 8 for length in lengths)
    assert [stop - first for first, stop in ledger.documents()] == lengths
    scored_at = np.zeros(score.tokens)
    events = events_of(ledger)
    for kind, place, first, stop in events:
        if kind == COMMIT:
            scored_at[first:stop] = place
    learned_from = [t for kind, _, first, stop in events if kind == ADAPT_OWN for t in range(first, stop)]
    assert all((scored_at[first:stop] < place).all() for kind, place, first, stop in events if kind == ADAPT_OWN)
    expected = [t for f, s in ledger.documents() for t in range(f, f + (s - f - 1) // 8 * 8)]
    assert sorted(learned_from) == expected


def test_the_model_is_as_before():
    """Weights, gradients, hooks and what asks for gradients are as they were, to the bit, errors included."""
    model = trained("model.kv_share=all")
    model.skip_weights.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    asks = {name: p.requires_grad for name, p in model.named_parameters()}
    learned(documents(30, 20), model)

    class Broken(RecordingLedger):
        def commit(self, logits_NV):
            raise LedgerError("on purpose")

    config = TTTConfig(kind="lora", lora_chunk_tokens=8)
    with pytest.raises(LedgerError, match="on purpose"):
        evaluate_lora_ttt(model, Broken(documents(30)), config, seq_len=24, stride=24, batch_seqs=1, progress=quiet)
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert {name: p.requires_grad for name, p in model.named_parameters()} == asks
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks for m in model.modules())


def test_learning_on_what_repeats_pays():
    """In a document that repeats itself the later chunks become cheaper."""
    tokens = np.tile(np.maximum(stream(15), BOS_ID + 1), 12)
    tokens[0] = BOS_ID
    assert learned(tokens).finish().val_loss < learned(tokens, lora_lr=0.0).finish().val_loss - 0.1


def test_own_commits_need_no_merge_and_others_do():
    """A rank may learn at once from what it committed; from what is open, unscored or another rank's it may not."""
    ledger = RecordingLedger(documents(20))
    ledger.predict([ScoreWindow(0, 10, 0)])
    with pytest.raises(LedgerError, match="target 0 would be learned from before it is scored"):
        ledger.adapt_own([(0, 10)])
    ledger.commit(torch.zeros(10, SMALL.vocab))
    x, y = ledger.adapt_own([(0, 5), (5, 10)])
    assert torch.equal(x.flatten()[1:], y.flatten()[:-1])
    with pytest.raises(LedgerError, match="target 10 would be learned from"):
        ledger.adapt_own([(5, 12)])
    ledger.merge()
    elsewhere = RecordingLedger(documents(20), rank=1)
    elsewhere.store.merge([(0, 0, 20)])
    with pytest.raises(LedgerError, match="rank 1: target 0"):
        elsewhere.adapt_own([(0, 5)])


def test_rows_are_filled_up_only_where_asked():
    """Windows of unlike lengths need a length, and fit in it."""
    ledger = RecordingLedger(documents(20))
    with pytest.raises(LedgerError, match="4 tokens in a row of 5"):
        ledger.predict([ScoreWindow(0, 5, 0), ScoreWindow(5, 9, 5)])
    ledger = RecordingLedger(documents(20))
    with pytest.raises(LedgerError, match="5 tokens in a row of 4"):
        ledger.predict([ScoreWindow(0, 5, 0)], 4)
    ledger = RecordingLedger(documents(20))
    ids = ledger.predict([ScoreWindow(0, 5, 0), ScoreWindow(5, 9, 5)], 6)
    assert ids.shape == (2, 6) and ids[0, 5] == 0 and ids[1, 4:].tolist() == [0, 0]


def test_a_chunk_longer_than_the_window_is_refused():
    """The config says which value is too large and what is usual."""
    with pytest.raises(ConfigError, match=r"ttt.lora_chunk_tokens=2048 is more than evaluate.seq_len=1024"):
        Config(name="x", ttt=TTTConfig(kind="lora", lora_chunk_tokens=2048))
    Config(name="x", ttt=TTTConfig(kind="lora", lora_chunk_tokens=64), evaluate=EvaluateConfig(seq_len=64, stride=64))


def test_a_stream_of_document_starts_has_no_score():
    """Targets without a byte of text are scored, and the ledger refuses to make bits per byte of them."""
    tokens = documents(1)
    tokens[-1] = BOS_ID
    with pytest.raises(LedgerError, match="the targets hold no bytes"):
        learned(tokens).finish()
