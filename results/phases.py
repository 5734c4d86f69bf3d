"""phases.jsonl as the worker stamped it: seconds of each phase, and whether each stage ran once, from begin to end."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from golf_core.rundir import MAX_JSON_BYTES, PHASES, RunDirError, read_jsonl

STAGE = "stage"  # the phase that holds all others of a stage
# Phases that the caps are about, in the order in which they happen. `calibrate` reads training data: it is training.
COUNTED = {"train": ("train", "calibrate"), "evaluate": ("load", "roundtrip", "sliding", "ttt")}
LATEST_S = 1e9
Edge = tuple[str, str, str, float]  # stage, phase, begin or end, seconds


def edges_of(folder: Path) -> list[Edge]:
    """The edges that an attempt's phases.jsonl tells; a line that is no edge is left out. Raises RunDirError where the
    file is larger than any of ours."""
    path = folder / PHASES
    if not path.is_file():
        return []
    if (size := path.stat().st_size) > MAX_JSON_BYTES:
        raise RunDirError(f"{path} has {size} bytes, more than any file of ours")
    return [edge for row in read_jsonl(path) if (edge := _edge(row)) is not None]


def _edge(row: Mapping[str, object]) -> Edge | None:
    stage, phase, edge, t = (row.get(key) for key in ("stage", "phase", "edge", "t"))
    if not isinstance(stage, str) or not isinstance(phase, str) or edge not in ("begin", "end"):
        return None
    if isinstance(t, bool) or not isinstance(t, (int, float)) or not 0 <= t < LATEST_S:
        return None
    return (stage, phase, str(edge), float(t)) if f"{stage}{phase}".isprintable() else None


def seconds_of(edges: Iterable[Edge]) -> dict[str, dict[str, float]]:
    """Seconds by stage and phase, of phases that ended, in the order of their ends; one that comes again adds up."""
    begun: dict[tuple[str, str], float] = {}
    found: dict[str, dict[str, float]] = {}
    for stage, phase, edge, t in edges:
        if edge == "begin":
            begun[stage, phase] = t
        elif (start := begun.pop((stage, phase), None)) is not None and t >= start:
            phases = found.setdefault(stage, {})
            phases[phase] = phases.get(phase, 0.0) + t - start
    return found


def is_uninterrupted(edges: Iterable[Edge], stages: Iterable[str]) -> bool | None:
    """Whether each of the stages began once and ended once, and so did all phases in it as often as they began; None
    where no edge of a stage is told."""
    counts: dict[tuple[str, str], list[int]] = {}
    for stage, phase, edge, _ in edges:
        counts.setdefault((stage, phase), [0, 0])[edge == "end"] += 1
    asked = list(stages)
    if any((stage, STAGE) not in counts for stage in asked):
        return None
    whole = all(counts[stage, STAGE] == [1, 1] for stage in asked)
    return whole and all(begun == ended for begun, ended in counts.values())
