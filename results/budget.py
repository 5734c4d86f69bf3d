"""Where the seconds and bytes of each seed went, and what is left under the caps. From sealed files only."""

import typing
from collections.abc import Mapping

from golf_core.rundir import MAX_JSON_BYTES, PHASES, read_jsonl
from results.attempt import Evidence
from results.collect import Collected
from results.rows import Row
from results.tables import NOTHING

# (what is left, column of the row, cap of the policy)
CAPS = (
    ("bytes", "artifact_bytes", "artifact_bytes"),
    ("train_seconds", "train_seconds", "train_seconds"),
    ("evaluate_seconds", "evaluate_seconds", "evaluate_seconds"),
)
STAGE = "stage"  # the phase that holds all others of a stage


def headroom(row: Row, policy: Mapping[str, typing.Any]) -> dict[str, float | None]:
    """Cap - value of each cap: negative is over it, None is not known."""
    found: dict[str, float | None] = {}
    for name, column, cap in CAPS:
        value, limit = getattr(row, column), policy.get(cap)
        known = isinstance(limit, (int, float)) and not isinstance(limit, bool) and value is not None
        found[name] = limit - value if known and limit is not None else None
    return found


def headroom_cells(found: Collected) -> list[list[str]]:
    cells = [["Seed", "Bytes left", "Train s left", "Eval s left"]]
    for row in found.rows:
        left = headroom(row, found.spec.policy)
        shown = [NOTHING if left["bytes"] is None else f"{left['bytes']:,.0f}"]
        for name in ("train_seconds", "evaluate_seconds"):
            shown.append(NOTHING if left[name] is None else f"{left[name]:.3f}")
        cells.append([str(row.seed), *shown])
    return cells


def phase_seconds(evidence: Evidence) -> dict[str, float]:
    """Seconds of each phase that ended, as the worker stamped it, in the order of their ends; a phase that comes again
    adds up. `train: all` and `evaluate: all` hold the others of their stage."""
    files = evidence.seal.child("files")
    path = evidence.folder / PHASES
    if not files.has(PHASES) or path.stat().st_size > MAX_JSON_BYTES:
        return {}
    found: dict[str, float] = {}
    begun: dict[str, float] = {}
    for row in read_jsonl(path):
        stage, phase, edge, t = (row.get(key) for key in ("stage", "phase", "edge", "t"))
        if not isinstance(stage, str) or not isinstance(phase, str) or isinstance(t, bool):
            continue
        if not isinstance(t, (int, float)) or not 0 <= t < 1e9 or not f"{stage}{phase}".isprintable():
            continue
        name = f"{stage}: all" if phase == STAGE else phase
        if edge == "begin":
            begun[name] = float(t)
        elif edge == "end" and name in begun:
            found[name] = found.get(name, 0.0) + float(t) - begun.pop(name)
    return found


def phase_cells(found: Collected) -> list[list[str]]:
    """A row a phase, a column a seed; empty where no seed has phases."""
    seeds = {seed: phase_seconds(evidence) for seed, evidence in found.evidence.items()}
    names = list(dict.fromkeys(name for phases in seeds.values() for name in phases))
    if not names:
        return []
    cells = [["Phase", *(f"{seed}" for seed in seeds)]]
    for name in names:
        shown = [NOTHING if name not in phases else f"{phases[name]:.3f} s" for phases in seeds.values()]
        cells.append([name, *shown])
    return cells
