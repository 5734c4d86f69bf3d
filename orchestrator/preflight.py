"""What can be refused before anything is started: recipe or script, target, data, tokenizer, output folders."""

import ast
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from golf_core.bundle_pack import readable_source
from golf_core.config import Config
from golf_core.config_io import to_dict
from golf_core.fields import ConfigError
from golf_core.policy import Policy, load_policy
from golf_core.recipes import Grid, Recipe
from golf_core.rundir import BUNDLE, RunDirError, read_json
from orchestrator.catalogue import base_of, build, changed, grid_place, variants
from orchestrator.errors import UsageError
from orchestrator.own_recipe import file_of
from orchestrator.registered import SPEC
from orchestrator.script import Script, check_artifact, check_sidecars, parse_environment, read_script
from orchestrator.settings import Settings
from orchestrator.site import Site, ThisMachine
from orchestrator.spec import SUBMISSION_DIGITS, Submission, parse_seeds


def read_bundle(path: Path) -> str:
    """A bundle that the user brings: the text of a file that must at least be Python."""
    try:
        text = path.read_text(encoding="utf-8")
        ast.parse(readable_source(text))
    except (OSError, UnicodeDecodeError, SyntaxError, ValueError) as error:
        raise UsageError(f"--bundle {path}: {error}") from None
    return text


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
    bundle: Path | None,
    site: Site,
) -> list[Prepared]:
    """Everything that the submission of a recipe, or those of a grid, are made of, checked. Writes nothing."""
    seeds, policy = parse_seeds(settings["seeds"]), find_policy(settings)
    asked = [(recipe, changed(recipe, overrides)) for recipe in variants(found)]
    targets = [site.target(settings, config) for _, config in asked]
    check = site.check(settings, _one_vocab([config for _, config in asked]))
    try:
        site.warm_up(settings)
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
    site: Site,
) -> Prepared:
    """The same for somebody's own program."""
    seeds, policy = parse_seeds(settings["seeds"]), find_policy(settings)
    script = Script(name=path.name, env=parse_environment(env), artifact=check_artifact(artifact))
    text, target = read_script(path), site.target(settings, None)
    check = site.check(settings, None)
    try:
        site.warm_up(settings)
        data = check.result()
    finally:
        check.close()
    if isinstance(site, ThisMachine):  # the data of a cluster is not here to be looked at
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
