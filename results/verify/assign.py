"""Which run stands behind which claimed seed, and which logs lie about theirs."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from results.verify.claim import Claim
from results.verify.finding import FAIL, PASS, UNKNOWN, Finding
from results.verify.seen import Seen
from results.verify.words import BPB, ONE


@dataclass
class Assigned:
    """A claimed seed stands in exactly one of the three."""

    runs: dict[int, Seen] = field(default_factory=dict)
    lies: dict[int, str] = field(default_factory=dict)
    unknown: dict[int, str] = field(default_factory=dict)
    notes: dict[int, str] = field(default_factory=dict)
    others: list[Seen] = field(default_factory=list)  # runs behind no claimed seed


def assign(seeds: Sequence[int], seen: Sequence[Seen], claims: Sequence[Claim]) -> Assigned:
    """The run of each claimed seed: the one that printed it. A name alone is believed where nothing was printed."""
    found = Assigned()
    for seed in seeds:
        _one(seed, seen, [c for c in claims if c.seed == seed and c.over == ONE and c.metric == BPB], found)
    _find_copies(found)
    found.others = [run for run in seen if not any(run is one or _equal(run, one) for one in found.runs.values())]
    return found


def narrowed(found: Assigned, seeds: Sequence[int]) -> Assigned:
    """The same for fewer seeds: the runs of the rest stand behind none of them."""
    rest = [run for seed, run in found.runs.items() if seed not in seeds]
    return Assigned(
        runs={seed: run for seed, run in found.runs.items() if seed in seeds},
        lies={seed: why for seed, why in found.lies.items() if seed in seeds},
        unknown={seed: why for seed, why in found.unknown.items() if seed in seeds},
        notes={seed: note for seed, note in found.notes.items() if seed in seeds},
        others=[*found.others, *rest],
    )


def _one(seed: int, seen: Sequence[Seen], scores: Sequence[Claim], found: Assigned) -> None:
    printed = [run for run in seen if run.printed == seed and run.named in (None, seed)]
    printed = printed or [run for run in seen if run.printed == seed]
    liars = [run for run in seen if run.named == seed and run.printed not in (None, seed)]
    silent = [run for run in seen if run.named == seed and run.printed is None]
    if printed and printed[0].named not in (None, seed):
        found.lies[seed] = f"{printed[0].place} printed seed {seed} but is named for seed {printed[0].named}"
    elif printed:
        _choose(seed, printed, scores, found)
    elif liars:
        found.lies[seed] = f"{liars[0].source('seed')} printed seed {liars[0].printed}"
    elif silent:
        _choose(seed, silent, scores, found)
        found.notes.setdefault(seed, f"{silent[0].place} prints no seed: only its name tells it")
    else:
        alone = len(seen) == 1 and seen[0].seed is None
        found.unknown[seed] = (
            f"{seen[0].place} neither prints nor names a seed" if alone else f"there is no log of seed {seed}"
        )


def _choose(seed: int, runs: Sequence[Seen], scores: Sequence[Claim], found: Assigned) -> None:
    """Of several runs of a seed, equal ones are one; of different ones, that which the seed's own claim is of."""
    runs = sorted(runs, key=lambda run: run.named != seed)  # of equal ones, that which is named for the seed
    different = [run for i, run in enumerate(runs) if not any(_equal(run, one) for one in runs[:i])]
    named = [run for run in different if run.named == seed]
    fitting = [run for run in different if any(claim.fits(run.values.get(BPB)) for claim in scores)]
    if len(different) == 1 or len(fitting) == 1 or (not scores and len(named) == 1):
        chosen = (fitting if len(different) > 1 and len(fitting) == 1 else named if len(named) == 1 else different)[0]
        found.runs[seed] = chosen
        if len(different) > 1:
            rest = ", ".join(f"{run.place}: {_shown(run)}" for run in different if run is not chosen)
            found.notes[seed] = f"seed {seed} was run more than once ({rest})"
        return
    told = ", ".join(f"{run.place}: {_shown(run)}" for run in different[:4])
    found.unknown[seed] = f"{len(different)} runs of seed {seed} differ, and none is told apart ({told})"


def _equal(one: Seen, other: Seen) -> bool:
    return (one.digest == other.digest and one.run == other.run) or one.same_numbers(other)


def _same(one: Seen, other: Seen) -> str:
    """In words, why two are one run."""
    return "the same file" if one.digest == other.digest and one.run == other.run else one.same_run(other)


def _shown(run: Seen) -> str:
    return f"{run.values[BPB]:.8g} BPB" if BPB in run.values else "no final score"


def _find_copies(found: Assigned) -> None:
    """One log under two seeds: of two that agree in all digits, the second is no run of its own."""
    seeds = list(found.runs)
    for i, seed in enumerate(seeds):
        for earlier in seeds[:i]:
            one, other = found.runs.get(seed), found.runs.get(earlier)
            if one is not None and other is not None and one is not other and (same := _same(one, other)):
                found.lies[seed] = f"{one.place} and {other.place} (seed {earlier}) are {same}: one run, told twice"
                del found.runs[seed]
                break
            if one is not None and other is not None and one is not other and (alike := one.trained_alike(other)):
                told = f"{one.place} and {other.place} (seed {earlier}) print {alike}, with other scores"
                found.unknown[seed] = f"{told}: whether these are two runs, no log shows"
                del found.runs[seed]
                break


def seed_findings(seeds: Sequence[int], place: str, assigned: Assigned) -> list[Finding]:
    """A line a claimed seed."""
    found = []
    for seed in seeds:
        says = f"seed {seed}"
        if seed in assigned.lies:
            found.append(Finding(place, says, "", "", FAIL, assigned.lies[seed]))
        elif seed in assigned.unknown:
            found.append(Finding(place, says, "", "", UNKNOWN, assigned.unknown[seed]))
        else:
            run = assigned.runs[seed]
            note = assigned.notes.get(seed, "")
            verdict = UNKNOWN if run.printed is None else PASS
            shown = "" if run.printed is None else f"seed {run.printed}"
            found.append(Finding(place, says, shown, run.source("seed"), verdict, note))
    return found
