"""Gates of our own submissions: what the sealed evidence says of every seed, never what was asked for alone."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from golf_core.policy import load_policy
from golf_core.rundir import HARDWARE, HARDWARE_AGAIN, PHASES, SEAL, RunDirError, read_json, write_json, write_seal
from results.claims import other_text, scored_rows
from results.collect import collect
from results.dataset import FINEWEB_BYTES, FINEWEB_TARGETS, Text, same_text, text_of
from results.gates import NAMES, check_gates
from results.pack import pack
from results.phases import is_uninterrupted, seconds_of
from results.project import Project
from results.report.subject import load_subjects
from results.report.subject import same_text as same_in_report
from results.tables.ablation import ablation_table
from results.tried import tried_beside
from results.untrusted import Folder
from results.verify.check import check_logs
from tests.results.attempts import CODE, PHASES_TOLD, POLICY, Runs, edges, stage
from tests.results.test_tables import row

H100 = "NVIDIA H100 80GB HBM3"
TARGET = {"device": "cuda", "gpu": H100, "gpus": 8, "processes": 8, "threads": 1, "dtype": "bf16"}


def gates_of(runs):
    return {gate.name: gate for gate in collect(runs.folder).gates}


def record(runs_dir, name="record-2026-03"):
    target = TARGET | {"launcher": "torchrun"}
    return Runs(runs_dir, policy=load_policy(name).to_dict(), target=target, target_class="record")


def on_text(bpb, tokens, size):
    return {"sliding": stage(bpb, val_loss=bpb * math.log(2) * size / tokens, tokens=tokens, bytes=size)}


def test_an_honest_run_passes_every_gate(tmp_path):
    """What the worker saw and stamped of a complete run: eleven gates, all passed, under the names of NAMES."""
    gates = collect(Runs(tmp_path / "runs").all_attempts().folder).gates
    assert [gate.name for gate in gates] == list(NAMES)
    assert {gate.verdict for gate in gates} == {"pass"}, [gate for gate in gates if gate.verdict != "pass"]


def test_ours_and_the_folders_of_others_have_the_same_gates(tmp_path):
    """A folder that is judged by its logs alone has lines of the same names, in the same order."""
    runs = Runs(tmp_path / "runs").all_attempts()
    pack(collect(runs.folder), Project(), tmp_path / "out")
    assert [one.name for one in check_logs(Folder(tmp_path / "out"), POLICY).gates] == list(NAMES)


@pytest.mark.parametrize("policy", [None, "record-2026-03"])
def test_without_attempts_nothing_passes(tmp_path, policy):
    """What was asked for is no evidence: before the first counted attempt every gate is unknown."""
    runs = Runs(tmp_path / "runs") if policy is None else record(tmp_path / "runs")
    assert {gate.verdict for gate in collect(runs.folder).gates} == {"unknown"}
    runs.attempt(runs.seeds[0])
    assert gates_of(runs)["hardware"].verdict == "unknown"


@pytest.mark.parametrize(
    "seen, verdict",
    [
        ([H100] * 8, "pass"),
        (["NVIDIA A10"] * 2, "fail"),
        (["NVIDIA H100 PCIe"] * 8, "fail"),
        ([H100] * 7, "fail"),
        ([H100] * 7 + ["NVIDIA H200"], "fail"),
        ([], "unknown"),
        (None, "unknown"),
    ],
)
@pytest.mark.parametrize("which", [0, 2])
def test_hardware_is_what_the_worker_of_every_seed_saw(tmp_path, seen, verdict, which):
    """One seed on other GPUs fails, whichever it is, and is named; one whose worker tells of none is unknown."""
    runs = record(tmp_path / "runs")
    for index, seed in enumerate(runs.seeds):
        told = None if seen is None else [{"name": name} for name in seen]
        runs.attempt(seed, env={"gpus": told} if index == which else None)
    gate = gates_of(runs)["hardware"]
    assert gate.verdict == verdict
    assert verdict == "pass" or (gate.seed == runs.seeds[which] and gate.note and "env.json" in gate.note)


@pytest.mark.parametrize(
    "told, again, verdict",
    [
        (None, None, "pass"),
        ("pass", None, "pass"),
        ("unknown", None, "unknown"),
        ("fail", None, "fail"),
        ("pass", "unknown", "unknown"),
        ("pass", "fail", "fail"),
        ("no such verdict", "pass", "unknown"),
    ],
)
def test_the_workers_check_of_its_gpus_is_heard(tmp_path, told, again, verdict):
    """The worse of the check before training and the one before a later evaluation alone; what is not under the seal,
    as in attempts from before there was such a file, is nothing."""
    runs = record(tmp_path / "runs").all_attempts()
    folder = runs.attempt_folder(42)
    sealed = read_json(folder / SEAL)["files"]
    write_json(folder / HARDWARE, {"verdict": "fail"})  # not sealed yet
    for name, said in ((HARDWARE, told), (HARDWARE_AGAIN, again)):
        if said is not None:
            write_json(folder / name, {"verdict": said})
            sealed[name] = {}
    write_seal(folder, SEAL, sealed, {})
    gate = gates_of(runs)["hardware"]
    assert gate.verdict == verdict
    assert verdict == "pass" or (gate.seed == 42 and "hardware.json of" in gate.note)


@pytest.mark.parametrize("said", ["cpu", "record", "exploratory"])
def test_simulated_gpus_cannot_lose_their_stamp(tmp_path, said):
    """A target of GPUs on a CPU is simulated, whatever spec.json says."""
    runs = Runs(tmp_path / "runs", target={**TARGET, "device": "cpu", "launcher": "torchrun"}, target_class=said)
    with pytest.raises(RunDirError, match="not 'simulated' as in its target and policy"):
        collect(runs.folder)


def test_seeds_on_different_texts_claim_nothing(tmp_path):
    """A seed that was scored on a hundredth of the text: no significance, and the byte accounting fails."""
    runs = record(tmp_path / "runs", "frontier-2026-04")
    for seed, bpb, part in ((1337, 1.04, 1), (42, 1.041, 1), (2025, 1.0, 100)):
        runs.attempt(seed, stages=on_text(bpb, FINEWEB_TARGETS[2] // part, FINEWEB_BYTES // part))
    gates = gates_of(runs)
    assert gates["significance"].verdict == "unknown" and "different texts" in gates["significance"].note
    assert gates["byte accounting"].verdict == "fail" and "seed 2025: 1,510,803" in gates["byte accounting"].note


@pytest.mark.parametrize(
    "tokens, size, verdict",
    [
        (FINEWEB_TARGETS[0], FINEWEB_BYTES, "pass"),
        (30_000_000, FINEWEB_BYTES, "unknown"),
        (FINEWEB_TARGETS[0] // 5, FINEWEB_BYTES // 5, "fail"),
    ],
    ids=["all of it", "another tokenizer", "a part"],
)
def test_a_record_is_scored_on_all_of_the_split(tmp_path, tokens, size, verdict):
    """The race's policies ask for its validation text; a tokenizer that is not known leaves it open."""
    runs = record(tmp_path / "runs")
    for seed in runs.seeds:
        runs.attempt(seed, stages=on_text(1.1, tokens, size))
    assert gates_of(runs)["byte accounting"].verdict == verdict


@pytest.mark.parametrize("calibrate, verdict", [(0.5, "pass"), (539.5, "pass"), (539.75, "fail")])
def test_calibration_on_training_data_is_training(tmp_path, calibrate, verdict):
    """Reading training data after training counts against the same cap, by the stamps of the worker."""
    runs = Runs(tmp_path / "runs")
    phases = [*edges("train", {"train": 60.5, "calibrate": calibrate}), *PHASES_TOLD[-10:]]
    for seed in runs.seeds:
        runs.attempt(seed, phases=phases if seed == 42 else PHASES_TOLD)
    gates = gates_of(runs)
    assert (gates["training data"].verdict, gates["train"].verdict) == (verdict, "pass")
    assert gates["training data"].seed == 42 and gates["training data"].value == 60.5 + calibrate


def test_one_long_stage_is_told_beside_the_sum(tmp_path):
    """A stage over the cap by the worker's stamps fails, though the bundle's own clock says less."""
    runs = Runs(tmp_path / "runs")
    for seed in runs.seeds:
        runs.attempt(seed, phases=[*PHASES_TOLD[:8], *edges("evaluate", {"sliding": 601.0}, 70.0)])
    gates = gates_of(runs)
    assert (gates["evaluate: stage"].verdict, gates["evaluate: stage"].value) == ("fail", 601.0)


def test_silent_stamps_leave_their_gates_unknown(tmp_path):
    """Without phases nobody knows what was read after training, nor whether a stage ran whole."""
    runs = Runs(tmp_path / "runs")
    for seed in runs.seeds:
        runs.attempt(seed, phases=() if seed == 42 else PHASES_TOLD)
    unknown = {name for name, gate in gates_of(runs).items() if gate.verdict != "pass"}
    assert unknown == {"training data", "timing"}


@given(st.permutations(range(len(PHASES_TOLD))).map(lambda order: order[0]))
def test_a_stage_that_lacks_or_repeats_an_edge_was_interrupted(index):
    """Taking away or doubling any one stamp of a whole run is seen; of a stage without any, nothing is known."""
    told = [(one["stage"], one["phase"], one["edge"], one["t"]) for one in PHASES_TOLD]
    asked = ("train", "evaluate")
    assert is_uninterrupted(told, asked) is True
    assert is_uninterrupted([*told[:index], *told[index + 1 :]], asked) is False
    assert is_uninterrupted([*told, told[index]], asked) is False
    assert is_uninterrupted([one for one in told if one[0] == "train"], asked) is None


def test_an_interrupted_run_fails_its_timing(tmp_path):
    """An evaluation that is stamped twice in a counted attempt."""
    runs = Runs(tmp_path / "runs")
    for seed in runs.seeds:
        runs.attempt(seed, phases=[*PHASES_TOLD, *edges("evaluate", {"ttt": 10.0}, 200.0)])
    assert gates_of(runs)["timing"].verdict == "fail"


def test_a_repeated_evaluation_is_told(tmp_path):
    """One that was cut off and begun anew from the sealed artifact passes, with its seed named."""
    runs = Runs(tmp_path / "runs")
    for seed in runs.seeds:
        folder = runs.attempt(seed)
    (folder / "evaluate-1.void.log").write_bytes(b"cut off")
    seal = read_json(folder / SEAL)
    facts = {name: seal[name] for name in ("run_id", "attempt_id", "seed")}
    write_seal(folder, SEAL, [*seal["files"], "evaluate-1.void.log"], facts)
    gate = gates_of(runs)["timing"]
    assert gate.verdict == "pass" and f"repeated from the sealed artifact: seed {runs.seeds[-1]}" in gate.note


@given(
    least=st.floats(0.0, 599.0), more=st.floats(1e-3, 2000.0), cap=st.sampled_from([600.0, 1.0]), other=st.booleans()
)
def test_a_least_above_the_most_is_said_as_a_contradiction(least, more, cap, other):
    """Whatever the cap is, such times neither pass nor fail, and the note says that they contradict each other."""
    rows = [row(1, source="script", evaluate_seconds_bundle=least + more, evaluate_seconds_worker=least)]
    rows += [row(2, source="script")] * other
    gates = {gate.name: gate for gate in check_gates(rows, POLICY | {"evaluate_seconds": cap}, "cpu")}
    assert gates["evaluate: sum"].verdict == gates["evaluate: stage"].verdict == "unknown"
    assert "contradiction" in gates["evaluate: sum"].note and "at most" not in gates["evaluate: sum"].note


words = st.sampled_from([None, "a", "b"])
texts = st.builds(
    Text, data_sha256=words, tokenizer_sha256=words, bytes=st.sampled_from([None, 345_000, 345_100, 151_080_363])
)


@given(st.none() | texts, st.none() | texts)
def test_one_rule_says_which_text_is_the_same(a, b):
    """It does not depend on the order; nothing known is never the same; other data of one tokenizer never is."""
    found = same_text(a, b)
    assert found == same_text(b, a)
    if a is None or b is None or (None in (a.bytes, b.bytes) and None in (a.data_sha256, b.data_sha256)):
        assert found is None
    other_data = {a and a.data_sha256, b and b.data_sha256} == {"a", "b"}
    if other_data and a.tokenizer_sha256 == b.tokenizer_sha256 is not None:
        assert found is False
    if a is not None and a == b and None not in (a.data_sha256, a.bytes):
        assert found is True


@pytest.mark.parametrize("data, size, same", [("d", 345_000, True), ("e", 345_000, False), ("e", 347_000, False)])
def test_every_part_asks_that_rule(tmp_path, data, size, same):
    """Ablation, report, comparison and what was tried agree whether scores of two submissions compare."""
    base = Runs(tmp_path)
    other = Runs(tmp_path, data_sha256=data * 64, code=CODE + "#\n")
    for index, seed in enumerate(base.seeds):
        base.attempt(seed, stages=on_text(1.60 + index / 1000, 120_832, 345_000))
        other.attempt(seed, stages=on_text(1.70 + index / 1000, 120_832, size))
    ours, theirs = collect(base.folder), collect(other.folder)
    assert bool(same_text(text_of(ours.rows), text_of(theirs.rows))) == same
    assert (not other_text(scored_rows("a", ours.rows), scored_rows("b", theirs.rows))) == same
    assert (ablation_table([ours.rows, theirs.rows], 0).records[1]["delta_bpb"] is not None) == same
    a, b = load_subjects([base.folder, other.folder])
    assert same_in_report(a, b) == same
    assert same or tried_beside(ours) == []


def test_unscored_rows_are_of_no_text():
    """Two submissions without a score are not "the same text"; nor are seeds that differ."""
    assert text_of([row(1, status="missing")]) is None
    one = row(1, val_bpb=1.0, val_bytes=10)
    assert text_of([one]) is not None and text_of([one, dataclasses.replace(one, seed=2, val_bytes=11)]) is None


def test_readme_and_report_read_one_and_the_same_phases(tmp_path):
    """A foreign line, a time that is none and an end before its begin change nothing in either."""
    runs = Runs(tmp_path / "runs", seeds=(1,))
    odd = [{"stage": "train", "phase": "train", "edge": "end", "t": True}, {"stage": "train"}, {"t": 1e300}]
    back = [{"stage": "train", "phase": "late", "edge": edge, "t": t} for edge, t in (("begin", 9.0), ("end", 3.0))]
    runs.attempt(1, phases=[*odd, *PHASES_TOLD, *back])
    (subject,) = load_subjects([runs.folder])
    from results.budget import phase_seconds

    flat = phase_seconds(subject.found.evidence[1])
    nested = subject.traces[1].phases
    assert {name: value for phases in nested.values() for name, value in phases.items() if name != "start and end"} == {
        name: value for name, value in flat.items() if not name.endswith(": all")
    }
    assert seconds_of([]) == {} and (subject.found.evidence[1].folder / PHASES).is_file() and "late" not in flat
