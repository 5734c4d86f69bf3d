"""What a report is about: submissions, and what their counted runs noted on the way."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from golf_core.rundir import ARTIFACT, RunDirError
from results.collect import Collected, collect
from results.report.traces import Trace, trace_of
from results.report.weights import parts_of_artifact
from results.rows import Row


@dataclass(frozen=True)
class Subject:
    """One submission. `label` tells it from the others of the same report."""

    label: str
    found: Collected
    traces: dict[int, Trace] = field(default_factory=dict)  # by seed, counted only

    @property
    def counted(self) -> list[Row]:
        return [row for row in self.found.rows if row.counted]

    @property
    def notes(self) -> list[str]:
        """Of attempts that do not count, without the place of the runs on this machine."""
        return [note.replace(f"{self.found.spec.runs_dir}/", "") for note in self.found.notes]

    @property
    def claimed(self) -> list[tuple[int, float]]:
        """(seed, claimed BPB) of every counted seed; none of a diagnostic run."""
        return [(row.seed, row.val_bpb) for row in self.counted if row.val_bpb is not None]


def load_subjects(folders: Sequence[Path]) -> list[Subject]:
    """In the order given. Raises RunDirError."""
    found = [collect(folder) for folder in folders]
    return [
        Subject(label, one, _traces(one))
        for label, one in zip(labels([(one.spec.recipe, one.spec.overrides) for one in found]), found, strict=True)
    ]


def _traces(found: Collected) -> dict[int, Trace]:
    return {
        seed: trace_of(evidence.folder, seed, evidence.seal.child("files").values)
        for seed, evidence in found.evidence.items()
    }


def labels(asked: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    """Short names that tell submissions apart: the recipe where they differ in it, and the overrides that not all have.

    >>> labels([("demo", []), ("demo", ["model.layers=6"]), ("demo", [])])
    ['demo', 'model.layers=6', 'demo (2)']
    """
    recipes = {recipe for recipe, _ in asked}
    shared = set.intersection(*(set(overrides) for _, overrides in asked)) if asked else set()
    found: list[str] = []
    for recipe, overrides in asked:
        own = [one for one in overrides if one not in shared]
        label = " ".join([*([recipe] if len(recipes) > 1 or not own else []), *own])
        same = sum(one == label or one.startswith(f"{label} (") for one in found)
        found.append(f"{label} ({same + 1})" if same else label)
    return found


def artifact_parts(subject: Subject) -> tuple[int, list[tuple[str, float]], str] | None:
    """(seed, parts, what is not known of them) of the largest artifact; None where no size is known."""
    rows = [row for row in subject.counted if row.artifact_bytes is not None]
    if not rows:
        return None
    largest = max(rows, key=lambda row: row.artifact_bytes or 0)
    code = ("code", float(largest.code_bytes or 0))
    path = subject.found.evidence[largest.seed].folder / ARTIFACT
    try:
        return largest.seed, [code, *parts_of_artifact(path)], ""
    except (RunDirError, OSError) as error:
        why = str(error).replace(f"{path.parent}/", "")
        return largest.seed, [code, ("weights", float(largest.model_bytes or 0))], why
