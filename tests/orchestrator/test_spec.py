"""Ids, seeds, targets and settings: what is asked for, and what is refused with which words."""

import contextlib
import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from golf_core.policy import load_policy
from golf_core.recipes import load_recipe
from orchestrator.errors import UsageError
from orchestrator.settings import FIELDS, Settings
from orchestrator.site import make_target
from orchestrator.spec import MAX_SEED, Target, parse_seeds, target_class, unique_prefix
from tests.orchestrator.fake_gpus import fake_nvml, install_nvml
from tests.orchestrator.toy import submission


@given(st.lists(st.integers(0, MAX_SEED), min_size=1, unique=True), st.sampled_from([",", ", ", " ,"]))
def test_good_seeds_are_read_in_order(seeds, comma):
    """Distinct whole numbers in range, with or without spaces, come back as they were."""
    assert parse_seeds(comma.join(map(str, seeds))) == tuple(seeds)


BAD_SEEDS = {"": "empty", " ": "empty", ",": "empty", "1,,2": "''", "1,1": "twice", "1,01": "twice"}
BAD_SEEDS |= {"-1": "negative", "1,-2": "negative", "4294967296": "large", "1" * 5000: "large"}
BAD_SEEDS |= dict.fromkeys(("1.5", "a", "1 2", "0x1", "\u0661", "--1"), "whole")


@pytest.mark.parametrize("text, word", BAD_SEEDS.items(), ids=[text[:12] for text in BAD_SEEDS])
def test_bad_seeds_are_refused_each_in_its_words(text, word):
    """Empty, repeated, negative, too large or not whole: the message says which, and holds the value."""
    with pytest.raises(UsageError, match=word):
        parse_seeds(text)


@given(st.text())
def test_any_text_is_seeds_or_a_usage_error(text):
    """No text makes the parser fail in another way."""
    with contextlib.suppress(UsageError):
        assert all(0 <= seed <= MAX_SEED for seed in parse_seeds(text))


def test_ids_follow_from_content_alone():
    """Bundle, seed, data, tokenizer and target change a run id; recipe name, published value, paths, policy do not."""
    base = submission()
    target = dataclasses.replace(base.target, dtype="bf16")
    different = {
        "bundle": dataclasses.replace(base, bundle=base.bundle + "\n"),
        "seed": dataclasses.replace(base, seeds=(2,)),
        "data": dataclasses.replace(base, data=dataclasses.replace(base.data, sha256="0" * 64)),
        "tokenizer": dataclasses.replace(base, data=dataclasses.replace(base.data, tokenizer_sha256="0" * 64)),
        "target": dataclasses.replace(base, target=target),
    }
    ids = {name: one.submission_id for name, one in different.items()} | {"base": base.submission_id}
    assert len(set(ids.values())) == len(ids)
    same = dataclasses.replace(
        base,
        recipe="other",
        overrides=("model.layers=4",),
        policy=load_policy("record-2026-03"),
        data=dataclasses.replace(base.data, path="/elsewhere"),
        published={"value": 1.1, "status": "measured", "source": "a log"},
    )
    assert same.submission_id == base.submission_id and same.runs == base.runs


def test_the_order_of_seeds_names_the_submission_but_not_the_runs():
    """1,2 and 2,1 are two submissions of the same two runs."""
    one, other = submission(seeds=(1, 2)), submission(seeds=(2, 1))
    assert one.submission_id != other.submission_id and set(one.runs) == set(other.runs)


def test_a_target_belongs_to_one_class():
    """A CPU is cpu whatever the policy; GPUs are record only where the policy asks for exactly them."""
    record = load_policy("record-2026-03")
    cpu = Target(device="cpu")
    eight = Target(device="cuda", gpu=record.gpu, gpus=8, processes=8, dtype="bf16")
    one = dataclasses.replace(eight, gpus=1, processes=1)
    assert [target_class(t, record) for t in (cpu, eight, one)] == ["cpu", "record", "exploratory"]
    assert target_class(eight, load_policy("demo")) == "exploratory"


@pytest.mark.parametrize(
    "name, count, expected",
    [
        ("NVIDIA H100 80GB HBM3", 8, "record"),
        ("NVIDIA H100 80GB HBM3", 4, "exploratory"),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", 8, "exploratory"),
        ("NVIDIA H100 PCIe", 8, "exploratory"),
        ("NVIDIA H100 NVL", 8, "exploratory"),
        ("NVIDIA H200", 8, "exploratory"),
        ("NVIDIA H100", 8, "exploratory"),
        ("H100 SXM", 8, "exploratory"),
        (None, 8, "exploratory"),
    ],
)
def test_record_is_what_the_driver_calls_the_sxm_model(name, count, expected):
    """Of the names that machines really report, only eight of the SXM H100 are record hardware."""
    target = Target(device="cuda", gpu=name, gpus=count, processes=count, dtype="bf16")
    assert target_class(target, load_policy("record-2026-03")) == expected


def gpus_of(monkeypatch, folder, names, visible=None, **settings):
    """make_target on a machine whose driver names these GPUs."""
    install_nvml(monkeypatch, fake_nvml(names))
    monkeypatch.setattr("orchestrator.hardware.gpus.ROCM", ("rocm-smi-that-is-not-there",))
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    return make_target(
        Settings.resolve({"device": "cuda"} | settings, {}, folder), load_recipe("naive_baseline").config
    )


@pytest.mark.parametrize(
    "visible, expected", [(None, 4), ("0", 1), ("1,2,3", 2), ("2,3", 2), ("1,-1,2", 1), ("GPU-a,GPU-b", 2)]
)
def test_a_gpu_target_has_a_process_for_each_visible_gpu(monkeypatch, tmp_path, visible, expected):
    """The default follows the machine, CUDA_VISIBLE_DEVICES and what divides the recipe's work."""
    target = gpus_of(monkeypatch, tmp_path, ["NVIDIA H200"] * 4, visible)
    assert (target.processes, target.gpus, target.gpu) == (expected, expected, "NVIDIA H200")


@pytest.mark.parametrize(
    "names, visible, settings, words",
    [
        (["NVIDIA H200"], None, {"processes": 2}, "more than the GPUs visible here .1."),
        (["NVIDIA H200"] * 2, "0", {"processes": 2}, "more than the GPUs"),
        (["NVIDIA H200"], "3", {}, "CUDA_VISIBLE_DEVICES='3'"),
        (["NVIDIA H200"], "", {}, "no GPU"),
        ([], None, {}, "name none"),
        (["NVIDIA H200", "NVIDIA H100 PCIe"], None, {}, "one model"),
    ],
)
def test_more_processes_than_gpus_are_refused(monkeypatch, tmp_path, names, visible, settings, words):
    """Two processes on one GPU, no visible GPU, or a mixture is a usage error."""
    with pytest.raises(UsageError, match=words):
        gpus_of(monkeypatch, tmp_path, names, visible, **settings)


@pytest.mark.parametrize("wrong", [{"launcher": "mpirun"}, {"launcher": "python", "processes": 2}, {"threads": 0}])
def test_a_target_that_cannot_be_is_refused(wrong):
    """The message holds the value and what would do."""
    with pytest.raises(UsageError, match=re.escape(str(next(iter(wrong.values()))))):
        Target(device="cpu", **wrong)


def test_a_prefix_must_name_one_submission():
    """None or several: the message lists what there is."""
    assert unique_prefix("ab", ["abc", "xyz"]) == "abc"
    for prefix in ("a", "q"):
        with pytest.raises(UsageError, match="abc"):
            unique_prefix(prefix, ["abc", "abd"])


def test_precedence_is_flag_environment_file_default(tmp_path):
    """Each source goes before the next, and is remembered by name."""
    (tmp_path / "golf.toml").write_text("recipe = 'file'\nseeds = [1, 2]\nthreads = 3\nruns_dir = 'here'\n[author]\n")
    settings = Settings.resolve({"recipe": "flag"}, {"GOLF_RECIPE": "env", "GOLF_THREADS": "5"}, tmp_path)
    seen = {name: (settings[name], settings.source(name)) for name in ("recipe", "threads", "seeds", "policy")}
    assert seen == {
        "recipe": ("flag", "--recipe"),
        "threads": (5, "GOLF_THREADS"),
        "seeds": ("1,2", "golf.toml"),
        "policy": ("demo", "default"),
    }
    assert settings["runs_dir"] == str(tmp_path / "here") and set(settings.values) == set(FIELDS)


@pytest.mark.parametrize(
    "flags, environ, expected",
    [
        ({}, {}, ("demo", "default for cpu")),
        ({"device": "cuda"}, {}, ("legal_ttt", "default for cuda")),
        ({}, {"GOLF_DEVICE": "cuda"}, ("legal_ttt", "default for cuda")),
        ({"device": "cuda", "recipe": "demo"}, {}, ("demo", "--recipe")),
        ({"device": "tpu"}, {}, ("demo", "default for tpu")),
    ],
)
def test_the_default_recipe_follows_the_device(tmp_path, flags, environ, expected):
    """The demo on a CPU, the strongest legal recipe on GPUs, and the source says for what; a given one stays."""
    settings = Settings.resolve(flags, environ, tmp_path)
    assert (settings["recipe"], settings.source("recipe")) == expected


@pytest.mark.parametrize(
    "text, words",
    [
        ("recipy = 'demo'\n", "did you mean 'recipe'"),
        ("threads = 'many'\n", "whole number"),
        ("threads = true\n", "whole number"),
        ("silence_seconds = 'x'\n", "a number"),
        ("silence_seconds = -1\n", "above 0"),
        ("silence_seconds = nan\n", "above 0"),
        ("startup_seconds = inf\n", "above 0"),
        ("recipe = \n", "golf.toml"),
    ],
)
def test_a_project_file_that_cannot_be_is_refused(tmp_path, text, words):
    """Unknown keys name the nearest; values of another kind and bad TOML name the file."""
    (tmp_path / "golf.toml").write_text(text)
    with pytest.raises(UsageError, match=words):
        Settings.resolve({}, {}, tmp_path)
