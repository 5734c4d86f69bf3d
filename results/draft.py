"""The draft of a submission whose seeds are not all done: what is there, what is pending. Never a submission.

A folder of its own with README.md, which says so on top, and draft.json. A figure that waits for a seed is the word
"pending" in both, never a number: no mean of the seeds that happen to be done can be taken for the registered one.
"""

import json
import typing
from pathlib import Path

from results.collect import Collected
from results.pack import README, SUBMISSION, refuse_diagnostic, seed_facts
from results.project import Project
from results.rows import Row
from results.tables import LEGEND, SIMULATED, markdown_table, seed_cells
from results.untrusted import Folder, plain
from results.whole_folder import GENERATOR, fingerprint, write_whole

DRAFT = "draft"  # the folder, and the key that marks its document
DRAFT_JSON = "draft.json"
BANNER = "DRAFT"
PENDING = "pending"


def is_done(row: Row) -> bool:
    return row.counted and row.val_bpb is not None


def draft_files(found: Collected, project: Project) -> dict[str, bytes]:
    """README.md and draft.json. Raises PackError for a diagnostic run, which is no draft of anything."""
    refuse_diagnostic(found)
    files = {README: _readme(found, project).encode()}
    facts = _facts(found, project) | {"files": {name: fingerprint(data) for name, data in files.items()}}
    files[DRAFT_JSON] = json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    return files


def write_draft(found: Collected, project: Project, out: Path) -> bool:
    """Write the folder whole or not at all; False where it was there already, byte for byte."""
    return write_whole(out, draft_files(found, project), DRAFT_JSON, found.spec.submission_id)


def _facts(found: Collected, project: Project) -> dict[str, typing.Any]:
    spec = found.spec
    open_rows = [row for row in found.rows if not is_done(row)]
    return {
        DRAFT: True,
        "schema_version": 1,
        "name": project.name or " ".join([spec.recipe, *spec.overrides]),
        "submission_id": spec.submission_id,
        "generated_by": GENERATOR,
        "seeds": [row.seed for row in found.rows],
        "done": [row.seed for row in found.rows if is_done(row)],
        PENDING: [row.seed for row in open_rows],
        "status": {str(row.seed): _status(row) for row in found.rows},
        "val_bpb": PENDING,
        "val_loss": PENDING,
        "seed_results": {str(row.seed): seed_facts(row) if is_done(row) else PENDING for row in found.rows},
    }


def _status(row: Row) -> str:
    return "no score known" if row.counted and row.val_bpb is None else row.status


def _waiting(row: Row) -> str:
    return f"- [ ] seed {row.seed}: {PENDING}, {_status(row)}"


def _readme(found: Collected, project: Project) -> str:
    spec = found.spec
    name = project.name or " ".join([spec.recipe, *spec.overrides])
    done = [str(row.seed) for row in found.rows if is_done(row)]
    waits = [f"{row.seed} ({_status(row)})" for row in found.rows if not is_done(row)]
    cells = seed_cells(found.rows)
    cells = [*cells[: 1 + len(found.rows)], ["Mean", *[PENDING] * (len(cells[0]) - 1)]]
    lines = [f"- [x] seed {row.seed}: done" if is_done(row) else _waiting(row) for row in found.rows]
    last = (
        "The same submit again runs what is missing; "
        if waits
        else "Every registered seed is done; nothing is computed over them here: "
    )
    sections = [
        f"# {BANNER}: {name}",
        f"**{BANNER}, not a submission: {len(done)} of {len(found.rows)} registered seeds are done.** "
        f"Done: {', '.join(done) or 'none'}. Pending: {', '.join(waits) or 'none'}.",
        SIMULATED if spec.target_class == "simulated" else "",
        "\n".join(lines),
        "## Seeds",
        markdown_table(cells) + "\n" + LEGEND,
        f"Mean, spread and gates are {PENDING} until every registered seed is done. {last}"
        f"`python -m results pack {spec.folder.name}` then makes the submission.",
    ]
    return "\n\n".join(section.strip("\n") for section in sections if section) + "\n"


def pending_in(folder: Folder) -> str | None:
    """What a draft still waits for, in words; None for a folder that is no draft, whatever its files are called."""
    for name in (DRAFT_JSON, SUBMISSION):
        if folder.has(name):
            facts = folder.document(name)
            if facts.get(DRAFT) is True or name == DRAFT_JSON:
                pending = facts.get(PENDING)
                seeds = ", ".join(plain(one, 20) for one in pending[:20]) if isinstance(pending, list) else "unknown"
                return f"pending seeds {seeds}" if seeds else "its seeds are done; pack it without --draft"
    if folder.has(README) and folder.text(README).lstrip("# *").startswith(BANNER):
        return f"its {README} begins with {BANNER}"
    return None
