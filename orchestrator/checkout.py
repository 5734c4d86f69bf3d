"""Where the code of this project lies, and how other processes of ours find it."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def python_path(given: str | None) -> str:
    """The PYTHONPATH of a process that runs modules of ours, wherever it stands. `given`: the one it would have."""
    return os.pathsep.join(filter(None, [str(ROOT), given]))


def own_environment() -> dict[str, str]:
    """Our environment, for such a process."""
    return dict(os.environ) | {"PYTHONPATH": python_path(os.environ.get("PYTHONPATH"))}
