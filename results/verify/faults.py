"""The name of a fault: which other number somebody's claim is, where it is not the derived one."""

import itertools
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from results.stats import mean
from results.verify.claim import Claim
from results.verify.seen import Seen
from results.verify.words import BPB, LARGEST, MEAN, ONE, SCORES, SD, SIZES

MAX_SUBSETS = 1024  # of the seeds of a folder, tried for a mean of fewer
STAGE_WORDS = {
    "pre_quant_bpb": "the score before quantization",
    "roundtrip_bpb": "the plain score of the quantized weights",
    "sliding_bpb": "the sliding-window score",
    "pre_ttt_bpb": "the score before test-time training",
    "post_ttt_bpb": "the score after test-time training",
}


def fault_of(claim: Claim, derived: float, runs: Mapping[int, Seen], others: Sequence[Seen]) -> str:
    """Why the claim is not the derived value, in words. Always something: at least that nothing here gives it."""
    for told in itertools.chain(
        _of_spread(claim, runs) if claim.over == SD else (),
        _of_size(claim, derived, runs) if claim.metric in SIZES else (),
        _of_seeds(claim, runs) if claim.over in (MEAN, LARGEST) else (),
        _of_another_seed(claim, runs) if claim.over == ONE else (),
        _of_another_figure(claim, runs),
        _of_digits(claim, derived),
        _of_other_runs(claim, others),
    ):
        return told
    if claim.metric in SIZES and claim.value is not None and derived > claim.value:
        return f"the artifact is {derived - claim.value:,.0f} B bigger than claimed"
    return "no log of the folder gives this number"


def _values(runs: Mapping[int, Seen], metric: str) -> dict[int, float]:
    return {seed: run.values[metric] for seed, run in runs.items() if metric in run.values}


def _of_spread(claim: Claim, runs: Mapping[int, Seen]) -> Iterator[str]:
    known = list(_values(runs, claim.metric).values())
    if len(known) < 2:
        return
    if claim.fits(statistics.pstdev(known)):
        yield f"population sd (divides by n): the sample sd divides by n - 1, here {len(known) - 1}"
    if claim.fits(statistics.stdev(known) / math.sqrt(len(known))):
        yield "the standard error of the mean (sd / sqrt(n)), not the sample sd"
    if claim.fits(max(known) - min(known)):
        yield "the range (largest - smallest), not the sample sd"
    for left, subset in _subsets(_values(runs, claim.metric)):
        if len(subset) > 1 and claim.fits(statistics.stdev(subset)):
            yield f"the sd of {len(subset)} of {len(known)} seeds (without {left})"
    other = "val_loss" if claim.metric == BPB else BPB
    if len(losses := list(_values(runs, other).values())) > 1 and claim.fits(statistics.stdev(losses)):
        yield f"the sd of {_named(other)}, not of {_named(claim.metric)}"


def _of_seeds(claim: Claim, runs: Mapping[int, Seen]) -> Iterator[str]:
    known = _values(runs, claim.metric)
    if len(known) < 2:
        return
    best = min(known, key=lambda seed: known[seed])
    for seed in sorted(known, key=lambda one: one != best):
        if claim.fits(known[seed]):
            if claim.metric in SIZES:
                yield f"the artifact of seed {seed} alone; the largest seed's is bigger"
            elif seed == best and claim.metric in SCORES:
                yield f"best seed ({seed}) passed off as the mean of {len(known)}"
            else:
                yield f"the value of seed {seed} alone, not the mean of {len(known)}"
    for left, subset in _subsets(known):
        if claim.fits(mean(subset)):
            yield f"a mean over {len(subset)} of the {len(known)} seeds listed (without {left})"
    if claim.fits(statistics.median(known.values())):
        yield "the median, not the mean"


def _subsets(known: Mapping[int, float]) -> Iterator[tuple[str, list[float]]]:
    """The subsets of at least two seeds, the largest first, each with the seeds that it leaves out."""
    seeds = list(known)
    tried = 0
    for size in range(len(seeds) - 1, 1, -1):
        for kept in itertools.combinations(seeds, size):
            tried += 1
            if tried > MAX_SUBSETS:
                return
            left = ", ".join(str(seed) for seed in seeds if seed not in kept)
            yield left, [known[seed] for seed in kept]


def _of_size(claim: Claim, derived: float, runs: Mapping[int, Seen]) -> Iterator[str]:
    if claim.mega and replace(claim, value=(claim.value or 0) / 1e6 * 2**20, half=claim.half * 2**20 / 1e6).fits(
        derived
    ):
        yield f"MiB written as MB: {derived / 2**20:.3f} MiB are {derived / 1e6:.3f} MB, and the cap is decimal"
    if claim.metric != "artifact_bytes":
        return
    picked = [runs[claim.seed]] if claim.seed is not None and claim.seed in runs else list(runs.values())
    models = [run.values["model_bytes"] for run in picked if "model_bytes" in run.values]
    if any(claim.fits(one) for one in [*models, *([mean(models)] if models else [])]):
        yield "the artifact without the code: code counts as well"
    if claim.mega and any(
        replace(claim, value=(claim.value or 0) / 1e6 * 2**20, half=claim.half * 2**20 / 1e6).fits(one)
        for one in models
    ):
        yield "the artifact without the code, and in MiB: code counts as well, and the cap is decimal"


def _of_another_seed(claim: Claim, runs: Mapping[int, Seen]) -> Iterator[str]:
    for seed, run in runs.items():
        if (
            seed != claim.seed
            and claim.metric in (*SCORES, "val_loss", *SIZES)
            and claim.fits(run.values.get(claim.metric))
        ):
            yield f"the value of seed {seed} ({run.source(claim.metric)})"


def _of_another_figure(claim: Claim, runs: Mapping[int, Seen]) -> Iterator[str]:
    """Nats for bits, or another stage of the same runs."""
    if claim.metric not in (*SCORES, "val_loss") or claim.over not in (ONE, MEAN):
        return
    alone = claim.seed is not None and claim.seed in runs
    picked = {seed: run for seed, run in runs.items() if not alone or seed == claim.seed}
    for metric in (BPB, "val_loss", *STAGE_WORDS):
        known = _values(picked, metric)
        if metric == claim.metric or len(known) != len(picked) or not known:
            continue
        if claim.fits(mean(list(known.values()))):
            if claim.metric == "val_loss" or metric == "val_loss":
                yield f"{_named(metric)}, not {_named(claim.metric)}"
            else:
                yield f"{STAGE_WORDS.get(metric, 'the final score')}, not {_named(claim.metric)}"


def _of_digits(claim: Claim, derived: float) -> Iterator[str]:
    if claim.value is None:
        return
    unit = 2 * claim.half
    if unit and math.isclose(math.trunc(derived / unit) * unit, claim.value, rel_tol=1e-9, abs_tol=unit / 100):
        yield "cut off, not rounded"
    elif unit and abs(claim.value - derived) < 1.5 * unit:
        yield "off by one in its last digit"


def _of_other_runs(claim: Claim, others: Sequence[Seen]) -> Iterator[str]:
    for run in others:
        if claim.metric in (*SCORES, "val_loss", *SIZES) and claim.fits(run.values.get(claim.metric)):
            whose = "no seed" if run.seed is None else f"seed {run.seed}"
            yield f"a number of another log ({run.source(claim.metric)}, {whose}), which no claimed seed has"


def _named(metric: str) -> str:
    words = {BPB: "the final val_bpb (bits per byte)", "val_loss": "val_loss (nats per token)"}
    return words.get(metric, STAGE_WORDS.get(metric, metric))
