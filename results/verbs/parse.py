"""results parse: what anybody's training logs say, each value with its line."""

import sys
import typing
from pathlib import Path

import typer

from results.verbs.shared import BACKEND, DEBUG, FORMATS, JSON, USAGE, chosen_form, guarded, terminal_width

FORMS = (*FORMATS, "html")
LOGS = (".log", ".txt")


def logs_of(paths: list[Path]) -> list[Path]:
    """The files, and of a folder those that are named like logs, in order."""
    found: list[Path] = []
    for path in paths:
        inside = sorted(one for one in path.iterdir() if one.suffix in LOGS) if path.is_dir() else []
        found += inside or [path]
    return found


def parse(
    files: typing.Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="Logs of any trainer of the race, or folders of them (*.log, *.txt).",
            show_default=False,
        ),
    ],
    form: typing.Annotated[str, typer.Option("--format", help="table, csv, md, html or json.")] = "table",
    as_json: typing.Annotated[bool, JSON] = False,
    debug: typing.Annotated[bool, DEBUG] = False,
) -> None:
    """Read training logs: seed, steps, times, sizes, the score of each stage and the one that the run claims.

    A value that the log does not tell, or tells in two ways, is left out with the reason; none is guessed.
    """
    form = chosen_form(form, as_json, FORMS)

    def run() -> int:
        from results.parse.reader import parse_file
        from results.parse.table import parsed_json, parsed_table

        found, code = [], 0
        for path in logs_of(files):
            try:
                runs = parse_file(path)
            except OSError as error:
                print(f"{path}: {error.strerror or error}; name a log file or a folder of logs", file=sys.stderr)
                code = USAGE if isinstance(error, FileNotFoundError | IsADirectoryError) else BACKEND
                continue
            found += runs
            if not any(run.evidence for run in runs):
                print(f"{path}: no training run is in it", file=sys.stderr)
        if not found:
            return code
        if form == "json":
            print(parsed_json(found), end="")
        else:
            width = terminal_width() if form == "table" else None
            print(parsed_table(found).render(form, width), end="")
        return code

    guarded(run, debug)
