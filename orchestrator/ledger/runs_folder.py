"""What of a runs folder is ours by its content: submissions and attempts whose names follow from what they hold."""

import typing
from pathlib import Path

from golf_core.rundir import RUN, RunDirError, content_id, read_json
from orchestrator.attempts import ATTEMPTS
from orchestrator.spec import SUBMISSION_DIGITS, attempt_id

SPEC_FILE = "spec.json"


def submissions_in(runs_dir: Path) -> list[dict[str, typing.Any]]:
    """Every spec.json whose submission id is that of its runs and its folder, the oldest first."""
    found = []
    for path in sorted(runs_dir.glob("[0-9a-f]" * SUBMISSION_DIGITS + "/" + SPEC_FILE)):
        try:
            spec = read_json(path)
            whole = content_id([run["run_id"] for run in spec["runs"]])
        except (RunDirError, KeyError, TypeError):
            continue
        if spec.get("submission_id") == whole and path.parent.name == whole[:SUBMISSION_DIGITS]:
            found.append(spec)
    return sorted(found, key=lambda spec: str(spec.get("registered_at")))


def attempts_in(runs_dir: Path) -> list[tuple[Path, dict[str, typing.Any]]]:
    """Every attempt folder with its run.json, where that names the folder."""
    found = []
    for folder in sorted((runs_dir / ATTEMPTS).glob("[0-9a-f]*-a*")):
        try:
            asked = read_json(folder / RUN)
            if folder.name == attempt_id(asked["run_id"], asked["attempt"]):
                found.append((folder, asked))
        except (RunDirError, KeyError, TypeError):
            continue
    return found


def is_ours(runs_dir: Path) -> bool:
    return bool(submissions_in(runs_dir) or attempts_in(runs_dir))
