"""Muon, the schedule and the average: properties that their formulas promise."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from golf_core.config import AverageConfig, OptimConfig, ScheduleConfig, TrainConfig
from golf_core.optim.adam import Adam
from golf_core.optim.ema import Ema
from golf_core.optim.gradients import FlatGradients
from golf_core.optim.groups import Optimizers
from golf_core.optim.muon import Muon
from golf_core.optim.newton_schulz import orthogonalize
from golf_core.optim.schedule import lr_scale


def matrix(shape, sigma) -> torch.Tensor:
    """A matrix with these singular values. (A random square one has some near 0, which 5 steps cannot lift.)"""
    generator = torch.Generator().manual_seed(0)
    u, _ = torch.linalg.qr(torch.randn(shape[0], len(sigma), generator=generator))
    v, _ = torch.linalg.qr(torch.randn(shape[1], len(sigma), generator=generator))
    return u * sigma @ v.T


@pytest.mark.parametrize("shape", [(64, 64), (96, 32), (32, 96)], ids=["square", "tall", "wide"])
def test_singular_values_gather_near_one(shape):
    """Newton-Schulz lifts every singular value into a band around 1."""
    spread = torch.linspace(0.1, 1.0, min(shape))
    sigma = torch.linalg.svdvals(orthogonalize(matrix(shape, spread), 5, torch.float32))
    assert sigma.min() > 0.5
    assert sigma.max() < 1.3


def test_a_transpose_goes_straight_through():
    """NS(G^T) = NS(G)^T."""
    g = matrix((48, 20), torch.linspace(0.2, 1.0, 20))
    torch.testing.assert_close(orthogonalize(g.T, 5, torch.float32), orthogonalize(g, 5, torch.float32).T)


def test_scale_of_the_gradient_does_not_matter():
    """NS(kG) = NS(G), and NS(0) = 0."""
    g = matrix((20, 20), torch.linspace(0.2, 1.0, 20))
    torch.testing.assert_close(
        orthogonalize(1000 * g, 5, torch.float32), orthogonalize(g, 5, torch.float32), rtol=1e-3, atol=1e-4
    )
    assert not orthogonalize(torch.zeros(8, 8), 5).any()


def test_the_gradient_is_left_as_it_is():
    """A gradient that already has Newton-Schulz's dtype is not normalised in place."""
    g = matrix((16, 16), torch.linspace(0.2, 1.0, 16)).bfloat16()
    before = g.clone()
    orthogonalize(g, 5, torch.bfloat16)
    assert torch.equal(g, before)


def test_vectors_are_refused():
    """Muon is for matrices; a vector is an error, not a guess."""
    with pytest.raises(ValueError, match="matrices"):
        orthogonalize(torch.ones(8), 5)
    with pytest.raises(ValueError, match="matrices"):
        Muon([torch.ones(8)], decay=0.0, newton_schulz_steps=5, dtype=torch.float32, rank=0, world=1)


def test_a_muon_step_is_its_formula():
    """W <- W (1 - lr wd) - lr sqrt(max(1, r/c)) NS(g + mu m), with m <- mu m + g."""
    g = matrix((24, 12), torch.linspace(0.2, 1.0, 12))
    start = torch.randn(24, 12, generator=torch.Generator().manual_seed(1))
    p = torch.nn.Parameter(start.clone())
    p.grad = g.clone()
    muon = Muon([p], decay=0.1, newton_schulz_steps=5, dtype=torch.float32, rank=0, world=1)
    muon.step(lr=0.02, momentum=0.9)
    expected = start * (1 - 0.02 * 0.1) - 0.02 * 2**0.5 * orthogonalize(g + 0.9 * g, 5, torch.float32)
    torch.testing.assert_close(p.detach(), expected)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adam_is_the_librarys(decay):
    """Over some steps with a changing rate, parameters are those of torch.optim.AdamW; after a reset it starts anew."""
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(5, 3, generator=generator), torch.randn(4, generator=generator)]
    ours, theirs = ([torch.nn.Parameter(t.clone()) for t in start] for _ in range(2))
    adam = Adam([(ours[:1], 0.1), (ours[1:], 0.01)], beta1=0.9, beta2=0.95, eps=1e-8, decay=decay)
    for p in ours:
        p.grad = torch.randn(p.shape, generator=generator)
    adam.step(0.7)
    adam.reset()
    with torch.no_grad():
        for p, t in zip(ours, start, strict=True):
            p.copy_(t)
    groups = [{"params": theirs[:1], "lr": 0.1}, {"params": theirs[1:], "lr": 0.01}]
    library = torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-8, weight_decay=decay)
    for scale in (1.0, 1.0, 0.5, 0.1):
        for p, q in zip(ours, theirs, strict=True):
            p.grad = torch.randn(p.shape, generator=generator)
            q.grad = p.grad.clone()
        for group, lr in zip(library.param_groups, (0.1, 0.01), strict=True):
            group["lr"] = lr * scale
        adam.step(scale)
        library.step()
        for p, q in zip(ours, theirs, strict=True):
            torch.testing.assert_close(p, q)


def test_momentum_warms_up_linearly():
    """Muon's momentum goes from its start to its value over its steps, and stays."""
    config = OptimConfig(momentum_start=0.8, momentum=0.9, momentum_steps=10)
    model = torch.nn.Module()
    model.tok_emb = torch.nn.Embedding(4, 4)
    model.fc = torch.nn.Linear(4, 4)
    momentum = Optimizers(model, config, Muon, 0, 1).momentum
    assert [momentum(s) for s in (0, 5, 10, 99)] == pytest.approx([0.8, 0.85, 0.9, 0.9])


CAPPED = TrainConfig(max_seconds=600.0)
STEPPED = TrainConfig(iterations=1000, max_seconds=None)


@given(st.floats(0, 700), st.floats(0, 700), st.floats(0.05, 1), st.floats(0, 1))
def test_the_fraction_schedule_falls_with_the_clock(a, b, fraction, floor):
    """Under a cap the multiplier never rises with time, is 1 before the warmdown and the floor at the cap."""
    schedule = ScheduleConfig(kind="fraction", warmdown_fraction=fraction, min_scale=floor)
    early, late = sorted((a, b))
    assert lr_scale(schedule, CAPPED, 10, early) >= lr_scale(schedule, CAPPED, 99, late)
    assert lr_scale(schedule, CAPPED, 0, 600 * (1 - fraction) * 0.999) == 1
    assert lr_scale(schedule, CAPPED, 5, 600.0) == floor


def test_schedules_without_a_cap_count_steps():
    """Both kinds are a function of the step alone where there is no time cap."""
    fraction = ScheduleConfig(kind="fraction", warmdown_fraction=0.5)
    iterations = ScheduleConfig(kind="iterations", warmdown_iterations=500)
    for schedule in (fraction, iterations):
        assert [lr_scale(schedule, STEPPED, s, 1e9) for s in (0, 500, 750, 1000)] == pytest.approx([1, 1, 0.5, 0])


def test_what_runs_out_first_decides():
    """Under a cap that the steps do not reach, the warmdown follows the steps."""
    train = TrainConfig(iterations=1000, max_seconds=600.0)
    assert lr_scale(ScheduleConfig(kind="fraction", warmdown_fraction=0.5), train, 900, 9.0) == pytest.approx(0.2)
    assert lr_scale(ScheduleConfig(warmdown_iterations=200), train, 900, 9.0) == pytest.approx(0.5)


def test_the_iteration_warmdown_is_as_long_as_its_steps_take():
    """Under a cap the last `warmdown_iterations` steps at the average rate so far are the warmdown."""
    schedule = ScheduleConfig(kind="iterations", warmdown_iterations=1200)
    assert lr_scale(schedule, CAPPED, 10_000, 500.0) == 1  # 50 ms a step: 60 s of warmdown, 100 s left
    assert lr_scale(schedule, CAPPED, 11_400, 570.0) == pytest.approx(0.5)


@given(st.integers(0, 60), st.floats(0.5, 0.999))
def test_the_average_forgets_its_start_geometrically(steps, decay):
    """With constant weights w, after n steps from e0 the average is w + decay^n (e0 - w)."""
    model = torch.nn.Linear(3, 2, bias=False)
    start = model.weight.detach().clone()
    ema = Ema(model, AverageConfig(kind="ema", decay=decay))
    with torch.no_grad():
        model.weight.fill_(2.0)
    for _ in range(steps):
        ema.update(1, 1.0, 0.5)
    ema.apply()
    torch.testing.assert_close(model.weight.detach(), 2.0 + decay**steps * (start - 2.0), rtol=1e-4, atol=1e-5)


def test_clipping_bounds_the_global_norm_and_0_is_off():
    """Gradients above the limit are scaled to it together; below it, or with 0, they stay."""
    params = [torch.nn.Parameter(torch.zeros(3)), torch.nn.Parameter(torch.zeros(2, 2))]
    gradients = FlatGradients(params)
    for limit, expected in ((0.0, 14.0), (100.0, 14.0), (7.0, 7.0)):
        params[0].grad.fill_(0.0)
        params[1].grad.fill_(7.0)
        gradients.clip(limit)
        assert float(torch.linalg.vector_norm(gradients.buffer[:-1])) == pytest.approx(expected, rel=1e-4)
