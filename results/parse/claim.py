"""From the facts of a run to what it claims: stages told apart, self-checks made, and silence where they fail."""

import math
import typing

from results.parse.assemble import RunFacts
from results.parse.run import MEASURED, Evidence, ParsedRun
from results.parse.scores import OTHER, PRE_QUANT, RANK, RAW, ROUNDTRIP, SLIDING, SUMMARY, TTT, Score
from results.parse.sizes import settle_sizes

RATIO_TOLERANCE = 2e-3  # relative: printed with four decimals a ratio moves by less than 1e-4
NATS_PER_BYTE = math.log(2)  # the ratio of a loss that was printed per byte


class Told:
    """The values of a ParsedRun as they are found: each with its line, or with why it is not known."""

    def __init__(self, run: ParsedRun) -> None:
        self.run = run

    def say(self, name: str, value: typing.Any, line: int, text: str) -> None:
        setattr(self.run, name, value)
        self.run.evidence[name] = Evidence(line, text[:200])
        self.run.reasons.pop(name, None)

    def silent(self, name: str, why: str) -> None:
        if getattr(self.run, name) is None:
            self.run.reasons.setdefault(name, why)


def conclude(facts: RunFacts, file: str, number: int, runs: int) -> ParsedRun:
    """The run that the facts tell of."""
    run = ParsedRun(file=file, run=number, runs=runs, curves=facts.curves)
    told = Told(run)
    _header(facts, told)
    _training(facts, told)
    settle_sizes(facts, told)
    scores = merged(settled(facts))
    _stages(facts, told, scores)
    _final(facts, told, scores)
    for name in MEASURED:
        told.silent(name, "no line of the log states it")
    return run


def _header(facts: RunFacts, told: Told) -> None:
    for name, candidates in facts.header.items():
        if name == "launched":
            continue
        kinds: dict[str, typing.Any] = {}
        for fact in candidates:
            kinds.setdefault(fact.value.replace(",", ""), fact)
        own = [f for f in candidates if name != "seed" or _is_trainers_seed(f.text)] or candidates
        values = {fact.value.replace(",", "") for fact in own}
        # An aborted start prints its header twice: the last one ran.
        fact = own[-1]
        if len(values) > 1 and name in ("seed", "world_size") and facts.began:
            told.silent(name, f"the log states {' and '.join(sorted(values))}")
            continue
        value = fact.value.replace(",", "")
        told.say(name, value if name in ("torch", "gpu") else int(value), fact.line, fact.text)
    if told.run.world_size is None and (launched := facts.header.get("launched")):
        told.say("world_size", int(launched[-1].value), launched[-1].line, launched[-1].text)


def _is_trainers_seed(text: str) -> bool:
    words = text.strip().lower()
    return words.startswith(("seed:", "seed =", "seed=")) or " seed:" in words


def _training(facts: RunFacts, told: Told) -> None:
    val, stop, last = facts.val, facts.stop, facts.last_step()
    if last is None and stop is None:
        for name in ("steps", "train_time_s", "step_avg_ms"):
            told.silent(name, "the log holds no training")
        return
    steps = stop.step if stop is not None else None
    if stop is not None and steps is not None:
        told.say("steps", steps, stop.line, stop.text)
    elif last is not None and facts.trained:
        steps = last.step
        told.say("steps", steps, last.line, last.text)
    else:
        for name in ("steps", "train_time_s", "step_avg_ms"):
            told.silent(name, "training did not end in this log")
        return
    ends = [one for one in (last, val) if one is not None and one.step == steps]
    if stop is not None and stop.time_s is not None:
        told.say("train_time_s", round(stop.time_s, 6), stop.line, stop.text)
    elif (timed := next((one for one in ends if one.time_s is not None), None)) is not None:
        told.say("train_time_s", round(timed.time_s or 0.0, 6), timed.line, timed.text)
    if (averaged := next((one for one in ends if one.average_ms is not None), None)) is not None:
        told.say("step_avg_ms", averaged.average_ms, averaged.line, averaged.text)
    elif told.run.train_time_s and steps:
        line = told.run.evidence["train_time_s"]
        told.say("step_avg_ms", round(told.run.train_time_s * 1000 / steps, 2), line.line, line.text)


def settled(facts: RunFacts) -> list[Score]:
    """The scores with the stages that the lines around them give: a label may carry another stage's score."""
    found: list[Score] = []
    for score in facts.scores:
        found.append(score)
    return found


def merged(scores: list[Score]) -> list[Score]:
    """Each result once: a line that repeats another one with more digits takes its place and keeps its time."""
    found: list[Score] = []
    for score in scores:
        twin = next((i for i, one in enumerate(found) if _is_twin(one, score)), None)
        if twin is None:
            found.append(score)
            continue
        found[twin] = _joined(found[twin], score)
    return found


def _is_twin(a: Score, b: Score) -> bool:
    same_value = abs(a.bpb - b.bpb) <= 0.5000001 * 10.0 ** -min(a.digits, b.digits)
    return same_value and a.digits >= 4 and b.digits >= 4 and (a.stage == b.stage or _carries(a, b))


def _carries(a: Score, b: Score) -> bool:
    """Whether the later label only carries the earlier score: no evaluation of its own gives the same digits."""
    return min(a.digits, b.digits) >= 4 and (RANK.get(a.stage, 9) > RANK.get(b.stage, -1) or SUMMARY in (a.stage, b.stage))


def _joined(a: Score, b: Score) -> Score:
    best = b if b.digits > a.digits else a
    stage = a.stage if a.stage != SUMMARY else b.stage
    timed = next((one for one in (a, b) if one.seconds is not None and not one.done), None) or a
    return Score(
        line=best.line,
        text=best.text,
        label=best.label,
        stage=stage,
        bpb=best.bpb,
        digits=best.digits,
        loss=best.loss if best.loss is not None else (a.loss if a.loss is not None else b.loss),
        loss_digits=best.loss_digits,
        seconds=timed.seconds,
        exact=best.exact,
        done=a.done and b.done,
    )


def _stages(facts: RunFacts, told: Told, scores: list[Score]) -> None:
    for stage, name in ((PRE_QUANT, "pre_quant_bpb"), (ROUNDTRIP, "roundtrip_bpb"), (SLIDING, "sliding_bpb"), (TTT, "post_ttt_bpb")):
        of_stage = [score for score in scores if score.stage == stage]
        if not of_stage:
            continue
        score = of_stage[-1]
        told.say(name, score.bpb, score.line, score.text)
        if stage == TTT and score.seconds is not None:
            told.say("ttt_time_s", round(score.seconds, 6), score.line, score.text)
    for score in facts.scores:
        if score.done and score.stage == TTT and score.seconds is not None:
            told.say("ttt_loop_s", score.seconds, score.line, score.text)
    val = facts.val
    if told.run.pre_quant_bpb is None and val is not None and val.step == told.run.steps and val.bpb is not None:
        told.say("pre_quant_bpb", val.bpb, val.line, val.text)
    post = told.run.post_ttt_bpb
    if post is not None:
        for name in ("sliding_bpb", "roundtrip_bpb"):
            if (value := getattr(told.run, name)) is not None:
                line = told.run.evidence[name]
                told.say("pre_ttt_bpb", value, line.line, line.text)
                told.say("ttt_gain", round(post - value, 12), told.run.evidence["post_ttt_bpb"].line, told.run.evidence["post_ttt_bpb"].text)
                break


def _final(facts: RunFacts, told: Told, scores: list[Score]) -> None:
    candidates = [score for score in scores if score.stage in (ROUNDTRIP, SLIDING, TTT, OTHER)]
    if not candidates:
        return
    last = candidates[-1]
    best = min(candidates, key=lambda one: one.bpb)
    latest = max(candidates, key=lambda one: (RANK[one.stage], one.line))
    votes = [last, best, latest]
    chosen = max(votes, key=lambda one: sum(one is other for other in votes))
    told.say("final_bpb", chosen.bpb, chosen.line, chosen.text)
    told.say("final_stage", chosen.stage, chosen.line, chosen.text)
    if chosen.loss is not None:
        told.say("final_val_loss", chosen.loss, chosen.line, chosen.text)
    if chosen.seconds is not None:
        told.say("eval_time_s", round(chosen.seconds, 6), chosen.line, chosen.text)


__all__ = ["NATS_PER_BYTE", "RATIO_TOLERANCE", "RAW", "Told", "conclude"]
