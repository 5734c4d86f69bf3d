"""One row a run: the columns of results.csv and scores.csv, with unit and meaning. docs/results.md shows them."""

import typing
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields

CHECKED = "checked"  # of a score ledger


def column(
    unit: str, meaning: str, *, score: bool = False, required: bool = False, default: typing.Any = None
) -> typing.Any:
    """A column; `score` puts it into scores.csv too, which holds nothing that differs between two equal runs."""
    metadata = {"unit": unit, "meaning": meaning, "score": score}
    return field(metadata=metadata) if required else field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A run of a submission. What is not known is None: an empty cell, never a zero."""

    submission_id: str = column("", "hash of the ordered run ids", required=True)
    recipe: str = column("", "name of the recipe, or of a script's file", required=True)
    overrides: str = column("", "what --set changed, in order, with spaces between", required=True)
    grid: str | None = column("", "name of the grid that the recipe was first submitted as a variant of")
    grid_base: str | None = column("", "recipe of the grid's first variant, which the others are held against")
    grid_position: int | None = column("", "place of the variant in its grid, from 1")
    source: str = column(
        "", "recipe, or script: somebody's own train_gpt.py, whose numbers are read from its log", default="recipe"
    )
    script_env: str | None = column("", "environment of a script as registered, K=V with spaces between")
    seed: int = column("", "as registered, in the order of the submission", score=True, required=True)
    status: str = column("", "counted; failed (class), void, damaged, unfinished or missing", score=True, required=True)
    diagnostic_only: bool = column(
        "", "True: the run may learn before it scores; none of its scores is a score", score=True, required=True
    )
    run_id: str = column(
        "", "hash of bundle, or of script and environment, and of seed, data, tokenizer and target", required=True
    )
    attempt_id: str | None = column("", "the counted attempt: a folder under runs/attempts")
    attempts: int = column("", "attempts of this run, counted or not", required=True)
    target_class: str = column("", "cpu, simulated, exploratory or record", required=True)
    device: str = column("", "cpu or cuda", required=True)
    gpu: str | None = column("", "model of the GPUs")
    gpus: int | None = column("", "number of GPUs")
    processes: int | None = column("", "processes that trained together")
    threads: int | None = column("", "threads of each process")
    dtype: str | None = column("", "of activations and matrix products")
    policy: str = column("", "whose caps the gates take", required=True)
    parameters: int | None = column("", "trained weights, counted from the built model")
    steps: int | None = column("", "optimizer steps", score=True)
    stopped_by: str | None = column("", "iterations or wallclock")
    step_avg_ms: float | None = column("ms", "training time over steps, trainer's clock")
    train_seconds: float | None = column("s", "the larger of the next two; what the gate takes")
    train_seconds_trainer: float | None = column(
        "s", "training by the trainer's own clock; of a script as its log tells it"
    )
    train_seconds_worker: float | None = column("s", "training as the worker stamped it")
    training_data_seconds: float | None = column(
        "s", "training and calibration on training data, phase by phase, as the worker stamped them"
    )
    evaluate_seconds: float | None = column(
        "s", "the larger of the next two; what the gate takes; of a script not known, but between the next two"
    )
    evaluate_seconds_bundle: float | None = column(
        "s", "all evaluation stages by their own clocks; of a script the final one, by its log"
    )
    evaluate_seconds_worker: float | None = column(
        "s", "evaluation phases as the worker stamped them; of a script all that was not training"
    )
    evaluate_longest_seconds: float | None = column(
        "s", "the longest evaluation stage, by the larger of its own clock and the worker's stamps"
    )
    uninterrupted: bool | None = column(
        "", "True: by the worker's stamps training and evaluation each ran once, from begin to end"
    )
    evaluations: int | None = column(
        "", "how often evaluation began: more than once, it was cut off, and repeated from the sealed artifact"
    )
    worker_seconds: float | None = column("s", "the whole attempt, start-up and serialisation too")
    pre_quant_loss: float | None = column("nats/token", "averaged weights before quantization", score=True)
    pre_quant_bpb: float | None = column("bits/byte", "the same", score=True)
    roundtrip_loss: float | None = column("nats/token", "plain evaluation of the reloaded artifact", score=True)
    roundtrip_bpb: float | None = column("bits/byte", "the same", score=True)
    sliding_loss: float | None = column("nats/token", "sliding windows over the reloaded artifact", score=True)
    sliding_bpb: float | None = column("bits/byte", "the same", score=True)
    ttt_loss: float | None = column(
        "nats/token", "test-time training, each chunk scored before it is learned", score=True
    )
    ttt_bpb: float | None = column("bits/byte", "the same", score=True)
    pre_ttt_bpb: float | None = column("bits/byte", "sliding if there, else roundtrip", score=True)
    post_ttt_bpb: float | None = column("bits/byte", "ttt", score=True)
    ttt_gain_bpb: float | None = column("bits/byte", "post - pre: negative is better", score=True)
    final_stage: str | None = column("", "the stage that is claimed; empty where diagnostic_only", score=True)
    legality: str | None = column(
        "", "TRACK_A, SCORE_FIRST_OK or ILLEGAL_TRAIN_BEFORE_SCORE: the worst verdict of the stages", score=True
    )
    ledger: str | None = column(
        "", "checked: the score ledger's events show that verdict; otherwise why they show nothing"
    )
    val_loss: float | None = column("nats/token", "of the final stage", score=True)
    val_bpb: float | None = column("bits/byte", "of the final stage, per byte of the normalised text", score=True)
    val_tokens: int | None = column(
        "", "targets scored in the final stage; where diagnostic_only, in the last", score=True
    )
    val_bytes: int | None = column("B", "bytes of normalised text that these targets stand for", score=True)
    roundtrip_time_s: float | None = column("s", "evaluation time of the stage")
    sliding_time_s: float | None = column("s", "evaluation time of the stage")
    ttt_time_s: float | None = column("s", "evaluation time of the stage")
    ttt_loop_s: float | None = column("s", "the adaptation loop's own clock; the table's TTT Time where known")
    model_bytes: int | None = column("B", "artifact.bin", score=True)
    code_bytes: int | None = column("B", "train_gpt.py", score=True)
    artifact_bytes: int | None = column("B", "code and model: what the cap is about", score=True)
    log_artifact_bytes: int | None = column("B", "of a script: what its log says of code and model; no gate takes it")
    artifact_sha256: str | None = column("", "of artifact.bin", score=True)
    peak_memory_bytes: int | None = column("B", "of training, as the trainer reports it")
    bundle_sha256: str = column("", "of train_gpt.py", required=True)
    data_sha256: str = column("", "of the shards' content", required=True)
    tokenizer_sha256: str = column("", "of the tokenizer file", required=True)
    hardware: str | None = column("", "GPU or processor as the worker saw it")
    gpus_seen: int | None = column("", "GPUs that the worker saw; 0: it told of none")
    hardware_check: str | None = column(
        "", "pass, unknown, fail or simulated, as the worker found its GPUs; empty: there is no hardware.json"
    )
    torch: str | None = column("", "version of torch")
    started_at: str | None = column("", "UTC")
    ended_at: str | None = column("", "UTC")

    @property
    def counted(self) -> bool:
        return self.status == "counted"

    @property
    def ttt_shown_s(self) -> float | None:
        """TTT Time of the table: the loop's clock where it is known."""
        return self.ttt_time_s if self.ttt_loop_s is None else self.ttt_loop_s


COLUMNS = tuple(f.name for f in fields(Row))
SCORE_COLUMNS = tuple(f.name for f in fields(Row) if f.metadata["score"])


def columns_markdown() -> str:
    """The table of docs/results.md."""
    lines = ["| column | unit | in scores.csv | meaning |", "| --- | --- | --- | --- |"]
    for f in fields(Row):
        scored = "yes" if f.metadata["score"] else ""
        lines.append(f"| `{f.name}` | {f.metadata['unit']} | {scored} | {f.metadata['meaning']} |")
    return "\n".join(lines) + "\n"


def as_objects(rows: Iterable[Row]) -> list[dict[str, typing.Any]]:
    """The rows for JSON, every column, null for the unknown."""
    return [asdict(row) for row in rows]
