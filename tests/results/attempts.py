"""Builds runs folders of the documented shape: a spec, its bundle, and sealed attempts with chosen numbers."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from golf_core.rundir import (
    ARTIFACT,
    BUNDLE,
    ENV,
    LOG,
    METRICS,
    PHASES,
    RESULT,
    RUN,
    SCORE_LEDGER,
    SCORES,
    SEAL,
    TRAIN_FILES,
    TRAIN_SEAL,
    VOID,
    content_id,
    write_json,
    write_seal,
)
from tests.results.ledgers import VERDICTS, ledger_of

LEDGER_KEYS = {"val_loss", "tokens", "bytes", "verdict"}
FINAL_FILES = (*TRAIN_FILES, TRAIN_SEAL, SCORES, SCORE_LEDGER, RESULT)
POLICY = {
    "name": "demo",
    "summary": "caps of the race",
    "artifact_bytes": 16_000_000,
    "train_seconds": 600.0,
    "evaluate_seconds": 600.0,
    "kill_after_seconds": 60.0,
    "seeds": 1,
    "gpu": None,
    "gpus": 0,
}
TARGET = {
    "device": "cpu",
    "gpu": None,
    "gpus": 0,
    "processes": 2,
    "threads": 1,
    "dtype": "fp32",
    "launcher": "torchrun",
}
CODE = "import os\nimport numpy as np\nimport torch\ntry:\n    import brotli\nexcept ImportError:\n    brotli = None\n"
TOKENS, TEXT_BYTES = 120_832, 345_000


def edges(stage: str, seconds: dict[str, float], begin: float = 0.0) -> list[dict[str, Any]]:
    """What the worker stamps of a stage that runs these phases one after the other."""
    found, at = [("stage", "begin", begin)], begin + 1.0
    for phase, length in seconds.items():
        found += [(phase, "begin", at), (phase, "end", at + length)]
        at += length
    found.append(("stage", "end", at + 1.0))
    return [{"stage": stage, "phase": phase, "edge": edge, "t": t} for phase, edge, t in found]


PHASES_TOLD = [
    *edges("train", {"setup": 2.0, "train": 60.5, "quantize": 1.0}),
    *edges("evaluate", {"load": 1.25, "roundtrip": 10.0, "sliding": 10.0, "ttt": 10.0}, 70.0),
]


def stage(bpb: float, seconds: float = 10.0, **more: Any) -> dict[str, Any]:
    """What scores.json says of a stage with this BPB."""
    loss = bpb * math.log(2) * TEXT_BYTES / TOKENS
    facts = {"val_loss": loss, "val_bpb": bpb, "tokens": TOKENS, "bytes": TEXT_BYTES, "seconds": seconds}
    return facts | {"verdict": "TRACK_A"} | more


@dataclass
class Runs:
    """A runs folder with one submission."""

    runs_dir: Path
    seeds: tuple[int, ...] = (1337, 42, 2025)
    policy: dict[str, Any] = field(default_factory=lambda: dict(POLICY))
    target: dict[str, Any] = field(default_factory=lambda: dict(TARGET))
    target_class: str = "cpu"
    recipe: str = "demo"
    overrides: tuple[str, ...] = ()
    code: str = CODE
    published: dict[str, Any] | None = None
    data_sha256: str = "d" * 64
    tokenizer_sha256: str = "e" * 64

    def __post_init__(self) -> None:
        data = {"path": "d", "sha256": self.data_sha256, "tokenizer_path": "t"}
        data["tokenizer_sha256"] = self.tokenizer_sha256
        self.bundle_sha256 = sha256(self.code.encode()).hexdigest()
        self.run_ids = {
            seed: content_id(
                {
                    "bundle_sha256": self.bundle_sha256,
                    "seed": seed,
                    "data_sha256": data["sha256"],
                    "tokenizer_sha256": data["tokenizer_sha256"],
                    "target": self.target,
                }
            )
            for seed in self.seeds
        }
        self.submission_id = content_id(list(self.run_ids.values()))
        self.spec = {
            "schema_version": 1,
            "submission_id": self.submission_id,
            "recipe": self.recipe,
            "overrides": list(self.overrides),
            "seeds": list(self.seeds),
            "runs": [{"seed": seed, "run_id": run_id} for seed, run_id in self.run_ids.items()],
            "target": self.target,
            "target_class": self.target_class,
            "policy": self.policy,
            "bundle_sha256": self.bundle_sha256,
            "code_bytes": len(self.code.encode()),
            "config": {"name": self.recipe, "model": {"layers": 4}},
            "data": data,
            "published": self.published,
            "registered_at": "2026-11-22T10:00:00.000Z",
        }
        self.folder = self.runs_dir / self.submission_id[:12]
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / "spec.json", self.spec)
        (self.folder / BUNDLE).write_text(self.code, encoding="utf-8")

    def attempt_folder(self, seed: int, number: int = 1) -> Path:
        return self.runs_dir / "attempts" / f"{self.run_ids[seed][:16]}-a{number}"

    def attempt(
        self,
        seed: int,
        number: int = 1,
        *,
        stages: dict[str, dict[str, Any]] | None = None,
        train_end: dict[str, Any] | None = None,
        scores: dict[str, Any] | None = None,
        result: dict[str, Any] | None = None,
        run: dict[str, Any] | None = None,
        artifact: bytes | None = None,
        events: Sequence[dict[str, Any]] = (),
        phases: Sequence[dict[str, Any]] = PHASES_TOLD,
        env: dict[str, Any] | None = None,
        log: str | None = None,
        seal: bool = True,
    ) -> Path:
        """One attempt, complete and sealed; each argument changes what its file says."""
        folder = self.attempt_folder(seed, number)
        folder.mkdir(parents=True)
        artifact = artifact if artifact is not None else f"weights of {seed}".encode() * 100
        if stages is None:
            bpb = 1.7 + seed / 1e5
            stages = {"roundtrip": stage(bpb), "sliding": stage(bpb - 0.05), "ttt": stage(bpb - 0.06, loop_seconds=9.0)}
        ledger = b"GOLFLDG1: of an older version"
        if all(set(one) >= LEDGER_KEYS and one["tokens"] > 0 and one["verdict"] in VERDICTS for one in stages.values()):
            ledger, stages = ledger_of(stages)
        write_json(folder / RUN, self.run_json(seed, number) | (run or {}))
        (folder / BUNDLE).write_text(self.code, encoding="utf-8")
        seen = {"schema_version": 1, "python": "3.11.7", "cpu": "Some Processor"}
        seen |= {"gpus": [{"name": self.target["gpu"]}] * self.target["gpus"]}
        seen |= {"packages": {"torch": "2.13.0+cpu", "numpy": "2.4.6", "brotli": "1.2.1"}}
        write_json(folder / ENV, seen | (env or {}))
        (folder / LOG).write_text(log or f"seed:{seed}\nstep:500/500\n", encoding="utf-8")
        train_ended = {"event": "train_end", **self.train_end(), **(train_end or {})}
        for name, lines in ((METRICS, [*(events or [{"event": "step", "step": 500}]), train_ended]), (PHASES, phases)):
            (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        (folder / ARTIFACT).write_bytes(artifact)
        write_seal(folder, TRAIN_SEAL, TRAIN_FILES, {"stage": "train"})
        found = {
            "schema_version": 1,
            "seed": seed,
            "final_stage": list(stages)[-1],
            "stages": stages,
            "model_bytes": len(artifact),
            "artifact_sha256": sha256(artifact).hexdigest(),
            "code_bytes": len(self.code.encode()),
            "parameters": 123_456,
        }
        write_json(folder / SCORES, found | (scores or {}))
        (folder / SCORE_LEDGER).write_bytes(ledger)
        ended = {"schema_version": 1, "outcome": "completed", "class": "completed", "exit_code": 0}
        times = {"train_seconds": 60.5, "evaluate_seconds": 31.25, "worker_seconds": 99.0}
        dates = {"started_at": "2026-11-22T10:00:01.000Z", "ended_at": "2026-11-22T10:01:40.000Z"}
        write_json(folder / RESULT, ended | times | dates | (result or {}))
        if seal:
            facts = {"run_id": self.run_ids[seed], "attempt_id": folder.name, "seed": seed}
            write_seal(folder, SEAL, FINAL_FILES, facts)
        return folder

    def failed(self, seed: int, number: int = 1, cls: str = "nan") -> Path:
        """An attempt that ended badly: a result, no seal."""
        folder = self.attempt_folder(seed, number)
        folder.mkdir(parents=True)
        write_json(folder / RUN, self.run_json(seed, number))
        write_json(folder / RESULT, {"schema_version": 1, "outcome": "failed", "class": cls, "stage": "train"})
        return folder

    def void(self, seed: int, number: int = 1) -> None:
        mark = {"schema_version": 1, "class": "rank_killed", "message": "rank 1 was killed", "at": "2026-11-22"}
        write_json(self.attempt_folder(seed, number) / VOID, mark)

    def all_attempts(self) -> "Runs":
        for seed in self.seeds:
            self.attempt(seed)
        return self

    def run_json(self, seed: int, number: int) -> dict[str, Any]:
        run_id = self.run_ids[seed]
        return {
            "schema_version": 1,
            "run_id": run_id,
            "attempt_id": f"{run_id[:16]}-a{number}",
            "attempt": number,
            "submission_id": self.submission_id,
            "seed": seed,
            "recipe": self.recipe,
            "bundle_sha256": self.bundle_sha256,
            "code_bytes": len(self.code.encode()),
            "target": self.target,
            "target_class": self.target_class,
            "limits": {"train_s": self.policy["train_seconds"], "evaluate_s": self.policy["evaluate_seconds"]},
            "policy_name": self.policy["name"],
        }

    def train_end(self) -> dict[str, Any]:
        return {
            "steps": 500,
            "train_seconds": 60.0,
            "step_avg_ms": 120.0,
            "stopped_by": "iterations",
            "parameters": 123_456,
            "pre_quant_loss": 3.5,
            "pre_quant_bpb": 1.69,
            "peak_memory_bytes": 10**9,
        }
