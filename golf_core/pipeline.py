"""The two stages of a run: `train` ends with artifact.bin, `evaluate` begins with nothing but it.

This module ends the bundle. `PARTS` maps a config path to the implementation that the config names there:
the bundle carries just those (see bundle.py).

Usage: torchrun --standalone --nproc_per_node=N train_gpt.py [train|evaluate|describe|rehearse] [--artifact FILE]
[--out FOLDER] [--dtype bf16|fp32]. Without a verb: train, then evaluate in fresh processes.
Environment: SEED, DATA_PATH, TOKENIZER_PATH.
"""

import argparse
import json
import os
import socket
import sys
import typing
from pathlib import Path

import torch
import torch.distributed as dist

from golf_core.artifact.container import ArtifactError
from golf_core.config import Config
from golf_core.data.shards import DataError
from golf_core.evaluate.tokens import LedgerError
from golf_core.evaluate_stage import evaluate_stage
from golf_core.hardware import DTYPES
from golf_core.model.gpt import Parts
from golf_core.process import Place, joined_group
from golf_core.rehearse import RehearsalFailed, describe, rehearse
from golf_core.run import Run, code_bytes
from golf_core.train import TrainingDiverged
from golf_core.train_stage import train_stage


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="train_gpt.py", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("verb", nargs="?", choices=("train", "evaluate", "describe", "rehearse"))
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
    (RehearsalFailed, "recipe"),
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
            if arguments.verb == "rehearse":
                print(json.dumps(rehearse(config, parts, place, code_bytes())), flush=True)
                return
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
