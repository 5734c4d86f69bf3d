"""A client for tests: a process with the real `modal` package, that does what it is handed as source."""

import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.modal_plane import Plane

LOOP = """
import json, sys, traceback
import modal
names = {"modal": modal}
for line in sys.stdin:
    try:
        exec(json.loads(line), names)
        answer = {"result": names.pop("result", None)}
    except BaseException as error:
        answer = {"error": type(error).__name__, "text": str(error)}
    print(json.dumps(answer), flush=True)
"""


class Failed(Exception):
    """What the client raised: its type's name, its text."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name, self.text = name, text


class Client:
    """One process; `do` hands it statements and gives back what they left in `result`."""

    def __init__(self, plane: Plane, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", LOOP],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=plane.environment() | environment,
            text=True,
        )

    def do(self, source: str) -> Any:
        self.begin(source)
        return self.finish()

    def begin(self, source: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(source) + "\n")
        self.process.stdin.flush()

    def finish(self) -> Any:
        assert self.process.stdout is not None
        answer = json.loads(self.process.stdout.readline())
        if "error" in answer:
            raise Failed(answer["error"], answer["text"])
        return answer["result"]

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.process.kill()
        with self.process:
            pass


def command(
    plane: Plane, *words: str, folder: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """The real command line, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "modal", *words],
        env=plane.environment() | environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
