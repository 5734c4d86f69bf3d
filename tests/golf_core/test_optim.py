"""Muon, Adam, the groups and the schedule: properties that their formulas promise."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from golf_core.config import Config, OptimConfig, ScheduleConfig, TrainConfig
from golf_core.config_io import override
from golf_core.model.gpt import GPT
from golf_core.optim.adam import Adam
from golf_core.optim.gradients import FlatGradients
from golf_core.optim.groups import Optimizers, parameter_groups
from golf_core.optim.muon import Muon
from golf_core.optim.newton_schulz import orthogonalize
from golf_core.optim.parallel_muon import ParallelMuon
from golf_core.optim.schedule import lr_scale
from golf_core.parts import load_parts
from golf_core.recipes import load_recipe
from tests.golf_core.tiny import every_recipe, tiny


def matrix(shape, sigma) -> torch.Tensor:
    """A matrix with these singular values. (A random square one has some near 0, which 5 steps cannot lift.)"""
    generator = torch.Generator().manual_seed(0)
    u, _ = torch.linalg.qr(torch.randn(shape[0], len(sigma), generator=generator))
    v, _ = torch.linalg.qr(torch.randn(shape[1], len(sigma), generator=generator))
    return u * sigma @ v.T


@pytest.mark.parametrize("shape", [(64, 64), (96, 32), (32, 96)], ids=["square", "tall", "wide"])
def test_singular_values_gather_near_one(shape):
    """Newton-Schulz lifts every singular value of a spread down to a tenth into a band around 1."""
    spread = torch.linspace(0.1, 1.0, min(shape))
    sigma = torch.linalg.svdvals(orthogonalize(matrix(shape, spread), 5, torch.float32))
    assert sigma.min() > 0.5
    assert sigma.max() < 1.25


RECTANGLES = st.tuples(st.integers(2, 40), st.integers(2, 40)).filter(lambda s: max(s) >= 2 * min(s))


@given(RECTANGLES, st.integers(0, 2**32))
def test_a_random_rectangle_comes_into_the_band(shape, seed):
    """Singular values of a Gaussian twice as long as wide end in [0.5, 1.25]. (A square one's smallest may not.)"""
    g = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    sigma = torch.linalg.svdvals(g)
    result = torch.linalg.svdvals(orthogonalize(g, 5, torch.float32))
    assert result.max() <= 1.25
    if sigma.min() > 0.1 * sigma.max():  # a small one may have a direction that is all but missing
        assert result.min() >= 0.5


@given(st.tuples(st.integers(1, 24), st.integers(1, 24)), st.integers(0, 2**32), st.sampled_from([1e-3, 1.0, 1e3]))
def test_transposes_and_scales_go_straight_through(shape, seed, scale):
    """NS(G^T) = NS(G)^T, NS(kG) = NS(G), and NS(0) = 0, for every shape."""
    g = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    ours = orthogonalize(g, 5, torch.float32)
    if shape[0] != shape[1]:  # a square one has no long side: X X^T or X^T X, equal but for rounding
        assert torch.equal(orthogonalize(g.T, 5, torch.float32), ours.T)
    torch.testing.assert_close(orthogonalize(g.T, 5, torch.float32), ours.T, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(orthogonalize(scale * g, 5, torch.float32), ours, rtol=1e-2, atol=1e-3)
    assert not orthogonalize(torch.zeros(shape), 5).any()


def test_stacked_matrices_do_not_mix():
    """Newton-Schulz of a stack is that of each matrix; zeros in the stack stay zeros."""
    stack = torch.randn(3, 10, 6, generator=torch.Generator().manual_seed(2))
    stack[1] = 0
    together = orthogonalize(stack, 5, torch.float32)
    for one, result in zip(stack, together, strict=True):
        torch.testing.assert_close(orthogonalize(one, 5, torch.float32), result)


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


@pytest.mark.parametrize("form", [Muon, ParallelMuon])
def test_a_muon_step_is_its_formula(form):
    """W <- W (1 - lr wd) - lr sqrt(max(1, r/c)) NS(g + mu m), with m <- mu m + g."""
    g = matrix((24, 12), torch.linspace(0.2, 1.0, 12))
    start = torch.randn(24, 12, generator=torch.Generator().manual_seed(1))
    p = torch.nn.Parameter(start.clone())
    muon = form([p], decay=0.1, newton_schulz_steps=5, dtype=torch.float32, rank=0, world=1)
    muon.flat_gradients([p])
    expected, m = start, torch.zeros_like(g)
    for step in range(3):
        p.grad.copy_(g * (step + 1))
        muon.step(lr=0.02, momentum=0.9)
        m = 0.9 * m + g * (step + 1)
        update = orthogonalize(g * (step + 1) + 0.9 * m, 5, torch.float32)
        expected = expected * (1 - 0.02 * 0.1) - 0.02 * 2**0.5 * update
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


def model_of(*overrides: str) -> tuple[GPT, Config]:
    """A small model with these switches, and its config."""
    small = ["model.layers=4", "model.width=32", "model.heads=2", "model.kv_heads=1"]
    config = override(load_recipe("demo").config, [*small, *overrides])
    return GPT(config.model, load_parts(config)), config


EVERY_TABLE = [
    *("model.bigram_buckets=32", "model.bigram_width=8", "model.trigram_buckets=32", "model.trigram_width=8"),
    *("model.value_embed_width=8", "model.smear=v2", "model.attn_gate=dense", "model.value_residual=true"),
]
TABLES = {"tok_emb.weight", "bigram.embed.weight", "trigram.embed.weight", "ve_shared.embed.weight"}
HASH_PROJECTIONS = {"bigram.proj.weight", "trigram.proj.weight"}


@pytest.mark.parametrize("hash_proj", ["adam", "muon"])
def test_each_kind_of_parameter_goes_where_it_belongs(hash_proj):
    """Tables to `embed`; attention and MLP matrices, and hash projections if asked for, to `matrix`; the rest, gates
    and other small matrices among it, to `scalar`."""
    model, _ = model_of(*EVERY_TABLE)
    groups = {group: set(names) for group, names in parameter_groups(model, hash_proj).items()}
    assert groups["embed"] == TABLES
    linear = {f"blocks.{i}.attn.{n}.weight" for i in range(4) for n in ("c_q", "c_k", "c_v", "proj")}
    linear |= {f"blocks.{i}.mlp.{n}.weight" for i in range(4) for n in ("fc", "proj")}
    assert groups["matrix"] == linear | (HASH_PROJECTIONS if hash_proj == "muon" else set())
    assert {"ve_shared.proj.weight", "smear.gate", "blocks.0.attn.attn_gate.weight"} <= groups["scalar"]


@pytest.mark.parametrize("name", sorted(every_recipe()))
def test_every_parameter_is_in_exactly_one_group(name):
    """The groups of every recipe hold each tensor of its state once; Muon's matrices and Adam's lists together are all
    of them, and each one's gradient lies in the buffer that is summed over processes."""
    config = tiny(every_recipe()[name].config)
    parts = load_parts(config)
    model = GPT(config.model, parts)
    names = [n for group in parameter_groups(model, config.optim.hash_proj).values() for n in group]
    assert sorted(names) == sorted(n for n, _ in model.named_parameters()) == sorted(model.state_dict())
    optimizers = Optimizers(model, config.optim, parts["optim.muon"], 0, 1)
    adam = [p for params, _ in optimizers.adam.groups for p in params]
    banks = getattr(optimizers.muon, "banks", None)
    muon = optimizers.muon.params if banks is None else [p for bank in banks for p in bank.params]
    assert sorted(map(id, [*adam, *muon])) == sorted(map(id, model.parameters()))
    low = optimizers.gradients.buffer.data_ptr()
    high = low + optimizers.gradients.buffer.numel() * 4
    assert all(low <= p.grad.data_ptr() < high for p in model.parameters())


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


@given(st.floats(0, 599), st.integers(1, 10_000), st.integers(1, 10_000))
def test_the_fraction_schedule_does_not_know_how_long_a_step_takes(elapsed, some, more):
    """Under a cap of seconds the multiplier is a function of the seconds alone, while the steps suffice."""
    schedule = ScheduleConfig(kind="fraction", warmdown_fraction=0.4)
    endless = TrainConfig(iterations=10**9, max_seconds=600.0)
    assert lr_scale(schedule, endless, some, elapsed) == lr_scale(schedule, endless, more, elapsed)


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


def test_clipping_bounds_the_global_norm_and_0_is_off():
    """Gradients above the limit are scaled to it together; below it, or with 0, they stay."""
    params = [torch.nn.Parameter(torch.zeros(3)), torch.nn.Parameter(torch.zeros(2, 2))]
    gradients = FlatGradients(params)
    for limit, expected in ((0.0, 14.0), (100.0, 14.0), (7.0, 7.0)):
        params[0].grad.fill_(0.0)
        params[1].grad.fill_(7.0)
        gradients.clip(limit)
        assert float(torch.linalg.vector_norm(gradients.buffer[:-1])) == pytest.approx(expected, rel=1e-4)
