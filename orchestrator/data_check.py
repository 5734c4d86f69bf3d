"""The check of shards and tokenizer: a process of its own reads them while we do something else."""

import dataclasses
import json
import os
import subprocess
import sys
import time
import typing
from pathlib import Path

from orchestrator.checkout import own_environment
from orchestrator.cluster.node_data import EMBEDDED_PATH
from orchestrator.data_stamp import IDENTITY, data_stamp, shards_stamp
from orchestrator.errors import UsageError
from orchestrator.spec import Data

EMBEDDED = "golf_core.data.embedded"
QUIET_SECONDS = 2.0  # of reading, before anything is said of it
LINE_SECONDS = 10.0  # between lines where there is no terminal


class DataCheck:
    """The identity of shards and tokenizer. Without a tokenizer it is the one that the folder's manifest names; without
    data it is the embedded corpus."""

    def __init__(self, data: str | None, tokenizer: str | None, vocab: int | None) -> None:
        if data is None and tokenizer is not None:
            raise UsageError(
                "--tokenizer needs --data: shards are made with one tokenizer; without both, the embedded corpus"
            )
        self.vocab, self.data, self.tokenizer = vocab, data, tokenizer
        self.embedded = data is None
        self.process = self._start(EMBEDDED) if data is None else self._identity(data)

    def _start(self, module: str, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-P", "-m", module, *arguments],  # -P: a copy.py in the folder we stand in is none of ours
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=own_environment(),
        )

    def _identity(self, data: str) -> "subprocess.Popen[str]":
        self.before = shards_stamp(Path(data))
        vocab = () if self.vocab is None else ("--vocab", str(self.vocab))
        tokenizer = () if self.tokenizer is None else ("--tokenizer", self.tokenizer)
        return self._start(IDENTITY, "--data", data, *tokenizer, *vocab, "--progress")

    def result(self) -> Data:
        """Waits for it, and tells how far it is where that takes a while. Raises UsageError with what the check said
        about bad data."""
        if self.embedded:
            made = _answer(self.process, "the embedded corpus")
            self.data, self.tokenizer = str(made["data_path"]), str(made["tokenizer_path"])
            self.process = self._identity(self.data)
        said = _answer(self.process, f"data {self.data}")
        path = Path(str(self.data)).absolute()  # a `..` behind a link stays: without it, it is another place
        tokenizer = Path(said["tokenizer_path"]).absolute()
        if shards_stamp(path) != self.before:
            raise UsageError(f"shards in {path} were changed while they were checked; submit again once they are whole")
        return Data(
            path=str(path),
            sha256=said["data_sha256"],
            tokenizer_path=str(tokenizer),
            tokenizer_sha256=said["tokenizer_sha256"],
            name=said["name"],
            source=said["source"],
            shards=said["shards"],
            train_tokens=said["train_tokens"],
            val_tokens=said["val_tokens"],
            pieces=said["pieces"],
            stamp=data_stamp(path, tokenizer),
        )

    def close(self) -> None:
        """End the check; nothing happens where it is over."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


class EmbeddedThere:
    """The embedded corpus where a run goes elsewhere: its identity is found here, and every node, or container, encodes
    its own."""

    def __init__(self, tokenizer: str | None, vocab: int | None) -> None:
        self.here = DataCheck(None, tokenizer, vocab)

    def result(self) -> Data:
        return dataclasses.replace(self.here.result(), path=EMBEDDED_PATH, tokenizer_path=EMBEDDED_PATH, stamp=None)

    def close(self) -> None:
        self.here.close()


def _answer(process: "subprocess.Popen[str]", what: str) -> dict[str, typing.Any]:
    """The last object that it prints; those before it say how much is read."""
    assert process.stdout is not None
    progress, said, text = Progress(sys.stderr), None, ""
    for text in process.stdout:
        try:
            said = dict(json.loads(text))
        except (TypeError, ValueError):
            said = None
        if said is not None and "read" in said:
            progress.tell(said["read"], said["of"])
    progress.close()
    _, err = process.communicate()
    lines = [line for line in err.splitlines() if line.strip()]
    if process.returncode:
        raise UsageError(lines[-1] if lines else f"{what}: the check ended with code {process.returncode}")
    if said is None:
        raise UsageError(f"{what}: the check printed {text[-200:]!r}, not an identity")
    return said


class Progress:
    """How much of the shards is read: one live line on a terminal, else a line now and then; nothing where it is soon
    done."""

    def __init__(self, stream: typing.TextIO) -> None:
        self.stream, self.live = stream, stream.isatty() and os.environ.get("TERM") != "dumb"
        self.begin = time.monotonic()
        self.told: float | None = None

    def tell(self, done: int, total: int) -> None:
        now = time.monotonic()
        since = now - self.begin
        pause = 0.0 if self.live else LINE_SECONDS
        if since < QUIET_SECONDS or not done or (self.told is not None and now - self.told < pause):
            return
        self.told = now
        rate = done / since
        line = (
            f"checking data: {done / 1e9:.1f} of {total / 1e9:.1f} GB read, {rate / 1e9:.2f} GB/s, "
            f"{(total - done) / rate:.0f} s left"
        )
        print(f"\r\x1b[K{line}" if self.live else line, end="" if self.live else "\n", file=self.stream, flush=True)

    def close(self) -> None:
        if self.live and self.told is not None:
            print("\r\x1b[K", end="", file=self.stream, flush=True)
