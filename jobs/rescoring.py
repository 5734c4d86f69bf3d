"""The app that scores a sealed artifact again, in a container like the one that trained it.

Imported once the command knows what the attempt ran on (jobs/on_modal.py), and by the container.
"""

import os
import typing
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import modal

from golf_core.rundir import RunDirError
from orchestrator.backends.modal_app import declaration, runs_volume
from orchestrator.cloud.options import RUNS_MOUNT, AppOptions
from orchestrator.cloud.rescore import RescoreError, rescore
from orchestrator.cluster.node_data import DataUnfit

SCRATCH = Path("/tmp/golf")

app = modal.App("parameter-golf-evaluate")


@app.function(**declaration(AppOptions.from_environment(os.environ)))
def evaluate(attempt: str, artifact: str | None, target: Mapping[str, typing.Any] | None) -> dict[str, typing.Any]:
    """What orchestrator/cloud/rescore.py tells; {"error": ...} where it cannot begin."""
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    try:
        return rescore(Path(RUNS_MOUNT), attempt, artifact, target, SCRATCH, now)
    except (RescoreError, DataUnfit, RunDirError, OSError) as error:
        return {"error": str(error)}
    finally:
        runs_volume().commit()
