"""From the facts of a run to what it says: header, training, sizes, and each stage's score apart."""

from dataclasses import replace

from results.parse.claim import choose, is_twin, lacks_its_twin
from results.parse.facts import Fact, RunFacts, StepLine
from results.parse.run import ParsedRun
from results.parse.scores import AVERAGED_WORDS, PRE_QUANT, ROUNDTRIP, SLIDING, SUMMARY, TTT, Score, words_of
from results.parse.sizes import settle_sizes
from results.parse.told import Told

STAGE_FIELDS = (
    (PRE_QUANT, "pre_quant_bpb"),
    (ROUNDTRIP, "roundtrip_bpb"),
    (SLIDING, "sliding_bpb"),
    (TTT, "post_ttt_bpb"),
)
TRAINING_FIELDS = ("steps", "train_time_s", "step_avg_ms")
# Printed with tenths, a total over the evaluation may differ by that from the stage that is all of it.
TENTH = 0.06


def conclude(facts: RunFacts, file: str) -> ParsedRun:
    """The run that the facts tell of, as the only one of its file."""
    told = Told(ParsedRun(file=file, run=1, curves=facts.curves))
    _header(facts, told)
    _training(facts, told)
    settle_sizes(facts, told)
    stages = settled(facts)
    scores = merged(stages)
    open_stage = None
    if stages and (facts.cut is not None or lacks_its_twin(facts)):
        open_stage = next((one.stage for one in scores if is_twin(one, stages[-1])), stages[-1].stage)
    _stages(facts, told, scores, open_stage)
    _ttt(facts, told, scores)
    _final(facts, told, scores)
    return told.finish()


def _header(facts: RunFacts, told: Told) -> None:
    for name, candidates in facts.header.items():
        if name == "launched":
            continue
        own = [fact for fact in candidates if name != "seed" or _is_trainers(fact)] or candidates
        values = {fact.value.replace(",", "") for fact in own}
        if len(values) > 1:
            told.silent(f"the log states {' and '.join(sorted(values)[:4])}", name)
            continue
        fact = own[0]
        value = fact.value.replace(",", "")
        told.say(name, value if name in ("torch", "gpu") else int(value), fact.line, fact.text)
    launched = facts.header.get("launched", [])
    if "world_size" not in facts.header and launched and "nnodes" not in launched[0].text:
        told.say("world_size", int(launched[0].value), launched[0].line, launched[0].text)


def _is_trainers(fact: Fact) -> bool:
    """Whether the trainer states its seed, rather than a launcher or a file name."""
    words = fact.text.strip().lower()
    return words.startswith(("seed:", "seed =", "seed=")) or " seed:" in words


def _training(facts: RunFacts, told: Told) -> None:
    stop, last = facts.stop, facts.last_step()
    if stop is None and last is None:
        return told.silent("the log holds no training", *TRAINING_FIELDS)
    if stop is not None:
        steps, line, text = stop.step, stop.line, stop.text
    elif last is not None and facts.trained:
        steps, line, text = last.step, last.line, last.text
    else:
        return told.silent("training did not end in this log", *TRAINING_FIELDS)
    told.say("steps", steps, line, text)
    ends = [one for one in (facts.val, last) if one is not None and one.step == steps]
    if stop is not None and stop.time_s is not None:
        told.say("train_time_s", round(stop.time_s, 6), stop.line, stop.text)
    else:
        _say_first(told, "train_time_s", ends, [one.time_s for one in ends])
    if stop is not None and stop.average_ms is not None:
        told.say("step_avg_ms", round(stop.average_ms, 6), stop.line, stop.text)
    else:
        _step_average(told, ends, steps)


def _step_average(told: Told, ends: list[StepLine], steps: int) -> None:
    """Printed or computed; a printed one without a unit, or a time that it contradicts, is not believed."""
    spent = told.run.train_time_s
    computed = round(spent * 1000 / steps, 2) if spent is not None and steps else None
    printed = next((one for one in ends if one.average_ms is not None), None)
    agree = printed is not None and computed is not None and _agree(printed.average_ms, computed)
    if printed is not None and (agree or (printed.has_unit and computed is None)):
        told.say("step_avg_ms", round(printed.average_ms or 0.0, 6), printed.line, printed.text)
    elif printed is not None and printed.has_unit and computed is not None:
        told.take_back("train_time_s", f"{spent} s and {printed.average_ms} ms a step contradict each other")
        told.silent("it and the training time contradict each other", "step_avg_ms")
    elif computed is not None:
        told.say_as("step_avg_ms", computed, "train_time_s")


def _agree(printed: float | None, computed: float) -> bool:
    return printed is not None and abs(printed - computed) <= 0.05 * computed + 0.01


def _say_first(told: Told, name: str, lines: list[StepLine], values: list[float | None]) -> None:
    for line, value in zip(lines, values, strict=True):
        if value is not None:
            return told.say(name, round(value, 6), line.line, line.text)


def settled(facts: RunFacts) -> list[Score]:
    """The scores with the stages that the lines around them give: a label may carry another stage's score."""
    has_sliding = any(score.stage == SLIDING for score in facts.scores)
    return [
        replace(score, stage=score.announced) if score.announced is not None and not has_sliding else score
        for score in facts.scores
    ]


def merged(scores: list[Score]) -> list[Score]:
    """Each result once: a line that repeats another one with more digits takes its place and keeps its time."""
    found: list[Score] = []
    for score in scores:
        place = next((i for i, one in enumerate(found) if is_twin(one, score)), None)
        if place is None:
            found.append(score)
        else:
            found[place] = _joined(found[place], score)
    return found


def _joined(a: Score, b: Score) -> Score:
    best = b if b.digits > a.digits else a
    timed = next((one for one in (a, b) if one.seconds is not None and not one.done), a)
    losses = [one.loss for one in (best, a, b) if one.loss is not None]
    return replace(
        best,
        stage=a.stage if a.stage != SUMMARY else b.stage,
        loss=losses[0] if losses else None,
        seconds=timed.seconds,
        timed=timed.timed,
        done=a.done and b.done,
    )


def _stages(facts: RunFacts, told: Told, scores: list[Score], open_stage: str | None) -> None:
    """Each stage's last score; of the stage in which a log was cut none, since a better one may have followed."""
    for stage, name in STAGE_FIELDS:
        if stage == open_stage:
            told.silent("the log was cut in this stage", name)
        elif of_stage := [score for score in scores if score.stage == stage]:
            best = min(of_stage, key=lambda one: one.bpb)
            differ = best is not of_stage[-1] if stage != PRE_QUANT else len(_averages(of_stage)) > 1
            if differ:
                told.silent(f"lines {best.line} and {of_stage[-1].line} state different ones", name)
            else:
                told.say(name, of_stage[-1].bpb, of_stage[-1].line, of_stage[-1].text)
    _pre_quant(facts, told)
    if told.run.post_ttt_bpb is None:
        return
    before = next((name for name in ("sliding_bpb", "roundtrip_bpb") if getattr(told.run, name) is not None), None)
    if before is not None:
        told.say_as("pre_ttt_bpb", getattr(told.run, before), before)
        told.say_as("ttt_gain", round(told.run.post_ttt_bpb - getattr(told.run, before), 12), "post_ttt_bpb")


def _averages(scores: list[Score]) -> set[str]:
    """The kinds of averaged weights that were scored beside each other, to choose one."""
    return {word for score in scores for word in words_of(score.label) & AVERAGED_WORDS}


def _pre_quant(facts: RunFacts, told: Told) -> None:
    """The last step's score where averaged weights have none; and nothing while either may still follow."""
    name, val, learned = "pre_quant_bpb", facts.val, facts.adapted_weights
    if told.run.pre_quant_bpb is not None:
        if learned is not None and not facts.packed and told.run.evidence[name].line < learned.line:
            told.take_back(name, f"the weights were still learning in line {learned.line}")
    elif name not in told.run.reasons and facts.packed and val is not None and val.step == told.run.steps:
        told.say(name, val.bpb, val.line, val.text)


def _ttt(facts: RunFacts, told: Told, scores: list[Score]) -> None:
    """The time of the stage, and of the adaptation loop in it."""
    if told.run.post_ttt_bpb is None:
        return
    for score in facts.scores:
        if score.done and score.stage == TTT and score.seconds is not None:
            told.say("ttt_loop_s", score.seconds, score.line, score.text)
    if told.run.ttt_loop_s is None and facts.loop is not None:
        told.say("ttt_loop_s", float(facts.loop.value), facts.loop.line, facts.loop.text)
    timed = [score for score in scores if score.stage == TTT and score.seconds]
    if timed and timed[-1].seconds is not None:
        told.say("ttt_time_s", round(timed[-1].seconds, 6), *timed[-1].timed)
    elif told.run.ttt_loop_s is not None:
        told.say_as("ttt_time_s", told.run.ttt_loop_s, "ttt_loop_s")


def _final(facts: RunFacts, told: Told, scores: list[Score]) -> None:
    chosen = choose(facts, told, scores)
    if isinstance(chosen, str):
        return told.silent(chosen, "final_bpb", "final_stage", "final_val_loss", "eval_time_s")
    told.say("final_bpb", chosen.bpb, chosen.line, chosen.text)
    for stage, name in STAGE_FIELDS:
        if stage == chosen.stage and getattr(told.run, name) is None:
            told.say(name, chosen.bpb, chosen.line, chosen.text)
    told.say("final_stage", chosen.stage, chosen.line, chosen.text)
    if chosen.loss is not None:
        told.say("final_val_loss", chosen.loss, chosen.line, chosen.text)
    seconds, total = told.run.ttt_time_s if chosen.stage == TTT else chosen.seconds, facts.eval_total
    if total is not None and seconds is not None and abs(float(total.value) - seconds) <= TENTH:
        told.say("eval_time_s", round(float(total.value), 6), total.line, total.text)
    elif seconds is not None and chosen.stage == TTT:
        told.say_as("eval_time_s", seconds, "ttt_time_s")
    elif seconds is not None:
        told.say("eval_time_s", round(seconds, 6), *chosen.timed)
