"""Calibration: the moments are those of the layers' inputs, the same for every number of processes."""

import dataclasses

import pytest
import torch

from golf_core.config import Config, TrainConfig
from golf_core.config_model import ModelConfig
from golf_core.config_quant import QuantConfig
from golf_core.model.gpt import GPT
from golf_core.parts import load_parts
from golf_core.process import Place
from golf_core.quant.calibrate import WRITE_BUCKET, self_calibration, train_calibration, written_text

MODEL = ModelConfig(
    vocab=50, layers=4, width=32, heads=2, kv_heads=1, kv_share="2", bigram_buckets=64, bigram_width=16, smear="v2"
)


def config(**quant) -> Config:
    return Config(
        name="x",
        model=MODEL,
        train=TrainConfig(seq_len=16, batch_tokens=256, micro_batches=4),
        quant=QuantConfig(
            **{"keep_numel": 0, "rounding": "gptq", "calibration": "self", "calibration_seqs": 5} | quant
        ),
    )


def place(rank: int = 0, world: int = 1) -> Place:
    return Place(rank, world, torch.device("cpu"), torch.float32)


def model_of(c: Config) -> GPT:
    model = GPT(c.model, load_parts(c))
    generator = torch.Generator().manual_seed(0)
    model.init_weights(generator)
    with torch.no_grad():
        for p in model.parameters():
            p += 0.05 * torch.randn(p.shape, generator=generator)
    return model


class FixedLoader:
    """Sequences 0, 1, 2, ... of known tokens; `world` ranks take theirs side by side, as the real loaders do."""

    def __init__(self, rank: int = 0, world: int = 1, sequences: int = 4) -> None:
        self.rank, self.world, self.sequences, self.call = rank, world, sequences, 0

    def next(self):
        first = (self.call * self.world + self.rank) * self.sequences
        self.call += 1
        return torch.stack([self.sequence(first + j) for j in range(self.sequences)]), None

    @staticmethod
    def sequence(index: int) -> torch.Tensor:
        return torch.randint(0, 50, (16,), generator=torch.Generator().manual_seed(index))


def moment(x: torch.Tensor) -> torch.Tensor:
    flat = x.reshape(-1, x.size(-1))
    return flat.T @ flat


def inputs_of(model: GPT, ids: torch.Tensor) -> dict[str, list[torch.Tensor]]:
    """Every input of every named layer, gathered another way: by wrapping each layer's forward."""
    seen: dict[str, list[torch.Tensor]] = {}
    for name, module in model.named_modules():
        if name.endswith(("c_q", "c_k", "c_v", "proj", "fc")):

            def forward(x, name=name, inner=module.forward):
                seen.setdefault(f"{name}.weight", []).append(x.detach())
                return inner(x)

            module.forward = forward
    with torch.no_grad():
        seen["tok_emb.weight"] = [model.hidden(ids)]
    for module in model.modules():
        module.__dict__.pop("forward", None)
    return seen


def test_moments_are_sums_over_all_users_of_a_matrix():
    """Each Hessian is the sum of x x^T of that matrix's inputs, the embedding's of the final norm's output; a matrix
    that two layers share sums both; no hook stays behind."""
    c = config()
    model = model_of(c)
    found = train_calibration(model, c, FixedLoader(), place(), 1)
    ids = torch.stack([FixedLoader.sequence(j) for j in range(5)])
    expected = inputs_of(model, ids)
    assert set(found) == set(expected)
    assert len(expected["blocks.0.attn.c_k.weight"]) == 2  # its own layer and the one that shares it
    for name, inputs in expected.items():
        torch.testing.assert_close(found[name], sum(moment(x) for x in inputs), rtol=1e-4, atol=1e-4)
    assert not any(module._forward_pre_hooks for module in model.modules())
    shapes = {name: p.shape[1] for name, p in model.named_parameters() if p.ndim == 2}
    assert all(h.shape == (shapes[name],) * 2 for name, h in found.items())


def test_only_what_is_rounded_is_watched():
    """Tensors that export keeps as fp16 have no Hessian."""
    c = config(keep_fp16="tok_emb,c_k", calibration="train")
    found = train_calibration(model_of(c), c, FixedLoader(), place(), 1)
    assert not [name for name in found if "tok_emb" in name or "c_k" in name]


@pytest.mark.parametrize("calibration", [train_calibration, self_calibration])
@pytest.mark.parametrize("count", [1, 5, 17])
def test_processes_share_the_same_sequences(monkeypatch, calibration, count):
    """The sums of three ranks' shares are those of one process, for numbers of sequences that do not divide evenly."""
    c = config(calibration_seqs=count)
    model = model_of(c)
    alone = calibration(model, c, FixedLoader(), place(), 7)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda tensor: None)
    shares = [calibration(model, c, FixedLoader(rank, 3), place(rank, 3), 7) for rank in range(3)]
    for name, whole in alone.items():
        torch.testing.assert_close(sum(share[name] for share in shares), whole, rtol=1e-4, atol=1e-3)


def test_written_text_is_the_models_own(monkeypatch):
    """Text repeats with its seed and differs with another; the ids fit; each token is drawn as from a pass over exactly
    its past; no loader is asked."""
    c = config()
    model = model_of(c)
    length = WRITE_BUCKET + 7
    text = written_text(model, 3, length, 5)
    assert text.shape == (3, length) and text.min() >= 0 and text.max() < 50
    assert torch.equal(text, written_text(model, 3, length, 5))
    assert not torch.equal(text, written_text(model, 3, length, 6))
    draws = torch.rand(3, length, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        for t in (1, 30, WRITE_BUCKET, WRITE_BUCKET + 1, length - 1):
            below = torch.softmax(model.logits(model.hidden(text[:, :t])[:, -1]) / 0.8, dim=-1).cumsum(dim=-1)
            low = torch.cat((torch.zeros(3, 1), below), dim=1).gather(1, text[:, t : t + 1])[:, 0]
            high = below.gather(1, text[:, t : t + 1])[:, 0]
            assert ((low - 1e-5 <= draws[:, t]) & (draws[:, t] <= high + 1e-5)).all()
    assert (
        self_calibration(model, c, None, place(), 1).keys()
        == train_calibration(model, c, FixedLoader(), place(), 1).keys()
    )


def test_the_first_token_is_uniform():
    """Over many sequences every token of the vocabulary begins about as many."""
    model = model_of(dataclasses.replace(config()))
    counts = torch.bincount(written_text(model, 5000, 1, 3)[:, 0], minlength=50)
    assert counts.min() > 60 and counts.max() < 145
