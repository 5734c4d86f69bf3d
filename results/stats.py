"""Statistics of a few seeds: numbers in, numbers out."""

import math
import statistics
from collections.abc import Sequence

from golf_core.significance import student_quantile


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def sample_sd(values: Sequence[float]) -> float | None:
    """Standard deviation with n - 1; None for fewer than two values."""
    return statistics.stdev(values) if len(values) > 1 else None


def t_half_width(values: Sequence[float], confidence: float = 0.95) -> float | None:
    """Half the width of the t interval of the mean: at n = 3 it is 2.48 standard deviations.

    >>> round(t_half_width([1.0, 2.0, 3.0]), 4)
    2.4841
    """
    if (sd := sample_sd(values)) is None:
        return None
    n = len(values)
    return -student_quantile((1 - confidence) / 2, n - 1) * sd / math.sqrt(n)
