"""A grid from a TOML file: `submit --grid FILE`. A recipe, named variants of it, and axes that multiply them.

    recipe = "demo"                        # or "./mine.py:function", beside this file
    seeds = [1337, 42, 2025]               # optional; --seeds wins

    [variants]                             # optional: name = what it sets, as with --set
    plain = []
    gated = ["model.attn_gate=dense"]

    [axes]                                 # optional: path = values; every variant with every combination
    model.layers = [2, 4]

The first variant is the base that the tables compare with. What cannot be is refused here, before anything is built.
"""

import dataclasses
import itertools
import math
import re
import shlex
import tomllib
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from golf_core.config import Config
from golf_core.config_io import override, to_dict
from golf_core.fields import ConfigError, nearest
from golf_core.recipes import Grid, Recipe
from golf_core.rundir import file_sha256
from orchestrator.catalogue import find
from orchestrator.errors import UsageError
from orchestrator.own_recipe import is_own
from orchestrator.settings import Setting, Settings

KEYS = ("name", "summary", "recipe", "seeds", "variants", "axes")
MAX_VARIANTS = 2_000  # a slip of an axis must not become a plan of a million runs
Scalar = str | int | float | bool


@dataclasses.dataclass(frozen=True)
class Variant:
    """What a variant of the file is called, and what it sets."""

    name: str
    sets: tuple[str, ...]


def use_grid_file(path: Path, settings: Settings, overrides: Sequence[str]) -> tuple[Grid, Settings]:
    """The grid of a file, and the settings with the file's recipe and seeds. UsageError for all that can go wrong."""
    table = _table(path)
    base_name = _base_name(path, table)
    base = find(base_name)
    if isinstance(base, Grid):
        raise UsageError(f"{path}: recipe={base_name!r} is a grid of {len(base.recipes)}; name one recipe")
    name = _text(path, table, "name", path.stem)
    asked = _variants(path, table)
    _check_overrides(path, asked, overrides)
    grid = Grid(
        name=name,
        summary=_text(path, table, "summary", f"{len(asked)} variants of {base.config.name}."),
        source=f"grid file {path.name}, sha256 {file_sha256(path)[:12]}",
        command=f"python -m orchestrator submit --grid {shlex.quote(str(path))}",
        target=base.target,
        recipes=_recipes(path, name, base, asked),
    )
    values = settings.values | {"recipe": Setting(base_name, str(path))}
    if "seeds" in table and settings.source("seeds") != "--seeds":
        values["seeds"] = Setting(_seeds(path, table["seeds"]), str(path))
    return grid, Settings(values)


def _table(path: Path) -> dict[str, typing.Any]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"--grid {path}: {error}") from None
    for key in table:
        if key not in KEYS:
            raise UsageError(f"{path}: there is no key {key!r} in a grid file; {nearest(key, KEYS)}")
    return table


def _base_name(path: Path, table: Mapping[str, typing.Any]) -> str:
    """A recipe of ours by name; one of the user's with its file beside this one."""
    if "recipe" not in table:
        raise UsageError(f'{path}: recipe is missing; name the one that the variants change, as in recipe = "demo"')
    name = _text(path, table, "recipe", "")
    return str(path.parent / name) if is_own(name) else name


def _text(path: Path, table: Mapping[str, typing.Any], key: str, default: str) -> str:
    value = table.get(key, default)
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f'{path}: {key}={value!r} must be text, as in {key} = "depth"')
    return value


def _seeds(path: Path, value: typing.Any) -> str:
    """As --seeds has them; that they are good is checked where --seeds is."""
    if isinstance(value, list) and value and all(type(one) is int for one in value):
        return ",".join(str(one) for one in value)
    raise UsageError(f"{path}: seeds={value!r} must be a list of whole numbers, as in seeds = [1337, 42]")


def _variants(path: Path, table: Mapping[str, typing.Any]) -> list[Variant]:
    """Every named variant with every combination of the axes, in the file's order, the last axis fastest."""
    named = table.get("variants", {})
    axes = dict(_axes(path, table.get("axes", {}), "axes"))
    if not isinstance(named, dict):
        raise UsageError(f"{path}: variants={named!r} must be a table of names, as in [variants]")
    if not named and not axes:
        raise UsageError(f"{path}: it has neither [variants] nor [axes]: a recipe alone is --recipe")
    rows = [Variant(name, tuple(_sets(path, name, sets))) for name, sets in named.items()] or [Variant("", ())]
    if (count := len(rows) * math.prod(len(values) for values in axes.values())) > MAX_VARIANTS:
        told = " x ".join(str(len(values)) for values in axes.values())
        raise UsageError(f"{path}: {len(rows)} x {told} are {count:,} variants; at most {MAX_VARIANTS:,} make a grid")
    for row in rows:
        if twice := sorted(_paths(row.sets) & axes.keys()):
            raise UsageError(f"{path}: variant {row.name!r} sets {twice[0]}, which is an axis; keep one of the two")
    labels = _labels(list(axes))
    found = []
    for row in rows:
        for values in itertools.product(*axes.values()):
            chosen = list(zip(axes, values, strict=True))
            parts = [row.name] * bool(row.name) + [labels[axis] + _shown(value) for axis, value in chosen]
            sets = tuple(f"{axis}={_written(value)}" for axis, value in chosen)
            found.append(Variant("-".join(parts), row.sets + sets))
    return found


def _axes(path: Path, table: typing.Any, place: str) -> Iterator[tuple[str, list[Scalar]]]:
    """(path, values). TOML reads `model.layers` as a table in a table, and "model.layers" as one key."""
    if not isinstance(table, dict):
        raise UsageError(f"{path}: {place}={table!r} must be a table of paths with their values")
    for key, value in table.items():
        here = f"{place}.{key}"
        if isinstance(value, dict):
            yield from _axes(path, value, here)
            continue
        if not isinstance(value, list) or not value:
            raise UsageError(f"{path}: {here}={value!r} must be a list of values, as in model.layers = [2, 4]")
        for one in value:
            if not isinstance(one, str | int | float):
                raise UsageError(f"{path}: {here} holds {one!r}, which is no single value")
        written = [_written(one) for one in value]
        if twice := [one for number, one in enumerate(written) if one in written[:number]]:
            raise UsageError(f"{path}: {here} holds {twice[0]} twice")
        yield here.partition(".")[2], value


def _sets(path: Path, name: str, value: typing.Any) -> Iterator[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise UsageError(f'{path}: variants.{name}={value!r} must be a list such as ["model.layers=6"], or []')
    seen: set[str] = set()
    for one in value:
        field = one.partition("=")[0].strip()
        if field in seen:
            raise UsageError(f"{path}: variant {name!r} sets {field} twice")
        seen.add(field)
        yield one


def _paths(sets: Sequence[str]) -> set[str]:
    return {one.partition("=")[0].strip() for one in sets}


def _labels(axes: Sequence[str]) -> dict[str, str]:
    """The shortest end of each path that tells it from the others.

    >>> _labels(["model.layers", "optim.matrix_lr", "ttt.lr", "optim.lr"])
    {'model.layers': 'layers', 'optim.matrix_lr': 'matrix_lr', 'ttt.lr': 'ttt.lr', 'optim.lr': 'optim.lr'}
    """
    leaves = [axis.rpartition(".")[2] for axis in axes]
    return {axis: leaf if leaves.count(leaf) == 1 else axis for axis, leaf in zip(axes, leaves, strict=True)}


def _written(value: Scalar) -> str:
    """As --set takes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _shown(value: Scalar) -> str:
    """In a name, behind the field's."""
    text = re.sub(r"[^\w.-]", "_", _written(value), flags=re.ASCII)
    return text if text[:1].isdecimal() else f"_{text}"


def _recipes(path: Path, grid: str, base: Recipe, asked: Sequence[Variant]) -> tuple[Recipe, ...]:
    """Each variant as a recipe. Two that are the same, under whatever names, are refused."""
    found: list[Recipe] = []
    names: dict[str, Variant] = {}
    seen: dict[str, str] = {}
    for variant in asked:
        name = f"{grid}.{variant.name}"
        where = f"{path}: variant {variant.name!r}"
        if "name" in _paths(variant.sets):
            raise UsageError(f"{where}: name cannot be set: a variant goes by {grid}.NAME")
        if name in names:
            raise UsageError(f"{where} comes twice ({_told(names[name].sets)}; {_told(variant.sets)})")
        names[name] = variant
        try:
            config: Config = dataclasses.replace(override(base.config, variant.sets), name=name)
        except ConfigError as error:
            raise UsageError(f"{where}: {error}") from None
        content = repr(sorted(_flat(to_dict(config))))
        if (other := seen.setdefault(content, variant.name)) != variant.name:
            raise UsageError(f"{where} ({_told(variant.sets)}) is the same as {other!r}; each variant is run, keep one")
        found.append(_recipe(base, config, variant))
    return tuple(found)


def _flat(table: Mapping[str, typing.Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        elif prefix + key != "name":
            yield prefix + key, repr(value)


def _recipe(base: Recipe, config: Config, variant: Variant) -> Recipe:
    """What was published or expected of the base is not true of a change of it."""
    if not variant.sets:
        return dataclasses.replace(base, config=config)
    return dataclasses.replace(
        base,
        config=config,
        summary=f"{base.config.name} with {_told(variant.sets)}.",
        source=f"a change of {base.config.name} ({base.source})",
        expects=f"not known: a change of {base.config.name}",
        published=None,
    )


def _told(sets: Sequence[str]) -> str:
    return ", ".join(sets) or "nothing set"


def _check_overrides(path: Path, asked: Sequence[Variant], overrides: Sequence[str]) -> None:
    """--set reaches every variant: on what tells them apart, it would make them one."""
    varied = set().union(*(_paths(variant.sets) for variant in asked))
    for one in overrides:
        if (field := one.partition("=")[0].strip()) in varied:
            raise UsageError(f"--set {one}: the variants of {path} set {field} themselves; change it there")
