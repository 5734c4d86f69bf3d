"""The gates of time: training, what else reads training data, each evaluation and all together."""

from results.gates import OVERSHOOT, OVERSHOOT_S
from results.verify.case import Case, Check
from results.verify.finding import FAIL, PASS, UNKNOWN
from results.verify.logtext import LogText
from results.verify.seen import Seen
from results.verify.words import BPB


def _under(case: Case, name: str, figure: str, limit: float, tolerance: float, word: str) -> Check:
    """A time of the largest seed against a cap, with a named tolerance above it."""
    asked = f"{limit:.3f} s" + (f" + {tolerance:g} ({word})" if tolerance else "")
    found, missing = case.largest(figure), case.missing(figure)
    if found is None:
        return Check(name=name, value="", limit=asked, verdict=UNKNOWN, why=missing)
    seed, value = found
    late = value > limit
    verdict = FAIL if value > limit + tolerance else UNKNOWN if missing else PASS
    why = missing if verdict == UNKNOWN else f"over the cap, within the tolerance for {word}" if late else ""
    return Check(
        name=name,
        value=f"{value:.3f} s",
        limit=asked,
        margin=f"{limit - value:.3f} s",
        seed=seed,
        source=case.runs[seed].source(figure),
        verdict=verdict,
        why="" if verdict == FAIL else why,
    )


def train_seconds(case: Case) -> Check:
    tolerance = 0.0 if case.ours else OVERSHOOT_S
    return _under(case, "train", "train_time_s", case.policy["train_seconds"], tolerance, OVERSHOOT)


def training_data(case: Case) -> Check:
    """Training and, where the log times it, the collection of Hessians after it: both read training data."""
    name, limit = "training data", case.policy["train_seconds"]
    tolerance = 0.0 if case.ours else OVERSHOOT_S
    asked = f"{limit:.3f} s" + (f" + {tolerance:g} ({OVERSHOOT})" if tolerance else "")
    worst: tuple[float, int, str] | None = None
    why = case.incomplete
    for seed, run in case.runs.items():
        text = case.texts.get(run.file, LogText())
        if "train_time_s" not in run.values:
            why = why or run.why("train_time_s")
        elif run.runs > 1:
            why = why or f"{run.file} holds {run.runs} runs: what was collected when is not told apart"
        elif text.hessians and not text.self_made:
            total = run.values["train_time_s"] + sum(seconds for _, seconds in text.hessians)
            worst = max(worst or (0.0, 0, ""), (total, seed, f"{run.file}:{text.hessians[-1][0]}"))
        elif text.hessians_begun is not None and not text.self_made:
            why = why or f"{run.file}:{text.hessians_begun} collects Hessians and does not say for how long"
        else:
            why = why or "the log does not say what is read after training"
    if worst is None:
        return Check(name=name, value="", limit=asked, verdict=UNKNOWN, why=why)
    total, seed, source = worst
    verdict = FAIL if total > limit + tolerance else UNKNOWN if why else PASS
    note = "training and Hessians together"
    return Check(
        name=name,
        value=f"{total:.3f} s",
        limit=asked,
        margin=f"{limit - total:.3f} s",
        seed=seed,
        source=source,
        verdict=verdict,
        why=why if verdict == UNKNOWN else note,
    )


def all_evaluations(run: Seen, text: LogText) -> tuple[float, float, int] | None:
    """(least, most, count) seconds of all evaluations of a log; None where it does not time every one. A stated sum
    counts where it is not below what it sums up."""
    if (found := _timed(run, text)) is None or text.eval_sum is None:
        return found
    least, most, count = found
    stated = text.eval_sum
    return max(least, stated.seconds), max(most, stated.seconds), max(count, stated.stages)


def _timed(run: Seen, text: LogText) -> tuple[float, float, int] | None:
    """The same of the lines of the stages.

    The final stage's clock may stand on another line than those that are summed, in other units: of the same score it
    is the same stage, told again; of another it is one more. Where neither is sure, least and most differ.
    """
    final = run.values.get("eval_time_s")
    if run.runs > 1 or final is None:
        return None
    stages = {(one.line if one.score is None else one.score, one.seconds): one for one in text.evaluations}
    seconds = [one.seconds for one in stages.values()]
    total = sum(seconds)
    if any(f"{run.file}:{one.line}" == run.source("eval_time_s") for one in text.evaluations):
        return max(total, final), max(total, final), len(stages)
    of_score = [one.seconds for one in stages.values() if one.score is not None and one.score == run.values.get(BPB)]
    if of_score:
        total += max(0.0, final - max(of_score))
        return total, total, len(stages)
    if any(abs(one - final) <= max(0.1, 0.002 * final) for one in [*seconds, total]):
        return max(total, final), total + final, len(stages)
    return total + final, total + final, len(stages) + 1


def evaluation(case: Case) -> list[Check]:
    """The longest stage, and the sum of all stages that the log times."""
    limit = case.policy["evaluate_seconds"]
    asked = f"{limit:.3f} s"
    stage = _under(case, "evaluate: stage", "eval_time_s", limit, 0.0, "")
    sums: dict[int, tuple[float, float, int]] = {}
    why = case.incomplete
    for seed, run in case.runs.items():
        if (found := all_evaluations(run, case.texts.get(run.file, LogText()))) is None:
            why = why or f"{run.place}: the log does not time every stage"
        else:
            sums[seed] = found
    if not sums:
        return [stage, Check(name="evaluate: sum", value="", limit=asked, verdict=UNKNOWN, why=why)]
    seed = max(sums, key=lambda one: sums[one])
    least, most, stages = sums[seed]
    told = f"{stages} evaluations in the log together"
    if least > limit:
        verdict, why = FAIL, told
    elif stage.verdict == FAIL or why:
        verdict, why = UNKNOWN, why or "a stage alone is over"
    elif max(found[1] for found in sums.values()) > limit:
        verdict, why = UNKNOWN, f"up to {most:.3f} s, if the final stage's time is not one of those that stand alone"
    else:
        verdict, why = PASS, f"{told}, diagnostic ones too"
    summed = Check(
        name="evaluate: sum",
        value=f"{least:.3f} s",
        limit=asked,
        margin=f"{limit - least:.3f} s",
        seed=seed,
        source=case.runs[seed].source("eval_sum_s")
        if "eval_sum_s" in case.runs[seed].sources
        else case.runs[seed].file,
        verdict=verdict,
        why=why,
    )
    return [stage, summed]
