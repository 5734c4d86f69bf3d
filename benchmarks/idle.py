"""A bundle that keeps the contract and does nothing but sleep: what a run costs without training."""

from pathlib import Path

TEXT = '''"""idle: sleeps where a bundle would train and evaluate."""

import json, os, pathlib, sys, time

SECONDS = {"train": 0.0, "evaluate": 0.0}
stage, out = sys.argv[1], pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
phase = {"train": "train", "evaluate": "roundtrip"}[stage]
os.write(1, f"phase:begin {phase}\\n".encode())
time.sleep(SECONDS[stage])
os.write(1, f"phase:end {phase}\\n".encode())
if stage == "train":
    (out / "metrics.jsonl").touch()
    (out / "artifact.bin").write_bytes(b"idle")
else:
    scored = {"val_loss": 0.6931471805599453, "val_bpb": 1.0, "tokens": 1000, "bytes": 1000, "seconds": 1.0}
    scores = {"schema_version": 1, "seed": int(os.environ["SEED"]), "final_stage": "roundtrip", "parameters": 1}
    scores |= {"stages": {"roundtrip": scored}, "model_bytes": 4, "artifact_sha256": "", "code_bytes": 1}
    (out / "scores.json").write_text(json.dumps(scores))
    (out / "score_ledger.bin").write_bytes(b"")
'''


def idle_text(seconds: float, name: str = "idle") -> str:
    """Two thirds of the seconds pass in training. The name makes it a program of its own."""
    slept = {"train": 2 * seconds / 3, "evaluate": seconds / 3}
    return TEXT.replace('SECONDS = {"train": 0.0, "evaluate": 0.0}', f"SECONDS = {slept}") + f"# {name}\n"


def write_idle(path: Path, seconds: float) -> None:
    path.write_text(idle_text(seconds), encoding="utf-8")
