"""One GPU's share of a recipe's training step, from its bundle, on random tokens: time, memory, share of the card.

    python benchmarks/step.py [--recipe legal_ttt] [--steps 40] [--share 8]

On a GPU the recipe runs at full size with the batch of one of `--share` GPUs, compiled, warm-up outside of the
clock. Beside the step's time stand the published step of the recipe's source on 8 GPUs, the rate at which the card
multiplies large bf16 matrices in the same run, and the share of that rate which the step's arithmetic takes. On a
CPU the same command runs a small model: a check that it works, no figure to compare.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from golf_core.bundle import build_bundle
from golf_core.config import Config
from golf_core.config_io import override
from golf_core.data.embedded import TOKENIZER_NAME, embedded_data
from golf_core.data.shard_writer import write_shard
from golf_core.inventory import tensor_shapes
from golf_core.recipes import load_recipe

PUBLISHED_MS = {"legal_ttt": 83.9, "naive_baseline": 43.54}  # of a step on 8xH100 SXM, by the sources' logs
SMALL = [
    *("model.layers=4", "model.width=128", "model.heads=2", "model.kv_heads=1", "model.value_embed_last_n=1"),
    *("train.seq_len=256", "evaluate.seq_len=256"),
]
SETTLE = 5  # first steps that are not counted


def share_config(name: str, share: int, steps: int, small: bool) -> Config:
    config = load_recipe(name).config
    if small:
        config = override(config, [*SMALL, "train.batch_tokens=16384", "train.micro_batches=8"])
    tokens = config.train.batch_tokens // share
    return override(
        config,
        [
            *(f"train.batch_tokens={tokens}", "train.micro_batches=1", f"train.iterations={steps + SETTLE}"),
            *("train.max_seconds=none", "train.log_every=1", "train.val_every=0", "ship=readable"),
            *("evaluate.stride=" + str(config.evaluate.seq_len), "artifact.codec=zlib", "artifact.level=1"),
            *("artifact.target_bytes=none", "quant.clip=max", "quant.rounding=nearest", "quant.calibration=none"),
        ],
    )


def step_flops(config: Config) -> float:
    """Multiplications and additions of one step's matrix products: forward, and twice that backward."""
    shapes = tensor_shapes(config.model)
    weights = sum(s[0] * s[1] for n, s in shapes.items() if len(s) == 2 and (".c_" in n or "proj" in n or ".fc" in n))
    shared = sum(config.model.kv_owner(layer) != layer for layer in range(config.model.layers))
    weights += 2 * shared * config.model.kv_width * config.model.width + config.model.vocab * config.model.width
    attention = config.model.layers * 2 * config.train.seq_len * config.model.width  # causal: half of the square
    return 6.0 * config.train.batch_tokens * (weights + attention / 2)


def matrix_rate(device: torch.device) -> float:
    """Operations a second of a large matrix product: bf16 on a GPU, fp32 on a CPU."""
    size, dtype = (8192, torch.bfloat16) if device.type == "cuda" else (1024, torch.float32)
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(20):
        if device.type == "cuda":
            torch.cuda.synchronize()
        begin = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - begin)
    return 2.0 * size**3 / best


def run(config: Config, folder: Path) -> list[dict]:
    """Train the bundle alone on random tokens; the events that it noted."""
    generator = np.random.default_rng(0)
    steps = config.train.iterations + config.train.warmup_steps
    for split, count in (("train", steps * (config.train.batch_tokens + 1)), ("val", config.evaluate.seq_len * 4 + 1)):
        tokens = generator.integers(4, config.model.vocab, min(count, 50_000_000), dtype=np.uint16)
        write_shard(folder / f"random_{split}_000000.bin", tokens)
    script = folder / "train_gpt.py"
    script.write_text(build_bundle(config))
    tokenizer = embedded_data()[0] / TOKENIZER_NAME
    env = os.environ | {"SEED": "1337", "DATA_PATH": str(folder), "TOKENIZER_PATH": str(tokenizer)}
    done = subprocess.run([sys.executable, str(script), "train", "--out", str(folder)], env=env)
    if done.returncode:
        sys.exit(done.returncode)
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="legal_ttt")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--share", type=int, default=8)
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = share_config(arguments.recipe, arguments.share, arguments.steps, small=device.type == "cpu")
    with tempfile.TemporaryDirectory(prefix="golf-step-") as folder:
        events = run(config, Path(folder))
    ends = [e["elapsed_s"] for e in events if e["event"] == "step"][SETTLE:]
    times = [1000 * (b - a) for a, b in itertools.pairwise(ends)]
    memory = next(e["peak_memory_bytes"] for e in events if e["event"] == "train_end")
    step_s, rate = statistics.median(times) / 1000, matrix_rate(device)
    where = torch.cuda.get_device_name() if device.type == "cuda" else "this CPU, a small model"
    print(f"\n{arguments.recipe} on {where}: {config.train.batch_tokens:,} tokens of {config.train.seq_len:,} a step")
    print(f"  step, median of {len(times)}     {1000 * step_s:8.1f} ms ({min(times):.1f} to {max(times):.1f})")
    if device.type == "cuda" and arguments.recipe in PUBLISHED_MS:
        print(f"  published, 8 GPUs        {PUBLISHED_MS[arguments.recipe]:8.1f} ms")
    print(f"  tokens a second          {config.train.batch_tokens / step_s:10,.0f}")
    print(f"  peak memory              {memory / 1e9:8.2f} GB")
    share = step_flops(config) / step_s / rate
    print(f"  matrix rate              {rate / 1e12:8.2f} TFLOP/s measured; the step uses {share:.1%}")


if __name__ == "__main__":
    main()
