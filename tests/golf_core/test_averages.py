"""What is shipped instead of the last weights: exponential averages and means, when they begin and what they hold."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from golf_core.config import AverageConfig
from golf_core.fields import ConfigError
from golf_core.optim.ema import Ema
from golf_core.optim.swa import CheckpointMean, PeriodicMean

SCHEDULE = [1.0] * 8 + [1 - k / 32 for k in range(33)]  # flat, then down to 0


def layer() -> torch.nn.Linear:
    return torch.nn.Linear(3, 2, bias=False)


def put(model: torch.nn.Linear, value: float) -> None:
    with torch.no_grad():
        model.weight.fill_(value)


def follow(average, model, scales=SCHEDULE, progress=None) -> None:
    """One update a step; after step s (from 1) all weights are s."""
    for step, scale in enumerate(scales, 1):
        put(model, float(step))
        average.update(step, scale, step / len(scales) if progress is None else progress)


def steps_taken(kind, config) -> list[int]:
    """The steps after which `kind` took the weights."""
    model = layer()
    average = kind(model, config)
    taken = []
    for step, scale in enumerate(SCHEDULE, 1):
        before = average.taken
        average.update(step, scale, step / len(SCHEDULE))
        taken += [step] if average.taken > before else []
    return taken


@given(st.integers(0, 60), st.floats(0.5, 0.999))
def test_the_average_forgets_its_start_geometrically(steps, decay):
    """With constant weights w, after n steps from e0 the average is w + decay^n (e0 - w)."""
    model = layer()
    start = model.weight.detach().clone()
    ema = Ema(model, AverageConfig(kind="ema", decay=decay))
    put(model, 2.0)
    for step in range(steps):
        ema.update(step + 1, 1.0, 0.5)
    ema.apply()
    torch.testing.assert_close(model.weight.detach(), 2.0 + decay**steps * (start - 2.0), rtol=1e-4, atol=1e-5)


@given(st.integers(1, 60), st.floats(0, 0.999), st.sampled_from(["begin", "warmdown"]))
def test_constant_weights_are_a_fixed_point(steps, decay, start):
    """An average of weights that never change is those weights, to the bit."""
    model = layer()
    before = model.weight.detach().clone()
    ema = Ema(model, AverageConfig(kind="ema", decay=decay, start=start))
    for step in range(steps):
        ema.update(step + 1, 0.5, 0.5)
    ema.apply()
    assert torch.equal(model.weight.detach(), before)


def test_a_late_average_starts_as_a_copy_when_the_learning_rate_falls():
    """start="warmdown": nothing before the multiplier first falls below 1 is in it."""
    model = layer()
    ema = Ema(model, AverageConfig(kind="ema", decay=0.5, start="warmdown"))
    follow(ema, model, [1.0, 1.0, 0.9, 0.6])  # weights 1, 2, 3, 4
    ema.apply()
    assert torch.equal(model.weight.detach(), torch.full((2, 3), 3.5))
    assert ema.describe() == "ema:applied decay:0.5"


def test_an_average_that_never_began_leaves_the_last_weights():
    """Without a warmdown a late average is none, and its line says so."""
    model = layer()
    ema = Ema(model, AverageConfig(kind="ema", start="warmdown"))
    follow(ema, model, [1.0, 1.0])
    ema.apply()
    assert torch.equal(model.weight.detach(), torch.full((2, 3), 2.0))
    assert "not applied" in ema.describe()


@pytest.mark.parametrize(("below", "every"), [(0.5, 5), (0.2, 1), (1.0, 7)])
def test_the_periodic_mean_takes_every_kth_step_below_its_threshold(below, every):
    """Exactly the steps whose multiplier is below `swa_below` and whose number `swa_every` divides; their mean."""
    config = AverageConfig(kind="swa", swa_below=below, swa_every=every)
    expected = [s for s, scale in enumerate(SCHEDULE, 1) if scale < below and s % every == 0]
    assert steps_taken(PeriodicMean, config) == expected
    model = layer()
    average = PeriodicMean(model, config)
    follow(average, model)
    average.apply()
    torch.testing.assert_close(model.weight.detach(), torch.full((2, 3), sum(expected) / len(expected)))
    assert average.describe() == f"swa:applied checkpoints:{len(expected)}"


def test_checkpoints_are_taken_at_seven_eighths_to_one_eighth():
    """With 7 checkpoints: the first time that the multiplier is at most 7/8, 6/8, ..., 1/8; the last weights are the
    eighth of a uniform mean."""
    config = AverageConfig(kind="checkpoints", checkpoints=7, guard=0.0)
    expected = [next(s for s, scale in enumerate(SCHEDULE, 1) if scale <= 1 - j / 8) for j in range(1, 8)]
    assert [SCHEDULE[s - 1] for s in expected] == [7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]
    assert steps_taken(CheckpointMean, config) == expected
    model = layer()
    average = CheckpointMean(model, config)
    follow(average, model)
    average.apply()
    mean = (sum(expected) + len(SCHEDULE)) / 8
    torch.testing.assert_close(model.weight.detach(), torch.full((2, 3), mean))
    assert average.describe() == "swa:applied checkpoints:8"


@given(st.floats(0, 0.9))
def test_no_checkpoint_before_the_guard(guard):
    """Nothing of the first part of the budget is taken, even if the multiplier is low from the first step on, as a
    warmdown longer than the run makes it; afterwards one a step until all are there."""
    model = layer()
    average = CheckpointMean(model, AverageConfig(kind="checkpoints", checkpoints=4, guard=guard))
    taken = []
    for step in range(1, 41):
        average.update(step, 0.01, step / 40)
        if average.taken > len(taken):
            taken.append(step)
    assert len(taken) == 4
    assert taken[0] / 40 >= guard > (taken[0] - 1) / 40 or (guard == 0 and taken[0] == 1)
    assert taken == list(range(taken[0], taken[0] + 4))


@pytest.mark.parametrize("kind", [PeriodicMean, CheckpointMean])
def test_a_mean_without_checkpoints_leaves_the_last_weights(kind):
    """Where the learning rate never fell far enough, the last weights are shipped, and the line says so."""
    model = layer()
    average = kind(model, AverageConfig())
    follow(average, model, [1.0, 1.0, 1.0])
    average.apply()
    assert torch.equal(model.weight.detach(), torch.full((2, 3), 3.0))
    assert "not applied" in average.describe()


@given(st.integers(1, 20), st.floats(-10, 10, width=32))
def test_a_mean_of_equal_checkpoints_is_exact(count, value):
    """Averaging the same weights any number of times gives them back, to the bit."""
    model = layer()
    put(model, value)
    average = CheckpointMean(model, AverageConfig(kind="checkpoints", checkpoints=count, guard=0.0))
    for step in range(count):
        average.update(step + 1, 0.0, 0.5)
    average.apply()
    assert torch.equal(model.weight.detach(), torch.full((2, 3), value))
    assert average.taken == count + 1


def test_averages_are_kept_in_fp32():
    """A bf16 weight's average moves by less than bf16 can hold."""
    model = layer().bfloat16()
    put(model, 1.0)
    ema = Ema(model, AverageConfig(kind="ema", decay=0.999))
    put(model, 1.0078125)  # the next bf16
    ema.update(1, 1.0, 0.5)
    assert 1.0 < float(ema.mean[0][0, 0]) < 1.0001
    mean = PeriodicMean(model, AverageConfig(kind="swa", swa_every=1))
    mean.update(1, 0.0, 0.5)
    assert mean.mean[0].dtype == torch.float32


@pytest.mark.parametrize("field", ["swa_every", "checkpoints"])
def test_averages_of_nothing_are_refused(field):
    """A period or a number of checkpoints below 1 is an error at plan time."""
    with pytest.raises(ConfigError, match=field):
        AverageConfig(**{field: 0})
