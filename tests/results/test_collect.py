"""Collecting: only sealed, counted attempts; every registered seed has a row; hostile folders are refused."""

import csv
import io
import json
import math
import random
import shutil
from pathlib import Path

import pandas as pd
import pytest

from golf_core.rundir import (
    ARTIFACT,
    BUNDLE,
    ENV,
    LOG,
    METRICS,
    RESULT,
    RUN,
    SCORES,
    SEAL,
    RunDirError,
    read_json,
    write_json,
    write_seal,
)
from results.collect import collect
from results.outputs import csv_text, frame, write_outputs
from results.overview import look_at_all, write_overview
from results.rows import COLUMNS, SCORE_COLUMNS, columns_markdown
from results.spec import UnknownSubmission, find_submission
from tests.results.attempts import CODE, FINAL_FILES, POLICY, Runs, stage

DOCS = Path(__file__).resolve().parents[2] / "docs" / "results.md"


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path / "runs")


def by_seed(found):
    return {row.seed: row for row in found.rows}


def test_every_registered_seed_has_a_row_in_order(runs):
    """Three sealed attempts give three counted rows in the registered order, with what their files say."""
    found = collect(runs.all_attempts().folder)
    assert [row.seed for row in found.rows] == [1337, 42, 2025] and found.finished and not found.failed
    row = found.rows[0]
    assert (row.status, row.attempts, row.attempt_id) == ("counted", 1, runs.attempt_folder(1337).name)
    assert (row.steps, row.step_avg_ms, row.parameters, row.stopped_by) == (500, 120.0, 123_456, "iterations")
    assert row.code_bytes == len(CODE) and row.artifact_bytes == row.code_bytes + row.model_bytes == len(CODE) + 1500
    assert (row.pre_ttt_bpb, row.post_ttt_bpb) == (row.sliding_bpb, row.ttt_bpb)
    assert row.ttt_gain_bpb == row.post_ttt_bpb - row.pre_ttt_bpb
    assert (row.final_stage, row.val_bpb, row.ttt_time_s, row.ttt_loop_s) == ("ttt", row.ttt_bpb, 10.0, 9.0)


def test_each_time_is_the_larger_of_two_clocks(runs):
    """Trainer's against worker's, sum of the stages against worker's; one alone stands for itself."""
    runs.attempt(1337, train_end={"train_seconds": 61.0}, result={"train_seconds": 60.0, "evaluate_seconds": 29.0})
    runs.attempt(42, train_end={"train_seconds": None}, result={"evaluate_seconds": None})
    runs.attempt(2025, result={"train_seconds": None})
    rows = by_seed(collect(runs.folder))
    assert (rows[1337].train_seconds, rows[1337].evaluate_seconds) == (61.0, 30.0)
    assert (rows[42].train_seconds, rows[42].evaluate_seconds) == (60.5, 30.0)
    assert (rows[2025].train_seconds_worker, rows[2025].train_seconds) == (None, 60.0)


@pytest.mark.parametrize("kind", ["plain", "sliding", "ttt alone"])
def test_absent_stages_are_empty(runs, kind):
    """Pre-TTT is sliding if there, else roundtrip; without TTT there is no gain."""
    stages = {"roundtrip": stage(1.6)}
    if kind == "sliding":
        stages["sliding"] = stage(1.5)
    if kind == "ttt alone":
        stages["ttt"] = stage(1.4)
    for seed in runs.seeds:
        runs.attempt(seed, stages=stages)
    row = collect(runs.folder).rows[0]
    assert row.pre_ttt_bpb == (1.5 if kind == "sliding" else 1.6)
    assert row.post_ttt_bpb == (1.4 if kind == "ttt alone" else None)
    assert row.val_bpb == list(stages.values())[-1]["val_bpb"]
    assert (row.ttt_gain_bpb is None) == (kind != "ttt alone")


def test_missing_seeds_are_shown_as_missing(runs):
    """A seed without attempt, one that failed, one unfinished: each has its row, its status and no numbers."""
    runs.attempt(1337)
    runs.failed(42, cls="memory")
    runs.attempt(2025, seal=False).joinpath(RESULT).unlink()
    found = collect(runs.folder)
    assert [row.status for row in found.rows] == ["counted", "failed (memory)", "unfinished"]
    assert not found.finished and found.failed and found.rows[1].val_bpb is None
    runs.attempt_folder(42).joinpath(RESULT).unlink()
    shutil.rmtree(runs.attempt_folder(42))
    assert collect(runs.folder).rows[1].status == "missing"


def test_the_lowest_qualifying_attempt_is_counted(runs):
    """Void and failed attempts are passed over; of two good ones the first counts, whatever they score."""
    runs.attempt(1337, 1, stages={"roundtrip": stage(1.0)})
    runs.void(1337, 1)
    runs.failed(1337, 2)
    runs.attempt(1337, 3, stages={"roundtrip": stage(1.9)})
    runs.attempt(1337, 10, stages={"roundtrip": stage(1.1)})
    found = collect(runs.folder)
    row = found.rows[0]
    assert (row.attempt_id, row.attempts, row.val_bpb) == (runs.attempt_folder(1337, 3).name, 4, 1.9)
    assert len(found.notes) == 2 and "void (rank_killed)" in found.notes[0] and "failed (nan)" in found.notes[1]


def test_an_unsealed_attempt_never_counts(runs):
    """Complete files without a seal are no evidence."""
    runs.attempt(1337, seal=False)
    assert not collect(runs.folder).rows[0].counted


@pytest.mark.parametrize("name", FINAL_FILES)
def test_one_changed_byte_in_any_sealed_file_uncounts_the_attempt(runs, name):
    """The row says damaged, has no numbers, and the note names the file."""
    folder = runs.attempt(1337)
    path = folder / name
    path.write_bytes(path.read_bytes() + b" ")
    found = collect(runs.folder)
    assert found.rows[0].status == "damaged" and found.rows[0].val_bpb is None
    assert name in found.notes[0]


def test_scores_csv_holds_no_times_and_is_stable_in_bytes(runs, tmp_path):
    """Two submissions with the same scores and other times, in other folders, have the same scores.csv."""
    other = Runs(tmp_path / "other")
    for seed in runs.seeds:
        runs.attempt(seed)
        other.attempt(seed, 2, result={"train_seconds": 77.7, "started_at": "2027"}, train_end={"step_avg_ms": 9.0})
    write_outputs(collect(runs.folder))
    write_outputs(collect(other.folder))
    first, second = ((one.folder / "scores.csv").read_bytes() for one in (runs, other))
    assert first == second and first.count(b"\n") == 4
    assert (runs.folder / "results.csv").read_bytes() != (other.folder / "results.csv").read_bytes()
    assert not [name for name in SCORE_COLUMNS if name.endswith(("_s", "_seconds", "_ms", "_at"))]


def test_csv_keeps_every_digit(runs):
    """Numbers read back are the numbers of scores.json, and nothing unknown becomes a number."""
    bpb = random.Random(1).random() + 1
    runs.attempt(1337, stages={"roundtrip": stage(bpb)})
    table = list(csv.DictReader(io.StringIO(csv_text(collect(runs.folder).rows))))
    assert list(table[0]) == list(COLUMNS)
    assert float(table[0]["val_bpb"]) == bpb and table[0]["ttt_bpb"] == ""
    assert table[1]["status"] == "missing" and table[1]["steps"] == "" and table[1]["attempts"] == "0"


def test_the_frame_has_a_typed_row_a_run(runs):
    """Whole numbers stay whole beside unknown ones."""
    runs.attempt(1337)
    data = frame(collect(runs.folder).rows)
    assert len(data) == 3 and list(data.columns) == list(COLUMNS)
    assert data["steps"].dtype == pd.Int64Dtype() and data["steps"].isna().tolist() == [False, True, True]


def test_the_overview_has_the_rows_of_all_submissions(runs):
    """Two submissions in one runs folder; a damaged third is left out by name."""
    runs.all_attempts()
    other = Runs(runs.runs_dir, seeds=(7,), recipe="other")
    other.attempt(7)
    broken = Runs(runs.runs_dir, seeds=(8,))
    (broken.folder / "spec.json").write_text("{}", encoding="utf-8")
    overview = look_at_all(runs.runs_dir, [collect(runs.folder)])
    write_overview(runs.runs_dir, overview)
    problems = overview.problems
    table = list(csv.DictReader(io.StringIO((runs.runs_dir / "results.csv").read_text(encoding="utf-8"))))
    assert sorted(row["seed"] for row in table) == sorted(["1337", "42", "2025", "7"])
    assert len(problems) == 1 and str(broken.folder) in problems[0]


def test_a_run_counts_for_every_submission_that_asks_for_it(runs):
    """Attempts are shared: the same seed in another list of seeds is the same run."""
    runs.attempt(42)
    other = Runs(runs.runs_dir, seeds=(42, 7))
    assert [row.status for row in collect(other.folder).rows] == ["counted", "missing"]


def test_simulated_hardware_is_stamped(tmp_path):
    """The table of a simulated submission says so before any number."""
    runs = Runs(tmp_path / "runs", target_class="simulated").all_attempts()
    text = write_outputs(collect(runs.folder))
    assert text.index("SIMULATED") < text.index("| Seed |") and "| pass |" not in text


def rewrite(folder, name, **changes):
    """Change a file and seal the attempt again, as somebody who forges evidence would."""
    write_json(folder / name, read_json(folder / name) | changes)
    write_seal(folder, SEAL, FINAL_FILES, {})


@pytest.mark.parametrize(
    "name, changes, says",
    [
        (RUN, {"seed": 42}, "seed is 42"),
        (RUN, {"run_id": "0" * 64}, "run_id"),
        (RUN, {"attempt_id": "x-a1"}, "attempt_id"),
        (RUN, {"target": {"device": "cuda"}}, "target"),
        (SCORES, {"seed": 7}, "seed is 7"),
        (SCORES, {"model_bytes": 1}, "model_bytes is 1"),
        (SCORES, {"code_bytes": 1}, "code_bytes is 1"),
        (SCORES, {"artifact_sha256": "0" * 64}, "artifact_sha256"),
        (SCORES, {"final_stage": "best"}, "final_stage"),
        (SCORES, {"stages": {}}, "final_stage"),
        (SCORES, {"stages": []}, "stages"),
        (SCORES, {"stages": {"ttt": {"val_loss": 1.0}}}, "val_bpb"),
        (SCORES, {"stages": {"ttt": stage(1.5), "magic": stage(1.0)}}, "magic"),
        (SCORES, {"stages": {"ttt": stage(1.5) | {"val_bpb": 1.4}}}, "loss, tokens and bytes give"),
        (SCORES, {"stages": {"ttt": stage(1.5) | {"tokens": 0}}}, "0 tokens"),
        (SCORES, {"stages": {"ttt": stage(1.5) | {"val_loss": "1.5"}}}, "val_loss"),
        (SCORES, {"stages": {"ttt": stage(1.5) | {"val_loss": -1}}}, "val_loss"),
        (SCORES, {"stages": {"ttt": stage(1.5) | {"val_loss": True}}}, "val_loss"),
        (SCORES, {"stages": {"ttt": stage(1.5) | {"bytes": 10**400}}}, "bytes"),
        (RESULT, {"train_seconds": "long"}, "train_seconds"),
        (RESULT, {"started_at": "x\x1b[2J"}, "started_at"),
        (ENV, {"packages": {"torch": ["2.13"]}}, "torch"),
        (ENV, {"gpus": ["H100"]}, "name"),
    ],
)
def test_sealed_files_that_contradict_are_refused(runs, name, changes, says):
    """Forged evidence under a valid seal is an error that names the file and the value, not a row."""
    folder = runs.attempt(1337)
    rewrite(folder, name, **changes)
    with pytest.raises(RunDirError, match=says) as refusal:
        collect(runs.folder)
    assert str(folder) in str(refusal.value)


@pytest.mark.parametrize("text", ["1e400", "NaN", "Infinity", "-1", "1" * 500])
def test_numbers_that_are_none_are_refused(runs, text):
    """Overflowing, negative and non-finite JSON numbers give an error, never a value."""
    folder = runs.attempt(1337)
    raw = (folder / SCORES).read_text(encoding="utf-8").replace('"tokens": 120832', f'"tokens": {text}')
    (folder / SCORES).write_text(raw, encoding="utf-8")
    write_seal(folder, SEAL, FINAL_FILES, {})
    with pytest.raises(RunDirError, match=SCORES):
        collect(runs.folder)


def test_another_bundle_under_the_seal_is_refused(runs):
    """The attempt must have run the bundle that the submission names."""
    folder = runs.attempt(1337)
    (folder / BUNDLE).write_text("print('other')\n", encoding="utf-8")
    write_seal(folder, SEAL, FINAL_FILES, {})
    with pytest.raises(RunDirError, match="another bundle"):
        collect(runs.folder)


@pytest.mark.parametrize("lines", [[], [{"event": "train_end"}] * 2], ids=["none", "two"])
def test_one_training_has_one_end(runs, lines):
    """A log of two trainings, or of none, gives no number."""
    folder = runs.attempt(1337)
    (folder / METRICS).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    write_seal(folder, SEAL, FINAL_FILES, {})
    with pytest.raises(RunDirError, match=f"{len(lines)} train_end"):
        collect(runs.folder)


@pytest.mark.parametrize("name", [ARTIFACT, LOG, ENV, SCORES])
def test_a_seal_that_leaves_a_file_out_does_not_count(runs, name):
    """What is read must be under the seal."""
    folder = runs.attempt(1337)
    write_seal(folder, SEAL, [file for file in FINAL_FILES if file != name], {})
    found = collect(runs.folder)
    assert found.rows[0].status == "damaged" and name in found.notes[0]


def test_links_out_of_the_folder_are_not_followed(runs, tmp_path):
    """A sealed file replaced by a link, or an attempt that is a link, is no evidence."""
    folder = runs.attempt(1337)
    shutil.move(folder / SCORES, tmp_path / "scores.json")
    (folder / SCORES).symlink_to(tmp_path / "scores.json")
    assert collect(runs.folder).rows[0].status == "damaged"
    real = runs.attempt(42)
    shutil.move(real, tmp_path / real.name)
    real.symlink_to(tmp_path / real.name)
    assert collect(runs.folder).rows[1].status == "missing"


def test_a_path_out_of_the_folder_in_a_seal_is_refused(runs):
    """A seal that names ../x does not verify."""
    folder = runs.attempt(1337)
    seal = read_json(folder / SEAL)
    seal["files"]["../../x"] = {"sha256": "0" * 64, "size": 0}
    write_json(folder / SEAL, seal)
    assert collect(runs.folder).rows[0].status == "damaged"


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"schema_version": 2}, "schema_version"),
        ({"submission_id": "0" * 64}, "submission_id"),
        ({"seeds": [1]}, "seeds"),
        ({"runs": []}, "seeds"),
        ({"runs": [3]}, "seed"),
        ({"bundle_sha256": "0" * 64}, "run_id"),
        ({"target": {"device": "cuda"}}, "run_id"),
        ({"target_class": "best"}, "target_class"),
        ({"code_bytes": 3}, "bundle"),
        ({"overrides": ["a\nb"]}, "overrides"),
        ({"recipe": "\x1b[31mred"}, "recipe"),
        ({"policy": {}}, "artifact_bytes"),
        ({"data": None}, "data"),
    ],
)
def test_an_edited_spec_is_refused(runs, changes, says):
    """Ids follow from content, so a spec that was changed afterwards no longer fits them."""
    write_json(runs.folder / "spec.json", runs.spec | changes)
    with pytest.raises(RunDirError, match=says):
        collect(runs.folder)


def test_a_spec_in_another_folder_is_refused(runs):
    """The folder's name is the start of its id."""
    moved = runs.runs_dir / ("0" * 12)
    runs.folder.rename(moved)
    with pytest.raises(RunDirError, match="not of its folder"):
        collect(moved)


def test_submissions_are_found_by_a_unique_prefix(runs):
    """Full id, folder name or first digits; anything else lists what there is."""
    for prefix in (runs.submission_id, runs.submission_id[:12], runs.submission_id[:3]):
        assert find_submission(runs.runs_dir, prefix) == runs.folder
    for prefix in ("", "zzz", "../x", "/"):
        with pytest.raises(UnknownSubmission, match=runs.folder.name):
            find_submission(runs.runs_dir, prefix)


def test_the_documented_columns_are_the_columns():
    """docs/results.md shows every column with unit and meaning."""
    assert columns_markdown() in DOCS.read_text(encoding="utf-8")


def test_bpb_follows_from_loss_tokens_and_bytes(runs):
    """The builder's stages obey the identity that the collector checks."""
    found = stage(1.5)
    assert math.isclose(found["val_loss"] / math.log(2) * found["tokens"] / found["bytes"], 1.5)


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"target_class": "record"}, "target_class"),
        ({"target_class": "simulated"}, "target_class"),
        ({"recipe": "naive_baseline"}, "recipe"),
        ({"policy": {**POLICY, "train_seconds": 6000.0}}, "that we ship"),
        ({"policy": {**POLICY, "name": "mine"}}, "policy_name"),
    ],
)
def test_a_spec_that_the_sealed_attempts_contradict_is_refused(runs, changes, says):
    """spec.json is not sealed: recipe, class and policy must be those of run.json and of the shipped policy."""
    runs.all_attempts()
    write_json(runs.folder / "spec.json", runs.spec | changes)
    with pytest.raises(RunDirError, match=says):
        collect(runs.folder)


def test_limits_of_another_policy_are_refused(tmp_path):
    """A user's own policy whose caps were changed afterwards is not the one that the attempt ran under."""
    runs = Runs(tmp_path / "runs", policy={**POLICY, "name": "mine"}).all_attempts()
    assert collect(runs.folder).finished
    write_json(runs.folder / "spec.json", runs.spec | {"policy": {**runs.policy, "evaluate_seconds": 900.0}})
    with pytest.raises(RunDirError, match="evaluate_s is 600"):
        collect(runs.folder)


def test_a_run_done_for_another_submission_counts(runs):
    """Attempts are shared: the run's content decides, and another submission's policy does not matter."""
    runs.attempt(1337, run={"submission_id": "f" * 64, "policy_name": "mine", "limits": {}})
    assert collect(runs.folder).rows[0].counted
