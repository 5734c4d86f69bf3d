"""Grids and routes: what is stored is what was rounded, bit for bit."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from golf_core.config_model import ModelConfig
from golf_core.config_quant import QuantConfig
from golf_core.model.gpt import GPT
from golf_core.quant.grid import Grid
from golf_core.quant.rows import quantize_state, restore_state, row_clip, tensor_route

BITS = st.sampled_from([4, 5, 6, 7, 8])


def weights(seed: int, rows: int, columns: int, spread: float) -> torch.Tensor:
    return spread * torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


@given(BITS, st.integers(0, 1000), st.integers(1, 9), st.integers(1, 33), st.floats(1e-6, 100))
def test_rounding_for_training_is_rounding_for_export(bits, seed, rows, columns, spread):
    """fake_quantize(w) is dequantize(quantize(w)) bit for bit, codes stay on the grid, errors within half a step."""
    grid, w = Grid(bits), weights(seed, rows, columns, spread)
    scale = grid.scales(row_clip(w, 1.0), 1e-10)
    codes = grid.quantize(w, scale)
    assert codes.abs().max() <= grid.top
    back = grid.dequantize(codes, scale)
    assert torch.equal(grid.fake_quantize(w, scale), back)
    # fp16 rounding of the scale may put the largest weight a little beyond the last level.
    slack = 0.5 * scale.float() + w.abs().amax(1) * 2**-10 + grid.top * 2.0**-25
    assert ((back - w).abs().amax(1) <= slack).all()


@given(BITS, st.integers(0, 1000))
def test_what_is_on_the_grid_stays(bits, seed):
    """Quantizing dequantized weights again gives the same codes."""
    grid, w = Grid(bits), weights(seed, 4, 16, 0.05)
    scale = grid.scales(row_clip(w, 1.0), 1e-10)
    codes = grid.quantize(w, scale)
    assert torch.equal(grid.quantize(grid.dequantize(codes, scale), scale), codes)


def test_rows_of_nothing_become_nothing():
    """A row of zeros, or of weights below fp16's smallest scale, comes back as zeros and not as NaN."""
    w = torch.zeros(2, 8)
    w[1] = 1e-12
    grid = Grid(6)
    scale = grid.scales(row_clip(w, 1.0), 1e-10)
    assert not grid.fake_quantize(w, scale).any()


def test_more_bits_err_less():
    """The error falls with every bit."""
    w = weights(0, 64, 64, 0.05)
    errors = [
        float((Grid(b).fake_quantize(w, Grid(b).scales(row_clip(w, 1.0), 1e-10)) - w).square().mean())
        for b in (4, 5, 6, 7, 8)
    ]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize(
    ("name", "shape", "route"),
    [
        ("blocks.0.attn.q_gain", (8,), ("fp32", 0)),
        ("blocks.0.resid_mix", (2, 512), ("fp32", 0)),
        ("skip_weights", (4, 512), ("fp32", 0)),
        ("blocks.0.attn.c_k.weight", (16, 16), ("fp16", 0)),
        ("blocks.0.attn.c_q.weight", (512, 512), ("grid", 6)),
        ("tok_emb.weight", (1024, 512), ("grid", 8)),
    ],
)
def test_every_tensor_has_its_route(name, shape, route):
    """Control tensors stay fp32, small ones become fp16, matrices and the embedding go on their own grids."""
    assert tensor_route(name, torch.empty(shape, device="meta"), QuantConfig(matrix_bits=6, embed_bits=8)) == route


def test_a_model_comes_back_close():
    """A whole state dict keeps its names and shapes, exact where it is fp32, near where it is rounded."""
    model = GPT(ModelConfig(vocab=300, layers=2, width=64, heads=4, kv_heads=2))
    model.init_weights(torch.Generator().manual_seed(0))
    state = model.state_dict()
    back = restore_state(quantize_state(state, QuantConfig(keep_numel=100)))
    assert list(back) == list(state)
    for name, tensor in state.items():
        assert back[name].shape == tensor.shape
        torch.testing.assert_close(back[name], tensor, rtol=0, atol=float(tensor.abs().max()) / 200 + 1e-9)
