"""Script runs with real processes: one sealed stage, deadlines, artifacts, kills, resumption; on every backend."""

import json
import os
import signal

import pytest

from golf_core.rundir import SEAL, read_json, read_jsonl, verify_seal
from orchestrator.attempts import inspect, write_void
from orchestrator.overview import Overview
from orchestrator.view import describe
from orchestrator.worker.attempt import run_attempt
from tests.orchestrator.monoliths import (
    MONOLITH,
    ScriptBench,
    carriers_of,
    monolith,
    script_folder,
    script_submission,
)
from tests.orchestrator.toy import limits, stop
from tests.processes import until

SLOW = ("--env", "STEP_SECONDS=0.15", "--env", "ITERATIONS=20")


def run_script(tmp_path, corpus, text=MONOLITH, env=(), artifact=None, **given):
    """The folder and the result of one attempt."""
    folder = script_folder(tmp_path / "runs", script_submission(corpus, text, env, artifact), limits(**given))
    return folder, run_attempt(folder)


def test_an_attempt_of_a_script_is_one_sealed_stage(tmp_path, corpus):
    """The sealed files are those of the contract and the artifact; checkpoint and logs of the script's own are gone."""
    folder, result = run_script(tmp_path, corpus, env=[("ITERATIONS", "10")])
    assert (result["outcome"], result["stage"], result["train_seconds"]) == ("completed", "run", None)
    files = {"run.json", "train_gpt.py", "env.json", "log.txt", "phases.jsonl", "result.json", "artifact.bin"}
    seal = verify_seal(folder)
    assert set(seal["files"]) == files and {path.name for path in folder.iterdir()} == files | {SEAL}
    assert seal["files"]["artifact.bin"]["size"] == result["artifact"]["bytes"]
    assert result["artifact"]["name"] == "final_model.int8.ptz"
    assert [one["name"] for one in result["files"]] == ["final_model.pt", "logs/run.txt", "final_model.int8.ptz"]
    edges = [(row["stage"], row["phase"], row["edge"]) for row in read_jsonl(folder / "phases.jsonl")]
    assert edges == [("run", "stage", "begin"), ("run", "stage", "end")]
    assert "step:10/10 val_loss:" in (folder / "log.txt").read_text()
    assert 0 < result["run_seconds"] <= result["worker_seconds"]


def test_a_script_sees_what_it_was_given_and_no_more(tmp_path, corpus, monkeypatch):
    """Of the caller's environment neither a secret nor a knob arrives, and it runs beside nothing but itself."""
    monkeypatch.setenv("HF_TOKEN", "swordfish")
    monkeypatch.setenv("ITERATIONS", "3")
    folder, result = run_script(tmp_path, corpus, monolith(behaviour={"start": "environ"}), env=[("RUN_ID", "mine")])
    assert result["outcome"] == "completed"
    log = (folder / "log.txt").read_text()
    seen = dict(line.removeprefix("environ ").split("=", 1) for line in log.splitlines() if line.startswith("environ "))
    assert seen["SEED"] == "1" and seen["RUN_ID"] == "mine" and seen["DATA_PATH"] == corpus["data_path"]
    assert "ITERATIONS" not in seen and "step:20/20" in log and seen["CUDA_VISIBLE_DEVICES"] == ""
    assert "swordfish" not in log + (folder / "env.json").read_text() + (folder / "run.json").read_text()


FAILURES = {
    "an exception": ({"step3": "crash"}, {}, "user_error", "the monolith crashed in step3"),
    "silence": ({"step3": "hang"}, {"silence_s": 0.5}, "silent", "no output"),
    "a run without an end": (
        {"step3": "chatter"},
        {"startup_s": 0.5, "train_s": 0.2, "evaluate_s": 0.2, "kill_after_s": 0.1, "dead_man_s": 60.0},
        "deadline",
        "1 s are allowed (0.5 + 0.2 + 0.2 + 0.1)",
    ),
}


@pytest.mark.parametrize("behaviour, given, cls, message", FAILURES.values(), ids=FAILURES)
def test_a_script_that_fails_has_its_class(tmp_path, corpus, behaviour, given, cls, message):
    """Nothing is sealed, the class says what happened, its processes and its folder are gone."""
    folder, result = run_script(tmp_path, corpus, monolith(behaviour=behaviour), **given)
    assert (result["outcome"], result["class"], result["stage"]) == ("failed", cls, "run")
    assert message in result["message"]
    assert not (folder / SEAL).exists() and not (folder / "work").exists() and carriers_of(folder) == []


def test_lines_of_a_script_are_no_phases_of_ours(tmp_path, corpus):
    """What a script prints cannot stamp a phase or choose the class of its failure."""
    text = "print('phase:begin train')\nprint('fatal:data no')\nraise ValueError('mine')\n"
    folder, result = run_script(tmp_path, corpus, text)
    assert (result["class"], result["message"]) == ("user_error", "ValueError: mine")
    assert {row["phase"] for row in read_jsonl(folder / "phases.jsonl")} == {"stage"}


ARTIFACTS = {
    "none": ([], None, None, "no file matches *.ptz"),
    "two": (["a.ptz", "out/b.ptz"], None, None, "2 files match *.ptz"),
    "one of two by name": (["a.ptz", "out/b.ptz"], "out/*.ptz", "out/b.ptz", ""),
    "another name": (["weights.int6"], "*.int6", "weights.int6", ""),
    "a name that nothing has": (["weights.int6"], "*.int5", None, "--artifact names one"),
    "the checkpoint when asked for": ([], "final_model.pt", "final_model.pt", ""),
    "a name that cannot be printed": (["a\nb.ptz"], None, "a\\nb.ptz", ""),
}


@pytest.mark.parametrize("written, glob, kept, note", ARTIFACTS.values(), ids=ARTIFACTS)
def test_the_artifact_is_the_one_file_that_matches(tmp_path, corpus, written, glob, kept, note):
    """It is sealed under one name; none or several are said, with what was there, and the run is sealed as well."""
    folder, result = run_script(tmp_path, corpus, monolith(behaviour={"artifacts": written}), artifact=glob)
    assert result["outcome"] == "completed" and note in result["artifact_note"]
    assert (result["artifact"] or {}).get("name") == kept
    assert ("artifact.bin" in verify_seal(folder)["files"]) == (kept is not None)
    row = describe(Overview(folder.parents[1], [(1, read_json(folder / "run.json")["run_id"])]).rows(False)[0])
    assert row == f"seed 1: done · attempt 1 is counted{' · ' if note else ''}{result['artifact_note']}"


@pytest.mark.parametrize("made", ["os.symlink('/etc/passwd', 'a.ptz')", "os.symlink('/etc', 'd')", "os.mkdir('a.ptz')"])
def test_what_is_no_plain_file_of_the_run_is_no_artifact(tmp_path, corpus, made):
    """A link, what lies behind one, and a folder are not taken, whatever they are called."""
    folder, result = run_script(tmp_path, corpus, f"import os\n{made}\n", artifact="d/*" if "'d'" in made else None)
    assert result["outcome"] == "completed" and result["artifact"] is None
    assert "artifact.bin" not in verify_seal(folder)["files"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, corpus):
    """A submit of the monolith for two seeds that nothing disturbed."""
    bench = ScriptBench(tmp_path_factory.mktemp("finished"), corpus, monolith("new"))
    done = bench.run("--seeds", "1,2", "--env", "ITERATIONS=10", "--env", "RUN_ID=r")
    assert done.returncode == 0, done.stderr
    bench.nobody_is_left()
    return bench


def test_the_same_submit_again_starts_nothing(finished):
    """Nor with its environment in another order, nor from another copy of the file."""
    plan = finished.run("--seeds", "1,2", "--env", "RUN_ID=r", "--env", "ITERATIONS=10", "--dry-run")
    assert plan.stdout.count("is counted") == 2 and "RUN_ID=r ITERATIONS=10  [--env, in order]" in plan.stdout
    finished.bundle = finished.bundle.rename(finished.folder / "copy.py")
    again = finished.run("--seeds", "1,2", "--env", "ITERATIONS=10", "--env", "RUN_ID=r", "-q")
    assert again.returncode == 0 and len(finished.attempts()) == 2, again.stderr
    assert "1860 s in all: a script tells no phases" in plan.stdout
    other = finished.run("--seeds", "1", "--env", "ITERATIONS=11", "--env", "RUN_ID=r", "--dry-run")
    assert "run as" in other.stdout and "is counted" not in other.stdout


def test_the_verbs_show_a_script(finished):
    """status, its story, logs and spec.json say what ran."""
    status = finished.run("-v", verb="status")
    assert status.returncode == 0 and "seed 1: attempt 1 started running" in status.stdout
    assert "BPB" not in status.stdout
    logs = finished.run("--seed", "2", "--tail", "1", verb="logs")
    assert logs.stdout.startswith("quantized val_loss:")
    (spec,) = [json.loads(path.read_text()) for path in finished.runs_dir.glob("*/spec.json")]
    assert (spec["kind"], spec["recipe"], spec["config"]) == ("script", "toy.py", {})
    assert list(spec["script"]["environment"].items()) == [("ITERATIONS", "10"), ("RUN_ID", "r")]


def test_a_failure_of_the_script_is_not_tried_again(make_bench):
    """Exit code 1, one attempt, its last words; the same submit leaves it, --retry-failed does not."""
    bench = make_bench(monolith(behaviour={"step3": "crash"}), kind=ScriptBench)
    done = bench.run("--seeds", "1")
    assert done.returncode == 1 and "user_error: ValueError: the monolith crashed" in done.stderr
    assert bench.run("--seeds", "1").returncode == 1 and len(bench.attempts()) == 1
    assert bench.run("--seeds", "1", "--retry-failed").returncode == 1 and len(bench.attempts()) == 2


ENDS = {
    "no score": ("print('thinking')\n", 4, "no final score is known for seed 1"),
    "another seed": ("print('seed:1337\\nstep:9/9 train_loss:3.0')\n", 5, "printed seed 1337"),
}


@pytest.mark.parametrize("text, code, words", ENDS.values(), ids=ENDS)
def test_a_log_that_supports_no_claim_is_said_once(make_bench, text, code, words):
    """Both runs count; without a score the tables stand and nothing is packed; with another seed there is no table."""
    bench = make_bench(text, kind=ScriptBench, tables=True)
    done = bench.run("--seeds", "1,2")
    assert done.returncode == code and done.stderr.count(words) == 1, done.stderr
    assert len(bench.attempts()) == 2
    assert ("Verdict" in done.stdout) == (code == 4) and "Traceback" not in done.stderr


def test_a_killed_submit_is_resumed(make_bench):
    """kill -9 of the submitting process: nothing is left behind, and the same submit runs what is missing."""
    bench = make_bench(MONOLITH, kind=ScriptBench)
    first = bench.start("--seeds", "1", *SLOW)
    try:
        bench.reaches(1, "step:5/20", file="log.txt")
    finally:
        first.send_signal(signal.SIGKILL)
        stop(first)
    bench.nobody_is_left()
    done = bench.run("--seeds", "1", *SLOW)
    assert done.returncode == 0 and bench.result(1, 2)["class"] == "completed", done.stderr
    assert read_json(bench.attempt(1) / "VOID.json")["class"] == "orphaned"
    until(lambda: not (bench.attempt(1) / "work").exists(), "the watchdog has removed the work folder")


def test_cancel_ends_a_script(make_bench):
    """Its process tree ends, the attempt is void, and the way back is named."""
    bench = make_bench(monolith(behaviour={"step6": "chatter"}), kind=ScriptBench)
    first = bench.start("--seeds", "1")
    try:
        folder = bench.reaches(1, "step:5/20", file="log.txt")
        live = bench.run(verb="status")
        assert "run · step 5/20 · loss" in live.stdout and " so far" in live.stdout
        cancelled = bench.run(verb="cancel")
        assert cancelled.returncode == 0 and "the same submit goes on" in cancelled.stderr
        assert first.wait(30) == 3
    finally:
        stop(first)
    assert read_json(folder / "VOID.json")["class"] == "cancelled" and carriers_of(folder) == []


@pytest.mark.whole
@pytest.mark.xdist_group("ray")
def test_a_kill_on_local_ray_voids_the_attempt_and_the_run_is_repeated(make_bench):
    """kill -9 of the script: the attempt is void, a second one is counted, and nothing of either is left."""
    bench = make_bench(MONOLITH, kind=ScriptBench, backend="ray")
    first = bench.start("--seeds", "1", *SLOW)
    try:
        folder = bench.reaches(1, "step:5/20", file="log.txt")
        scripts = carriers_of(folder)
        assert scripts, "the fault must fire"
        for pid in scripts:
            os.kill(pid, signal.SIGKILL)
        assert first.wait(60) == 0
    finally:
        stop(first)
    assert read_json(folder / "VOID.json")["class"] == "rank_killed"
    assert bench.result(1, 2)["class"] == "completed" and len(bench.attempts()) == 2


def test_what_a_lost_machine_left_goes_with_the_void_mark(tmp_path, corpus):
    """Where worker and watchdog went down together, checkpoints in the work folder do not stay for good."""
    folder = script_folder(tmp_path / "runs", script_submission(corpus))
    (folder / "work").mkdir()
    (folder / "work" / "final_model.pt").write_bytes(b"large")
    assert inspect(folder, 1).stage == "run"
    write_void(folder, "worker_lost", "the machine is gone")
    assert inspect(folder, 1).state == "void" and not (folder / "work").exists()


def test_a_killed_rank_ends_the_whole_run(tmp_path, corpus):
    """Under torchrun, rank 1 of two dies of SIGKILL: the class is one of outside, and rank 0 does not go on."""
    asked = script_submission(
        corpus, monolith(behaviour={"rank": "kill"}), [("STEP_SECONDS", "5")], launcher="torchrun", processes=2
    )
    folder = script_folder(tmp_path / "runs", asked)
    result = run_attempt(folder)
    assert result["class"] == "rank_killed" and carriers_of(folder) == []
    assert "step:5/20" not in (folder / "log.txt").read_text() and not (folder / "work").exists()


def test_a_fault_of_the_machine_is_no_fault_of_the_script(tmp_path, corpus):
    """Where the work folder cannot be made the class is one that is tried again."""
    folder = script_folder(tmp_path / "runs", script_submission(corpus))
    (folder / "work").write_text("in the way")
    assert run_attempt(folder)["class"] == "launch_error"
