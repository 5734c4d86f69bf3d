"""Builds submission folders of our own writing, in the shapes of the race's: a true one, and its lying twins."""

import json
import math
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RATIO = 3.7266  # bytes a token
SETTINGS = {"matrix_lr": 0.02, "num_layers": 11, "train_seq_len": 2048, "vocab_size": 8192}
SMI = "|   {i}  NVIDIA H100 80GB HBM3          On  |   00000000:0{i}:00.0 Off |                    0 |\n"
CODE = b"print('a program of ours')\n" * 600


@dataclass
class Run:
    """One seed's run; `printed` is the seed that its log prints."""

    seed: int
    bpb: float
    sliding: float = 0.0
    model_bytes: int = 15_900_000
    code_bytes: int = len(CODE)
    steps: int = 5000
    train_ms: int = 588_040
    printed: int | None = None
    settings: dict[str, Any] = field(default_factory=lambda: dict(SETTINGS))
    ratio: float = RATIO
    digits: int = 8

    @property
    def loss(self) -> float:
        return round(self.bpb * math.log(2) * self.ratio, 8)

    @property
    def total(self) -> int:
        return self.model_bytes + self.code_bytes

    def log(self) -> str:
        """In the dialect of the later records: settings, steps, sizes, then each stage's exact line."""
        printed = self.seed if self.printed is None else self.printed
        sliding = self.sliding or round(self.bpb + 0.0017, 8)
        settings = {"seed": printed, "run_id": f"r{printed}", **self.settings, "world_size": 8}
        d = self.digits
        scores = [("quantized", sliding + 0.0167), ("quantized_sliding_window", sliding), ("legal_ttt_exact", self.bpb)]
        lines = ["=" * 80, "Hyperparameters:"]
        lines += [f"  {key}: {value}" for key, value in sorted(settings.items())]
        lines += ["=" * 80, "Running PyTorch 2.9.1+cu128", *(SMI.format(i=i).rstrip() for i in range(8)), "=" * 80]
        lines += ["model_params:35944536", "0/20000 val_loss: 9.0090 val_bpb: 3.4877"]
        lines += [f"{self.steps}/20000 val_loss: 2.8100 val_bpb: 1.0878"]
        lines += [f"stopping_early: wallclock_cap train_time: {self.train_ms}ms step: {self.steps}/20000"]
        lines += [f"pre-quantization post-ema val_loss:2.80800000 val_bpb:{sliding + 0.006:.8f} eval_time:7000ms"]
        lines += ["GPTQ:collecting Hessians from calibration data...", "GPTQ:collected 67 Hessians in 11.5s"]
        lines += [f"Serialized model quantized+brotli: {self.model_bytes} bytes", f"Code size: {self.code_bytes} bytes"]
        lines += [f"Total submission size quantized+brotli: {self.total} bytes"]
        for i, (label, bpb) in enumerate(scores):
            loss = bpb * math.log(2) * self.ratio
            lines.append(f"{label} val_loss:{loss:.{d}f} val_bpb:{bpb:.{d}f} eval_time:{(i + 1) * 80_000}ms")
        return "\n".join(lines) + "\n"


@dataclass
class Submission:
    """A folder whose claims are true, until a test changes them."""

    runs: tuple[Run, ...] = (Run(1337, 1.08012345), Run(42, 1.08098765), Run(2025, 1.08051234))
    changes: dict[str, Any] = field(default_factory=dict)  # of submission.json
    readme: str | None = None
    code: bytes = CODE

    @property
    def facts(self) -> dict[str, Any]:
        bpb, loss = [run.bpb for run in self.runs], [run.loss for run in self.runs]
        facts = {
            "author": "A. Golfer",
            "name": "Ours",
            "val_bpb": round(statistics.mean(bpb), 8),
            "val_loss": round(statistics.mean(loss), 8),
            "val_bpb_std": round(statistics.stdev(bpb), 8) if len(bpb) > 1 else None,
            "seeds": [run.seed for run in self.runs],
            "seed_results": {
                str(run.seed): {
                    "val_bpb": run.bpb,
                    "val_loss": run.loss,
                    "steps": run.steps,
                    "artifact_bytes": run.total,
                    "train_time_s": run.train_ms / 1000,
                }
                for run in self.runs
            },
            "bytes_total": max(run.total for run in self.runs),
            "bytes_code": self.runs[0].code_bytes,
        }
        return {key: value for key, value in (facts | self.changes).items() if value != "DELETE"}

    def readme_text(self) -> str:
        bpb = [run.bpb for run in self.runs]
        size = max(run.total for run in self.runs) / 1e6
        mean, spread = statistics.mean(bpb), f", std {statistics.stdev(bpb):.5f}" if len(bpb) > 1 else ""
        lines = ["# Ours", ""]
        lines += [f"**val_bpb: {mean:.5f}** ({len(bpb)}-seed mean{spread}) | **{size:.3f} MB** | 8xH100", ""]
        lines += ["| Seed | Steps | Post-TTT BPB | TTT gain | Artifact (bytes) |", "|---|---|---|---|---|"]
        for run in self.runs:
            sliding = run.sliding or round(run.bpb + 0.0017, 8)
            lines.append(f"| {run.seed} | {run.steps:,} | {run.bpb:.8f} | {run.bpb - sliding:+.8f} | {run.total:,} |")
        lines.append(f"| **Mean** | | **{mean:.8f}** | | |")
        return "\n".join(lines) + "\n"

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "submission.json").write_text(json.dumps(self.facts, indent=1))
        (folder / "README.md").write_text(self.readme_text() if self.readme is None else self.readme)
        (folder / "train_gpt.py").write_bytes(self.code)
        for run in self.runs:
            (folder / f"train_seed{run.seed}.log").write_text(run.log())
        return folder
