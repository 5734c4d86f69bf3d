"""Lines that state a score, and the stage that their words name. Stages are never mixed.

350 labels were counted in public logs, so words decide, not whole labels: `final_int6_sliding_window_s64_exact` is
a sliding evaluation, `legal_ttt_exact` one after test-time training.
"""

import enum
import math
import re
from dataclasses import dataclass

from results.parse.run import MAX_TEXT

PRE_QUANT, ROUNDTRIP, SLIDING, TTT, OTHER, SUMMARY = (
    "pre_quant",
    "roundtrip",
    "sliding",
    "ttt",
    "other",
    "summary",
)
# How late a stage comes: each is evaluated on what the ones before it made. OTHER is a later mixture of any kind.
RANK = {SUMMARY: 0, PRE_QUANT: 1, ROUNDTRIP: 2, SLIDING: 3, TTT: 4, OTHER: 5}
PLAUSIBLE = (0.05, 6.0)  # bits per byte of any model that was ever trained on text, and of none

VALUE = r"(?P<value>\d{1,3}\.\d{1,18}(?:[eE][-+]?\d{1,2})?|[Nn]a[Nn]|-?[Ii]nf)(?![\d.])"
# `val_bpb:1.2244`, `bpb=1.2`, `BPB: 1.2`, `ttt val_bpb 1.2`, `val_bpb_ttt: 1.2`, `bits_per_byte (ttt) = 1.2`.
BPB = re.compile(
    r"(?<![\w.])(?P<key>(?:[A-Za-z0-9_]{0,40}_)?(?:bpb|bits[_ ]per[_ ]byte|bits/byte)(?:_[A-Za-z0-9_]{1,20})?)\"?"
    r"\s{0,4}(?:\((?P<of>[^)]{0,40})\))?\s{0,12}(?:[:=]\s{0,12}|(?<=\s))" + VALUE,
    re.IGNORECASE,
)
# `1.2244 BPB`
BPB_AFTER = re.compile(r"(?<![\w.])" + VALUE + r"\s(?P<key>bpb|bits per byte|bits/byte)\b(?P<of>)", re.IGNORECASE)
LOSS = re.compile(
    r"(?<![\w.])(?:[A-Za-z0-9_]{0,40}_)?(?:val_loss|loss|vl)\"?\s{0,4}[:=]\s{0,12}(?P<value>\d{1,3}\.\d{1,18})(?![\d.])",
    re.IGNORECASE,
)
SECONDS = re.compile(
    r"(?<![\w.])(?P<key>eval_time_ms|eval_time|elapsed|time|duration|t)\s?[:=]\s?(?P<value>[\d,]{1,12}(?:\.\d{1,9})?)\s?"
    r"(?P<unit>ms|s|m)?\b"
)
# A score on the way: a part of so many, a percentage, a list.
PROGRESS = re.compile(r"\[\s*\d+(?:\.\d+)?\s?%?\]|\b\d+/\d+\b|\d\s?%|\bb\d+\b|\bPR ?#?\d|#\d{2,}|best so far")
PROGRESS_TAIL = re.compile(r"running|batch|chunk|\bworse|\bbetter|\bmean\b|\baverage\b|\bbaseline|\bPR #|-seed\b")
WORD = re.compile(r"[a-z]+|\d+")
MAX_LABEL = 160  # characters: longer is a sentence that mentions a score
MAX_LABEL_WORDS = 10

# Of a part of the run, of another run, or no score at all: a difference, a spread, a goal.
NO_SCORE_WORDS = frozenset({"chunk", "batch", "progress", "epoch", "running", "partial", "warmup", "sweep", "trial"})
NO_SCORE_WORDS |= {
    "candidate",
    "phase",
    "iter",
    "iteration",
    "step",
    "windows",
    "probe",
    "diagnostics",
    "est",
    "estimated",
}
NO_SCORE_WORDS |= {
    "mean",
    "avg",
    "average",
    "std",
    "sd",
    "var",
    "cost",
    "delta",
    "diff",
    "difference",
    "minus",
    "penalty",
}
NO_SCORE_WORDS |= {
    "gain",
    "gap",
    "degradation",
    "improvement",
    "improve",
    "improved",
    "threshold",
    "target",
    "expected",
}
NO_SCORE_WORDS |= {"sota", "record", "previous", "prev", "baseline", "reference", "teacher", "draft", "student"}
NO_SCORE_WORDS |= {"calib", "calibration", "train", "subset", "sample", "sanity", "quick", "illegal", "vs"}
NO_SCORE_WORDS |= {"oracle", "ablation", "wikitext", "lambada", "hellaswag", "openwebtext"}
NEGATIONS = frozenset({"no", "without", "off", "before", "pre", "skip", "skipped", "disabled"})

AVERAGED_WORDS = frozenset({"ema", "swa", "lawa"})
UNQUANTIZED_WORDS = frozenset({"prequant", "prequantization", "sdttt", "unquantized"})
RAW_WORDS = frozenset({"raw", "fp", "bf", "averaged"})  # unless something says that it is quantized all the same
TTT_WORDS = frozenset({"ttt", "lora", "adapt", "adapted", "tta", "tto"})
SLIDING_WORDS = frozenset({"sliding", "slide", "slid", "sw", "strided", "overlap"})
OTHER_WORDS = frozenset({"slot", "ngram", "ppm", "mix", "mixture", "mixer", "cache", "ens", "ensemble", "knn", "tilt"})
OTHER_WORDS |= {"backoff", "dirichlet", "hedge", "peer", "xsa"}
QUANT_WORDS = frozenset({"roundtrip", "quantized", "quant", "dequantized", "dequant", "ternary", "binary", "int"})
QUANT_WORDS |= {"codebook", "zlib", "zstd", "lzma", "brotli", "gptq", "compressed", "xnor", "standard", "temped"}
QUANT_WORDS |= {"quantization"}


class Unread(enum.Enum):
    """A line that speaks of a score and gives none: harmless, or words that are not known."""

    HARMLESS = "harmless"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Score:
    line: int
    text: str
    label: str  # the words before the numbers, lower case
    stage: str
    bpb: float
    digits: int  # decimals that the score was printed with
    loss: float | None
    loss_digits: int
    seconds: float | None
    timed: tuple[int, str]  # the line that the seconds are from
    exact: bool  # the label's twin that only repeats it with more digits
    announced: str | None = None  # the stage that a line before it announced, where that is another one
    done: bool = False  # printed by the adaptation loop itself, whose clock `seconds` is

    @property
    def ratio(self) -> float | None:
        """val_loss over val_bpb: one number for all scores of one text and one tokenizer."""
        return None if self.loss is None or not self.bpb else self.loss / self.bpb

    @property
    def kind(self) -> str:
        """The label without its numbers."""
        return kind_of(self.label)


def kind_of(label: str) -> str:
    return re.sub(r"\d+(?:\.\d+)?", "#", label)


def decimals(number: str) -> int:
    return len(number.lower().partition("e")[0].partition(".")[2])


def words_of(label: str) -> set[str]:
    return set(WORD.findall(label.lower()))


def stage_of(label: str) -> str:
    """
    >>> [stage_of(label) for label in ("final_int6_sliding_window_exact", "legal_ttt", "DIAGNOSTIC post_ema")]
    ['sliding', 'ttt', 'pre_quant']
    >>> [stage_of(label) for label in ("post-prequant-ttt", "val_bpb", "diagnostic quantized", "final_no_ttt")]
    ['pre_quant', 'summary', 'roundtrip', 'summary']
    """
    words = words_of(label)
    quantized = words & QUANT_WORDS
    if words & TTT_WORDS and words & NEGATIONS and "post" not in words:
        words -= TTT_WORDS | {"pre", "before"}
    if "diagnostic" in words and not quantized:
        return PRE_QUANT
    if words & AVERAGED_WORDS and (not words & (QUANT_WORDS | SLIDING_WORDS | TTT_WORDS) or "pre" in words):
        return PRE_QUANT
    if words & OTHER_WORDS:
        return OTHER
    raw = words & RAW_WORDS and not quantized
    if ("pre" in words and quantized) or words & UNQUANTIZED_WORDS or raw:
        # A sliding evaluation of raw weights is no stage of a run: shown for comparison.
        return SUMMARY if words & SLIDING_WORDS and not quantized else PRE_QUANT
    for named, stage in ((TTT_WORDS, TTT), (SLIDING_WORDS, SLIDING), (QUANT_WORDS, ROUNDTRIP)):
        if words & named:
            return stage
    return SUMMARY


def read_score(number: int, text: str, title: str = "") -> Score | Unread:
    """The score that a line states as a result, or that it states none.

    `title` names it where the line itself does not: reports have a heading above their numbers.
    """
    found = BPB.search(text) or BPB_AFTER.search(text)
    if found is None:
        return Unread.HARMLESS
    loss = LOSS.search(text)
    start = found.start() if loss is None else min(found.start(), loss.start())
    label, tail = text[:start], text[start:]
    if not label.strip(' \t-*>"{|'):
        label = title
    key = found["key"].lower().replace("bits_per_byte", "bpb")
    named = f"{label} {key if key not in ('bpb', 'val_bpb') else ''} {found['of'] or ''} {mode_of(tail)}"
    if {"sweep", "best"} <= words_of(named):
        return Unread.UNKNOWN
    after = text[found.end() : found.end() + 80]
    if words_of(named) & NO_SCORE_WORDS or PROGRESS.search(label) or PROGRESS_TAIL.search(after) or partial_text(label):
        return Unread.HARMLESS
    if re.search(r"running|batch|chunk", text[start : found.start()]):
        return Unread.HARMLESS
    value = float(found["value"])
    if len(label) > MAX_LABEL or label.count(" ") > MAX_LABEL_WORDS or not math.isfinite(value):
        return Unread.UNKNOWN
    if not PLAUSIBLE[0] <= value <= PLAUSIBLE[1]:
        return Unread.HARMLESS
    return Score(
        line=number,
        text=text[:MAX_TEXT],
        label=label.strip(" \t:=-*|").lower(),
        stage=stage_of(named),
        bpb=value,
        digits=decimals(found["value"]),
        loss=None if loss is None else float(loss["value"]),
        loss_digits=0 if loss is None else decimals(loss["value"]),
        seconds=seconds_of(tail),
        timed=(number, text[:MAX_TEXT]),
        exact="exact" in label,
        done=":done" in label,
    )


def seconds_of(tail: str) -> float | None:
    """The time that stands behind a score, where it has a unit."""
    found = SECONDS.search(tail)
    if found is None:
        return None
    unit = found["unit"] or ("ms" if found["key"].endswith("ms") else None)
    return None if unit is None else float(found["value"].replace(",", "")) * {"ms": 1e-3, "s": 1.0, "m": 60.0}[unit]


def partial_text(label: str) -> bool:
    """Whether the label says that less was scored than the validation text: no claim rests on a part.

    >>> partial_text("ppm_mix bytes=27048621 "), partial_text("ppm_full bytes=151078222 ")
    (True, False)
    >>> partial_text("final_sliding (first 1M tokens) ")
    True
    """
    if re.search(r"\bfirst \d|\d[MKmk] (?:tokens|docs)", label):
        return True
    found = re.search(r"(?<!\w)bytes\s?[:=]\s?(\d{1,15})", label)
    return found is not None and int(found[1]) < 100_000_000


def mode_of(tail: str) -> str:
    """Words behind the numbers that say how it was evaluated: `eval_mode:score_first_ttt`."""
    found = re.search(r"(?:eval_mode|mode|method)\s?[:=]\s?(\w{1,40})", tail)
    return found[1] if found else ""
