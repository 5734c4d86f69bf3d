"""Seeds that were run and not registered: found by the attempts themselves, and told wherever the others are."""

import json

import pytest

from golf_core.rundir import write_json
from orchestrator.policy import OUTSIDE as POLICY_OUTSIDE
from results.collect import collect
from results.content import Remembered
from results.evidence import OUTSIDE
from results.other_seeds import other_seeds
from results.pack import pack, verify
from results.project import Project
from results.untrusted import Folder
from tests.results.attempts import Runs


def cherry_picked(tmp_path, seed=3):
    """A submission of seeds 1 and 2, of which `seed` was run too; and what made that one."""
    whole = Runs(tmp_path / "runs", seeds=(1, 2, seed))
    for one in (1, 2):
        whole.attempt(one)
    return Runs(tmp_path / "runs", seeds=(1, 2)), whole


def test_a_seed_that_was_left_out_is_named_with_its_score(tmp_path):
    """In the notes, in README and in submission.json, from its sealed attempt; it enters no mean."""
    picked, whole = cherry_picked(tmp_path)
    before = collect(picked.folder)
    whole.attempt(3)
    found = collect(picked.folder)
    assert before.others == [] and [(one.seed, one.status) for one in found.others] == [(3, "counted")]
    line = "Other seeds of this configuration, run and not part of this submission: 3 (counted, 1.64003000 BPB)"
    assert found.notes[-1] == line and found.rows == before.rows
    assert pack(found, Project(), tmp_path / "out")
    facts = json.loads((tmp_path / "out" / "submission.json").read_text())
    (other,) = facts["other_seeds"]
    assert (other["seed"], other["status"], round(other["val_bpb"], 6)) == (3, "counted", 1.64003)
    assert facts["seeds"] == [1, 2] and line in (tmp_path / "out" / "README.md").read_text()
    assert verify(found, Folder(tmp_path / "out")) == []


def test_a_packed_folder_from_before_the_other_seed_says_less_than_the_evidence(tmp_path):
    """Packed again it tells; until then verify names what is missing."""
    picked, whole = cherry_picked(tmp_path)
    pack(collect(picked.folder), Project(), tmp_path / "out")
    whole.attempt(3)
    places = [one.place for one in verify(collect(picked.folder), Folder(tmp_path / "out"))]
    assert "other_seeds" in places


STANDINGS = {
    "failed": (lambda runs: runs.failed(3), "failed (nan)"),
    "cut off from outside": (lambda runs: runs.failed(3, cls="orphaned"), "unfinished"),
    "void": (lambda runs: (runs.attempt(3), runs.void(3)), "void"),
    "damaged": (lambda runs: (runs.attempt(3) / "log.txt").write_text("another"), "damaged"),
    "at odds with itself": (lambda runs: runs.attempt(3, scores={"seed": 4}), "damaged"),
}


@pytest.mark.parametrize("make, status", STANDINGS.values(), ids=STANDINGS)
def test_whatever_became_of_it_is_told(tmp_path, make, status):
    """Failed, void or damaged: it is named with its standing and no score, and the submission's own rows stand."""
    picked, whole = cherry_picked(tmp_path)
    make(whole)
    found = collect(picked.folder)
    assert [(one.seed, one.status, one.val_bpb) for one in found.others] == [(3, status, None)]
    assert found.finished and not found.failed and f"3 ({status})" in found.notes[-1]


def test_only_the_same_configuration_is_another_seed_of_it(tmp_path):
    """Other code, data or target, and a run.json that gives another seed than its id: none is one of ours."""
    picked, whole = cherry_picked(tmp_path)
    Runs(tmp_path / "runs", seeds=(5,), code="import torch\n").all_attempts()
    Runs(tmp_path / "runs", seeds=(6,), data_sha256="f" * 64).all_attempts()
    Runs(tmp_path / "runs", seeds=(7,), target=picked.target | {"processes": 1}).all_attempts()
    whole.attempt(3, run={"seed": 8})
    assert other_seeds(collect(picked.folder).spec) == []


def test_what_spec_json_told_once_stays_told(tmp_path):
    """Also where the attempts of that seed were taken away; an id of another configuration is not taken for one."""
    picked, whole = cherry_picked(tmp_path)
    told = [{"seed": 3, "run_id": whole.run_ids[3]}, {"seed": 4, "run_id": "0" * 64}]
    write_json(picked.folder / "spec.json", picked.spec | {"other_seeds": told})
    assert [(one.seed, one.status) for one in collect(picked.folder).others] == [(3, "missing")]


def test_a_look_at_all_reads_the_attempts_once_and_finds_the_same(tmp_path):
    """Remembering changes no word of it."""
    picked, whole = cherry_picked(tmp_path)
    whole.attempt(3)
    content = Remembered(tmp_path / "runs")
    assert collect(picked.folder, content).others == collect(picked.folder).others
    assert collect(whole.folder, content).others == []


def test_an_end_from_outside_is_no_failure(tmp_path):
    """Every class that the orchestrator repeats is unfinished here; no other is."""
    assert OUTSIDE == POLICY_OUTSIDE
    runs = Runs(tmp_path / "runs", seeds=(1,))
    runs.failed(1, cls="orphaned")
    found = collect(runs.folder)
    assert not found.failed and found.rows[0].status == "unfinished" and "(orphaned)" in found.notes[0]
