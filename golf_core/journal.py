"""What a run says while it works: lines on stdout, objects in metrics.jsonl. Only rank 0 speaks.

The worker reads the phase lines and stamps them on its own clock.
"""

import contextlib
import json
import typing
from collections.abc import Iterator
from pathlib import Path

DIAGNOSTIC_STAMP = "DIAGNOSTIC ONLY"


class Journal:
    """Writes under `folder`; `speaks` is rank 0. With `diagnostic` every line with a score starts with a stamp, and
    every object says so: none of it can be taken for a score."""

    def __init__(self, folder: Path, speaks: bool, diagnostic: bool = False) -> None:
        self.path, self.speaks, self.diagnostic = folder / "metrics.jsonl", speaks, diagnostic

    def say(self, text: str) -> None:
        """One line of the log."""
        if self.speaks:
            stamped = self.diagnostic and ("val_loss:" in text or "bpb" in text)
            print(f"{DIAGNOSTIC_STAMP} {text}" if stamped else text, flush=True)

    def note(self, event: str, **facts: typing.Any) -> None:
        """One object of metrics.jsonl."""
        if self.speaks:
            stamp = {"diagnostic_only": True} if self.diagnostic else {}
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"event": event, **stamp, **facts}) + "\n")

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """A part of the run that the worker times."""
        self.say(f"phase:begin {name}")
        yield
        self.say(f"phase:end {name}")
