"""The two stages of a run: `train` ends with artifact.bin, `evaluate` begins with nothing but it.

This module ends the bundle. `PARTS` maps a config path to the implementation that the config names there:
the bundle carries just those (see bundle.py).

Usage: torchrun --standalone --nproc_per_node=N train_gpt.py [train|evaluate|describe] [--artifact FILE]
[--out FOLDER] [--dtype bf16|fp32]. Without a verb: train, then evaluate in fresh processes.
Environment: SEED, DATA_PATH, TOKENIZER_PATH.
"""

import argparse
import hashlib
import json
import os
import socket
import sys
import time
import typing
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from golf_core.artifact.container import ArtifactError, decode_artifact, encode_artifact
from golf_core.config import Config
from golf_core.data.byte_count import byte_tables
from golf_core.data.loader import TokenStream, TrainLoader, validation_tokens
from golf_core.data.shards import DataError
from golf_core.evaluate.ledger import ILLEGAL_TRAIN_BEFORE_SCORE, LedgerError, Score, ScoreLedger, encode_ledger
from golf_core.evaluate.sliding import evaluate_windows
from golf_core.hardware import DTYPES
from golf_core.journal import Journal
from golf_core.model.gpt import GPT, Parts
from golf_core.process import Place, barrier, joined_group, peak_memory_bytes
from golf_core.quant.rows import Quantizer, StoredTensor, restore_state
from golf_core.routes import estimated_bits
from golf_core.train import Trainer, TrainingDiverged


class Run:
    """One process of one run: the config, its parts, the place, and what the environment says."""

    def __init__(self, config: Config, parts: Parts, place: Place, out: Path) -> None:
        self.config, self.parts, self.place, self.out = config, parts, place, out
        self.seed = int(_environment("SEED", "1337"))
        self.data = Path(_environment("DATA_PATH"))
        self.tokenizer = Path(_environment("TOKENIZER_PATH"))
        self.journal = Journal(out, place.first, diagnostic=config.diagnostic_only)
        self.codec = parts["artifact.codec"](config.artifact.level)
        self.packing = parts.get("quant.nibbles")
        self.code_bytes = Path(sys.argv[0]).stat().st_size if sys.argv[0].endswith(".py") else 0

    def model(self) -> GPT:
        model = GPT(self.config.model, self.parts, self.place.dtype)
        model.init_weights(torch.Generator().manual_seed(self.seed))
        return model.to(self.place.device)

    def quantizer(self) -> Quantizer:
        return Quantizer(self.config.quant, self.config.model.layers, self.parts)

    def encode(self, stored: typing.Mapping[str, StoredTensor]) -> bytes:
        return encode_artifact(stored, self.codec, self.packing)

    def ledger(self, stage: str, tokens: np.ndarray) -> ScoreLedger:
        tables = byte_tables(self.tokenizer, self.config.model.vocab)
        return ScoreLedger(stage, tokens, tables, self.place.device, self.place.rank, self.place.world)

    def progress(self, stage: str, ledger: ScoreLedger) -> typing.Callable[[int, int], None]:
        """A callback that reports at most once a second."""
        last = time.monotonic()

        def report(done: int, total: int) -> None:
            nonlocal last
            if time.monotonic() - last >= 1.0:
                last = time.monotonic()
                self.journal.note("eval", stage=stage, done=done, total=total, bpb=ledger.running_bpb())

        return report

    def plain_score(self, model: GPT, stage: str, tokens: np.ndarray) -> tuple[Score, ScoreLedger]:
        ledger = self.ledger(stage, tokens)
        evaluate = self.config.evaluate
        evaluate_windows(
            model,
            ledger,
            seq_len=evaluate.seq_len,
            stride=evaluate.seq_len,
            batch_seqs=evaluate.batch_seqs,
            progress=self.progress(stage, ledger),
        )
        return ledger.finish(), ledger


def _environment(name: str, default: str | None = None) -> str:
    value = os.environ.get(name, default)
    if value is None:
        raise DataError(f"the environment variable {name} is not set")
    return value


def train_stage(run: Run) -> None:
    """Train, average, quantize, compress; rank 0 writes artifact.bin."""
    config, journal, place = run.config, run.journal, run.place
    journal.say(f"stage:train recipe:{config.name} seed:{run.seed} world_size:{place.world} dtype:{place.dtype_name}")
    with journal.phase("setup"):
        loader = run.parts["train.loader"](
            TokenStream(run.data, "train", config.model.vocab),
            batch_tokens=config.train.batch_tokens,
            micro_batches=config.train.micro_batches,
            seq_len=config.train.seq_len,
            rank=place.rank,
            world=place.world,
            device=place.device,
            seed=run.seed,
        )
        validation = validation_tokens(run.data, config.model.vocab)
        model = run.model()
        parameters = sum(p.numel() for p in model.parameters())
        journal.say(f"model_params:{parameters}")
        journal.note(
            "start", stage="train", parameters=parameters, world=place.world, dtype=place.dtype_name, seed=run.seed
        )
    with journal.phase("warmup"):
        trainer = Trainer(config, model, loader, run.parts, place, journal)
    with journal.phase("train"):
        outcome = trainer.run(lambda step: run.plain_score(model, f"step {step}", validation)[0])
    journal.say(f"stopped_by:{outcome.stopped_by} step:{outcome.steps} train_time:{1000 * outcome.seconds:.0f}ms")
    with journal.phase("average"):
        if trainer.averager:
            trainer.averager.apply()
            journal.say(trainer.averager.describe())
    hessians = calibrate(run, model, loader)
    with journal.phase("validate"):
        score, _ = run.plain_score(model, "pre_quant", validation)
        journal.say(f"pre_quant val_loss:{score.val_loss:.8f} val_bpb:{score.val_bpb:.8f}")
    journal.note(
        "train_end",
        steps=outcome.steps,
        train_seconds=outcome.seconds,
        step_avg_ms=outcome.step_avg_ms,
        stopped_by=outcome.stopped_by,
        parameters=parameters,
        pre_quant_loss=score.val_loss,
        pre_quant_bpb=score.val_bpb,
        peak_memory_bytes=peak_memory_bytes(place.device),
    )
    if place.first:
        write_artifact(run, model, hessians)
    barrier()


def calibrate(run: Run, model: GPT, loader: TrainLoader) -> dict[str, torch.Tensor] | None:
    """What rounding by the layers' inputs needs, from the weights to be shipped. On training data it is a phase of
    its own name, because its seconds are training's."""
    if "quant.calibration" not in run.parts:
        return None
    with run.journal.phase("calibrate" if run.config.quant.calibration == "train" else "self_calibrate"):
        return run.parts["quant.calibration"](model, run.config, loader, run.place, run.seed)


def write_artifact(run: Run, model: GPT, hessians: dict[str, torch.Tensor] | None) -> None:
    with run.journal.phase("quantize"):
        stored = run.quantizer().export(model.state_dict(), hessians)
    with run.journal.phase("compress"):
        if prune := run.parts.get("artifact.target_bytes"):
            target = run.config.artifact.target_bytes
            stored, data, report = prune(stored, run.encode, run.code_bytes, target, run.packing)
            run.journal.say(str(report))
        else:
            data = run.encode(stored)
        scratch = run.out / ".artifact.bin.tmp"
        scratch.write_bytes(data)
        os.replace(scratch, run.out / "artifact.bin")
    total = len(data) + run.code_bytes
    run.journal.note(
        "artifact",
        model_bytes=len(data),
        code_bytes=run.code_bytes,
        total_bytes=total,
        sha256=hashlib.sha256(data).hexdigest(),
        codec=run.codec.name,
    )
    run.journal.say(f"Serialized model {run.codec.name}: {len(data)} bytes")
    run.journal.say(f"Code size: {run.code_bytes} bytes")
    run.journal.say(f"Total submission size {run.codec.name}: {total} bytes")


def load_model(run: Run, artifact: Path) -> tuple[GPT, bytes]:
    """The model of an artifact in fp32, and the artifact's bytes. Raises ArtifactError."""
    try:
        data = artifact.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{artifact} cannot be read: {error.strerror}") from None
    state = restore_state(decode_artifact(data, run.codec, run.packing))
    model = GPT(run.config.model, run.parts, run.place.dtype)
    wanted = {name: tuple(t.shape) for name, t in model.state_dict().items()}
    found = {name: tuple(t.shape) for name, t in state.items()}
    if wanted != found:
        odd = sorted(set(wanted.items()) ^ set(found.items()))[0]
        raise ArtifactError(f"{artifact} does not fit this model: {odd[0]} with shape {odd[1]} is in only one of them")
    model.load_state_dict(state)
    return model.to(run.place.device), data


def evaluate_stage(run: Run, artifact: Path) -> None:
    """Load the artifact and score it: plain, sliding, and learning as it goes, each through its own ledger."""
    config, journal, place = run.config, run.journal, run.place
    journal.say(
        f"stage:evaluate recipe:{config.name} seed:{run.seed} world_size:{place.world} dtype:{place.dtype_name}"
    )
    with journal.phase("load"):
        model, data = load_model(run, artifact)
        validation = validation_tokens(run.data, config.model.vocab)
        parameters = sum(p.numel() for p in model.parameters())
        journal.note(
            "start", stage="evaluate", parameters=parameters, world=place.world, dtype=place.dtype_name, seed=run.seed
        )
    stages: dict[str, dict[str, typing.Any]] = {}
    ledgers: list[tuple[str, Score, str, bytes]] = []

    def close(stage: str, score: Score, ledger: ScoreLedger, seconds: float, **more: typing.Any) -> None:
        if ledger.verdict == ILLEGAL_TRAIN_BEFORE_SCORE and not config.diagnostic_only:
            raise LedgerError(f"{stage}: tokens were had before they were scored; that takes diagnostic_only=true")
        facts = {
            "val_loss": score.val_loss,
            "val_bpb": score.val_bpb,
            "tokens": score.tokens,
            "bytes": score.bytes,
            "seconds": seconds,
            "verdict": ledger.verdict,
            **more,
        }
        stages[stage] = facts
        ledgers.append((stage, score, ledger.verdict, ledger.event_bytes()))
        journal.note("score", stage=stage, **facts)
        journal.say(
            f"final_{stage} val_loss:{score.val_loss:.8f} val_bpb:{score.val_bpb:.8f} eval_time:{1000 * seconds:.0f}ms"
        )

    with journal.phase("roundtrip"):
        begin = time.perf_counter()
        score, ledger = run.plain_score(model, "roundtrip", validation)
        close("roundtrip", score, ledger, time.perf_counter() - begin)
    windows = {
        "seq_len": config.evaluate.seq_len,
        "stride": config.evaluate.stride,
        "batch_seqs": config.evaluate.batch_seqs,
    }
    if config.evaluate.stride < config.evaluate.seq_len:
        with journal.phase("sliding"):
            begin = time.perf_counter()
            ledger = run.ledger("sliding", validation)
            evaluate_windows(model, ledger, progress=run.progress("sliding", ledger), **windows)
            close("sliding", ledger.finish(), ledger, time.perf_counter() - begin)
    if evaluate_ttt := run.parts.get("ttt.kind"):
        with journal.phase("ttt"):
            begin = time.perf_counter()
            ledger = run.ledger("ttt", validation)
            loop = time.perf_counter()
            chunks = evaluate_ttt(model, ledger, config.ttt, progress=run.progress("ttt", ledger), **windows)
            loop_seconds = time.perf_counter() - loop
            close("ttt", ledger.finish(), ledger, time.perf_counter() - begin, loop_seconds=loop_seconds, chunks=chunks)
    if place.first:
        write_scores(run, stages, ledgers, data, parameters)
    barrier()


def write_scores(
    run: Run,
    stages: dict[str, dict[str, typing.Any]],
    ledgers: list[tuple[str, Score, str, bytes]],
    data: bytes,
    parameters: int,
) -> None:
    scores = {
        "schema_version": 1,
        "seed": run.seed,
        "diagnostic_only": run.config.diagnostic_only,
        "final_stage": None if run.config.diagnostic_only else list(stages)[-1],
        "stages": stages,
        "model_bytes": len(data),
        "artifact_sha256": hashlib.sha256(data).hexdigest(),
        "code_bytes": run.code_bytes,
        "parameters": parameters,
    }
    for name, content in (
        ("score_ledger.bin", encode_ledger(ledgers)),
        ("scores.json", json.dumps(scores, indent=1).encode() + b"\n"),
    ):
        scratch = run.out / f".{name}.tmp"
        scratch.write_bytes(content)
        os.replace(scratch, run.out / name)


def describe(config: Config, parts: Parts) -> dict[str, typing.Any]:
    """What the config builds, without data: parameters counted from the model, and an estimate of the artifact.

    The estimate goes by what compressed weights of each grid have taken (routes.py).
    """
    with torch.device("meta"):
        model = GPT(config.model, parts)
    bits = 0.0
    for name, tensor in model.state_dict().items():
        bits += estimated_bits(name, tuple(tensor.shape), config)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "model_bytes_estimate": round(bits / 8),
        "tensors": len(model.state_dict()),
    }


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="train_gpt.py", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("verb", nargs="?", choices=("train", "evaluate", "describe"))
    parser.add_argument("--artifact", type=Path, help="evaluate: the file to score (default: artifact.bin in --out)")
    parser.add_argument("--out", type=Path, default=Path("."), help="where files are written")
    parser.add_argument("--dtype", choices=DTYPES, help="of activations (default: what the device is fast at)")
    return parser.parse_args(argv)


def _evaluate_in_fresh_processes(port: int, arguments: argparse.Namespace) -> typing.NoReturn:
    """Become a new program that knows the artifact and nothing else of the training."""
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "False"
    os.environ["MASTER_PORT"] = str(port)
    command = [sys.executable, sys.argv[0], "evaluate", "--out", str(arguments.out)]
    os.execv(sys.executable, command + (["--dtype", arguments.dtype] if arguments.dtype else []))


def _agreed_port(place: Place) -> int:
    """A free port on rank 0's machine that every rank knows."""
    port = torch.zeros(1, dtype=torch.int64, device=place.device)
    if place.first:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port.fill_(probe.getsockname()[1])
    if place.world > 1:
        dist.broadcast(port, 0)
    return int(port)


FATAL_CLASSES: list[tuple[type[BaseException], str]] = [
    (TrainingDiverged, "nan"),
    (torch.cuda.OutOfMemoryError, "memory"),
    (MemoryError, "memory"),
    (DataError, "data"),
    (ArtifactError, "artifact"),
    (LedgerError, "ledger"),
]


def fatal_class(error: Exception) -> str | None:
    """What the worker is told of an error; None for one that is not foreseen and shows its trace."""
    if isinstance(error, RuntimeError) and "can't allocate memory" in str(error):
        return "memory"  # how torch's CPU allocator says it
    return next((name for kind, name in FATAL_CLASSES if isinstance(error, kind)), None)


def main(config: Config, parts: Parts) -> None:
    """The program: what its arguments say, for this config."""
    arguments = _arguments(sys.argv[1:])
    if arguments.verb == "describe":
        print(json.dumps(describe(config, parts)))
        return
    try:
        with joined_group(arguments.dtype) as place:
            run = Run(config, parts, place, arguments.out)
            if arguments.verb != "evaluate":
                train_stage(run)
            else:
                evaluate_stage(run, arguments.artifact or arguments.out / "artifact.bin")
            port = _agreed_port(place) if arguments.verb is None else 0
    except Exception as error:
        if name := fatal_class(error):
            print(f"fatal:{name} {error}", flush=True)
            sys.exit(1)
        raise
    if arguments.verb is None:
        _evaluate_in_fresh_processes(port, arguments)
