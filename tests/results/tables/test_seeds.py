"""The seed table from plain values and from logs: S1's published table to the digit, and what is missing."""

import dataclasses

import pytest

from results.parse.reader import parse_file
from results.tables import SeedLine, line_of_parsed, line_of_row, seed_table
from results.tables.render import FORMS
from tests.results.parse.logs import Truth, old, written
from tests.results.test_tables import PUBLISHED, S1, row


def truth(seed, step_avg, steps, pre, post, size):
    """What a log of S1's shape says of a run; the code's bytes are part of the size."""
    values = {"seed": seed, "step_avg_ms": step_avg, "steps": steps, "sliding_bpb": pre, "post_ttt_bpb": post}
    return Truth(**values, model=size - Truth.code)


LOGS = [
    (truth(1337, 83.87, 7155, 1.12163921, 1.11901233, 15_851_234), "421.9s"),
    (truth(42, 83.86, 7156, 1.12228806, 1.11960558, 15_857_900), "423.2s"),
    (truth(2025, 83.89, 7154, 1.12197720, 1.11920302, 15_888_017), "423.4s"),
]


def table_of(markdown):
    return "".join(line for line in markdown.splitlines(keepends=True) if line.startswith("|"))


def test_logs_of_s1s_shape_give_s1s_table(tmp_path):
    """Parsed line by line, the three runs come out as published: every digit, sign and mean."""
    lines = []
    for one, loop in LOGS:
        path = tmp_path / f"train_seed{one.seed}.log"
        path.write_bytes(written([line.replace("409.8s", loop) for line in old(one)]))
        lines += [line_of_parsed(run) for run in parse_file(path)]
    assert table_of(seed_table(lines, "S1").markdown()) == PUBLISHED


def test_plain_values_give_the_same_table():
    """Without a gain it is the difference of the scores; without the loop's clock the stage's stands."""
    lines = [dataclasses.replace(line_of_row(one), ttt_gain_bpb=None) for one in S1]
    assert table_of(seed_table(lines, "S1").markdown()) == PUBLISHED
    stage_only = [dataclasses.replace(line, ttt_loop_s=None, ttt_time_s=line.ttt_loop_s) for line in lines]
    assert table_of(seed_table(stage_only, "S1").markdown()) == PUBLISHED


def test_csv_carries_full_precision_and_bytes():
    """The mean is marked as one, counts are whole, seconds of both clocks are kept."""
    objects = seed_table([line_of_row(one) for one in S1], "S1").objects
    assert [one["status"] for one in objects] == ["counted"] * 3 + ["mean"] and objects[3]["n"] == 3
    assert (objects[0]["steps"], objects[0]["artifact_bytes"], objects[0]["post_ttt_bpb"]) == (
        7155,
        15_851_000,
        1.11901233,
    )
    assert (objects[0]["ttt_shown_s"], objects[0]["ttt_loop_s"], objects[0]["ttt_time_s"]) == (421.9, 421.9, 422.4)
    assert objects[3]["seed"] is None and objects[3]["artifact_bytes"] == pytest.approx(47_597_000 / 3)


def test_the_mean_is_over_the_counted_and_of_whole_columns():
    """A missing seed is named in the mean's label; a column with a gap has no mean."""
    lines = [
        SeedLine(seed=1, steps=10, step_avg_ms=1.0),
        SeedLine(seed=2, steps=20),
        SeedLine(seed=3, status="missing"),
    ]
    objects = seed_table(lines, "t").objects
    assert objects[-1]["label"] == "Mean of 2/3" and objects[-1]["steps"] == 15
    assert objects[-1]["step_avg_ms"] is None and seed_table(lines, "t").cells[3][1] == "missing"
    assert [one["label"] for one in seed_table(lines[2:], "t").objects] == ["3"]
    assert seed_table([], "t").objects == []


def test_a_run_without_a_seed_has_its_label():
    """A log that tells no seed is shown by the name that it was given, else by a dash."""
    cells = seed_table([SeedLine(seed=None, label="train.log"), SeedLine(seed=None)], "t").cells
    assert [line[0] for line in cells] == ["Seed", "train.log", "-", "Mean"]


@pytest.mark.parametrize("form", FORMS)
def test_stamps_survive_in_every_form(form):
    """Diagnostic scores and simulated times can be taken for nothing else, in text or by column."""
    told = seed_table([line_of_row(row(1, diagnostic_only=True, post_ttt_bpb=1.5))], "t").render(form)
    assert "1,1,counted,1,True" in told if form == "csv" else "DIAGNOSTIC ONLY" in told
    assert form in ("csv", "json") or "(diagnostic)" in told
    told = seed_table([line_of_row(row(1, target_class="simulated", step_avg_ms=1.0))], "t").render(form)
    assert ",simulated," in told if form == "csv" else "SIMULATED HARDWARE" in told
