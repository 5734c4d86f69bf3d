"""A sealed attempt of a script: its numbers are what the parser reads in its log, its bytes those of the sealed files.

The parser's silence stays silence: a run whose log tells nothing is counted and has empty cells. A log that contradicts
what the worker knows is not evidence: another seed than the registered one is an error, as it is for a recipe; a
training time beyond the whole run's is left out, and said.
"""

import typing
from dataclasses import dataclass, field
from pathlib import Path

from golf_core.rundir import ARTIFACT, BUNDLE, ENV, LOG, PHASES, RESULT, RUN, RunDirError, read_json
from results.attempt import Evidence, check_asked
from results.facts import Facts
from results.parse.run import MEASURED, ParsedRun
from results.spec import Spec

SCRIPT_SEALED = (RUN, BUNDLE, ENV, LOG, PHASES, RESULT)  # read here, or told by the worker
SLACK_S = 1.0  # between two clocks, for what both have timed


@dataclass(frozen=True)
class ScriptEvidence(Evidence):
    parsed: ParsedRun
    code_bytes: int
    model_bytes: int | None  # None: the script left no artifact, or several that may be it
    artifact_sha256: str | None
    run_seconds: float  # the whole of it, by the worker's clock
    is_diagnostic: bool
    notes: tuple[str, ...] = field(default=())

    @property
    def diagnostic_only(self) -> bool:
        return self.is_diagnostic

    @property
    def other_seconds(self) -> float | None:
        """All that was not training, start and serialization too: the evaluation took no longer than this."""
        train = self.parsed.train_time_s
        return None if train is None else max(0.0, self.run_seconds - train)


def read_script_evidence(folder: Path, seal: Facts, spec: Spec, seed: int, run_id: str) -> ScriptEvidence:
    """Raises RunDirError where sealed files contradict each other, the submission, or the registered seed."""
    run, result = (Facts(read_json(folder / name), str(folder / name)) for name in (RUN, RESULT))
    check_asked(run, folder, spec, seed, run_id)
    files = seal.child("files")
    bundle = files.child(BUNDLE)
    bundle.expect("sha256", spec.bundle_sha256, f"{spec.folder.name}: the attempt ran another script")
    model_bytes, sha256 = _artifact(result, files)
    run_seconds = result.number("run_seconds")
    parsed, notes = _read_log(folder / LOG, seed, run_seconds)
    notes += [result.text("artifact_note")] if model_bytes is None else []
    code_bytes = bundle.integer("size")
    if model_bytes is not None and parsed.artifact_bytes not in (None, model_bytes + code_bytes):
        line = parsed.evidence["artifact_bytes"].line
        notes.append(
            f"its log ({LOG}:{line}) says {parsed.artifact_bytes:,} bytes; the sealed files, which count, have "
            f"{model_bytes + code_bytes:,} ({model_bytes:,} + {code_bytes:,} code)"
        )
    return ScriptEvidence(
        folder=folder,
        seal=seal,
        result=result,
        env=Facts(read_json(folder / ENV), str(folder / ENV)),
        parsed=parsed,
        code_bytes=code_bytes,
        model_bytes=model_bytes,
        artifact_sha256=sha256,
        run_seconds=run_seconds,
        is_diagnostic=spec.diagnostic_only is True,
        notes=tuple(f"seed {seed}: {note}" for note in notes),
    )


def _artifact(result: Facts, files: Facts) -> tuple[int | None, str | None]:
    """Size and hash of the artifact, which the seal and the result must both name, or neither."""
    if not result.has("artifact"):
        if files.has(ARTIFACT):
            raise RunDirError(f"{files.place}: names {ARTIFACT}, but {result.place} says that the script left none")
        return None, None
    told, sealed = result.child("artifact"), files.child(ARTIFACT)
    told.expect("bytes", sealed.integer("size"), "the sealed artifact")
    told.expect("sha256", sealed.text("sha256"), "the sealed artifact")
    return sealed.integer("size"), sealed.text("sha256")


def _read_log(path: Path, seed: int, run_seconds: float) -> tuple[ParsedRun, list[str]]:
    """The one run of the log, and what is to be said of it."""
    from results.parse.reader import parse_file

    runs = parse_file(path)
    if len(runs) != 1:
        why = f"its log holds {len(runs)} runs, and nothing tells which is this one; none of its numbers is taken"
        return ParsedRun(file=str(path), run=1, reasons=dict.fromkeys(MEASURED, why)), [why]
    (parsed,) = runs
    if parsed.seed not in (None, seed):
        told = parsed.evidence["seed"]
        raise RunDirError(
            f"{path}:{told.line}: the script printed seed {parsed.seed} ({told.text.strip()!r:.80}), but ran for seed "
            f"{seed}: it does not use SEED as it was given, so the registered seeds were not run. To retire this "
            f"submission move its folder out of the runs folder: nothing else refers to it"
        )
    notes = [] if parsed.final_bpb is not None else [f"no score is read from its log: {parsed.reasons['final_bpb']}"]
    if parsed.seed is None:
        notes.append("its log prints no seed; that it used the given one is not shown")
    notes += [f"its log: {warning}" for warning in parsed.warnings]
    train = parsed.train_time_s
    if train is not None and train > run_seconds + SLACK_S:
        why = f"{train:.1f} s of training by its log, but the whole run took {run_seconds:.1f} s by the worker's clock"
        for name in ("train_time_s", "step_avg_ms"):
            setattr(parsed, name, None)
            parsed.reasons[name] = why
        notes.append(why)
    return parsed, notes


def script_cells(evidence: ScriptEvidence) -> dict[str, typing.Any]:
    """The cells of a script's row that its log and its sealed files fill."""
    log, size = evidence.parsed, evidence.model_bytes
    plain = log.sliding_bpb if log.sliding_bpb is not None else log.roundtrip_bpb
    return {
        "parameters": log.model_params,
        "steps": log.steps,
        "step_avg_ms": log.step_avg_ms,
        "train_seconds": log.train_time_s,
        "train_seconds_trainer": log.train_time_s,
        "evaluate_seconds_bundle": log.eval_time_s,
        "evaluate_seconds_worker": evidence.other_seconds,
        "pre_quant_bpb": log.pre_quant_bpb,
        "roundtrip_bpb": log.roundtrip_bpb,
        "sliding_bpb": log.sliding_bpb,
        "ttt_bpb": log.post_ttt_bpb,
        "pre_ttt_bpb": plain if log.pre_ttt_bpb is None else log.pre_ttt_bpb,
        "post_ttt_bpb": log.post_ttt_bpb,
        "ttt_gain_bpb": log.ttt_gain,
        "ttt_time_s": log.ttt_time_s,
        "ttt_loop_s": log.ttt_loop_s,
        "final_stage": log.final_stage,
        "val_loss": log.final_val_loss,
        "val_bpb": log.final_bpb,
        "model_bytes": size,
        "code_bytes": evidence.code_bytes,
        "artifact_bytes": None if size is None else size + evidence.code_bytes,
        "log_artifact_bytes": log.artifact_bytes,
        "artifact_sha256": evidence.artifact_sha256,
    }
