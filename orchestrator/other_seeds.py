"""The seeds that were run under a submission's configuration and are not registered with it: all are told.

Same configuration: same bundle, or script and environment, data, tokenizer, target. A run's id is a hash of those and
its seed, so the folder of an attempt tells whether it is one.
"""

import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from golf_core.rundir import RUN, RunDirError, read_json, write_json
from orchestrator.attempts import Attempt, attempt_folders, counted, inspect_all
from orchestrator.spec import Submission

KEY = "other_seeds"  # of spec.json


@dataclass(frozen=True)
class OtherSeed:
    seed: int
    run_id: str
    state: str  # of its attempts: counted, void, busy, damaged, lost, failed; gone where they were taken away

    def to_dict(self) -> dict[str, typing.Any]:
        """What spec.json keeps of it. Its state is in the attempts."""
        return {"seed": self.seed, "run_id": self.run_id}


class Asked:
    """What every attempt of a runs folder was asked, by what it runs: one look, however many submissions ask."""

    def __init__(self, runs_dir: Path) -> None:
        self.runs_dir = runs_dir
        self._by_bundle: dict[str, list[dict[str, typing.Any]]] | None = None

    def of(self, bundle_sha256: str) -> list[dict[str, typing.Any]]:
        if self._by_bundle is None:
            self._by_bundle = {}
            for folder in attempt_folders(self.runs_dir):
                asked = _asked(folder)
                kept = {"seed": asked.get("seed"), "run_id": asked.get("run_id")}
                self._by_bundle.setdefault(str(asked.get("bundle_sha256")), []).append(kept)
        return self._by_bundle.get(bundle_sha256, [])


def find_other_seeds(
    runs_dir: Path, submission: Submission, known: Mapping[str, typing.Any], asked: Asked | None = None
) -> tuple[OtherSeed, ...]:
    """By seed. `known` is the spec.json of the submission where there is one: what it told once it tells for ever.
    `asked` remembers over many submissions."""
    found: dict[int, str] = {}
    told = known.get(KEY)
    asked = asked or Asked(runs_dir)
    for one in [*asked.of(submission.bundle_sha256), *(told if isinstance(told, list) else [])]:
        seed, run_id = (one.get("seed"), one.get("run_id")) if isinstance(one, dict) else (None, None)
        if type(seed) is int and seed not in submission.seeds and run_id == submission.run_id(seed):
            found[seed] = str(run_id)
    return tuple(OtherSeed(seed, found[seed], _state(inspect_all(runs_dir, found[seed]))) for seed in sorted(found))


def refresh(path: Path, spec: Mapping[str, typing.Any], found: tuple[OtherSeed, ...]) -> None:
    """Write them into a spec.json that tells others. They are part of no id."""
    if (told := [one.to_dict() for one in found]) != spec.get(KEY, []):
        write_json(path, dict(spec) | {KEY: told})


def describe(found: tuple[OtherSeed, ...]) -> str:
    return ", ".join(f"seed {one.seed} ({one.state})" for one in found)


def _asked(folder: Path) -> dict[str, typing.Any]:
    try:
        return read_json(folder / RUN)
    except RunDirError:
        return {}


def _state(attempts: list[Attempt]) -> str:
    if not attempts:
        return "gone"
    return "counted" if counted(attempts) is not None else attempts[-1].state
