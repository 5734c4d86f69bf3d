"""The model's techniques: each does what its formula says, and none of them looks ahead."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from golf_core.config import Config
from golf_core.config_io import override
from golf_core.data.shards import BOS_ID
from golf_core.fields import ConfigError
from golf_core.inventory import take_inventory, tensor_shapes
from golf_core.model.attention import causal_attention, library_attention
from golf_core.model.flash import flash_attention, flash_attn_func, flash_usable
from golf_core.model.fused import rms_norm
from golf_core.model.gpt import GPT
from golf_core.model.init import overtone_spectrum
from golf_core.model.leaky import LeakyRelu2Function, leaky_relu2
from golf_core.model.partial_rope import partial_rotary_norm
from golf_core.model.xsa import without_own_value
from golf_core.optim.groups import parameter_groups
from golf_core.parts import load_parts

SMALL = ["model.vocab=61", "model.layers=6", "model.width=48", "model.heads=4", "model.kv_heads=2"]
SWITCHES = {
    "base": [],
    "leaky": ["model.activation=leaky_relu2"],
    "ln_scale": ["model.ln_scale=true"],
    "partial_rope": ["model.rope_dims=4"],
    "static_ntk": ["model.rope_static_base=41832"],
    "dynamic_ntk": ["model.rope_ref_len=8"],
    "flash": ["model.attention=flash"],
    "xsa": ["model.xsa_last_n=3"],
    "kv_all": ["model.kv_share=all"],
    "kv_2": ["model.kv_share=2"],
    "value_residual": ["model.value_residual=true"],
    "gate_dense": ["model.attn_gate=dense"],
    "gate_qwen": ["model.attn_gate=qwen"],
    "gate_out": ["model.attn_gate=out"],
    "gate_sparse": ["model.attn_gate=sparse", "model.attn_gate_scale=0.5"],
    "smear_v1": ["model.smear=v1"],
    "smear_v2": ["model.smear=v2"],
    "bigram": ["model.bigram_buckets=32", "model.bigram_width=8"],
    "bigram_wide": ["model.bigram_buckets=32", "model.bigram_width=48"],
    "trigram": ["model.trigram_buckets=32", "model.trigram_width=8"],
    "values": ["model.value_embed_width=8"],
    "starts": ["model.embed_init=overtone", "model.matrix_init=orthogonal", "model.resid_mix_init=phase"],
}
EVERYTHING = [
    *("model.activation=leaky_relu2", "model.ln_scale=true", "model.rope_dims=4", "model.rope_ref_len=8"),
    *("model.xsa_last_n=3", "model.kv_share=all", "model.value_residual=true", "model.attn_gate=dense"),
    *("model.smear=v1", "model.bigram_buckets=32", "model.bigram_width=8", "model.trigram_buckets=32"),
    *("model.trigram_width=8", "model.value_embed_width=8"),
]
SWITCHES["everything"] = EVERYTHING


def config_of(*overrides: str) -> Config:
    return override(Config(name="x"), [*SMALL, *overrides])


def built(*overrides: str, trained: bool = True, seed: int = 0) -> GPT:
    """A small model with these switches; `trained` moves every parameter away from its start."""
    config, generator = config_of(*overrides), torch.Generator().manual_seed(seed)
    model = GPT(config.model, load_parts(config))
    model.init_weights(generator)
    if trained:
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return model


def some_ids(rows: int = 2, length: int = 24, seed: int = 1) -> torch.Tensor:
    return torch.randint(0, 61, (rows, length), generator=torch.Generator().manual_seed(seed))


def logits_of(model: GPT, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.logits(model.hidden(ids))


@pytest.mark.parametrize("overrides", SWITCHES.values(), ids=SWITCHES)
def test_a_switch_changes_no_earlier_logit(overrides):
    """Changing a token changes no logit before it, to the bit, and changes those from it on."""
    model, ids = built(*overrides), some_ids(1, 40)
    changed = ids.clone()
    changed[0, 23:] = (changed[0, 23:] + 7) % 61
    before, after = logits_of(model, ids), logits_of(model, changed)
    assert torch.equal(before[:, :23], after[:, :23])
    assert not torch.equal(before[:, 23:], after[:, 23:])


@pytest.mark.parametrize("overrides", SWITCHES.values(), ids=SWITCHES)
def test_a_switch_keeps_the_contract_of_the_model(overrides):
    """Logits stay under the cap and give the loss; every parameter is in one group and gets a gradient; the list of
    tensors that plans are made of is the state dict's."""
    model, ids = built(*overrides), some_ids()
    logits = logits_of(model, ids)
    assert float(logits.abs().max()) < 30
    loss = model(ids, ids.roll(1, -1))
    torch.testing.assert_close(loss.detach(), F.cross_entropy(logits.flatten(0, 1), ids.roll(1, -1).flatten()))
    loss.backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()] == []
    names = [name for group in parameter_groups(model).values() for name in group]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    assert tensor_shapes(config_of(*overrides).model) == {k: tuple(v.shape) for k, v in model.state_dict().items()}
    assert take_inventory(config_of(*overrides)).parameters == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("overrides", SWITCHES.values(), ids=SWITCHES)
def test_a_fresh_model_learns_with_every_switch(overrides):
    """Some steps of plain descent from the start values lower the loss: no switch is ruinous at the start."""
    model, ids = built(*overrides, trained=False), some_ids(8, 16)
    losses = []
    for _ in range(8):
        loss = model(ids, ids.roll(-1, -1))
        model.zero_grad()
        loss.backward()
        with torch.no_grad():
            for p in model.parameters():
                p.sub_(p.grad / (p.grad.norm() + 1e-9) * 0.05)
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.05


def test_leaky_relu2_is_its_formula():
    """f(2) = 4, f(-2) = 1, f'(0) = 0, and the written-out gradient is the gradient."""
    x = torch.tensor([2.0, -2.0, 0.0], requires_grad=True)
    y = leaky_relu2(x)
    assert y.tolist() == [4.0, 1.0, 0.0]
    (grad,) = torch.autograd.grad(y.sum(), x)
    assert grad.tolist() == [4.0, -1.0, 0.0]
    values = torch.randn(20, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(LeakyRelu2Function.apply, (values,))
    torch.testing.assert_close(leaky_relu2(values), F.leaky_relu(values, 0.5).square())


def test_ntk_bases_are_the_published_ones():
    """Dynamic NTK gives 22,081.8 at 2,048 and 48,760.5 at 4,096 tokens over a reference of 1,024 with 16 dims, nothing
    below it; static NTK gives its base at every length."""
    sizes = ["model.width=512", "model.heads=8", "model.rope_dims=16"]
    rotary = built(*sizes, "model.rope_ref_len=1024", trained=False).rotary
    assert rotary.base(1024) == 10000
    assert rotary.base(2048) == pytest.approx(22081.8, abs=0.1)
    assert rotary.base(4096) == pytest.approx(48760.5, abs=0.1)
    static = built(*sizes, "model.rope_static_base=41832", trained=False).rotary
    assert {static.base(n) for n in (1, 1024, 8192)} == {41832.0}
    assert pytest.approx(41829.37, abs=0.01) == 10000 * 4 ** (64 / 62)


def test_partial_rotation_leaves_the_other_channels():
    """Channels beyond `rope_dims` are those of the norm, bit for bit; lengths stay; position 0 is left as it is; and
    <q_m, k_n> depends on m - n alone."""
    rotary = built("model.rope_dims=4", trained=False).rotary
    x = torch.randn(1, 9, 2, 12, generator=torch.Generator().manual_seed(0))
    turned, normed = partial_rotary_norm(x, *rotary.tables(9)), rms_norm(x)
    assert torch.equal(turned[..., 4:], normed[..., 4:])
    assert not torch.equal(turned[:, 1:, :, :4], normed[:, 1:, :, :4])
    torch.testing.assert_close(turned[:, 0], normed[:, 0])
    torch.testing.assert_close(turned.norm(dim=-1), normed.norm(dim=-1))
    same = partial_rotary_norm(x[:, :1].expand(1, 9, 2, 12), *rotary.tables(9))[0, :, 0]
    for distance in range(-5, 6):
        products = (same @ same.T).diagonal(distance)
        torch.testing.assert_close(products, products[:1].expand_as(products), rtol=1e-4, atol=1e-4)


def test_ln_scale_shrinks_what_a_layer_reads():
    """Block l reads rms(x) / sqrt(l + 1)."""
    model, x = built("model.ln_scale=true"), torch.randn(1, 3, 48, generator=torch.Generator().manual_seed(0))
    for layer, block in enumerate(model.blocks):
        torch.testing.assert_close(block.normed(x), rms_norm(x) / math.sqrt(layer + 1))


@pytest.mark.parametrize("form", ["v1", "v2"])
def test_smear_stops_at_a_documents_start(form):
    """What stands before a document's first token changes nothing there, by default; without the mask it does."""
    ids = some_ids(1, 12)
    ids[ids == BOS_ID] = 5
    ids[0, 6] = BOS_ID
    other = ids.clone()
    other[0, 5] = (other[0, 5] + 1) % 61 + 2
    for masked in (True, False):
        model = built(f"model.smear={form}", f"model.smear_bos_mask={masked}")
        with torch.no_grad():
            same = torch.equal(model.embed(ids)[0, 6], model.embed(other)[0, 6])
        assert same is masked
    assert config_of(f"model.smear={form}").model.smear_bos_mask


def test_smear_is_its_formula():
    """v1 mixes half of the token before into each channel at the start; v2 is the identity at the start."""
    ids = some_ids(1, 12)
    ids[ids == BOS_ID] = 5
    with torch.no_grad():
        plain = built(trained=False).embed(ids)
        v1, v2 = (built(f"model.smear={form}", trained=False).embed(ids) for form in ("v1", "v2"))
    assert torch.equal(v2, plain)
    before = F.pad(plain[:, :-1], (0, 0, 1, 0))
    torch.testing.assert_close(v1, 0.5 * plain + 0.5 * before)


@pytest.mark.parametrize(("name", "first"), [("bigram", 1), ("trigram", 2)])
def test_a_hash_embedding_starts_silent_and_learns(name, first):
    """It adds exactly nothing at the start, yet its table has a gradient; only the first positions use the last row."""
    model = built(f"model.{name}_buckets=32", f"model.{name}_width=8", trained=False)
    hashed, ids = getattr(model, name), some_ids()
    rows = hashed.rows(ids)
    assert (rows[:, :first] == 31).all()
    assert (rows[:, first:] < 31).all()
    assert not hashed(ids, torch.float32).any()
    # After a step the output matrices are no zeros any more, so look at the branch alone.
    hashed(ids, torch.float32).pow(1).sum().backward()
    assert hashed.embed.weight.grad.abs().sum() > 0


@given(st.integers(0, 65535), st.integers(0, 65535), st.integers(0, 65535))
def test_hashes_are_the_published_ones(a, b, c):
    """The row is the XOR of the products modulo buckets - 1, exact for every 16-bit token."""
    model = HASHERS
    ids = torch.tensor([[a, b, c]])
    assert int(model.bigram.rows(ids)[0, 2]) == ((36313 * c) ^ (27191 * b)) % 30
    assert int(model.trigram.rows(ids)[0, 2]) == ((73856 * c) ^ (19349 * b) ^ (83492 * a)) % 28


HASHERS = built("model.bigram_buckets=31", "model.trigram_buckets=29")


def test_value_embeddings_of_zero_are_no_value_embeddings():
    """With a table of zeros the logits are those of the model without it."""
    with_values, without = built("model.value_embed_width=8", trained=False), built(trained=False)
    for model in (with_values, without):
        with torch.no_grad():
            for block in model.blocks:
                block.attn.proj.weight.fill_(0.01)
    common = {k: v for k, v in without.state_dict().items()}
    with_values.load_state_dict(common, strict=False)
    ids = some_ids()
    assert not torch.equal(logits_of(with_values, ids), logits_of(without, ids))
    with torch.no_grad():
        with_values.ve_shared.embed.weight.zero_()
    assert torch.equal(logits_of(with_values, ids), logits_of(without, ids))


def test_value_residual_of_own_values_alone_is_off():
    """lambda = (0, 1) gives the logits of the model without it, and the first layer has no lambda."""
    mixed, plain = built("model.value_residual=true"), built()
    plain.load_state_dict({k: v for k, v in mixed.state_dict().items() if "vr_lambda" not in k})
    ids = some_ids()
    assert not torch.equal(logits_of(mixed, ids), logits_of(plain, ids))
    with torch.no_grad():
        for block in mixed.blocks[1:]:
            block.attn.vr_lambda.weight.copy_(torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(logits_of(mixed, ids), logits_of(plain, ids))
    assert mixed.blocks[0].attn.vr_lambda is None


@pytest.mark.parametrize("form", ["dense", "qwen", "out", "sparse"])
def test_an_open_gate_is_no_gate(form):
    """The out gate is open at its start, the dense one with a large bias; half open gates halve the heads."""
    model = built(f"model.attn_gate={form}", trained=False)
    gate = model.blocks[0].attn.attn_gate
    y = torch.randn(2, 5, 4, 12, generator=torch.Generator().manual_seed(0))
    n = torch.randn(2, 5, 48, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        gated = gate(y, n)
        if form == "out":
            assert torch.equal(gated, y)
        elif form == "dense":
            torch.testing.assert_close(gated, y * torch.sigmoid(torch.tensor(4.0)))
            gate.bias.fill_(200.0)
            assert torch.equal(gate(y, n), y)
        else:
            torch.testing.assert_close(gated, y / 2, rtol=0.05, atol=0.0)


def test_exclusive_attention_says_nothing_of_the_own_value():
    """No head has a part along its token's value; twice is once; the first position is zero; no value, no change."""
    generator = torch.Generator().manual_seed(0)
    q, v = torch.randn(2, 7, 4, 8, generator=generator), torch.randn(2, 7, 2, 8, generator=generator)
    k = torch.randn(2, 7, 2, 8, generator=generator)
    v[1, 3] = 0
    y = causal_attention(q, k, v)
    out = without_own_value(y, v)
    own = v.repeat_interleave(2, dim=2)
    assert float((out * own).sum(-1).abs().max()) < 1e-5
    torch.testing.assert_close(without_own_value(out, v), out)
    assert float(out[:, 0].abs().max()) < 1e-5
    assert torch.equal(out[1, 3], y[1, 3])


@pytest.mark.parametrize(("share", "owners"), [("all", [0, 0, 0, 0, 0, 0]), ("2", [0, 1, 2, 3, 2, 3])])
def test_shared_projections_are_one_tensor(share, owners):
    """Only owners have c_k and c_v; their gradient is the sum over untied copies; saving and loading keeps the tie."""
    tied = built(f"model.kv_share={share}")
    assert [tied.config.kv_owner(layer) for layer in range(6)] == owners
    held = {int(name.split(".")[1]) for name in tied.state_dict() if ".c_k." in name}
    assert held == set(owners)
    untied = built()
    copies = dict(tied.state_dict())
    for layer, owner in enumerate(owners):
        for part in ("c_k", "c_v"):
            copies[f"blocks.{layer}.attn.{part}.weight"] = tied.state_dict()[f"blocks.{owner}.attn.{part}.weight"]
    untied.load_state_dict(copies)
    ids = some_ids()
    torch.testing.assert_close(logits_of(tied, ids), logits_of(untied, ids))
    for model in (tied, untied):
        model(ids, ids.roll(1, -1)).backward()
    for part in ("c_k", "c_v"):
        for owner in set(owners):
            users = [layer for layer, o in enumerate(owners) if o == owner]
            total = sum(getattr(untied.blocks[layer].attn, part).weight.grad for layer in users)
            torch.testing.assert_close(getattr(tied.blocks[owner].attn, part).weight.grad, total, rtol=1e-3, atol=1e-6)
    again = built(f"model.kv_share={share}", seed=9)
    again.load_state_dict(tied.state_dict())
    assert torch.equal(logits_of(again, ids), logits_of(tied, ids))


def test_overtone_gives_the_embedding_a_power_law():
    """Singular values are S_1 / sqrt(k)."""
    model = torch.nn.Module()
    model.tok_emb = torch.nn.Embedding(64, 32)
    with torch.no_grad():
        model.tok_emb.weight.normal_(0, 0.005, generator=torch.Generator().manual_seed(0))
        overtone_spectrum(model, torch.Generator())
    s = torch.linalg.svdvals(model.tok_emb.weight.detach())
    torch.testing.assert_close(s / s[0], torch.arange(1, 33).float() ** -0.5, rtol=1e-4, atol=1e-4)


def test_phase_mix_and_orthogonal_start():
    """resid_mix starts at sigmoid(3 (l/(L-1) - 1/2)) and its complement; matrices of 64 and more start orthogonal."""
    model = built("model.resid_mix_init=phase", "model.matrix_init=orthogonal", "model.width=64", trained=False)
    for layer, block in enumerate(model.blocks):
        p = 1 / (1 + math.exp(-3 * (layer / 5 - 0.5)))
        torch.testing.assert_close(block.resid_mix[0], torch.full((64,), p))
        torch.testing.assert_close(block.resid_mix.sum(0), torch.ones(64))
        q = block.attn.c_q.weight
        torch.testing.assert_close(q @ q.T, torch.eye(64), rtol=1e-4, atol=1e-4)
        assert not block.mlp.proj.weight.any()


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2), (8, 1)])
def test_attention_by_all_ways_is_the_same(heads, kv_heads):
    """Explicit blocks, the library with grouped heads, and the library with repeated heads agree, gradients too."""
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(2, 37, heads, 8, generator=generator, requires_grad=True)
    k, v = (torch.randn(2, 37, kv_heads, 8, generator=generator, requires_grad=True) for _ in range(2))
    repeated = library_attention(q, *(x.repeat_interleave(heads // kv_heads, dim=2) for x in (k, v)))
    for other in (causal_attention(q, k, v), library_attention(q, k, v), flash_attention(q, k, v)):
        torch.testing.assert_close(other, repeated)
        for mine, theirs in zip(
            torch.autograd.grad(other.square().sum(), (q, k, v), retain_graph=True),
            torch.autograd.grad(repeated.square().sum(), (q, k, v), retain_graph=True),
            strict=True,
        ):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_flash_attention_is_left_where_it_cannot_run():
    """On a CPU flash attention is the explicit attention, bit for bit, installed or not."""
    q, k, v = torch.randn(3, 1, 33, 2, 8, generator=torch.Generator().manual_seed(0)).unbind(0)
    assert not flash_usable(q)
    assert torch.equal(flash_attention(q, k, v), causal_attention(q, k, v))


@pytest.mark.skipif(flash_attn_func is None or not torch.cuda.is_available(), reason="needs FlashAttention and a GPU")
def test_flash_attention_agrees_with_the_library():
    """In bf16 on a Hopper its output is the library's to bf16's precision."""
    q = torch.randn(2, 128, 8, 64, device="cuda", dtype=torch.bfloat16)
    k, v = (torch.randn(2, 128, 4, 64, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    torch.testing.assert_close(flash_attention(q, k, v), library_attention(q, k, v), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        (["model.rope_static_base=41832", "model.rope_ref_len=1024"], ["rope_static_base", "rope_ref_len"]),
        (["model.kv_share=4"], ["kv_share=4", "layers=6"]),
        (["model.xsa_last_n=7"], ["xsa_last_n=7", "layers=6"]),
        (["model.rope_dims=14"], ["rope_dims=14", "heads"]),
        (["model.attn_gate_scale=0.5"], ["attn_gate_scale", "attn_gate='sparse'"]),
        (["quant.nibbles=true"], ["nibbles", "bits=8"]),
        (["quant.rounding=gptq"], ["rounding='gptq'", "calibration='none'"]),
        (["quant.calibration=self"], ["rounding='nearest'", "calibration='self'"]),
        (["ttt.kind=unscored"], ["ttt.kind='unscored'", "diagnostic_only"]),
        (["ttt.kind=chunk", "ttt.freeze_blocks=7"], ["freeze_blocks=7", "layers=6"]),
        (["quant.edge_layers=3"], ["edge_layers=3", "layers=6"]),
        (["model.xsa_all=true"], ["xsa_last_n", "kv_share"]),
        (["model.kv_share=some"], ["kv_share='some'", "none, all"]),
        (["qat.kind=swap", "qat.start=scale"], ["qat.at=0.0", "schedule.min_scale=0.0"]),
        (["average.kind=swa", "schedule.min_scale=0.2"], ["average.swa_below=0.2", "schedule.min_scale=0.2"]),
        (
            ["quant.prune_fraction=0.03", "quant.rounding=gptq", "quant.calibration=self"],
            ["quant.prune_fraction=0.03", "quant.rounding='gptq'"],
        ),
        (["model.mlp_ratio=0.001"], ["model.mlp_ratio=0.001", "model.width=48"]),
    ],
    ids=[
        *("ntk", "kv_share", "xsa", "rope_dims", "gate_scale", "nibbles", "gptq", "calibration"),
        *("unscored", "freeze", "edges", "word_xsa", "kv_word", "qat_never", "swa_never", "prune_gptq", "mlp"),
    ],
)
def test_contradictions_are_refused_with_both_names(overrides, names):
    """Switches that contradict each other never make a config; the message holds both of them."""
    with pytest.raises(ConfigError) as refused:
        config_of(*overrides)
    assert [name for name in names if name not in str(refused.value)] == []


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        (["qat.kind=swap", "qat.tensors=matrices"], ["qat.tensors='matrices'", "quant.keep_numel=65536"]),
        (["quant.nibbles=true", "quant.table_bits=4", "quant.keep_numel=64"], ["quant.nibbles=true"]),
        (["quant.keep_fp16=blocks.1.attn.ck"], ["'blocks.1.attn.ck'", "blocks.0.attn.c_k.weight"]),
    ],
    ids=["qat", "nibbles", "keep_fp16"],
)
def test_a_switch_that_would_do_nothing_is_refused_by_the_plan(overrides, names):
    """Training for a rounding that no tensor has, packing codes that do not exist, keeping a tensor that is not there:
    the plan says so instead of a log that misleads."""
    with pytest.raises(ConfigError) as refused:
        take_inventory(config_of(*overrides))
    assert [name for name in names if name not in str(refused.value)] == []


def test_the_librarys_attention_needs_no_grouped_heads():
    """With `enable_gqa` off and key heads repeated, torch's kernel gives what it gives with it on."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 33, heads, 8, generator=generator) for heads in (6, 2, 2))
    repeated = (x.repeat_interleave(3, dim=2).transpose(1, 2) for x in (k, v))
    off = F.scaled_dot_product_attention(q.transpose(1, 2), *repeated, is_causal=True, enable_gqa=False, scale=1.0)
    torch.testing.assert_close(library_attention(q, k, v), off.transpose(1, 2))
    torch.testing.assert_close(causal_attention(q, k, v), off.transpose(1, 2))
