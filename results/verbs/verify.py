"""results verify: every number of a submission folder, derived again."""

import json
import sys
import typing
from pathlib import Path

import typer

from results.verbs.shared import DEBUG, GATE, JSON, RUNS_DIR, USAGE, guarded, opened


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
