"""results pack: the submission folder, or the draft of one."""

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
        Path | None,
        typer.Option("--out", help="Folder to write (default: submission, or draft, beside the tables)."),
    ] = None,
    draft: typing.Annotated[
        bool, typer.Option("--draft", help="Write what there is while seeds are pending: no submission.")
    ] = False,
    name: typing.Annotated[
        str | None,
        typer.Option(
            "--name", help="Of the submission (default: name of [author] in golf.toml, else made of the recipe)."
        ),
    ] = None,
    as_json: typing.Annotated[bool, JSON] = False,
    debug: typing.Annotated[bool, DEBUG] = False,
) -> None:
    """Write the submission folder: README.md, submission.json, train_gpt.py, a log a seed, requirements.txt.

    Everything is computed from sealed attempts; 3 while a seed has none.
    With --draft: README.md and draft.json, with what is done and what is
    pending; a pending figure is never a number.
    """

    def run() -> int:
        found, project = opened(submission_id, runs_dir)
        if name is not None:
            from results.project import named

            project = named(project, name)
        if draft:
            from results.draft import DRAFT, is_done, write_draft

            folder = out or found.spec.folder / DRAFT
            written = write_draft(found, project, folder)
            pending = [row.seed for row in found.rows if not is_done(row)]
            if as_json:
                told = {"schema_version": 1, "folder": str(folder), "written": written, "draft": True}
                print(json.dumps(told | {"pending": pending}))
            else:
                print(f"pending: {', '.join(map(str, pending)) or 'none'}", file=sys.stderr)
                print(folder)
            return 0
        from results.pack import FOLDER, submission_facts
        from results.pack import pack as pack_submission

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
