"""From the lines of one run to its facts: what the trainer printed, in order, nothing decided yet."""

import re
from dataclasses import dataclass, field

from results.parse.facts import (
    EVAL_TOTAL,
    HEADER,
    LAUNCHER,
    SCALE,
    STEP,
    STOPPED,
    STOPPED_AT,
    TRAINED,
    Size,
    elapsed_s,
    number_of,
    sizes_of,
    step_fields,
)
from results.parse.lines import text_of
from results.parse.run import Curves
from results.parse.scores import Score, decimals, read_score

# Bytes that a line with a fact holds. What has none of them is not decoded.
INTEREST = re.compile(
    rb"bpb|BPB|[Ss]eed|SEED|bytes|[Ss]ize|params|PyTorch|torch[:=]|NVIDIA|AMD |nproc|ws:|topping|raining |budget:|total|Code|code"
    rb"|tt[tpa]|TTT|lora|slid|slot|ompil|eval"
)
HEADER_BEGINS = re.compile(r"Hyperparameters:|val_bpb:enabled|Running Py(?:thon|Torch)|model_params:")
# An evaluation that began or goes on, or adaptation that trains on the validation text.
UNDER_WAY = re.compile(
    r"(?:ttt|TTT|slot|ngram|ppm|lora|adapt|sliding|slide|window)\w*\s*(?:[:_ ]\s*)?(?:start|begin|warm|epoch|chunk|phase|param|progress|rank|eval|docs|\[)"
    r"|ttp\w*:|tttg:|tc\[\d|\d+/\d+ +loss:|windows|[Cc]ompil|ttt:|TTT[ :]|slot_|eval timer|eval:",
)
SLIDING_AHEAD = re.compile(r"sliding[ _]window eval|sliding_eval|eval_mode\W{1,2}sliding|sliding_progress|stride\W{1,2}\d+.*seq_len", re.IGNORECASE)
ADAPTING = re.compile(r"(?<!pre)(?<!prequant_)(?:ttt|TTT)\w*[:_ ](?:start|epoch|params|AdamW|SGD)")
ADAPTING_BEFORE = re.compile(r"(?:prequant|pre_quant|sdttt|pre-quant)\w*[:_ ].*(?:epoch|start|ttt)|sdttt", re.IGNORECASE)
CHUNK = re.compile(r"(?:ttt_chunk|tc|slot_batch)\s*\[(\d+)/\d+\]\s*bpb=(\d+\.\d+)")


@dataclass(slots=True)
class Fact:
    value: str
    line: int
    text: str


@dataclass(slots=True)
class StepLine:
    step: int
    total: int
    line: int
    text: str
    loss: float | None = None
    bpb: float | None = None
    bpb_digits: int = 0
    average_ms: float | None = None
    time_s: float | None = None


@dataclass(slots=True)
class Stop:
    line: int
    text: str
    step: int | None
    time_s: float | None


@dataclass(slots=True)
class RunFacts:
    """One run of a log as it is read."""

    first_line: int
    header: dict[str, list[Fact]] = field(default_factory=dict)
    step: tuple[int, int, int, bytes] | None = None  # the last step line: step, total, line, bytes
    val: StepLine | None = None  # the last one with a validation score
    stop: Stop | None = None
    scores: list[Score] = field(default_factory=list)
    sizes: list[Size] = field(default_factory=list)
    eval_total: Fact | None = None
    under_way: Fact | None = None  # the last line of an evaluation that no score followed yet
    sliding_ahead: Fact | None = None  # since the last score
    adapting: list[Fact] = field(default_factory=list)  # lines of adaptation before the first score of the artifact
    adapted_weights: Fact | None = None  # the validation text was learned before the weights were quantized
    cut: Fact | None = None  # the last line, where no newline ends it
    curves: Curves | None = None

    @property
    def began(self) -> bool:
        return self.step is not None or bool(self.scores)

    @property
    def trained(self) -> bool:
        """Whether training ended: said so, or reached its last step, or was followed by what comes after training."""
        return self.stop is not None or bool(self.scores) or any(size.kind == "model" for size in self.sizes)

    def last_step(self) -> StepLine | None:
        """The last step line, read."""
        if self.step is None:
            return None
        step, total, line, raw = self.step
        return read_step(step, total, line, text_of(raw))

    def begins_again(self, step: int) -> bool:
        """Whether a step line belongs to another run than the steps before it."""
        if self.step is None:
            return bool(self.scores)
        return step < self.step[0] and (bool(self.scores) or self.stop is not None or (step <= 10 and self.step[0] >= 50))


def read_step(step: int, total: int, line: int, text: str) -> StepLine:
    fields = step_fields(text)
    bpb = re.search(r"(?<![\w.])val_bpb\s*[:=]\s*(\d+\.\d+)", text)
    return StepLine(
        step=step,
        total=total,
        line=line,
        text=text[:200],
        loss=fields.get("val_loss", (None, None))[0],
        bpb=None if bpb is None else float(bpb[1]),
        bpb_digits=0 if bpb is None else decimals(bpb[1]),
        average_ms=fields["step_avg"][0] if "step_avg" in fields and fields["step_avg"][1] in ("ms", None) else None,
        time_s=elapsed_s(fields),
    )


def take_step(run: RunFacts, number: int, raw: bytes, match: re.Match[bytes]) -> None:
    """A step line; most are only remembered, since the last one is what matters."""
    run.step = (int(match[1]), int(match[2]), number, raw)
    has_val = b"val_" in raw
    if has_val:
        read = read_step(run.step[0], run.step[1], number, text_of(raw))
        if read.bpb is not None:
            run.val = read
        if run.curves is not None:
            run.curves.val.append((read.step, read.loss, read.bpb))
    elif run.curves is not None:
        fields = step_fields(text_of(raw))
        if (loss := fields.get("train_loss") or fields.get("loss")) is not None:
            run.curves.train.append((run.step[0], loss[0], elapsed_s(fields)))


def take_line(run: RunFacts, number: int, raw: bytes) -> None:
    """Any other line that may hold a fact."""
    text = text_of(raw)
    if (score := read_score(number, text)) is not None:
        run.scores.append(score)
        run.under_way = run.sliding_ahead = None
        return
    if (found := STOPPED.search(text)) is not None:
        run.stop = Stop(number, text[:200], int(found["step"]), float(found["time"]) * SCALE[found["unit"]])
        return
    if (found := TRAINED.search(text)) is not None:
        run.stop = Stop(number, text[:200], int(found["step"]), None if run.stop is None else run.stop.time_s)
        return
    if (found := STOPPED_AT.search(text)) is not None:
        run.stop = Stop(number, text[:200], int(found["step"]), None)
        return
    if (found := EVAL_TOTAL.search(text)) is not None:
        run.eval_total = Fact(str(float(found[1]) * SCALE[found[2]]), number, text[:200])
        return
    run.sizes += sizes_of(number, text)
    if run.curves is not None and (found := CHUNK.search(text)) is not None:
        run.curves.ttt.append((int(found[1]), float(found[2])))
    _take_header(run, number, text)
    _take_progress(run, number, text)


def _take_header(run: RunFacts, number: int, text: str) -> None:
    if run.scores:
        return  # a launcher's words on the next run
    for name, patterns in HEADER.items():
        for pattern in patterns:
            if (found := pattern.search(text)) is not None:
                run.header.setdefault(name, []).append(Fact(found[1].strip(), number, text[:200]))
                break
    if (found := LAUNCHER.search(text)) is not None:
        run.header.setdefault("launched", []).append(Fact(found[1], number, text[:200]))


def _take_progress(run: RunFacts, number: int, text: str) -> None:
    if SLIDING_AHEAD.search(text):
        run.sliding_ahead = Fact("", number, text[:200])
    if UNDER_WAY.search(text):
        run.under_way = Fact("", number, text[:200])
        if run.trained and ADAPTING_BEFORE.search(text):
            run.adapted_weights = Fact("", number, text[:200])
        elif ADAPTING.search(text) and run.trained and len(run.adapting) < 8:
            run.adapting.append(Fact(str(len(run.scores)), number, text[:200]))


__all__ = ["HEADER_BEGINS", "INTEREST", "STEP", "RunFacts", "number_of", "take_line", "take_step"]
