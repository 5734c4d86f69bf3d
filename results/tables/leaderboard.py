"""Rows for the challenge's leaderboard: the columns of its README, every cell computed from a submission's facts."""

import re
import typing
from collections.abc import Mapping, Sequence

from results.collect import Collected
from results.dataset import data_warning
from results.pack import submission_facts
from results.project import Project
from results.tables.render import Column, Record, Table
from results.tables.seeds import DIAGNOSTIC, SIMULATED, unscored

RECORD_TRACK = "10min_16mb"
LEGEND = "Score is the mean BPB of the final stage over all registered seeds: lower is better."


def _score(record: Record) -> str:
    """A mean, or what there is instead of one."""
    return str(record["status"]) if record["val_bpb"] is None else f"{record['val_bpb']:.4f}"


COLUMNS = (
    Column(name="run", kind=str, meaning="name of the submission", header="Run"),
    Column(name="val_bpb", kind=float, unit="bits/byte", meaning="mean over seeds", header="Score", show=_score),
    Column(name="val_bpb_sd", kind=float, unit="bits/byte", meaning="sample standard deviation (n - 1)"),
    Column(name="n", kind=int, meaning="counted seeds, less those whose log tells no score"),
    Column(name="registered", kind=int, meaning="registered seeds"),
    Column(name="status", kind=str, meaning="counted, pending (which seeds) or diagnostic"),
    Column(name="author", kind=str, meaning="of golf.toml", header="Author"),
    Column(name="github_id", kind=str, meaning="of golf.toml"),
    Column(name="summary", kind=str, meaning="what it is, from its config", header="Summary"),
    Column(name="date", kind=str, meaning="UTC, when its last seed ended", header="Date"),
    Column(name="info", kind=str, meaning="README.md in the challenge's tree", header="Info", link=True),
    Column(name="track", kind=str, meaning="10min_16mb, or non_record_16mb"),
    Column(name="target_class", kind=str, meaning="simulated: nothing of it is a measurement"),
    Column(name="submission_id", kind=str, meaning="hash of the ordered run ids"),
)


def leaderboard_table(submissions: Sequence[Collected], project: Project) -> Table:
    """The best first; what has no score yet, last."""
    records = [_record(found, project) for found in submissions]
    records.sort(key=lambda one: (one["val_bpb"] is None, one["val_bpb"] or 0.0, one["submission_id"]))
    rows = [row for found in submissions for row in found.rows]
    diagnostic = any(found.diagnostic_only for found in submissions)
    simulated = any(record["target_class"] == "simulated" for record in records)
    warning = data_warning(rows)
    notes = [DIAGNOSTIC] * diagnostic + [SIMULATED] * simulated + [LEGEND]
    if others := [one["run"] for one in records if one["track"] != RECORD_TRACK]:
        which = "none of these" if len(others) == len(records) else f"not {', '.join(others)}"
        notes.append(f"For the record track: {which}.")
    return Table(
        name="leaderboard",
        title="Leaderboard" + (f" ({warning})" if warning else ""),
        columns=COLUMNS,
        records=records,
        notes=notes,
    )


def _record(found: Collected, project: Project) -> dict[str, typing.Any]:
    spec, silent = found.spec, unscored(found.rows)
    told: dict[str, typing.Any] = {
        "run": " ".join([spec.recipe, *spec.overrides]),
        "n": sum(row.counted for row in found.rows) - len(silent),
        "registered": len(found.rows),
        "val_bpb": None,
        "status": "counted",
        "author": project.author,
        "github_id": project.github_id,
        "summary": summary_of(spec.config) or spec.recipe,
        "target_class": spec.target_class,
        "track": RECORD_TRACK if spec.is_record_track else "non_record_16mb",
        "submission_id": spec.submission_id,
    }
    if spec.target_class == "simulated":
        told["summary"] = f"SIMULATED HARDWARE; {told['summary']}"
    if found.diagnostic_only:
        return told | {"status": "diagnostic", "summary": f"DIAGNOSTIC ONLY; {told['summary']}"}
    if silent or not found.finished:
        why = f"; no score in the log of {', '.join(map(str, silent))}" if silent else ""
        return told | {"status": f"pending ({told['n']}/{told['registered']} seeds{why})"}
    facts = submission_facts(found, project)
    scored = {"val_bpb": facts["val_bpb"], "val_bpb_sd": facts["val_bpb_std"]}
    return told | scored | {"run": facts["name"], "date": facts["date"], "info": place_of(facts)}


def place_of(facts: Mapping[str, typing.Any]) -> str:
    """Where README.md would stand in the challenge's tree.

    >>> place_of({"track": "10min_16mb", "date": "2026-03-23", "name": "LeakyReLU, legal TTT"})
    'records/track_10min_16mb/2026-03-23_LeakyReLU_legal_TTT/README.md'
    """
    name = re.sub(r"[^A-Za-z0-9.-]+", "_", facts["name"]).strip("_.")[:80] or "submission"
    return f"records/track_{facts['track']}/{facts['date'] or 'undated'}_{name}/README.md"


def summary_of(config: Mapping[str, typing.Any]) -> str:
    """What a config of ours is, in the words of the board; empty for another program's.

    >>> summary_of({"model": {"layers": 9, "width": 512, "vocab": 1024, "kv_heads": 4}, "artifact": {"codec": "lzma"}})
    '9 layers, 512 wide, 1024 vocab, 4 KV heads, lzma'
    """
    parts = {name: config[name] for name in PARTS if isinstance(config.get(name), dict)}
    words = [
        word.format(value, s="" if value == 1 else "s")
        for part, key, word in SAID
        if isinstance(value := parts.get(part, {}).get(key), str | int | float) and value not in ("none", "off", "")
    ]
    return ", ".join(words)


SAID = (
    ("model", "layers", "{} layer{s}"),
    ("model", "width", "{} wide"),
    ("model", "vocab", "{} vocab"),
    ("model", "kv_heads", "{} KV head{s}"),
    ("average", "kind", "{} weights"),
    ("quant", "mlp_bits", "int{} MLP"),
    ("quant", "attn_bits", "int{} attention"),
    ("quant", "embed_bits", "int{} embedding"),
    ("artifact", "codec", "{}"),
    ("evaluate", "stride", "sliding by {}"),
    ("ttt", "kind", "{} TTT"),
)
PARTS = tuple({part for part, _, _ in SAID})
