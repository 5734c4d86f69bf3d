"""The facts of one run as its lines are read: what the trainer printed, in order, nothing decided yet."""

import re
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from results.parse import patterns as p
from results.parse.lines import text_of
from results.parse.run import MAX_TEXT, Curves
from results.parse.scores import OTHER, ROUNDTRIP, SLIDING, TTT, Score, decimals, read_score

MAX_FACTS = 4096  # of a kind in one run: hostile or broken logs must not fill the memory
MAX_POINTS = 5_000  # of a curve, thinned to half where it is reached
SMALLEST_SIZE = 100  # bytes: less is a count of something else


@dataclass(slots=True)
class Fact:
    value: str
    line: int
    text: str


@dataclass(slots=True)
class Size:
    line: int
    text: str
    kind: str  # model, total or code
    label: str
    value: int
    early: bool = False  # before the first step: of a trial, not of what was trained


@dataclass(slots=True)
class StepLine:
    step: int
    total: int
    line: int
    text: str
    loss: float | None
    bpb: float | None
    bpb_digits: int
    average_ms: float | None
    time_s: float | None


@dataclass(slots=True)
class Stop:
    """Training ended, as the log says it."""

    line: int
    text: str
    step: int
    time_s: float | None


@dataclass(slots=True)
class RunFacts:
    first_line: int
    curves: Curves | None = None
    header: dict[str, list[Fact]] = field(default_factory=dict)
    expected: dict[str, Fact] = field(default_factory=dict)  # stages that the header announces
    step: int = -1  # of the last step line
    step_line: tuple[int, re.Match[bytes], bytes] | None = None  # that line: number, match of STEP, bytes
    packed: bool = False  # compressed weights were reached: no score of the raw ones can follow
    trained: bool = False  # training ended: said so, or followed by what comes after it
    val: StepLine | None = None  # the last one with a validation score
    stop: Stop | None = None
    scores: list[Score] = field(default_factory=list)
    sizes: list[Size] = field(default_factory=list)
    eval_total: Fact | None = None
    loop: Fact | None = None  # seconds of the adaptation loop, where it says so without a score
    under_way: Fact | None = None  # the last line of an evaluation that no score followed yet
    sliding_ahead: Fact | None = None  # a line since the last score says that the next one is of sliding windows
    adapting: list[Fact] = field(default_factory=list)  # lines of learning from validation text
    adapted_weights: Fact | None = None  # the same, before the weights were quantized
    next_seed: Fact | None = None  # a seed that was stated after a score: the next run's, where one follows
    title: str = ""  # the last heading
    last_line: int = 0  # the last one with anything in it
    cut: Fact | None = None  # the last line, where no newline ends it

    @property
    def began(self) -> bool:
        return self.step_line is not None or bool(self.scores)

    def last_step(self) -> StepLine | None:
        """The last step line, read."""
        if self.step_line is None:
            return None
        number, match, raw = self.step_line
        return read_step(self.step, total_of(match), number, text_of(raw))

    def begins_again(self, step: int) -> bool:
        """Whether a step that is smaller than the last one belongs to another run than what was read before it."""
        return bool(self.scores) or self.stop is not None or (step <= 10 and self.step >= 50)

    def is_of_next(self, score: Score) -> bool:
        """Whether another seed was stated since a score of the same stage: a summary of several runs."""
        return self.next_seed is not None and any(one.stage == score.stage for one in self.scores)


def total_of(match: re.Match[bytes]) -> int:
    """Of how many steps a step line is one."""
    return int(match[2] or match[5])


def says_validation(match: re.Match[bytes]) -> bool:
    return match[3] is not None or match[6] == b"v"


def read_step(step: int, total: int, line: int, text: str) -> StepLine:
    found: dict[str, tuple[float, str]] = {}
    for name, value, unit in p.STEP_FIELDS.findall(text):
        found.setdefault(name, (float(value), unit))
    bpb = p.STEP_BPB.search(text)
    elapsed = next((found[name] for name in ("train_time", "time", "t") if name in found), (0.0, ""))
    average = found.get("step_avg", (None, ""))
    loss = found.get("val_loss") if bpb is not None else found.get("train_loss", found.get("loss"))
    return StepLine(
        step=step,
        total=total,
        line=line,
        text=text[:MAX_TEXT],
        loss=None if loss is None else loss[0],
        bpb=None if bpb is None else float(bpb[1]),
        bpb_digits=0 if bpb is None else decimals(bpb[1]),
        average_ms=average[0] if average[1] in ("ms", "") else None,
        time_s=elapsed[0] * p.SCALE[elapsed[1]] if elapsed[1] else None,
    )


def take_step(run: RunFacts, number: int, raw: bytes, match: re.Match[bytes]) -> None:
    """A step line that is looked into: one with a validation score, or any where curves are asked for."""
    validation = says_validation(match)
    read = read_step(run.step, total_of(match), number, text_of(raw))
    if validation and read.bpb is not None:
        run.val = read
    if run.curves is None:
        return
    if validation:
        add_point(run.curves.val, (read.step, read.loss, read.bpb))
    elif read.loss is not None:
        add_point(run.curves.train, (read.step, read.loss, read.time_s))


def add_point(points: list[typing.Any], point: typing.Any) -> None:
    """Add to a curve; a full one is thinned to every second point first."""
    if len(points) >= MAX_POINTS:
        del points[1::2]
    points.append(point)


def take_score(run: RunFacts, score: Score) -> None:
    if score.stage == ROUNDTRIP and run.sliding_ahead is not None:
        score = replace(score, announced=SLIDING)
    if len(run.scores) < MAX_FACTS:
        run.scores.append(score)
    run.under_way = run.sliding_ahead = None
    run.packed = run.trained = True


def score_of(run: RunFacts, number: int, text: str) -> Score | None:
    return read_score(number, text, run.title) if "bpb" in text or "BPB" in text else None


def take_on_the_way(run: RunFacts, number: int, raw: bytes) -> None:
    """A line in the middle of an evaluation."""
    run.under_way = Fact("", number, raw[:MAX_TEXT].decode("utf-8", errors="replace"))
    if run.curves is not None and (found := p.CHUNK.search(run.under_way.text)) is not None:
        add_point(run.curves.ttt, (int(found[1]), float(found[2])))


def take_line(run: RunFacts, number: int, text: str) -> None:
    """A line without a score that may hold a fact."""
    # Words that a pattern needs are looked for first: most lines have none of them.
    if "topping" in text or "raining " in text:
        _take_stop(run, number, text)
    if "total_eval" in text and (found := p.EVAL_TOTAL.search(text)) is not None:
        run.eval_total = Fact(str(float(found[1]) * p.SCALE[found[2]]), number, text[:MAX_TEXT])
    if any(word in text for word in ("bytes", "ize", "ode", "budget", "otal")) and len(run.sizes) < MAX_FACTS:
        found_sizes = [replace(size, early=run.step_line is None) for size in sizes_of(number, text)]
        run.sizes += found_sizes
        if any(size.kind == "model" for size in found_sizes):
            run.trained = True
            run.packed = run.packed or any(size.kind == "model" and size.label for size in found_sizes)
    if run.scores:
        _take_next_seed(run, number, text)
    else:
        _take_header(run, number, text)
    if run.trained:
        _take_progress(run, number, text)


def _take_stop(run: RunFacts, number: int, text: str) -> None:
    if (found := p.STOPPED.search(text)) is not None:
        run.stop = Stop(number, text[:MAX_TEXT], int(found["step"]), float(found["time"]) * p.SCALE[found["unit"]])
    elif (found := p.TRAINED.search(text) or p.STOPPED_AT.search(text)) is not None:
        run.stop = Stop(number, text[:MAX_TEXT], int(found["step"]), None if run.stop is None else run.stop.time_s)
    run.trained = run.trained or run.stop is not None


# Each kind of size with words of which its line holds one.
SIZE_KINDS = (
    ("total", ("budget",), p.BUDGET),
    ("total", ("otal", "bytes"), p.TOTAL_BYTES),
    ("model", ("erialized",), p.MODEL_BYTES),
    ("code", ("ode",), p.CODE_BYTES),
)


def sizes_of(number: int, text: str) -> Iterator[Size]:
    """Every size in bytes that a line states. What is printed in megabytes has lost its digits and is none."""
    for kind, words, pattern in SIZE_KINDS:
        if not any(word in text for word in words):
            continue
        for found in pattern.finditer(text):
            groups = found.groupdict()
            named = groups.get("unit") or any(word in text for word in ("bytes", "size", "limit", "budget", "="))
            if pattern is p.TOTAL_BYTES and not named:
                continue  # a count of something else
            value = int(found["value"].replace(",", "")) if len(found["value"]) <= 14 else 0
            if value >= SMALLEST_SIZE:
                yield Size(number, text[:MAX_TEXT], kind, (groups.get("label") or "").strip(" _()").lower(), value)


def _take_next_seed(run: RunFacts, number: int, text: str) -> None:
    """After a score a seed is a launcher's word on the next run."""
    found = p.HEADER["seed"][0].search(text) if "eed" in text or "SEED" in text else None
    if found is not None and all(found[1] != fact.value for fact in run.header.get("seed", [])):
        run.next_seed = Fact(found[1], number, text[:MAX_TEXT])


def _take_header(run: RunFacts, number: int, text: str) -> None:
    for name, words, options in p.HEADER_FIELDS:
        if not any(word in text for word in words):
            continue
        found = next((match for pattern in options if (match := pattern.search(text)) is not None), None)
        if found is not None and len(facts := run.header.setdefault(name, [])) < MAX_FACTS:
            facts.append(Fact(found[1].strip(), number, text[:MAX_TEXT]))
    if "_enabled" in text:
        for found in p.EXPECTED.finditer(text):
            run.expected[{"ttt": TTT, "slot": OTHER}.get(found[1], SLIDING)] = Fact("", number, text[:MAX_TEXT])


def _take_progress(run: RunFacts, number: int, text: str) -> None:
    if p.SLIDING_AHEAD.search(text):
        run.sliding_ahead = Fact("", number, text[:MAX_TEXT])
    if (found := p.TTT_LOOP.search(text)) is not None:
        run.loop = Fact(found[1], number, text[:MAX_TEXT])
    if len(text) < 100 and p.TITLE.match(text):
        run.title = text.lower().partition("(")[0]
    if p.UNDER_WAY.search(text) and not p.NOT_UNDER_WAY.search(text):
        run.under_way = fact = Fact("", number, text[:MAX_TEXT])
        if p.ADAPTING_BEFORE.search(text):
            run.adapted_weights = fact
        elif p.ADAPTING.search(text) and len(run.adapting) < MAX_FACTS:
            run.adapting.append(fact)
