"""A stand-in for train_gpt.py: keeps the bundle's contract without torch, and misbehaves where it is told to.

Reads no environment but what a bundle reads. `BEHAVIOUR` below is rewritten by the tests (tests/orchestrator/toy.py):
it maps a place (a stage, or a stage and a step) to what happens there. The numbers follow from SEED alone.
"""

import hashlib
import json
import math
import os
import pathlib
import sys
import time

BEHAVIOUR = {}
STEPS, PAUSE = 5, 0.0  # seconds a step, and an evaluation stage

seed = int(os.environ["SEED"]) if "SEED" in os.environ else 0
rank = int(os.environ.get("RANK", "0"))
world = int(os.environ.get("WORLD_SIZE", "1"))


def option(name, default=None):
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else default


def say(line):
    if rank == 0:
        os.write(1, line.encode() + b"\n")


def metric(folder, **event):
    if rank == 0:
        with open(folder / "metrics.jsonl", "a") as file:
            file.write(json.dumps(event) + "\n")


def write(path, data):
    if rank == 0:
        path.with_suffix(".tmp").write_bytes(data)
        os.replace(path.with_suffix(".tmp"), path)


def behave(place, folder):
    """Once: misbehave here the first time only, in this attempt's runs folder."""
    what = BEHAVIOUR.get(place)
    if what is None:
        return
    what, _, once = what.partition(":")
    if once:
        marker = pathlib.Path(once) / f"{place}-{seed}-{rank}"
        if marker.exists():
            return
        marker.write_text(str(os.getpid()))
    if what == "hang":
        say(f"hanging in {place}")
        while True:
            time.sleep(0.05)
    if what == "chatter":
        while True:
            say("still here")
            time.sleep(0.02)
    if what.startswith("wait "):  # until the file that is named, or that name with the seed, is there
        go = pathlib.Path(what.removeprefix("wait "))
        while not go.exists() and not go.with_name(f"{go.name}-{seed}").exists():
            say(f"waiting in {place}")
            time.sleep(0.2)
    if what == "measure":  # for three seconds, and says nothing
        for done in range(60):
            metric(folder, event="eval", stage=place, done=done, total=60, bpb=1.0)
            time.sleep(0.05)
    if what == "crash":
        raise ValueError(f"the toy crashed in {place}")
    if what == "nan":
        say("fatal:nan loss is nan at step 3")
        sys.exit(1)
    if what == "kill" and rank == world - 1:
        os.kill(os.getpid(), 9)
    if what == "environ":
        say("\n".join(f"{name}={value}" for name, value in os.environ.items()))


def number(what):
    return int(hashlib.sha256(f"{seed} {what}".encode()).hexdigest()[:8], 16) / 2**32


def train(folder):
    say("phase:begin setup")
    shards = sorted(pathlib.Path(os.environ["DATA_PATH"]).glob("*_train_*.bin"))
    if not shards:
        say("fatal:data no training shards")
        sys.exit(1)
    behave("setup", folder)
    metric(folder, event="start", stage="train", parameters=1234, world=world, dtype=option("--dtype"), seed=seed)
    say("phase:end setup")
    say("phase:begin train")
    for step in range(1, STEPS + 1):
        behave(f"train{step}", folder)
        time.sleep(PAUSE)
        fields = {"loss": 3 - number(step), "tokens_per_s": 1000.0, "elapsed_s": step * 0.01, "progress": step / STEPS}
        metric(folder, event="step", step=step, steps=STEPS, lr_scale=1.0, **fields)
        say(f"step {step}/{STEPS} loss {3 - number(step):.4f}")
    say("phase:end train")
    loss = 3 - number("loss")
    bpb = loss / math.log(2) * 1000 / 3000
    metric(
        folder, event="train_end", steps=STEPS, train_seconds=0.05, step_avg_ms=10.0, stopped_by="iterations",
        parameters=1234, pre_quant_loss=loss, pre_quant_bpb=bpb, peak_memory_bytes=1 << 20,
    )  # fmt: skip
    say("phase:begin compress")
    behave("compress", folder)
    weights = hashlib.sha256(str(seed).encode()).digest() * 32
    write(folder / "artifact.bin", weights)
    code = len(pathlib.Path(__file__).read_bytes())
    metric(
        folder, event="artifact", model_bytes=len(weights), code_bytes=code, total_bytes=len(weights) + code,
        sha256=hashlib.sha256(weights).hexdigest(), codec="none",
    )  # fmt: skip
    say("phase:end compress")


def evaluate(folder):
    say("phase:begin load")
    artifact = pathlib.Path(option("--artifact")).read_bytes()
    if sorted(pathlib.Path(os.environ["DATA_PATH"]).glob("*_train_*.bin")):
        say("fatal:data training data in reach of evaluation")
        sys.exit(1)
    say("phase:end load")
    stages = {}
    for stage in ("roundtrip", "sliding", "ttt"):
        say(f"phase:begin {stage}")
        behave(stage, folder)
        loss = 3 - number("eval" + stage)
        bpb = loss / math.log(2) * 1000 / 3000
        metric(folder, event="eval", stage=stage, done=1, total=2, bpb=bpb)
        time.sleep(PAUSE)
        stages[stage] = {"val_loss": loss, "val_bpb": bpb, "tokens": 1000, "bytes": 3000, "seconds": 0.01}
        stages[stage]["verdict"] = "SCORE_FIRST_OK" if stage == "ttt" else "TRACK_A"
        extra = {"loop_seconds": 0.01} if stage == "ttt" else {}
        stages[stage] |= extra
        metric(folder, event="score", stage=stage, **stages[stage], **({"chunks": 3} if extra else {}))
        say(f"phase:end {stage}")
    scores = {
        "schema_version": 1, "seed": seed, "final_stage": "ttt", "stages": stages, "model_bytes": len(artifact),
        "artifact_sha256": hashlib.sha256(artifact).hexdigest(), "parameters": 1234,
        "code_bytes": len(pathlib.Path(__file__).read_bytes()),
    }  # fmt: skip
    if "diagnostic" in BEHAVIOUR:
        scores |= {"diagnostic_only": True, "final_stage": None}
    write(folder / "score_ledger.bin", json.dumps(stages).encode())
    write(folder / "scores.json", json.dumps(scores).encode())


if __name__ == "__main__":
    if "describe" in sys.argv:
        print(json.dumps({"parameters": 1234, "model_bytes_estimate": 1024}))
    else:
        out = pathlib.Path(option("--out", "."))
        {"train": train, "evaluate": evaluate}[sys.argv[1]](out)
