"""The facts of one run as its lines are read: what the trainer printed, in order, nothing decided yet."""

import re
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from results.parse import patterns as p
from results.parse.lines import text_of
from results.parse.run import MAX_TEXT, Curves
from results.parse.scores import (
    OTHER,
    PRE_QUANT,
    ROUNDTRIP,
    SLIDING,
    SUMMARY,
    TTT,
    Score,
    Unread,
    kind_of,
    read_score,
)

MAX_FACTS = 256  # of a kind in one run, the newest: hostile or broken logs must not fill the memory
MAX_STATED = 64  # of one field of the header: every rank and every GPU states it
MAX_POINTS = 5_000  # of a curve, thinned to half where it is reached
MAX_REPEATS = 16  # of one label with other numbers in it: more are a loop's, whatever they are called
SMALLEST_SIZE = 100  # bytes: less is a count of something else
MAX_PROGRESS = 400  # characters of a line that say what is under way
TITLE_REACH = 4  # lines below a heading that it may name
FAR = 10  # steps: what begins there began anew


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
    weak: bool = False  # a total that only a sum can confirm


@dataclass(slots=True)
class StepLine:
    step: int
    total: int
    line: int
    text: str
    loss: float | None
    bpb: float | None
    average_ms: float | None
    has_unit: bool  # the average's
    time_s: float | None


@dataclass(slots=True)
class Stop:
    """Training ended, as the log says it."""

    line: int
    text: str
    step: int
    time_s: float | None
    average_ms: float | None = None


@dataclass(slots=True)
class RunFacts:
    first_line: int
    curves: Curves | None = None
    header: dict[str, list[Fact]] = field(default_factory=dict)
    expected: dict[str, Fact] = field(default_factory=dict)  # stages that the header announces
    step: int = -1  # of the last step line
    total: bytes = b""  # of how many steps, as printed
    step_line: tuple[int, re.Match[bytes], bytes] | None = None  # that line: number, match of STEP, bytes
    packed: bool = False  # compressed weights were reached: no score of the raw ones can follow
    trained: bool = False  # training ended: said so, or followed by what comes after it
    val: StepLine | None = None  # the last one with a validation score
    stop: Stop | None = None
    scores: list[Score] = field(default_factory=list)
    repeats: dict[str, int] = field(default_factory=dict)  # scores by the words of their labels
    sizes: list[Size] = field(default_factory=list)
    eval_total: Fact | None = None
    loop: Fact | None = None  # seconds of the adaptation loop, where it says so without a score
    under_way: Fact | None = None  # the last line of an evaluation that no score followed yet
    unread: Fact | None = None  # the last line that states a score in words that are not known
    sliding_ahead: Fact | None = None  # a line since the last score says that the next one is of sliding windows
    adapting: Fact | None = None  # the last line of learning from validation text
    adapted_weights: Fact | None = None  # the same, before the weights were quantized
    next_seed: Fact | None = None  # a seed that was stated after a score: the next run's, where one follows
    title: tuple[int, str] = (0, "")  # the last heading, and its line
    last_line: int = 0  # the last one with anything in it
    cut: Fact | None = None  # the last line, where no newline ends it

    @property
    def began(self) -> bool:
        return self.step_line is not None or bool(self.scores)

    @property
    def is_a_run(self) -> bool:
        """Whether it is more than words before a header."""
        return bool(self.step_line is not None or self.header)

    def last_step(self) -> StepLine | None:
        """The last step line, read."""
        if self.step_line is None:
            return None
        number, match, raw = self.step_line
        return read_step(self.step, total_of(match), number, text_of(raw))

    def begins_again(self, step: int) -> bool:
        """Whether a step that is smaller than the last one belongs to another run than what was read before it."""
        return bool(self.scores) or self.stop is not None or (step <= FAR and self.step >= 5 * FAR)

    def goes_on(self) -> None:
        """Training goes on after scores: they were of a look on the way, and their sizes too."""
        self.scores.clear()
        self.repeats.clear()
        self.sizes = [size for size in self.sizes if size.kind == "code"]
        self.packed = self.trained = False
        self.stop = self.under_way = self.unread = self.sliding_ahead = None

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
    elapsed = found.get("train_time", found.get("elapsed", (0.0, "")))
    average = found.get("step_avg", (None, ""))
    loss = found.get("val_loss") if bpb is not None else found.get("train_loss", found.get("loss"))
    return StepLine(
        step=step,
        total=total,
        line=line,
        text=text[:MAX_TEXT],
        loss=None if loss is None else loss[0],
        bpb=None if bpb is None else float(bpb[1]),
        average_ms=None if average[0] is None else average[0] * (p.SCALE[average[1]] * 1000 if average[1] else 1.0),
        has_unit=bool(average[1]),
        # Minutes and hours are printed with too few digits to be a time that a gate could take.
        time_s=elapsed[0] * p.SCALE[elapsed[1]] if elapsed[1] in ("ms", "s") else None,
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


def newest(facts: list[typing.Any]) -> None:
    if len(facts) > MAX_FACTS:
        del facts[0]


def score_of(run: RunFacts, number: int, text: str) -> Score | None:
    """The score of a line; one in words that are not known is remembered as such."""
    lower = text.lower()
    if "bpb" not in lower and "bits" not in lower:
        if p.ROW_OF_A_SCORE.search(text):
            run.unread = Fact("", number, text[:MAX_TEXT])
        return None
    line, title = run.title
    score = read_score(number, text, title if number - line <= TITLE_REACH else "")
    if isinstance(score, Score):
        return score
    if score is Unread.UNKNOWN:
        run.unread = Fact("", number, text[:MAX_TEXT])
    return None


def take_score(run: RunFacts, score: Score) -> None:
    kind = kind_of(score.label)
    run.repeats[kind] = run.repeats.get(kind, 0) + 1
    if run.repeats[kind] > MAX_REPEATS:
        run.scores = [one for one in run.scores if one.kind != kind]
        run.under_way = Fact("", score.line, score.text)
        return
    if score.stage == ROUNDTRIP and run.sliding_ahead is not None:
        score = replace(score, announced=SLIDING)
    run.scores.append(score)
    newest(run.scores)
    run.under_way = run.sliding_ahead = None
    run.trained = True
    run.packed = run.packed or score.stage not in (PRE_QUANT, SUMMARY)


def take_on_the_way(run: RunFacts, number: int, raw: bytes) -> None:
    """A line in the middle of an evaluation."""
    run.under_way = Fact("", number, raw[:MAX_TEXT].decode("utf-8", errors="replace"))
    if run.curves is not None and (found := p.CHUNK.search(run.under_way.text)) is not None:
        add_point(run.curves.ttt, (int(found[1]), float(found[2])))


def take_line(run: RunFacts, number: int, text: str) -> None:
    """A line without a score that may hold a fact."""
    # Words that a pattern needs are looked for first: most lines have none of them.
    if "topp" in text or "raining " in text:
        _take_stop(run, number, text)
    if "total_eval" in text and (found := p.EVAL_TOTAL.search(text)) is not None:
        run.eval_total = Fact(str(float(found[1]) * p.SCALE[found[2]]), number, text[:MAX_TEXT])
    if any(word in text for word in ("bytes", "ize", "ode", "budget", "otal")):
        for size in sizes_of(number, text):
            run.sizes.append(replace(size, early=run.step_line is None))
            newest(run.sizes)
            if size.kind == "model":
                run.trained = True
                run.packed = run.packed or bool(size.label)
    if run.scores:
        _take_next_seed(run, number, text)
    else:
        _take_header(run, number, text)
    if run.trained or run.step_line is None:
        _take_title(run, number, text)
    if run.trained:
        _take_progress(run, number, text)


def _take_stop(run: RunFacts, number: int, text: str) -> None:
    if (found := p.STOPPED.search(text) or p.STOPPED_BY.search(text)) is not None:
        run.stop = Stop(number, text[:MAX_TEXT], int(found["step"]), float(found["time"]) * p.SCALE[found["unit"]])
        run.stop.average_ms = float(average) if (average := found.groupdict().get("average")) else None
    elif (found := p.TRAINED.search(text) or p.STOPPED_AT.search(text)) is not None:
        run.stop = Stop(number, text[:MAX_TEXT], int(found["step"]), None if run.stop is None else run.stop.time_s)
    run.trained = run.trained or run.stop is not None


# Each kind of size with words of which its line holds one.
SIZE_KINDS = (
    ("total", ("budget",), p.BUDGET),
    ("total", ("otal", "bytes"), p.TOTAL_BYTES),
    ("model", ("erialized",), p.MODEL_BYTES),
    ("code", ("compressed",), p.PACKED_CODE),
    ("code", ("ode",), p.CODE_BYTES),
)


def sizes_of(number: int, text: str) -> Iterator[Size]:
    """Every size in bytes that a line states. What is printed in kilobytes or more has lost its digits."""
    for kind, words, pattern in SIZE_KINDS:
        if not any(word in text for word in words):
            continue
        for found in pattern.finditer(text):
            size = _size(number, text, kind, pattern, found)
            if size is not None and size.value >= SMALLEST_SIZE:
                yield size


def _size(number: int, text: str, kind: str, pattern: re.Pattern[str], found: re.Match[str]) -> Size | None:
    groups = found.groupdict()
    label, unit = (groups.get("label") or "").strip(" _()").lower(), bool(groups.get("unit"))
    size = Size(number, excerpt(text, found.start()), kind, label, int(found["value"].replace(",", "")))
    if pattern is p.PACKED_CODE:
        return replace(size, label="compressed") if "ode" in text[: found.start()] else None
    if pattern is p.CODE_BYTES:
        # `code:75015` beside the artifact's other parts; elsewhere it may be an exit code.
        named = unit or groups["key"].lower() != "code" or re.search(r"artifact|binary|ternary|total", text)
        return size if named else None
    if pattern is p.TOTAL_BYTES:
        if p.NOT_A_TOTAL.search(found["named"] + label):
            return None
        bare = found["named"].lower() == "total"
        named = found["named"].lower().removeprefix("total ").removesuffix(" size")
        if bare and not unit and _is_sum(size.value, text):
            label = "sum"
        label = label or (named if named in ("mixed submission", "compressed submission", "final submission") else "")
        return replace(size, label=label, weak=bare and not unit and not _is_sum(size.value, text))
    return size


def _is_sum(value: int, text: str) -> bool:
    """Whether a line states two numbers that the value is the sum of: `model=... code=... total=...`."""
    others = {int(one) for one in re.findall(r"(?<![\d.])\d{3,13}(?![\d.])", text)}
    return any(value - one in others and one != value for one in others)


def excerpt(text: str, start: int) -> str:
    """The part of a line that holds what was found."""
    return text[:MAX_TEXT] if start < MAX_TEXT - 40 else text[start - 20 : start - 20 + MAX_TEXT]


def _take_next_seed(run: RunFacts, number: int, text: str) -> None:
    """After a score a line that is a seed and little else is a launcher's word on the next run."""
    found = p.SEED.search(text) if len(text) <= 60 and ("eed" in text or "SEED" in text) else None
    if found is None or p.NOT_THE_SEED.search(text[: found.start()]):
        return
    if all(found[1] != fact.value for fact in run.header.get("seed", [])):
        run.next_seed = Fact(found[1], number, text[:MAX_TEXT])


def _take_header(run: RunFacts, number: int, text: str) -> None:
    for name, words, options in p.HEADER:
        if not any(word in text for word in words) or len(facts := run.header.get(name, [])) >= MAX_STATED:
            continue
        if facts and run.step_line is not None:
            continue  # of something else: the header was before the first step
        found = next((match for pattern in options if (match := pattern.search(text)) is not None), None)
        if found is None or _is_of_something_else(name, text, found):
            continue
        run.header.setdefault(name, []).append(Fact(found[1].strip(), number, excerpt(text, found.start())))
    if "_enabled" in text:
        for found in p.EXPECTED.finditer(text):
            run.expected[{"ttt": TTT, "slot": OTHER}.get(found[1], SLIDING)] = Fact("", number, found[0])


def _is_of_something_else(name: str, text: str, found: re.Match[str]) -> bool:
    if name == "seed":
        return p.NOT_THE_SEED.search(text[: found.start()]) is not None
    return name == "torch" and p.NOT_THE_TORCH.search(text) is not None


def _take_title(run: RunFacts, number: int, text: str) -> None:
    head = text.partition("(")[0]
    if p.TITLE.fullmatch(head) and not p.NO_TITLE.search(head):
        run.title = (number, head.lower())
    elif not text.startswith(("-", "*", "|")):
        run.title = (0, "")  # prose, which ends what a heading names


def _take_progress(run: RunFacts, number: int, text: str) -> None:
    text = text[:MAX_PROGRESS]
    if p.SLIDING_AHEAD.search(text):
        run.sliding_ahead = Fact("", number, text[:MAX_TEXT])
    if (found := p.TTT_LOOP.search(text)) is not None:
        run.loop = Fact(found[1], number, text[:MAX_TEXT])
    if p.UNDER_WAY.search(text) and not p.NOT_UNDER_WAY.search(text):
        run.under_way = fact = Fact("", number, text[:MAX_TEXT])
        if p.ADAPTING_BEFORE.search(text):
            run.adapted_weights = fact
        elif p.ADAPTING.search(text):
            run.adapting = fact
