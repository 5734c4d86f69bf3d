"""The model: its size, its start, its causality, and that fast paths compute what the formulas say."""

import math

import pytest
import torch
import torch.nn.functional as F

from golf_core.config_model import ModelConfig
from golf_core.model.attention import causal_attention
from golf_core.model.fused import Relu2Function, RmsNormFunction, RotaryNormFunction, relu2, rms_norm, rotary_norm
from golf_core.model.gpt import GPT, Rotary
from golf_core.model.loss import softcapped_cross_entropy, softcapped_logits
from golf_core.optim.groups import parameter_groups
from golf_core.recipes import load_recipe

SMALL = ModelConfig(vocab=61, layers=5, width=32, heads=4, kv_heads=2)


def small_model(seed=0, trained=True) -> GPT:
    """A small model; `trained` gives the zero matrices values, as after some steps."""
    generator = torch.Generator().manual_seed(seed)
    model = GPT(SMALL, {})
    model.init_weights(generator)
    if trained:
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return model


def test_the_baseline_has_its_published_size():
    """17,059,912 parameters, as the challenge's log says."""
    with torch.device("meta"):
        model = GPT(load_recipe("naive_baseline").config.model, {})
    assert sum(p.numel() for p in model.parameters()) == 17_059_912


def test_the_first_loss_is_that_of_guessing():
    """A fresh model's blocks add nothing, and its loss is about ln(vocabulary)."""
    model = small_model(trained=False)
    ids = torch.arange(24).view(2, 12) % SMALL.vocab
    assert float(model(ids, ids.roll(1, -1)).detach()) == pytest.approx(math.log(SMALL.vocab), abs=0.05)
    x = rms_norm(model.tok_emb(ids))
    with torch.no_grad():
        assert torch.equal(model.blocks[0](x, x, model.rotary.tables(12), model.blocks[0].attn, None, None)[0], x)


def test_what_comes_later_changes_nothing_before():
    """Changing token t leaves every logit before t as it was, to the bit."""
    model = small_model()
    ids = torch.randint(0, SMALL.vocab, (1, 40), generator=torch.Generator().manual_seed(1))
    changed = ids.clone()
    changed[0, 23:] = (changed[0, 23:] + 7) % SMALL.vocab
    with torch.no_grad():
        before, after = model.logits(model.hidden(ids)), model.logits(model.hidden(changed))
    assert torch.equal(before[:, :23], after[:, :23])
    assert not torch.equal(before[:, 23:], after[:, 23:])


def test_logits_stay_under_the_cap_and_give_the_loss():
    """|logit| < softcap, and cross-entropy of the logits is the loss of the forward pass."""
    model = small_model()
    ids = torch.randint(0, SMALL.vocab, (3, 20), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        logits = model.logits(model.hidden(ids))
        loss = model(ids, ids.roll(1, -1))
    assert float(logits.abs().max()) < SMALL.softcap
    torch.testing.assert_close(F.cross_entropy(logits.flatten(0, 1), ids.roll(1, -1).flatten()), loss)


@pytest.mark.parametrize("positions", [1, 31, 32, 33, 100])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2), (6, 1)])
def test_blocked_attention_is_attention(positions, heads, kv_heads):
    """Values and gradients of the blocked product are those of the library's attention, for any length and grouping."""
    generator = torch.Generator().manual_seed(positions)
    shapes = ((2, positions, heads, 8), (2, positions, kv_heads, 8), (2, positions, kv_heads, 8))
    q, k, v = (torch.randn(s, generator=generator, dtype=torch.float64, requires_grad=True) for s in shapes)
    weight = torch.randn(2, positions, heads, 8, generator=generator, dtype=torch.float64)
    reference = F.scaled_dot_product_attention(
        q.transpose(1, 2),
        k.transpose(1, 2).repeat_interleave(heads // kv_heads, 1),
        v.transpose(1, 2).repeat_interleave(heads // kv_heads, 1),
        is_causal=True,
        scale=1.0,
    ).transpose(1, 2)
    ours = causal_attention(q, k, v)
    torch.testing.assert_close(ours, reference)
    for mine, theirs in zip(
        torch.autograd.grad((ours * weight).sum(), (q, k, v)),
        torch.autograd.grad((reference * weight).sum(), (q, k, v)),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("rows", [1, 255, 256, 600])
def test_the_sliced_loss_is_the_loss(rows):
    """Loss and gradients made slice by slice are those of cross-entropy over softcapped logits."""
    generator = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, 16, generator=generator, requires_grad=True)
    weight = torch.randn(37, 16, generator=generator, requires_grad=True)
    target = torch.randint(0, 37, (rows,), generator=generator)
    ours = softcapped_cross_entropy(x, weight, target, 5.0)
    reference = F.cross_entropy(softcapped_logits(x, weight, 5.0), target)
    torch.testing.assert_close(ours, reference)
    for mine, theirs in zip(
        torch.autograd.grad(ours * 3, (x, weight)), torch.autograd.grad(reference * 3, (x, weight)), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_written_out_gradients_are_the_gradients():
    """Norm, relu^2 and rotation have the gradients that differences of their values show."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 2, 8, generator=generator, dtype=torch.float64, requires_grad=True)
    cos, sin = Rotary(ModelConfig(width=16, heads=2, kv_heads=1), torch.float64, 3).tables(3)
    assert torch.autograd.gradcheck(RmsNormFunction.apply, (x,))
    assert torch.autograd.gradcheck(Relu2Function.apply, (x,))
    assert torch.autograd.gradcheck(RotaryNormFunction.apply, (x, cos, sin))


def test_fused_values_are_the_formulas():
    """Norm and relu^2 are what their docstrings say."""
    x = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(rms_norm(x), F.rms_norm(x, (7,)))
    torch.testing.assert_close(relu2(torch.tensor([-2.0, 0.0, 3.0])), torch.tensor([0.0, 0.0, 9.0]))


def test_rotation_keeps_lengths_and_knows_only_distances():
    """Position 0 is left as it is, lengths stay, and <q_m, k_n> depends on m - n alone."""
    angles = Rotary(ModelConfig(width=16, heads=2, kv_heads=1), torch.float32, 16).tables(12)
    q, k = (
        rms_norm(torch.randn(1, 1, 1, 8, generator=torch.Generator().manual_seed(s))).expand(1, 12, 1, 8)
        for s in (1, 2)
    )
    turned_q, turned_k = rotary_norm(q, *angles), rotary_norm(k, *angles)
    torch.testing.assert_close(turned_q[:, :1], q[:, :1], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(turned_q.norm(dim=-1), q.norm(dim=-1))
    products = (turned_q[0, :, 0] @ turned_k[0, :, 0].T).detach()
    for distance in range(-5, 6):
        diagonal = products.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=1e-4, atol=1e-4)


def test_a_fresh_models_loss_is_its_embeddings():
    """Blocks that add nothing and skips of weight 1 leave the normed embedding: the loss is that of its logits."""
    model = small_model(trained=False)
    ids = torch.randint(0, SMALL.vocab, (2, 12), generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        loss = model(ids, ids.roll(1, -1))
        logits = softcapped_logits(rms_norm(model.tok_emb(ids)), model.tok_emb.weight, SMALL.softcap)
    torch.testing.assert_close(loss, F.cross_entropy(logits.flatten(0, 1), ids.roll(1, -1).flatten()))


def test_a_sequence_beyond_the_context_is_refused():
    """Rotary positions exist for the stage's context; a longer sequence is an error with both lengths."""
    model = GPT(SMALL, {}, context=8)
    with pytest.raises(ValueError, match="9 tokens is longer than the context of 8"):
        model.hidden(torch.zeros(1, 9, dtype=torch.int64))


def test_scoring_first_leaves_training_as_it_was():
    """A model first used under inference mode can be differentiated through later."""
    model = small_model()
    ids = torch.zeros(1, 9, dtype=torch.int64)
    with torch.inference_mode():
        model.hidden(ids)
    model(ids, ids).backward()
    assert model.blocks[0].attn.c_q.weight.grad is not None


def test_every_parameter_has_one_optimizer_and_a_gradient():
    """Each parameter is in exactly one group, and a step reaches each of them."""
    model = small_model()
    groups = parameter_groups(model)
    names = [name for group in groups.values() for name in group]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    ids = torch.randint(0, SMALL.vocab, (2, 16), generator=torch.Generator().manual_seed(3))
    model(ids, ids.roll(1, -1)).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()] == []


@pytest.mark.parametrize("scale", [1.0, 0.005])
def test_bf16_norms_like_the_library(scale):
    """In bf16 too the norm is the library's, for activations as small as a fresh embedding's."""
    x = (scale * torch.randn(4, 64, generator=torch.Generator().manual_seed(0))).bfloat16()
    torch.testing.assert_close(rms_norm(x).float(), F.rms_norm(x, (64,)).float(), rtol=0.02, atol=0.02)
