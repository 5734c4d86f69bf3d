"""Where a submission runs: on this machine, or on the cluster that it was sent to.

Where nobody names an address, the ledger of the runs folder knows where the submission went.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.errors import UsageError
from orchestrator.ledger.store import FILE, Ledger
from orchestrator.registered import grids, meant
from orchestrator.settings import Settings

REMOTE = "remote_controller"  # the event that says so


@dataclass(frozen=True)
class Place:
    """A submission on a cluster. `submission`: a prefix of its id, or a grid's name; None for the latest there."""

    url: str
    state_dir: str
    submission: str | None
    source: str  # of the address
    here: bool  # whether this runs folder knows it


def place_of(settings: Settings, prefix: str | None) -> Place | None:
    """Where the submission, or the grid, that is meant runs; None: it is one of this machine."""
    runs_dir = Path(settings["runs_dir"])
    source = settings.source("address")
    if source == "--address":
        return Place(settings["address"], settings["state_dir"], prefix, source, False)
    if (runs_dir / FILE).exists():
        with Ledger.open(runs_dir) as ledger:
            try:
                sid = meant(ledger, prefix)[0]
            except UsageError:
                if settings["address"] is None:
                    raise
            else:
                found, a_grid = remembered(ledger, sid), prefix in grids(ledger)
                return replace(found, submission=prefix) if found is not None and a_grid else found
    if settings["address"] is None:
        return None
    return Place(settings["address"], settings["state_dir"], prefix, source, False)


def remembered(ledger: Ledger, submission_id: str) -> Place | None:
    sent = [event for event in ledger.events(submission_id=submission_id, kind=REMOTE) if event.origin is None]
    if not sent:
        return None
    data = sent[-1].data
    return Place(str(data["address"]), str(data["state_dir"]), submission_id, "the ledger", True)
