"""What a log tells beside the parser's figures: settings, Hessians, evaluation times; and where a text stands.

Read once, by lines of bounded length. Nothing here is a score.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from results.untrusted import Folder, plain

MAX_LINE = 8192  # of a line; the rest of a longer one is no figure
MAX_SETTINGS = 400
# What differs between two seeds of one configuration: names, places, the machine.
PER_RUN = {"seed", "run_id", "run_name", "logfile", "log_file", "log_path", "rank", "local_rank", "is_main_process"}
PER_RUN |= {"model_path", "quantized_model_path", "checkpoint_path", "out_dir", "output_dir", "port", "hostname"}
SETTING = re.compile(r"\s{1,8}([A-Za-z_]\w{0,60}): (.{0,200})")
HESSIANS = re.compile(
    r"collected \d+ hessians? in (\d+(?:\.\d+)?)\s*s\b|collected hessians for \d+ layers in (\d+(?:\.\d+)?)\s*s\b", re.I
)
HESSIANS_BEGIN = re.compile(r"\b(?:collect\w*|building)\b.{0,60}\bhessian", re.I)
SELF_MADE = re.compile(r"autoregressive|self[-_ ]?gen", re.I)
EVALUATION = re.compile(
    r"\beval_time(?:(?P<key>_ms|_s|_sec|_seconds)|)\s{0,3}[:=]\s{0,3}(?P<time>\d{1,11}(?:\.\d{1,9})?)\s?"
    r"(?P<unit>ms|s|sec|seconds)?\b"
)
SCORE = re.compile(r"(?<!\w)(?:val_)?bpb\s{0,3}[:=]\s{0,3}(\d{1,3}\.\d{1,12})(?!\d)")
# A training step's loss: two seeds do not share these.
STEP_LOSS = re.compile(
    r"(?:\bstep\s?[:=]?\s?)?\b(\d{1,7})/\d{1,7}\b.{0,60}?\b(?:train_loss|loss)\s?[:=]\s?(\d{1,3}\.\d{3,12})(?!\d)"
)
MAX_LOSSES = 4000  # of a log
# What our own trainer states of each of its stages, and at the end of the second.
STATED = re.compile(r"^torch:\S{1,80} config_sha256:([0-9a-f]{64}) hardware:(.{1,80})$")
EVAL_SUM = re.compile(r"^evaluated:(\d{1,4}) stages eval_sum:(\d{1,11}(?:\.\d{1,9})?)ms\s*$")
# A number of its own, as a reader would take it: thousands with commas, a fraction.
NUMBER = re.compile(r"(?<![\d.])(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?!\d)")


@dataclass(frozen=True)
class Evaluated:
    """An evaluation that a log times."""

    line: int
    seconds: float
    score: float | None  # on the same line


@dataclass(frozen=True)
class EvalSum:
    """All evaluations together, as a log states them."""

    line: int
    stages: int
    seconds: float


@dataclass
class LogText:
    settings: dict[str, str] = field(default_factory=dict)  # of a block headed "Hyperparameters:"
    hessians: list[tuple[int, float]] = field(default_factory=list)  # line, seconds
    hessians_begun: int | None = None  # line
    self_made: bool = False  # calibrated on text of the model's own
    evaluations: list[Evaluated] = field(default_factory=list)
    blocks: int = 0  # of settings
    losses: dict[int, str] = field(default_factory=dict)  # of training, by step, as printed
    configs: set[str] = field(default_factory=set)  # hashes of the configuration, one where all stages have the same
    hardware: dict[str, int] = field(default_factory=dict)  # as stated, with its line
    eval_sum: EvalSum | None = None


def read_lines(folder: Folder, name: str) -> Iterator[tuple[int, str]]:
    """(number, start of the line) of every line of a log."""
    with folder.open(name) as stream:
        number = 0
        fresh = True
        while part := stream.readline(MAX_LINE):
            if fresh:
                number += 1
                yield number, part.decode(errors="replace")
            fresh = part.endswith(b"\n")


def log_text(folder: Folder, name: str) -> LogText:
    found = LogText()
    inside = False
    for number, line in read_lines(folder, name):
        if line.rstrip().lower() in ("hyperparameters:", "config:", "configuration:"):
            inside, found.blocks = True, found.blocks + 1
        elif inside:
            setting = SETTING.match(line)
            inside = setting is not None and len(found.settings) < MAX_SETTINGS
            if setting is not None and setting[1] not in PER_RUN and "/" not in setting[2]:
                found.settings[setting[1]] = plain(setting[2], 60)
        if "essian" in line:
            if timed := HESSIANS.search(line):
                found.hessians.append((number, float(timed[1] or timed[2])))
            elif found.hessians_begun is None and HESSIANS_BEGIN.search(line) and ":" in line[:40]:
                found.hessians_begun = number
            found.self_made |= SELF_MADE.search(line) is not None
        if "config_sha256:" in line and (stated := STATED.match(line.rstrip())):
            found.configs.add(stated[1])
            found.hardware.setdefault(plain(stated[2], 80), number)
        if "eval_sum:" in line and (summed := EVAL_SUM.match(line)):
            found.eval_sum = EvalSum(number, int(summed[1]), float(summed[2]) / 1000)
        if "eval_time" in line and (one := _evaluated(number, line)) is not None:
            found.evaluations.append(one)
        if "loss" in line and len(found.losses) < MAX_LOSSES and (step := STEP_LOSS.search(line)):
            found.losses[int(step[1])] = step[2]
    return found


def _evaluated(number: int, line: str) -> Evaluated | None:
    timed = EVALUATION.search(line)
    unit = None if timed is None else timed["unit"] or (timed["key"] or "").removeprefix("_")
    if timed is None or not unit:
        return None
    score = SCORE.search(line)
    seconds = float(timed["time"]) / (1000 if unit == "ms" else 1)
    return Evaluated(number, seconds, None if score is None else float(score[1]))


def places_of(folder: Folder, names: Iterable[str], texts: set[str]) -> dict[str, str]:
    """file:line where each text first stands as a number of its own. One pass, whatever the number of texts."""
    found: dict[str, str] = {}
    wanted = set(texts)
    for name in names:
        if not wanted:
            break
        for number, line in read_lines(folder, name):
            met = wanted.intersection(NUMBER.findall(line))
            if met:
                found |= dict.fromkeys(met, f"{name}:{number}")
                wanted -= met
                if not wanted:
                    break
    return found
