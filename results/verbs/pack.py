"""results pack: the submission folder."""

import json
import sys
import typing
from pathlib import Path

import typer

from results.verbs.shared import DEBUG, JSON, RUNS_DIR, SUBMISSION_ID, guarded, opened


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
