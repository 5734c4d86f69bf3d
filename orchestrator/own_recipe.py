"""A recipe or a grid from a user's own file: `./mine.py:function`. The function takes nothing and returns it.

The file is the user's program: it is run here, at submit, and whatever goes wrong in it is told with its line. What
trains is the bundle that is built from the config, never the file.
"""

import ast
import contextlib
import dataclasses
import inspect
import shlex
import sys
import traceback
import types
import typing
from collections.abc import Iterator
from pathlib import Path

from golf_core.fields import nearest
from golf_core.recipes import GRIDS, RECIPES, Grid, Recipe
from golf_core.rundir import file_sha256
from orchestrator.errors import UsageError
from orchestrator.spec import DEFAULT_SEEDS

MODULE = "golf_own_recipe"  # the name under which the file is imported
FORM = "write it as ./mine.py:function"


def is_own(name: str) -> bool:
    """Whether the name is meant for a file, not for a recipe of ours."""
    return ":" in name or "/" in name or name.endswith(".py")


def load_own(name: str) -> Recipe | Grid:
    """What the function of the file returns; UsageError for all that can go wrong on the way."""
    file, _, function = name.rpartition(":") if ":" in name else (name, "", "")
    path = Path(file)
    if not path.is_file():
        raise UsageError(f"recipe {name!r}: {_no_file(path, file)}; {FORM}")
    known = functions_of(path, name)
    if not function:
        there = f"there are {', '.join(known)}" if known else "it has none"
        raise UsageError(f"recipe {name!r}: which function of {file}? {there}; {FORM}")
    module = types.ModuleType(MODULE)
    module.__file__ = str(path)
    sys.modules[MODULE] = module  # where dataclasses of the file look for their names
    with _guarded(path, name):
        exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
    if not hasattr(module, function):
        told = nearest(function, known) if known else "it has none"
        raise UsageError(f"recipe {name!r}: {file} has no function {function!r}; {told}")
    make = getattr(module, function)
    if not callable(make):
        raise UsageError(f"recipe {name!r}: {function} is a {type(make).__name__}, not a function that returns one")
    if needed := _needed(make):
        raise UsageError(
            f"recipe {name!r}: {function}() needs {', '.join(needed)}; a recipe's function takes nothing: "
            "write one that calls it with values"
        )
    with _guarded(path, name):
        found = make()
    return _as_its_own(name, _checked(name, function, found))


def _checked(name: str, function: str, found: object) -> Recipe | Grid:
    if found is None:
        raise UsageError(f"recipe {name!r}: {function}() returned nothing; it must `return` a Recipe or a Grid")
    if not isinstance(found, Recipe | Grid):
        kind = type(found).__name__
        raise UsageError(f"recipe {name!r}: {function}() returned {kind}, not a Recipe or a Grid of golf_core.recipes")
    if isinstance(found, Grid) and not found.recipes:
        raise UsageError(f"recipe {name!r}: grid {found.name!r} has no variants")
    return found


def _as_its_own(name: str, found: Recipe | Grid) -> Recipe | Grid:
    """A changed copy of a recipe of ours still says how to run ours, and what ours gave: neither is true of it."""
    if isinstance(found, Recipe):
        return _own_words(name, found)
    recipes = tuple(_own_words(name, recipe) for recipe in found.recipes)
    ours = any(found.command == make().command and found != make() for make in GRIDS.values())
    command = command_for(name, found.target) if ours else found.command
    return dataclasses.replace(found, recipes=recipes, command=command)


def _own_words(name: str, recipe: Recipe) -> Recipe:
    shipped = [*(make() for make in RECIPES.values()), *(one for make in GRIDS.values() for one in make().recipes)]
    if any(ours.config == recipe.config for ours in shipped):
        return recipe
    copied = [ours for ours in shipped if ours.command == recipe.command or ours.expects == recipe.expects]
    if not copied:
        return recipe
    ours = next((one for one in copied if one.expects == recipe.expects), copied[0])
    changes: dict[str, str] = {}
    if any(one.command == recipe.command for one in copied):
        changes["command"] = command_for(name, recipe.target)
    if any(one.expects == recipe.expects for one in copied):
        changes["expects"] = f"not known: a change of {ours.config.name}"
    if recipe.source == ours.source:
        changes["source"] = f"{name}, a change of {ours.config.name} ({ours.source})"
    return dataclasses.replace(recipe, **changes)  # type: ignore[arg-type]  # all three are text


def command_for(name: str, target: str) -> str:
    """How to run what a file of the user's gives, on what it is meant for."""
    model, _, count = target.partition(":")
    rented = "" if model == "cpu" else f" --device cuda --processes {count or 1} --data SHARDS --tokenizer MODEL"
    return f"python -m orchestrator submit --recipe {shlex.quote(name)}{rented} --seeds {DEFAULT_SEEDS}"


def file_of(name: str) -> dict[str, typing.Any] | None:
    """What spec.json tells of the file that a recipe came from. The bundle is what ran; this names its origin."""
    if not is_own(name):
        return None
    file, _, function = name.rpartition(":")
    return {"name": Path(file).name, "function": function, "sha256": file_sha256(Path(file))}


def borrowed(recipe: Recipe) -> list[str]:
    """What a changed copy of a recipe of ours still says of itself, and its tables would repeat."""
    told = []
    for name, make in RECIPES.items():
        ours = make()
        if recipe.config == ours.config:
            continue
        if recipe.config.name == name:
            told.append(f"the name {name} is that of a recipe of ours with another config; give it Config(name=...)")
        if recipe.published is not None and recipe.published == ours.published:
            told.append(f"what is given as published is that of {name}, with another config; give it published=None")
    return told


def functions_of(path: Path, name: str) -> list[str]:
    """The functions at the top of a file that a recipe may come from, read without running it."""
    try:
        body = ast.parse(path.read_bytes(), filename=str(path)).body
    except (SyntaxError, ValueError, RecursionError) as error:
        line = f":{error.lineno}" if isinstance(error, SyntaxError) else ""
        raise UsageError(f"recipe {name!r}: {path}{line}: {getattr(error, 'msg', error)}") from None
    return [one.name for one in body if isinstance(one, ast.FunctionDef) and not one.name.startswith("_")]


def _no_file(path: Path, file: str) -> str:
    """That it is not there, and the Python files that are."""
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}"
    there = sorted(one.name for one in path.parent.glob("*.py"))
    return f"there is no file {file!r}" + (f" ({nearest(path.name, there)})" if 0 < len(there) <= 20 else "")


def _needed(make: typing.Callable[..., object]) -> list[str]:
    """The parameters without which the function cannot be called."""
    try:
        parameters = inspect.signature(make).parameters.values()
    except (TypeError, ValueError):
        return []
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [one.name for one in parameters if one.default is one.empty and one.kind not in variable]


@contextlib.contextmanager
def _guarded(path: Path, name: str) -> Iterator[None]:
    """The user's own code runs here: its folder is where its imports are looked for last, what it prints is no data,
    and an error of it becomes one line with its place."""
    before = list(sys.path), sys.dont_write_bytecode
    sys.path.append(str(path.resolve().parent))
    sys.dont_write_bytecode = True
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except (Exception, SystemExit) as error:  # anything can happen in it
        raise UsageError(f"recipe {name!r}: {_place(error, path)}{type(error).__name__}: {error}") from error
    finally:
        sys.path[:], sys.dont_write_bytecode = before


def _place(error: BaseException, path: Path) -> str:
    """`mine.py:12: ` of the last line of the user's file that the error went through."""
    frames = [one for one in traceback.extract_tb(error.__traceback__) if one.filename == str(path)]
    return f"{path}:{frames[-1].lineno}: " if frames else ""
