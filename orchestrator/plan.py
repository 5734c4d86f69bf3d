"""The plan of a submission: what would run, what is done already, where each value came from. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.attempts import Attempt, counted
from orchestrator.policy import OUTSIDE
from orchestrator.settings import Settings
from orchestrator.spec import SUBMISSION_DIGITS, Run, Submission, attempt_id, target_class


@dataclass(frozen=True)
class PlannedRun:
    run: Run
    done: bool
    what: str


@dataclass(frozen=True)
class Plan:
    submission: Submission
    runs: tuple[PlannedRun, ...]
    sources: Mapping[str, str]

    @property
    def finished(self) -> bool:
        return all(planned.done for planned in self.runs)

    def to_dict(self) -> dict[str, object]:
        spec = self.submission.to_dict(registered_at="")
        del spec["registered_at"]
        runs = [{"seed": p.run.seed, "run_id": p.run.run_id, "done": p.done, "plan": p.what} for p in self.runs]
        return spec | {"runs": runs, "sources": dict(self.sources)}


def make_plan(
    submission: Submission, attempts: Mapping[str, Sequence[Attempt]], settings: Settings, retry_failed: bool = False
) -> Plan:
    """`attempts` holds what is there of each run id."""
    runs = []
    for run in submission.runs:
        there = list(attempts.get(run.run_id, ()))
        runs.append(PlannedRun(run, counted(there) is not None, _what(run, there, retry_failed)))
    return Plan(submission, tuple(runs), {name: setting.source for name, setting in settings.values.items()})


def _what(run: Run, there: list[Attempt], retry_failed: bool) -> str:
    done = counted(there)
    if done is not None:
        return f"done: {done.attempt_id} is counted"
    if busy := [one for one in there if one.state == "busy"]:
        return f"running: {busy[-1].attempt_id}"
    following = f"train and evaluate as {attempt_id(run.run_id, 1 + max((one.number for one in there), default=0))}"
    left = [one for one in there if one.state != "void"]
    if not left:
        return following
    last = left[-1]
    if last.train_sealed and last.stage == "evaluate" and (last.cls in OUTSIDE or retry_failed):
        return f"evaluate {last.attempt_id} again ({last.cls}); its training is sealed"
    if last.cls in OUTSIDE or retry_failed:
        return f"{following}; {last.attempt_id} becomes void ({last.cls})"
    return f"nothing: {last.attempt_id} failed ({last.cls}); --retry-failed tries again"


def lines(plan: Plan, settings: Settings, bundle: str | None = None) -> list[tuple[str, str, str]]:
    """(name, value, source) rows for the eye."""
    submission = plan.submission
    corpus = "embedded corpus" if settings["data"] is None else submission.data.path
    words = " ".join(f"--set {one}" for one in submission.overrides)
    rows = [
        ("submission", submission.submission_id[:SUBMISSION_DIGITS], "content of everything below"),
        ("recipe", f"{submission.recipe} {words}".strip(), plan.sources["recipe"]),
        (
            "bundle",
            f"{submission.code_bytes:,} bytes, sha256 {submission.bundle_sha256[:12]}",
            bundle or "built from the recipe",
        ),
        ("seeds", ", ".join(str(seed) for seed in submission.seeds), plan.sources["seeds"]),
        ("data", f"{corpus}, sha256 {submission.data.sha256[:12]}", plan.sources["data"]),
        (
            "target",
            f"{submission.target.describe()} ({target_class(submission.target, submission.policy)})",
            _target(plan),
        ),
        ("policy", f"{submission.policy.name}: {_caps(submission)}", plan.sources["policy"]),
        ("backend", str(settings["on"]), plan.sources["on"]),
        ("runs folder", str(settings["runs_dir"]), plan.sources["runs_dir"]),
    ]
    return rows


def _target(plan: Plan) -> str:
    names = ("device", "processes", "threads", "dtype", "launcher")
    given = [f"{name}: {plan.sources[name]}" for name in names if plan.sources[name] != "default"]
    return ", ".join(given) or "default"


def _caps(submission: Submission) -> str:
    policy = submission.policy
    seconds = f"{policy.train_seconds:g} s training, {policy.evaluate_seconds:g} s evaluation"
    return f"{policy.artifact_bytes:,} bytes, {seconds}"
