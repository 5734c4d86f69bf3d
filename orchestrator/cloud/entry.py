"""What `modal run jobs/train.py` does with its flags: those of `python -m orchestrator submit`, on Modal.

A run that costs money needs a budget, and giving one here is the agreement to it: there is no question.
"""

from collections.abc import Sequence

import typer

from orchestrator.cli import app

FIXED = ("--on", "modal", "--yes")


def submit(flags: Sequence[str]) -> None:
    """Ends the process, as the command does."""
    typer.main.get_command(app).main(["submit", *FIXED, *flags], prog_name="modal run jobs/train.py")
