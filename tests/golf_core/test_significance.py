"""Student's t, Welch's test and its exact power: against scipy, against simulation, and the published p-values."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from golf_core.significance import (
    Design,
    NotTestable,
    Sample,
    sample_of,
    seeds_needed,
    student_cdf,
    student_quantile,
    student_sf,
    welch,
)

DF = st.floats(0.5, 1e4)
SEEDS = st.integers(2, 12)
SPREADS = st.floats(1e-5, 10)
SCORES = st.lists(st.floats(0.5, 3), min_size=2, max_size=8)

R549 = (1.11922988, 1.12002032, 1.11888882)
R1493, R1736 = (1.08079, 1.08103, 1.08118), (1.0661, 1.06473, 1.06563)
R1514, R1529 = (1.07928348, 1.07996676, 1.08024795), (1.07506048, 1.07645101, 1.07585093)
R1769 = (1.06356801, 1.0641313, 1.06466993, 1.06509678, 1.06516558)


@given(st.floats(-1e6, 1e6), DF)
def test_the_distribution_is_scipys(t, df):
    """Both tails agree to nine digits, also where they are tiny, and they add up to one."""
    assert student_sf(t, df) == pytest.approx(stats.t.sf(t, df), rel=1e-9, abs=1e-300)
    assert student_cdf(t, df) == pytest.approx(stats.t.cdf(t, df), rel=1e-9, abs=1e-300)
    assert student_sf(t, df) + student_cdf(t, df) == pytest.approx(1, abs=1e-15)


@given(st.floats(1e-9, 1 - 1e-9), DF)
def test_a_quantile_leads_back_to_its_share(p, df):
    """Inverse of the distribution, from the far tail to the middle."""
    t = student_quantile(p, df)
    small, back = (p, student_cdf(t, df)) if p < 0.5 else (1 - p, student_sf(t, df))
    assert back == pytest.approx(small, rel=1e-8)


@pytest.mark.parametrize("t", [math.inf, -math.inf, 1e200, -1e200])
def test_the_ends_of_the_line_are_reached(t):
    """Infinite and huge t give 0 or 1, no overflow."""
    assert student_sf(t, 2.5) == pytest.approx(0.0 if t > 0 else 1.0, abs=1e-300)


@pytest.mark.parametrize("t, df", [(math.nan, 3), (1, 0), (1, -2), (1, math.inf), (1, math.nan)])
def test_what_is_no_number_is_refused(t, df):
    """NaN, or degrees of freedom that cannot be, raise instead of becoming a p."""
    with pytest.raises(ValueError, match="df"):
        student_sf(t, df)


@pytest.mark.parametrize(
    "ours, theirs, p",
    [
        (sample_of(R1514), R1493, 0.0204),
        (sample_of(R1529), R1514, 0.0009),
        (sample_of(R1769), R1736, 0.0625),
        (Sample(n=6, mean=1.060755, sd=0.000933), (1.06083288, 1.06090748, 1.06248776), 0.1884),
    ],
    ids=["#1514 against #1493", "#1529 against #1514", "#1769 against #1736", "#1855 against #1868"],
)
def test_published_comparisons_come_out(ours, theirs, p):
    """The p-values that the race's frontier was decided by, from values or from a summary."""
    assert round(welch(ours, sample_of(theirs)).p, 4) == p


def test_1019_beat_549_by_its_published_t():
    """t and the non-integer degrees of freedom, to the digits published."""
    found = welch(sample_of([1.11508120, 1.11437394, 1.11475014]), sample_of(R549))
    assert (round(found.t, 3), round(found.df, 3)) == (-11.834, 3.306)


@given(SCORES, SCORES, st.floats(0, 0.1))
def test_welch_is_scipys_with_our_scores_raised_by_the_margin(ours, theirs, margin):
    """t, df and p agree with scipy's unequal-variance test; the interval is its confidence interval."""
    a, b = sample_of(ours), sample_of(theirs)
    if min(a.sd, b.sd) < 1e-6:  # scipy warns of cancellation there
        return
    found = welch(a, b, margin)
    peer = stats.ttest_ind([x + margin for x in ours], theirs, equal_var=False, alternative="less")
    assert found.t == pytest.approx(peer.statistic, rel=1e-6, abs=1e-9)
    assert found.df == pytest.approx(peer.df, rel=1e-6)
    assert found.p == pytest.approx(peer.pvalue, rel=1e-5, abs=1e-300)
    low, high = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval()
    assert found.half_width == pytest.approx((high - low) / 2, rel=1e-6)


@given(SCORES, SCORES)
def test_a_margin_only_makes_it_harder(ours, theirs):
    """p grows with the margin, so that what fails without one fails with one."""
    a, b = sample_of(ours), sample_of(theirs)
    if a.sd or b.sd:
        p = [welch(a, b, margin).p for margin in (0.0, 0.001, 0.1)]
        assert p == sorted(p)


def test_one_seed_or_no_spread_is_no_test():
    """A single seed, equal scores on both sides and a mean without spread say so; none of them gets a p."""
    three, same = sample_of(R549), sample_of([1.1, 1.1, 1.1])
    for ours, theirs, words in [
        (sample_of([1.1]), three, "ours: 1 seed"),
        (three, Sample(n=3, mean=1.1, sd=None), "theirs: the spread"),
        (same, sample_of([1.2, 1.2]), "without spread"),
        (same, same, "without spread"),
    ]:
        with pytest.raises(NotTestable, match=words):
            welch(ours, theirs)


def test_a_side_without_spread_is_named():
    """Equal scores on one side leave a test of the other, with a note that says whose."""
    found = welch(sample_of([1.1, 1.1, 1.1]), sample_of(R549))
    assert found.df == pytest.approx(2) and found.note.startswith("ours has no spread")
    assert not welch(sample_of(R1514), sample_of(R549)).note


@pytest.mark.parametrize("values", [[], [math.nan, 1.0], [1.0, math.inf]])
def test_scores_that_are_no_numbers_make_no_sample(values):
    """Nothing, NaN and infinity are refused where they come in."""
    with pytest.raises(NotTestable):
        sample_of(values)
    with pytest.raises(NotTestable):
        Sample(n=3, mean=1.0, sd=math.nan)
    with pytest.raises(NotTestable):
        welch(sample_of(R549), sample_of(R1514), math.nan)


@given(SCORES)
def test_the_interval_is_students(values):
    """Half the 95 % interval of the mean, as scipy's quantile gives it."""
    sample = sample_of(values)
    expected = stats.t.ppf(0.975, sample.n - 1) * sample.sd / math.sqrt(sample.n)
    assert sample.half_width == pytest.approx(expected, rel=1e-9, abs=1e-300)


@pytest.mark.parametrize(
    "design, gap",
    [
        (Design(3, 3, 1.0, 1.0, 0.01), 3.0),
        (Design(2, 2, 1.0, 5.0, 0.25), 3.0),
        (Design(6, 3, 0.2, 2.0, 0.05), 2.0),
        (Design(3, 10, 1.0, 0.0, 0.05), 1.5),
        (Design(2, 7, 1.0, 1.0, 0.01), 0.0),
    ],
    ids=str,
)
def test_the_power_is_what_simulated_seeds_show(design, gap):
    """The integral agrees with scipy's test of 100,000 simulated comparisons within four standard errors."""
    draw, count = np.random.default_rng(7), 100_000
    ours = draw.normal(-gap, design.sd_ours, (count, design.n))
    theirs = draw.normal(0, max(design.sd_theirs, 1e-9), (count, design.m))
    p = stats.ttest_ind(ours, theirs, axis=1, equal_var=False, alternative="less").pvalue
    power = design.power(gap)
    assert abs((p < design.alpha).mean() - power) < 4 * math.sqrt(power * (1 - power) / count)


@given(SEEDS, st.floats(0.01, 0.3), st.floats(0, 6))
@example(2, 0.01, 5.0)  # the steepest
def test_without_their_spread_the_power_is_the_noncentral_ts(n, alpha, shift):
    """Where only ours vary the test is an ordinary t, whose power scipy knows."""
    expected = stats.nct.sf(stats.t.ppf(1 - alpha, n - 1), n - 1, shift)
    if math.isfinite(expected):
        assert Design(n, 9, 1.0, 0.0, alpha).power(shift / math.sqrt(n)) == pytest.approx(expected, abs=2e-5)


@settings(max_examples=30)
@given(SEEDS, SEEDS, SPREADS, SPREADS, st.floats(0.005, 0.3), st.floats(0.1, 1000))
def test_power_knows_no_unit_and_grows_with_the_gap(n, m, ours, theirs, alpha, unit):
    """Scores in another unit have the same power; a wider gap never has less; it ends at one."""
    design, scaled = Design(n, m, ours, theirs, alpha), Design(n, m, ours * unit, theirs * unit, alpha)
    powers = [design.power(k * design.error) for k in (0, 0.5, 2, 8)]
    assert powers == sorted(powers)
    assert scaled.power(2 * scaled.error) == pytest.approx(powers[2], abs=1e-9)
    assert design.power(1e5 * design.error) == pytest.approx(1)


@settings(max_examples=30)
@given(SEEDS, SEEDS, SPREADS, SPREADS, st.floats(0.3, 0.95))
def test_the_detectable_gap_has_the_power_that_was_asked_for(n, m, ours, theirs, power):
    """The inverse of the power, to four digits."""
    design = Design(n, m, ours, theirs, 0.05)
    assert design.power(design.gap(power)) == pytest.approx(power, abs=1e-4)


@pytest.mark.parametrize("seeds, even, eighty", [(3, 0.00205, 0.00294), (5, 0.00111, 0.00152), (10, 0.00068, 0.00093)])
def test_the_gaps_that_seeds_show_at_a_typical_spread(seeds, even, eighty):
    """At sd 0.0006 and p < 0.01; three against three need more than a pooled test would (0.0018 and 0.0024)."""
    design = Design(seeds, seeds, 0.0006, 0.0006, 0.01)
    assert design.gap(0.5) == pytest.approx(even, abs=6e-6)
    assert design.gap(0.8) == pytest.approx(eighty, abs=6e-6)


@given(st.floats(0.3, 4), st.sampled_from([0.01, 0.05, 0.25]), st.sampled_from([0.5, 0.8]))
def test_seeds_needed_are_enough_and_one_less_is_not(gap, alpha, power):
    """Both sides with as many seeds: the smallest number whose power suffices."""
    n = seeds_needed(gap, 1.0, 1.0, alpha, power)
    assert Design(n, n, 1.0, 1.0, alpha).power(gap) >= power
    assert n == 2 or Design(n - 1, n - 1, 1.0, 1.0, alpha).power(gap) < power


def test_few_fixed_seeds_of_theirs_bound_what_ours_can_show():
    """Against three of theirs, power peaks and falls as Welch's df fall to two: sought upwards, else None."""
    powers = [Design(n, 3, 1.0, 1.0, 0.01).power(2.5) for n in (3, 8, 100)]
    assert powers[0] < powers[1] > powers[2]
    assert seeds_needed(2.5, 1.0, 1.0, 0.01, 0.95, theirs=3) is None
    found = seeds_needed(2.5, 1.0, 1.0, 0.01, 0.5, theirs=3)
    assert Design(found, 3, 1.0, 1.0, 0.01).power(2.5) >= 0.5 > Design(found - 1, 3, 1.0, 1.0, 0.01).power(2.5)
    assert seeds_needed(0.0, 1.0, 1.0, 0.01, 0.8) is None


@pytest.mark.parametrize(
    "values", [(1, 3, 1.0, 1.0, 0.01), (3, 3, 0.0, 0.0, 0.01), (3, 3, math.nan, 1.0, 0.01), (3, 3, 1.0, 1.0, 0.5)]
)
def test_a_design_that_tests_nothing_is_refused(values):
    """One seed, no spread at all, NaN, or an alpha that even odds meet."""
    with pytest.raises(NotTestable):
        Design(*values)
