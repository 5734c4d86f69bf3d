"""Gates of the audits: a record is seen, its absence where it is asked for too, and nothing passes by itself."""

import pytest

from golf_core.fields import ConfigError
from golf_core.policy import load_policy, policy_from
from golf_core.rundir import RunDirError
from results.audit.gates import asked_of, audit_gates, records_of
from results.audit.record import seal_of, write_record
from results.collect import collect
from results.pack import pack
from results.project import Project
from results.untrusted import Folder
from results.verify.check import check_logs
from results.verify.sealed import check_sealed
from tests.results.attempts import POLICY, Runs
from tests.results.test_gates import record

ASKS = POLICY | {"name": "own", "audits": ["recount", "replay"]}


def told(runs, seed, name="recount", verdict="pass", says="all is well"):
    folder = runs.attempt_folder(seed)
    more = {"seal_sha256": seal_of(folder), "verdict": verdict, "says": says, "evidence": {}}
    return write_record(runs.runs_dir, folder.name, name, **more)


def gates(runs):
    found = collect(runs.folder)
    return {one.name: one for one in audit_gates(found.rows, found.spec.policy, records_of(found)[0])}


def test_what_is_asked_for_and_was_not_made_is_unknown(tmp_path):
    """A seed without a record leaves the gate unknown and is named, with the command that makes it."""
    runs = Runs(tmp_path / "runs", policy=ASKS).all_attempts()
    told(runs, 1337)
    found = gates(runs)
    assert [(one.name, one.verdict) for one in found.values()] == [("recount", "unknown"), ("replay", "unknown")]
    assert found["recount"].note == "seed 42, 2025: not made; `results verify --recount` makes it"


def test_what_nobody_asked_for_and_nobody_made_is_no_gate(tmp_path):
    """The demo's policy has no more gates than before."""
    assert gates(Runs(tmp_path / "runs").all_attempts()) == {}


def test_records_of_all_seeds_pass(tmp_path):
    """And each seed's sentence is the evidence."""
    runs = Runs(tmp_path / "runs", policy=ASKS).all_attempts()
    for seed in runs.seeds:
        told(runs, seed, says=f"as {seed} says")
    found = gates(runs)["recount"]
    assert (found.verdict, found.value) == ("pass", "pass")
    assert found.note == "seed 1337: as 1337 says; seed 42: as 42 says; seed 2025: as 2025 says"


@pytest.mark.parametrize("verdict, expected", [("fail", "fail"), ("review", "unknown")])
def test_the_gravest_record_decides(tmp_path, verdict, expected):
    """One seed's failure fails the gate though no other seed was looked at; a review is no pass."""
    runs = Runs(tmp_path / "runs").all_attempts()
    told(runs, 1337)
    told(runs, 42, verdict=verdict, says="it opened a training shard")
    found = gates(runs)["recount"]
    assert (found.verdict, found.seed) == (expected, 42) and "it opened a training shard" in found.note


def test_a_record_of_another_seal_makes_no_gate_and_is_told(tmp_path):
    """The check's notes name the file."""
    runs = Runs(tmp_path / "runs", seeds=(1,)).all_attempts()
    path = told(runs, 1)
    path.write_text(path.read_text().replace(seal_of(runs.attempt_folder(1)), "0" * 64))
    pack(found := collect(runs.folder), Project(), tmp_path / "out")
    checked = check_sealed(Folder(tmp_path / "out"), found, None)
    assert "recount" not in [one.name for one in checked.gates]
    assert [note for note in checked.notes if "recount.json was made for another seal" in note]


def test_verify_shows_a_record_and_still_makes_the_folder_again(tmp_path):
    """An audit after packing changes no file of the folder, and its gate stands in what `verify` says."""
    runs = Runs(tmp_path / "runs", seeds=(1,)).all_attempts()
    pack(collect(runs.folder), Project(), tmp_path / "out")
    told(runs, 1, "replay", says="val_bpb 1.7 again")
    checked = check_sealed(Folder(tmp_path / "out"), collect(runs.folder), None)
    gate = next(one for one in checked.gates if one.name == "replay")
    assert (gate.verdict, gate.why, gate.seed) == ("pass", "seed 1: val_bpb 1.7 again", 1)
    assert next(one for one in checked.findings if one.place == "files").verdict == "pass"


def test_logs_alone_leave_what_is_asked_for_unknown(tmp_path):
    """Of a folder without sealed attempts."""
    pack(collect(Runs(tmp_path / "runs").all_attempts().folder), Project(), tmp_path / "out")
    found = {one.name: one for one in check_logs(Folder(tmp_path / "out"), ASKS).gates}
    assert [found[name].verdict for name in ("recount", "replay")] == ["unknown", "unknown"]


def test_simulated_hardware_passes_nothing(tmp_path):
    """Not an audit either."""
    target = {"device": "cpu", "gpu": "x", "gpus": 8, "processes": 8, "threads": 1, "dtype": "fp32"}
    runs = Runs(tmp_path / "runs", (1,), target=target | {"launcher": "torchrun"}, target_class="simulated")
    told(runs.all_attempts(), 1)
    assert gates(runs)["recount"].verdict == "unknown"


def test_the_policies_of_the_race_ask_and_the_others_do_not():
    """A registered policy of a shipped name asks what the shipped one does, whatever its spec.json says."""
    for name in ("record-2026-03", "frontier-2026-04"):
        assert asked_of({"name": name, "audits": []}) == ("recount", "replay", "probe")
        assert policy_from(load_policy(name).to_dict()) == load_policy(name)
    for name in ("demo", "exploration"):
        assert asked_of(load_policy(name).to_dict()) == () and "audits" not in load_policy(name).to_dict()


@pytest.mark.parametrize("audits", ["replay", ["smoke"], ["probe", "probe"], [{}], 3, None], ids=str)
def test_a_policy_that_asks_for_what_there_is_not_is_refused(audits):
    """The value and what there is are named."""
    with pytest.raises(ConfigError, match="recount, replay, probe"):
        policy_from(POLICY | {"audits": audits})
    with pytest.raises(RunDirError, match="'own'"):
        asked_of({"name": "own", "audits": audits})


def test_a_record_run_waits_for_its_audits(tmp_path):
    """Under the race's rule three gates are unknown until they were made."""
    runs = record(tmp_path / "runs").all_attempts()
    assert [one.verdict for one in gates(runs).values()] == ["unknown"] * 3
