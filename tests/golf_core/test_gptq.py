"""GPTQ: what is known of its codes without running a model."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from golf_core.config import Config
from golf_core.config_quant import QuantConfig
from golf_core.parts import load_parts
from golf_core.quant.gptq import gptq_codes
from golf_core.quant.grid import Grid
from golf_core.quant.rows import Quantizer, restore_tensor

SEEDS = st.integers(0, 10_000)
SIZES = st.sampled_from([1, 7, 128, 150, 300])
BITS = st.sampled_from([4, 5, 6, 8])


def problem(seed: int, rows: int, columns: int, bits: int):
    """Weights, the second moments of correlated inputs, a grid and its scales."""
    generator = torch.Generator().manual_seed(seed)
    weight = 0.05 * torch.randn(rows, columns, generator=generator)
    mix = torch.randn(columns, columns, generator=generator) / columns**0.5
    spread = 0.2 + torch.rand(columns, generator=generator)
    x = torch.randn(4 * columns + 8, columns, generator=generator) @ (mix + 0.3 * torch.eye(columns)) * spread
    grid = Grid(bits)
    return weight, x.T @ x, grid, grid.scales(weight.abs().amax(dim=1))


@given(SEEDS, SIZES, BITS, st.floats(1e-3, 1e6))
@settings(max_examples=40, deadline=None)
def test_uncorrelated_inputs_mean_rounding_to_nearest(seed, columns, bits, size):
    """With a Hessian that is a multiple of the identity the codes are those of plain rounding."""
    weight, _, grid, scale = problem(seed, 9, columns, bits)
    codes = gptq_codes(weight, size * torch.eye(columns), scale, grid, 0.01)
    assert torch.equal(codes, grid.quantize(weight, scale))


@given(SEEDS, st.sampled_from([64, 150, 300]), st.sampled_from([4, 5, 6]))
@settings(max_examples=25, deadline=None)
def test_the_weighted_error_falls(seed, columns, bits):
    """tr(E H E^T) is below rounding to nearest's for correlated inputs; codes stay on the grid."""
    weight, hessian, grid, scale = problem(seed, 40, columns, bits)
    codes = gptq_codes(weight, hessian, scale, grid, 0.01)
    assert codes.dtype == torch.int8 and codes.shape == weight.shape and codes.is_contiguous()
    assert codes.abs().max() <= grid.top

    def error(c):
        e = (grid.dequantize(c, scale) - weight).double()
        return float(((e @ hessian.double()) * e).sum())

    assert error(codes) < error(grid.quantize(weight, scale))


@given(SEEDS, st.sampled_from([2, 60, 140]))
@settings(max_examples=25, deadline=None)
def test_the_order_of_columns_does_not_matter(seed, columns):
    """Permuting columns and Hessian together permutes the codes: the diagonal alone decides the order."""
    weight, hessian, grid, scale = problem(seed, 12, columns, 5)
    order = torch.randperm(columns, generator=torch.Generator().manual_seed(seed + 1))
    codes = gptq_codes(weight, hessian, scale, grid, 0.01)
    permuted = gptq_codes(weight[:, order], hessian[order][:, order], scale, grid, 0.01)
    assert torch.equal(permuted, codes[:, order])


@given(SEEDS, st.integers(2, 140), st.data())
@settings(max_examples=25, deadline=None)
def test_columns_without_inputs_become_zero(seed, columns, data):
    """A dead column's codes are zero, and the others are as if it were not there, but for the damping."""
    weight, hessian, grid, scale = problem(seed, 12, columns, 6)
    dead = data.draw(st.integers(0, columns - 1))
    hessian[dead] = hessian[:, dead] = 0
    codes = gptq_codes(weight, hessian, scale, grid, 1e-9)
    assert not codes[:, dead].any()
    alive = torch.arange(columns) != dead
    rest = gptq_codes(weight[:, alive], hessian[alive][:, alive], scale, grid, 1e-9)
    assert (codes[:, alive] != rest).float().mean() < 0.02  # the damping's last bits may tip one over


def test_no_input_at_all_is_no_weight():
    """A layer that never saw an input other than zero becomes zero, and rows without scale do too."""
    weight, hessian, grid, scale = problem(0, 4, 20, 6)
    assert not gptq_codes(weight, torch.zeros_like(hessian), scale, grid, 0.01).any()
    assert not gptq_codes(weight, hessian, torch.zeros_like(scale), grid, 0.01).any()


def test_moments_that_rounding_made_negative_are_damped_more():
    """A Hessian that is not quite positive still gives codes; one of NaN is refused with a reason."""
    weight, hessian, grid, scale = problem(0, 4, 20, 6)
    direction = torch.randn(20, generator=torch.Generator().manual_seed(1))
    crooked = hessian - 0.2 * hessian.diagonal().mean() * torch.outer(direction, direction) / direction.square().sum()
    crooked = crooked - torch.linalg.eigvalsh(hessian)[0] * torch.eye(20)
    assert torch.linalg.eigvalsh(crooked)[0] < 0
    assert gptq_codes(weight, crooked, scale, grid, 0.01).abs().max() <= grid.top
    with pytest.raises(ValueError, match="no Cholesky factor"):
        gptq_codes(weight, hessian * torch.nan, scale, grid, 0.01)


class PrecisionOfProducts(TorchDispatchMode):
    """Records whether fp32 products may be cut to TF32 while matrices are multiplied."""

    def __init__(self) -> None:
        super().__init__()
        self.tf32: list[bool] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.mm.default and args[0].dtype == torch.float32:
            self.tf32.append(torch.backends.cuda.matmul.allow_tf32)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("tf32", [True, False])
def test_losses_are_made_up_for_without_tf32(tf32):
    """Where training lets products be cut to TF32, those of the compensation are not, and afterwards, even after an
    error in one, training's setting is back."""
    weight, hessian, grid, scale = problem(1, 5, 300, 6)
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    try:
        with PrecisionOfProducts() as products:
            gptq_codes(weight, hessian, scale, grid, 0.01)
        assert products.tf32 == [False] * 3  # a block each
        assert torch.backends.cuda.matmul.allow_tf32 == tf32
        with pytest.MonkeyPatch.context() as patch, pytest.raises(RuntimeError):
            patch.setattr(torch.Tensor, "__matmul__", lambda *_: (_ for _ in ()).throw(RuntimeError("out of memory")))
            gptq_codes(weight, hessian, scale, grid, 0.01)
        assert torch.backends.cuda.matmul.allow_tf32 == tf32
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


@pytest.mark.parametrize("clip", ["quantile", "max", "percentile_search", "ratio_search", "sd"])
def test_export_rounds_by_hessian_where_there_is_one(clip):
    """The scale is the clip rule's with or without a Hessian; tensors without one are rounded to nearest."""
    quant = QuantConfig(
        keep_numel=0, attn_bits=5, clip=clip, sd_matrix=3.0, rounding="gptq", calibration="self", calibration_seqs=1
    )
    q = Quantizer(quant, 2, load_parts(Config(name="x", quant=quant)))
    weight, hessian, _, _ = problem(3, 30, 64, 5)
    name, other = "blocks.0.attn.c_q.weight", "blocks.0.attn.c_k.weight"
    plain = q.export({name: weight, other: weight})
    stored = q.export({name: weight, other: weight}, {name: hessian})
    assert torch.equal(stored[name].scale, plain[name].scale)
    assert not torch.equal(stored[name].codes, plain[name].codes)
    assert torch.equal(restore_tensor(stored[other]), q.fake(other, weight))
