"""What `modal run jobs/train.py` does with its flags: those of `python -m orchestrator submit`, on Modal.

A run that costs money needs a budget, and giving one here is the agreement to it: there is no question.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from orchestrator.cloud.access import check_access, read_access
from orchestrator.errors import CommandError

FIXED = ("--on", "modal", "--yes")


def submit(flags: Sequence[str]) -> None:
    """Ends the process, as the command does."""
    import typer  # a container that imports the app's file needs none of this

    from orchestrator.cli import app

    typer.main.get_command(app).main(["submit", *FIXED, *flags], prog_name="modal run jobs/train.py")


def check_before_client(argv: Sequence[str]) -> None:
    """Where Modal's own command line reads the file of an app: end it at once where it could not reach its server, or
    has no token. It would try for a minute."""
    if not is_modal_command(argv, "run", "deploy", "serve"):
        return
    try:
        check_access(read_access(os.environ, Path.home()))
    except CommandError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def is_modal_command(argv: Sequence[str], *verbs: str) -> bool:
    """Whether this process is Modal's own command line, with one of these verbs.

    >>> [is_modal_command([program, "run", "app.py"], "run", "deploy") for program in ("/usr/bin/modal", "pytest")]
    [True, False]
    """
    program = Path(argv[0]) if argv else Path()
    ours = program.name == "modal" or program.parts[-2:] == ("modal", "__main__.py")
    return ours and any(word in verbs for word in argv[1:2])
