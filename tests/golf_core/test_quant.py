"""Grids, clip rules and routes: what is stored is what was rounded, bit for bit."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from golf_core.config import Config
from golf_core.config_quant import QuantConfig
from golf_core.model.gpt import GPT
from golf_core.parts import load_parts
from golf_core.quant.clip import max_clip, sd_clip
from golf_core.quant.clip_search import percentile_search_clip, ratio_search_clip
from golf_core.quant.grid import Grid, config_grid
from golf_core.quant.prune import zero_smallest
from golf_core.quant.row_quantile import row_quantiles
from golf_core.quant.rows import FP16_MAX, Quantizer, StoredTensor, restore_state, restore_tensor
from golf_core.routes import tensor_route

BITS = st.sampled_from([4, 5, 6, 7, 8])
GRIDS = st.builds(Grid, BITS, st.booleans(), st.integers(1, 9))
CLIPS = ("quantile", "max", "percentile_search", "ratio_search", "sd")
SEEDS = st.integers(0, 1000)
SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 70))


def weights(seed: int, rows: int, columns: int, spread: float = 0.05) -> torch.Tensor:
    """Normal weights, rows of different spread, one of them zero now and then."""
    generator = torch.Generator().manual_seed(seed)
    w = spread * torch.randn(rows, columns, generator=generator) * (0.2 + torch.rand(rows, 1, generator=generator))
    if seed % 3 == 0:
        w[seed % rows] = 0
    return w


def quantizer(**fields) -> Quantizer:
    config = Config(name="x", quant=QuantConfig(keep_numel=0, **fields))
    return Quantizer(config.quant, config.model.layers, load_parts(config))


def square_error(w: torch.Tensor, clip_M: torch.Tensor, grid: Grid) -> torch.Tensor:
    return (grid.fake_quantize(w, grid.scales(clip_M)) - w).double().square().sum(dim=1)


@given(GRIDS, SEEDS, SHAPES, st.floats(1e-6, 100))
def test_rounding_for_training_is_rounding_for_export(grid, seed, shape, spread):
    """fake_quantize(w) is dequantize(quantize(w)) bit for bit, codes stay on the grid, errors within half a step."""
    w = weights(seed, *shape, spread)
    scale = grid.scales(w.abs().amax(dim=1))
    codes = grid.quantize(w, scale)
    assert codes.min() >= grid.bottom and codes.max() <= grid.top
    back = grid.dequantize(codes, scale)
    assert torch.equal(grid.fake_quantize(w, scale), back)
    # fp16 rounding of the scale may put the largest weight a little beyond the last level.
    slack = 0.5 * grid.row_scales(scale, len(w))[:, 0] + w.abs().amax(1) * 2**-10 + grid.top * 2.0**-25
    assert ((back - w).abs().amax(1) <= slack).all()


@given(st.sampled_from(CLIPS), BITS, st.booleans(), st.sampled_from([1, 3, 8]), SEEDS, SHAPES)
@settings(max_examples=150)
def test_fake_is_what_export_restores_under_every_clip_rule(clip, bits, symmetric, group, seed, shape):
    """For every rule, with and without pruning, the value for training equals the restored one bit for bit."""
    for prune in (0.0, 0.1):
        q = quantizer(
            mlp_bits=bits, symmetric=symmetric, group_rows=group, clip=clip, prune_fraction=prune, sd_matrix=3.0
        )
        name, w = "blocks.0.mlp.fc.weight", weights(seed, *shape)
        stored = q.export({name: w})[name]
        assert torch.equal(restore_tensor(stored), q.fake(name, w))
        assert stored.scale.dtype == torch.float16 and len(stored.scale) == -(-shape[0] // group)
        assert stored.codes.min() >= config_grid(bits, q.quant).bottom


@given(BITS, SEEDS)
def test_what_is_on_the_grid_stays(bits, seed):
    """Quantizing dequantized weights again gives the same codes."""
    grid, w = Grid(bits), weights(seed, 4, 16)
    scale = grid.scales(w.abs().amax(dim=1))
    codes = grid.quantize(w, scale)
    assert torch.equal(grid.quantize(grid.dequantize(codes, scale), scale), codes)


@pytest.mark.parametrize("bits", [4, 5, 6, 8])
def test_the_level_below_is_reached_only_under_the_maximum(bits):
    """With the row's maximum as clip no code of an asymmetric grid leaves the symmetric one; with half of it -(top+1)
    comes up, and never less."""
    grid, w = Grid(bits, symmetric=False), weights(1, 2000, 32)
    largest = w.abs().amax(dim=1)
    assert grid.quantize(w, grid.scales(largest)).min() >= -grid.top
    assert grid.quantize(w, grid.scales(0.5 * largest)).min() == -grid.top - 1
    assert Grid(bits).quantize(w, Grid(bits).scales(0.5 * largest)).min() == -grid.top


def test_rows_of_nothing_become_nothing():
    """A row of zeros, or of weights below fp16's smallest scale, comes back as zeros under every rule, not as NaN."""
    w = torch.zeros(3, 8)
    w[1] = 1e-12
    for clip in CLIPS:
        for group in (1, 2):
            assert not quantizer(clip=clip, group_rows=group).fake("tok_emb.weight", w).any()


def test_more_bits_err_less():
    """The error falls with every bit."""
    w = weights(0, 64, 64)
    errors = [float(square_error(w, w.abs().amax(1), Grid(b)).sum()) for b in (4, 5, 6, 7, 8)]
    assert errors == sorted(errors, reverse=True)


def test_the_old_floor_ruins_small_weights():
    """With the early scripts' floor, scale >= 1/top, rows of spread 0.05 lose most of what int4 keeps without it."""
    w = 0.05 * torch.randn(64, 512, generator=torch.Generator().manual_seed(0))
    lost = {}
    for legacy in (False, True):
        q = quantizer(clip="max", mlp_bits=4, legacy_scale_floor=legacy)
        stored = q.round("blocks.0.mlp.fc.weight", w)
        lost[legacy] = float((restore_tensor(stored) - w).norm() / w.norm())
    assert stored.scale.min() >= 0.99 / 7
    assert lost[False] < 0.2 and lost[True] > 0.7


@given(SEEDS, st.integers(1, 20), st.integers(1, 900), st.lists(st.floats(0.51, 1.0), min_size=1, max_size=4))
def test_quantiles_without_sorting_are_quantiles(seed, rows, columns, quantiles):
    """Every quantile equals torch.quantile's bit for bit, alone and together with others."""
    magnitude = weights(seed, rows, columns).abs()
    for qs in (tuple(quantiles), (0.9999984,), (0.999, 0.9995, 0.9999, 0.99999, 1.0)):
        for q, found in zip(qs, row_quantiles(magnitude, qs), strict=True):
            assert torch.equal(found, torch.quantile(magnitude, q, dim=1))


def test_a_quantile_of_what_is_no_number_is_none():
    """NaN in a row makes its quantile NaN, as torch.quantile has it."""
    magnitude = weights(1, 3, 2000).abs()
    magnitude[1, 7] = torch.nan
    (found,) = row_quantiles(magnitude, (0.999,))
    assert found.isnan().tolist() == [False, True, False]


@given(st.sampled_from([percentile_search_clip, ratio_search_clip]), GRIDS, SEEDS, SHAPES)
@settings(max_examples=150)
def test_the_finer_a_clip_is_chosen_the_less_it_errs(rule, grid, seed, shape):
    """Squared error: chosen by row <= chosen by matrix <= the rows' maxima; by row no single scale's error is more."""
    w = weights(seed, *shape)
    by_row, by_matrix = (
        square_error(w, rule(w, grid, QuantConfig(clip_select=select), "mlp"), grid) for select in ("row", "matrix")
    )
    maximum = square_error(w, w.abs().amax(dim=1), grid)
    assert by_row.sum() <= by_matrix.sum() * (1 + 1e-6)
    assert by_matrix.sum() <= maximum.sum() * (1 + 1e-6)
    rows_of = grid.by_group(by_row.float()).sum(dim=1)
    assert (rows_of <= grid.by_group(maximum.float()).sum(dim=1) * (1 + 1e-5)).all()


def test_outliers_are_worth_clipping():
    """One large weight in a row of int4 makes both searches choose less than the maximum."""
    w = weights(1, 8, 2048)
    w[:, 0] = 8 * w.abs().amax(dim=1)
    for rule, fields in ((percentile_search_clip, {}), (ratio_search_clip, {})):
        clip = rule(w, Grid(4), QuantConfig(**fields), "mlp")
        assert (clip < w.abs().amax(dim=1)).all()


@given(SEEDS, SHAPES)
def test_a_clip_in_standard_deviations(seed, shape):
    """The rule is k times the row's standard deviation, with the embedding's own k; rows of one column have none."""
    w = weights(seed, *shape)
    quant = QuantConfig(sd_matrix=12.85, sd_embed=20.0)
    std = w.std(dim=1) if shape[1] > 1 else torch.zeros(shape[0])
    torch.testing.assert_close(sd_clip(w, Grid(6), quant, "attn"), 12.85 * std)
    torch.testing.assert_close(sd_clip(w, Grid(8), quant, "embed"), 20.0 * std)


@given(st.integers(1, 9), BITS, SEEDS, SHAPES)
def test_rows_that_share_a_scale(group, bits, seed, shape):
    """A shared scale is the largest of its rows' own, whatever number of rows is left for the last group."""
    w = weights(seed, *shape)
    clip = max_clip(w, Grid(bits), QuantConfig(), "mlp")
    own, shared = Grid(bits).scales(clip), Grid(bits, group_rows=group).scales(clip)
    each = Grid(bits, group_rows=group).row_scales(shared, shape[0])[:, 0]
    assert len(each) == shape[0]
    assert (each >= own.float()).all()
    for g, scale in enumerate(shared):
        assert scale == own[g * group : (g + 1) * group].max()


@given(SEEDS, SHAPES, st.floats(0, 0.99))
def test_pruning_takes_the_smallest(seed, shape, fraction):
    """Exactly that share becomes zero, none larger than what stays, and what stays is not changed."""
    w = torch.where(weights(seed, *shape) == 0, 1e-3, weights(seed, *shape))
    pruned = zero_smallest(w, fraction)
    gone = pruned == 0
    assert int(gone.sum()) == int(fraction * w.numel())
    assert torch.equal(pruned[~gone], w[~gone])
    if gone.any() and not gone.all():
        assert w[gone].abs().max() <= w[~gone].abs().min()


def test_pruning_among_equals_takes_the_first():
    """Ties are decided by their place, so that every process prunes the same."""
    w = torch.tensor([[1.0, -1.0, 2.0], [1.0, 1.0, 0.5]])
    assert zero_smallest(w, 0.5).tolist() == [[0, 0, 2], [1, 1, 0]]
    assert torch.equal(zero_smallest(w, 0.1), w)


def test_only_matrices_on_a_grid_are_pruned():
    """Attention and MLP are pruned before rounding; embedding, tables and fp16 tensors are not."""
    q = quantizer(prune_fraction=0.5, keep_fp16="blocks.1.")
    w = weights(1, 40, 40)
    zeros = {
        name: int((q.fake(name, w) == 0).sum())
        for name in ("blocks.0.attn.c_q.weight", "tok_emb.weight", "bigram.embed.weight", "blocks.1.mlp.fc.weight")
    }
    assert [count >= 800 for count in zeros.values()] == [True, False, False, False]


def test_fp16_tensors_stay_finite():
    """What is kept as fp16 is clamped to its range."""
    w = torch.tensor([[1e6, -1e6], [1.0, 1e-9]])
    back = quantizer(keep_fp16="tok_emb").fake("tok_emb.weight", w)
    assert back.tolist() == [[FP16_MAX, -FP16_MAX], [1.0, 0.0]]


@pytest.mark.parametrize(
    ("name", "shape", "route"),
    [
        ("blocks.0.attn.q_gain", (8,), ("fp32", 0)),
        ("blocks.0.resid_mix", (2, 512), ("fp32", 0)),
        ("skip_weights", (4, 512), ("fp32", 0)),
        ("blocks.0.attn.c_k.weight", (16, 16), ("fp16", 0)),
        ("blocks.1.attn.c_q.weight", (512, 512), ("grid", 6)),
        ("blocks.1.mlp.fc.weight", (1024, 512), ("grid", 5)),
        ("blocks.0.mlp.fc.weight", (1024, 512), ("grid", 7)),
        ("blocks.2.attn.c_q.weight", (512, 512), ("grid", 7)),
        ("bigram.embed.weight", (4096, 128), ("fp16", 0)),
        ("blocks.1.attn.c_v.weight", (512, 512), ("fp16", 0)),
        ("tok_emb.weight", (1024, 512), ("grid", 8)),
    ],
)
def test_every_tensor_has_its_route(name, shape, route):
    """Control tensors stay fp32, small and named ones become fp16, the rest goes on the grid of its role and layer."""
    quant = QuantConfig(
        attn_bits=6, mlp_bits=5, embed_bits=8, table_bits=16, edge_layers=1, edge_bits=7, keep_fp16="c_v, nothing"
    )
    assert dataclasses.astuple(tensor_route(name, shape, quant, layers=3)) == route


@pytest.mark.parametrize("clip", CLIPS)
def test_a_model_comes_back_close(clip):
    """A whole state dict keeps its names and shapes, exact where it is fp32, near where it is rounded."""
    config = Config(name="x", quant=QuantConfig(keep_numel=100, clip=clip, clip_select="matrix"))
    model_config = dataclasses.replace(config.model, vocab=300, layers=2, width=64, heads=4, kv_heads=2)
    parts = load_parts(config)
    model = GPT(model_config, parts)
    model.init_weights(torch.Generator().manual_seed(0))
    state = model.state_dict()
    back = restore_state(Quantizer(config.quant, 2, parts).export(state))
    assert list(back) == list(state)
    for name, tensor in state.items():
        assert back[name].shape == tensor.shape
        share = {"ratio_search": 5, "sd": 10}.get(clip, 50)
        torch.testing.assert_close(back[name], tensor, rtol=0, atol=float(tensor.abs().max()) / share + 1e-9)


class HostWaits(TorchDispatchMode):
    """Counts the numbers that are read from tensors: on a GPU the host waits for each."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("group", [1, 4])
@pytest.mark.parametrize("select", ["row", "matrix"])
@pytest.mark.parametrize("clip", ["max", "ratio_search", "sd"])
def test_no_clip_is_waited_for(clip, select, group):
    """Rounding reads no number from a tensor of the weight's device, so that a GPU's host runs ahead."""
    q, weight = quantizer(clip=clip, clip_select=select, group_rows=group), weights(1, 12, 40)
    with HostWaits() as waits:
        q.fake("blocks.0.attn.c_q.weight", weight)
    assert waits.count == 0
    with HostWaits() as waits:
        weight[weight.sum(dim=1).argmax()]
    assert waits.count == 1  # what the searches once did is seen


@pytest.mark.parametrize("hessian_on", [None, "cpu", "meta"])
def test_export_rounds_where_the_tensor_lies(monkeypatch, hessian_on):
    """A tensor is rounded on its own device, as in training, or on its Hessian's; what is stored is on the CPU."""
    seen = []

    def record(self, name, value, hessian=None):
        seen.append((name, value.device.type))
        return StoredTensor("fp32", tuple(value.shape), torch.zeros(value.shape))

    monkeypatch.setattr(Quantizer, "round", record)
    hessians = {} if hessian_on is None else {"a": torch.empty(3, 3, device=hessian_on)}
    state = {"a": torch.zeros(2, 3), "b": torch.empty(2, 3, device="meta")}
    stored = quantizer().export(state, hessians)
    assert seen == [("a", hessian_on or "cpu"), ("b", "meta")]
    assert all(s.codes.device.type == "cpu" for s in stored.values())
