"""The command line of results: collect, pack, verify. Data to stdout, messages to stderr.

What needs pandas is imported when a command runs, so that --help is immediate.
"""

import io
import json
import sys
import traceback
import typing
from collections.abc import Callable
from pathlib import Path

import typer

if typing.TYPE_CHECKING:
    from results.collect import Collected
    from results.project import Project

EXIT_CODES = (
    "Exit codes: 0 ok; 1 a run failed; 2 usage; 3 not finished; 4 a gate failed or a number is not supported; "
    "5 files damaged or not writable; 130 interrupted."
)
FAILED, USAGE, NOT_FINISHED, GATE, BACKEND = 1, 2, 3, 4, 5
FORMATS = ("table", "csv", "md", "json")

app = typer.Typer(
    name="python -m results",
    help="From sealed attempts to tables and a submission folder. " + EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

SUBMISSION_ID = typer.Argument(help="Id of the submission, or its first digits.", show_default=False)
RUNS_DIR = typer.Option(
    "--runs-dir",
    envvar="GOLF_RUNS_DIR",
    help="Folder of runs [default: runs_dir of golf.toml, else runs].",
    show_default=False,
)
JSON = typer.Option("--json", help="Print JSON with schema_version.")
DEBUG = typer.Option("--debug", help="Show the trace of an error.")


def guarded(command: Callable[[], int], debug: bool) -> typing.NoReturn:
    """Run a command and leave with its exit code; known errors become one line and theirs."""
    from golf_core.rundir import RunDirError
    from results.pack import NotFinished, PackError
    from results.project import ProjectError
    from results.spec import UnknownSubmission

    codes: tuple[tuple[type[BaseException], int], ...] = (
        (UnknownSubmission, USAGE),
        (ProjectError, USAGE),
        (NotFinished, NOT_FINISHED),
        (PackError, USAGE),
        (RunDirError, BACKEND),
        (OSError, BACKEND),
    )
    try:
        code = command()
    except tuple(error for error, _ in codes) as error:
        if debug:
            traceback.print_exc()
        print(error, file=sys.stderr)
        code = next(code for kind, code in codes if isinstance(error, kind))
    sys.exit(code)


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


@app.command(epilog=EXIT_CODES)
def collect(
    submission_id: typing.Annotated[str, SUBMISSION_ID],
    runs_dir: typing.Annotated[Path | None, RUNS_DIR] = None,
    form: typing.Annotated[str, typer.Option("--format", help="table, csv, md or json.")] = "table",
    as_json: typing.Annotated[bool, JSON] = False,
    debug: typing.Annotated[bool, DEBUG] = False,
) -> None:
    """Write results.csv, scores.csv and table.md from sealed attempts, and print the table."""
    form = "json" if as_json else form
    if form not in FORMATS:
        print(f"--format {form!r} is not known; there are {', '.join(FORMATS)}", file=sys.stderr)
        sys.exit(USAGE)

    def run() -> int:
        from results.outputs import csv_text, write_outputs, write_overview
        from results.tables import plain_table, report

        found, _ = opened(submission_id, runs_dir)
        text = write_outputs(found)
        for problem in write_overview(found.spec.runs_dir, found):
            print(problem, file=sys.stderr)
        if form == "json":
            print(json.dumps(collected_object(found), indent=1, ensure_ascii=False))
        elif form == "csv":
            print(csv_text(found.rows), end="")
        else:
            table = report(found.spec, found.rows, found.gates, [], plain_table)
            print(text if form == "md" else table, end="")
        return FAILED if found.failed else 0 if found.finished else NOT_FINISHED

    guarded(run, debug)


def collected_object(found: "Collected") -> dict[str, typing.Any]:
    from results.rows import as_objects
    from results.tables import spread

    return {
        "schema_version": 1,
        "submission_id": found.spec.submission_id,
        "target_class": found.spec.target_class,
        "policy": found.spec.policy_name,
        "finished": found.finished,
        "diagnostic_only": found.diagnostic_only,
        "published": found.spec.published,
        "rows": as_objects(found.rows),
        "val_bpb": spread([row.val_bpb for row in found.rows]),
        "gates": [gate.to_dict() for gate in found.gates],
        "notes": found.notes,
    }


@app.command(epilog=EXIT_CODES)
def pack(
    submission_id: typing.Annotated[str, SUBMISSION_ID],
    runs_dir: typing.Annotated[Path | None, RUNS_DIR] = None,
    out: typing.Annotated[
        Path | None, typer.Option("--out", help="Folder to write [default: submission, beside the tables].")
    ] = None,
    as_json: typing.Annotated[bool, JSON] = False,
    debug: typing.Annotated[bool, DEBUG] = False,
) -> None:
    """Write the submission folder: README.md, submission.json, train_gpt.py, a log a seed, requirements.txt."""

    def run() -> int:
        from results.pack import FOLDER, submission_facts
        from results.pack import pack as pack_submission

        found, project = opened(submission_id, runs_dir)
        folder = out or found.spec.folder / FOLDER
        written = pack_submission(found, project, folder)
        gaps = submission_facts(found, project)["gaps"]
        for gap in gaps:
            print(f"gap: {gap}", file=sys.stderr)
        if as_json:
            print(json.dumps({"schema_version": 1, "folder": str(folder), "written": written, "gaps": gaps}))
        else:
            print(folder)
        return 0

    guarded(run, debug)


@app.command(epilog=EXIT_CODES)
def verify(
    folder: typing.Annotated[Path, typer.Argument(help="A packed submission folder.", show_default=False)],
    runs_dir: typing.Annotated[Path | None, RUNS_DIR] = None,
    as_json: typing.Annotated[bool, JSON] = False,
    debug: typing.Annotated[bool, DEBUG] = False,
) -> None:
    """Derive every file and number of a packed folder again from its sealed attempts, and judge its gates."""

    def run() -> int:
        from golf_core.rundir import read_json
        from results.facts import Facts
        from results.pack import FOLDER, SUBMISSION
        from results.pack import verify as verify_folder
        from results.spec import SPEC
        from results.tables import gate_cells, plain_table

        if not (folder / SUBMISSION).exists() and (folder / SPEC).is_file():
            made = "" if (folder / FOLDER).is_dir() else f", once `python -m results pack {folder.name}` has made it"
            print(f"{folder} holds a submission's outputs; verify {folder / FOLDER}{made}", file=sys.stderr)
            return USAGE
        facts = Facts(read_json(folder / SUBMISSION), str(folder / SUBMISSION))
        found, _ = opened(facts.text("submission_id"), runs_dir)
        differences = verify_folder(found, folder)
        failed = [gate for gate in found.gates if gate.verdict != "pass"]
        if as_json:
            told = [{"place": one.place, "says": one.says, "evidence": one.evidence} for one in differences]
            gates = [gate.to_dict() for gate in found.gates]
            print(json.dumps({"schema_version": 1, "unsupported": told, "gates": gates}, indent=1, ensure_ascii=False))
        else:
            for one in differences:
                print(f"not supported: {one.place} says {one.says!r}, the evidence {one.evidence!r}")
            print(plain_table(gate_cells(found.gates)), end="")
            print(f"{len(differences)} not supported, {len(failed)} gates not passed")
        return GATE if differences or failed else 0

    guarded(run, debug)


def main() -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without the sign for plus or minus shows the rest
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
