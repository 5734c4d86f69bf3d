"""The bundle: one file, only what is used, and the rules that make it possible."""

import ast
import shutil
from dataclasses import MISSING, fields

import pytest

from golf_core.bundle import ROOT, BundleError, build_bundle, readable_bundle
from golf_core.config import Config, TTTConfig
from golf_core.config_io import override, to_dict
from golf_core.config_model import ModelConfig
from golf_core.config_quant import QuantConfig
from golf_core.recipes import RECIPES, load_recipe


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_has_a_bundle(name):
    """A bundle is one module that imports nothing of ours and holds its config."""
    source = readable_bundle(load_recipe(name).config)
    tree = ast.parse(source)
    imported = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    imported |= {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert not [module for module in imported if module.split(".")[0] == "golf_core"]
    (config,) = (n for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "CONFIG")
    assert f"name={name!r}" in ast.unparse(config)


def test_the_config_in_the_file_is_the_config():
    """The expression written at the end builds the same config, overrides included."""
    config = override(load_recipe("demo").config, ["model.layers=3", "train.max_seconds=1.5", "artifact.level=2"])
    source = build_bundle(config)
    expression = source.split("\nCONFIG = ")[1].split("\n\nPARTS")[0]
    import golf_core.config as module

    assert eval(expression, vars(module)) == config


def test_what_is_not_used_does_not_enter():
    """Only the codec, the averager and the evaluator that the config names are in the file."""
    demo, plain = (build_bundle(load_recipe(name).config) for name in ("demo", "naive_baseline"))
    assert "class LzmaCodec" in demo
    assert "class ZlibCodec" not in demo
    assert "zstandard" not in demo
    assert "class Ema" in demo
    assert "class Ema" not in plain
    assert "evaluate_chunk_ttt" in demo
    assert "def evaluate_chunk_ttt" not in plain


def test_the_same_config_gives_the_same_bytes():
    """Building twice gives one text; another value gives another."""
    config = load_recipe("demo").config
    assert build_bundle(config) == build_bundle(config)
    assert build_bundle(config) != build_bundle(override(config, ["optim.matrix_lr=0.041"]))


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("journal.py", "from __future__ import annotations", "__future__"),
        ("journal.py", "import golf_core.hardware", "from golf_core.module import name"),
        ("journal.py", "from golf_core.hardware import cpu_dtype as dtype", "`as`"),
        ("journal.py", "from golf_core.hardware import *", "`as` or `\\*`"),
        ("journal.py", "from .hardware import cpu_dtype", "from golf_core.module import name"),
        ("journal.py", "def late():\n    from golf_core.hardware import cpu_dtype", "inside a function"),
        ("journal.py", "def orthogonalize():\n    pass", "two things"),
        ("journal.py", "from math import e as torch", "two things"),
        ("journal.py", "from golf_core.pipeline import main", "import each other"),
        ("journal.py", "from golf_core.nowhere import x", "there is no module golf_core.nowhere"),
    ],
)
def test_a_module_that_breaks_a_rule_is_refused(tmp_path, file, line, message):
    """Each rule of the one file is held by the builder, with the place in its message."""
    shutil.copytree(ROOT / "golf_core", tmp_path / "golf_core", ignore=shutil.ignore_patterns("__pycache__"))
    path = tmp_path / "golf_core" / file
    head, first_import = path.read_text().split("\n\nimport", 1)
    path.write_text(f"{head}\n\n{line}\nimport{first_import}")
    with pytest.raises(BundleError, match=message):
        build_bundle(load_recipe("demo").config, root=tmp_path)


def test_a_bundle_carries_no_checks_of_its_frozen_config():
    """The bundle's config classes have the package's fields, defaults and properties, and neither checks nor the list
    of other implementations; its CONFIG is the recipe's."""
    source = readable_bundle(load_recipe("legal_ttt").config)
    for left in ("__post_init__", "_check_", "check_choices", "= choice(", "= switch(", "golf_core.fields"):
        assert left not in source
    scope: dict = {"__name__": "train_gpt"}
    exec(compile(source, "train_gpt.py", "exec"), scope)
    assert to_dict(scope["CONFIG"]) == to_dict(load_recipe("legal_ttt").config)
    for cls in (Config, ModelConfig, QuantConfig, TTTConfig):
        mine = {f.name: f.default for f in fields(cls) if f.default is not MISSING}
        assert {f.name: f.default for f in fields(scope[cls.__name__]) if f.name in mine} == mine
    assert scope["CONFIG"].model.kv_owner(3) == 3
