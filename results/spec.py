"""What a submission asked for, read from its spec.json; its ids are recomputed, so an edited one is refused.

It asked for a recipe, or for a script: somebody's own train_gpt.py with its environment.
"""

import re
import typing
from dataclasses import dataclass
from pathlib import Path

from golf_core.fields import ConfigError
from golf_core.policy import load_policy, policy_names
from golf_core.rundir import BUNDLE, RunDirError, content_id, read_json
from results.content import FRESH, Fresh
from results.facts import Facts

SPEC = "spec.json"
FOLDER_DIGITS = 12
SHA256 = re.compile(r"[0-9a-f]{64}")
CAPS = ("artifact_bytes", "train_seconds", "evaluate_seconds", "kill_after_seconds", "seeds", "gpu", "gpus")
PUBLISHED_STATUSES = ("measured", "expected", "pending")
TARGET_CLASSES = ("cpu", "simulated", "exploratory", "record")
RECIPE, SCRIPT = "recipe", "script"


@dataclass(frozen=True, kw_only=True)
class ScriptSpec:
    """What was asked of a script, beside its text."""

    environment: dict[str, str]  # in the order of --env
    artifact: str | None  # glob of the file that counts as its weights; None: the challenge's names

    @property
    def content(self) -> dict[str, typing.Any]:
        """Its part of a run id, with the script's SHA-256."""
        return {"environment": self.environment} | ({} if self.artifact is None else {"artifact": self.artifact})

    @property
    def words(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.environment.items())


class UnknownSubmission(Exception):
    """No submission, or several, have that id."""


@dataclass(frozen=True, kw_only=True)
class Spec:
    folder: Path
    submission_id: str
    recipe: str
    overrides: tuple[str, ...]
    runs: tuple[tuple[int, str], ...]  # (seed, run id), in the registered order
    target: dict[str, typing.Any]
    target_class: str
    policy: dict[str, typing.Any]
    bundle_sha256: str
    code_bytes: int
    config: dict[str, typing.Any]
    data_sha256: str
    tokenizer_sha256: str
    registered_at: str | None
    diagnostic_only: bool | None  # what the bundle is frozen with; None: no bundle of ours
    grid: dict[str, typing.Any] | None  # the columns of the grid that it is a variant of
    published: dict[str, typing.Any] | None  # value, status, source: what somebody else gives for the recipe
    script: ScriptSpec | None = None  # where it is one, not a recipe
    data_name: str | None = None  # what the manifest beside the shards calls them, and from where; None: there was none
    other_seeds: tuple[tuple[int, str], ...] = ()  # (seed, run id) that submit found beside the registered ones

    @property
    def kind(self) -> str:
        return RECIPE if self.script is None else SCRIPT

    def run_id(self, seed: int) -> str:
        """Of any seed under this configuration, registered or not."""
        what = {"bundle_sha256": self.bundle_sha256}
        if self.script is not None:
            what = self.script.content | {"script_sha256": self.bundle_sha256}
        data = {"data_sha256": self.data_sha256, "tokenizer_sha256": self.tokenizer_sha256}
        return content_id({**what, **data, "seed": seed, "target": self.target})

    @property
    def runs_dir(self) -> Path:
        return self.folder.parent

    @property
    def policy_name(self) -> str:
        return str(self.policy.get("name", "unnamed"))

    @property
    def is_record_track(self) -> bool:
        """On the GPUs of a policy that we ship; one that a user wrote makes no record."""
        return self.target_class == "record" and self.policy_name in policy_names()


def submission_folders(runs_dir: Path) -> list[Path]:
    """Every folder that looks like a submission of ours, by name."""
    if not runs_dir.is_dir():
        return []
    pattern = re.compile(rf"[0-9a-f]{{{FOLDER_DIGITS}}}")
    return sorted(path for path in runs_dir.iterdir() if pattern.fullmatch(path.name) and (path / SPEC).is_file())


def find_submission(runs_dir: Path, prefix: str) -> Path:
    """The folder of the one submission whose id starts so. Raises UnknownSubmission, which lists what there is."""
    folders = submission_folders(runs_dir)
    found = [path for path in folders if prefix and prefix[:FOLDER_DIGITS] == path.name[: len(prefix)]]
    if len(found) != 1:
        names = ", ".join(path.name for path in folders[:10]) or "none"
        what = "is the start of several ids" if found else f"is no submission in {runs_dir}"
        raise UnknownSubmission(f"{prefix!r} {what}; there are {names}")
    return found[0]


def load_spec(folder: Path, content: Fresh = FRESH) -> Spec:
    """Read and check spec.json and the bundle beside it. Raises RunDirError."""
    facts = Facts(read_json(folder / SPEC), str(folder / SPEC))
    facts.expect("schema_version", 1, "this version of the program")
    data, target = facts.child("data"), facts.child("target")
    hashes = {
        "bundle_sha256": facts.text("bundle_sha256"),
        "data_sha256": data.text("sha256"),
        "tokenizer_sha256": data.text("tokenizer_sha256"),
    }
    for key, value in hashes.items():
        if not SHA256.fullmatch(value):
            raise RunDirError(f"{facts.place}: {key} is {value!r}, not a SHA-256")
    script = _script(facts)
    what = dict(hashes) if script is None else script.content | hashes
    if script is not None:
        what["script_sha256"] = what.pop("bundle_sha256")
    runs = []
    for entry in facts.items("runs"):
        run = Facts(entry if isinstance(entry, dict) else {}, f"{facts.place}: runs")
        runs.append((run.integer("seed"), run.text("run_id")))
        expected = _content_id({**what, "seed": runs[-1][0], "target": target.values}, facts.place)
        run.expect("run_id", expected, "the content that it names")
    if not runs or [seed for seed, _ in runs] != facts.items("seeds") or len(dict(runs)) != len(runs):
        raise RunDirError(f"{facts.place}: seeds is {facts.values.get('seeds')!r:.80}, which are not those of its runs")
    facts.expect("submission_id", content_id([run_id for _, run_id in runs]), "the content that it names")
    if folder.name != facts.text("submission_id")[:FOLDER_DIGITS]:
        raise RunDirError(
            f"{facts.place} is of submission {facts.text('submission_id')[:FOLDER_DIGITS]}, not of its folder"
        )
    if facts.text("target_class") not in TARGET_CLASSES:
        raise RunDirError(f"{facts.place}: target_class is {facts.text('target_class')!r}; there are {TARGET_CLASSES}")
    _check_policy(facts.child("policy"))
    _check_target_class(facts, target)
    _check_bundle(folder / BUNDLE, hashes["bundle_sha256"], facts.integer("code_bytes"), content)
    overrides = Facts(dict(enumerate_text(facts.items("overrides"))), f"{facts.place}: overrides")
    return Spec(
        folder=folder,
        submission_id=facts.text("submission_id"),
        recipe=facts.text("recipe"),
        overrides=tuple(overrides.text(key) for key in overrides.values),
        runs=tuple(runs),
        target=dict(target.values),
        target_class=facts.text("target_class"),
        policy=dict(facts.child("policy").values),
        code_bytes=facts.integer("code_bytes"),
        config=dict(facts.child("config").values),
        registered_at=facts.maybe_text("registered_at"),
        diagnostic_only=content.diagnostic_only(folder / BUNDLE, hashes["bundle_sha256"]),
        grid=_grid(facts),
        published=_published(facts),
        script=script,
        data_name=_data_name(data),
        other_seeds=_other_seeds(facts),
        **hashes,
    )


def _data_name(data: Facts) -> str | None:
    """The data set's name; one of the hub's with repository, commit and train shards, so that it can be had again."""
    name, source = data.maybe_text("name"), data.values.get("source")
    if name is None or not isinstance(source, dict) or source.get("kind") != "hub":
        return name
    told = Facts(source, f"{data.place}: source")
    shards = data.child("shards").integer("train")
    return f"{name} of {told.text('repo')} at {told.text('revision')} with {shards:,} train shards"


def _other_seeds(facts: Facts) -> tuple[tuple[int, str], ...]:
    """An older spec.json tells none. Whether they are of this configuration, their ids tell."""
    told = []
    for entry in facts.items("other_seeds") if facts.has("other_seeds") else []:
        run = Facts(entry if isinstance(entry, dict) else {}, f"{facts.place}: other_seeds")
        told.append((run.integer("seed"), run.text("run_id")))
    return tuple(told)


def _script(facts: Facts) -> ScriptSpec | None:
    """None of a recipe, or of a submission made before there were scripts."""
    if (kind := facts.maybe_text("kind")) not in (None, RECIPE, SCRIPT):
        raise RunDirError(f"{facts.place}: kind is {kind!r:.80}; there are {RECIPE}, {SCRIPT}")
    return script_of(facts) if kind == SCRIPT else None


def script_of(facts: Facts) -> ScriptSpec:
    """What spec.json or run.json says of its script."""
    told = facts.child("script")
    environment = told.child("environment")
    values = {name: environment.text(name) for name in environment.values}
    return ScriptSpec(environment=values, artifact=told.maybe_text("artifact"))


def enumerate_text(items: list[typing.Any]) -> list[tuple[str, typing.Any]]:
    return [(str(index), item) for index, item in enumerate(items)]


def _content_id(value: typing.Any, place: str) -> str:
    try:
        return content_id(value)
    except (ValueError, UnicodeError, RecursionError) as error:
        raise RunDirError(f"{place} cannot be hashed: {error}") from None


def _grid(facts: Facts) -> dict[str, typing.Any] | None:
    """The variant's place in its grid, for the order and the base of a table; an older spec.json tells none."""
    if not facts.has("grid"):
        return None
    said = facts.child("grid")
    return {"grid": said.text("name"), "grid_base": said.text("base"), "grid_position": said.integer("position")}


def _published(facts: Facts) -> dict[str, typing.Any] | None:
    """What spec.json tells of somebody else's score. Nothing proves it: it is shown beside ours, never counted."""
    if not facts.has("published"):
        return None
    said = facts.child("published")
    if (status := said.text("status")) not in PUBLISHED_STATUSES:
        raise RunDirError(f"{said.place}: status is {status!r:.80}; there are {', '.join(PUBLISHED_STATUSES)}")
    return {"value": said.maybe_number("value"), "status": status, "source": said.text("source")}


def _check_policy(policy: Facts) -> None:
    """A policy with the name of one that we ship has its caps and its claim; from before there were claims, none."""
    if policy.values.get("name") not in policy_names():
        return
    try:
        shipped = load_policy(policy.text("name")).to_dict()
    except ConfigError as error:
        raise RunDirError(f"{policy.place}: {error}") from None
    for key in (*CAPS, *(["claim"] if "claim" in policy.values else [])):
        if policy.values.get(key) != shipped.get(key):
            raise RunDirError(
                f"{policy.place}: {key} is {policy.values.get(key)!r:.80}, but {shipped.get(key)!r} in the policy "
                f"{policy.text('name')!r} that we ship"
            )


def _check_target_class(facts: Facts, target: Facts) -> None:
    """The class follows from target and policy. Simulated hardware alone is only told, and passes nothing."""
    policy = facts.child("policy").values
    asked = policy.get("gpu") is not None and all(target.values.get(key) == policy.get(key) for key in ("gpu", "gpus"))
    expected = "record" if asked else "exploratory"
    if target.values.get("device") == "cpu":
        expected = "simulated" if target.values.get("gpus") else "cpu"
    if facts.text("target_class") != "simulated":
        facts.expect("target_class", expected, "its target and policy")


def _check_bundle(path: Path, sha256: str, size: int, content: Fresh) -> None:
    if path.is_symlink() or not path.is_file():
        raise RunDirError(f"{path} is missing or not a plain file")
    if path.stat().st_size != size or content.sha256(path) != sha256:
        raise RunDirError(f"{path} is not the bundle that {path.with_name(SPEC)} names")
