"""From sealed, counted attempts to rows: one for every registered seed."""

import math
import typing
from dataclasses import dataclass
from pathlib import Path

from golf_core.rundir import HARDWARE, HARDWARE_AGAIN, PHASES, read_json
from results.attempt import Evidence
from results.claims import claim_gates
from results.content import FRESH, Fresh
from results.evidence import STAGES, RecipeEvidence, standing_of
from results.facts import Facts
from results.gates import Gate, check_gates
from results.other_seeds import OtherSeed, line_of, other_seeds
from results.phases import COUNTED, edges_of, is_uninterrupted, seconds_of
from results.rows import Row
from results.script_evidence import ScriptEvidence, script_cells
from results.spec import Spec, load_spec

CUT_OFF = [f"evaluate-{number}.void.log" for number in range(1, 100)]  # what an evaluation that was repeated had said
CHECKED = ("pass", "simulated", "unknown", "fail")  # how the worker's look at its GPUs ends, the worst last


@dataclass(frozen=True)
class Collected:
    spec: Spec
    rows: list[Row]
    evidence: dict[int, Evidence]  # by seed, counted only
    gates: list[Gate]
    notes: list[str]
    others: list[OtherSeed]  # seeds of the same configuration that are not part of it

    @property
    def finished(self) -> bool:
        return all(row.counted for row in self.rows)

    @property
    def diagnostic_only(self) -> bool:
        """Nothing of it may be submitted."""
        return any(row.diagnostic_only for row in self.rows)

    @property
    def failed(self) -> bool:
        return any(row.status.startswith("failed") for row in self.rows)


def collect(folder: Path, content: Fresh = FRESH) -> Collected:
    """A row for every registered seed, in order, whether it has a counted attempt or not. Raises RunDirError."""
    spec = load_spec(folder, content)
    rows: list[Row] = []
    evidence: dict[int, Evidence] = {}
    notes: list[str] = []
    for seed, run_id in spec.runs:
        standing = standing_of(spec, seed, run_id, content)
        notes += standing.notes
        if standing.evidence is not None:
            evidence[seed] = standing.evidence
        rows.append(_row(spec, seed, run_id, standing.status, standing.attempts, standing.evidence))
    gates = check_gates(rows, spec.policy, spec.target_class, claim_gates(rows, spec.policy))
    others = other_seeds(spec, content)
    return Collected(spec, rows, evidence, gates, notes + [line_of(others)] * bool(others), others)


def _row(spec: Spec, seed: int, run_id: str, status: str, attempts: int, evidence: Evidence | None) -> Row:
    diagnostic = bool(spec.diagnostic_only) if evidence is None else evidence.diagnostic_only
    asked: dict[str, typing.Any] = {
        "submission_id": spec.submission_id,
        "recipe": spec.recipe,
        "overrides": " ".join(spec.overrides),
        **(spec.grid or {}),
        "source": spec.kind,
        "script_env": None if spec.script is None else spec.script.words,
        "seed": seed,
        "status": status,
        "diagnostic_only": diagnostic,
        "run_id": run_id,
        "attempts": attempts,
        "target_class": spec.target_class,
        "policy": spec.policy_name,
        "bundle_sha256": spec.bundle_sha256,
        "data_sha256": spec.data_sha256,
        "tokenizer_sha256": spec.tokenizer_sha256,
        **{key: spec.target.get(key) for key in ("device", "gpu", "gpus", "processes", "threads", "dtype")},
    }
    return Row(**asked, **({} if evidence is None else _machine(evidence) | _cells(evidence)))


def _cells(evidence: Evidence) -> dict[str, typing.Any]:
    if isinstance(evidence, ScriptEvidence):
        return script_cells(evidence)
    assert isinstance(evidence, RecipeEvidence)
    return {**_training(evidence), **_scoring(evidence)}


def _machine(evidence: Evidence) -> dict[str, typing.Any]:
    """What the worker says, whatever ran."""
    result, env = evidence.result, evidence.env
    packages = env.child("packages") if env.has("packages") else None
    return {
        "attempt_id": evidence.attempt_id,
        "worker_seconds": result.maybe_number("worker_seconds"),
        "hardware": ", ".join(_gpus(evidence)) or evidence.env.maybe_text("cpu"),
        "gpus_seen": len(_gpus_told(evidence)),
        "hardware_check": _hardware_check(evidence),
        **_stamped(evidence),
        "torch": packages.maybe_text("torch") if packages else None,
        "started_at": result.maybe_text("started_at"),
        "ended_at": result.maybe_text("ended_at"),
    }


def _hardware_check(evidence: Evidence) -> str | None:
    """The worst verdict of the worker on its GPUs, before training and where evaluation alone ran later."""
    files = evidence.seal.child("files")
    told = [evidence.folder / name for name in (HARDWARE, HARDWARE_AGAIN) if files.has(name)]
    found = [Facts(read_json(path), str(path)).text("verdict") for path in told]
    return max(found, key=lambda one: CHECKED.index(one) if one in CHECKED else len(CHECKED), default=None)


def _training(evidence: RecipeEvidence) -> dict[str, typing.Any]:
    end, result = evidence.train_end, evidence.result
    trainer, worker = end.maybe_number("train_seconds"), result.maybe_number("train_seconds")
    return {
        "parameters": end.maybe_integer("parameters"),
        "steps": end.maybe_integer("steps"),
        "stopped_by": end.maybe_text("stopped_by"),
        "step_avg_ms": end.maybe_number("step_avg_ms"),
        "train_seconds": larger(trainer, worker),
        "train_seconds_trainer": trainer,
        "train_seconds_worker": worker,
        "pre_quant_loss": end.maybe_number("pre_quant_loss"),
        "pre_quant_bpb": end.maybe_number("pre_quant_bpb"),
        "peak_memory_bytes": end.maybe_integer("peak_memory_bytes"),
    }


def _scoring(evidence: RecipeEvidence) -> dict[str, typing.Any]:
    scores, diagnostic = evidence.scores, evidence.diagnostic_only
    found: dict[str, float | None] = {}
    seconds: list[float | None] = []
    for name in STAGES:
        if (stage := evidence.stage(name)) is not None:
            found[f"{name}_loss"], found[f"{name}_bpb"] = stage.number("val_loss"), stage.number("val_bpb")
            found[f"{name}_time_s"] = stage.maybe_number("seconds")
            seconds.append(found[f"{name}_time_s"])
    pre, post = found.get("sliding_bpb", found.get("roundtrip_bpb")), found.get("ttt_bpb")
    own = None if None in seconds else math.fsum(value for value in seconds if value is not None)
    worker = evidence.result.maybe_number("evaluate_seconds")
    ttt = evidence.stage("ttt")
    last = [name for name in STAGES if evidence.stage(name) is not None][-1]
    final = scores.child("stages").child(last if diagnostic else scores.text("final_stage"))
    return {
        **found,
        "pre_ttt_bpb": pre,
        "post_ttt_bpb": post,
        "ttt_gain_bpb": None if pre is None or post is None else post - pre,
        "ttt_loop_s": ttt.maybe_number("loop_seconds") if ttt else None,
        "final_stage": None if diagnostic else scores.text("final_stage"),
        "legality": evidence.verdict,
        "ledger": evidence.ledger,
        "val_loss": None if diagnostic else final.number("val_loss"),
        "val_bpb": None if diagnostic else final.number("val_bpb"),
        "val_tokens": final.integer("tokens"),
        "val_bytes": final.integer("bytes"),
        "evaluate_seconds": larger(own, worker),
        "evaluate_seconds_bundle": own,
        "evaluate_seconds_worker": worker,
        "model_bytes": scores.integer("model_bytes"),
        "code_bytes": scores.integer("code_bytes"),
        "artifact_bytes": scores.integer("model_bytes") + scores.integer("code_bytes"),
        "artifact_sha256": scores.text("artifact_sha256"),
    }


def larger(a: float | None, b: float | None) -> float | None:
    """The larger of two clocks, or the one that is known."""
    known = [value for value in (a, b) if value is not None]
    return max(known, default=None)


def _gpus_told(evidence: Evidence) -> list[str]:
    """The names of the GPUs that the worker saw."""
    gpus = evidence.env.values.get("gpus")
    place = f"{evidence.env.place}: gpus"
    listed = gpus if isinstance(gpus, list) else []
    return [Facts(gpu if isinstance(gpu, dict) else {}, place).text("name") for gpu in listed]


def _gpus(evidence: Evidence) -> list[str]:
    names = _gpus_told(evidence)
    return [f"{len(names)}x {names[0]}"] if len(set(names)) == 1 else names


def _stamped(evidence: Evidence) -> dict[str, typing.Any]:
    """What the worker's own stamps tell; nothing where they are not under the seal."""
    if not evidence.seal.child("files").has(PHASES):
        return {}
    edges = edges_of(evidence.folder)
    phases, script = seconds_of(edges), isinstance(evidence, ScriptEvidence)
    train, scored = phases.get("train", {}), phases.get("evaluate", {})
    stages = [seconds for name, seconds in scored.items() if name in STAGES]
    if isinstance(evidence, RecipeEvidence):
        own = [evidence.stage(name) for name in STAGES]
        stages += [told for one in own if one is not None and (told := one.maybe_number("seconds")) is not None]
    used = [train[name] for name in COUNTED["train"] if name in train]
    return {
        "training_data_seconds": math.fsum(used) if "train" in train else None,
        "evaluate_longest_seconds": max(stages, default=None),
        "uninterrupted": is_uninterrupted(edges, ("run",) if script else COUNTED),
        "evaluations": None if script else 1 + sum(evidence.seal.child("files").has(name) for name in CUT_OFF),
    }
