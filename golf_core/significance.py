"""Is one set of seeds better than another? Student's t, Welch's one-sided test with a margin, and its exact power.

Numbers in, numbers out, standard library only. Lower is better throughout, as with loss and bits per byte: H1 is that
our mean is lower than theirs by more than `margin`. A test that cannot be made is NotTestable, never a p of 0 or 1.

B. L. Welch, Biometrika 34 (1947). Incomplete beta by the continued fraction of DLMF 8.17.22, evaluated after Lentz.
"""

import functools
import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass

NORMAL = statistics.NormalDist()
LARGEST_SAMPLE = 1_000_000  # up to which the integrals here are exact to six digits
MOST_SEEDS = 1000  # where the search for a number of seeds gives up: nobody pays for more


class NotTestable(ValueError):
    """These numbers allow no test; the message says why and what would."""


def student_cdf(t: float, df: float) -> float:
    """P(T <= t) of Student's t; `df` need not be whole.

    >>> round(student_cdf(-11.834, 3.306), 6)
    0.000404
    """
    return student_sf(-t, df)


def student_sf(t: float, df: float) -> float:
    """P(T > t), with its relative precision kept far out in the tail."""
    if not 0 < df < math.inf or math.isnan(t):
        raise ValueError(f"Student's t: t={t!r}, df={df!r}; df must be positive and finite")
    if math.isinf(t):
        return 0.0 if t > 0 else 1.0
    s = abs(t) / math.sqrt(df)  # its square may overflow where t itself does not
    near = 1.0 if s > 1e150 else s * s / (1.0 + s * s)
    far = 0.0 if s > 1e150 else 1.0 / (1.0 + s * s)
    tail = 0.5 * _beta_ratio(df / 2, 0.5, far, near)
    return tail if t > 0 else 1.0 - tail


def student_quantile(p: float, df: float) -> float:
    """The t below which a share `p` lies.

    >>> round(student_quantile(0.975, 2), 6)
    4.302653
    """
    if not 0 < p < 1:
        raise ValueError(f"a quantile of p={p!r}; p must lie between 0 and 1")
    if p >= 0.5:
        return 0.0 if p == 0.5 else -student_quantile(1 - p, df)
    # The tail is convex beyond 0 and heavier than the normal's: Newton's steps from the normal quantile only grow.
    t = -NORMAL.inv_cdf(p)
    log_peak = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - 0.5 * math.log(df * math.pi)
    while True:
        density = math.exp(log_peak - (df + 1) / 2 * math.log1p(t * t / df))
        step = (student_sf(t, df) - p) / density
        if not step > 1e-14 * t:
            return -t
        t += step


def _beta_ratio(a: float, b: float, x: float, y: float) -> float:
    """The regularised incomplete beta function I_x(a, b), with y = 1 - x given as well, so that neither is rounded."""
    if x <= 0 or y <= 0:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1.0 - _beta_ratio(b, a, y, x)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log(y))
    c, d = 1.0, 1.0 / _away(1.0 - (a + b) * x / (a + 1))
    fraction = d
    for m in range(1, 10_000):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1.0 / _away(1.0 + term * d)
            c = _away(1.0 + term / c)
            fraction *= c * d
        if abs(c * d - 1.0) < 1e-15:
            break
    return front * fraction / a


def _away(value: float) -> float:
    """Not zero, which Lentz's method would divide by."""
    return value if abs(value) > 1e-300 else 1e-300


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What a test needs of some seeds' scores; `sd` is the sample standard deviation (n - 1), None for one seed."""

    n: int
    mean: float
    sd: float | None

    def __post_init__(self) -> None:
        if not 1 <= self.n <= LARGEST_SAMPLE or not math.isfinite(self.mean):
            raise NotTestable(f"n={self.n}, mean={self.mean}: a sample has 1 to {LARGEST_SAMPLE:,} values, all finite")
        if self.sd is not None and (not math.isfinite(self.sd) or self.sd < 0):
            raise NotTestable(f"sd={self.sd}: a sample standard deviation is finite and not negative")

    @property
    def half_width(self) -> float | None:
        """Half of the 95 % t interval of the mean: at n = 3 it is 2.48 standard deviations."""
        if self.sd is None or self.n < 2:
            return None
        return -student_quantile(0.025, self.n - 1) * self.sd / math.sqrt(self.n)


def sample_of(values: Iterable[float]) -> Sample:
    """
    >>> sample_of([1.0, 2.0, 3.0])
    Sample(n=3, mean=2.0, sd=1.0)
    """
    known = [float(value) for value in values]
    if not known or not all(math.isfinite(value) for value in known):
        raise NotTestable(f"scores {known}: a sample has one at least, and all are finite")
    return Sample(
        n=len(known), mean=math.fsum(known) / len(known), sd=statistics.stdev(known) if len(known) > 1 else None
    )


@dataclass(frozen=True, kw_only=True)
class Welch:
    """Welch's test of `ours` against `theirs`. `p` is one-sided; the interval of the difference is two-sided, 95 %."""

    difference: float  # ours - theirs: negative is better
    margin: float
    standard_error: float
    df: float
    t: float
    p: float
    half_width: float
    note: str = ""  # what a reader must know before believing p


def welch(ours: Sample, theirs: Sample, margin: float = 0.0) -> Welch:
    """The p-value of: our mean is lower than theirs by more than `margin`.

    >>> a = sample_of([1.11508120, 1.11437394, 1.11475014])
    >>> found = welch(a, sample_of([1.11922988, 1.12002032, 1.11888882]))
    >>> f"{found.t:.3f} {found.df:.3f}"
    '-11.834 3.306'
    """
    if not math.isfinite(margin) or margin < 0:
        raise NotTestable(f"margin={margin}: it is how much lower our mean must be, finite and from 0")
    ours_error, theirs_error = _error(ours, "ours"), _error(theirs, "theirs")
    error = math.hypot(ours_error, theirs_error)
    if error == 0:
        raise NotTestable(
            "no score differs from the others of its side: without spread there is no test "
            "(equal scores are one run told several times, or were rounded)"
        )
    share = (ours_error / error) ** 2
    df = 1.0 / (share**2 / (ours.n - 1) + (1 - share) ** 2 / (theirs.n - 1))
    difference = ours.mean - theirs.mean
    t = (difference + margin) / error
    if not math.isfinite(t):
        raise NotTestable(f"the means differ by {difference} at a standard error of {error}: no number can say that")
    still = " and ".join(who for who, one in (("ours", ours_error), ("theirs", theirs_error)) if one == 0)
    return Welch(
        difference=difference,
        margin=margin,
        standard_error=error,
        df=df,
        t=t,
        p=student_cdf(t, df),
        half_width=-student_quantile(0.025, df) * error,
        note=f"{still} has no spread at all: all of the test rests on the other side" if still else "",
    )


def _error(sample: Sample, whose: str) -> float:
    if sample.n < 2:
        raise NotTestable(f"{whose}: 1 seed has no spread; a test needs two seeds a side at least")
    if sample.sd is None:
        raise NotTestable(f"{whose}: the spread of the {sample.n} seeds is not known, only their mean")
    return sample.sd / math.sqrt(sample.n)


@dataclass(frozen=True)
class Design:
    """Welch's test planned at `alpha`: n seeds of ours against m of theirs, with true standard deviations.

    Exact, for normal scores. Given which share B of the pooled chi-square belongs to our variance, Welch's degrees of
    freedom are fixed, and the rest is a noncentral t with n + m - 2 of them; B is Beta((n-1)/2, (m-1)/2). Both are
    integrated by Gauss-Legendre.
    """

    n: int
    m: int
    sd_ours: float
    sd_theirs: float
    alpha: float

    def __post_init__(self) -> None:
        if min(self.n, self.m) < 2:
            raise NotTestable(f"{self.n} seeds against {self.m}: a test needs two a side at least")
        if not all(math.isfinite(sd) and sd >= 0 for sd in (self.sd_ours, self.sd_theirs)) or self.error == 0:
            raise NotTestable(f"standard deviations {self.sd_ours} and {self.sd_theirs}: without spread no test")
        if not 0 < self.alpha < 0.5:
            raise NotTestable(f"alpha={self.alpha} must lie between 0 and 0.5")

    @property
    def error(self) -> float:
        return math.hypot(self.sd_ours / math.sqrt(self.n), self.sd_theirs / math.sqrt(self.m))

    def power(self, gap: float) -> float:
        """The chance of p < alpha where our true mean is lower than theirs by `gap` beyond the margin.

        At a gap of 0 this is the test's true size: Welch's test keeps alpha nearly, not exactly.
        """
        shift = gap / self.error
        if abs(shift) > 1e6:
            return 1.0 if shift > 0 else 0.0
        shares, chis = _critical(*self._shape)
        # P(Z <= shift - limit * x) is erfc((limit * x - shift) / sqrt 2) / 2.
        root, erfc = math.sqrt(0.5), math.erfc
        shift *= root
        return 0.5 * sum(
            weight * sum([mass * erfc(limit * x - shift) for x, mass in chis])
            for limit, weight in [(root * limit, weight) for limit, weight in shares]
        )

    def gap(self, power: float) -> float:
        """The smallest true gap beyond the margin that is shown with this power."""
        if not 0 < power < 1:
            raise NotTestable(f"power={power} must lie between 0 and 1")
        low, high, below = 0.0, 4.0 * self.error, self.power(0.0) - power
        if below >= 0:
            return 0.0
        while (above := self.power(high) - power) < 0:
            low, high, below = high, 2 * high, above
        while high - low > 1e-7 * high:  # by false position; the end that stays put counts half (Illinois)
            middle = (low * above - high * below) / (above - below)
            found = self.power(middle) - power
            if abs(found) < 1e-9:
                return middle
            if found < 0:
                low, below, above = middle, found, above / 2
            else:
                high, above, below = middle, found, below / 2
        return high

    @property
    def _shape(self) -> tuple[int, int, float, float]:
        """What the critical values depend on: only the ratio of the spreads."""
        return self.n, self.m, (self.sd_ours / math.sqrt(self.n) / self.error) ** 2, self.alpha


@functools.lru_cache(maxsize=256)
def _critical(
    n: int, m: int, share: float, alpha: float
) -> tuple[tuple[tuple[float, float], ...], tuple[tuple[float, float], ...]]:
    """(critical value over chi, weight) for each share of the pooled chi-square, and (chi, weight) of the latter."""
    a, b = n - 1, m - 1
    if share in (0.0, 1.0):  # one side does not vary: an ordinary t of the other's degrees of freedom
        df = a if share == 1.0 else b
        return ((-student_quantile(alpha, df) / math.sqrt(df), 1.0),), _chi(df)
    rows = []
    for angle, mass in _beta_angles(a, b):
        ours, theirs = share * math.sin(angle) ** 2 / a, (1 - share) * math.cos(angle) ** 2 / b
        total = ours + theirs
        df = total**2 / (ours**2 / a + theirs**2 / b)
        rows.append((-student_quantile(alpha, df) * math.sqrt(total), mass))
    return tuple(rows), _chi(a + b)


@functools.lru_cache(maxsize=256)
def _chi(df: int) -> tuple[tuple[float, float], ...]:
    """Nodes and weights that integrate over a chi variable. Its standard deviation is below 0.71."""
    centre = math.sqrt(df)
    panels = 12 if df == 1 else 3  # of one degree of freedom critical values are large: what is summed is steep
    return _density(max(0.0, centre - 6), centre + 6, panels, lambda x: (df - 1) * _log(x) - x * x / 2)


@functools.lru_cache(maxsize=256)
def _beta_angles(a: int, b: int) -> tuple[tuple[float, float], ...]:
    """Likewise over the angle whose squared sine is Beta(a/2, b/2): smooth even for a single degree of freedom."""
    centre, reach = math.atan2(math.sqrt(a), math.sqrt(b)), 6 / math.sqrt((a + b) / 2 + 1)
    low, high = max(0.0, centre - reach), min(math.pi / 2, centre + reach)
    return _density(low, high, 2, lambda x: (a - 1) * _log(math.sin(x)) + (b - 1) * _log(math.cos(x)))


def _log(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf


def _density(
    low: float, high: float, panels: int, log_density: Callable[[float], float]
) -> tuple[tuple[float, float], ...]:
    """Gauss-Legendre nodes between the bounds, weighted by a density that is scaled to a total of 1."""
    width = (high - low) / panels
    nodes = [(low + (panel + x) * width, w) for panel in range(panels) for x, w in _legendre(32)]
    logs = [log_density(x) for x, _ in nodes]
    peak = max(logs)
    masses = [w * math.exp(value - peak) for (_, w), value in zip(nodes, logs, strict=True)]
    total = math.fsum(masses)
    return tuple((x, mass / total) for (x, _), mass in zip(nodes, masses, strict=True) if mass > 1e-17 * total)


@functools.lru_cache(maxsize=1)
def _legendre(n: int) -> tuple[tuple[float, float], ...]:
    """Gauss-Legendre nodes and weights on [0, 1]."""
    rows = []
    for i in range(n):
        x, step = math.cos(math.pi * (i + 0.75) / (n + 0.5)), 1.0
        slope = 1.0
        while abs(step) > 1e-15:
            before, value = 0.0, 1.0
            for k in range(n):
                before, value = value, ((2 * k + 1) * x * value - k * before) / (k + 1)
            slope = n * (x * value - before) / (x * x - 1)
            step = value / slope
            x -= step
        rows.append(((1 + x) / 2, 1 / ((1 - x * x) * slope * slope)))
    return tuple(rows)


def seeds_needed(
    gap: float, sd_ours: float, sd_theirs: float, alpha: float, power: float, theirs: int | None = None
) -> int | None:
    """Seeds of ours that show a true `gap` beyond the margin with this power, against `theirs` seeds as they stand, or
    against as many as ours where `theirs` is None. None: not with MOST_SEEDS either.

    Against few fixed seeds more of ours help only so far, then harm: Welch's degrees of freedom fall to theirs alone.
    So every small number is tried, and larger ones in growing steps.
    """
    if not gap > 0:
        return None

    def enough(n: int) -> bool:
        return Design(n, theirs or n, sd_ours, sd_theirs, alpha).power(gap) >= power

    low, high = 1, 2
    while not enough(high):
        if high == MOST_SEEDS:
            return None
        low, high = high, min(high + 1 + (high // 16) * (high // 4), MOST_SEEDS)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
