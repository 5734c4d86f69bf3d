"""Attempts that go on on a cluster while nobody controls their submission: cancelled from its head.

A controller that is killed with its job leaves them running, for the next one to find. Where none is wanted, they end
here, and not only at their last deadline.
"""

import contextlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from golf_core.rundir import SEAL, RunDirError, read_json
from orchestrator.attempts import NODE, folders_of, inspect
from orchestrator.backends.base import Backend, BackendError, Handle, Unavailable
from orchestrator.case import lease_of_submission
from orchestrator.cluster.options import ClusterOptions
from orchestrator.errors import BackendFailure
from orchestrator.ledger.store import Ledger
from orchestrator.registered import meant, runs_of, spec_of

PATIENCE = 60.0  # seconds for their processes to end


def cancel_abandoned(state: Path, name: str | None, seeds: Sequence[int] | None) -> None:
    """Of a submission, or of a grid. What somebody drives is left to that one. Raises BackendFailure where an attempt
    did not end."""
    with Ledger.open(state) as ledger, contextlib.ExitStack() as held:
        folders: list[Path] = []
        for sid in meant(ledger, name):
            runs = [run for run in runs_of(spec_of(state, sid)) if seeds is None or run[0] in seeds]
            left = [
                folder for _, run_id in runs for number, folder in folders_of(state, run_id) if _open(folder, number)
            ]
            if left and (lease := ledger.acquire(lease_of_submission(sid))) is not None:
                held.callback(ledger.release, lease)
                data = {"seeds": [seed for seed, _ in runs]}
                ledger.append("cancel_requested", lease=lease, submission_id=sid, data=data)
                folders += left
        for attempt in _end([folder.name for folder in folders], state, folders[0]) if folders else ():
            print(f"cancelled {attempt}, which ran without a controller; the same submit goes on", file=sys.stderr)


def _open(folder: Path, number: int) -> bool:
    """Whether it was sent to a node, and nothing says that it has ended."""
    sent, sealed = (folder / NODE).exists(), (folder / SEAL).exists()
    return sent and not sealed and inspect(folder, number).state == "lost"


def _end(names: Sequence[str], state: Path, one: Path) -> list[str]:
    from orchestrator.backends.ray_cluster import RayClusterBackend

    try:
        node_dir = str(read_json(one / NODE)["node_dir"])
        backend = RayClusterBackend(state, ClusterOptions(state_dir=str(state), node_dir=node_dir))
    except (Unavailable, RunDirError, KeyError) as error:
        raise BackendFailure(f"attempts may still run on the cluster, and cannot be asked: {error}") from error
    try:
        handles = [handle for name in names if (handle := backend.find(name)) is not None]
        for handle in handles:
            backend.cancel(handle)
        _await(backend, handles)
        return [str(handle["attempt_id"]) for handle in handles]
    except BackendError as error:
        raise BackendFailure(str(error)) from error
    finally:
        backend.close()


def _await(backend: Backend, handles: Sequence[Handle]) -> None:
    until = time.monotonic() + PATIENCE
    while left := [str(handle["attempt_id"]) for handle in handles if not backend.poll(handle).over]:
        if time.monotonic() > until:
            raise BackendFailure(f"{', '.join(left)} did not end within {PATIENCE:g} s")
        time.sleep(0.2)
