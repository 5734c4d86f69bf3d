"""results collect: the tables of a submission, from its sealed attempts."""

import json
import sys
import typing
from pathlib import Path

import typer

from results.verbs.shared import (
    DEBUG,
    FAILED,
    FORMATS,
    JSON,
    NOT_FINISHED,
    RUNS_DIR,
    SUBMISSION_ID,
    USAGE,
    guarded,
    opened,
)

if typing.TYPE_CHECKING:
    from results.collect import Collected


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
