"""One claim against the runs behind it: the derived value, where it stands, and a verdict."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from results.stats import mean, sample_sd
from results.verify.assign import Assigned
from results.verify.claim import Claim
from results.verify.faults import fault_of
from results.verify.finding import AGREES, FAIL, PASS, UNKNOWN, Finding, shown
from results.verify.seen import Seen
from results.verify.words import BPB, LARGEST, MEAN, ONE, SCORES, SD, SIZES, SMALLEST

WHOLE_STAGE = "the whole stage's time"
LOOP_SHARE = 0.9  # of a stage with test-time training, that its adaptation loop takes at least
# Figures that a label may stand for, the likeliest first, each with what to say where it is that one.
READINGS: dict[str, tuple[tuple[str, str], ...]] = {
    "ttt_time_s": (("ttt_loop_s", ""), ("ttt_time_s", WHOLE_STAGE)),
    "eval_time_s": (
        ("eval_time_s", ""),
        ("ttt_time_s", "the stage with test-time training"),
        ("eval_sum_s", "all evaluations together"),
    ),
    "post_ttt_bpb": (("post_ttt_bpb", ""),),
    "pre_ttt_bpb": (("pre_ttt_bpb", ""), ("sliding_bpb", ""), ("roundtrip_bpb", "the plain score")),
    "sliding_bpb": (("sliding_bpb", ""), ("pre_ttt_bpb", "")),
    "any_bpb": tuple((name, "") for name in (BPB, "roundtrip_bpb", "sliding_bpb", "pre_ttt_bpb", "pre_quant_bpb")),
}
# Where several stages could be meant, a number that stands in a log, though elsewhere, is not refuted.
LOOSE = ("pre_quant_bpb", "any_bpb", "roundtrip_bpb", "eval_time_s", "ttt_time_s")
CLOCKS = (
    "eval_time_s",
    "ttt_time_s",
    "train_time_s",
    "step_avg_ms",
)  # may have more in them than the log's: start-up, other stages
FINE = 1e-6  # a score that its log prints to here may be claimed with more digits: nothing rests on these


@dataclass(frozen=True)
class Derived:
    value: float
    source: str
    step: float  # how much of it the evidence leaves open: a unit of the last digit printed
    note: str = ""


class Missing(Exception):
    """A value that the evidence does not give; the message says why."""


def judge(claim: Claim, seeds: Sequence[int], assigned: Assigned) -> Finding:
    """Pass where the claim is the derived value to all digits that it has; unknown where nothing can be derived."""
    if claim.value is None:
        return _finding(claim, None, UNKNOWN, "this cannot be read as a number")
    if claim.seed is not None and claim.seed in assigned.lies:
        return _finding(claim, None, FAIL, assigned.lies[claim.seed])
    try:
        readings = _readings(claim, seeds, assigned)
    except Missing as missing:
        return _finding(claim, None, UNKNOWN, str(missing))
    if _is_coarse(claim, readings[0].value) and any(claim.fits(one.value) for one in readings):
        return _finding(claim, readings[0], UNKNOWN, "so few digits support no such figure")
    for one in readings:
        if claim.fits(one.value):
            return _finding(claim, one, PASS, one.note)
    best = readings[0]
    if claim.metric == "ttt_gain" and best.value < 0 and replace(claim, value=-claim.value).fits(best.value):
        return _finding(claim, best, PASS, "written as pre - post: positive is better")
    for one in readings:
        if abs(claim.value - one.value) <= (0.5 * one.step + claim.half) * (1 + 1e-6):
            return _within_the_digits(claim, one)
    if claim.metric in SCORES and claim.over != SD and 0 < claim.half <= 5.1e-8:
        for one in readings:
            if abs(claim.value - one.value) <= 3 * claim.half:
                return _finding(claim, one, PASS, "off by one in its last digit, the seventh or a later decimal")
    if claim.metric in CLOCKS and claim.value > best.value:
        nearest = max((one for one in readings if one.value <= claim.value), key=lambda one: one.value)
        why = "longer than by the log's own clock; which other clock it is of, is not told"
        return _finding(claim, nearest, UNKNOWN, why)
    if claim.metric == "ttt_time_s" and best.note == WHOLE_STAGE and claim.value >= LOOP_SHARE * best.value:
        why = "a little shorter than the whole stage: the loop's own clock, it may be, which the log does not print"
        return _finding(claim, best, UNKNOWN, why)
    return _finding(claim, best, FAIL, fault_of(claim, best.value, assigned.runs, assigned.others))


def _is_coarse(claim: Claim, derived: float) -> bool:
    """A score in whole numbers, a spread of 0.00: what they leave open is larger than what they tell."""
    if claim.over == SD:
        return claim.half > derived > 0
    return claim.metric in (*SCORES, "val_loss") and claim.half > 0.005 * (1 + 1e-9)


def _within_the_digits(claim: Claim, derived: Derived) -> Finding:
    """Not the derived value to the claim's digits, but as near as the log's own digits let one see."""
    coarse = claim.metric in (*SCORES, "val_loss") and derived.step > FINE * (1 + 1e-9)
    if not coarse:
        return _finding(claim, derived, PASS, AGREES)
    if claim.half < 0.5 * derived.step * (1 - 1e-6):
        digits = round(-math.log10(derived.step))
        return _finding(claim, derived, FAIL, f"more digits than the log supports: it has {digits}")
    return _finding(claim, derived, FAIL, "off by one in its last digit")


def _readings(claim: Claim, seeds: Sequence[int], assigned: Assigned) -> list[Derived]:
    """What the claim may be, the likeliest first. Raises Missing where not one can be derived."""
    picked = [claim.seed] if claim.over == ONE and claim.seed is not None else list(seeds)
    reasons: list[str] = []
    found: list[Derived] = []
    for metric, note in READINGS.get(claim.metric, ((claim.metric, ""),)):
        try:
            values = _values(metric, picked, assigned)
        except Missing as missing:
            reasons.append(str(missing))
            continue
        found += _over(claim, metric, values, note)
    if not found:
        raise Missing(reasons[0] if reasons else "no seed is claimed")
    return found


def _values(metric: str, seeds: Sequence[int], assigned: Assigned) -> list[tuple[Seen, float]]:
    found = []
    for seed in seeds:
        if seed in assigned.lies:
            raise Missing(f"not every seed has a run of its own: {assigned.lies[seed]}")
        if seed not in assigned.runs:
            raise Missing(assigned.unknown.get(seed, f"there is no log of seed {seed}"))
        run = assigned.runs[seed]
        if metric not in run.values:
            raise Missing(run.why(metric))
        found.append((run, run.values[metric]))
    if not found:
        raise Missing("no seed is claimed, and no log tells one")
    return found


def _over(claim: Claim, metric: str, values: list[tuple[Seen, float]], note: str) -> list[Derived]:
    numbers = [value for _, value in values]
    first = values[0][0].source(metric)
    sources = first if len(values) == 1 else f"{first} +{len(values) - 1}"
    # A time is cut off where it is printed, a gain is a difference of two figures: these are open by twice as much.
    wide = 2.0 if metric.endswith("_s") or metric in ("ttt_gain", "step_avg_ms") else 1.0
    step = wide * max(run.steps.get(metric, 0.0) for run, _ in values)
    if claim.over == SD:
        sd = sample_sd(numbers)
        if sd is None:
            raise Missing("a sample sd needs two seeds, and one is claimed")
        return [Derived(sd, sources, 1.5 * step, note)]
    largest = max(values, key=lambda pair: pair[1])
    if claim.over == LARGEST:
        found = [Derived(largest[1], largest[0].source(metric), step, note)]
        if metric in SIZES and len(set(numbers)) > 1:
            told = f"the mean of the seeds; the largest has {shown(metric, largest[1])}"
            found.append(Derived(mean(numbers), sources, step, told))
        return found
    if claim.over == SMALLEST:
        smallest = min(values, key=lambda pair: pair[1])
        return [Derived(smallest[1], smallest[0].source(metric), step, note)]
    found = [Derived(mean(numbers), sources, step, note)]
    if claim.over == MEAN and metric in (*SIZES, "model_params") and len(set(numbers)) > 1:
        found.append(Derived(largest[1], largest[0].source(metric), step, "of the largest seed"))
    if claim.over == MEAN and metric in ("steps", "step_avg_ms", "train_time_s", "eval_time_s", "ttt_time_s"):
        # Written without a word for how the seeds are put together; which one is meant decides nothing.
        found += [Derived(value, run.source(metric), step, f"of seed {run.seed}") for run, value in values[:20]]
    return found


def _finding(claim: Claim, derived: Derived | None, verdict: str, why: str) -> Finding:
    what = shown(claim.metric, derived.value, claim.over == SD) if derived else ""
    return Finding(
        claim.place,
        claim.says,
        what,
        derived.source if derived else "",
        verdict,
        why,
        claimed=claim.value,
        value=derived.value if derived else None,
    )
