"""A grid from a TOML file: what it becomes, what is refused with which words, and how its plan counts."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from golf_core.config_io import override, to_dict
from golf_core.recipes import Grid, load_recipe
from orchestrator.errors import UsageError
from orchestrator.grids.file import use_grid_file
from orchestrator.request import Request
from orchestrator.settings import Settings
from orchestrator.submit import submit

BOTH = """
name = "study"
recipe = "demo"
seeds = [7, 8]

[variants]
plain = []
gated = ["model.attn_gate=dense", "model.rope_dims=16"]

[axes]
model.layers = [2, 3]
"optim.matrix_lr" = [0.01, 0.02]
"""


def read(folder, text, overrides=(), **flags):
    path = folder / "study.toml"
    path.write_text(text, encoding="utf-8")
    return use_grid_file(path, Settings.resolve(flags, {}, folder), overrides)


def plain(config):
    return {key: value for key, value in to_dict(config).items() if key != "name"}


def test_variants_and_axes_multiply(tmp_path):
    """Every variant with every combination, the last axis fastest, each with exactly what it sets."""
    grid, settings = read(tmp_path, BOTH)
    assert isinstance(grid, Grid) and grid.name == "study" and settings["recipe"] == "demo"
    assert [recipe.config.name for recipe in grid.recipes] == [
        f"study.{name}-layers{layers}-matrix_lr{rate}"
        for name, layers, rate in itertools.product(("plain", "gated"), (2, 3), (0.01, 0.02))
    ]
    last = override(
        load_recipe("demo").config,
        ["model.attn_gate=dense", "model.rope_dims=16", "model.layers=3", "optim.matrix_lr=0.02"],
    )
    assert plain(grid.recipes[-1].config) == plain(last)
    assert all("layers=" in recipe.summary and recipe.published is None for recipe in grid.recipes)


def test_a_variant_that_sets_nothing_is_the_recipe(tmp_path):
    """It keeps what was published and expected of it; a changed one does not."""
    grid, _ = read(tmp_path, 'recipe = "naive_baseline"\n[variants]\nas_is = []\ndeep = ["model.layers=10"]\n')
    ours = load_recipe("naive_baseline")
    as_is, deep = grid.recipes
    assert as_is.config.name == "study.as_is" and as_is.published == ours.published and as_is.expects == ours.expects
    assert deep.published is None and "naive_baseline" in deep.expects and grid.target == ours.target


@pytest.mark.parametrize(
    "flags, seeds, source",
    [({}, "7,8", "study.toml"), ({"seeds": "1"}, "1", "--seeds")],
    ids=["of the file", "of the command"],
)
def test_seeds_of_the_file_give_way_to_those_of_the_command(tmp_path, flags, seeds, source):
    """A grid file may carry its seeds; --seeds wins; the plan can say where they are from."""
    _, settings = read(tmp_path, BOTH, **flags)
    assert settings["seeds"] == seeds and settings.source("seeds").endswith(source)


def test_a_recipe_of_ones_own_lies_beside_the_file(tmp_path):
    """Its path is taken from the grid file's folder, wherever the command is given."""
    (tmp_path / "mine.py").write_text(
        "from golf_core.recipes import load_recipe\n\ndef small():\n    return load_recipe('demo')\n"
    )
    grid, settings = read(tmp_path, 'recipe = "./mine.py:small"\n[axes]\nmodel.layers = [2, 3]\n')
    assert len(grid.recipes) == 2 and settings["recipe"] == f"{tmp_path / 'mine.py'}:small"


HEAD = 'recipe = "demo"\n'
REFUSED = {
    "no such key": (HEAD + "axis = 1", ["no key 'axis'", "did you mean 'axes'"]),
    "no recipe": ("[axes]\nmodel.layers = [2]", ["recipe is missing"]),
    "unknown recipe": ('recipe = "demoo"\n[axes]\nmodel.layers = [2]', ["did you mean 'demo'"]),
    "a grid as recipe": ('recipe = "int6_ablation"\n[axes]\nmodel.layers = [2]', ["is a grid of 5"]),
    "nothing varied": (HEAD, ["neither [variants] nor [axes]"]),
    "unknown path": (HEAD + "[axes]\nmodel.layer = [2]", ["there is no model.layer", "did you mean model.layers"]),
    "unknown path in a variant": (HEAD + '[variants]\na = ["optim.lr=1"]', ["variant 'a'", "there is no optim.lr"]),
    "a bad value": (HEAD + '[axes]\nmodel.layers = ["two"]', ["model.layers='two'", "whole number"]),
    "a value that cannot be": (HEAD + "[axes]\nmodel.layers = [0]", ["layers"]),
    "not finite": (HEAD + "[axes]\noptim.matrix_lr = [nan]", ["must be finite"]),
    "an empty axis": (HEAD + "[axes]\nmodel.layers = []", ["axes.model.layers=[]", "a list of values"]),
    "a list as value": (HEAD + "[axes]\nmodel.layers = [[2]]", ["holds [2]"]),
    "an axis value twice": (HEAD + "[axes]\nmodel.layers = [2, 3, 2]", ["holds 2 twice"]),
    "equal values": (HEAD + "[axes]\noptim.matrix_lr = [0.1, 0.10, 1e-1]", ["twice"]),
    "the same twice": (
        HEAD + '[variants]\na = ["model.layers=3"]\nb = ["model.layers=3"]',
        ["variant 'b' (model.layers=3) is the same as 'a'"],
    ),
    "a name twice": (HEAD + '[variants]\na = []\na = ["model.layers=3"]', ["study.toml", "Cannot overwrite"]),
    "set in both": (HEAD + '[variants]\na = ["model.layers=3"]\n[axes]\nmodel.layers = [2]', ["which is an axis"]),
    "set twice": (HEAD + '[variants]\na = ["model.layers=3", "model.layers=4"]', ["sets model.layers twice"]),
    "a name set": (HEAD + '[variants]\na = ["name=x"]', ["name cannot be set"]),
    "a name that cannot be": (HEAD + '[variants]\n"a b" = []', ["study.a b"]),
    "sets as text": (HEAD + '[variants]\na = "model.layers=3"', ["must be a list"]),
    "too many": (
        HEAD + f"[axes]\nmodel.layers = {list(range(1, 99))}\ntrain.iterations = {list(range(1, 99))}",
        ["9,604 variants", "at most 2,000"],
    ),
    "seeds as text": (HEAD + 'seeds = "1,2"\n[axes]\nmodel.layers = [2]', ["a list of whole numbers"]),
    "no TOML": ("recipe = demo", ["study.toml", "line 1"]),
}


@pytest.mark.parametrize("text, words", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_refused(tmp_path, text, words):
    """With the value, the place and the nearest name or what would do; before anything is built."""
    with pytest.raises(UsageError) as error:
        read(tmp_path, text)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_set_on_what_is_varied_is_refused(tmp_path):
    """It would make the variants one; on anything else it reaches all of them."""
    with pytest.raises(UsageError, match=r"model\.layers=5: the variants of .* set model\.layers themselves"):
        read(tmp_path, BOTH, ["model.layers=5"])
    assert len(read(tmp_path, BOTH, ["train.iterations=9"])[0].recipes) == 8


@pytest.mark.parametrize("given", [{"script": "train.py"}, {"bundle": "b.py"}])
def test_a_grid_file_excludes_other_programs(tmp_path, given):
    """The file names the recipe that it varies."""
    (tmp_path / "study.toml").write_text(BOTH)
    with pytest.raises(UsageError, match="excludes --"):
        submit(
            Settings.resolve({"runs_dir": str(tmp_path / "runs")}, {}, tmp_path),
            Request(grid=tmp_path / "study.toml", dry_run=True, **given),
        )


@hypothesis_settings(max_examples=12, deadline=None)
@given(
    layers=st.lists(st.integers(1, 6), min_size=1, max_size=3, unique=True),
    rates=st.lists(st.sampled_from([0.001, 0.01, 0.02, 0.1]), min_size=1, max_size=3, unique=True),
    flags=st.lists(st.booleans(), min_size=1, max_size=2, unique=True),
)
def test_every_combination_comes_once(tmp_path_factory, layers, rates, flags):
    """As many variants as the axes multiply to, all different, under different names; fields of one group together."""
    written = ", ".join(str(flag).lower() for flag in flags)
    text = f"[axes]\nmodel.layers = {layers}\noptim.matrix_lr = {rates}\nmodel.ln_scale = [{written}]\n"
    grid, _ = read(tmp_path_factory.mktemp("grid"), HEAD + text)
    assert len(grid.recipes) == len(layers) * len(rates) * len(flags)
    assert len({recipe.config.name for recipe in grid.recipes}) == len(grid.recipes)
    found = [(r.config.model.layers, r.config.model.ln_scale, r.config.optim.matrix_lr) for r in grid.recipes]
    assert found == list(itertools.product(layers, flags, rates))


def test_the_plan_counts_and_is_short_where_there_are_many(tmp_path, capsys):
    """A few variants are shown whole, many in a line each; both say how many runs they are. As JSON all are told."""
    few, many = tmp_path / "few.toml", tmp_path / "many.toml"
    few.write_text(HEAD + "[axes]\nmodel.layers = [2, 3]\n")
    many.write_text(HEAD + f"[axes]\ntrain.iterations = {list(range(10, 30))}\n")
    settings = Settings.resolve({"runs_dir": str(tmp_path / "runs"), "seeds": "1,2,3"}, {}, tmp_path)
    assert submit(settings, Request(grid=few, dry_run=True)) == 0
    told = capsys.readouterr().out
    assert "2 variants x 3 seeds = 6 runs" in told and "variant 2 of 2: few.layers3" in told
    assert submit(settings, Request(grid=many, dry_run=True)) == 0
    told = capsys.readouterr().out
    assert "20 variants x 3 seeds = 60 runs" in told and "variant 1 of" not in told
    assert sum(line.startswith("many.iterations") for line in told.splitlines()) == 20
    assert submit(settings, Request(grid=many, dry_run=True, json=True)) == 0
    plans = json.loads(capsys.readouterr().out)["plans"]
    assert len(plans) == 20 and {plan["grid"]["of"] for plan in plans} == {20}
    assert {plan["base"]["recipe"] for plan in plans} == {"many.iterations10"} and not (tmp_path / "runs").exists()
