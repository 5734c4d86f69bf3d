"""The learning rate's multiplier. Seconds are rank 0's, the same on every rank."""

from golf_core.config import ScheduleConfig, TrainConfig


def lr_scale(schedule: ScheduleConfig, train: TrainConfig, step: int, elapsed: float) -> float:
    """Multiplier of every learning rate for step number `step` (0-based) after `elapsed` seconds of training.

    `iterations`: linear to zero over the last `warmdown_iterations` steps; under a time cap, over the seconds
    that so many steps take at the average rate so far. `fraction`: linear over the last `warmdown_fraction`
    of the time cap, and of the steps. Whichever of steps and seconds runs out first decides.
    """
    fraction, iterations = schedule.warmdown_fraction, float(schedule.warmdown_iterations)
    steps_left = float(max(train.iterations - step, 0))
    if schedule.kind == "fraction":
        scale = ramp(steps_left / train.iterations, fraction)
        if train.max_seconds:
            scale = min(scale, ramp(max(1 - elapsed / train.max_seconds, 0.0), fraction))
    else:
        scale = ramp(steps_left, iterations)
        if train.max_seconds and step:
            scale = min(scale, ramp(max(train.max_seconds - elapsed, 0.0), iterations * elapsed / step))
    return max(scale, schedule.min_scale)


def ramp(left: float, warmdown: float) -> float:
    """1 while more is left than the warmdown, then linear to 0."""
    return 1.0 if left >= warmdown else left / warmdown
