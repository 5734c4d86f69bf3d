"""What the evidence of a folder says, a `Seen` for every run: from its logs by the parser, or from sealed attempts."""

import math
import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256

from results.parse.run import ParsedRun
from results.rows import Row
from results.untrusted import MAX_LOG_BYTES, Folder, plain
from results.verify.words import BPB

LOG_NAMES = (".log", ".txt", ".out")
NOT_LOGS = ("requirements.txt",)
MAX_LOGS = 64
MAX_RUNS = 200
FINE = 1.000001e-6  # a score printed to six decimals at least: two runs do not share it with its loss
MIN_LOSSES = 8  # equal ones of two runs, more than chance gives
# figure of the judge -> field of a parsed run
OF_LOG = {
    BPB: "final_bpb",
    "val_loss": "final_val_loss",
    **{
        name: name
        for name in (
            "pre_quant_bpb",
            "roundtrip_bpb",
            "sliding_bpb",
            "pre_ttt_bpb",
            "post_ttt_bpb",
            "ttt_gain",
            "ttt_time_s",
            "ttt_loop_s",
            "eval_time_s",
            "train_time_s",
            "steps",
            "step_avg_ms",
            "artifact_bytes",
            "code_bytes",
            "model_params",
        )
    },
}
OF_ROW = {
    BPB: "val_bpb",
    "val_loss": "val_loss",
    "pre_quant_bpb": "pre_quant_bpb",
    "roundtrip_bpb": "roundtrip_bpb",
    "sliding_bpb": "sliding_bpb",
    "pre_ttt_bpb": "pre_ttt_bpb",
    "post_ttt_bpb": "post_ttt_bpb",
    "ttt_gain": "ttt_gain_bpb",
    "ttt_time_s": "ttt_time_s",
    "ttt_loop_s": "ttt_loop_s",
    "eval_time_s": "evaluate_seconds",
    "train_time_s": "train_seconds",
    "steps": "steps",
    "step_avg_ms": "step_avg_ms",
    "artifact_bytes": "artifact_bytes",
    "code_bytes": "code_bytes",
    "model_bytes": "model_bytes",
    "model_params": "parameters",
}


@dataclass
class Seen:
    """One run. A figure is in `values`, or `reasons` may say why not."""

    file: str
    run: int = 1
    runs: int = 1
    printed: int | None = None  # the seed as the run printed it
    named: int | None = None  # the seed in the file's name
    values: dict[str, float] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)  # file:line
    steps: dict[str, float] = field(default_factory=dict)  # a unit of the last digit that the log printed
    reasons: dict[str, str] = field(default_factory=dict)
    digest: str = ""  # of the file
    stage: str | None = None
    gpu: str | None = None
    gpus: int | None = None
    warnings: list[str] = field(default_factory=list)
    losses: Mapping[int, str] = field(default_factory=dict)  # of training, by step, as printed

    @property
    def place(self) -> str:
        return self.file if self.runs == 1 else f"{self.file} (run {self.run} of {self.runs})"

    @property
    def seed(self) -> int | None:
        return self.named if self.printed is None else self.printed

    @property
    def bytes_per_token(self) -> float | None:
        bpb, loss = self.values.get(BPB), self.values.get("val_loss")
        return None if not bpb or loss is None else loss / (bpb * math.log(2))

    def source(self, figure: str) -> str:
        return self.sources.get(figure, self.place)

    def why(self, figure: str) -> str:
        reason = self.reasons.get(OF_LOG.get(figure, figure))
        return f"{self.place}: {plain(reason) if reason else 'the log does not tell it'}"

    def same_numbers(self, other: "Seen") -> bool:
        """Whether two runs agree to the digit in the score and in all else that no two runs share."""
        told = [name for name in (BPB, "val_loss", "artifact_bytes", "train_time_s") if name in self.values]
        same = [name for name in told if self.values[name] == other.values.get(name)]
        return BPB in same and len(same) == len(told) and len(same) >= 3

    def same_run(self, other: "Seen") -> str:
        """What two runs share that no two of different seeds do, in words; empty where there is nothing."""
        if self.same_numbers(other):
            return "the same numbers to the digit"
        fine = all(run.steps.get(name, 1.0) <= FINE for run in (self, other) for name in (BPB, "val_loss"))
        if fine and all(self.values[name] == other.values[name] for name in (BPB, "val_loss")):
            return "the same score and loss to the digit"
        alike = self.trained_alike(other)
        return alike if alike and self.values.get(BPB) == other.values.get(BPB) else ""

    def trained_alike(self, other: "Seen") -> str:
        """In words, that two runs printed the same losses at most of their steps; empty where they did not."""
        common = self.losses.keys() & other.losses.keys()
        equal = sum(self.losses[step] == other.losses[step] for step in common)
        if equal >= MIN_LOSSES and 2 * equal >= max(len(self.losses), len(other.losses)):
            return f"the same training losses at {equal} of {len(common)} steps"
        return ""


def last_digit(value: float, text: str) -> float:
    """A unit of the last digit of a figure as its line prints it, in the figure's own unit.

    >>> last_digit(1.15, "val_bpb:1.1500"), last_digit(0.5, "train_time:500ms"), last_digit(2.5, "")
    (0.0001, 0.001, 0.1)
    """
    for scale, power in ((1.0, 0), (0.001, 3), (1e6, -6)):
        for printed in re.findall(r"\d[\d,]*(?:\.\d+)?", text):
            if len(printed) < 40 and math.isclose(float(printed.replace(",", "")) * scale, abs(value), rel_tol=1e-12):
                return 10.0 ** -(len(printed.partition(".")[2]) + power)
    digits = repr(value).partition(".")[2]
    return 1.0 if digits == "0" or "e" in digits else 10.0 ** -len(digits)


def seed_in_name(name: str) -> int | None:
    """
    >>> seed_in_name("train_seed1337.log"), seed_in_name("logs/train0.txt"), seed_in_name("train.log")
    (1337, 0, None)
    """
    last = name.rpartition("/")[2]
    found = re.search(r"seed[_-]?(\d{1,10})(?!\d)", last, re.IGNORECASE) or re.search(
        r"(?:train|run|log)[_-]?(\d{1,10})\.\w+$", last
    )
    return int(found[1]) if found else None


def logs_of(folder: Folder) -> list[str]:
    """The files that may be logs. Raises Refused where they are too many or too large."""
    names = [
        name for name in folder.files if name.lower().endswith(LOG_NAMES) and name.rpartition("/")[2] not in NOT_LOGS
    ]
    if len(names) > MAX_LOGS:
        raise folder.refusal(names[MAX_LOGS], f"is one log too many: {len(names)}; {MAX_LOGS} are read at most")
    for name in names:
        if folder.files[name].size > MAX_LOG_BYTES:
            raise folder.refusal(name, f"has {folder.files[name].size:,} bytes; {MAX_LOG_BYTES:,} are read at most")
    return names


def seen_in_logs(folder: Folder) -> list[Seen]:
    """Every run of every log, in the order of names."""
    from results.parse.reader import parse_file

    found: list[Seen] = []
    for name in logs_of(folder):
        with folder.open(name) as stream:
            digest = sha256()
            while block := stream.read(1 << 20):
                digest.update(block)
        for run in parse_file(folder.path / name):
            if len(found) < MAX_RUNS:
                found.append(_of_run(run, name, digest.hexdigest()))
    return found


def _of_run(run: ParsedRun, name: str, digest: str) -> Seen:
    values: dict[str, float] = {}
    sources: dict[str, str] = {}
    steps: dict[str, float] = {}
    for figure, told in OF_LOG.items():
        if (value := getattr(run, told)) is not None:
            values[figure] = value
            steps[figure] = last_digit(float(value), run.evidence[told].text if told in run.evidence else "")
            if told in run.evidence:
                sources[figure] = f"{name}:{run.evidence[told].line}"
    if "seed" in run.evidence:
        sources["seed"] = f"{name}:{run.evidence['seed'].line}"
    if {"artifact_bytes", "code_bytes"} <= set(values) and values["artifact_bytes"] > values["code_bytes"]:
        values["model_bytes"] = values["artifact_bytes"] - values["code_bytes"]
    return Seen(
        file=name,
        run=run.run,
        runs=run.runs,
        printed=run.seed,
        named=seed_in_name(name),
        values=values,
        sources=sources,
        steps=steps,
        reasons=dict(run.reasons),
        digest=digest,
        stage=run.final_stage,
        gpu=run.gpu,
        gpus=run.world_size,
        warnings=list(run.warnings),
    )


def seen_in_rows(rows: typing.Iterable[Row]) -> list[Seen]:
    """The counted seeds of our own submission, from their sealed attempts."""
    found = []
    for row in rows:
        if row.counted:
            values = {name: float(value) for name, told in OF_ROW.items() if (value := getattr(row, told)) is not None}
            place = str(row.attempt_id)
            sources = dict.fromkeys(values, place)
            one = Seen(place, printed=row.seed, values=values, sources=sources, digest=str(row.attempt_id))
            one.stage, one.gpu, one.gpus = row.final_stage, row.gpu, row.gpus
            found.append(one)
    return found
