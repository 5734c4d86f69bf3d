"""What the verbs of the command line share: exit codes, options, and how an error becomes one line."""

import os
import shutil
import sys
import textwrap
import traceback
import typing
from collections.abc import Callable, Sequence
from pathlib import Path

import typer

if typing.TYPE_CHECKING:
    from results.collect import Collected
    from results.project import Project

EXIT_CODES = (
    "Exit codes: 0 ok; 1 a run failed; 2 usage; 3 not finished; 4 a gate failed, or a claim is not supported or "
    "not known; 5 files damaged or not writable; 130 interrupted."
)
FAILED, USAGE, NOT_FINISHED, GATE, BACKEND = 1, 2, 3, 4, 5
BROKEN_PIPE = 141  # 128 and SIGPIPE: what a shell shows of any command whose reader has gone
FORMATS = ("table", "csv", "md", "json")

SUBMISSION_ID = typer.Argument(
    metavar="SUBMISSION", help="Id of the submission, or its first digits.", show_default=False
)
RUNS_DIR = typer.Option(
    "--runs-dir",
    envvar="GOLF_RUNS_DIR",
    help="Folder of runs (default: runs_dir of golf.toml, else runs).",
    show_default=False,
)
FRONTIER = typer.Option(
    "--frontier", help="Date of a frontier, or a TOML file of rows. Without it the policy's.", show_default=False
)
JSON = typer.Option("--json", help="Print JSON with schema_version.")
DEBUG = typer.Option("--debug", help="Show the trace of an error.")


def guarded(command: Callable[[], int], debug: bool) -> typing.NoReturn:
    """Run a command and leave with its exit code; known errors become one line and theirs."""
    from golf_core.rundir import RunDirError
    from results.pack import NoScore, NotFinished
    from results.project import ProjectError
    from results.spec import UnknownSubmission
    from results.whole_folder import PackError

    codes: tuple[tuple[type[BaseException], int], ...] = (
        (UnknownSubmission, USAGE),
        (ProjectError, USAGE),
        (NotFinished, NOT_FINISHED),
        (NoScore, GATE),
        (PackError, USAGE),
        (RunDirError, BACKEND),
        (OSError, BACKEND),
    )
    try:
        code = command()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is flushed at the end
        code = BROKEN_PIPE
    except tuple(error for error, _ in codes) as error:
        if debug:
            traceback.print_exc()
        print(error, file=sys.stderr)
        code = next(code for kind, code in codes if isinstance(error, kind))
    sys.exit(code)


def chosen_form(form: str, as_json: bool, forms: Sequence[str]) -> str:
    """What --format says, or json where --json stands; leaves with the exit code of usage where there is none such."""
    form = "json" if as_json else form
    if form not in forms:
        print(f"--format {form!r} is not known; there are {', '.join(forms)}", file=sys.stderr)
        sys.exit(USAGE)
    return form


def terminal_width() -> int | None:
    """Columns of the terminal, or of COLUMNS; None where what is printed goes elsewhere."""
    return shutil.get_terminal_size((0, 0)).columns or None


def filled(text: str, width: int | None, indent: str = "") -> str:
    """A paragraph in lines of the width; words that are longer, such as paths, are kept whole."""
    if width is None:
        return text
    room = max(width, 2 * len(indent))
    return textwrap.fill(text, room, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)


def code_of(found: "Sequence[Collected]") -> int:
    """1 where a run failed, else 3 where one is missing or its log tells no score, else 0."""
    from results.tables.seeds import unscored

    if any(one.failed for one in found):
        return FAILED
    return 0 if all(one.finished and not unscored(one.rows) for one in found) else NOT_FINISHED


def opened(submission_id: str, runs_dir: Path | None) -> "tuple[Collected, Project]":
    from results.collect import collect as collect_submission
    from results.project import load_project
    from results.spec import find_submission

    project = load_project()
    folder = find_submission(runs_dir or Path(project.runs_dir), submission_id)
    found = collect_submission(folder)
    for note in found.notes:
        print(note, file=sys.stderr)
    return found, project
