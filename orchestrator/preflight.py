"""What can be refused before anything is started: data, tokenizer, recipe, target, output folders."""

import ast
import os
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from golf_core.bundle_pack import readable_source
from golf_core.config import Config
from golf_core.config_io import to_dict
from golf_core.fields import ConfigError
from golf_core.hardware import DTYPES, cpu_dtype
from golf_core.policy import Policy, load_policy
from golf_core.recipes import Grid, Recipe
from golf_core.rundir import BUNDLE, RunDirError, read_json
from orchestrator.catalogue import base_of, build, changed, grid_place, variants
from orchestrator.data_check import DataCheck
from orchestrator.errors import UsageError
from orchestrator.hardware.request import gpus_of_target, is_asked
from orchestrator.own_recipe import file_of
from orchestrator.script import Script, check_artifact, check_sidecars, parse_environment, read_script
from orchestrator.settings import Settings
from orchestrator.spec import OWN_DTYPE, SUBMISSION_DIGITS, Data, Submission, Target, parse_seeds

SPEC = "spec.json"
ROOT = Path(__file__).resolve().parents[1]


def read_bundle(path: Path) -> str:
    """A bundle that the user brings: the text of a file that must at least be Python."""
    try:
        text = path.read_text(encoding="utf-8")
        ast.parse(readable_source(text))
    except (OSError, UnicodeDecodeError, SyntaxError, ValueError) as error:
        raise UsageError(f"--bundle {path}: {error}") from None
    return text


def make_target(settings: Settings, config: Config | None) -> Target:
    """What the settings ask for, as far as this machine has it. Without a config it is a script's, which splits its
    batches and chooses its dtype itself."""
    device, cores = settings["device"], len(os.sched_getaffinity(0))
    if device not in ("cpu", "cuda"):
        raise UsageError(f"device={device!r} is not known; there are cpu, cuda")
    gpus = [] if device == "cpu" else gpus_of_target(settings)
    asked = device == "cuda" and is_asked(settings)
    processes, pieces = settings["processes"], 0 if config is None else config.train.micro_batches
    if processes is None and asked and settings["launcher"] != "python":
        processes = len(gpus)
    elif processes is None and device == "cuda":
        most = 1 if settings["launcher"] == "python" else len(gpus)  # every GPU, as far as the recipe can be split
        processes = next(n for n in range(most, 0, -1) if pieces % n == 0)
    elif processes is None:
        single = settings["launcher"] == "python" or cores < 2 or pieces % 2 or not pieces
        processes = 1 if single else 2
    if device == "cuda" and (processes > len(gpus) or (asked and processes < len(gpus))):
        given = f"of {settings.source('gpus')}" if asked else "visible here"
        less = "more" if processes > len(gpus) else "less"
        raise UsageError(
            f"processes={processes} is {less} than the GPUs {given} ({len(gpus)}); every process has one of its own"
        )
    if pieces and (processes < 1 or pieces % processes):
        good = ", ".join(str(n) for n in range(1, pieces + 1) if pieces % n == 0)
        raise UsageError(f"processes={processes} does not divide train.micro_batches={pieces}; it may be {good}")
    dtype = settings["dtype"] or (cpu_dtype() if device == "cpu" else "bf16") if config is not None else OWN_DTYPE
    if config is not None and dtype not in DTYPES:
        raise UsageError(f"dtype={dtype!r} is not known; there are {', '.join(DTYPES)}")
    return Target(
        device=device,
        gpu=gpus[0] if device == "cuda" else None,
        gpus=processes if device == "cuda" else 0,
        processes=processes,
        threads=settings["threads"],
        dtype=dtype,
        launcher=settings["launcher"],
    )


class Check(typing.Protocol):
    """A look at shards and tokenizer, under way."""

    def result(self) -> Data:
        """Waits for it. Raises UsageError for bad data."""

    def close(self) -> None:
        """End it; nothing happens where it is over."""


MakeTarget = Callable[[Settings, Config | None], Target]
BeginCheck = Callable[[Settings, int | None], Check]


def check_here(settings: Settings, vocab: int | None) -> Check:
    return DataCheck(settings["data"], settings["tokenizer"], vocab)


@dataclass(frozen=True)
class Prepared:
    """A submission that could be made, and the recipe and config that it was made from; of a script there are none."""

    submission: Submission
    recipe: Recipe | None = None
    config: Config | None = None


def prepare(
    settings: Settings,
    found: Recipe | Grid,
    overrides: Sequence[str],
    bundle: Path | None = None,
    meanwhile: Callable[[], None] = lambda: None,
    target_of: MakeTarget = make_target,
    begin_check: BeginCheck = check_here,
) -> list[Prepared]:
    """Everything that the submission of a recipe, or those of a grid, are made of, checked. Writes nothing.

    `meanwhile` is called while data is read.
    """
    seeds, policy = parse_seeds(settings["seeds"]), find_policy(settings)
    asked = [(recipe, changed(recipe, overrides)) for recipe in variants(found)]
    targets = [target_of(settings, config) for _, config in asked]
    check = begin_check(settings, _one_vocab([config for _, config in asked]))
    try:
        meanwhile()
        texts = [build(config) if bundle is None else read_bundle(bundle) for _, config in asked]
        data = check.result()
    finally:
        check.close()
    return [
        Prepared(
            Submission(
                recipe=config.name,
                overrides=tuple(overrides),
                seeds=seeds,
                target=target,
                policy=policy,
                config=to_dict(config),
                data=data,
                bundle=text,
                recipe_file=file_of(settings["recipe"]),
                published=_published(recipe, bundle),
                grid=grid_place(found, number),
                base=base_of(found, recipe),
            ),
            recipe,
            config,
        )
        for number, ((recipe, config), target, text) in enumerate(zip(asked, targets, texts, strict=True), 1)
    ]


def _published(recipe: Recipe, bundle: Path | None) -> dict[str, typing.Any] | None:
    """What was published of the recipe; how long a step takes in a bundle that somebody edited, nobody has said."""
    if recipe.published is None:
        return None
    return asdict(recipe.published) | ({} if bundle is None else {"step_ms": None})


def find_policy(settings: Settings) -> Policy:
    try:
        return load_policy(settings["policy"])
    except ConfigError as error:
        raise UsageError(str(error)) from None


def prepare_script(
    settings: Settings,
    path: Path,
    env: Sequence[str],
    artifact: str | None,
    meanwhile: Callable[[], None],
    target_of: MakeTarget = make_target,
    begin_check: BeginCheck = check_here,
) -> Prepared:
    """The same for somebody's own program."""
    seeds, policy = parse_seeds(settings["seeds"]), find_policy(settings)
    script = Script(name=path.name, env=parse_environment(env), artifact=check_artifact(artifact))
    text, target = read_script(path), target_of(settings, None)
    check = begin_check(settings, None)
    try:
        meanwhile()
        data = check.result()
    finally:
        check.close()
    if begin_check is check_here:  # the data of a cluster is not here to be looked at
        check_sidecars(text, script.name, Path(data.path))
    return Prepared(
        Submission(
            recipe=script.name,
            overrides=(),
            seeds=seeds,
            target=target,
            policy=policy,
            config={},
            data=data,
            bundle=text,
            script=script,
        )
    )


def _one_vocab(configs: Sequence[Config]) -> int:
    vocabs = {config.name: config.model.vocab for config in configs}
    if len(set(vocabs.values())) > 1:
        told = ", ".join(f"{name}: model.vocab={vocab}" for name, vocab in vocabs.items())
        raise UsageError(f"the variants of a grid run on one data set, but differ in vocabulary ({told})")
    return configs[0].model.vocab


def check_folder(runs_dir: Path, submission: Submission) -> bool:
    """Whether the submission's folder is there. Refuses one that is not ours, or was registered otherwise."""
    folder = runs_dir / submission.submission_id[:SUBMISSION_DIGITS]
    if not folder.exists() and not folder.is_symlink():
        return False
    try:
        spec = read_json(folder / SPEC)
    except RunDirError as error:
        raise UsageError(f"output folder {folder} is not ours ({error}); nothing was touched: move it away") from None
    if spec.get("submission_id") != submission.submission_id or not (folder / BUNDLE).is_file():
        raise UsageError(f"output folder {folder} holds another submission; nothing was touched: move it away")
    policy, registered_policy = submission.policy.to_dict(), spec.get("policy", {})
    if "claim" not in registered_policy:  # from before policies had one: the rest must still be equal
        policy.pop("claim", None)
    registered_policy, policy = _without_hardware(registered_policy), _without_hardware(policy)
    if registered_policy != policy:
        registered = registered_policy.get("name")
        raise UsageError(
            f"this submission is registered under policy {registered!r}, not {submission.policy.name!r}: "
            f"submit it with --policy {registered}, or into another --runs-dir"
        )
    return True


def _without_hardware(policy: Mapping[str, typing.Any]) -> dict[str, typing.Any]:
    """The rest of a policy: what a node must show before it is trained on decides no gate, and will be set anew once
    somebody has measured it."""
    return {key: value for key, value in policy.items() if key != "hardware"}
