"""Configs check themselves, and overrides are typed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from golf_core.config import Config
from golf_core.config_io import from_dict, override, paths, to_dict
from golf_core.fields import ConfigError
from golf_core.policy import load_policy, policy_names
from golf_core.recipes import RECIPES, load_recipe


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_survives_json(name):
    """A recipe's config read back from JSON is the same config."""
    config = load_recipe(name).config
    assert from_dict(Config, json.loads(json.dumps(to_dict(config)))) == config
    assert config.name == name


@pytest.mark.parametrize("path", paths(Config))
def test_every_path_can_be_set_to_its_own_value(path):
    """`path=value` with the value that is there changes nothing, for every field."""
    config = load_recipe("demo").config
    value = to_dict(config)
    for name in path.split("."):
        value = value[name]
    assert override(config, [f"{path}={value}"]) == config


@given(layers=st.integers(1, 64), lr=st.floats(1e-6, 10))
def test_numbers_arrive_as_written(layers, lr):
    """An override's number is read to the digit, by the field's type."""
    config = override(Config(name="x"), [f"model.layers={layers}", f"optim.matrix_lr={lr!r}"])
    assert (config.model.layers, config.optim.matrix_lr) == (layers, lr)


def test_overrides_are_applied_together():
    """Two overrides that only fit together are accepted."""
    config = override(Config(name="x"), ["model.heads=6", "model.width=384", "model.kv_heads=2"])
    assert config.model.head_dim == 64


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("model.layer=6", "did you mean model.layers"),
        ("layers=6", "did you mean model.layers"),
        ("model=6", "a group of fields"),
        ("model.layers.deep=6", "a single value"),
        ("model.layers", "path=value"),
        ("=6", "path=value"),
        ("model.layers=six", "whole number"),
        ("model.layers=0", "must be positive"),
        ("model.layers=2.5", "whole number"),
        ("optim.matrix_lr=fast", "a number"),
        ("optim.matrix_lr=nan", "finite"),
        ("train.compile=maybe", "true or false"),
        ("artifact.codec=zst", "did you mean 'zstd'"),
        ("artifact.level=99", "0 to 9 for lzma"),
        ("model.heads=3", "not a multiple"),
        ("train.batch_tokens=1000", "not a multiple"),
        ("evaluate.stride=0", "between 1 and"),
        ("model.softcap=100", "at most 80"),
        ("model.vocab=70000", "65536"),
        ("optim.eps=-1", "positive"),
        ('name=x"""y', "letters, digits"),
        ("name=../x", "letters, digits"),
        ("quant.attn_bits=3", "there are [4, 5, 6, 7, 8]"),
    ],
)
def test_a_bad_override_says_what_would_do(assignment, message):
    """The message names the value and the alternative."""
    with pytest.raises(ConfigError) as error:
        override(load_recipe("demo").config, [assignment])
    assert message in str(error.value)


def test_unknown_keys_and_wrong_types_are_refused():
    """JSON with a key we do not know, or a value of another type, is an error with its place."""
    for data, place in (
        ({"name": "x", "modle": {}}, "modle"),
        ({"name": "x", "model": {"layers": "9"}}, "model.layers"),
        ({"name": "x", "model": {"layers": True}}, "model.layers"),
        ({"name": "x", "model": 9}, "model"),
        ({}, "name"),
    ):
        with pytest.raises(ConfigError, match=place):
            from_dict(Config, data)


def test_an_unknown_recipe_or_policy_names_the_nearest():
    """A typing error is answered with what was meant."""
    with pytest.raises(ConfigError, match="did you mean 'naive_baseline'"):
        load_recipe("naive_baselin")
    with pytest.raises(ConfigError, match="did you mean 'demo'"):
        load_policy("dmo")


def test_policies_hold_the_races_caps():
    """Every policy that ships is readable, and the record's caps are the race's."""
    assert {load_policy(name).name for name in policy_names()} == set(policy_names())
    record = load_policy("record-2026-03")
    assert (record.artifact_bytes, record.train_seconds, record.evaluate_seconds, record.gpus) == (
        16_000_000,
        600,
        600,
        8,
    )


def test_a_policy_file_with_an_unknown_key_is_refused(tmp_path):
    """A misspelt gate is not silently ignored."""
    path = tmp_path / "mine.toml"
    path.write_text('summary = "x"\nartifact_byte = 1\n')
    with pytest.raises(ConfigError, match="artifact_byte"):
        load_policy(str(path))
