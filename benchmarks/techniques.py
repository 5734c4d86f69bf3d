"""What each technique is worth on the embedded corpus: BPB with it against without it, at equal CPU-seconds.

    python benchmarks/techniques.py [--seconds 30] [--seeds 1337,42,2025] [--only xsa,...] [--markdown FILE]

The base is the demo's recipe with a third layer and without its average, trained for `--seconds` CPU-seconds a run
instead of for its steps, on one thread, so that a technique pays for its own arithmetic; two runs at a time. Scored
with plain windows through the artifact, as shipped. A row's difference is the mean over seeds of (with - without) on
the same seed, with its 95 % interval (t); "better" and "worse" only where the interval leaves out zero. Export and
test-time-training rows use the base's own trained weights. A small model on a small corpus for half a minute: signs
here are hints for the real race, no more.
"""

import argparse
import contextlib
import io
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path

import torch
from scipy import stats

from golf_core.config import Config
from golf_core.config_io import override
from golf_core.data.embedded import TOKENIZER_NAME, embedded_data
from golf_core.data.shard_writer import write_shard
from golf_core.data.shards import read_shard, shard_paths
from golf_core.evaluate_stage import evaluate_stage
from golf_core.parts import load_parts
from golf_core.process import Place, keep_freed_memory
from golf_core.recipes import load_recipe
from golf_core.run import Run
from golf_core.train_stage import calibrate, train_stage, write_artifact

BASE = [
    *("train.iterations=1000000", "evaluate.stride=128", "ttt.kind=none", "model.layers=3"),
    *("average.kind=none", "optim.matrix_decay=0.0"),
]
INT4 = ["quant.attn_bits=4", "quant.mlp_bits=4"]
SWA = "average.kind=swa"

# Training anew with the technique: name -> (settings, settings of what it is compared with).
TRAINED: dict[str, tuple[list[str], list[str]]] = {
    "LeakyReLU(0.5)^2": (["model.activation=leaky_relu2"], []),
    "LN scale": (["model.ln_scale=true"], []),
    "partial RoPE 16": (["model.rope_dims=16"], []),
    "dynamic NTK over 64": (["model.rope_ref_len=64"], []),
    "static NTK 41832": (["model.rope_static_base=41832"], []),
    "XSA, last layer": (["model.xsa_last_n=1"], []),
    "XSA, all layers": (["model.xsa_last_n=3"], []),
    "KV shared by all layers": (["model.kv_share=all"], []),
    "value residual": (["model.value_residual=true"], []),
    "gate: dense": (["model.attn_gate=dense"], []),
    "gate: qwen": (["model.attn_gate=qwen"], []),
    "gate: out": (["model.attn_gate=out"], []),
    "gate: sparse": (["model.attn_gate=sparse"], []),
    "SmearGate v1": (["model.smear=v1"], []),
    "SmearGate v2": (["model.smear=v2"], []),
    "bigrams 2048x64": (["model.bigram_buckets=2048", "model.bigram_width=64"], []),
    "bi- and trigrams": (
        [
            *("model.bigram_buckets=2048", "model.bigram_width=64"),
            *("model.trigram_buckets=2048", "model.trigram_width=32"),
        ],
        [],
    ),
    "value embeddings 64": (["model.value_embed_width=64"], []),
    "overtone embedding": (["model.embed_init=overtone"], []),
    "orthogonal start": (["model.matrix_init=orthogonal"], []),
    "phase resid_mix": (["model.resid_mix_init=phase"], []),
    "Muon decay 0.04": (["optim.matrix_decay=0.04"], []),
    "gradient clip 0.3": (["optim.grad_clip=0.3"], []),
    "shards in order": (["train.loader=stream"], []),
    "EMA 0.98": (["average.kind=ema"], []),
    "SWA, tight": ([SWA, "average.swa_below=0.2", "average.swa_every=5"], []),
    "SWA, periodic": ([SWA, "average.swa_below=0.5", "average.swa_every=20"], []),
    "SWA, 7 checkpoints": (["average.kind=checkpoints"], []),
    "late QAT, int6": (["qat.kind=swap", "qat.start=scale", "qat.at=0.15"], []),
    "bank QAT from step 1, int6": (["qat.kind=swap", "qat.tensors=matrices"], []),
    "late QAT, int4": ([*INT4, "qat.kind=swap", "qat.start=scale", "qat.at=0.15"], INT4),
    "bank QAT from step 1, int4": ([*INT4, "qat.kind=swap", "qat.tensors=matrices"], INT4),
}
GPTQ = "quant.rounding=gptq"

# The base's weights, shipped or scored in another way.
SHIPPED: dict[str, tuple[list[str], list[str]]] = {
    "int4": (INT4, []),
    "int5 MLP, int6 attention": (["quant.mlp_bits=5"], []),
    "int8 at the ends, int6 between": (["quant.edge_layers=1"], []),
    "int6, a scale for 8 rows": (["quant.group_rows=8"], []),
    "fp16 embedding": (["quant.embed_bits=16"], []),
    "SDClip 12.85": (["quant.clip=sd"], []),
    "GPTQ-lite, a matrix, int6": (["quant.clip=percentile_search", "quant.clip_select=matrix"], []),
    "GPTQ-lite, a row, int6": (["quant.clip=percentile_search"], []),
    "GPTQ-lite ratios, a row, int4": ([*INT4, "quant.clip=ratio_search"], INT4),
    "full GPTQ, training text, int6": ([GPTQ, "quant.calibration=train", "quant.calibration_seconds=0"], []),
    "full GPTQ, own text, int6": ([GPTQ, "quant.calibration=self"], []),
    "full GPTQ, training text, int4": (
        [*INT4, GPTQ, "quant.calibration=train", "quant.calibration_seconds=0"],
        INT4,
    ),
    "full GPTQ, own text, int4": ([*INT4, GPTQ, "quant.calibration=self"], INT4),
    "pruning 3 %": (["quant.prune_fraction=0.03"], []),
    "scale floor of the early scripts": (["quant.legacy_scale_floor=true"], []),
    "sliding windows, stride 64": (["evaluate.stride=64"], []),
    "TTT by chunks": (["evaluate.stride=64", "ttt.kind=chunk"], ["evaluate.stride=64"]),
    "TTT by document, LoRA": (
        ["evaluate.stride=64", "ttt.kind=lora", "ttt.lora_chunk_tokens=64", "ttt.lora_documents=32"],
        ["evaluate.stride=64"],
    ),
}


@dataclass(frozen=True)
class Measured:
    bpb: float
    bytes: int
    steps: int


@dataclass(frozen=True)
class Job:
    """One training, and the ways in which its weights are shipped."""

    seed: int
    seconds: float
    settings: list[str]
    shipped: list[list[str]] = field(default_factory=list)


def prepare(folder: Path, val_tokens: int) -> None:
    """The embedded corpus with the validation split's first tokens only; the environment names it."""
    data, _ = embedded_data()
    (train,), (val,) = (shard_paths(data, split) for split in ("train", "val"))
    (folder / train.name).symlink_to(train)
    write_shard(folder / val.name, read_shard(val)[:val_tokens])
    os.environ.update(DATA_PATH=str(folder), TOKENIZER_PATH=str(data / TOKENIZER_NAME))


def configured(seconds: float, settings: list[str]) -> Config:
    return override(load_recipe("demo").config, [*BASE, f"train.max_seconds={seconds}", *settings])


@contextlib.contextmanager
def run_of(config: Config, seed: int) -> Iterator[Run]:
    os.environ["SEED"] = str(seed)
    place = Place(0, 1, torch.device("cpu"), torch.float32)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        yield Run(config, load_parts(config), place, Path(folder), time.process_time)


def scored(run: Run, steps: int) -> Measured:
    evaluate_stage(run, run.out / "artifact.bin")
    scores = json.loads((run.out / "scores.json").read_text())
    return Measured(scores["stages"][scores["final_stage"]]["val_bpb"], scores["model_bytes"], steps)


def work(job: Job) -> list[tuple[list[str], Measured]]:
    """Train once; then ship and score the weights as asked. (settings, result) each."""
    torch.set_num_threads(1)
    keep_freed_memory()
    results = []
    with run_of(configured(job.seconds, job.settings), job.seed) as run:
        model = train_stage(run)
        events = [json.loads(line) for line in (run.out / "metrics.jsonl").read_text().splitlines()]
        steps = next(e["steps"] for e in events if e["event"] == "train_end")
        results.append((job.settings, scored(run, steps)))
    for settings in job.shipped:
        with run_of(configured(job.seconds, [*job.settings, *settings]), job.seed) as run:
            write_artifact(run, model, calibrate(run, model, run.loader()))
            results.append((settings, scored(run, steps)))
    return results


def jobs(names: list[str], seeds: list[int], seconds: float) -> list[Job]:
    shipped = [s for name in names if name in SHIPPED for s in SHIPPED[name] if s]
    trained = [TRAINED[name] for name in names if name in TRAINED]
    shipped += [against for _, against in trained if against]
    once = [json.loads(text) for text in dict.fromkeys(json.dumps(s) for s in shipped)]
    return [
        job
        for seed in seeds
        for job in (Job(seed, seconds, [], once), *(Job(seed, seconds, settings) for settings, _ in trained))
    ]


def interval(differences: list[float]) -> float:
    """Half the width of the 95 % t interval of the mean."""
    if len(differences) < 2:
        return float("inf")
    spread = statistics.stdev(differences) / len(differences) ** 0.5
    return float(stats.t.ppf(0.975, len(differences) - 1)) * spread


def row(name: str, results: dict[tuple[int, str], Measured], seeds: list[int]) -> str:
    settings, against = (TRAINED | SHIPPED)[name]
    pairs = [(results[seed, json.dumps(settings)], results[seed, json.dumps(against)]) for seed in seeds]
    differences = [a.bpb - b.bpb for a, b in pairs]
    mean, half = statistics.mean(differences), interval(differences)
    verdict = "" if abs(mean) <= half else ("better" if mean < 0 else "worse")
    grown = statistics.mean(a.bytes - b.bytes for a, b in pairs)
    steps = statistics.mean(a.steps / b.steps for a, b in pairs)
    return f"| {name} | {mean:+.4f} | ± {half:.4f} | {verdict} | {steps:.2f} | {grown:+,.0f} |"


def table(results: dict[tuple[int, str], Measured], names: list[str], seeds: list[int], seconds: float) -> str:
    base = [results[seed, "[]"] for seed in seeds]
    mean, steps = statistics.mean(b.bpb for b in base), statistics.mean(b.steps for b in base)
    spread = statistics.stdev(b.bpb for b in base) if len(base) > 1 else float("nan")
    lines = [
        f"Base: {mean:.4f} BPB (sample sd {spread:.4f}), {steps:,.0f} steps in {seconds:g} CPU-seconds, "
        f"{statistics.mean(b.bytes for b in base):,.0f} bytes of weights; seeds {', '.join(map(str, seeds))}.",
        "",
        "| technique | delta BPB | 95 % | | steps, of the base's | bytes |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *(row(name, results, seeds) for name in names)]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--seeds", default="1337,42,2025")
    parser.add_argument("--only", help="parts of names, separated by commas")
    parser.add_argument("--markdown", type=Path, help="write the table there too")
    parser.add_argument("--val-tokens", type=int, default=40_000, help="of the validation split, from its start")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    wanted = arguments.only.lower().split(",") if arguments.only else [""]
    names = [name for name in TRAINED | SHIPPED if any(part in name.lower() for part in wanted)]
    if not names:
        parser.error(f"--only {arguments.only}: there are {', '.join(TRAINED | SHIPPED)}")
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    results: dict[tuple[int, str], Measured] = {}
    todo = jobs(names, seeds, arguments.seconds)
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(arguments.workers, mp_context=get_context("spawn")) as pool,
    ):
        prepare(Path(folder), arguments.val_tokens)  # before the first process starts: they take the environment over
        for done, (job, measured) in enumerate(zip(todo, pool.map(work, todo), strict=True), 1):
            for settings, result in measured:
                results[job.seed, json.dumps(settings)] = result
            print(f"{done}/{len(todo)} seed {job.seed} {job.settings} {asdict(measured[0][1])}", flush=True)
    text = table(results, names, seeds, arguments.seconds)
    print(f"\n{text}")
    if arguments.markdown:
        arguments.markdown.write_text(text)


if __name__ == "__main__":
    main()
