"""The learning rate's multiplier. Seconds are rank 0's, the same on every rank."""

from golf_core.config import ScheduleConfig, TrainConfig


def lr_scale(schedule: ScheduleConfig, train: TrainConfig, step: int, elapsed: float) -> float:
    """Multiplier of every learning rate for step number `step` (0-based) after `elapsed` seconds of training.

    `iterations`: linear to zero over the last `warmdown_iterations` steps; under a time cap, over the seconds
    that so many steps take at the average rate so far. `fraction`: linear over the last `warmdown_fraction`
    of the time cap, or of the steps where there is none.
    """
    if schedule.kind == "fraction":
        done = elapsed / train.max_seconds if train.max_seconds else step / train.iterations
        left, warmdown = 1.0 - min(done, 1.0), schedule.warmdown_fraction
    elif train.max_seconds and step:
        left = max(train.max_seconds - elapsed, 0.0)
        warmdown = schedule.warmdown_iterations * elapsed / step
    else:
        left, warmdown = float(max(train.iterations - step, 0)), float(schedule.warmdown_iterations)
    return max(1.0 if left >= warmdown else left / warmdown, schedule.min_scale)
