"""What was tried and not kept: submissions of the same runs folder with the same base that scored worse.

From their sealed, counted attempts, hashed afresh, like everything else that is packed. What may not be compared (other
data, another tokenizer, another target, a diagnostic run) is no such row.
"""

import typing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from golf_core.rundir import RunDirError
from golf_core.significance import NotTestable, sample_of, welch
from results.base import base_of
from results.collect import Collected, collect
from results.dataset import same_text, text_of
from results.rows import Row
from results.spec import FOLDER_DIGITS, Spec, load_spec, submission_folders
from results.stats import mean

MAX_SHOWN = 50


@dataclass(frozen=True, kw_only=True)
class Tried:
    submission_id: str
    what: str  # recipe, overrides, environment
    n: int  # counted seeds
    seeds: int  # registered ones
    val_bpb: float  # their mean
    delta_bpb: float  # theirs - ours: positive is worse than ours
    half_width: float | None  # of the 95 % interval of the delta; None: too few seeds

    def to_dict(self) -> dict[str, typing.Any]:
        return {
            "submission_id": self.submission_id,
            "what": self.what,
            "n": self.n,
            "seeds": self.seeds,
            "val_bpb": self.val_bpb,
            "delta_bpb": self.delta_bpb,
            "delta_t95_half_width": self.half_width,
        }


def tried_beside(found: Collected, only: Sequence[str] | None = None) -> list[Tried]:
    """The worse ones, the worst last. `only` are the ids to look at, of a folder that was packed before: what was run
    since is no part of it. A submission that cannot be read is no evidence and left out."""
    if not (ours := scores(found.rows)):
        return []
    spec = found.spec
    kin, rows = _kin(spec), []
    for folder in submission_folders(spec.runs_dir):
        if folder == spec.folder or (only is not None and folder.name not in [one[:FOLDER_DIGITS] for one in only]):
            continue
        try:
            if _kin(load_spec(folder)) == kin:
                rows += _tried(folder, found.rows, ours)
        except RunDirError:
            continue
    return sorted(rows, key=lambda one: (one.delta_bpb, one.submission_id))[:MAX_SHOWN]


def scores(rows: Sequence[Row]) -> list[float]:
    return [row.val_bpb for row in rows if row.counted and not row.diagnostic_only and row.val_bpb is not None]


def _kin(spec: Spec) -> tuple[typing.Any, ...]:
    """Submissions are of one question where all of this is the same, and their scores of one text."""
    base = base_of(spec)
    start = (spec.kind, spec.bundle_sha256) if spec.script is not None else (spec.kind, base and base.config_id)
    alone = spec.submission_id if spec.script is None and base is None else ""  # no base: no kin
    return (
        start,
        alone,
        spec.tokenizer_sha256,
        spec.target_class,
        tuple(sorted(spec.target.items())),
    )


def _tried(folder: Path, rows: Sequence[Row], ours: Sequence[float]) -> list[Tried]:
    other = collect(folder)
    theirs = scores(other.rows)
    if (
        not theirs
        or not same_text(text_of(rows), text_of(other.rows))
        or other.diagnostic_only
        or mean(theirs) <= mean(ours)
    ):
        return []
    try:
        half = welch(sample_of(theirs), sample_of(ours)).half_width
    except NotTestable:
        half = None
    spec = other.spec
    words = [spec.recipe, *spec.overrides, *([spec.script.words] if spec.script is not None else [])]
    return [
        Tried(
            submission_id=spec.submission_id,
            what=" ".join(word for word in words if word),
            n=len(theirs),
            seeds=len(other.rows),
            val_bpb=mean(theirs),
            delta_bpb=mean(theirs) - mean(ours),
            half_width=half,
        )
    ]
