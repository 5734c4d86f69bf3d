"""Gates of the audits: what the records beside the attempts say of each counted seed.

A check that was made of a seed makes a gate, and so does one that the policy asks for: there a seed without a record
leaves it unknown. A record that says "review" is no pass either: somebody must look.
"""

import typing
from collections.abc import Mapping, Sequence

from golf_core.fields import ConfigError
from golf_core.policy import audits_from, load_policy, policy_names
from golf_core.rundir import RunDirError
from results.audit import finding
from results.audit.record import NAMES, Record, ignored, read_records, seal_of
from results.collect import Collected
from results.gates import FAIL, PASS, UNKNOWN, Gate
from results.rows import Row

LIMITS = {
    "recount": "every token scored once, bytes of the text itself",
    "replay": "the same score from the artifact alone",
    "probe": "no score depends on what it may not",
}
HOW = {
    "recount": "`results verify --recount` makes it",
    "replay": "`results verify --replay` makes it",
    "probe": "`results audit --probe` makes it",
}
UNSEALED = "only a sealed attempt can be audited so, and none is at hand"


def asked_of(policy: Mapping[str, typing.Any]) -> tuple[str, ...]:
    """The audits that a policy asks for: under a shipped name what the shipped one asks. Raises RunDirError."""
    try:
        if policy.get("name") in policy_names():
            return load_policy(str(policy["name"])).audits
        return audits_from(policy.get("audits", ()))
    except ConfigError as error:
        raise RunDirError(f"policy {policy.get('name')!r:.80}: {error}") from None


def records_of(found: Collected) -> tuple[dict[int, list[Record]], list[str]]:
    """(records by counted seed, a sentence for each file among them that is none)."""
    records: dict[int, list[Record]] = {}
    notes: list[str] = []
    for seed, evidence in found.evidence.items():
        asked = found.spec.runs_dir, evidence.attempt_id, seal_of(evidence.folder)
        records[seed] = read_records(*asked)
        notes += ignored(*asked)
    return records, notes


def audit_gates(
    rows: Sequence[Row], policy: Mapping[str, typing.Any], records: Mapping[int, Sequence[Record]]
) -> list[Gate]:
    """One of each audit that was made or is asked for. Raises RunDirError."""
    asked = asked_of(policy)
    made = {one.name for found in records.values() for one in found}
    others = sorted((made | set(asked)) - set(NAMES))
    seen = [name for name in NAMES if name in made or name in asked]
    return [_gate(name, rows, records) for name in [*seen, *others]]


def _gate(name: str, rows: Sequence[Row], records: Mapping[int, Sequence[Record]]) -> Gate:
    """The gravest record decides, and a seed that has none."""
    told = {seed: one for seed, found in records.items() for one in found if one.name == name}
    counted = [row.seed for row in rows if row.counted]
    silent = [seed for seed in counted if seed not in told]
    simulated = bool(rows) and rows[0].target_class == "simulated"
    for verdict, outcome in ((finding.FAIL, FAIL), (finding.REVIEW, UNKNOWN)):
        if (seed := next((seed for seed, one in told.items() if one.verdict == verdict), None)) is not None:
            note = told[seed].says if outcome == FAIL else f"somebody must look: {told[seed].says}"
            return _said(name, told[seed].verdict, outcome, note, seed)
    if silent or len(counted) < len(rows) or not rows:
        missing = f"seed {', '.join(map(str, silent))}: not made; {HOW.get(name, 'it must be made')}"
        note = missing if silent else UNSEALED if not counted else "a registered seed has no counted attempt yet"
        return _said(name, None, UNKNOWN, note)
    first = next(iter(told))
    told_all = "; ".join(f"seed {seed}: {one.says}" for seed, one in told.items())
    return _said(name, "pass", UNKNOWN if simulated else PASS, told_all, first)


def unmade_gates(policy: Mapping[str, typing.Any]) -> list[Gate]:
    """Of a folder without sealed attempts: each audit that the policy asks for, unknown."""
    return [_said(name, None, UNKNOWN, UNSEALED) for name in asked_of(policy)]


def _said(name: str, value: str | None, verdict: str, note: str, seed: int | None = None) -> Gate:
    limit = LIMITS.get(name, "pass")
    return Gate(name=name, unit="", value=value, limit=limit, margin=None, seed=seed, verdict=verdict, note=note)
