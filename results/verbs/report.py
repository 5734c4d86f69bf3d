"""results report: one self-contained HTML page of one submission, or of several side by side."""

import contextlib
import json
import sys
import typing
from collections.abc import Iterator
from pathlib import Path

import typer

from results.verbs.shared import DEBUG, JSON, RUNS_DIR, USAGE, chosen_form, code_of, guarded

FORMS = ("html", "json")


@contextlib.contextmanager
def naming(option: str, place: Path) -> Iterator[None]:
    """An error of writing there says which option names another place."""
    try:
        yield
    except OSError as error:
        raise OSError(
            f"{place} cannot be written ({error.strerror or error}); name another place with {option}"
        ) from None


def _check_places(out: Path | None, charts: Path | None) -> None:
    """Leaves with the exit code of usage where a file is to be a folder, or the other way round."""
    if out is not None and out.is_dir():
        print(f"--out {out} is a folder; name a file, such as {out / 'report.html'}", file=sys.stderr)
        sys.exit(USAGE)
    if charts is not None and charts.exists() and not charts.is_dir():
        print(f"--charts {charts} is a file; name a folder, which need not be there", file=sys.stderr)
        sys.exit(USAGE)


def report(
    submissions: typing.Annotated[
        list[str],
        typer.Argument(
            metavar="SUBMISSION",
            help="Ids of submissions, or their first digits. The first is what the others are held against.",
            show_default=False,
        ),
    ],
    runs_dir: typing.Annotated[Path | None, RUNS_DIR] = None,
    out: typing.Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="File to write (default: report.html beside the tables; of several, in the folder of runs).",
            show_default=False,
        ),
    ] = None,
    charts: typing.Annotated[
        Path | None,
        typer.Option("--charts", help="Folder for each chart as SVG and PNG (default: none).", show_default=False),
    ] = None,
    form: typing.Annotated[str, typer.Option("--format", help="html, or json: what the page says.")] = "html",
    as_json: typing.Annotated[bool, JSON] = False,
    debug: typing.Annotated[bool, DEBUG] = False,
) -> None:
    """Write one HTML page: verdict, tables, charts. The page loads nothing and needs no network."""
    form = chosen_form(form, as_json, FORMS)
    _check_places(out, charts)

    def run() -> int:
        from results.project import load_project
        from results.report.make import REPORT, charts_of, drawings_of, report_object, write_charts, write_page
        from results.report.subject import load_subjects
        from results.spec import find_submission

        folder = runs_dir or Path(load_project().runs_dir)
        found = [find_submission(folder, one) for one in dict.fromkeys(submissions)]
        subjects = load_subjects(list(dict.fromkeys(found)))
        for note in (note for one in subjects for note in one.found.notes):
            print(note, file=sys.stderr)
        specified = charts_of(subjects)
        path = out or (None if form == "json" else (found[0] if len(subjects) == 1 else folder) / REPORT)
        drawings = {} if path is None and charts is None else drawings_of(specified)
        if charts is not None:
            with naming("--charts", charts):
                for written in write_charts(drawings, charts):
                    print(written, file=sys.stderr)
        if path is not None:
            with naming("--out", path):
                write_page(subjects, specified, drawings, path)
        told = report_object(subjects, specified) if form == "json" else {}
        print(json.dumps(told, indent=1, ensure_ascii=False, allow_nan=False) if form == "json" else path)
        return code_of([one.found for one in subjects])

    guarded(run, debug)
