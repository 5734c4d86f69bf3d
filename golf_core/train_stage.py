"""The first stage of a run: train, average, quantize, compress. It ends with artifact.bin."""

import hashlib
import os

import torch

from golf_core.data.loader import TrainLoader, validation_tokens
from golf_core.model.gpt import GPT
from golf_core.process import barrier, peak_memory_bytes
from golf_core.run import Run
from golf_core.train import Trainer


def train_stage(run: Run) -> GPT:
    """Train, average, quantize, compress; rank 0 writes artifact.bin. Returns the weights before rounding."""
    config, journal, place = run.config, run.journal, run.place
    run.introduce("train")
    with journal.phase("setup"):
        loader = run.loader()
        validation = validation_tokens(run.data, config.model.vocab)
        model = run.model()
        parameters = sum(p.numel() for p in model.parameters())
        journal.say(f"model_params:{parameters}")
        journal.note(
            "start", stage="train", parameters=parameters, world=place.world, dtype=place.dtype_name, seed=run.seed
        )
    with journal.phase("warmup"):
        trainer = Trainer(config, model, loader, run.parts, place, journal, run.clock)
    with journal.phase("train"):
        outcome = trainer.run(lambda step: run.plain_score(model, f"step {step}", validation)[0])
    journal.say(
        f"stopped_by:{outcome.stopped_by} step:{outcome.steps} train_time:{1000 * outcome.seconds:.3f}ms "
        f"step_avg:{outcome.step_avg_ms:.6f}ms"
    )
    with journal.phase("average"):
        if trainer.averager:
            trainer.averager.apply()
            journal.say(trainer.averager.describe())
    begin = run.clock()
    hessians = calibrate(run, model, loader)
    read_training_data = run.clock() - begin if config.quant.calibration == "train" else 0.0
    with journal.phase("validate"):
        score, _ = run.plain_score(model, "pre_quant", validation)
        journal.say(f"pre_quant val_loss:{score.val_loss:.8f} val_bpb:{score.val_bpb:.8f}")
    journal.note(
        "train_end",
        steps=outcome.steps,
        train_seconds=outcome.seconds + read_training_data,
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
    return model


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
            for line in report.lines():
                run.journal.say(line)
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
