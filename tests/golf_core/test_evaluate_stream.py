"""Scores of any stream, as a bundle offers them to whoever imports it: those of the ledger, to the bit, every time."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from golf_core.bundle import build_bundle
from golf_core.config import Config
from golf_core.evaluate.restored import restored_model
from golf_core.evaluate.sliding import evaluate_windows
from golf_core.evaluate.stream import stream_scores
from golf_core.evaluate.tokens import LedgerError
from golf_core.parts import load_parts
from golf_core.process import Place
from golf_core.run import Run
from tests.golf_core.test_evaluate import CPU, quiet
from tests.golf_core.test_lora_ttt import RecordingLedger, documents
from tests.golf_core.test_pipeline import tiny

KINDS = {
    "plain": ("ttt.kind=none", "evaluate.stride=32"),
    "sliding": ("ttt.kind=none",),
    "chunk": ("ttt.kind=chunk", "ttt.chunk_tokens=48", "ttt.lr=0.05", "ttt.epochs=2"),
    "lora": ("ttt.kind=lora", "ttt.lora_chunk_tokens=16", "ttt.lora_documents=2"),
    "phased": (
        *("ttt.kind=phased", "ttt.lora_chunk_tokens=16", "ttt.lora_documents=1", "ttt.phased_documents=1"),
        *("ttt.phases=1", "ttt.chunk_tokens=48", "ttt.phased_lr=0.05"),
    ),
}
LEARNING = ("chunk", "lora", "phased")
TOKENS = documents(90, 33, 61)


def config_of(kind: str) -> Config:
    return tiny("model.vocab=61", *KINDS[kind])


@pytest.fixture(scope="module")
def artifact(tmp_path_factory, small_data) -> Path:
    """A model whose every tensor was moved, as a file."""
    folder = tmp_path_factory.mktemp("stream")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATA_PATH", str(small_data[0]))
        patch.setenv("TOKENIZER_PATH", str(small_data[1]))
        config = config_of("plain")
        run = Run(config, load_parts(config), Place(0, 1, CPU, torch.float32), folder)
    model, generator = run.model(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    path = folder / "artifact.bin"
    path.write_bytes(run.encode(run.quantizer().export(model.state_dict())))
    return path


def scores(kind: str, artifact: Path, tokens: np.ndarray = TOKENS, learn: str = "on"):
    config = config_of(kind)
    return stream_scores(config, load_parts(config), artifact, tokens, learn)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_has_its_scores_and_their_order(kind, artifact):
    """Each target has a loss and a commit; commits are numbered without a gap; learning comes between them, and the
    same call gives the same bits."""
    found, again = scores(kind, artifact), scores(kind, artifact)
    assert found.nll.dtype == np.float64 and np.isfinite(found.nll).all() and len(found.nll) == len(TOKENS) - 1
    assert sorted(set(found.order.tolist())) == list(range(found.order.max() + 1))
    assert found.learned.dtype == found.order.dtype == np.int64
    assert (np.diff(found.learned) >= 0).all()
    assert (len(found.learned) > 0) == (kind in LEARNING)
    assert all(0 < count <= found.order.max() for count in found.learned)
    for name in ("nll", "order", "learned"):
        assert np.array_equal(getattr(found, name), getattr(again, name))


@pytest.mark.parametrize("kind", LEARNING)
def test_learning_can_be_turned_off_or_misled(kind, artifact):
    """Without learning the scores before the first of it stay and the later ones change; on text that repeats itself
    learning pays, and wrong targets do not."""
    text = np.concatenate((documents(16), documents(16)[1:-1]))
    tokens = np.concatenate([np.tile(text, 6)] * 2)
    on, off, shuffled = (scores(kind, artifact, tokens, learn) for learn in ("on", "off", "shuffled"))
    first = on.order < on.learned[0]
    for other in (off, shuffled):
        assert np.array_equal(on.order, other.order) and np.array_equal(on.learned, other.learned)
        assert np.array_equal(on.nll[first], other.nll[first])
        assert not np.isclose(on.nll[~first], other.nll[~first]).all()
    assert on.nll.mean() < off.nll.mean() - 0.02 < shuffled.nll.mean()


def test_an_imported_bundle_offers_them(artifact, tmp_path):
    """A readable and a packed bundle, imported and not run, have `score_stream` at their top, with the package's
    numbers, and ask the environment for nothing."""
    wanted = scores("chunk", artifact)
    for form in ("readable", "packed"):
        path = tmp_path / f"{form}_train_gpt.py"
        path.write_text(build_bundle(tiny("model.vocab=61", *KINDS["chunk"], f"ship={form}")))
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, path.stem, module)
            for name in ("SEED", "DATA_PATH", "TOKENIZER_PATH"):
                patch.delenv(name, raising=False)
            spec.loader.exec_module(module)
            found = module.score_stream(artifact, TOKENS)
        for name in ("nll", "order", "learned"):
            assert np.array_equal(getattr(found, name), getattr(wanted, name))


def test_they_are_what_the_ledger_computes(artifact):
    """A frozen stream's losses are a plain evaluation's of the same model."""
    config = config_of("sliding")
    model, _ = restored_model(config, load_parts(config), artifact, torch.float32, CPU)
    ledger = RecordingLedger(TOKENS)
    evaluate_windows(model, ledger, seq_len=32, stride=16, batch_seqs=8, progress=quiet)
    np.testing.assert_allclose(scores("sliding", artifact).nll, ledger.nats, atol=0.05)  # bf16 where a CPU has it


@pytest.mark.parametrize(
    ("tokens", "learn", "message"),
    [
        (TOKENS[:1], "on", "a row of at least 2 ids"),
        (TOKENS.astype(np.float32), "on", "not float32"),
        (np.array([1, 5, 61]), "on", "token 2 of the stream is 61; the model knows 0 to 60"),
        (np.array([1, -5, 3]), "on", "token 1 of the stream is -5"),
        (TOKENS, "maybe", "learn='maybe' is not known; there are on, off, shuffled"),
    ],
)
def test_no_stream_is_no_score(tokens, learn, message, artifact):
    """What is no stream of ids that the model knows is refused with the place and the value."""
    with pytest.raises(LedgerError, match=message):
        scores("plain", artifact, tokens, learn)
