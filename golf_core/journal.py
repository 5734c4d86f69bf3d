"""What a run says while it works: lines on stdout, objects in metrics.jsonl. Only rank 0 speaks.

The worker reads the phase lines and stamps them on its own clock.
"""

import contextlib
import json
import typing
from collections.abc import Iterator
from pathlib import Path


class Journal:
    """Writes under `folder`; `speaks` is rank 0."""

    def __init__(self, folder: Path, speaks: bool) -> None:
        self.path, self.speaks = folder / "metrics.jsonl", speaks

    def say(self, text: str) -> None:
        """One line of the log."""
        if self.speaks:
            print(text, flush=True)

    def note(self, event: str, **facts: typing.Any) -> None:
        """One object of metrics.jsonl."""
        if self.speaks:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"event": event, **facts}) + "\n")

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """A part of the run that the worker times."""
        self.say(f"phase:begin {name}")
        yield
        self.say(f"phase:end {name}")
