"""Recipes from a user's own file: what is found in it, what it is told of, and what can go wrong in it."""

import json
import sys
from pathlib import Path

import pytest

from golf_core.recipes import Grid, load_recipe
from orchestrator.catalogue import find
from orchestrator.errors import UsageError
from orchestrator.own_recipe import borrowed, file_of
from orchestrator.plan import make_plan
from orchestrator.preflight import Prepared
from orchestrator.settings import Settings
from tests.orchestrator.test_cli import cli
from tests.orchestrator.toy import submission

MINE = """\
from __future__ import annotations

import dataclasses

from beside import LAYERS
from golf_core.recipes import Grid, load_recipe

print("this is no data")


@dataclasses.dataclass
class Choice:
    layers: int = LAYERS


def deep(name="deep", choice=Choice()):
    base = load_recipe("naive_baseline")
    model = dataclasses.replace(base.config.model, layers=choice.layers)
    return dataclasses.replace(base, config=dataclasses.replace(base.config, name=name, model=model))


def copied():
    return deep("naive_baseline")


def pair():
    return Grid(name="pair", summary="s", source="me", command="c", target="cpu", recipes=(deep(), load_recipe("demo")))


def wider(width):
    return deep()


def forgot():
    deep()


def three():
    return 3


def broken():
    return inner()


def inner():
    raise KeyError("the inner part")


def leaves():
    raise SystemExit(7)


FIXED = deep()
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A folder with mine.py and a module beside it, as the working folder."""
    (tmp_path / "mine.py").write_text(MINE, encoding="utf-8")
    (tmp_path / "beside.py").write_text("LAYERS = 3\n", encoding="utf-8")
    (tmp_path / "cut.py").write_text("x = 1\ndef f(:\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("beside", None)


def test_a_function_of_a_file_gives_a_recipe_or_a_grid(mine, capsys):
    """Dataclasses and a module beside the file work; what it prints is no data, and nothing is written beside it."""
    before, path = sorted(mine.iterdir()), list(sys.path)
    assert find("./mine.py:deep").config.model.layers == 3
    found = find(f"{mine}/mine.py:pair")
    assert isinstance(found, Grid) and [one.config.name for one in found.recipes] == ["deep", "demo"]
    assert capsys.readouterr().out == "" and sorted(mine.iterdir()) == before and sys.path == path


def test_a_copy_that_still_goes_by_a_name_of_ours_is_told_of(mine):
    """Its name, and what was published of another config; a recipe of ours itself is not."""
    told = borrowed(find("./mine.py:copied"))
    assert len(told) == 2 and "name naive_baseline" in told[0] and "published" in told[1]
    assert len(borrowed(find("./mine.py:deep"))) == 1 and borrowed(load_recipe("naive_baseline")) == []


def test_a_changed_copy_tells_its_own_command(mine):
    """Not the one of the recipe that it came from, nor what that one gave; its source stays named."""
    deep, base = find("./mine.py:deep"), load_recipe("naive_baseline")
    assert "--recipe ./mine.py:deep" in deep.command and deep.command != base.command
    assert base.expects not in deep.expects and "naive_baseline" in deep.expects
    assert deep.source.startswith("./mine.py:deep") and base.source in deep.source
    shown = cli(mine, "recipes", "./mine.py:deep").stdout
    assert deep.command in shown and base.command not in shown and base.expects not in shown
    assert find("./mine.py:pair").recipes[1] == load_recipe("demo")


def test_a_recipe_of_ours_is_warned_of_nothing_that_its_user_cannot_change():
    """A variant has the published score of the recipe that it is: only a file of the user's own is told of one."""
    grid = find("int6_ablation")
    prepared = [Prepared(submission(), recipe, None) for recipe in grid.recipes]
    assert any(borrowed(recipe) for recipe in grid.recipes)
    settings = Settings.resolve({}, {}, Path("/nowhere"))
    assert [make_plan(one, {}, settings).hints for one in prepared] == [()] * len(prepared)


def place(words):
    """Where the line with these words stands in mine.py."""
    return f"mine.py:{1 + next(i for i, line in enumerate(MINE.splitlines()) if words in line)}: "


WRONG = {
    "no function named": ("./mine.py", "which function"),
    "nothing after the colon": ("./mine.py:", "there are deep, copied, pair"),
    "no file named": (":deep", "no file ''"),
    "no such file": ("./mime.py:deep", "did you mean 'mine.py'?"),
    "no such folder": ("./away/mine.py:deep", "no folder away"),
    "no such function": ("./mine.py:depe", "did you mean 'deep'?"),
    "a function with an argument": ("./mine.py:wider", "needs width"),
    "a value": ("./mine.py:FIXED", "FIXED is a Recipe, not a function"),
    "no return": ("./mine.py:forgot", "returned nothing"),
    "another type": ("./mine.py:three", "returned int"),
    "an exception": ("./mine.py:broken", place("raise KeyError") + "KeyError: 'the inner part'"),
    "an exit": ("./mine.py:leaves", place("raise SystemExit") + "SystemExit: 7"),
    "a syntax error": ("./cut.py:f", "cut.py:2: "),
}


@pytest.mark.parametrize("name, words", WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_a_file_is_told_with_its_place(mine, name, words):
    """One usage error that names what was asked for, and the line or the alternatives."""
    with pytest.raises(UsageError) as error:
        find(name)
    assert words in str(error.value) and repr(name) in str(error.value) and "\n" not in str(error.value)


def test_the_plan_and_spec_name_the_file(mine):
    """The plan shows where the recipe is from; spec.json tells the file's name, function and hash, of ours nothing."""
    done = cli(mine, "submit", "--recipe", "./mine.py:deep", "--seeds", "1", "--dry-run")
    assert done.returncode == 0 and "deep  [--recipe ./mine.py:deep]" in done.stdout, done.stderr
    assert "what is given as published is that of naive_baseline" in done.stdout
    told = cli(mine, "submit", "--recipe", "./mine.py:deep", "--seeds", "1", "--dry-run", "--json")
    spec = json.loads(told.stdout)
    assert spec["recipe_file"] == file_of("./mine.py:deep") and spec["recipe"] == spec["config"]["name"] == "deep"
    assert spec["recipe_file"]["name"] == "mine.py" and file_of("demo") is None
