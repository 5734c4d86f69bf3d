"""Lines of a log other than scores: steps, the end of training, sizes, and what the header says of the run."""

import re
import typing
from dataclasses import dataclass

from results.parse.scores import NUMBER

# `step:100/20000 train_loss:...`, `100/20000 val_loss: ...`, `step 100/9999 | loss ...`, with what may stand before.
STEP = re.compile(
    rb"(?:\d{10}\.\d+ |\[[^\]\s]{1,24}(?: [^\]\s]{1,24})?\]:? ?)?\s{0,4}(?:step[:=\s]\s{0,8})?(\d{1,8})/(\d{1,8})[ :|,]", re.IGNORECASE
)
STEP_FIELDS = re.compile(
    r"(?<![\w.])(train_loss|loss|val_loss|val_bpb|train_time|time|t|step_avg|avg)\s*[:=]?\s*" + f"({NUMBER})" + r"\s?(ms|s|m|h)?\b"
)
SCALE = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}

STOPPED = re.compile(
    rf"stopping_early\b.*?train_time\s*[:=]\s*(?P<time>{NUMBER})\s?(?P<unit>ms|s)\b.*?step\s*[:=]\s*(?P<step>\d+)"
)
TRAINED = re.compile(
    r"[Tt]raining (?:complete|done|finished)\D{0,20}?(?P<time>\d+(?:\.\d+)?)\s?s\b\D{0,12}(?P<step>\d+) steps"
)
STOPPED_AT = re.compile(r"[Ss]topping early at step (?P<step>\d+)")

# Facts that the header states, by field. The first pattern of a field that matches counts.
HEADER: dict[str, tuple[re.Pattern[str], ...]] = {
    "seed": (re.compile(r"(?<![\w.-])(?:seed|SEED|Seed)\s*[:=]\s*(\d{1,10})\b(?![.\w])"),),
    "world_size": (
        re.compile(r"(?<![\w.])[Ww]orld[_ ]size\s*[:=]\s*(\d{1,4})\b"),
        re.compile(r"(?<![\w.])ws\s*[:=]\s*(\d{1,4})\b"),
    ),
    "model_params": (
        re.compile(r"(?<![\w.])(?:model_params|total_params|n_params|num_params)\s*[:=]\s*(\d[\d,]*)\b(?!\.)"),
        re.compile(r"(?<![\w.])params\s*[:=]\s*(\d{6,12})\b(?![.,]\d)"),
        re.compile(r"(?:[Mm]odel|[Tt]otal) param\w*\s*[:=]\s*(\d[\d,]{5,})\b(?!\.)"),
    ),
    "torch": (
        re.compile(r"\b(?:Running )?PyTorch\s*[:=]?\s*(\d+\.\d+\.\d+\S*)"),
        re.compile(r"(?<![\w.])(?:torch|torch_version|pytorch_version|pytorch)\s*[:=]{1,2}\s*(\d+\.\d+\.\d+[\w.+]*)"),
    ),
    "gpu": (
        re.compile(r"\|\s+\d+\s+((?:NVIDIA|AMD) [\w .-]+?)\s{2,}"),
        re.compile(r"\b((?:NVIDIA|AMD) [A-Z]\w+(?:[ -][\w.]+){0,4}?)(?:\s{2,}|$|[,;)\]|\"'])"),
    ),
}
LAUNCHER = re.compile(r"nproc[_-]per[_-]node[= ](\d{1,4})\b")

# Sizes. A label between `size` and the colon says what was compressed; the unlabelled one is the checkpoint's.
MODEL_BYTES = re.compile(
    r"(?:[Ss]erialized(?: model)?|serialized_model)[ _]?(?P<label>[^:]{0,60}?)\s*:\s*(?P<value>\d[\d,]*)\s*bytes"
)
TOTAL_BYTES = re.compile(
    r"(?:[Tt]otal (?:mixed |compressed |final )?(?:submission|artifact)(?: size)?|total_submission_size|total_artifact_bytes"
    r"|artifact_bytes|submission_bytes|(?<![\w])[Tt]otal)[ _]?(?P<label>[^:=\d]{0,60}?\S{0,24}?)\s*[:=]\s*(?P<value>\d[\d,]*)(?P<unit>\s*(?:bytes|B)\b)?"
)
BUDGET = re.compile(r"(?<![\w])budget\s*:\s*(?P<value>\d[\d,]*)\s*/\s*16[,_]?000[,_]?000\b")
CODE_BYTES = re.compile(
    r"(?<![\w])(?:[Cc]ode[_ ]size|code_bytes|[Cc]ode)\s*(?P<label>\([^)]*\))?\s*[:=]\s*(?P<value>\d[\d,]*)(?P<unit>\s*(?:bytes|B)\b)?(?![\d.])"
)
EVAL_TOTAL = re.compile(r"(?<![\w])total_eval_time\s*[:=]\s*(\d+(?:\.\d+)?)\s?(ms|s)\b")


@dataclass(slots=True)
class Size:
    line: int
    text: str
    kind: str  # model, total, code
    label: str
    value: int


def number_of(digits: str) -> int:
    return int(digits.replace(",", ""))


def sizes_of(number: int, text: str) -> list[Size]:
    """Every size in bytes that a line states. What is printed in megabytes has lost its digits and is none."""
    found: list[Size] = []
    rest = text
    for kind, pattern in (("total", BUDGET), ("total", TOTAL_BYTES), ("model", MODEL_BYTES), ("code", CODE_BYTES)):
        for match in pattern.finditer(rest):
            groups = match.groupdict()
            label = (groups.get("label") or "").strip(" _()").lower()
            value = number_of(match["value"])
            if kind == "total" and pattern is TOTAL_BYTES and not groups["unit"] and "bytes" not in match[0]:
                if not re.search(r"size|limit|budget|=", text):
                    continue  # a count of something else
            if value < 100 or len(match["value"]) > 14:
                continue
            found.append(Size(number, text[:200], kind, label, value))
    return found


def step_fields(text: str) -> dict[str, tuple[float, str | None]]:
    """The first value of each name in a step line, with its unit."""
    found: dict[str, tuple[float, str | None]] = {}
    for name, value, unit in STEP_FIELDS.findall(text):
        found.setdefault(name, (float(value), unit or None))
    return found


def elapsed_s(fields: typing.Mapping[str, tuple[float, str | None]]) -> float | None:
    """Training time of a step line, where it is printed in a unit that keeps milliseconds or says seconds."""
    for name in ("train_time", "time", "t"):
        if name in fields:
            value, unit = fields[name]
            return None if unit is None else value * SCALE[unit]
    return None
