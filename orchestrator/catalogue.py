"""What can be submitted: recipes and grids of ours by name, a user's by file; and the list of them.

The list counts parameters and bytes without building a model, so that it is immediate; one recipe alone is counted
from the model that its bundle builds, and a difference is told.
"""

import json
import os
import subprocess
import sys
import tempfile
import typing
from collections.abc import Sequence
from pathlib import Path

from golf_core.config import Config
from golf_core.config_io import override, paths, to_dict
from golf_core.fields import ConfigError, nearest
from golf_core.inventory import take_inventory
from golf_core.policy import load_policy
from golf_core.recipes import GRIDS, RECIPES, Grid, Recipe, load_grid, load_recipe
from golf_core.rundir import BUNDLE
from orchestrator import errors
from orchestrator.environment import bundle_environment
from orchestrator.errors import UsageError
from orchestrator.own_recipe import is_own, load_own

SCHEMA_VERSION = 1
RACE_BYTES = load_policy("record-2026-03").artifact_bytes  # a plan has the cap of its own policy
Row = dict[str, typing.Any]


def find(name: str) -> Recipe | Grid:
    """A recipe or a grid of ours by name, or of a user's file as `./mine.py:name`."""
    if is_own(name):
        return load_own(name)
    try:
        if name in GRIDS:
            return load_grid(name)
        if name not in RECIPES:
            raise UsageError(f"there is no recipe or grid {name!r}; {nearest(name, [*RECIPES, *GRIDS])}")
        return load_recipe(name)
    except ConfigError as error:
        raise UsageError(str(error)) from None


def variants(found: Recipe | Grid) -> tuple[Recipe, ...]:
    return found.recipes if isinstance(found, Grid) else (found,)


def grid_place(found: Recipe | Grid, position: int) -> dict[str, typing.Any] | None:
    """What spec.json tells of a variant's grid, for the tables: its base is the grid's first."""
    if not isinstance(found, Grid):
        return None
    base = found.recipes[0].config.name
    return {"name": found.name, "base": base, "position": position, "of": len(found.recipes)}


def base_of(found: Recipe | Grid, recipe: Recipe) -> dict[str, typing.Any]:
    """What spec.json tells of where the config comes from: the recipe as it stood at submit, of a variant the grid's
    first. The tables tell a change against it, whatever becomes of the recipe later."""
    base = found.recipes[0] if isinstance(found, Grid) else recipe
    return {"recipe": base.config.name, "source": recipe.source, "config": to_dict(base.config)}


def build(config: Config) -> str:
    """The text of the bundle of a config."""
    from golf_core.bundle import BundleError, build_bundle

    try:
        return build_bundle(config)
    except BundleError as error:
        raise UsageError(f"{config.name}: its bundle cannot be built: {error}") from None


def changed(recipe: Recipe, overrides: Sequence[str]) -> Config:
    """The recipe's config under --set. One that cannot be, or switches on what has no effect, is refused."""
    try:
        config: Config = override(recipe.config, overrides)
    except ConfigError as error:
        raise UsageError(str(error)) from None
    try:
        take_inventory(config)  # refuses a switch that changes no tensor of this model
    except ConfigError as error:
        raise UsageError(f"{config.name}: {error}") from None
    return config


def recipes(name: str | None, overrides: Sequence[str], as_json: bool, rehearse: bool = False) -> int:
    """The recipes command."""
    if name is None:
        rows = [recipe_row(make(), overrides) for make in RECIPES.values()]
        grids = [grid_row(make(), overrides) for make in GRIDS.values()]
    else:
        found = find(name)
        grids = [grid_row(found, overrides)] if isinstance(found, Grid) else []
        if rehearse and isinstance(found, Grid):
            raise UsageError(f"--rehearse takes one recipe, not the grid {name!r} of {len(found.recipes)}")
        rows = [] if isinstance(found, Grid) else [_counted(found, overrides, rehearse)]
    if as_json:
        print(json.dumps({"schema_version": SCHEMA_VERSION, "recipes": rows, "grids": grids}, indent=1))
        return errors.OK
    for row in rows:
        _show(row, fields=name is not None)
    for grid in grids:
        _show_grid(grid)
    return errors.OK


def recipe_row(recipe: Recipe, overrides: Sequence[str]) -> Row:
    config, published = changed(recipe, overrides), recipe.published
    inventory = take_inventory(config)
    return {
        "name": config.name,
        "summary": recipe.summary,
        "parameters": inventory.parameters,
        "model_bytes_estimate": inventory.model_bytes,
        "target": recipe.target,
        "diagnostic_only": config.diagnostic_only,
        "source": recipe.source,
        "command": recipe.command,
        "expects": recipe.expects,
        "published": None
        if published is None
        else {"value": published.value, "status": published.status, "source": published.source},
        "config": to_dict(config),
    }


def _counted(recipe: Recipe, overrides: Sequence[str], rehearse: bool) -> Row:
    """A row with what the bundle says of the model that it builds, and the bytes of the bundle. A rehearsal runs the
    model, and makes and reloads the artifact of its start values, at full size."""
    row = recipe_row(recipe, overrides)
    text = build(changed(recipe, overrides))
    if rehearse:
        print("rehearsing at full size; strong codecs take a minute or two", file=sys.stderr)
    said = ask_bundle(text, "rehearse" if rehearse else "describe")
    counted = {"parameters_built": said["parameters"], "code_bytes": len(text.encode())}
    return row | counted | ({"rehearsed": said} if rehearse else {})


def grid_row(grid: Grid, overrides: Sequence[str]) -> Row:
    """A grid with its variants, each with the fields in which it differs from the first."""
    rows = [recipe_row(recipe, overrides) for recipe in grid.recipes]
    for row in rows:
        row["differs"] = _differences(grid.recipes[0].config, rows[0]["config"], row["config"])
    return {
        "name": grid.name,
        "summary": grid.summary,
        "source": grid.source,
        "command": grid.command,
        "target": grid.target,
        "recipes": rows,
    }


def _differences(config: Config, base: Row, other: Row) -> dict[str, typing.Any]:
    found = {path: (value_at(base, path), value_at(other, path)) for path in paths(type(config)) if path != "name"}
    return {path: theirs for path, (ours, theirs) in found.items() if ours != theirs}


def value_at(config: typing.Any, path: str) -> typing.Any:
    for part in path.split("."):
        config = config[part]
    return config


def _show(row: Row, fields: bool) -> None:
    print(f"{row['name']}: {row['summary']}")
    built = row.get("parameters_built")
    counted = "" if built is None else " (counted from the built model)"
    if built not in (None, row["parameters"]):
        counted = f" by the config's list of tensors, but {built:,} in the built model"
    print(f"  parameters  {row['parameters']:,}{counted}")
    code = f" + {row['code_bytes']:,} code" if "code_bytes" in row else ""
    print(f"  bytes       about {row['model_bytes_estimate']:,} compressed weights{code}, of {RACE_BYTES:,}")
    if said := row.get("rehearsed"):
        print(f"  rehearsed   loss {said['loss']:.4f} of one pass, every parameter with a gradient")
        print(
            f"              {said['total_bytes']:,} bytes with code of {RACE_BYTES:,}, by {said['codec']}, with start "
            f"values for weights; they reload to the same values ({said['seconds']:.0f} s)"
        )
    print(f"  meant for   {row['target']}")
    if row["diagnostic_only"]:
        print("  diagnostic  its scores are no scores, and nothing of it can be submitted")
    print(f"  source      {row['source']}")
    print(f"  expects     {row['expects']}")
    print(f"  published   {_published(row['published'])}")
    print(f"  command     {row['command']}")
    if fields:
        print("  fields (--set path=value):")
        for path in paths(Config):
            print(f"    {path}={json.dumps(value_at(row['config'], path))}")


def _published(said: Row | None) -> str:
    if said is None:
        return "nothing"
    return f"{'no value' if said['value'] is None else said['value']} ({said['status']}; {said['source']})"


def _show_grid(grid: Row) -> None:
    print(f"{grid['name']} (a grid of {len(grid['recipes'])}): {grid['summary']}")
    print(f"  meant for   {grid['target']}")
    print(f"  source      {grid['source']}")
    print(f"  command     {grid['command']}")
    for row in grid["recipes"]:
        size = f"{row['parameters']:,} parameters, about {row['model_bytes_estimate']:,} bytes of weights"
        mark = "; diagnostic only" if row["diagnostic_only"] else ""
        print(f"  {row['name']}: {row['summary']}")
        print(f"    {size}; published {_published(row['published'])}{mark}")
        if row["differs"]:
            print("    " + " ".join(f"{path}={json.dumps(value)}" for path, value in row["differs"].items()))


def ask_bundle(text: str, verb: str) -> Row:
    """What the bundle answers to `describe` or `rehearse`: one object."""
    with tempfile.TemporaryDirectory(prefix="golf-describe-") as folder:
        bundle = Path(folder) / BUNDLE
        bundle.write_text(text, encoding="utf-8")
        env = bundle_environment(os.environ, {"device": "cpu", "threads": 1})
        done = subprocess.run([sys.executable, str(bundle), verb], capture_output=True, text=True, env=env, cwd=folder)
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        why = (done.stderr.strip().splitlines() or lines or ["no output"])[-1]
        raise errors.BackendFailure(f"the bundle cannot {verb} its model: {why}")
    return dict(json.loads(lines[-1]))
