"""Evaluators of a few lines, sealed as attempts over shards of a few bytes: the honest one, and those that cheat.

Each is a whole train_gpt.py: its score follows from artifact and validation shards, and from whatever else it gets
hold of. What the cheats reach for lies at places that tests write before.
"""

import functools
import math
import sys
from hashlib import sha256
from typing import Any

import pytest

from golf_core.rundir import content_id, file_sha256
from results.collect import collect
from results.recount.count import Source
from results.replay.sandbox import Limits, SandboxError, run_in_sandbox, work_folder
from tests.results.attempts import POLICY, TARGET, Runs, stage
from tests.results.recount.models import write_shard

HONEST = """
import argparse, hashlib, json, os
from pathlib import Path
parser = argparse.ArgumentParser()
for name in ("verb", "--artifact", "--out", "--dtype"):
    parser.add_argument(name)
a = parser.parse_args()
secret = b""
{reach}
data = sorted(Path(os.environ["DATA_PATH"]).glob("*_val_*.bin"))
seen = Path(a.artifact).read_bytes() + b"".join(one.read_bytes() for one in data) + secret
bpb = 1 + int(hashlib.sha256(seen).hexdigest()[:8], 16) / 2**32
{score}
size, tokens = 300, 100
stage = {{"val_loss": bpb * 0.6931471805599453 * size / tokens, "val_bpb": bpb, "tokens": tokens, "bytes": size}}
stage |= {{"seconds": 1.0, "verdict": "TRACK_A"}}
Path(a.out, "scores.json").write_text(json.dumps({{"stages": {{"sliding": stage}}}}))
"""


@functools.cache
def why_not(level: str) -> str:
    """Why this machine cannot have that sandbox; empty where it can."""
    with work_folder() as work:
        try:
            run_in_sandbox(work, lambda _: [sys.executable, "-c", ""], {}, Limits(30.0), [level])
        except SandboxError as error:
            return str(error)
    return ""


def need(*levels: str) -> None:
    """Leave the test out where a sandbox that it is about cannot be had: in some containers."""
    for level in levels:
        if why := why_not(level):
            pytest.skip(why)


def evaluator(reach: str = "", score: str = "") -> str:
    return HONEST.format(reach=reach, score=score)


def bpb_of(artifact: bytes, shard: bytes, secret: bytes = b"") -> float:
    return 1 + int(sha256(artifact + shard + secret).hexdigest()[:8], 16) / 2**32


def sealed(tmp_path: Any, code: str, secret: bytes = b"", off: float = 0.0) -> tuple[Any, Source]:
    """(what collect says of a submission with one sealed attempt of this code, where its data lies). `secret` is what
    the code got hold of when it was scored."""
    data = tmp_path / "data"
    if not (data / "tok.model").exists():
        data.mkdir(exist_ok=True)
        write_shard(data / "x_val_000000.bin", [1, 5, 6])
        write_shard(data / "x_train_000000.bin", [1, 7, 8])
        (data / "tok.model").write_bytes(b"model")
    hashes = {split: [file_sha256(data / f"x_{split}_000000.bin")] for split in ("train", "val")}
    identity, model = content_id(hashes), file_sha256(data / "tok.model")
    artifact = b"weights" * 50
    runs = Runs(
        tmp_path / "runs",
        (7,),
        policy=dict(POLICY),
        target=TARGET | {"processes": 1, "launcher": "python"},
        code=code,
        data_sha256=identity,
        tokenizer_sha256=model,
    )
    bpb = bpb_of(artifact, (data / "x_val_000000.bin").read_bytes(), secret) + off
    told = stage(bpb, val_loss=bpb * math.log(2) * 3, tokens=100, bytes=300)
    runs.attempt(7, stages={"sliding": told}, artifact=artifact)
    return collect(runs.folder), Source(data, data / "tok.model", data_sha256=identity, tokenizer_sha256=model)
