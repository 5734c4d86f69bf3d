"""One process of one run: its config, its parts, its place, and what the environment says of seed and data."""

import hashlib
import os
import sys
import time
import typing
from pathlib import Path

import numpy as np
import torch

from golf_core.artifact.container import encode_artifact
from golf_core.config import Config
from golf_core.data.byte_count import byte_tables
from golf_core.data.loader import TokenStream, TrainLoader
from golf_core.data.shards import DataError
from golf_core.evaluate.ledger import Score, ScoreLedger
from golf_core.evaluate.sliding import evaluate_windows
from golf_core.journal import Journal
from golf_core.model.gpt import GPT, Parts
from golf_core.process import Place
from golf_core.quant.rows import Quantizer, StoredTensor

NOTE_SECONDS, SAY_SECONDS = 1.0, 30.0  # between reports of a stage: silence would be taken for a hang
SCORE_PARTS = 64  # at most, of the validation stream, that a stage's nats are told for


class Run:
    """One process of one run: the config, its parts, the place, and what the environment says."""

    def __init__(
        self,
        config: Config,
        parts: Parts,
        place: Place,
        out: Path,
        clock: typing.Callable[[], float] = time.perf_counter,
    ) -> None:
        self.config, self.parts, self.place, self.out, self.clock = config, parts, place, out, clock
        self.seed = int(environment_value("SEED", "1337"))
        self.data = Path(environment_value("DATA_PATH"))
        self.tokenizer = Path(environment_value("TOKENIZER_PATH"))
        self.journal = Journal(out, place.first, diagnostic=config.diagnostic_only)
        self.codec = parts["artifact.codec"](config.artifact.level)
        self.packing = parts.get("quant.nibbles")
        self.code_bytes = code_bytes()

    def introduce(self, stage: str) -> None:
        """What a reader of the log alone wants to know: seed, world, torch, hardware, and which config it is."""
        config, place = self.config, self.place
        hardware = torch.cuda.get_device_name(place.device) if place.device.type == "cuda" else "cpu"
        digest = hashlib.sha256(repr(config).encode()).hexdigest()
        self.journal.say(
            f"stage:{stage} recipe:{config.name} seed:{self.seed} world_size:{place.world} dtype:{place.dtype_name}"
        )
        self.journal.say(f"torch:{torch.__version__} config_sha256:{digest} hardware:{hardware}")

    def model(self) -> GPT:
        model = GPT(self.config.model, self.parts, self.place.dtype, self.config.train.seq_len)
        model.init_weights(torch.Generator().manual_seed(self.seed))
        return model.to(self.place.device)

    def loader(self) -> TrainLoader:
        """This process's share of the training stream."""
        train = self.config.train
        return self.parts["train.loader"](
            TokenStream(self.data, "train", self.config.model.vocab),
            batch_tokens=train.batch_tokens,
            micro_batches=train.micro_batches,
            seq_len=train.seq_len,
            rank=self.place.rank,
            world=self.place.world,
            device=self.place.device,
            seed=self.seed,
        )

    def quantizer(self) -> Quantizer:
        return Quantizer(self.config.quant, self.config.model.layers, self.parts)

    def encode(self, stored: typing.Mapping[str, StoredTensor]) -> bytes:
        return encode_artifact(stored, self.codec, self.packing)

    def ledger(self, stage: str, tokens: np.ndarray) -> ScoreLedger:
        tables = byte_tables(self.tokenizer, self.config.model.vocab)
        chunk = self.config.ttt.chunk_tokens
        part = chunk * max(1, -(-len(tokens) // (chunk * SCORE_PARTS)))  # whole chunks of test-time training
        place, context = self.place, self.config.evaluate.seq_len
        return ScoreLedger(stage, tokens, tables, place.device, place.rank, place.world, part, context)

    def progress(self, stage: str, ledger: ScoreLedger) -> typing.Callable[[int, int], None]:
        """A callback that notes at most once a second how far the stage is, and says it at most every SAY_SECONDS."""
        noted = said = time.monotonic()

        def report(done: int, total: int) -> None:
            nonlocal noted, said
            now = time.monotonic()
            if now - noted < NOTE_SECONDS:
                return
            noted, bpb = now, ledger.running_bpb()
            self.journal.note("eval", stage=stage, done=done, total=total, bpb=bpb)
            if now - said >= SAY_SECONDS:
                said = now
                self.journal.say(f"{stage}: {100 * done / max(total, 1):.1f}% bpb so far {bpb:.4f}")

        return report

    def plain_score(self, model: GPT, stage: str, tokens: np.ndarray) -> tuple[Score, ScoreLedger]:
        """The plain evaluation, as often as wanted: the model is left as it was."""
        ledger, evaluate, context = self.ledger(stage, tokens), self.config.evaluate, model.rotary.context
        model.rotary.set_context(evaluate.seq_len)
        evaluate_windows(
            model,
            ledger,
            seq_len=evaluate.seq_len,
            stride=evaluate.seq_len,
            batch_seqs=evaluate.batch_seqs,
            progress=self.progress(stage, ledger),
        )
        model.rotary.set_context(context)
        return ledger.finish(), ledger


def environment_value(name: str, default: str | None = None) -> str:
    value = os.environ.get(name, default)
    if value is None:
        raise DataError(f"the environment variable {name} is not set")
    return value


def code_bytes() -> int:
    """Size of the file that runs: the code that counts. 0 where it is no file of ours."""
    return Path(sys.argv[0]).stat().st_size if sys.argv[0].endswith(".py") else 0
