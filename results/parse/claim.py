"""Which of the scores in a log is the one that the run claims, and silence where that is not told.

Measured on 400 public logs: the last evaluation, the best score and the latest stage are one and the same in nearly
all of them. Where they are not, two of the three decide, and where a later stage made the score worse only what the
run itself says. A log may be cut anywhere: an evaluation that was announced or begun must have its score.
"""

import math
import re

from results.parse.facts import RunFacts
from results.parse.scores import OTHER, PRE_QUANT, RANK, ROUNDTRIP, SLIDING, SUMMARY, TTT, Score
from results.parse.told import Told

# Test-time training that loses more than this has diverged; what it gains is a tenth of it.
DIVERGED_BPB = 0.02
# Between two ratios of val_loss and val_bpb: printed with four decimals they differ by less than 1e-4.
RATIO_TOLERANCE = 2e-3
TWIN_DIGITS = 4  # that two scores need to be told apart
# Lines that others follow in the scripts that print them: the plain evaluation of the int6 scripts is followed by a
# sliding one, and a score of four decimals by its exact twin.
NOT_THE_END = re.compile(r"final_int\d_roundtrip")
HAS_A_TWIN = re.compile(r"(?:final_int\d+_(?:zlib_)?(?:roundtrip|sliding_window\w*)|final_sliding_window.*|legal_ttt)$")


def choose(facts: RunFacts, told: Told, scores: list[Score]) -> Score | str:
    """The score that the run claims, or why it cannot be told."""
    candidates = [score for score in scores if score.stage in (ROUNDTRIP, SLIDING, TTT, OTHER)]
    if not candidates:
        packed = [size.line for size in facts.sizes if size.kind == "model" and size.label]
        finals = [score for score in scores if score.stage == SUMMARY and "final" in score.label]
        candidates = [score for score in finals if packed and score.line > packed[-1]]
    if (why := _not_finished(facts, candidates)) is not None:
        return why
    last = candidates[-1]
    best = min(candidates, key=lambda one: one.bpb)
    latest = max(candidates, key=lambda one: (RANK[one.stage], one.line))
    votes = [last, best, latest]
    chosen = max(votes, key=lambda one: sum(one is other for other in votes))
    if sum(chosen is other for other in votes) < 2:
        lines = sorted({one.line for one in votes})
        return f"each of the scores in lines {', '.join(map(str, lines))} could be the claim"
    if (better := _better_of_a_kind(candidates, chosen)) is not None:
        return f"lines {better.line} and {chosen.line} are of one sweep: it is not told which is claimed"
    if RANK[chosen.stage] > RANK[best.stage]:
        if (why := _not_told(facts, chosen, best)) is not None:
            return why
        if _is_discarded(facts, chosen, best):
            told.run.warnings.append(
                f"{chosen.stage} in line {chosen.line} made it worse ({chosen.bpb} after {best.bpb}): "
                f"the claim is line {best.line}"
            )
            chosen = best
    if (why := _worse_adapted(facts, scores)) is not None:
        return why
    _check(facts, told, candidates, chosen)
    return chosen


def _better_of_a_kind(candidates: list[Score], chosen: Score) -> Score | None:
    """A better score under the same label, but for its numbers."""
    return next((one for one in candidates if one.bpb < chosen.bpb and one.kind == chosen.kind), None)


def is_twin(a: Score, b: Score) -> bool:
    """Whether the later score `b` is `a` once more: the same digits, as far as both have them."""
    digits = min(a.digits, b.digits)
    if digits < TWIN_DIGITS or abs(a.bpb - b.bpb) > 0.5000001 * 10.0**-digits:
        return False
    # No evaluation of its own gives the same digits: an earlier stage's label carries a later stage's score.
    return a.stage == b.stage or SUMMARY in (a.stage, b.stage) or RANK[a.stage] > RANK[b.stage]


def _not_finished(facts: RunFacts, candidates: list[Score]) -> str | None:
    """Why the log may lack the last score."""
    if facts.cut is not None:
        return f"the log ends in the middle of line {facts.cut.line}"
    if not candidates:
        return "no evaluation of the compressed weights is in the log"
    if facts.under_way is not None:
        return f"an evaluation was under way in line {facts.under_way.line}, and no score follows"
    if (unread := facts.unread) is not None and unread.line > candidates[-1].line:
        return f"line {unread.line} states a score in words that are not known"
    stages = {one.stage for one in candidates}
    for stage, fact in facts.expected.items():
        # A later stage may have taken the place of an earlier one that was announced.
        if not any(RANK[one] >= RANK[stage] for one in stages):
            return f"line {fact.line} announces an evaluation ({fact.text.strip()}) whose score is not in the log"
    last = candidates[-1]
    if stages == {ROUNDTRIP} and NOT_THE_END.match(last.label) and facts.last_line == last.line:
        return f"the log ends with line {last.line}, which a sliding evaluation follows in scripts of this kind"
    if lacks_its_twin(facts):
        return f"the log ends with line {last.line}, which an exact one follows in scripts of this kind"
    return None


def lacks_its_twin(facts: RunFacts) -> bool:
    """Whether the log ends between a rounded score and the line that repeats it with all digits."""
    last = facts.scores[-1] if facts.scores else None
    if last is None or facts.last_line != last.line:
        return False
    if last.done:
        return True  # the loop's own words, before the evaluation tells its score
    return last.digits <= TWIN_DIGITS and HAS_A_TWIN.match(last.label) is not None


def _not_told(facts: RunFacts, worse: Score, best: Score) -> str | None:
    """Where a later stage made it worse: why it is not told which of both is claimed."""
    if worse.stage == TTT and best.stage == SLIDING and (TTT in facts.expected or _is_discarded(facts, worse, best)):
        return None
    return (
        f"{worse.stage} in line {worse.line} is worse than {best.stage} in line {best.line}: either could be the claim"
    )


def _is_discarded(facts: RunFacts, worse: Score, best: Score) -> bool:
    """Whether a run claims what it had before: it diverged, or it had declared that score under the label that the
    race's first script gave to a final one."""
    declared = any(
        best.line < one.line < worse.line and "roundtrip" in one.label and is_twin(best, one) for one in facts.scores
    )
    return worse.bpb > best.bpb + DIVERGED_BPB or declared


def _worse_adapted(facts: RunFacts, scores: list[Score]) -> str | None:
    """Where weights that learned the validation text before they were quantized got worse by it."""
    if facts.adapted_weights is None:
        return None
    line = facts.adapted_weights.line
    before = [one for one in scores if one.stage == PRE_QUANT and one.line < line]
    after = [one for one in scores if one.stage == PRE_QUANT and one.line > line]
    if before and after and after[-1].bpb > before[-1].bpb:
        return (
            f"learning the validation text made it worse (lines {before[-1].line} and {after[-1].line}): "
            "it is not told which is claimed"
        )
    return None


def _check(facts: RunFacts, told: Told, candidates: list[Score], chosen: Score) -> None:
    """Warn of what a claim may be and still be the claim."""
    warnings = told.run.warnings
    for line, ratio in _ratios(facts, candidates):
        if chosen.ratio is not None and not math.isclose(ratio, chosen.ratio, rel_tol=RATIO_TOLERANCE):
            warnings.append(
                f"val_loss/val_bpb is {chosen.ratio:.4f} in line {chosen.line} but {ratio:.4f} in line {line}: "
                "not of the same text, or not of all of it"
            )
            break
    learned = facts.adapting
    if (
        learned is not None
        and learned.line < chosen.line
        and chosen.stage != TTT
        and not any(one.stage == TTT for one in candidates)
    ):
        warnings.append(f"validation text was learned in line {learned.line}, before the score in line {chosen.line}")
    if (learned := facts.adapted_weights) is not None:
        warnings.append(f"the weights learned validation text before they were quantized (line {learned.line})")


def _ratios(facts: RunFacts, candidates: list[Score]) -> list[tuple[int, float]]:
    """val_loss over val_bpb of each score and of the last validation: one number for one text and tokenizer."""
    exact = [one for one in candidates if min(one.digits, one.loss_digits) >= TWIN_DIGITS]
    found = [(one.line, one.ratio) for one in exact if one.ratio is not None]
    if (val := facts.val) is not None and val.loss is not None and val.bpb:
        found.append((val.line, val.loss / val.bpb))
    return found
