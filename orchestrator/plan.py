"""The plan of a submission: what would run, what is done already, where each value came from. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from golf_core.recipes import Recipe
from orchestrator.attempts import Attempt, counted
from orchestrator.cluster.storage import told_of
from orchestrator.errors import UsageError
from orchestrator.hardware.reference import describe as describe_hardware
from orchestrator.hardware.request import is_planned
from orchestrator.limits import limits_of
from orchestrator.money.cost import Cost
from orchestrator.money.rehearsal import Rehearsal
from orchestrator.money.spending import cost_of
from orchestrator.other_seeds import OtherSeed, describe
from orchestrator.own_recipe import borrowed
from orchestrator.policy import OUTSIDE
from orchestrator.power import Power, power_of
from orchestrator.preflight import Prepared
from orchestrator.script import Script, hints
from orchestrator.settings import DEFAULT, Settings
from orchestrator.size import Size, estimate
from orchestrator.spec import SUBMISSION_DIGITS, Run, Submission, Target, attempt_id, target_class

Line = tuple[str, str, str]  # name, value, where the value came from


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
    size: Size | None  # None: of a script nothing is known before it has run
    meant_for: str | None  # the target of the recipe
    cost: Cost
    rehearsal: Rehearsal | None = None  # what goes first; None: nothing is paid for
    edited: bool = False  # the bundle is one that the user brought: the recipe's size is not known to be its own
    hints: tuple[Line, ...] = ()  # what somebody who reads the recipe or the script would ask
    other_seeds: tuple[OtherSeed, ...] = ()  # run under this configuration, and not registered here
    power: Power | None = None  # what the seeds can show; None: nothing is claimed, and nothing paid for

    @property
    def finished(self) -> bool:
        return all(planned.done for planned in self.runs)

    @property
    def refused(self) -> bool:
        """Nobody rents the record's GPUs for what cannot pass; elsewhere it may be worth a look."""
        record = target_class(self.submission.target, self.submission.policy) == "record"
        cannot = self.size is not None and self.size.verdict == "cannot fit"
        return record and cannot and not self.edited and not self.finished

    def to_dict(self) -> dict[str, object]:
        spec = self.submission.to_dict(registered_at="")
        del spec["registered_at"]
        runs = [{"seed": p.run.seed, "run_id": p.run.run_id, "done": p.done, "plan": p.what} for p in self.runs]
        more = {
            "size": None if self.size is None else self.size.to_dict(),
            "meant_for": self.meant_for,
            "as_meant": None if self.meant_for is None else is_as_meant(self.meant_for, self.submission.target),
            "hints": [hint for _, hint, _ in self.hints],
            "other_seeds": [one.to_dict() | {"state": one.state} for one in self.other_seeds],
            "power": None if self.power is None else self.power.to_dict(),
            "cost": self.cost.to_dict(),
            "rehearsal": None if self.rehearsal is None else self.rehearsal.to_dict(),
            "diagnostic_only": self.submission.diagnostic_only,
            "refused": self.refused,
        }
        return spec | {"runs": runs, "sources": dict(self.sources)} | more


def make_plan(
    prepared: Prepared,
    attempts: Mapping[str, Sequence[Attempt]],
    settings: Settings,
    retry_failed: bool = False,
    edited: bool = False,
    other_seeds: tuple[OtherSeed, ...] = (),
) -> Plan:
    """`attempts` holds what is there of each run id; `other_seeds` what was run of this and is not asked for."""
    submission = prepared.submission
    runs = []
    for run in submission.runs:
        there = list(attempts.get(run.run_id, ()))
        verb = "train and evaluate" if submission.script is None else "run"
        runs.append(PlannedRun(run, counted(there) is not None, _what(run, there, verb, retry_failed)))
    config, recipe = prepared.config, prepared.recipe
    return Plan(
        submission=submission,
        runs=tuple(runs),
        sources={name: setting.source for name, setting in settings.values.items()},
        size=None if config is None else estimate(config, submission.code_bytes, submission.policy.artifact_bytes),
        meant_for=None if recipe is None else recipe.target,
        cost=cost_of(submission, settings, attempts),
        edited=edited,
        hints=tuple(_hints(submission, recipe)),
        other_seeds=other_seeds,
        power=power_of(submission, embedded=settings["data"] is None),
    )


def _hints(submission: Submission, recipe: Recipe | None) -> list[Line]:
    if submission.script is not None:
        found = hints(submission.bundle, submission.script)
        return [("look at", hint, "read, not run") for hint in found]
    if recipe is None or submission.recipe_file is None:  # of ours nobody who runs it could change what it says
        return []
    return [("look at", hint, "the recipe") for hint in borrowed(recipe)]


def _what(run: Run, there: list[Attempt], verb: str, retry_failed: bool) -> str:
    done = counted(there)
    if done is not None:
        return f"done: {done.attempt_id} is counted"
    if busy := [one for one in there if one.state == "busy"]:
        return f"running: {busy[-1].attempt_id}"
    following = f"{verb} as {attempt_id(run.run_id, 1 + max((one.number for one in there), default=0))}"
    left = [one for one in there if one.state != "void"]
    if not left:
        return following
    last = left[-1]
    if last.train_sealed and last.stage == "evaluate" and (last.cls in OUTSIDE or retry_failed):
        return f"evaluate {last.attempt_id} again ({last.cls}); its training is sealed"
    if last.cls in OUTSIDE or retry_failed:
        return f"{following}; {last.attempt_id} becomes void ({last.cls})"
    return f"nothing: {last.attempt_id} failed ({last.cls}); --retry-failed tries again"


def is_as_meant(meant_for: str, target: Target) -> bool:
    """Whether a target is what `cpu` or `MODEL:COUNT` asks for."""
    model, _, count = meant_for.partition(":")
    if target.device == "cpu" or model == "cpu":
        return target.device == model
    return model in (target.gpu or "").split() and str(target.gpus) == (count or "1")


def check_sizes(plans: Sequence[Plan]) -> None:
    """Refuse, before anything is paid for, what cannot pass its policy."""
    for plan in plans:
        if plan.refused and plan.size is not None:
            raise UsageError(
                f"{plan.submission.recipe} cannot fit under policy {plan.submission.policy.name}: "
                f"{plan.size.describe()}; make it smaller with --set, or try it out with --policy exploration"
            )


def lines(plan: Plan, settings: Settings, bundle: str | None = None) -> list[Line]:
    """(name, value, source) rows for the eye."""
    submission = plan.submission
    corpus = "embedded corpus, " if settings["data"] is None else ""
    target = f"{submission.target.describe()} ({target_class(submission.target, submission.policy)})"
    rows = [
        ("submission", submission.submission_id[:SUBMISSION_DIGITS], "content of everything below"),
        *(
            _recipe_lines(plan, settings, bundle)
            if submission.script is None
            else _script_lines(plan, settings, submission.script)
        ),
        ("seeds", ", ".join(str(seed) for seed in submission.seeds), plan.sources["seeds"]),
        *_also_run(plan.other_seeds),
        ("data", corpus + submission.data.describe(), plan.sources["data"]),
        ("target", target, _target(plan)),
        *_looked_at(submission),
        ("policy", f"{submission.policy.name}: {_caps(submission)}", plan.sources["policy"]),
        *([] if plan.power is None else plan.power.rows()),
        ("backend", str(settings["on"]), plan.sources["on"]),
        ("runs folder", str(settings["runs_dir"]), plan.sources["runs_dir"]),
        *([("storage", told_of(settings["storage"]), settings.source("storage"))] if settings["address"] else []),
        *plan.cost.rows(),
        *([] if plan.rehearsal is None else plan.rehearsal.rows()),
    ]
    return rows + _warnings(plan)


def plan_lines(rows: Sequence[Line], plan: Plan) -> list[str]:
    """A plan, or what is its own in it: a line a setting, then a line a seed."""
    text = [f"{name:<12} {value}  [{source}]" for name, value, source in rows]
    return text + [f"  seed {planned.run.seed:<10} {planned.what}" for planned in plan.runs]


def _looked_at(submission: Submission) -> list[Line]:
    """What the worker holds its GPUs against before it trains on them."""
    if submission.hardware is None:
        return []
    is_record = target_class(submission.target, submission.policy) == "record"
    return [("node check", describe_hardware(submission.hardware, is_record), f"policy {submission.policy.name}")]


def _also_run(found: tuple[OtherSeed, ...]) -> list[Line]:
    what = f"also run under this configuration: {describe(found)}; tables and submission name them"
    return [("other seeds", what, "the runs folder")] if found else []


def _recipe_lines(plan: Plan, settings: Settings, bundle: str | None) -> list[Line]:
    submission, size = plan.submission, plan.size
    assert size is not None
    words = " ".join(f"--set {one}" for one in submission.overrides)
    packed = "" if submission.readable is None else f", packed ({len(submission.readable.encode()):,} readable)"
    code = f"{submission.code_bytes:,} bytes{packed}, sha256 {submission.bundle_sha256[:12]}"
    counted = "of the recipe, not of the given bundle" if plan.edited else "counted from the config"
    told = size.describe() + ("; submit refuses it on record hardware" if plan.refused else "")
    name = f" {settings['recipe']}" if submission.recipe_file is not None else ""
    return [
        ("recipe", f"{submission.recipe} {words}".strip(), plan.sources["recipe"] + name),
        ("bundle", code, bundle or "built from the recipe"),
        ("parameters", f"{size.parameters:,}", counted),
        ("size", told, "estimate"),
    ]


def _script_lines(plan: Plan, settings: Settings, script: Script) -> list[Line]:
    submission, whole = plan.submission, limits_of(plan.submission, settings).whole_s
    code = f"{script.name}, {submission.code_bytes:,} bytes, sha256 {submission.bundle_sha256[:12]}"
    given = script.describe_environment() or "nothing of yours"
    looked_for = "--artifact" if script.artifact else "the challenge's names; --artifact names another"
    return [
        ("script", code, "--script, as it is; this file alone counts as code"),
        ("environment", given, "--env, in order" if script.env else "--env NAME=VALUE gives more"),
        ("artifact", script.describe_artifact(), looked_for),
        ("deadline", f"{whole:g} s in all: a script tells no phases", "policy and --startup-seconds"),
    ]


def _warnings(plan: Plan) -> list[Line]:
    submission, target = plan.submission, plan.submission.target
    found = list(plan.hints)
    if is_planned(plan.sources["gpus"]):
        here = f"planned for {target.gpus}x {target.gpu}; a start needs them"
        found.append(("not checked", here, plan.sources["gpus"]))
    if target.simulated:
        here = (
            f"no {target.gpus}x {target.gpu or 'GPU'}: declared to Ray and not there; trained on CPUs, passes nothing"
        )
        found.append(("simulated", here, plan.sources["gpus"]))
    if plan.meant_for is not None and not is_as_meant(plan.meant_for, target):
        here = f"{target.gpus}x {target.gpu}" if target.device == "cuda" else f"cpu, {_count(target.processes)}"
        way = "; --device cuda asks for GPUs" if target.device == "cpu" else ""
        found.append(("meant for", f"{plan.meant_for}; this target is {here}{way}", "the recipe"))
    vocab, pieces = submission.config.get("model", {}).get("vocab"), submission.data.pieces
    if None not in (vocab, pieces) and pieces < vocab:
        here = f"model.vocab={vocab}, but the tokenizer has {pieces} pieces: the rest is bytes for nothing"
        found.append(("vocabulary", f"{here}; --set model.vocab={pieces}", "the recipe and the data"))
    if submission.diagnostic_only:
        found.append(("diagnostic", "its scores are no scores, and nothing of it can be submitted", "diagnostic_only"))
    return found


def _count(processes: int) -> str:
    return f"{processes} process{'es' if processes > 1 else ''}"


def _target(plan: Plan) -> str:
    names = ["device", "processes", "threads", "launcher"] + ["dtype"] * (plan.submission.script is None)
    given = [f"{name}: {plan.sources[name]}" for name in names if plan.sources[name] != DEFAULT]
    return ", ".join(given) or DEFAULT


def _caps(submission: Submission) -> str:
    policy = submission.policy
    seconds = f"{policy.train_seconds:g} s training, {policy.evaluate_seconds:g} s evaluation"
    return f"{policy.artifact_bytes:,} bytes, {seconds}"
