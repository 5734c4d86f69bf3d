"""What a report is about: submissions, and what their counted runs noted on the way."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from golf_core.rundir import ARTIFACT, RunDirError
from results import dataset
from results.collect import Collected, collect
from results.report.traces import Trace, trace_of
from results.report.weights import parts_of_artifact
from results.rows import Row
from results.tables.variants import labels_of

LONGEST_LABEL = 60


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
    labels = [short(label) for label in labels_of([one.rows for one in found])]
    return [
        Subject(label if labels.count(label) == 1 else f"{label} ({one.spec.folder.name})", one, _traces(one))
        for label, one in zip(labels, found, strict=True)
    ]


def short(label: str) -> str:
    """
    >>> short("x" * 100) == "x" * 57 + "..."
    True
    """
    return label if len(label) <= LONGEST_LABEL else f"{label[: LONGEST_LABEL - 3]}..."


def same_text(ours: Subject, theirs: Subject) -> bool:
    """Whether both are known to be scored on one text."""
    return ours is theirs or bool(dataset.same_text(dataset.text_of(ours.counted), dataset.text_of(theirs.counted)))


def _traces(found: Collected) -> dict[int, Trace]:
    targets = {row.seed: row.val_tokens for row in found.rows}
    return {
        seed: trace_of(evidence.folder, seed, evidence.seal.child("files").values, targets[seed])
        for seed, evidence in found.evidence.items()
    }


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
