"""What a label means, a key of submission.json or the head of a column: which figure, of which seeds, in which unit.

The spellings are those seen in submission folders of the race; a label that fits none has no meaning here.
"""

import re
from dataclasses import dataclass

MEAN, SD, LARGEST, SMALLEST, ONE = "mean", "sd", "largest", "smallest", "one"
BPB = "bpb"  # the final score
SCORES = (BPB, "pre_quant_bpb", "roundtrip_bpb", "sliding_bpb", "pre_ttt_bpb", "post_ttt_bpb", "any_bpb")
TIMES = ("train_time_s", "eval_time_s", "ttt_time_s")
SIZES = ("artifact_bytes", "code_bytes", "model_bytes")
# Labels of somebody else's figures, of differences, and of settings: no log of the folder gives them.
FOREIGN = {"delta", "vs", "base", "baseline", "comparison", "reference", "improvement", "sota", "leaderboard", "gap"}
FOREIGN |= {"var", "variance", "best", "reserve", "cap", "limit", "under", "headroom", "margin", "left", "stride", "p"}
FOREIGN |= {"threshold", "previous", "prior", "target", "published", "reduction", "budget", "speedup", "method"}
FOREIGN |= {"sha", "hash", "digest", "path", "url", "note", "label"}
TIME_WORDS = {"time", "times", "seconds", "second", "sec", "secs", "s", "ms", "wallclock", "duration"}


@dataclass(frozen=True)
class Meaning:
    metric: str
    over: str | None  # how the seeds are put together, where the label says so
    scale: float  # of one written unit, in the metric's own


def meaning(label: str) -> Meaning | None:
    """
    >>> meaning("TTT time (ms)"), meaning("delta_vs_base_bpb")
    (Meaning(metric='ttt_time_s', over=None, scale=0.001), None)
    """
    words = re.findall(r"[a-z]+|\d+", label.lower())
    told = set(words)
    if "best" in told and told <= {"best", "val", "bpb", "seed"}:
        return Meaning(BPB, SMALLEST, 1.0)
    if told & FOREIGN or (metric := _metric(told)) is None:
        return None
    return Meaning(metric, _over(told, metric), _scale(told, metric))


def _metric(told: set[str]) -> str | None:
    loss = bool(told & {"loss", "nats"})
    bits = bool(told & {"bpb", "bits"})
    timed = bool(told & TIME_WORDS)
    if "ttt" in told:
        return _of_adaptation(told, loss, bits, timed)
    if told & {"code"} and told & {"bytes", "size", "kb", "mb"}:
        return "code_bytes"
    if told & {"params", "parameters"}:
        return "model_params"
    if told & {"model", "weights"} and told & {"bytes", "size"}:
        return "model_bytes"
    if told & {"bytes", "artifact"} or (told & {"size"} and told & {"total", "submission", "mb", "file"}):
        return "artifact_bytes"
    if loss:
        return None if told & {"pre", "quant", "ema", "sliding", "roundtrip", "int", "train"} else "val_loss"
    if bits or told & {"prequant", "roundtrip", "sliding"} or {"post", "ema"} <= told or {"pre", "quant"} <= told:
        return None if timed else _of_stage(told, bits)
    if "step" in told or "steps" in told:
        return "step_avg_ms" if told & {"avg", "average", "ms", "time"} else "steps"
    if timed and told & {"eval", "evaluation"}:
        return "eval_time_s"
    return "train_time_s" if timed and told & {"train", "training", "wallclock"} else None


def _of_adaptation(told: set[str], loss: bool, bits: bool, timed: bool) -> str | None:
    if "gain" in told:
        return None if loss else "ttt_gain"
    if timed:
        return "ttt_time_s"
    if loss or told & {"no", "without"}:
        return "val_loss" if loss and "pre" not in told else "any_bpb" if bits else None
    if "pre" in told:
        return "pre_ttt_bpb"
    return "post_ttt_bpb" if bits or "post" in told else None


def _of_stage(told: set[str], bits: bool) -> str | None:
    if told & {"prequant", "ema", "swa"} or {"pre", "quant"} <= told:
        return "pre_quant_bpb"
    if "sliding" in told:
        return "sliding_bpb"
    if "roundtrip" in told:
        return "roundtrip_bpb"
    if told & {"quant", "quantized", "int", "standard", "zlib", "zstd", "no", "raw", "diagnostic"}:
        return "any_bpb"
    return BPB if bits else None


def _over(told: set[str], metric: str) -> str | None:
    if told & {"std", "sd", "stdev", "stddev", "sigma"}:
        return SD
    if told & {"max", "largest", "worst"}:
        return LARGEST
    if told & {"min", "smallest"}:
        return SMALLEST
    return MEAN if "mean" in told or ("avg" in told and metric != "step_avg_ms") else None


def _scale(told: set[str], metric: str) -> float:
    if metric in TIMES:
        return 0.001 if "ms" in told else 60.0 if told & {"min", "minutes"} else 1.0
    if metric in SIZES:
        return {"mb": 1e6, "mib": 2.0**20, "kb": 1e3, "kib": 1024.0}.get(
            next(iter(told & {"mb", "mib", "kb", "kib"}), ""), 1.0
        )
    return 1e6 if metric == "model_params" and told & {"m", "millions"} else 1.0
