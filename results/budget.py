"""Where the seconds and bytes of each seed went, and what is left under the caps. From sealed files only."""

import typing
from collections.abc import Mapping

from golf_core.rundir import PHASES
from results.attempt import Evidence
from results.collect import Collected
from results.phases import STAGE, edges_of, seconds_of
from results.rows import Row
from results.tables import NOTHING

# (what is left, column of the row, cap of the policy)
CAPS = (
    ("bytes", "artifact_bytes", "artifact_bytes"),
    ("train_seconds", "train_seconds", "train_seconds"),
    ("evaluate_seconds", "evaluate_seconds", "evaluate_seconds"),
)


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
    """Seconds of each phase that ended; `train: all` and `evaluate: all` hold the others of their stage."""
    if not evidence.seal.child("files").has(PHASES):
        return {}
    found: dict[str, float] = {}
    for stage, phases in seconds_of(edges_of(evidence.folder)).items():
        for phase, seconds in phases.items():
            name = f"{stage}: all" if phase == STAGE else phase
            found[name] = found.get(name, 0.0) + seconds
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
