"""Parsed runs as a table: a row a run, every field a column, with its unit; in JSON also the evidence and reasons."""

import json
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path

from results.parse.run import ParsedRun
from results.tables.figures import bits, gain, megabytes, milliseconds, seconds, whole
from results.tables.render import Column, Record, Table
from results.tables.seeds import spread_line

# What a terminal and Markdown show, and how; CSV and JSON hold every field.
SHOWN: dict[str, tuple[str, Callable[[typing.Any], str]]] = {
    "file": ("File", str),
    "seed": ("Seed", str),
    "step_avg_ms": ("step_avg", milliseconds),
    "steps": ("Steps", whole),
    "pre_quant_bpb": ("Pre-quant BPB", bits),
    "pre_ttt_bpb": ("Pre-TTT BPB", bits),
    "final_bpb": ("Final BPB", bits),
    "final_stage": ("Stage", str),
    "ttt_gain": ("TTT Gain", gain),
    "eval_time_s": ("Eval", seconds),
    "artifact_bytes": ("Artifact", megabytes),
}
LEGEND = (
    "Final BPB is what the run claims; a dash is what the log does not tell. TTT Gain = Post-TTT - Pre-TTT: negative "
    "is better. --format json gives the line behind each value and the reason behind each dash."
)


def _kind(hint: typing.Any) -> type:
    """The plain type of an optional field."""
    if isinstance(hint, types.UnionType):
        hint = next(one for one in typing.get_args(hint) if one is not type(None))
    return hint if hint in (int, float, str) else str


def _columns() -> tuple[Column, ...]:
    """In the order of the fields."""
    hints = typing.get_type_hints(ParsedRun)
    found = [
        Column(name="file", kind=str, meaning="as given", header="File"),
        Column(name="run", kind=int, meaning="of the runs in the file, from 1"),
    ]
    for one in fields(ParsedRun):
        if one.metadata.get("measured"):
            header, write = SHOWN.get(one.name, (None, str))
            unit, meaning = one.metadata["unit"], one.metadata["meaning"]
            kind = _kind(hints[one.name])
            found.append(Column(name=one.name, kind=kind, meaning=meaning, unit=unit, header=header, write=write))
    found.append(Column(name="warnings", kind=str, meaning="self-checks that did not hold, with semicolons between"))
    return tuple(found)


COLUMNS = _columns()


def parsed_table(runs: Sequence[ParsedRun]) -> Table:
    names, counts = short_names([run.file for run in runs]), {run.file: run.runs for run in runs}

    def shown(record: Record) -> str:
        of = counts[record["file"]]
        return names[record["file"]] + ("" if of == 1 else f" ({record['run']}/{of})")

    records = [
        {one.name: getattr(run, one.name) for one in fields(ParsedRun)} | {"warnings": "; ".join(run.warnings) or None}
        for run in runs
    ]
    columns = [replace(one, show=shown) if one.name == "file" else one for one in COLUMNS]
    files = len({run.file for run in runs})
    title = f"{len(runs)} run{'s' if len(runs) != 1 else ''} of {files} log{'s' if files != 1 else ''}"
    notes = [f"{names[run.file]}: {warning}" for run in runs for warning in run.warnings]
    notes += [
        f"{names[run.file]}: no final BPB: {run.reasons['final_bpb']}" for run in runs if "final_bpb" in run.reasons
    ]
    return Table(
        name="parse", title=title, columns=columns, records=records, notes=[*spread_notes(runs), LEGEND, *notes]
    )


def short_names(files: Sequence[str]) -> dict[str, str]:
    """Each file without the folders that all of them share.

    >>> short_names(["a/b/x.log", "a/c/y.log"])
    {'a/b/x.log': 'b/x.log', 'a/c/y.log': 'c/y.log'}
    >>> short_names(["a/b/x.log"])
    {'a/b/x.log': 'x.log'}
    """
    parts = {file: Path(file).parts for file in files}
    shared = 0
    while all(len(one) > shared + 1 for one in parts.values()) and len({one[shared] for one in parts.values()}) == 1:
        shared += 1
    return {file: str(Path(*one[shared:])) for file, one in parts.items()}


def spread_notes(runs: Sequence[ParsedRun]) -> list[str]:
    """Mean and spread of the claims, where they are several and of one stage."""
    known = [run.final_bpb for run in runs if run.final_bpb is not None]
    stages = {run.final_stage for run in runs if run.final_bpb is not None}
    if len(known) < 2 or len(stages) > 1:
        return []
    of = "" if len(known) == len(runs) else f"; {len(runs) - len(known)} without a claim left out"
    return [spread_line("Final BPB", known, "bits/byte") + of]


def parsed_json(runs: Sequence[ParsedRun]) -> str:
    told = {"schema_version": 1, "runs": [run.to_dict() for run in runs]}
    return json.dumps(told, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
