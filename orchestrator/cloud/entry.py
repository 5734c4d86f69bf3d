"""What `modal run jobs/train.py` does with its flags: those of `python -m orchestrator submit`, on Modal.

A run that costs money needs a budget, and giving one here is the agreement to it: there is no question.
"""

import os
import re
import sys
import typing
from collections.abc import Sequence
from pathlib import Path

from orchestrator.backends import MODAL
from orchestrator.cloud.access import check_access, read_access
from orchestrator.errors import USAGE, CommandError

FIXED = ("--on", MODAL, "--yes")
OURS = "python -m orchestrator submit"  # whose flags these are: Modal's own --help tells Modal's
TRAIN = re.compile(r"(^|[/.])train(\.py)?(::\w+)?$")


def submit(flags: Sequence[str]) -> None:
    """Ends the process, as the command does."""
    import typer  # a container that imports the app's file needs none of this

    from orchestrator.cli import app

    if (foreign := elsewhere(flags)) is not None:
        print(f"error: {foreign}: `modal run` is on Modal; `{OURS}` goes elsewhere", file=sys.stderr)
        sys.exit(USAGE)
    command = typing.cast(typer.core.TyperGroup, typer.main.get_command(app)).commands["submit"]
    command.main([*FIXED, *flags], prog_name=OURS)


def elsewhere(flags: Sequence[str]) -> str | None:
    """The flag, with its value, that names another place than Modal.

    >>> elsewhere(["--seeds", "1", "--on", "modal", "--address=auto"]), elsewhere(["--on=modal"])
    ('--address=auto', None)
    """
    for number, flag in enumerate(flags):
        name, equals, value = flag.partition("=")
        value = value if equals else next(iter(flags[number + 1 :]), "")
        if name == "--address" or (name == "--on" and value != MODAL):
            return flag if equals else f"{name} {value}".rstrip()
    return None


def begin_quietly(argv: Sequence[str], original: Sequence[str], terminal: bool) -> None:
    """Begin `modal run` again with its own -q where it would write over what is shown here, or into what a program is
    to read. Before anything was begun; it has the same process id."""
    if (command := quietly(argv, original, terminal)) is not None:
        os.execv(sys.executable, [sys.executable, *command[1:]])


def quietly(argv: Sequence[str], original: Sequence[str], terminal: bool) -> list[str] | None:
    """The same command with -q; None where it is to stay as it is. `original`: from the interpreter on.

    >>> quietly(["/bin/modal", "run", "jobs/train.py", "--json"], ["py", "/bin/modal", "run", "jobs/train.py"], False)
    ['py', '/bin/modal', 'run', '-q', 'jobs/train.py']
    """
    if not is_modal_command(argv, "run"):
        return None
    file = next((n for n, word in enumerate(argv) if n > 1 and TRAIN.search(word)), len(argv))
    theirs, ours = argv[2:file], argv[file + 1 :]
    if any(word in ("-q", "--quiet", "-i", "--interactive") for word in theirs):
        return None
    if not terminal and not any(word in ("-q", "--quiet", "--json") for word in ours):
        return None
    run = list(original).index("run")
    return [*original[: run + 1], "-q", *original[run + 1 :]]


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
