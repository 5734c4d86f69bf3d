"""Submissions with all that a report draws: losses, step times, gains by chunk, phases, an artifact of our format."""

import hashlib
import json
import math
import random
import struct
import zlib
from pathlib import Path
from typing import Any

from results.dataset import EMBEDDED_SHA256
from results.report.make import charts_of, drawings_of
from results.report.page import page
from results.report.subject import Subject, load_subjects
from tests.results.attempts import TEXT_BYTES, Runs, stage

PARTS = 30
FINEWEB_TOKENS, FINEWEB_BYTES = 62_021_632, 151_080_363


def artifact(seed: int = 1) -> bytes:
    """A small artifact.bin as golf_core/artifact/container.py describes it."""
    draw = random.Random(seed)
    table = [
        {"name": "tok_emb.weight", "route": "grid", "shape": [64, 32], "bits": 8},
        {"name": "blocks.0.attn.c_q.weight", "route": "grid", "shape": [32, 32], "bits": 4, "packed": True},
        {"name": "blocks.0.mlp.fc.weight", "route": "fp16", "shape": [32, 16], "bits": 0},
        {"name": "skip_weights", "route": "fp32", "shape": [1, 32], "bits": 0},
    ]
    head = json.dumps(table).encode()
    size = (2 * 64 + 64 * 32) + (2 * 32 + 32 * 16) + 2 * 32 * 16 + 4 * 32
    payload = struct.pack("<I", len(head)) + head + draw.randbytes(size)
    body = zlib.compress(payload, 9)
    codec = b"zlib".ljust(8, b"\0")
    digest = hashlib.blake2b(b"GOLFART1" + codec + struct.pack("<Q", len(payload)) + body, digest_size=16)
    return struct.pack("<8s8sQ16s", b"GOLFART1", codec, len(payload), digest.digest()) + body


def events(seed: int, steps: int = 600, log_every: int = 20, step_ms: float = 90.0) -> list[dict[str, Any]]:
    """What metrics.jsonl says of a run: a falling loss, times, validation on the way, both score streams by part."""
    draw = random.Random(seed)
    found: list[dict[str, Any]] = []
    elapsed = 0.0
    for step in range(log_every, steps + 1, log_every):
        elapsed += log_every * step_ms / 1000 * draw.uniform(0.95, 1.08)
        loss = 2.8 + 4.5 * math.exp(-8 * step / steps) + draw.gauss(0, 0.06)
        found.append({"event": "step", "step": step, "steps": steps, "loss": loss, "elapsed_s": elapsed})
        if step % (steps // 4 or 1) == 0:
            found.append({"event": "val", "step": step, "val_loss": loss, "val_bpb": loss / 2})
    text = [TEXT_BYTES // PARTS] * PARTS
    before = [count * 1.1 * draw.uniform(0.9, 1.1) for count in text]
    after = [one * draw.uniform(0.992, 1.001) for one in before]
    for name, nats in (("sliding", before), ("ttt", after)):
        found.append({"event": "score_parts", "stage": name, "part": 4096, "nats": nats, "bytes": text})
    return found


def phases(train: float = 60.0, ttt: float = 14.0) -> list[dict[str, Any]]:
    """What phases.jsonl says: each phase begins where the one before it ended."""
    told: list[dict[str, Any]] = []
    at = 0.0
    for where, parts in (
        ("train", (("setup", 3.0), ("train", train), ("average", 0.1), ("compress", 2.0))),
        ("evaluate", (("load", 1.0), ("roundtrip", 2.0), ("sliding", 4.0), ("ttt", ttt))),
    ):
        told.append({"stage": where, "phase": "stage", "edge": "begin", "t": at})
        for name, seconds in parts:
            told.append({"stage": where, "phase": name, "edge": "begin", "t": at})
            at += seconds
            told.append({"stage": where, "phase": name, "edge": "end", "t": at})
        at += 1.5
        told.append({"stage": where, "phase": "stage", "edge": "end", "t": at})
    return told


def fineweb_stage(bpb: float, **more: Any) -> dict[str, Any]:
    loss = bpb * math.log(2) * FINEWEB_BYTES / FINEWEB_TOKENS
    return stage(bpb, **more) | {"val_loss": loss, "tokens": FINEWEB_TOKENS, "bytes": FINEWEB_BYTES}


def stages(bpb: float, fineweb: bool = False) -> dict[str, dict[str, Any]]:
    make = fineweb_stage if fineweb else stage
    return {
        "roundtrip": make(bpb + 0.012),
        "sliding": make(bpb + 0.002),
        "ttt": make(bpb, loop_seconds=13.0, verdict="SCORE_FIRST_OK"),
    }


def submission(
    folder: Path,
    *,
    bpb: float = 1.6,
    fineweb: bool = False,
    steps: int = 600,
    log_every: int = 20,
    data_sha256: str = EMBEDDED_SHA256,
    **asked: Any,
) -> Runs:
    """A finished submission; its seeds differ a little."""
    runs = Runs(folder, data_sha256="f" * 64 if fineweb else data_sha256, **asked)
    for seed in runs.seeds:
        score = bpb + random.Random(seed).gauss(0, 0.003)
        runs.attempt(
            seed,
            stages=stages(score, fineweb),
            artifact=artifact(seed),
            events=events(seed, steps, log_every),
            phases=phases(),
            train_end={"steps": steps, "step_avg_ms": 90 + seed % 7, "pre_quant_bpb": score + 0.011},
        )
    return runs


def variants(folder: Path, count: int, **more: Any) -> list[Runs]:
    """A base and its variants: other code, other overrides, other scores."""
    found = []
    for index in range(count):
        overrides = (
            () if index == 0 else (f"model.layers={index + 2}", *(["optim.matrix_lr=0.03"] if index % 3 else []))
        )
        code = f"import torch\nVARIANT = {index}\n"
        found.append(submission(folder, bpb=1.6 + 0.004 * math.sin(index), overrides=overrides, code=code, **more))
    return found


def subjects_of(*runs: Runs) -> list[Subject]:
    return load_subjects([one.folder for one in runs])


def page_of(*runs: Runs) -> str:
    return page_of_subjects(subjects_of(*runs))


def page_of_subjects(subjects: list[Subject]) -> str:
    charts = charts_of(subjects)
    return page(subjects, charts, drawings_of(charts))
