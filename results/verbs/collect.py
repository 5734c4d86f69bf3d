"""results collect: the tables of one submission, of several side by side, or of all, from their sealed attempts."""

import dataclasses
import json
import sys
import typing
from collections.abc import Sequence
from pathlib import Path

import typer

from results.verbs.shared import (
    BACKEND,
    DEBUG,
    FORMATS,
    JSON,
    RUNS_DIR,
    USAGE,
    chosen_form,
    code_of,
    filled,
    guarded,
    opened,
    terminal_width,
)

if typing.TYPE_CHECKING:
    from results.collect import Collected
    from results.overview import Overview
    from results.project import Project
    from results.tables import Table

TABLES = ("seeds", "ablation", "leaderboard")
FORMS = (*FORMATS, "html")


def collect(
    submissions: typing.Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SUBMISSION",
            help="Ids, or their first digits. One gives its seed table, several an ablation table.",
            show_default=False,
        ),
    ] = None,
    everything: typing.Annotated[
        bool, typer.Option("--all", help="All submissions of the runs folder: writes results.csv there.")
    ] = False,
    table: typing.Annotated[
        str | None, typer.Option(help="seeds, ablation or leaderboard.", show_default=False)
    ] = None,
    base: typing.Annotated[
        str | None,
        typer.Option(
            help="Base row of the ablation: id or recipe (default: the grid's first, else the first given).",
            show_default=False,
        ),
    ] = None,
    runs_dir: typing.Annotated[Path | None, RUNS_DIR] = None,
    form: typing.Annotated[str, typer.Option("--format", help="table, csv, md, html or json.")] = "table",
    as_json: typing.Annotated[bool, JSON] = False,
    rehash: typing.Annotated[
        bool, typer.Option(help="Read every file again, those too that nothing touched since they were hashed.")
    ] = False,
    debug: typing.Annotated[bool, DEBUG] = False,
) -> None:
    """Write results.csv, scores.csv and table.md from sealed attempts, and print a table.

    Exit code 1 where a run failed, 3 where one is missing or its log tells no score, of --all too; 5 where damaged.
    """
    form = chosen_form(form, as_json, FORMS)
    ids = submissions or []
    if wrong := _wrong(ids, everything, table, base):
        print(wrong, file=sys.stderr)
        sys.exit(USAGE)

    def run() -> int:
        if everything:
            return _all(runs_dir, table, base, form, rehash)
        if len(ids) == 1 and table is None and base is None:
            return _one(ids[0], runs_dir, form, rehash)
        return _several(ids, runs_dir, table, base, form, rehash)

    guarded(run, debug)


def _wrong(ids: Sequence[str], everything: bool, table: str | None, base: str | None) -> str | None:
    if table is not None and table not in TABLES:
        return f"--table {table!r} is not known; there are {', '.join(TABLES)}"
    if everything == bool(ids):
        return "name submissions, or --all of the runs folder" + (", not both" if ids else "")
    if base is not None and table not in (None, "ablation"):
        return f"--base is of the ablation table, not of --table {table}"
    if table == "seeds" and (everything or len(ids) > 1):
        return "--table seeds is of one submission; for several take ablation, or --all --format csv with a row a seed"
    return None


def _one(submission_id: str, runs_dir: Path | None, form: str, rehash: bool) -> int:
    from results.outputs import csv_text, write_outputs
    from results.tables import line_of_row, plain_table, report, seed_table, title_of

    found, _ = opened(submission_id, runs_dir)
    text = write_outputs(found)
    _overview(found.spec.runs_dir, [found], rehash)
    if form == "json":
        print(json.dumps(collected_object(found), indent=1, ensure_ascii=False))
    elif form == "csv":
        print(csv_text(found.rows), end="")
    elif form == "html":
        lines = [line_of_row(row) for row in found.rows]
        print(seed_table(lines, title_of(found.spec, found.rows)).page(), end="")
    else:
        width = terminal_width()
        shown = report(
            found.spec,
            found.rows,
            found.gates,
            [],
            lambda cells: plain_table(cells, width),
            lambda words: filled(words, width),
        )
        print(text if form == "md" else shown, end="")
    return code_of([found])


def _several(
    ids: Sequence[str], runs_dir: Path | None, table: str | None, base: str | None, form: str, rehash: bool
) -> int:
    from results.outputs import write_outputs
    from results.overview import read
    from results.project import load_project
    from results.spec import find_submission

    project = load_project()
    folder = runs_dir or Path(project.runs_dir)
    folders = [find_submission(folder, one) for one in ids]
    for twice in dict.fromkeys(path for path in folders if folders.count(path) > 1):
        told = f"{twice.name} is given {folders.count(twice)} times: it is one submission, and counts once"
        print(told, file=sys.stderr)
    folders = list(dict.fromkeys(folders))
    if len(folders) == 1 and len(ids) > 1 and table is None and base is None:
        return _one(folders[0].name, folder, form, rehash)
    read_all = [read(one) for one in folders]
    if base is not None and (taken := _taken_along(base, read_all, folder)) is not None:
        read_all.insert(0, taken)
    found = [one for one in read_all if not isinstance(one, str)]
    for one in found:
        write_outputs(one)
        for note in one.notes:
            print(note, file=sys.stderr)
    _overview(folder, found, rehash)
    made = _table_of(found, table or "ablation", base, project, folder)
    print(_told(made, [one for one in read_all if isinstance(one, str)]).render(form, terminal_width()), end="")
    return code_of(found) if len(found) == len(read_all) else BACKEND


def _taken_along(base: str, named: "Sequence[Collected | str]", folder: Path) -> "Collected | str | None":
    """The submission that --base names by id, where it is none of the named ones."""
    from results.overview import read
    from results.spec import UnknownSubmission, find_submission
    from results.tables.variants import base_of

    try:
        base_of([one.rows for one in named if not isinstance(one, str)], base)
    except UnknownSubmission as error:
        try:
            return read(find_submission(folder, base))
        except UnknownSubmission:
            raise error from None
    return None


def _all(runs_dir: Path | None, table: str | None, base: str | None, form: str, rehash: bool) -> int:
    from results.outputs import csv_text
    from results.project import load_project
    from results.rows import as_objects
    from results.tables.figures import visible

    project = load_project()
    folder = runs_dir or Path(project.runs_dir)
    overview = _overview(folder, [], rehash)
    if table is None and base is None and form == "csv":
        print(csv_text(overview.rows), end="")
    elif table is None and base is None and form == "json":
        told = {"schema_version": 1, "rows": as_objects(overview.rows), "problems": overview.problems}
        print(json.dumps(told, indent=1, ensure_ascii=False, allow_nan=False))
    else:
        made = _table_of(overview.found, table or ("ablation" if base else None), base, project, folder, whole=True)
        print(_told(made, overview.problems).render(form, terminal_width()), end="")
    for problem in overview.problems[len(overview.unreadable) :]:
        print(visible(problem), file=sys.stderr)
    return BACKEND if overview.problems else code_of(overview.found)


def _overview(folder: Path, known: "Sequence[Collected]", rehash: bool) -> "Overview":
    """Look at all submissions, write results.csv over them, and say what could not be read."""
    from results.overview import look_at_all, write_overview
    from results.tables.figures import visible

    overview = look_at_all(folder, known, rehash)
    if folder.is_dir():
        write_overview(folder, overview)
    for problem in overview.unreadable:
        print(f"left out of {folder / 'results.csv'}: {visible(problem)}", file=sys.stderr)
    return overview


def _table_of(
    found: "Sequence[Collected]",
    table: str | None,
    base: str | None,
    project: "Project",
    folder: Path,
    whole: bool = False,
) -> "Table":
    from results.spec import UnknownSubmission
    from results.tables.ablation import ablation_table, submissions_table
    from results.tables.leaderboard import leaderboard_table
    from results.tables.seeds import line_of_row, seed_table
    from results.tables.submission import title_of
    from results.tables.variants import base_of

    if table == "leaderboard":
        return leaderboard_table(found, project)
    if table == "seeds":
        return seed_table([line_of_row(row) for row in found[0].rows], title_of(found[0].spec, found[0].rows))
    variants = [one.rows for one in found]
    if table is None or not found:
        return submissions_table(variants, f"All submissions of {folder}")
    if (place := base_of(variants, base)) is None:
        if whole:
            raise UnknownSubmission(
                "the submissions are not of one grid; name the row to hold them against with --base"
            )
        place = 0
    return ablation_table(variants, place)


def _told(table: "Table", problems: Sequence[str]) -> "Table":
    """The table with what is not in it."""
    return dataclasses.replace(table, notes=[*table.notes, *(f"Damaged: {problem}" for problem in problems)])


def collected_object(found: "Collected") -> dict[str, typing.Any]:
    from results.rows import as_objects
    from results.tables import spread, unscored

    return {
        "schema_version": 1,
        "submission_id": found.spec.submission_id,
        "target_class": found.spec.target_class,
        "policy": found.spec.policy_name,
        "finished": found.finished and not unscored(found.rows),
        "diagnostic_only": found.diagnostic_only,
        "published": found.spec.published,
        "rows": as_objects(found.rows),
        "val_bpb": spread([row.val_bpb for row in found.rows]),
        "gates": [gate.to_dict() for gate in found.gates],
        "notes": found.notes,
        "other_seeds": [one.to_dict() for one in found.others],
    }
