"""Which frontier row a folder is held against, and the exit codes and texts of the verb."""

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from golf_core.policy import load_policy
from results.cli import app
from results.untrusted import Folder
from results.verify.check import check_logs
from results.verify.rival import Asked
from tests.results.verify.folders import Run, Submission

POLICY = load_policy("record-2026-03").to_dict()
BPB = (1.07012345, 1.07098765, 1.07051234)  # better than all that stood on 2026-04-10, worse than what came later
OLD = Submission(tuple(Run(seed, bpb) for seed, bpb in zip((7, 8, 9), BPB, strict=True)), {"date": "2026-04-10"})
OWN = """
as_of = 2026-04-12
text = "FineWeb validation, the first 50,000 documents"
typical_sd = 0.0006
[bytes_per_token]
SP8192 = 3.7266
[[row]]
pr = 1
name = "first"
date = 2026-04-01
tokenizer = "SP8192"
values = [1.0801, 1.0805, 1.0809]
source = "a test"
[[row]]
pr = 2
name = "second"
date = 2026-04-10
tokenizer = "SP8192"
scores = { 7 = 1.07012, 8 = 1.07099, 9 = 1.07051 }
source = "a test"
"""


def gate(submission, folder, asked=None):
    checked = check_logs(Folder(submission.write(folder)), POLICY, asked)
    return next(one for one in checked.gates if one.name == "significance")


def test_old_work_is_held_against_what_stood_before_it(tmp_path):
    """The best row dated before the folder's own date, said so; without a date, the best of all."""
    found = gate(OLD, tmp_path / "a")
    assert found.verdict == "pass" and "#1514 (2026-04-09)" in found.why and "its own date, 2026-04-10" in found.why
    found = gate(replace(OLD, changes={"date": "long ago"}), tmp_path / "b")
    assert found.verdict == "fail" and "#2135" in found.why and "tells no date" in found.why


def test_a_submission_is_never_held_against_itself(tmp_path):
    """Not by its pull request, nor by its seeds' values, however few digits the row has; nor where it is asked for."""
    path = tmp_path / "own.toml"
    path.write_text(OWN)
    later = replace(OLD, changes={"date": "2026-04-12"})
    found = gate(later, tmp_path / "a", Asked(frontier=str(path)))
    assert found.verdict == "pass" and "#1 (" in found.why and "#2 (2026-04-10) is the submission itself" in found.why
    found = gate(later, tmp_path / "b", Asked(frontier=str(path), against="2"))
    assert found.verdict == "unknown" and "this submission itself" in found.why
    found = gate(replace(OLD, changes={"pr": "#1514"}), tmp_path / "c")
    assert "#1514 (2026-04-09) is the submission itself" in found.why and "against #1514" not in found.why


def test_a_row_that_is_asked_for_is_taken(tmp_path):
    """--against names it, whatever the date says, and the notes on both rules name it too."""
    folder = OLD.write(tmp_path)
    checked = check_logs(Folder(folder), POLICY, Asked(against="1626"))
    found = next(one for one in checked.gates if one.name == "significance")
    assert found.verdict == "fail" and "#1626 (2026-04-14), as asked" in found.why
    assert sum("#1626" in note for note in checked.notes) == 2


def test_nothing_stood_before_the_first(tmp_path):
    """A date before every row leaves it unknown."""
    found = gate(replace(OLD, changes={"date": "2026-03-01"}), tmp_path)
    assert found.verdict == "unknown" and "no row before 2026-03-01" in found.why


def verb(*words):
    return CliRunner().invoke(app, ["verify", *map(str, words)], env={"COLUMNS": "120"})


def test_unknown_may_be_allowed_and_failed_may_not(tmp_path):
    """4 without, 0 with --allow-unknown, which hides no count; 4 again where a number is wrong; 2 for no such row."""
    folder = OLD.write(tmp_path / "true")
    assert verb(folder).exit_code == 4
    allowed = verb(folder, "--allow-unknown")
    assert allowed.exit_code == 0 and "0 failed, " in allowed.stdout.splitlines()[0]
    assert "unknown allowed, which is no pass" in allowed.stdout.splitlines()[0]
    wrong = replace(OLD, changes={"date": "2026-04-10", "val_bpb": 1.05}).write(tmp_path / "wrong")
    assert verb(wrong, "--allow-unknown").exit_code == 4
    refused = verb(folder, "--against", "99999")
    assert refused.exit_code == 2 and "99999" in refused.stderr and refused.stdout == ""


@pytest.mark.parametrize("form", ["table", "md", "json"])
def test_problems_come_first_and_a_shared_cause_once(form, tmp_path):
    """The verdict in front, failed before unknown before passed; with --problems no pass, and one line for one log."""
    folder = OLD.write(tmp_path)
    (folder / "train_seed8.log").unlink()
    whole, short = (verb(folder, "--format", form, *more).stdout for more in ([], ["--problems"]))
    if form == "json":
        told = json.loads(short)
        assert {one["verdict"] for one in told["claims"] + told["gates"]} == {"unknown"}
        assert told["counts"] == json.loads(whole)["counts"] and told["summary"].startswith("0 failed, ")
        assert told["counts"]["pass"] > 0
        return
    assert "0 failed, " in "".join(whole.splitlines()[:3]) and len(short) < len(whole)
    if form == "table":
        assert whole.index("UNKNOWN (") < whole.index("PASSED (") and "PASSED (" not in short
        assert short.count("there is no log of seed 8") == whole.count("there is no log of seed 8") <= 5
        assert "times: there is no log of seed 8" in short and len(short.splitlines()) < 50
