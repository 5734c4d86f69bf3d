"""Sealed attempts: which one of a run is counted, and what its files say. Nothing else reaches a table.

Counted is the lowest attempt whose seal verifies, which completed and which no VOID.json marks. A sealed attempt
whose files contradict each other or the submission is not evidence but an error.
"""

import math
import typing
from dataclasses import dataclass, replace
from pathlib import Path

from golf_core.rundir import (
    ARTIFACT,
    BUNDLE,
    ENV,
    LOG,
    MAX_JSON_BYTES,
    METRICS,
    RESULT,
    RUN,
    SCORE_LEDGER,
    SCORES,
    SEAL,
    VOID,
    RunDirError,
    read_json,
    read_jsonl,
    verify_seal,
)
from results.attempt import Evidence, check_asked
from results.content import FRESH, Fresh
from results.facts import Facts
from results.ledger_check import check_ledger
from results.ledger_file import LedgerFileError, OtherFormat, load_ledger
from results.rows import CHECKED
from results.script_evidence import SCRIPT_SEALED, read_script_evidence
from results.spec import Spec

ATTEMPTS = "attempts"
ATTEMPT_DIGITS = 16
STAGES = ("roundtrip", "sliding", "ttt")
# Classes of an end that is no fault of the code, as the orchestrator's policy has them.
OUTSIDE = (
    *("rank_killed", "worker_lost", "orphaned", "launch_error", "startup", "cancelled", "node_lost", "preempted"),
    *("disturbed_clock", "wrong_hardware", "slow_node", "node_setup"),
)
VERDICTS = ("TRACK_A", "SCORE_FIRST_OK", "ILLEGAL_TRAIN_BEFORE_SCORE")  # of a stage's ledger, the worst last
SEALED = (RUN, BUNDLE, ENV, LOG, METRICS, ARTIFACT, SCORES, RESULT)  # read here, so each must be under the seal
BPB_TOLERANCE = 1e-6  # relative, between a stage's BPB and the one that its loss, tokens and bytes give


@dataclass(frozen=True)
class RecipeEvidence(Evidence):
    """What a bundle of ours says of its run."""

    scores: Facts
    train_end: Facts
    ledger: str  # CHECKED, or why the score ledger shows nothing

    def stage(self, name: str) -> Facts | None:
        stages = self.scores.child("stages")
        return stages.child(name) if stages.has(name) else None

    @property
    def diagnostic_only(self) -> bool:
        return self.scores.maybe_flag("diagnostic_only") or False

    @property
    def verdict(self) -> str | None:
        """The worst verdict of its stages; None where a stage has none, unless another one is illegal."""
        stages = self.scores.child("stages")
        found = [stages.child(name).maybe_text("verdict") for name in stages.values]
        if None in found and VERDICTS[-1] not in found:
            return None
        return max((one for one in found if one is not None), key=VERDICTS.index)


@dataclass(frozen=True)
class Standing:
    """Where a run stands: its counted evidence, or why there is none."""

    status: str
    attempts: int
    evidence: Evidence | None = None
    notes: tuple[str, ...] = ()


def standing_of(spec: Spec, seed: int, run_id: str, content: Fresh = FRESH) -> Standing:
    """The standing of one run. Raises RunDirError where counted evidence contradicts itself."""
    status = "missing"
    notes: list[str] = []
    folders = _attempt_folders(spec.runs_dir / ATTEMPTS, run_id, content)
    for folder in folders:
        status, note, seal = _status(folder, content, SEALED if spec.script is None else SCRIPT_SEALED)
        if status == "counted" and spec.script is not None:
            found = read_script_evidence(folder, Facts(seal, str(folder / SEAL)), spec, seed, run_id)
            return Standing("counted", len(folders), found, (*notes, *found.notes))
        if status == "counted":
            evidence = _read(folder, Facts(seal, str(folder / SEAL)), spec, seed, run_id)
            return Standing("counted", len(folders), evidence, tuple(notes))
        notes.append(f"seed {seed}: {folder.name} is {status}{note} and does not count")
    return Standing(status, len(folders), None, tuple(notes))


def _attempt_folders(parent: Path, run_id: str, content: Fresh) -> list[Path]:
    run = run_id[:ATTEMPT_DIGITS]
    found = [parent / f"{run}-a{number}" for number in content.attempts(parent).get(run, [])]
    return [path for path in found if path.is_dir() and not path.is_symlink()]


def _status(folder: Path, content: Fresh, files: tuple[str, ...]) -> tuple[str, str, dict[str, typing.Any]]:
    """(status, what more to say of it, the seal if it is counted)."""
    if (folder / VOID).exists():
        return "void", _why(folder / VOID), {}
    if (folder / SEAL).exists():
        try:
            seal = verify_seal(folder, sha256_of=content.sha256)
        except RunDirError as error:
            return "damaged", f" ({error})", {}
        if missing := [file for file in files if file not in seal["files"]]:
            return "damaged", f" (its seal leaves out {', '.join(missing)})", {}
        if read_json(folder / RESULT).get("outcome") == "completed":
            return "counted", "", seal
    if not (folder / RESULT).exists():
        return "unfinished", "", {}
    why = _why(folder / RESULT)
    if why.strip(" ()") in OUTSIDE:  # no failure: the same submit goes on with it
        return "unfinished", why, {}
    return f"failed{why}", "", {}


def _why(path: Path) -> str:
    try:
        return f" ({Facts(read_json(path), str(path)).text('class')})"
    except RunDirError:
        return ""


def _read(folder: Path, seal: Facts, spec: Spec, seed: int, run_id: str) -> RecipeEvidence:
    run, scores, result = (Facts(read_json(folder / name), str(folder / name)) for name in (RUN, SCORES, RESULT))
    check_asked(run, folder, spec, seed, run_id)
    scores.expect("seed", seed, f"{spec.folder.name} and the folder's name")
    evidence = RecipeEvidence(
        folder=folder,
        seal=seal,
        scores=scores,
        train_end=_train_end(folder / METRICS),
        result=result,
        env=Facts(read_json(folder / ENV), str(folder / ENV)),
        ledger="",
    )
    _check_sizes(evidence, spec)
    _check_stages(evidence)
    _check_final_stage(evidence, spec)
    return replace(evidence, ledger=_ledger(folder, seal, scores))


def _ledger(folder: Path, seal: Facts, scores: Facts) -> str:
    """What the events of the score ledger show. One that contradicts itself or scores.json is an error."""
    path, stages = folder / SCORE_LEDGER, scores.child("stages")
    if not seal.child("files").has(SCORE_LEDGER):
        return f"{SCORE_LEDGER} is not under the seal"
    try:
        check_ledger(load_ledger(path), {name: stages.child(name).values for name in stages.values})
    except OtherFormat as error:
        return f"{SCORE_LEDGER}: {error}"
    except LedgerFileError as error:
        raise RunDirError(f"{path}: {error}") from None
    return CHECKED


def _train_end(path: Path) -> Facts:
    if path.stat().st_size > MAX_JSON_BYTES:
        raise RunDirError(f"{path} has {path.stat().st_size} bytes, more than any file of ours")
    ends = [row for row in read_jsonl(path, "train_end") if row.get("event") == "train_end"]
    if len(ends) != 1:
        raise RunDirError(f"{path} has {len(ends)} train_end events, not one")
    return Facts(ends[0], f"{path}: train_end")


def _check_sizes(evidence: RecipeEvidence, spec: Spec) -> None:
    """What scores.json says of code and model must be what the sealed files are."""
    artifact, bundle = evidence.sealed(ARTIFACT), evidence.sealed(BUNDLE)
    bundle.expect("sha256", spec.bundle_sha256, f"{spec.folder.name}: the attempt ran another bundle")
    evidence.scores.expect("model_bytes", artifact.integer("size"), "the sealed artifact")
    evidence.scores.expect("artifact_sha256", artifact.text("sha256"), "the sealed artifact")
    evidence.scores.expect("code_bytes", bundle.integer("size"), "the sealed bundle")


def _check_stages(evidence: RecipeEvidence) -> None:
    """Every stage is one of ours and its BPB follows from its loss, tokens and bytes."""
    stages = evidence.scores.child("stages")
    if unknown := sorted(set(stages.values) - set(STAGES)):
        raise RunDirError(f"{stages.place}: {unknown[0]!r:.80} is no stage; there are {', '.join(STAGES)}")
    for name in stages.values:
        stage = stages.child(name)
        if (verdict := stage.maybe_text("verdict")) is not None and verdict not in VERDICTS:
            raise RunDirError(f"{stage.place}: verdict is {verdict!r:.80}; there are {', '.join(VERDICTS)}")
        loss, bpb = stage.number("val_loss"), stage.number("val_bpb")
        tokens, text = stage.integer("tokens"), stage.integer("bytes")
        if not tokens or not text:
            raise RunDirError(f"{stage.place} scored {tokens} tokens of {text} bytes")
        if not math.isclose(bpb, derived := loss / math.log(2) * tokens / text, rel_tol=BPB_TOLERANCE):
            raise RunDirError(f"{stage.place}: val_bpb is {bpb}, but loss, tokens and bytes give {derived}")


def _check_final_stage(evidence: RecipeEvidence, spec: Spec) -> None:
    """A diagnostic run claims no stage, any other one that it scored; and the bundle is frozen with the same."""
    scores = evidence.scores
    if spec.diagnostic_only is not None and spec.diagnostic_only != evidence.diagnostic_only:
        raise RunDirError(
            f"{scores.place}: diagnostic_only is {scores.values.get('diagnostic_only')!r}, "
            f"but {spec.diagnostic_only} in the config of the bundle that ran"
        )
    if evidence.diagnostic_only:
        scores.expect("final_stage", None, "diagnostic_only: such a run claims no score")
        if not scores.child("stages").values:
            raise RunDirError(f"{scores.place}: stages is empty")
    elif scores.text("final_stage") not in scores.child("stages").values:
        raise RunDirError(f"{scores.place}: final_stage {scores.text('final_stage')!r} was not scored")
