"""Lines that state a score, and the stage that their words name. Stages are never mixed.

350 labels were counted in public logs, so words decide, not whole labels: `final_int6_sliding_window_s64_exact` is
a sliding evaluation, `legal_ttt_exact` one after test-time training.
"""

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

# A score: `val_bpb:1.2244`, `bpb=1.2`, `BPB: 1.2`, `val_bpb = 1.2`; but not `..._bpb_gap:` or `bpb_loss=`.
BPB = re.compile(
    r"(?<![\w.])(?P<key>(?:\w*_)?bpb)\"?\s*(?:\([^)]*\)\s*)?[:=]\s*(?P<value>\d+\.\d+)(?![\d.])", re.IGNORECASE
)
LOSS = re.compile(
    r"(?<![\w.])(?P<key>(?:\w*_)?(?:val_loss|loss|vl))\"?\s*[:=]\s*(?P<value>\d+\.\d+)(?![\d.])", re.IGNORECASE
)
SECONDS = re.compile(
    r"(?<![\w.])(?P<key>eval_time_ms|eval_time|elapsed|time|duration|t)\s*[:=]\s*(?P<value>\d+(?:\.\d+)?)\s?(?P<unit>ms|s|m)?\b"
)
# A score on the way: of a chunk, a batch, an epoch, a rank; or a difference, not a score.
PROGRESS = re.compile(
    r"\b(?:chunk|batch|progress|epoch|running|partial|warmup|sweep|trial|candidate|phase|rank|b\d+)\w*[ :=\[]"
    r"|running_|_progress|\[\s*\d+(?:\.\d+)?\s?%?\]|\b\d+/\d+\b|\d\s?%|\bdelta|gain|gap|degradation|improve|baseline:"
    r"|\btarget|\bbest so far|threshold|sweep_result|probe|diagnostics|est_bpb|train_bpb",
    re.IGNORECASE,
)
WORD = re.compile(r"[a-z]+|\d+")
MAX_LABEL = 120  # characters: longer is a sentence that mentions a score
MAX_LABEL_WORDS = 8

AVERAGED_WORDS = frozenset({"ema", "swa", "lawa", "diagnostic"})
UNQUANTIZED_WORDS = frozenset({"prequant", "prequantization", "sdttt", "unquantized"})
PRE_WORDS = AVERAGED_WORDS | {"pre", "raw", "averaged", "fp", "bf", "soup"}
TTT_WORDS = frozenset({"ttt", "lora", "adapt", "adapted", "tta", "tto"})
SLIDING_WORDS = frozenset({"sliding", "slide", "slid", "sw", "strided", "overlap"})
OTHER_WORDS = frozenset({"slot", "ngram", "ppm", "mix", "mixture", "mixer", "cache", "ens", "ensemble", "knn", "tilt"})
OTHER_WORDS |= {"backoff", "dirichlet", "hedge", "oracle", "peer", "xsa"}
QUANT_WORDS = frozenset({"roundtrip", "quantized", "quant", "dequantized", "dequant", "ternary", "binary", "int"})
QUANT_WORDS |= {"codebook", "zlib", "zstd", "lzma", "brotli", "gptq", "compressed", "xnor", "standard", "temped"}


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
    exact: bool  # the label's twin that only repeats it with more digits
    announced: str | None = None  # the stage that a line before it announced, where that is another one
    done: bool = False  # printed by the adaptation loop itself, whose clock `seconds` is

    @property
    def ratio(self) -> float | None:
        """val_loss over val_bpb: one number for all scores of one text and one tokenizer."""
        return None if self.loss is None or not self.bpb else self.loss / self.bpb


def decimals(number: str) -> int:
    return len(number.partition(".")[2])


def words_of(label: str) -> set[str]:
    return set(WORD.findall(label.lower()))


def stage_of(label: str) -> str:
    """
    >>> [stage_of(label) for label in ("final_int6_sliding_window_exact", "legal_ttt", "DIAGNOSTIC post_ema")]
    ['sliding', 'ttt', 'pre_quant']
    >>> stage_of("post-prequant-ttt"), stage_of("val_bpb"), stage_of("diagnostic quantized")
    ('pre_quant', 'summary', 'roundtrip')
    """
    words = words_of(label)
    if words & AVERAGED_WORDS and not words & {"quantized", "roundtrip", "quant"}:
        return PRE_QUANT
    if words & OTHER_WORDS:
        return OTHER
    if words & UNQUANTIZED_WORDS or ("pre" in words and words & {"quant", "quantization"}):
        return PRE_QUANT
    for named, stage in ((TTT_WORDS, TTT), (SLIDING_WORDS, SLIDING), (QUANT_WORDS, ROUNDTRIP), (PRE_WORDS, PRE_QUANT)):
        if words & named:
            return stage
    return SUMMARY


def read_score(number: int, text: str, title: str = "") -> Score | None:
    """The score that a line states as a result; None where it states none, or one on the way.

    `title` names it where the line itself does not: reports have a heading above their numbers.
    """
    found = BPB.search(text)
    if found is None:
        return None
    loss = LOSS.search(text)
    start = found.start() if loss is None else min(found.start(), loss.start())
    label, tail = text[:start], text[start:]
    if not label.strip(' \t-*>"{'):
        label = title
    key = found["key"].lower()
    if PROGRESS.search(label) or PROGRESS.search(key + " ") or re.search(r"running|batch|chunk", tail):
        return None
    if len(label) > MAX_LABEL or label.count(" ") > MAX_LABEL_WORDS:
        return None
    stage = stage_of(f"{label} {key if key not in ('bpb', 'val_bpb') else ''} {mode_of(tail)}")
    if partial_text(label):
        return None
    seconds, unit = None, None
    if (time := SECONDS.search(tail)) is not None:
        unit = time["unit"] or ("ms" if time["key"].endswith("ms") else None)
        if unit is not None:
            seconds = float(time["value"]) * {"ms": 1e-3, "s": 1.0, "m": 60.0}[unit]
    value = found["value"]
    return Score(
        line=number,
        text=text[:MAX_TEXT],
        label=label.strip(" \t:=-").lower(),
        stage=stage,
        bpb=float(value),
        digits=decimals(value),
        loss=None if loss is None else float(loss["value"]),
        loss_digits=0 if loss is None else decimals(loss["value"]),
        seconds=seconds,
        exact="exact" in label,
        done=":done" in label,
    )


def partial_text(label: str) -> bool:
    """Whether the label says that fewer bytes were scored than the validation text has: no claim rests on a part.

    >>> partial_text("ppm_mix bytes=27048621 "), partial_text("ppm_full bytes=151078222 ")
    (True, False)
    """
    found = re.search(r"(?<!\w)bytes\s*[:=]\s*(\d+)", label)
    return found is not None and int(found[1]) < 100_000_000


def mode_of(tail: str) -> str:
    """Words behind the numbers that say how it was evaluated: `eval_mode:score_first_ttt`."""
    found = re.search(r"(?:eval_mode|mode|method)\s*[:=]\s*(\w+)", tail)
    return found[1] if found else ""
