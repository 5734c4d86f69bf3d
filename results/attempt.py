"""What every counted attempt is, of a recipe or of a script: sealed files, and what was asked, checked against them."""

import abc
from dataclasses import dataclass
from pathlib import Path

from golf_core.rundir import RunDirError
from results.facts import Facts
from results.spec import SCRIPT, Spec, script_of


@dataclass(frozen=True)
class Evidence(abc.ABC):
    """The files of a counted attempt, read and checked against the submission and each other."""

    folder: Path
    seal: Facts
    result: Facts
    env: Facts

    @property
    def attempt_id(self) -> str:
        return self.folder.name

    @property
    @abc.abstractmethod
    def diagnostic_only(self) -> bool:
        """Its scores are no scores: it may have learned from what it had not scored yet."""

    def sealed(self, file: str) -> Facts:
        return self.seal.child("files").child(file)


def check_asked(run: Facts, folder: Path, spec: Spec, seed: int, run_id: str) -> None:
    """What run.json, which is sealed, says was asked for is what the submission asks for."""
    where = f"{spec.folder.name} and the folder's name"
    for key, value in (
        ("run_id", run_id),
        ("attempt_id", folder.name),
        ("seed", seed),
        ("bundle_sha256", spec.bundle_sha256),
        ("target", spec.target),
    ):
        run.expect(key, value, where)
    if spec.script is not None:
        run.expect("kind", SCRIPT, where)
        if script_of(run).content != spec.script.content:
            raise RunDirError(f"{run.place}: script is not the one of {where}: another environment or artifact")
    _check_registration(run, spec)


def _check_registration(run: Facts, spec: Spec) -> None:
    """What spec.json says is not sealed, run.json is. A run done for another submission may have had another policy."""
    where = f"{spec.folder.name}: spec.json was changed, or the attempt is not of this submission"
    if "simulated" in (spec.target_class, run.text("target_class")):
        run.expect("target_class", spec.target_class, where)
    if run.text("submission_id") != spec.submission_id:
        return
    if spec.script is None:  # the name of a script's file is no content: a copy of it is the same submission
        run.expect("recipe", spec.recipe, where)
    run.expect("target_class", spec.target_class, where)
    run.expect("policy_name", spec.policy_name, where)
    limits = run.child("limits")
    for key, cap in (("train_s", "train_seconds"), ("evaluate_s", "evaluate_seconds")):
        if limits.number(key) != spec.policy.get(cap):
            raise RunDirError(
                f"{limits.place}: {key} is {limits.number(key)}, not {spec.policy.get(cap)!r:.80} as in {where}"
            )
