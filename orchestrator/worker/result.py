"""result.json of an attempt that could not be begun where it was sent."""

import typing

from golf_core.rundir import SCHEMA_VERSION
from orchestrator.attempts import now_utc


def refusal(cls: str, stage: str, message: str) -> dict[str, typing.Any]:
    """result.json of an attempt that its node could not begin."""
    now = now_utc()
    return {
        "schema_version": SCHEMA_VERSION,
        "outcome": "failed",
        "class": cls,
        "stage": stage,
        "message": message,
        "exit_code": None,
        "train_seconds": None,
        "evaluate_seconds": None,
        "started_at": now,
        "ended_at": now,
        "worker_seconds": 0.0,
    }
