"""The compiled forward pass of an evaluation: what is compiled, how often, and that scores do not feel it."""

import json

import numpy as np
import pytest
import torch
import torch._dynamo.testing

import golf_core.evaluate_stage
from golf_core.config import TTTConfig
from golf_core.evaluate.chunk_ttt import evaluate_chunk_ttt
from golf_core.evaluate.compiled import compile_hidden, eager_hidden, hot_backend, on_same_weights
from golf_core.evaluate.sliding import evaluate_windows
from golf_core.model.gpt import GPT
from golf_core.parts import load_parts
from golf_core.process import Place
from golf_core.run import Run
from tests.golf_core.test_evaluate import CPU, quiet, stream
from tests.golf_core.test_lora_ttt import TECHNIQUES, RecordingLedger, documents, learned, trained
from tests.golf_core.test_pipeline import tiny

BATCH, LENGTH = 3, 16
WINDOWS = {"seq_len": LENGTH, "stride": 5, "batch_seqs": BATCH, "progress": quiet}

pytestmark = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # Dynamo's own


@pytest.fixture(autouse=True)
def nothing_compiled():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def counting(backend: str = "eager") -> torch._dynamo.testing.CompileCounterWithBackend:
    return torch._dynamo.testing.CompileCounterWithBackend(backend)


def compiled(model: GPT, counter) -> GPT:
    compile_hidden(model, BATCH, LENGTH, counter)
    return model


TRACED = [(name, "eager") for name in TECHNIQUES]
TRACED += [(name, "aot_eager") for name in ("kv_share_some", "gates")]
TRACED += [pytest.param(n, "aot_eager", marks=pytest.mark.whole) for n in TECHNIQUES if (n, "aot_eager") not in TRACED]


@pytest.mark.parametrize(("name", "backend"), TRACED)
def test_scores_do_not_feel_it(name, backend):
    """Sliding over a stream whose first windows and last batch have other shapes: one compilation, before any token is
    had, and the loss of every target is eager's."""
    plain, counter = RecordingLedger(stream(113)), counting(backend)
    overrides = TECHNIQUES[name]
    evaluate_windows(trained(*overrides), plain, **WINDOWS)
    model = compiled(trained(*overrides), counter)
    assert counter.frame_count == 1
    ledger = RecordingLedger(stream(113))
    evaluate_windows(model, ledger, **WINDOWS)
    assert counter.frame_count == 1
    np.testing.assert_allclose(ledger.nats, plain.nats, rtol=0 if backend == "eager" else 1e-5)


def test_only_the_hot_shape_without_gradients_is_compiled(monkeypatch):
    """Of all calls just those of its shape and without gradients go through the compiled pass."""
    model, passed = compiled(trained(), counting()), []
    compiled_pass = model.hidden.compiled
    model.hidden.compiled = lambda ids: passed.append(tuple(ids.shape)) or compiled_pass(ids)
    ids = torch.arange(64).view(4, 16) % 50
    with torch.inference_mode():
        for shape in ((3, 16), (4, 16), (3, 15), (1, 16), (3, 16)):
            model.hidden(ids[: shape[0], : shape[1]])
    assert passed == [(3, 16)] * 2
    model(ids[:3], ids[1:]).backward()
    assert model.hidden(ids[:3]).requires_grad
    assert passed == [(3, 16)] * 2
    assert all(p.grad is not None for p in model.parameters())


def test_the_compiled_model_has_the_same_memory():
    """Its weights and tables are the model's own memory, under the same names, and none asks for gradients; the model's
    still do."""
    model = trained(*TECHNIQUES["sparse"])
    other = on_same_weights(model)
    for own, twin in (
        (model.named_parameters(), other.named_parameters()),
        (model.named_buffers(), other.named_buffers()),
    ):
        for (name, value), (same, shared) in zip(own, twin, strict=True):
            assert (name, value.data_ptr()) == (same, shared.data_ptr())
            assert not shared.requires_grad
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_learning_by_chunks_compiles_nothing_more(backend):
    """Weights that move, freeze and hold gradients between two scored chunks cost no other compilation; scores follow
    the moved weights."""
    config = TTTConfig(kind="chunk", chunk_tokens=60, lr=0.05, epochs=2, batch_seqs=2, freeze_blocks=1)
    plain, ledger, counter = RecordingLedger(stream(233)), RecordingLedger(stream(233)), counting(backend)
    evaluate_chunk_ttt(trained(), plain, config, **WINDOWS)
    model = compiled(trained(), counter)
    evaluate_chunk_ttt(model, ledger, config, **WINDOWS)
    assert counter.frame_count == 1
    np.testing.assert_allclose(ledger.nats, plain.nats, rtol=0 if backend == "eager" else 1e-4)


def test_what_was_compiled_is_taken_out_again():
    """Afterwards `hidden` is the class's, however often it is asked for, and low-rank additions are learned as ever."""
    tokens, model = documents(30, 41, 9), compiled(trained(), counting())
    eager_hidden(model)
    eager_hidden(model)
    assert model.hidden.__func__ is GPT.hidden
    assert np.array_equal(learned(tokens, model).nats, learned(tokens).nats)


def test_a_gpu_compiles_where_training_does():
    """On a CPU, or where the config compiles nothing, an evaluation is eager."""
    cases = [(compiles, torch.device(kind)) for compiles in (True, False) for kind in ("cuda", "cpu")]
    assert [hot_backend(*case) for case in cases] == ["inductor", None, None, None]


@pytest.mark.parametrize("kind", ["chunk", "phased"])
def test_a_stage_scores_the_same_and_learns_without_it(small_data, tmp_path, monkeypatch, capsys, kind):
    """A whole evaluation stage compiles once, while it loads, gives the scores of an eager one, and is eager again when
    hooks are hung on the model's parts, and at the end."""
    monkeypatch.setenv("DATA_PATH", str(small_data[0]))
    monkeypatch.setenv("TOKENIZER_PATH", str(small_data[1]))
    config, stage = (
        tiny(f"ttt.kind={kind}", "ttt.lora_chunk_tokens=16", "ttt.phased_documents=3"),
        golf_core.evaluate_stage,
    )
    place, scores, learning, models = Place(0, 1, CPU, torch.float32), [], [], []
    for folder, counter in (("eager", None), ("compiled", counting())):
        parts = load_parts(config)
        learn, load = parts["ttt.kind"], stage.load_model

        def watched(model, *args, learn=learn, **kwargs):
            learning.append("hidden" in model.__dict__)
            return learn(model, *args, **kwargs)

        def kept(*args, load=load):
            models.append(load(*args))
            return models[-1]

        out = tmp_path / folder
        out.mkdir()
        run = Run(config, parts | {"ttt.kind": watched}, place, out)
        artifact = out / "artifact.bin"
        artifact.write_bytes(run.encode(run.quantizer().export(run.model().state_dict())))
        with monkeypatch.context() as patch:
            patch.setattr(stage, "hot_backend", lambda compiles, device, counter=counter: counter)
            patch.setattr(stage, "load_model", kept)
            stage.evaluate_stage(run, artifact)
        scores.append(json.loads((out / "scores.json").read_text())["stages"])
        assert "hidden" not in models[-1][0].__dict__
    assert counter.frame_count == 1
    assert learning == [False, kind == "chunk"]
    assert list(scores[0]) == ["roundtrip", "sliding", "ttt"]
    for name, facts in scores[0].items():
        assert scores[1][name]["val_loss"] == pytest.approx(facts["val_loss"], rel=1e-6)
