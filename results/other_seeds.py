"""The seeds that were run under a submission's configuration and are not part of it. None is left out in silence.

Same configuration: same bundle, or script and environment, data, tokenizer and target. A run's id is a hash of those
and of its seed, so run.json of an attempt (which is sealed with it) cannot claim another. spec.json may name more: of
runs whose attempts were taken away.
"""

import typing
from dataclasses import dataclass

from golf_core.rundir import RunDirError
from results.attempt import Evidence
from results.content import FRESH, Fresh
from results.evidence import ATTEMPTS, RecipeEvidence, standing_of
from results.script_evidence import ScriptEvidence
from results.spec import Spec


@dataclass(frozen=True)
class OtherSeed:
    seed: int
    run_id: str
    status: str  # as a row's: counted, failed (class), void, damaged, unfinished or missing
    val_bpb: float | None  # of a counted one that claims a score

    def to_dict(self) -> dict[str, typing.Any]:
        return {"seed": self.seed, "status": self.status, "val_bpb": self.val_bpb, "run_id": self.run_id}

    def describe(self) -> str:
        return f"{self.seed} ({self.status}{'' if self.val_bpb is None else f', {self.val_bpb:.8f} BPB'})"


def other_seeds(spec: Spec, content: Fresh = FRESH) -> list[OtherSeed]:
    """By seed, whatever became of them."""
    started = [*content.runs(spec.runs_dir / ATTEMPTS).get(spec.bundle_sha256, ()), *spec.other_seeds]
    registered = dict(spec.runs)
    found = {seed: run_id for seed, run_id in started if seed not in registered and spec.run_id(seed) == run_id}
    return [_look(spec, seed, found[seed], content) for seed in sorted(found)]


def line_of(others: list[OtherSeed]) -> str:
    """One sentence for notes and README; empty where there are none."""
    if not others:
        return ""
    told = ", ".join(one.describe() for one in others)
    return f"Other seeds of this configuration, run and not part of this submission: {told}"


def _look(spec: Spec, seed: int, run_id: str, content: Fresh) -> OtherSeed:
    try:
        standing = standing_of(spec, seed, run_id, content)
        score = None if standing.evidence is None else _score(standing.evidence)
    except RunDirError:  # it contradicts itself: that is said of it, and does not stop this submission
        return OtherSeed(seed, run_id, "damaged", None)
    return OtherSeed(seed, run_id, standing.status, score)


def _score(evidence: Evidence) -> float | None:
    if evidence.diagnostic_only:
        return None
    if isinstance(evidence, ScriptEvidence):
        return evidence.parsed.final_bpb
    assert isinstance(evidence, RecipeEvidence)
    return evidence.scores.child("stages").child(evidence.scores.text("final_stage")).number("val_bpb")
