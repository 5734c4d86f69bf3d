"""Runs that may not be submitted, verdicts of the score ledger, and scores that somebody else published."""

import csv
import io
import json
import math
import subprocess
import sys

import pytest

from golf_core.rundir import RunDirError, write_json
from results.collect import collect
from results.outputs import write_outputs
from results.pack import pack, verify
from results.project import Project
from results.tables import DIAGNOSTIC, plain_table, published_lines, report
from results.untrusted import Folder
from results.whole_folder import PackError
from tests.results.attempts import Runs, stage

FROZEN = "import torch\n\nCONFIG = Config(name='demo', diagnostic_only={})\n"
FROZEN_TRUE = FROZEN.format(True)
PUBLISHED = {"value": 1.11927, "status": "measured", "source": "a record's log"}
MARK = {"diagnostic_only": True, "final_stage": None}


def diagnostic(tmp_path, scores=MARK, code=FROZEN_TRUE, **more):
    runs = Runs(tmp_path / "runs", code=code, seeds=(1, 2), **more)
    for seed in runs.seeds:
        runs.attempt(seed, scores=scores)
    return runs


def test_a_diagnostic_run_has_no_final_score(tmp_path):
    """Its stages stand in the row under their own names; every column of the final stage is empty."""
    row = collect(diagnostic(tmp_path).folder).rows[0]
    assert row.diagnostic_only and row.counted and row.ttt_bpb is not None
    assert (row.final_stage, row.val_bpb, row.val_loss) == (None, None, None)


def test_both_csv_files_say_that_it_is_diagnostic(tmp_path):
    """The column is True in results.csv and scores.csv, and val_bpb is an empty cell."""
    runs = diagnostic(tmp_path)
    write_outputs(collect(runs.folder))
    for name in ("results.csv", "scores.csv"):
        for line in csv.DictReader(io.StringIO((runs.folder / name).read_text())):
            assert (line["diagnostic_only"], line["val_bpb"], line["final_stage"]) == ("True", "", "")


def test_the_table_stamps_title_and_every_score(tmp_path):
    """Title, a paragraph, and each cell with a BPB say it; no spread of a final score is given."""
    found = collect(diagnostic(tmp_path).folder)
    for text in (report(found.spec, found.rows, found.gates, []), write_outputs(found)):
        lines = text.splitlines()
        assert "DIAGNOSTIC ONLY" in lines[0] and DIAGNOSTIC in text and "val_bpb" not in text
        cells = [line.split("|") for line in lines if line.startswith(("| 1 ", "| 2 ", "| Mean"))]
        assert len(cells) == 3 and all(cell.endswith("(diagnostic) ") for row in cells for cell in row[4:7])
    assert "DIAGNOSTIC ONLY" in report(found.spec, found.rows, found.gates, [], plain_table).splitlines()[0]


def test_no_gate_of_a_diagnostic_run_passes(tmp_path):
    """One gate fails by name, the others are at most unknown."""
    verdicts = {gate.name: gate.verdict for gate in collect(diagnostic(tmp_path).folder).gates}
    assert verdicts.pop("diagnostic_only") == "fail" and "pass" not in verdicts.values() and verdicts


def test_a_diagnostic_run_is_neither_packed_nor_verified(tmp_path):
    """Both refuse with the reason, from the command line with exit code 2, and write nothing."""
    runs = diagnostic(tmp_path)
    found, out = collect(runs.folder), runs.folder / "submission"
    with pytest.raises(PackError, match="diagnostic_only"):
        pack(found, Project(), out)
    assert not out.exists()
    out.mkdir()
    write_json(out / "submission.json", {"submission_id": runs.submission_id})
    with pytest.raises(PackError, match="diagnostic_only"):
        verify(found, Folder(out))
    for verb, what in (("pack", runs.submission_id[:12]), ("verify", str(out))):
        command = [sys.executable, "-m", "results", verb, what, "--runs-dir", str(runs.runs_dir)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 2 and "nothing of it can be submitted" in done.stderr and done.stdout == ""


def test_the_json_of_a_collected_diagnostic_run_has_no_score(tmp_path):
    """diagnostic_only is true, and the spread of val_bpb is of nothing."""
    runs = diagnostic(tmp_path)
    command = [sys.executable, "-m", "results", "collect", runs.folder.name, "--json", "--runs-dir", str(runs.runs_dir)]
    said = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert said["diagnostic_only"] is True and said["val_bpb"]["n"] == 0 and said["published"] is None


CONTRADICTIONS = {
    "a bundle that is, scores that are not": (FROZEN.format(True), {}),
    "scores that are, a bundle that is not": (FROZEN.format(False), MARK),
    "a bundle from before the field": ("CONFIG = Config(name='demo')\n", MARK),
    "a diagnostic run with a final stage": (FROZEN.format(True), {"diagnostic_only": True}),
    "another run without one": (FROZEN.format(False), {"final_stage": None}),
    "a word for a flag": (FROZEN.format(False), {"diagnostic_only": "no"}),
    "an unknown verdict": (FROZEN.format(False), {"stages": {"ttt": stage(1.5) | {"verdict": "FINE"}}}),
}


@pytest.mark.parametrize("code, scores", CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_what_contradicts_itself_is_an_error(tmp_path, code, scores):
    """Bundle and scores.json must agree, and a final stage belongs to runs that claim one."""
    with pytest.raises(RunDirError):
        collect(diagnostic(tmp_path, scores, code).folder)


def test_a_foreign_bundle_is_believed_by_its_scores(tmp_path):
    """Where the bundle has no config to read, the sealed scores alone say what the run is."""
    assert collect(diagnostic(tmp_path, code="print()\n").folder).diagnostic_only


def with_verdicts(runs, *verdicts):
    names = ("roundtrip", "sliding", "ttt")
    stages = {name: stage(1.6, verdict=verdict) for name, verdict in zip(names, verdicts, strict=True)}
    for seed in runs.seeds:
        runs.attempt(seed, stages=stages)
    found = collect(runs.folder)
    return {gate.name: gate for gate in found.gates}.get("score first"), found


@pytest.mark.parametrize(
    "verdicts, value, verdict",
    [
        (("TRACK_A", "TRACK_A", "TRACK_A"), "TRACK_A", "pass"),
        (("TRACK_A", "TRACK_A", "SCORE_FIRST_OK"), "SCORE_FIRST_OK", "pass"),
        (("TRACK_A", "TRACK_A", "ILLEGAL_TRAIN_BEFORE_SCORE"), "ILLEGAL_TRAIN_BEFORE_SCORE", "fail"),
        ((None, None, "ILLEGAL_TRAIN_BEFORE_SCORE"), "ILLEGAL_TRAIN_BEFORE_SCORE", "fail"),
    ],
)
def test_the_worst_verdict_decides_legality(tmp_path, verdicts, value, verdict):
    """A run that learned before it scored fails, whatever its other stages did, and says so in submission.json."""
    gate, found = with_verdicts(Runs(tmp_path / "runs"), *verdicts)
    assert (gate.value, gate.verdict) == (value, verdict)
    assert {row.legality for row in found.rows} == {value}
    pack(found, Project(), tmp_path / "out")
    compliance = json.loads((tmp_path / "out" / "submission.json").read_text())["compliance"]
    assert compliance["score_first_ttt"] is (False if verdict == "fail" else None)


def test_a_verdict_that_is_not_told_of_every_stage_is_none(tmp_path):
    """A legal verdict for one stage says nothing of the others: the gate is unknown, as it is without any."""
    for name, verdicts in (("some", ("TRACK_A", None, "SCORE_FIRST_OK")), ("none", (None, None, None))):
        gate, _ = with_verdicts(Runs(tmp_path / name), *verdicts)
        assert (gate.value, gate.verdict) == (None, "unknown")


def test_legality_is_unknown_while_a_seed_is_missing(tmp_path):
    """One seed's verdict is not that of all."""
    runs = Runs(tmp_path / "runs")
    runs.attempt(42, stages={"roundtrip": stage(1.6) | {"verdict": "TRACK_A"}})
    gates = {gate.name: gate.verdict for gate in collect(runs.folder).gates}
    assert gates["score first"] == "unknown"


FINEWEB = {"tokens": 62_021_632, "bytes": 151_080_363}


def fineweb_stage(bpb):
    loss = bpb * math.log(2) * FINEWEB["bytes"] / FINEWEB["tokens"]
    return stage(bpb) | FINEWEB | {"val_loss": loss}


def test_what_was_published_stands_under_the_table(tmp_path):
    """Value, status and source; other data than FineWeb is not comparable, data of its size is said to be that."""
    other = Runs(tmp_path / "other", published=PUBLISHED).all_attempts()
    (line,) = published_lines((found := collect(other.folder)).spec, found.rows)
    assert line.startswith("Published for this recipe: 1.11927 BPB on FineWeb (measured; a record's log).")
    assert line.endswith("Other data: not comparable.") and line in write_outputs(found)
    same = Runs(tmp_path / "same", published=PUBLISHED)
    for seed in same.seeds:
        same.attempt(seed, stages={"roundtrip": fineweb_stage(1.2)})
    (line,) = published_lines((found := collect(same.folder)).spec, found.rows)
    assert "not comparable" not in line and "has the size of that one" in line


def test_a_published_value_says_whose_it_is(tmp_path):
    """With overrides it is of the recipe without them; pending has no value; before a score nothing is compared."""
    pending = {"value": None, "status": "pending", "source": "a plan"}
    changed = collect(Runs(tmp_path / "a", published=pending, overrides=("model.layers=4",)).all_attempts().folder)
    assert published_lines(changed.spec, changed.rows) == [
        "Published for this recipe without the overrides: no value yet (pending; a plan)."
    ]
    empty = collect(Runs(tmp_path / "b", published=PUBLISHED).folder)
    assert published_lines(empty.spec, empty.rows)[0].endswith("(measured; a record's log).")
    shown = collect(diagnostic(tmp_path / "c", published=PUBLISHED).folder)
    assert published_lines(shown.spec, shown.rows)[0].endswith("A diagnostic run: not comparable.")
    none = collect(Runs(tmp_path / "d").folder)
    assert published_lines(none.spec, none.rows) == []


@pytest.mark.parametrize("wrong", ["1.1", {"value": 1.1}, PUBLISHED | {"status": "sure"}, PUBLISHED | {"value": "1"}])
def test_a_hostile_published_value_is_refused(tmp_path, wrong):
    """spec.json is not sealed: what is not of the known form is one clear error."""
    with pytest.raises(RunDirError):
        collect(Runs(tmp_path / "runs", published=wrong).folder)


def test_a_packed_bundle_says_how_it_is_read(tmp_path):
    """README.md names the command that prints the source of a packed bundle, and only of one."""
    for ship, said in (("packed", True), ("readable", False)):
        runs = Runs(tmp_path / ship, code=f"CONFIG = Config(name='demo', ship={ship!r})\n").all_attempts()
        pack(collect(runs.folder), Project(), tmp_path / f"out-{ship}")
        assert ("python train_gpt.py source" in (tmp_path / f"out-{ship}" / "README.md").read_text()) == said
