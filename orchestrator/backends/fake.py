"""A backend without processes, for tests: ours and those of whoever builds on this package.

A script says how each start ends, in order; what is not scripted completes. It writes attempt folders as a worker
would, sealed, with numbers that follow from the seed.
"""

import hashlib
import json
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from golf_core.rundir import (
    APPENDED,
    ARTIFACT,
    ENV,
    LOG,
    RESULT,
    RUN,
    SCORE_LEDGER,
    SCORES,
    SEAL,
    TRAIN_FILES,
    TRAIN_SEAL,
    is_sealed,
    read_json,
    write_json,
    write_seal,
)
from orchestrator.backends.base import Handle, Job, JobLost, State, SubmitError


@dataclass(frozen=True)
class Act:
    """How one start ends: `cls` is the class of the result, or `lost` (no result), or `refused` (SubmitError).

    `stage` is where it fails, `polls` how often it says that it runs before it ends.
    """

    cls: str = "completed"
    stage: str = "train"
    polls: int = 1


class FakeBackend:
    name = "fake"
    outlives = False

    def __init__(self, runs_dir: Path, script: Iterable[Act] = ()) -> None:
        self.attempts = (runs_dir / "attempts").resolve()
        self.script = list(script)
        self.started: list[str] = []  # attempt ids, in order: what a test asks about
        self.closed = False
        self._running: dict[str, tuple[Act, int]] = {}
        self._over: dict[str, State] = {}

    def hold(self, job: Job) -> str | None:
        return None  # the controller's slots are all that is counted here

    def start(self, job: Job) -> Handle:
        handle: Handle = {"backend": self.name, "attempt_id": job.attempt_id}
        if job.attempt_id in self._running:
            return handle
        act = self.script.pop(0) if self.script else Act()
        self.started.append(job.attempt_id)
        if act.cls == "refused":
            raise SubmitError("the script refuses this start")
        self._over.pop(job.attempt_id, None)
        self._running[job.attempt_id] = (act, act.polls)
        with (job.folder / LOG).open("a", encoding="utf-8") as log:
            log.write("fake: started\n")
        return handle

    def find(self, attempt_id: str) -> Handle | None:
        return {"backend": self.name, "attempt_id": attempt_id} if attempt_id in self._running else None

    def poll(self, handle: Handle) -> State:
        name = handle.get("attempt_id", "")
        if name in self._over:
            return self._over[name]
        if name not in self._running:
            raise JobLost(f"{handle} was never started here")
        act, polls = self._running[name]
        if polls > 0:
            self._running[name] = (act, polls - 1)
            return State("running")
        self._finish(name, act)
        return self._over[name]

    def logs(self, handle: Handle, since: int) -> bytes:
        path = self.attempts / str(handle["attempt_id"]) / LOG
        return path.read_bytes()[since:] if path.exists() else b""

    def cancel(self, handle: Handle) -> None:
        name = handle["attempt_id"]
        if name in self._running:
            self._finish(name, Act("cancelled", self._running[name][0].stage))

    def fetch(self, handle: Handle, into: Path) -> None:
        if into.resolve() != self.attempts / str(handle["attempt_id"]):
            raise JobLost(f"{handle['attempt_id']} was not made in {into}")

    def close(self) -> None:
        self.closed = True
        for name in list(self._running):
            self._finish(name, Act("orphaned", self._running[name][0].stage))

    def _finish(self, name: str, act: Act) -> None:
        del self._running[name]
        self._over[name] = State("lost", "scripted") if act.cls == "lost" else State("ended")
        folder = self.attempts / name
        asked = read_json(folder / RUN)
        facts = {key: asked[key] for key in ("run_id", "attempt_id", "seed")}
        if (act.cls == "completed" or act.stage == "evaluate") and not is_sealed(folder, TRAIN_SEAL):
            for file in (*APPENDED, ENV):
                with (folder / file).open("a", encoding="utf-8") as out:
                    out.write("{}\n" if file == ENV else "")
            (folder / ARTIFACT).write_bytes(hashlib.sha256(str(asked["seed"]).encode()).digest())
            write_seal(folder, TRAIN_SEAL, TRAIN_FILES, {**facts, "stage": "train"})
        if act.cls == "completed":
            (folder / SCORES).write_text(json.dumps(scores(asked)), encoding="utf-8")
            (folder / SCORE_LEDGER).write_bytes(b"")
        if act.cls != "lost":
            write_json(folder / RESULT, result(act))
        if act.cls == "completed":
            write_seal(folder, SEAL, (*TRAIN_FILES, TRAIN_SEAL, SCORES, SCORE_LEDGER, RESULT), facts)


def scores(asked: dict[str, typing.Any]) -> dict[str, typing.Any]:
    """scores.json of a seed: one stage, at ln 2 nats a token and a token a byte, so that BPB is 1."""
    stage = {"val_loss": 0.6931471805599453, "val_bpb": 1.0, "tokens": 1000, "bytes": 1000, "seconds": 1.0}
    return {
        "schema_version": 1,
        "seed": asked["seed"],
        "final_stage": "roundtrip",
        "stages": {"roundtrip": stage},
        "model_bytes": 32,
        "artifact_sha256": hashlib.sha256(hashlib.sha256(str(asked["seed"]).encode()).digest()).hexdigest(),
        "code_bytes": asked["code_bytes"],
        "parameters": 1,
    }


def result(act: Act) -> dict[str, typing.Any]:
    return {
        "schema_version": 1,
        "outcome": "completed" if act.cls == "completed" else "failed",
        "class": act.cls,
        "stage": "evaluate" if act.cls == "completed" else act.stage,
        "message": "" if act.cls == "completed" else "scripted",
        "exit_code": 0 if act.cls == "completed" else 1,
        "train_seconds": 1.0,
        "evaluate_seconds": 1.0,
        "started_at": "2026-01-01T00:00:00Z",
        "ended_at": "2026-01-01T00:00:01Z",
        "worker_seconds": 1.0,
    }
