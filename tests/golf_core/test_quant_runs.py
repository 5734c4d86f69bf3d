"""Whole runs of bundles that round by every switch: what is trained, calibrated, pruned and packed loads and scores."""

import json

import pytest

from golf_core.bundle import build_bundle
from tests.golf_core.test_pipeline import run_both_stages, scores_of, tiny

GPTQ = ("quant.rounding=gptq", "quant.calibration_seqs=5")
SWITCHES = {
    "self": (*GPTQ, "quant.calibration=self", "quant.clip=percentile_search"),
    "train": (*GPTQ, "quant.calibration=train", "quant.clip=sd", "quant.sd_matrix=4"),
    "packed": (
        *("quant.attn_bits=4", "quant.mlp_bits=4", "quant.nibbles=true", "quant.symmetric=false"),
        *("quant.clip=ratio_search", "quant.prune_fraction=0.03", "quant.group_rows=8"),
        *("qat.kind=swap", "qat.start=steps", "qat.at=0.5"),
    ),
}


def events_of(folder) -> dict[str, dict]:
    return {e["event"]: e for e in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())}


@pytest.mark.parametrize("name", sorted(SWITCHES))
def test_a_run_with_every_switch_scores_what_it_shipped(small_data, tmp_path, name):
    """The bundle trains and scores from its artifact; rounding costs little beside what it was before."""
    config = tiny(*SWITCHES[name], "ttt.kind=none", "evaluate.stride=32")
    said = run_both_stages(tmp_path, config, small_data)
    before = events_of(tmp_path)["train_end"]["pre_quant_loss"]
    assert scores_of(tmp_path)["stages"]["roundtrip"]["val_loss"] == pytest.approx(before, abs=0.1)
    phases = {"self": "phase:begin self_calibrate", "train": "phase:begin calibrate", "packed": "qat:enabled step:3 "}
    for other, line in phases.items():
        assert (line in said) == (other == name)


def test_a_budget_that_is_too_small_prunes_and_says_so(small_data, tmp_path):
    """A target below what can be reached zeroes every +-1, warns, and the artifact is still scored; a roomy one
    changes nothing."""
    artifacts = []
    for target in (1_000, 10_000_000):
        config = tiny("ttt.kind=none", "evaluate.stride=32", "train.iterations=2", f"artifact.target_bytes={target}")
        folder = tmp_path / str(target)
        folder.mkdir()
        said = run_both_stages(folder, config, small_data)
        (line,) = (line for line in said.splitlines() if line.startswith("export_budget: target="))
        assert line.startswith(f"export_budget: target={target}B current=")
        assert ("warning: export_budget:" in said) == ("pruned=0" not in line) == (target == 1_000)
        artifacts.append((folder / "artifact.bin").stat().st_size)
        assert scores_of(folder)["model_bytes"] == artifacts[-1]
    assert artifacts[0] < artifacts[1]


def test_what_is_off_is_not_in_the_bundle():
    """Each way of rounding brings its own modules and no other."""
    symbols = ("def gptq_codes", "def self_calibration", "class WeightSwap", "class Nibbles", "def zero_smallest")
    symbols += ("def percentile_search_clip", "def quantile_clip", "def prune_to_budget")
    wanted = {
        (): {"def quantile_clip"},
        ("quant.clip=percentile_search",): {"def percentile_search_clip"},
        ("quant.rounding=gptq", "quant.calibration=self"): {
            *("def quantile_clip", "def gptq_codes", "def self_calibration")
        },
        ("qat.kind=swap", "quant.clip=ratio_search"): {"class WeightSwap", "def percentile_search_clip"},
        ("quant.attn_bits=4", "quant.nibbles=true", "quant.prune_fraction=0.1"): {
            *("def quantile_clip", "class Nibbles", "def zero_smallest")
        },
        ("artifact.target_bytes=99",): {"def quantile_clip", "def prune_to_budget"},
    }
    for overrides, expected in wanted.items():
        source = build_bundle(tiny(*overrides))
        assert {symbol for symbol in symbols if symbol in source} == expected
