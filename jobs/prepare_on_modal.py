"""What `modal run jobs/prepare_data.py` runs."""

import sys

import modal

from jobs.prepare_data import MODAL
from jobs.prepare_data import app as command
from orchestrator.cloud.entry import check_before_client

check_before_client(sys.argv)
app = modal.App("parameter-golf-data")


@app.local_entrypoint()
def modal_run(*flags: str) -> None:
    """Fill Modal's data volume: every flag of `python jobs/prepare_data.py --on modal`."""
    command(["--on", MODAL, *flags], prog_name="modal run jobs/prepare_data.py")
