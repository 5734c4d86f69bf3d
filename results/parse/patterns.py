"""What a log states besides scores, as patterns: steps, the end of training, the header, sizes."""

import re

SCALE = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}

# `step:100/20000 train_loss:...`, `100/20000 val_loss: ...`, `step 100/9999 | loss ...`, with what may stand before.
# Groups: step and of how many, `v` where validation follows; the same once more for the second form.
STEP = re.compile(
    rb"(?:\d{10}\.\d+ |\[[^\]\s]{1,24}(?: [^\]\s]{1,24})?\]:? ?)?\s{0,4}"
    rb"(?:[Ss]tep[:=\s]\s{0,8}(\d{1,9})\s?/\s?(\d{1,9})[ :|,]\s{0,2}(v(?=al_))?"
    rb"|(\d{1,9})/(\d{1,9}) (v(?=al_loss)|train_loss))"
)
STEP_FIELDS = re.compile(
    r"(?<![\w.])(train_loss|loss|val_loss|train_time|elapsed|step_avg)\s{0,3}[:=]?\s{0,3}"
    r"(\d{1,9}(?:\.\d{1,12})?)\s?(ms|s|m|h)?\b"
)
STEP_BPB = re.compile(r"(?<![\w.])val_bpb\s{0,3}[:=]\s{0,3}(\d{1,3}\.\d{1,18})")

# `stopping_early: wallclock_cap train_time:600061ms step:13764/20000`, and ours with the order of its own.
STOPPED = re.compile(
    r"stopping_early\b.{0,80}?train_time\s?[:=]\s?(?P<time>\d{1,12}(?:\.\d{1,9})?)\s?(?P<unit>ms|s)\b"
    r".{0,80}?step\s?[:=]\s?(?P<step>\d{1,9})\b"
)
STOPPED_BY = re.compile(
    r"^stopped_by:\w{1,20} step:(?P<step>\d{1,9}) train_time:(?P<time>\d{1,12}(?:\.\d{1,9})?)(?P<unit>ms)"
    r"(?: step_avg:(?P<average>\d{1,9}\.\d{1,9})ms)?"
)
TRAINED = re.compile(
    r"[Tt]raining (?:complete|done|finished)\D{0,20}?(?P<time>\d{1,9}(?:\.\d{1,9})?)\s?s\b"
    r"\D{0,12}(?P<step>\d{1,9}) steps"
)
STOPPED_AT = re.compile(r"[Ss]topping early at step (?P<step>\d{1,9})\b")

# Where a trainer starts anew inside a file.
HEADER_BEGINS = re.compile(rb"Hyperparameters:|val_bpb:enabled|Running Py(?:thon|Torch)|(?<!\w)model_params:")
COUNT = r"(\d{1,3}(?:,\d{3}){1,4}|\d{1,13})(?![\d.,]*\d)"
# What a header states, by field, with words of which its line holds one. The first pattern that matches counts.
HEADER: tuple[tuple[str, tuple[str, ...], tuple[re.Pattern[str], ...]], ...] = (
    (
        "seed",
        ("eed", "SEED"),
        (
            re.compile(r"(?<![\w.-])\"?(?:seed|SEED|Seed)\"?\s{0,3}[:=]\s{0,3}(\d{1,10})\b(?![.\w])"),
            re.compile(r"^#[^\d]{0,40}\bSeed (\d{1,10})\b"),
        ),
    ),
    (
        "world_size",
        ("orld", "ws"),
        (
            re.compile(r"(?<![\w.])(?<!eval )[Ww]orld[_ ]size\s{0,3}[:=]\s{0,3}(\d{1,4})\b"),
            re.compile(r"(?<![\w.])ws\s?[:=]\s?(\d{1,2})\b"),
        ),
    ),
    (
        "model_params",
        ("param",),
        (
            re.compile(
                r"(?:^|[:|>\])-] ?)\W{0,3}(?:model_params|total_params|n_params|num_params)\s{0,3}[:=]\s{0,3}" + COUNT
            ),
            re.compile(r"(?:^|[|;] ?|\d )(?:model_)?params\s?[:=]\s?" + COUNT + r"(?! \(eval)"),
            re.compile(r"^\W{0,4}(?:[Mm]odel|[Tt]otal) param\w{0,8}\s?[:=]\s?" + COUNT),
        ),
    ),
    (
        "torch",
        ("orch",),
        (
            re.compile(r"\b(?:Running )?PyTorch\s?[:=]?\s?(\d+\.\d+\.\d+[\w.+]{0,24})"),
            re.compile(
                r"(?<![\w.-])(?:torch|torch_version|pytorch_version|pytorch)\s?[:=]\s?(\d+\.\d+\.\d+[\w.+]{0,24})"
            ),
        ),
    ),
    (
        "gpu",
        ("NVIDIA", "AMD"),
        (
            re.compile(
                r"(?:^|[|:;,(\[\"'] ?|\d\s{1,4}|\dx ?)"
                r"((?:NVIDIA|AMD) (?:Tesla |GeForce |Instinct |Graphics )?(?:RTX |MI|GH|[ABHLTV])\w{1,8}"
                r"(?:[ -](?:\d+GB|SXM\d?|PCIe|NVL|HBM\d\w?|Ti|SUPER|Ada|Generation|Blackwell|OAM|\d{4})){0,4})"
                r"(?=\s{2,}|\s?$|\s?[,;)\]|\"'x(])"
            ),
        ),
    ),
    ("launched", ("nproc",), (re.compile(r"nproc[_-]per[_-]node[= ](\d{1,4})\b"),)),
)
SEED = HEADER[0][2][0]
# Words before a seed that say that it is of something else, and a package that only asks for a torch.
NOT_THE_SEED = re.compile(r"(?:rng|shuffle|data|ttt|eval|init|best|spinquant|calib\w*)[ _.-]{0,2}$", re.IGNORECASE)
NOT_THE_TORCH = re.compile(r"requires|but you have|incompatible")
# Evaluations that a header announces.
EXPECTED = re.compile(r"(?<!\w)(ttt|sliding_window|slot)_enabled\"?\s?[:=]\s?(?:[Tt]rue|1)\b")

# Sizes. A label between `size` and the colon says what was compressed; the unlabelled one is the checkpoint's.
BYTES = r"(?P<value>\d{1,3}(?:,\d{3}){1,4}|\d{1,13})(?![\d.,]*\d)(?!\s?[KMGkmg]i?B)"
MODEL_BYTES = re.compile(
    r"(?:[Ss]erialized(?: model)?|serialized_model)[ _]?(?P<label>[^:]{0,60}?)\s?:\s?" + BYTES + r"\s?bytes"
)
TOTAL_BYTES = re.compile(
    r"(?<!\w)(?P<named>[Tt]otal (?:mixed |compressed |final )?(?:submission|artifact)(?: size)?|total_submission_size"
    r"|total_artifact_bytes|artifact_bytes|submission_bytes|[Tt]otal)[ _]?(?P<label>[^:=]{0,60}?)\s{0,3}[:=]\s{0,3}"
    + BYTES
    + r"(?P<unit>\s?(?:bytes|B)\b)?"
)
NOT_A_TOTAL = re.compile(r"limit|budget|cap\b|param|token|time|wall|step|loss|doc", re.IGNORECASE)
BUDGET = re.compile(r"(?<!\w)budget\s?:\s?(?P<value>\d[\d,]{3,14})\s?/\s?16[,_]?000[,_]?000\b")
CODE_BYTES = re.compile(
    r"(?<!\w)(?<!xit )(?<!rror )(?<!eturn )(?<!tatus )(?P<key>[Cc]ode[_ ]size|code_bytes|bytes_code|[Cc]ode)\s?"
    r"(?P<label>\([^)]{0,40}\))?\s?[:=]\s?" + BYTES + r"(?P<unit>\s?(?:bytes|B)\b)?(?! raw)"
)
PACKED_CODE = re.compile(r"\(compressed:?\s?" + BYTES + r"\s?(?:bytes|B)\b")

EVAL_TOTAL = re.compile(r"(?<!\w)total_eval_time\s?[:=]\s?(\d{1,9}(?:\.\d{1,9})?)\s?(ms|s)\b")
TTT_LOOP = re.compile(
    r"ttt\w{0,30}:(?:done|completed?|finished)\b.{0,200}?(?:elapsed|time)\s?[:=]\s?(\d{1,9}(?:\.\d{1,9})?)\s?s\b",
    re.IGNORECASE,
)
CHUNK = re.compile(r"(?:ttt_chunk|tc|slot_batch)\s?\[(\d{1,9})/\d{1,9}\]\s?bpb=(\d{1,3}\.\d{1,12})")

# An evaluation that began or goes on, and what only sounds like one.
UNDER_WAY = re.compile(
    r"(?:ttt|slot|ngram|ppm|lora|adapt|sliding|slide|window)\w{0,30}\s{0,2}[:_ ]?\s{0,2}"
    r"(?:start|begin|warm|epoch|chunk|phase|param|progress|rank|docs|\[|\d{1,9}/\d|batch|short|long|running|eval\b)"
    r"|ttp\w{0,9}:|tttg:|tc\[\d|\d/\d{1,9} {1,4}loss:|\d windows|compil(?:ing|ation)|slot_batch"
    r"|gptq\S{0,30} blocks\.|begin\w{0,5} .{0,40}eval",
    re.IGNORECASE,
)
NOT_UNDER_WAY = re.compile(
    r"gain|wall_ms|breakdown|total|budget|Dynamo|[Ww]arning|\.py:\d|local_ttt_done|_time\b|_enabled"
    r"|skip|disabled|\boff\b"
)
SLIDING_AHEAD = re.compile(
    r"sliding[ _]window eval|sliding_eval|eval_mode\W{1,2}sliding|sliding_progress", re.IGNORECASE
)
# Learning from validation text: at evaluation, and before the weights are quantized.
ADAPTING = re.compile(r"(?<!pre)(?<!prequant_)(?:ttt|TTT)\w{0,30}[:_ ](?:start|epoch|params|AdamW|SGD)")
ADAPTING_BEFORE = re.compile(
    r"(?:prequant|pre_quant|pre-quant)\w{0,30}[:_ ].{0,80}(?:epoch|start|ttt)|sdttt", re.IGNORECASE
)
# A heading of a written report, which names the numbers below it.
TITLE = re.compile(r"(?:\d{1,2}[.)]|#{1,6}|=+|-{2,}|\*+)?\s*[A-Z][A-Za-z_ +/-]{2,60}[=*:\s]*")
NO_TITLE = re.compile(r"skip|disabled|enabled|\bno\b|kernel|attention", re.IGNORECASE)
# A row of a table or a result in words that speaks of a stage and holds a number like a score.
ROW_OF_A_SCORE = re.compile(
    r"^\|.{0,60}(?:ttt|sliding|slot|roundtrip).{0,60}\|\s{0,4}[01]\.\d{3,}"
    r"|(?:ttt|sliding|slot)\w{0,20} result\W{1,3}[01]\.\d{3,}",
    re.IGNORECASE,
)

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
        or "topp" in line
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
        or "topp" in line
        or "raining " in line
        or "budget" in line
        or "slot" in line
        or "lora" in line
        or "ppm" in line
        or "ngram" in line
        or "GPTQ" in line
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
