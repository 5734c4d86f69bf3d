"""Tables and gates: values in, text out."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from golf_core.rundir import RunDirError
from results.gates import check_gates
from results.rows import Row
from results.stats import mean, sample_sd, t_half_width
from results.tables import gate_cells, markdown_table, plain_table, seed_cells, spread_line, spread_lines
from tests.results.attempts import POLICY

RECORD = {**POLICY, "name": "record", "seeds": 3, "gpu": "H100 SXM", "gpus": 8}


def row(seed, **more):
    asked = {
        "submission_id": "s",
        "recipe": "r",
        "overrides": "",
        "status": "counted",
        "diagnostic_only": False,
        "run_id": "r",
        "attempts": 1,
        "target_class": "cpu",
        "device": "cpu",
        "policy": "demo",
        "bundle_sha256": "b",
        "data_sha256": "d",
        "tokenizer_sha256": "t",
    }
    return Row(**{**asked, "seed": seed, **more})


def scored(seed, step_ms, steps, pre, post, ttt, size):
    return row(
        seed,
        step_avg_ms=step_ms,
        steps=steps,
        pre_ttt_bpb=pre,
        post_ttt_bpb=post,
        ttt_gain_bpb=post - pre,
        ttt_time_s=ttt + 0.5,
        ttt_loop_s=ttt,
        artifact_bytes=size,
        val_bpb=post,
        val_loss=post * 1.69,
        final_stage="ttt",
    )


# S1's published runs; sizes to the thousand, as published.
S1 = [
    scored(1337, 83.87, 7155, 1.12163921, 1.11901233, 421.9, 15_851_000),
    scored(42, 83.86, 7156, 1.12228806, 1.11960558, 423.2, 15_858_000),
    scored(2025, 83.89, 7154, 1.12197720, 1.11920302, 423.4, 15_888_000),
]
PUBLISHED = """\
| Seed | step_avg | Steps | Pre-TTT BPB | Post-TTT BPB | TTT Gain | TTT Time | Artifact |
|---|---|---|---|---|---|---|---|
| 1337 | 83.87ms | 7155 | 1.12163921 | 1.11901233 | -0.00262688 | 421.9s | 15.851MB |
| 42 | 83.86ms | 7156 | 1.12228806 | 1.11960558 | -0.00268248 | 423.2s | 15.858MB |
| 2025 | 83.89ms | 7154 | 1.12197720 | 1.11920302 | -0.00277418 | 423.4s | 15.888MB |
| Mean | 83.87ms | 7155 | 1.12196816 | 1.11927364 | -0.00269451 | 422.8s | 15.866MB |
"""


def test_the_published_table_comes_out_to_the_digit():
    """S1's numbers give S1's table: columns, order, signs, digits, mean row."""
    assert markdown_table(seed_cells(S1)) == PUBLISHED


def test_the_records_mean_and_spread_come_out():
    """The record of 2026-03-23: mean 1.11937967, sample standard deviation 0.00058043."""
    line = spread_line("val_bpb", [1.11922988, 1.12002032, 1.11888882], "bits/byte")
    assert "1.11937967 ± 0.00058043" in line and "n=3" in line


def test_a_missing_seed_is_shown_and_left_out_of_the_mean():
    """Its row stands in its place, and the mean says over how many seeds it is."""
    cells = seed_cells([S1[0], row(42, status="failed (nan)"), S1[2]])
    assert cells[2] == ["42", "failed (nan)", *["-"] * 6]
    assert cells[4][0] == "Mean of 2/3" and cells[4][2] == f"{(7155 + 7154) / 2:.0f}"


def test_no_counted_seed_gives_no_mean():
    """Nothing is averaged over nothing."""
    assert [cells[0] for cells in seed_cells([row(1, status="missing")])] == ["Seed", "1"]
    assert spread_lines([row(1, status="missing")]) == []


def test_a_run_without_ttt_shows_no_gain():
    """An absent stage is a dash, not a zero, in its row and in the mean."""
    cells = seed_cells([row(1, step_avg_ms=1.0, steps=2, pre_ttt_bpb=1.5, artifact_bytes=10_000)])
    assert cells[1] == ["1", "1.00ms", "2", "1.50000000", "-", "-", "-", "0.010MB"]
    assert cells[2][1:] == cells[1][1:]


def test_a_loss_by_ttt_has_a_plus():
    """The sign says which way the gain went."""
    assert seed_cells([scored(1, 1.0, 1, 1.5, 1.6, 1.0, 1)])[1][5] == "+0.10000000"


def test_ttt_time_falls_back_to_the_stage():
    """Without the loop's own clock the stage's is shown."""
    without = dataclasses.replace(S1[0], ttt_loop_s=None)
    assert seed_cells([without])[1][6] == "422.4s"


def test_plain_columns_line_up():
    """Every line of the plain table ends its columns at the same places."""
    lines = plain_table(seed_cells(S1)).splitlines()
    assert len({len(line) for line in lines}) == 1


@given(values=st.lists(st.floats(0.5, 2.0), min_size=2, max_size=10))
def test_spread_is_the_sample_standard_deviation(values):
    """n - 1 in the denominator, and the mean between the extremes."""
    centre = mean(values)
    expected = math.sqrt(sum((value - centre) ** 2 for value in values) / (len(values) - 1))
    assert math.isclose(sample_sd(values), expected, rel_tol=1e-6, abs_tol=1e-12)
    assert min(values) - 1e-12 <= centre <= max(values) + 1e-12


def test_the_interval_at_three_seeds_is_two_and_a_half_spreads():
    """Student's t for 2 degrees of freedom: 4.3027 / sqrt(3)."""
    values = [1.0, 1.1, 1.3]
    assert math.isclose(t_half_width(values), 2.484138 * sample_sd(values), rel_tol=1e-6)
    assert t_half_width([1.0]) is None and sample_sd([1.0]) is None


def gate(name, rows, policy=POLICY, target_class="cpu"):
    return next(one for one in check_gates(rows, policy, target_class) if one.name == name)


@pytest.mark.parametrize(
    "name, column, value, verdict",
    [
        ("artifact", "artifact_bytes", 15_999_999, "pass"),
        ("artifact", "artifact_bytes", 16_000_000, "pass"),
        ("artifact", "artifact_bytes", 16_000_001, "fail"),
        ("artifact", "artifact_bytes", 16 * 1024 * 1024, "fail"),
        ("train", "train_seconds", 599.999, "pass"),
        ("train", "train_seconds", 600.000, "pass"),
        ("train", "train_seconds", 600.001, "fail"),
        ("train", "train_seconds", math.nextafter(600, 601), "fail"),
        ("evaluate: sum", "evaluate_seconds", 599.999, "pass"),
        ("evaluate: sum", "evaluate_seconds", 600.000, "pass"),
        ("evaluate: sum", "evaluate_seconds", 600.001, "fail"),
    ],
)
def test_caps_are_inclusive(name, column, value, verdict):
    """At the cap passes, above it fails; the largest seed decides, and the margin is what is left."""
    found = gate(name, [row(1, **{column: 1}), row(2, **{column: value}), row(3, **{column: 2})])
    assert (found.verdict, found.value, found.seed) == (verdict, value, 2)
    assert found.margin == found.limit - value


def test_what_fails_by_a_hair_does_not_look_like_the_limit():
    """A value that rounds to its limit is shown in full where it fails."""
    cells = gate_cells([gate("train", [row(1, train_seconds=math.nextafter(600, 601))])])
    assert cells[1][1] != cells[1][2] and cells[1][1].startswith("600.0000000")


def test_unknown_is_never_pass():
    """A seed without a value leaves the gate unknown, unless another seed fails it already."""
    assert gate("train", [row(1, train_seconds=5.0), row(2, status="missing")]).verdict == "unknown"
    assert gate("train", [row(1, train_seconds=700.0), row(2, status="missing")]).verdict == "fail"
    nothing = gate("artifact", [row(1, status="missing")])
    assert (nothing.verdict, nothing.value, nothing.margin) == ("unknown", None, None)


@pytest.mark.parametrize(
    "counted, missing, verdict", [(3, 0, "pass"), (4, 0, "pass"), (2, 1, "unknown"), (3, 1, "unknown"), (2, 0, "fail")]
)
def test_a_claim_needs_its_seeds(counted, missing, verdict):
    """Enough counted seeds and none missing; too few registered can never do."""
    rows = [row(seed) for seed in range(counted)] + [row(90 + seed, status="missing") for seed in range(missing)]
    assert gate("seeds", rows, RECORD).verdict == verdict


@pytest.mark.parametrize(
    "target_class, gpu, gpus, verdict",
    [
        ("record", "H100 SXM", 8, "pass"),
        ("exploratory", "H100 SXM", 8, "fail"),
        ("exploratory", "H100 PCIe", 8, "fail"),
        ("record", "H100 SXM", 7, "fail"),
        ("cpu", None, 0, "fail"),
        ("simulated", "H100 SXM", 8, "fail"),
    ],
)
def test_hardware_is_what_the_policy_asks(target_class, gpu, gpus, verdict):
    """Only the record class on that model and number passes."""
    seen = {"gpus_seen": gpus, "hardware": f"{gpus}x {gpu}"}
    rows = [row(1, device="cuda" if gpu else "cpu", gpu=gpu, gpus=gpus, **seen)]
    assert gate("hardware", rows, RECORD, target_class).verdict == verdict


def test_simulated_hardware_passes_nothing():
    """Not even a gate whose value is under its cap."""
    rows = [row(1, artifact_bytes=1, train_seconds=1.0, evaluate_seconds=1.0)]
    assert all(one.verdict != "pass" for one in check_gates(rows, POLICY, "simulated"))


@pytest.mark.parametrize("limit", [None, "600", True, 0, -1, math.nan, math.inf, 10**400])
def test_a_policy_without_a_cap_is_refused(limit):
    """A cap that is no number above 0 is an error that names it."""
    with pytest.raises(RunDirError, match="train_seconds"):
        check_gates([row(1)], {**POLICY, "train_seconds": limit}, "cpu")
