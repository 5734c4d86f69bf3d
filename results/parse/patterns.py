"""What a log states besides scores, as patterns: steps, the end of training, the header, sizes."""

import re

NUMBER = r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
SCALE = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}

# `step:100/20000 train_loss:...`, `100/20000 val_loss: ...`, `step 100/9999 | loss ...`, with what may stand before.
# Groups: step and of how many, `v` where validation follows; the same once more for the second form.
STEP = re.compile(
    rb"(?:\d{10}\.\d+ |\[[^\]\s]{1,24}(?: [^\]\s]{1,24})?\]:? ?)?\s{0,4}"
    rb"(?:[Ss]tep[:=\s]\s{0,8}(\d{1,9})\s?/\s?(\d{1,9})[ :|,]\s{0,2}(v(?=al_))?"
    rb"|(\d{1,9})/(\d{1,9}) (v(?=al_loss)|train_loss))"
)
STEP_FIELDS = re.compile(
    r"(?<![\w.])(train_loss|loss|val_loss|train_time|time|t|step_avg|avg)\s*[:=]?\s*(" + NUMBER + r")\s?(ms|s|m|h)?\b"
)
STEP_BPB = re.compile(r"(?<![\w.])val_bpb\s*[:=]\s*(\d+\.\d+)")

STOPPED = re.compile(
    rf"stopping_early\b.*?train_time\s*[:=]\s*(?P<time>{NUMBER})\s?(?P<unit>ms|s)\b.*?step\s*[:=]\s*(?P<step>\d+)"
)
TRAINED = re.compile(
    r"[Tt]raining (?:complete|done|finished)\D{0,20}?(?P<time>\d+(?:\.\d+)?)\s?s\b\D{0,12}(?P<step>\d+) steps"
)
STOPPED_AT = re.compile(r"[Ss]topping early at step (?P<step>\d+)")

# Where a trainer starts anew inside a file.
HEADER_BEGINS = re.compile(rb"Hyperparameters:|val_bpb:enabled|Running Py(?:thon|Torch)|model_params:")
# What a header states, by field. The first pattern of a field that matches counts.
HEADER: dict[str, tuple[re.Pattern[str], ...]] = {
    "seed": (
        re.compile(r"(?<![\w.-])\"?(?:seed|SEED|Seed)\"?\s*[:=]\s*(\d{1,10})\b(?![.\w])"),
        re.compile(r"^#.*\b[Ss]eed (\d{1,10})\b"),
    ),
    "world_size": (
        re.compile(r"(?<![\w.])[Ww]orld[_ ]size\s*[:=]\s*(\d{1,4})\b"),
        re.compile(r"(?<![\w.])ws\s*[:=]\s*(\d{1,4})\b"),
    ),
    "model_params": (
        re.compile(r"(?<![\w.])(?:model_params|total_params|n_params|num_params)\s*[:=]\s*(\d[\d,]*)\b(?!\.)"),
        re.compile(r"(?<![\w.])params\s*[:=]\s*(\d{6,12}|\d{1,3}(?:,\d{3}){2,3})\b(?![.,]\d)(?! \(eval)"),
        re.compile(r"(?:[Mm]odel|[Tt]otal) param\w*\s*[:=]\s*(\d[\d,]{5,})\b(?!\.)"),
    ),
    "torch": (
        re.compile(r"\b(?:Running )?PyTorch\s*[:=]?\s*(\d+\.\d+\.\d+[\w.+]*)"),
        re.compile(r"(?<![\w.])(?:torch|torch_version|pytorch_version|pytorch)\s*[:=]{1,2}\s*(\d+\.\d+\.\d+[\w.+]*)"),
    ),
    "gpu": (
        re.compile(r"\|\s+\d+\s+((?:NVIDIA|AMD) [\w .-]+?)\s{2,}"),
        re.compile(r"\b((?:NVIDIA|AMD) [A-Z]\w+(?:[ -][\w.]+){0,4}?)(?:\s{2,}|$|[,;)\]|\"'])"),
    ),
}
LAUNCHER = re.compile(r"nproc[_-]per[_-]node[= ](\d{1,4})\b")
# Each field of the header with words of which its line holds one.
HEADER_FIELDS = (
    ("seed", ("eed", "SEED"), HEADER["seed"]),
    ("world_size", ("orld", "ws"), HEADER["world_size"]),
    ("model_params", ("param",), HEADER["model_params"]),
    ("torch", ("orch",), HEADER["torch"]),
    ("gpu", ("NVIDIA", "AMD"), HEADER["gpu"]),
    ("launched", ("nproc",), (LAUNCHER,)),
)
# Evaluations that a header announces.
EXPECTED = re.compile(r"(?<!\w)(ttt|sliding_window|slot)_enabled\"?\s*[:=]\s*True")

# Sizes. A label between `size` and the colon says what was compressed; the unlabelled one is the checkpoint's.
MODEL_BYTES = re.compile(
    r"(?:[Ss]erialized(?: model)?|serialized_model)[ _]?(?P<label>[^:]{0,60}?)\s*:\s*(?P<value>\d[\d,]*)\s*bytes"
)
TOTAL_BYTES = re.compile(
    r"(?:[Tt]otal (?:mixed |compressed |final )?(?:submission|artifact)(?: size)?|total_submission_size"
    r"|total_artifact_bytes|artifact_bytes|submission_bytes|(?<!\w)[Tt]otal)[ _]?(?P<label>[^:=]{0,80}?)"
    r"\s*[:=]\s*(?P<value>\d[\d,]*)(?P<unit>\s*(?:bytes|B)\b)?"
)
BUDGET = re.compile(r"(?<!\w)budget\s*:\s*(?P<value>\d[\d,]*)\s*/\s*16[,_]?000[,_]?000\b")
CODE_BYTES = re.compile(
    r"(?<!\w)(?:[Cc]ode[_ ]size|code_bytes|[Cc]ode)\s*(?P<label>\([^)]*\))?\s*[:=]\s*(?P<value>\d[\d,]*)"
    r"(?P<unit>\s*(?:bytes|B)\b)?(?! raw)(?![\d.])"
)

EVAL_TOTAL = re.compile(r"(?<!\w)total_eval_time\s*[:=]\s*(\d+(?:\.\d+)?)\s?(ms|s)\b")
TTT_LOOP = re.compile(
    r"ttt\w*:(?:done|completed?|finished)\b.*?(?:elapsed|time)\s*[:=]\s*(\d+(?:\.\d+)?)\s?s\b", re.IGNORECASE
)
CHUNK = re.compile(r"(?:ttt_chunk|tc|slot_batch)\s*\[(\d+)/\d+\]\s*bpb=(\d+\.\d+)")

# An evaluation that began or goes on, and what only sounds like one.
UNDER_WAY = re.compile(
    r"(?:ttt|slot|ngram|ppm|lora|adapt|sliding|slide|window)\w*\s*[:_ ]?\s*"
    r"(?:start|begin|warm|epoch|chunk|phase|param|progress|rank|docs|\[|\d+/\d+|batch|short|long|running|eval\b)"
    r"|ttp\w*:|tttg:|tc\[\d|\d+/\d+ +loss:|\d windows|compil(?:ing|ation)|slot_batch|begin\w* .*eval",
    re.IGNORECASE,
)
NOT_UNDER_WAY = re.compile(
    r"gain|wall_ms|breakdown|total|budget|Dynamo|[Ww]arning|\.py:\d|local_ttt_done|_time\b|_enabled"
)
SLIDING_AHEAD = re.compile(
    r"sliding[ _]window eval|sliding_eval|eval_mode\W{1,2}sliding|sliding_progress", re.IGNORECASE
)
# Learning from validation text: at evaluation, and before the weights are quantized.
ADAPTING = re.compile(r"(?<!pre)(?<!prequant_)(?:ttt|TTT)\w*[:_ ](?:start|epoch|params|AdamW|SGD)")
ADAPTING_BEFORE = re.compile(r"(?:prequant|pre_quant|pre-quant)\w*[:_ ].*(?:epoch|start|ttt)|sdttt", re.IGNORECASE)
# A heading of a written report, which names the numbers below it.
TITLE = re.compile(r"(?:\d+[.)]|#+|=+|-{2,}|\*+)?\s*[A-Z][\w +/-]+")

# Lines on the way through an evaluation, of which a log has thousands: that one was there is all they say.
ON_THE_WAY = re.compile(
    rb"\s{0,4}(?:ttp\w*: |tttg: |ttt_chunk \[|tc\[|sliding_eval \[|slot_batch \[|ttt_progress: |sliding_progress: "
    rb"|ttt:batch|ttt:chunk|\[rank \d+\]\s+\d+/|\w+_sweep \[)"
)


def may_matter(line: str) -> bool:
    """Whether a line before the end of training has a word that a pattern above needs.

    Written out, because looking for a word is ten times as fast as one pattern of all of them, and in text twice as
    fast as in bytes: most lines of a log are dismissed here.
    """
    return (
        "bpb" in line
        or "eed" in line
        or "orld" in line
        or "param" in line
        or "_enabled" in line
        or "orch" in line
        or "NVIDIA" in line
        or "topping" in line
        or "raining " in line
        or "erialized" in line
        or " bytes" in line
        or "budget" in line
        or "ode" in line
        or "nproc" in line
        or "ws:" in line
        or "BPB" in line
        or "SEED" in line
        or "AMD " in line
    )


def may_matter_later(line: str) -> bool:
    """The same for a line after the end of training."""
    return (
        "bpb" in line
        or "tt" in line
        or "TTT" in line
        or "lid" in line
        or "bytes" in line
        or "ize" in line
        or "ode" in line
        or "uant" in line
        or "eed" in line
        or "otal" in line
        or "erialized" in line
        or "topping" in line
        or "raining " in line
        or "budget" in line
        or "slot" in line
        or "lora" in line
        or "ppm" in line
        or "ngram" in line
        or "adapt" in line
        or "indow" in line
        or "ompil" in line
        or "loss:" in line
        or "eginning" in line
        or "BPB" in line
        or "SEED" in line
        or "Running Py" in line
        or "params:" in line
        or line.startswith("=")
    )
