"""Rows of script runs: real attempts of the monolith in each dialect, run by the worker, collected from their logs."""

import dataclasses
import json

import pytest

from golf_core.rundir import LOG, RESULT, RUN, SEAL, RunDirError, read_json, write_json, write_seal
from results.collect import collect
from results.gates import OVERSHOOT_S, check_gates
from results.spec import load_spec
from tests.orchestrator.monoliths import DIALECTS, MONOLITH, monolith, script_submission, sealed_runs

POLICY = {"name": "mine", "artifact_bytes": 16_000_000, "train_seconds": 600.0, "evaluate_seconds": 600.0, "seeds": 1}


@pytest.fixture(scope="module")
def corpus():
    """What the tests of the orchestrator run on."""
    import subprocess
    import sys

    said = subprocess.run([sys.executable, "-m", "golf_core.data.embedded"], capture_output=True, text=True, check=True)
    return json.loads(said.stdout.splitlines()[-1])


@pytest.fixture
def submit(tmp_path, corpus):
    """Runs and seals every seed of a script; the submission's folder."""

    def made(text=MONOLITH, env=(), artifact=None, seeds=(1, 2)):
        return sealed_runs(tmp_path / "runs", script_submission(corpus, text, env, artifact, seeds=seeds))

    return made


def reseal(folder, **changed):
    """Write files of a sealed attempt anew, and its seal."""
    files = json.loads((folder / SEAL).read_text())["files"]
    for name, data in changed.items():
        (folder / name.replace("_", ".")).write_text(data)
    facts = {key: read_json(folder / RUN)[key] for key in ("run_id", "attempt_id", "seed")}
    write_seal(folder, SEAL, files, facts)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_row_has_the_numbers_of_its_log(submit, dialect):
    """Score, loss and parameters as the log prints them, to the digit; bytes of the sealed files, the log's beside."""
    found = collect(submit(monolith(dialect), [("ITERATIONS", "10"), ("STEP_SECONDS", "0.01")]))
    assert found.finished and [row.seed for row in found.rows] == [1, 2]
    for row in found.rows:
        log = (found.evidence[row.seed].folder / LOG).read_text()
        assert (row.source, row.script_env) == ("script", "ITERATIONS=10 STEP_SECONDS=0.01")
        assert (row.recipe, row.final_stage, row.dtype) == ("train_gpt.py", "roundtrip", "own")
        assert f"{row.val_bpb:.8f}" in log and f"{row.val_loss:.8f}" in log and row.roundtrip_bpb == row.val_bpb
        assert row.parameters == 1024 and row.legality is None and row.val_tokens is None
        sealed = sum(found.evidence[row.seed].sealed(name).integer("size") for name in ("artifact.bin", "train_gpt.py"))
        assert row.artifact_bytes == row.log_artifact_bytes == sealed
        if dialect != "pairs":  # a form of step lines that nobody has seen in the wild
            assert row.steps == 10 and row.pre_quant_bpb is not None
            assert 0.1 <= row.train_seconds == row.train_seconds_trainer < row.worker_seconds
    assert found.rows[0].val_bpb != found.rows[1].val_bpb
    gates = {gate.name: gate.verdict for gate in found.gates}
    assert (gates["artifact"], gates["score first"]) == ("pass", "unknown")


def test_the_gates_show_whose_clock_it_is(submit):
    """Training by the log with its named tolerance; the evaluation at most what the worker timed beside it."""
    gates = {gate.name: gate for gate in collect(submit(seeds=(1,))).gates}
    assert gates["train"].verdict == gates["evaluate: sum"].verdict == "pass"
    assert "last-step overshoot" in gates["train"].note and "at most" in gates["evaluate: sum"].note


@pytest.mark.parametrize(
    "train, least, most, verdicts",
    [
        (600.0, 500.0, 590.0, ("pass", "pass")),
        (600.0 + OVERSHOOT_S, 500.0, 600.0, ("pass", "pass")),
        (600.1501, 500.0, 600.001, ("fail", "unknown")),
        (None, 500.0, None, ("unknown", "unknown")),
        (599.9, 600.001, 700.0, ("pass", "fail")),
        (599.9, None, 700.0, ("pass", "unknown")),
        (599.9, None, None, ("pass", "unknown")),
    ],
)
def test_times_of_a_log_are_judged_with_what_is_known(submit, train, least, most, verdicts):
    """A tolerance for the last step of training; an evaluation fails by its least and passes by its most alone."""
    (row,) = collect(submit(seeds=(1,))).rows
    row = dataclasses.replace(row, train_seconds=train, evaluate_seconds_bundle=least, evaluate_seconds_worker=most)
    gates = {gate.name: gate.verdict for gate in check_gates([row], POLICY, "cpu")}
    assert (gates["train"], gates["evaluate: sum"]) == verdicts


@pytest.mark.parametrize("written", [[], ["a.ptz", "b.ptz"]], ids=["none", "two"])
def test_without_an_artifact_its_bytes_are_unknown(submit, written):
    """The run counts with its score; the note says why, and the log's own figure passes no gate."""
    found = collect(submit(monolith(behaviour={"artifacts": written}), seeds=(1,)))
    (row,) = found.rows
    assert row.counted and row.val_bpb is not None and row.log_artifact_bytes > 0
    assert row.artifact_bytes is row.model_bytes is row.artifact_sha256 is None
    assert any("*.ptz" in note and note.startswith("seed 1: ") for note in found.notes)
    assert next(gate for gate in found.gates if gate.name == "artifact").verdict == "unknown"


def test_an_artifact_over_the_cap_counts_and_fails(submit):
    """16 MB of weights: the run is counted, the gate fails by the sealed bytes."""
    found = collect(submit(monolith(behaviour={"padding": 16_000_000}), seeds=(1,)))
    gate = next(gate for gate in found.gates if gate.name == "artifact")
    assert found.finished and gate.verdict == "fail" and gate.value > 16_000_000


def test_a_log_that_says_other_bytes_is_told_of(submit):
    """The sealed files count, the log's figure stands beside them, and a note names its line."""
    folder = submit(MONOLITH.replace("{size + code_bytes} bytes", "{size + code_bytes - 100} bytes"), seeds=(1,))
    found = collect(folder)
    (row,) = found.rows
    assert row.artifact_bytes == row.log_artifact_bytes + 100
    assert any("the sealed files, which count" in note and "log.txt:" in note for note in found.notes)


def test_another_seed_in_the_log_is_a_contradiction(submit):
    """A script that does not use SEED: no row is made of it, and the message has the line and both seeds."""
    folder = submit(MONOLITH.replace('int(os.environ.get("SEED", "1337"))', "1337"), seeds=(1,))
    with pytest.raises(RunDirError, match=r"log.txt:4: the script printed seed 1337 .*ran for seed 1"):
        collect(folder)


def test_a_log_without_numbers_leaves_empty_cells(submit):
    """The run is counted; nothing is guessed, and the note says that no score was read."""
    found = collect(submit("print('thinking')\n", seeds=(1,)))
    (row,) = found.rows
    assert row.counted and row.val_bpb is row.steps is row.train_seconds is None
    assert any("no score is read from its log" in note for note in found.notes)
    assert {gate.verdict for gate in found.gates if gate.name in ("train", "evaluate: sum", "artifact")} == {"unknown"}


def test_training_beyond_the_whole_run_is_left_out(submit):
    """A log that tells of more training than the worker timed in all: no time of it is taken."""
    text = MONOLITH.replace("began = [1] * VOCAB, random.Random(seed), time.perf_counter()", "began = [1] * VOCAB, "
                            "random.Random(seed), time.perf_counter() - 500")  # fmt: skip
    found = collect(submit(text, seeds=(1,)))
    (row,) = found.rows
    assert row.train_seconds is row.step_avg_ms is None and row.val_bpb is not None
    assert any("of training by its log, but the whole run took" in note for note in found.notes)


def test_a_changed_environment_is_refused(submit):
    """spec.json is not sealed: another value, another artifact, another kind do not go with its ids or its attempts."""
    folder = submit(env=[("ITERATIONS", "5")], seeds=(1,))
    spec = read_json(folder / "spec.json")
    for changed in (
        {"script": spec["script"] | {"environment": {"ITERATIONS": "6"}}},
        {"script": spec["script"] | {"artifact": "*.x"}},
        {"kind": "recipe"},
        {"kind": "tale"},
        {"script": None},
        {"script": {"environment": {"ITERATIONS": 5}}},
    ):
        write_json(folder / "spec.json", spec | changed)
        with pytest.raises(RunDirError, match=r"spec\.json"):
            collect(folder)
    write_json(folder / "spec.json", spec)
    assert load_spec(folder).script.words == "ITERATIONS=5" and collect(folder).finished


def test_sealed_files_that_contradict_each_other_are_refused(submit):
    """Another environment in run.json, another hash or none of the artifact in result.json: no evidence."""
    folder = submit(env=[("ITERATIONS", "5")], seeds=(1,))
    (attempt,) = folder.parent.glob("attempts/*-a1")
    run, result = (attempt / RUN).read_text(), (attempt / RESULT).read_text()
    told = json.loads(result)
    for changed in (
        {"run_json": run.replace('"ITERATIONS": "5"', '"ITERATIONS": "6"')},
        {"result_json": json.dumps(told | {"artifact": told["artifact"] | {"sha256": "0" * 64}})},
        {"result_json": json.dumps(told | {"artifact": told["artifact"] | {"bytes": 1}})},
        {"result_json": json.dumps(told | {"artifact": None})},
    ):
        reseal(attempt, **({"run_json": run, "result_json": result} | changed))
        with pytest.raises(RunDirError):
            collect(folder)
    reseal(attempt, run_json=run, result_json=result)
    assert collect(folder).finished
    (attempt / LOG).write_text("seed:1\n")
    assert collect(folder).rows[0].status == "damaged"
