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
EVALUATION = re.compile(r"\beval_time:\s?(\d+)ms\b")


@dataclass
class LogText:
    settings: dict[str, str] = field(default_factory=dict)  # of a block headed "Hyperparameters:"
    hessians: list[tuple[int, float]] = field(default_factory=list)  # line, seconds
    hessians_begun: int | None = None  # line
    self_made: bool = False  # calibrated on text of the model's own
    eval_times: list[tuple[int, float]] = field(default_factory=list)  # line, seconds
    blocks: int = 0  # of settings


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
        if "eval_time" in line and (timed := EVALUATION.search(line)) and len(timed[1]) < 12:
            found.eval_times.append((number, int(timed[1]) / 1000))
    return found


def places_of(folder: Folder, names: Iterable[str], texts: set[str]) -> dict[str, str]:
    """file:line where each text first stands as a number of its own."""
    found: dict[str, str] = {}
    wanted = {text: re.compile(rf"(?<![\d.]){re.escape(text)}(?!\d)") for text in texts}
    if not wanted:
        return found
    for name in names:
        for number, line in read_lines(folder, name):
            for text in [one for one in wanted if one in line]:
                if wanted[text].search(line):
                    found[text] = f"{name}:{number}"
                    del wanted[text]
            if not wanted:
                return found
    return found
