"""A sealed artifact scored again: its own bundle's `evaluate`, from the artifact alone, in a folder that holds nothing
else of the attempt's evaluation; and what came out, held against what was sealed.

The worker runs it as it repeats an evaluation that an outside fault ended. The attempt is read and never written.
"""

import shutil
import sys
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from golf_core.rundir import (
    ARTIFACT,
    HARDWARE_AGAIN,
    LOG,
    RESULT,
    RUN,
    SCORE_LEDGER,
    SCORES,
    SEAL,
    TRAIN_SEAL,
    RunDirError,
    file_sha256,
    is_sealed,
    read_json,
    verify_seal,
    write_bytes,
    write_json,
    write_seal,
)
from orchestrator.attempts import ATTEMPTS, NODE
from orchestrator.cloud.data import data_in_container
from orchestrator.script import RECIPE
from orchestrator.worker.attempt import run_attempt

EVALUATIONS = "evaluations"  # in the volume of runs: EVALUATIONS/ATTEMPT/TIME
KEPT = (SCORES, SCORE_LEDGER, RESULT, HARDWARE_AGAIN)
BPB_TOLERANCE = 0.0005  # on GPUs, whose sums come in no fixed order; a tenth of what a record must gain, in nats
EXACT = ("val_loss", "val_bpb", "tokens", "bytes", "verdict")  # of a stage: equal to the last digit on a CPU
COUNTED = ("tokens", "bytes", "verdict")  # equal wherever it runs


class RescoreError(Exception):
    """The attempt cannot be scored again."""


def rescore(
    runs: Path, attempt: str, artifact: str | None, target: Mapping[str, typing.Any] | None, scratch: Path, now: str
) -> dict[str, typing.Any]:
    """Score attempt `attempt` of the volume `runs` again; what is kept of it lies in `place` below. `artifact`: another
    one there than the sealed; `target`: another machine than the attempt's, as far as it is given."""
    folder = scratch / EVALUATIONS / attempt
    shutil.rmtree(folder, ignore_errors=True)
    sealed = lay_down(runs / ATTEMPTS / attempt, folder)
    if artifact is not None or target:
        change(folder, None if artifact is None else inside(runs, artifact), target or {})
    write_json(folder / NODE, {"data": data_in_container(read_json(folder / RUN)["data"], scratch / "data")})
    if not is_sealed(folder, TRAIN_SEAL):
        raise RescoreError(f"{attempt} differs from its seal since it was laid down: a training would begin anew")
    begins = (folder / LOG).stat().st_size
    echo = Echo(folder / LOG, begins)
    result = run_attempt(folder, echo)
    echo()
    place = f"{EVALUATIONS}/{attempt}/{now}"
    keep(folder, runs / place, begins)
    done = result["class"] == "completed"
    scores = read_json(folder / SCORES) if done else None
    return {
        "place": place,
        "result": result,
        "sealed": sealed,
        "scores": scores,
        "ledger": None if scores is None else order_of(scores, file_sha256(folder / SCORE_LEDGER)),
        "artifact_sha256": file_sha256(folder / ARTIFACT),
    }


def lay_down(attempt: Path, folder: Path) -> dict[str, typing.Any]:
    """The attempt as it was when its training was sealed. What its seals say of its scores. Raises RescoreError."""
    try:
        seal, trained = verify_seal(attempt, SEAL), verify_seal(attempt, TRAIN_SEAL)
        asked, scores = read_json(attempt / RUN), read_json(attempt / SCORES)
    except (RunDirError, OSError) as error:
        raise RescoreError(f"{attempt.name} cannot be relied on: {error}") from None
    if asked.get("kind", RECIPE) != RECIPE:
        raise RescoreError(f"{attempt.name} ran a script, which has no `evaluate` that scores an artifact alone")
    if RUN not in trained["files"] or seal["files"].get(RUN) != trained["files"][RUN]:
        raise RescoreError(f"{attempt.name}: its two seals are not of the same run")
    folder.mkdir(parents=True)
    for name, entry in trained["files"].items():
        with (attempt / name).open("rb") as file:
            write_bytes(folder / PurePosixPath(name).name, file.read(entry["size"]))
    shutil.copyfile(attempt / TRAIN_SEAL, folder / TRAIN_SEAL)
    return {"scores": scores, "ledger": order_of(scores, seal["files"][SCORE_LEDGER]["sha256"])}


def order_of(scores: Mapping[str, typing.Any], sha256: str) -> typing.Any:
    """What the score ledger says was done, without when: the ends of its stages' chains of order, as scores.json tells
    them; of an older one, which has no times, the hash of the file."""
    stages = scores.get("stages")
    stages = stages if isinstance(stages, dict) else {}
    told = {name: facts.get("ledger_order") for name, facts in stages.items() if isinstance(facts, dict)}
    return told if told and None not in told.values() else sha256


def change(folder: Path, artifact: Path | None, target: Mapping[str, typing.Any]) -> None:
    """Another artifact, or another machine: the copy is sealed anew, so that the worker takes it."""
    seal = read_json(folder / TRAIN_SEAL)
    if artifact is not None:
        shutil.copyfile(artifact, folder / ARTIFACT)
    if target:
        asked = read_json(folder / RUN)
        asked["target"] |= target
        asked["target_class"] = "exploratory" if asked["target"]["device"] == "cuda" else "cpu"
        write_json(folder / RUN, asked | {"hardware": None})
    write_seal(folder, TRAIN_SEAL, seal["files"], {key: seal[key] for key in seal if key != "files"})


def inside(runs: Path, path: str) -> Path:
    """A plain file of the volume. Raises RescoreError."""
    found = runs / PurePosixPath(path.removeprefix(f"{runs}/"))
    if ".." in found.parts or found.is_symlink() or not found.is_file() or not found.is_relative_to(runs):
        raise RescoreError(f"there is no file {path} in the volume of runs")
    return found


class Echo:
    """What the evaluation prints, printed here too, whenever the worker asks whether it should stop: never."""

    def __init__(self, log: Path, begins: int) -> None:
        self.log, self.at = log, begins

    def __call__(self) -> str | None:
        with self.log.open("rb") as file:
            file.seek(self.at)
            text = file.read()
        whole = text.rfind(b"\n") + 1
        self.at += whole
        if whole:
            sys.stdout.write(text[:whole].decode("utf-8", errors="replace"))
            sys.stdout.flush()
        return None


def keep(folder: Path, place: Path, begins: int) -> None:
    """What this evaluation left, without what the training had."""
    place.mkdir(parents=True)
    for name in KEPT:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, place / name)
    with (folder / LOG).open("rb") as log:
        log.seek(begins)
        write_bytes(place / LOG, log.read())


@dataclass(frozen=True)
class Row:
    stage: str
    sealed: float | None  # BPB; None: that side has no such stage
    again: float | None
    equal: bool

    @property
    def difference(self) -> float | None:
        return None if self.sealed is None or self.again is None else self.again - self.sealed


def compare(
    sealed: Mapping[str, typing.Any], again: Mapping[str, typing.Any], tolerance: float | None
) -> tuple[Row, ...]:
    """Stage by stage, from two scores.json. Without a tolerance every digit counts."""
    before, now = _stages(sealed), _stages(again)
    rows = []
    for stage in [*before, *(stage for stage in now if stage not in before)]:
        one, other = before.get(stage), now.get(stage)
        if one is None or other is None:
            rows.append(Row(stage, _bpb(one), _bpb(other), False))
            continue
        names = EXACT if tolerance is None else COUNTED
        equal = all(one.get(name) == other.get(name) for name in names)
        if tolerance is not None:
            equal = equal and abs(_bpb(one, 0.0) - _bpb(other, 0.0)) <= tolerance
        rows.append(Row(stage, _bpb(one), _bpb(other), equal))
    return tuple(rows)


def _stages(scores: Mapping[str, typing.Any]) -> dict[str, Mapping[str, typing.Any]]:
    found = scores.get("stages")
    if not isinstance(found, dict) or not all(isinstance(one, dict) for one in found.values()):
        raise RescoreError("scores.json has no table of stages")
    return found


@typing.overload
def _bpb(stage: Mapping[str, typing.Any], other: float) -> float: ...
@typing.overload
def _bpb(stage: Mapping[str, typing.Any] | None) -> float | None: ...
def _bpb(stage: Mapping[str, typing.Any] | None, other: float | None = None) -> float | None:
    value = None if stage is None else stage.get("val_bpb")
    return float(value) if isinstance(value, int | float) else other
