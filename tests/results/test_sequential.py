"""A look before the end: the chance of a claim, when to give up, and a p that keeps alpha where success may stop it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from golf_core.significance import NotTestable, Sample, sample_of, welch
from results.sequential import chance_of_success, look, look_shares

THEIRS = sample_of([1.08079, 1.08103, 1.08118])
PLANS = st.integers(2, 12)


def p_of(ours, theirs):
    """One-sided p of each row of simulated scores against each row of theirs."""
    return stats.ttest_ind(ours, theirs, axis=1, equal_var=False, alternative="less").pvalue


@given(PLANS)
def test_the_shares_of_alpha_add_up_to_one(planned):
    """Every look from the second seed on has a share, and the last has more than half."""
    shares = look_shares(planned)
    assert list(shares) == list(range(2, planned + 1)) and sum(shares.values()) == pytest.approx(1)
    assert shares[planned] > 0.5


@pytest.mark.parametrize("planned, theirs, alpha", [(3, 3, 0.01), (3, 3, 0.25), (5, 3, 0.25), (6, 6, 0.05)])
def test_stopping_early_for_success_keeps_alpha(planned, theirs, alpha):
    """Of 100,000 simulated lists without any gap, hardly more than alpha are ever claimed by p_early; by the p of each
    look, without its share, more are than by the last alone. (Welch's own test keeps alpha within a tenth.)"""
    draw, count = np.random.default_rng(11), 100_000
    a, b = draw.normal(size=(count, planned)), draw.normal(size=(count, theirs))
    looks = {n: p_of(a[:, :n], b) for n in range(2, planned + 1)}
    shares = look_shares(planned)
    early = np.min([p / shares[n] for n, p in looks.items()], axis=0) < alpha
    naive = np.min(list(looks.values()), axis=0) < alpha
    assert early.mean() < 1.1 * alpha + 4 * np.sqrt(alpha / count)
    assert naive.mean() > 1.2 * (looks[planned] < alpha).mean()


def test_a_look_gives_the_p_of_that_rule():
    """Its p is Welch's of the seeds so far; p_early the smallest p over its share, of this look and those before."""
    scores = [1.0793, 1.0799, 1.0802]
    p = {n: welch(sample_of(scores[:n]), THEIRS).p for n in (2, 3)}
    two, three = look(scores[:2], 3, THEIRS, 0.25), look(scores, 3, THEIRS, 0.25)
    assert (two.p, two.p_early) == (p[2], pytest.approx(3 * p[2]))
    assert three.p == p[3] and three.p_early == pytest.approx(min(3 * p[2], 1.5 * p[3]))
    assert two.to_dict()["share"] == pytest.approx(1 / 3)


def test_only_the_first_seeds_of_the_list_make_a_planned_look():
    """Where an earlier seed is missing the later ones count for p and the chance, not for p_early."""
    scores = [1.0793, 1.0799, 1.0802]
    gap, whole = look(scores, 4, THEIRS, 0.25, in_order=2), look(scores[:2], 4, THEIRS, 0.25)
    assert gap.p == welch(sample_of(scores), THEIRS).p and gap.p_early == whole.p_early and gap.share == whole.share
    assert look(scores, 4, THEIRS, 0.25, in_order=1).p_early is None


def test_the_chance_is_that_of_futures_drawn_by_numpy():
    """Mean and spread from what two seeds leave open, then the third: the same share succeeds, within two points."""
    draw, count, scores = np.random.default_rng(3), 200_000, np.array([1.0793, 1.0809])
    spread = np.sqrt(scores.var(ddof=1) / draw.chisquare(1, count))
    third = draw.normal(draw.normal(scores.mean(), spread / np.sqrt(2)), spread)
    ours = np.column_stack([np.broadcast_to(scores, (count, 2)), third])
    mean, sd = ours.mean(axis=1), ours.std(axis=1, ddof=1)
    summary = (mean, sd, 3, THEIRS.mean, THEIRS.sd, THEIRS.n)
    p = stats.ttest_ind_from_stats(*summary, equal_var=False, alternative="less").pvalue
    assert chance_of_success(scores, 3, THEIRS, 0.25) == pytest.approx((p < 0.25).mean(), abs=0.02)


def test_a_known_spread_is_conditional_power():
    """With the spread told, one seed is enough for a chance, and it is that of simulated seeds of this spread."""
    draw, count, first, sd = np.random.default_rng(5), 200_000, 1.0799, 0.0006
    others = draw.normal(draw.normal(first, sd, (count, 1)), sd, (count, 2))
    ours = np.column_stack([np.full(count, first), others])
    theirs = (THEIRS.mean, THEIRS.sd, THEIRS.n)
    p = stats.ttest_ind_from_stats(
        ours.mean(axis=1), ours.std(axis=1, ddof=1), 3, *theirs, equal_var=False, alternative="less"
    ).pvalue
    assert chance_of_success([first], 3, THEIRS, 0.01, sd=sd) == pytest.approx((p < 0.01).mean(), abs=0.02)
    assert look([first], 3, THEIRS, 0.01).chance is None


def test_what_cannot_succeed_any_more_is_futile():
    """Scores above theirs: hardly a chance either way. Scores far below: no reason to stop."""
    assert look([1.083, 1.0832], 3, THEIRS, 0.25).futile and look([1.0799, 1.08], 3, THEIRS, 0.01, 0.005).futile
    good = look([1.0751, 1.0755], 3, THEIRS, 0.25)
    assert not good.futile and good.chance > 0.95 and good.chance_typical > 0.99


def test_the_same_seeds_have_the_same_chance():
    """The futures are drawn with a fixed generator."""
    assert look([1.0793, 1.0809], 5, THEIRS, 0.01) == look([1.0793, 1.0809], 5, THEIRS, 0.01)


def test_at_the_end_the_chance_is_the_verdict():
    """No future is left: 1 where p is below alpha, else 0."""
    scores = [1.0793, 1.0799, 1.0802]
    assert chance_of_success(scores, 3, THEIRS, 0.25) == 1 and chance_of_success(scores, 3, THEIRS, 0.001) == 0


def test_equal_seeds_leave_no_spread_to_draw_from():
    """No chance from them alone; p rests on the other side, and a typical spread gives a chance."""
    at = look([1.0799, 1.0799], 3, THEIRS, 0.25)
    assert at.chance is None and at.p is not None and 0 < at.chance_typical <= 1


@pytest.mark.parametrize(
    "scores, planned, theirs",
    [([], 3, THEIRS), ([1.08] * 4, 3, THEIRS), ([1.08], 1, THEIRS), ([1.08, 1.07], 3, Sample(n=1, mean=1.1, sd=None))],
)
def test_a_look_that_cannot_be_is_refused(scores, planned, theirs):
    """No seed yet, more seeds than registered, a plan of one, a reference without spread."""
    with pytest.raises(NotTestable):
        look(scores, planned, theirs, 0.25)
