"""A whole training program of the challenge's kind in a few lines: no package of ours, everything by environment.

Counts tokens instead of descending a gradient; the rest is what such programs do: it reads shards, scores before and
after quantization, leaves a checkpoint and compressed weights beside itself, and prints its numbers in one of the
dialects of the challenge's logs. Tests rewrite the first two constants (tests/orchestrator/monoliths.py).
"""

import array
import math
import os
import pathlib
import random
import sys
import time
import zlib

DIALECT = "old"  # old, new, pairs (k=v), stamped (a unix time before every line)
BEHAVIOUR = {}  # place -> what happens there

seed = int(os.environ.get("SEED", "1337"))
iterations = int(os.environ.get("ITERATIONS", "20"))
max_wallclock_seconds = float(os.environ.get("MAX_WALLCLOCK_SECONDS", "600"))
step_seconds = float(os.environ.get("STEP_SECONDS", "0"))
run_id = os.environ.get("RUN_ID", "run")
data = pathlib.Path(os.environ.get("DATA_PATH", "./data/datasets/fineweb10B_sp1024"))
tokenizer = os.environ.get("TOKENIZER_PATH", "./data/tokenizers/fineweb_1024_bpe.model")
rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
VOCAB, BYTES_PER_TOKEN = 1024, 2.4423


def log0(text):
    if rank == 0:
        stamp = f"{time.time():.3f} " if DIALECT == "stamped" else ""
        for line in text.splitlines():
            print(stamp + line, flush=True)
        with open(f"logs/{run_id}.txt", "a") as file:
            file.write(text + "\n")


def behave(place):
    what = BEHAVIOUR.get(place, "")
    if what == "crash":
        raise ValueError(f"the monolith crashed in {place}")
    if what == "hang":
        time.sleep(600)
    if what == "chatter":
        while True:
            log0("still here")
            time.sleep(0.02)
    if what == "environ":
        log0("\n".join(f"environ {name}={value}" for name, value in sorted(os.environ.items())))


def tokens_of(split):
    (path,) = sorted(data.glob(f"*_{split}_*.bin"))[:1]
    tokens = array.array("H")
    with path.open("rb") as file:
        file.seek(1024)
        tokens.frombytes(file.read(2 * 40_000))
    return tokens


def score(counts):
    """Loss in nats a token, and bits a byte, of the counts as a model."""
    total = math.log(sum(counts))
    loss = sum(total - math.log(counts[token]) for token in val) / len(val)
    return loss, loss / math.log(2) / BYTES_PER_TOKEN


def bpb(loss_and_bpb, digits=4):
    gap = " " if DIALECT in ("new", "stamped") else ""
    pair = "=" if DIALECT == "pairs" else ":"
    loss, bits = loss_and_bpb
    return f"val_loss{pair}{gap}{loss:.{digits}f} val_bpb{pair}{gap}{bits:.{digits}f}"


if rank:  # the others of a real program share its work; here they wait for rank 0
    if BEHAVIOUR.get("rank") == "kill":
        os.kill(os.getpid(), 9)
    while not pathlib.Path("final_model.pt").exists():
        time.sleep(0.02)
    sys.exit()

os.makedirs("logs", exist_ok=True)
log0("this line stands before everything else")
behave("start")
code = pathlib.Path(__file__).read_text(encoding="utf-8")
train, val = tokens_of("train"), tokens_of("val")
if DIALECT in ("new", "stamped"):
    log0(f"Hyperparameters:\n  iterations: {iterations}\n  run_id: {run_id}\n  seed: {seed}\n  world_size: {world}")
    log0(f"model_params:{VOCAB}")
elif DIALECT == "pairs":
    log0(f"seed={seed} iterations={iterations} world_size={world} model_params={VOCAB}")
else:
    log0(f"model_params:{VOCAB}\nworld_size:{world} grad_accum_steps:{8 // world}\nseed:{seed}")
counts, rng, began = [1] * VOCAB, random.Random(seed), time.perf_counter()
for step in range(1, iterations + 1):
    behave(f"step{step}")
    batch = [train[rng.randrange(len(train))] for _ in range(500)]
    for token in batch:
        counts[token] += 1
    time.sleep(step_seconds)
    total = math.log(sum(counts))
    loss = sum(total - math.log(counts[token]) for token in batch) / len(batch)
    ms = 1000 * (time.perf_counter() - began)
    stop = ms >= 1000 * max_wallclock_seconds
    if step % 5 == 0 or stop:
        if DIALECT in ("new", "stamped"):
            log0(f"{step}/{iterations} train_loss: {loss:.4f} train_time: {ms / 6e4:.1f}m tok/s: 1000000")
        elif DIALECT == "pairs":
            log0(f"step={step} train_loss={loss:.4f} train_time={ms:.0f}ms step_avg={ms / step:.2f}ms")
        else:
            log0(f"step:{step}/{iterations} train_loss:{loss:.4f} train_time:{ms:.0f}ms step_avg:{ms / step:.2f}ms")
    if stop:
        break
ms = 1000 * (time.perf_counter() - began)
reached = f"{step}/{iterations}"
if DIALECT in ("new", "stamped"):
    log0(f"{reached} {bpb(score(counts))}\nstopping_early: wallclock_cap train_time: {ms:.0f}ms step: {reached}")
    log0(f"pre-quantization post-ema {bpb(score(counts), 8)} eval_time:6ms".replace(": ", ":"))
elif DIALECT == "pairs":
    log0(f"step={step} {bpb(score(counts))} train_time={ms:.0f}ms step_avg={ms / step:.2f}ms")
else:
    log0(f"step:{reached} {bpb(score(counts))} train_time:{ms:.0f}ms step_avg:{ms / step:.2f}ms")
    log0(f"stopping_early: wallclock_cap train_time:{ms:.0f}ms step:{reached}")

behave("serialize")
raw = array.array("d", [float(count) for count in counts] * 4).tobytes()
top = max(counts)
small = bytes(max(1, round(255 * count / top)) for count in counts)
packed = zlib.compress(small, 9)
names = BEHAVIOUR.get("artifacts", ["final_model.int8.ptz"])
pathlib.Path("final_model.pt").write_bytes(raw)
for name in names:
    pathlib.Path(name).parent.mkdir(parents=True, exist_ok=True)
    pathlib.Path(name).write_bytes(packed + random.Random(0).randbytes(BEHAVIOUR.get("padding", 0)))
size = len(packed) + BEHAVIOUR.get("padding", 0)
began = time.perf_counter()
final = score(list(small))
took = f"{1000 * (time.perf_counter() - began):.1f}ms"
code_bytes = len(code.encode())
if DIALECT in ("new", "stamped"):
    log0(f"Serialized model: {len(raw)} bytes\nCode size: {code_bytes} bytes")
    log0(f"Serialized model quantized+zlib: {size} bytes")
    log0(f"Total submission size quantized+zlib: {size + code_bytes} bytes")
    log0(f"quantized {bpb(final, 8)} eval_time:{took}".replace(": ", ":"))
elif DIALECT == "pairs":
    log0(f"artifact_bytes={size + code_bytes} code_bytes={code_bytes} model_bytes={size}")
    log0(f"final_int8_zlib_roundtrip {bpb(final, 8)} eval_time={took}")
else:
    log0(f"Serialized model: {len(raw)} bytes\nCode size: {code_bytes} bytes")
    log0(f"Total submission size: {len(raw) + code_bytes} bytes")
    log0(f"Serialized model int8+zlib: {size} bytes (payload:{len(small)} raw_torch:{len(raw)} payload_ratio:3.91x)")
    log0(f"Total submission size int8+zlib: {size + code_bytes} bytes")
    log0(f"final_int8_zlib_roundtrip {bpb(final)} eval_time:{took}")
    log0(f"final_int8_zlib_roundtrip_exact {bpb(final, 8)}")
