"""What one run of a log says, each value with the line that it came from, and why the rest is not known."""

import typing
from dataclasses import asdict, dataclass, field, fields

MAX_TEXT = 200  # characters of a line that are kept as evidence


@dataclass(frozen=True, slots=True)
class Evidence:
    """Where a value stands in the log: line number from 1, and the line itself, shortened."""

    line: int
    text: str


@dataclass(slots=True)
class Curves:
    """Points on the way, thinned to a bounded number; for charts, never for a claim."""

    train: list[tuple[int, float, float | None]] = field(default_factory=list)  # step, loss in nats, elapsed s
    val: list[tuple[int, float | None, float | None]] = field(default_factory=list)  # step, loss in nats, BPB
    ttt: list[tuple[int, float]] = field(default_factory=list)  # chunk, running BPB


def measured(unit: str, meaning: str) -> typing.Any:
    return field(default=None, metadata={"unit": unit, "meaning": meaning, "measured": True})


@dataclass(kw_only=True, slots=True)
class ParsedRun:
    """One run of a log. None is not known, and `reasons` says why; a value that is not None has `evidence`."""

    file: str
    run: int  # from 1, in the order of the file
    runs: int = 1  # in the file
    seed: int | None = measured("", "as printed by the run")
    steps: int | None = measured("", "optimizer steps when training ended")
    step_avg_ms: float | None = measured("ms", "training time over steps at the end of training")
    train_time_s: float | None = measured("s", "training time at the last step")
    pre_quant_bpb: float | None = measured("bits/byte", "averaged weights, else the last step's, before quantization")
    roundtrip_bpb: float | None = measured("bits/byte", "plain evaluation of the reloaded quantized weights")
    sliding_bpb: float | None = measured("bits/byte", "sliding windows over the quantized weights")
    pre_ttt_bpb: float | None = measured("bits/byte", "the score that test-time training started from")
    post_ttt_bpb: float | None = measured("bits/byte", "after test-time training")
    ttt_gain: float | None = measured("bits/byte", "post - pre: negative is better")
    ttt_time_s: float | None = measured("s", "evaluation time of the stage with test-time training")
    ttt_loop_s: float | None = measured("s", "the adaptation loop's own clock")
    eval_time_s: float | None = measured("s", "evaluation time of the stage that the final score is from")
    artifact_bytes: int | None = measured("B", "code and compressed model")
    code_bytes: int | None = measured("B", "code as it ships: compressed where the log says so")
    model_params: int | None = measured("", "trained weights")
    world_size: int | None = measured("", "processes that trained together")
    gpu: str | None = measured("", "model of the GPUs")
    torch: str | None = measured("", "version of torch")
    final_stage: str | None = measured("", "the stage that the run claims")
    final_bpb: float | None = measured("bits/byte", "the score that the run claims")
    final_val_loss: float | None = measured("nats/token", "the loss of the same line")
    evidence: dict[str, Evidence] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    curves: Curves | None = None

    def to_dict(self) -> dict[str, typing.Any]:
        """For JSON: everything but the curves."""
        told = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "curves"}
        told["evidence"] = {name: asdict(one) for name, one in self.evidence.items()}
        return told


MEASURED = tuple(f.name for f in fields(ParsedRun) if f.metadata.get("measured"))
