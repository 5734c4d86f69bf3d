"""The second stage of a run: a fresh process scores artifact.bin, and knows nothing of the training."""

import hashlib
import json
import os
import time
import typing
from pathlib import Path

import numpy as np

from golf_core.data.loader import validation_tokens
from golf_core.evaluate.compiled import compile_hidden, eager_hidden, hot_backend
from golf_core.evaluate.ledger import ILLEGAL_TRAIN_BEFORE_SCORE, Score, ScoreLedger
from golf_core.evaluate.ledger_file import encode_ledger
from golf_core.evaluate.restored import restored_model
from golf_core.evaluate.sliding import evaluate_windows
from golf_core.evaluate.tokens import LedgerError
from golf_core.model.gpt import GPT
from golf_core.process import barrier
from golf_core.run import Run


def load_model(run: Run, artifact: Path) -> tuple[GPT, bytes]:
    """The model of an artifact in fp32, and the artifact's bytes. Raises ArtifactError."""
    return restored_model(run.config, run.parts, artifact, run.place.dtype, run.place.device)


def prepare(run: Run, artifact: Path) -> tuple[GPT, bytes, np.ndarray]:
    """The model, ready to score; the artifact's bytes; the validation tokens."""
    config, place = run.config, run.place
    model, data = load_model(run, artifact)
    validation = validation_tokens(run.data, config.model.vocab)
    run.journal.note(
        "start",
        stage="evaluate",
        parameters=count_parameters(model),
        world=place.world,
        dtype=place.dtype_name,
        seed=run.seed,
    )
    if backend := hot_backend(config.train.compile, place.device):
        compile_hidden(model, config.evaluate.batch_seqs, config.evaluate.seq_len, backend)
    return model, data, validation


def count_parameters(model: GPT) -> int:
    return sum(p.numel() for p in model.parameters())


def evaluate_stage(run: Run, artifact: Path) -> None:
    """Load the artifact and score it: plain, sliding, and learning as it goes, each through its own ledger."""
    config, journal, place = run.config, run.journal, run.place
    run.introduce("evaluate")
    with journal.phase("load"):
        model, data, validation = prepare(run, artifact)
    stages: dict[str, dict[str, typing.Any]] = {}
    ledgers: list[tuple[dict[str, typing.Any], list[bytes]]] = []

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
            "ledger_order": ledger.facts["order"],
            "ledger_clock": ledger.facts["clock"],
            **more,
        }
        stages[stage] = facts
        ledgers.append(ledger.record())
        journal.note("score", stage=stage, **facts)
        nats, count = ledger.parts()
        journal.note("score_parts", stage=stage, part=ledger.part, nats=nats, bytes=count)
        journal.say(
            f"final_{stage} val_loss:{score.val_loss:.8f} val_bpb:{score.val_bpb:.8f} eval_time:{1000 * seconds:.3f}ms"
        )
        journal.say(f"ledger_{stage} order:{facts['ledger_order']} clock:{facts['ledger_clock']}")

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
        if config.ttt.kind in ("lora", "phased"):
            eager_hidden(model)  # its additions are hooks
        with journal.phase("ttt"):
            begin = time.perf_counter()
            ledger = run.ledger("ttt", validation)
            loop = time.perf_counter()
            chunks = evaluate_ttt(model, ledger, config.ttt, progress=run.progress("ttt", ledger), **windows)
            loop_seconds = time.perf_counter() - loop
            close("ttt", ledger.finish(), ledger, time.perf_counter() - begin, loop_seconds=loop_seconds, chunks=chunks)
    eager_hidden(model)
    journal.say(
        f"evaluated:{len(stages)} stages eval_sum:{1000 * sum(one['seconds'] for one in stages.values()):.3f}ms"
    )
    if place.first:
        write_scores(run, stages, ledgers, data, count_parameters(model))
    barrier()


def write_scores(
    run: Run,
    stages: dict[str, dict[str, typing.Any]],
    ledgers: list[tuple[dict[str, typing.Any], list[bytes]]],
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
