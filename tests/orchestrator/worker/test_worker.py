"""The worker, with real processes: stages, seals, classes of failure, deadlines, and who dies with whom."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from golf_core.rundir import SEAL, TRAIN_SEAL, is_sealed, read_json, read_jsonl, verify_seal
from orchestrator.environment import bundle_environment
from orchestrator.proc import Locked, folder_lock, is_locked
from orchestrator.worker.attempt import cut_to_train_seal, folder_key, run_attempt
from orchestrator.worker.watch import VARIABLE, guard
from tests.orchestrator.toy import MARK, ROOT, attempt_folder, limits, toy_text
from tests.processes import carrying, until


def left(folder):
    """Processes that carry a marker of this attempt."""
    key = f"{VARIABLE}={folder_key(folder)}:".encode()
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if key in file.read():
                    found.append(int(pid))
        except OSError:
            continue
    return found


def test_an_attempt_is_run_in_two_stages_and_sealed(tmp_path):
    """Both seals verify, the result is completed, and the phases stand on one growing clock."""
    folder = attempt_folder(tmp_path)
    result = run_attempt(folder)
    assert (result["outcome"], result["class"], result["exit_code"]) == ("completed", "completed", 0)
    assert result == read_json(folder / "result.json")
    assert set(verify_seal(folder)["files"]) >= {"run.json", "scores.json", "artifact.bin", TRAIN_SEAL, "result.json"}
    assert is_sealed(folder, TRAIN_SEAL)
    rows = read_jsonl(folder / "phases.jsonl")
    assert [row["t"] for row in rows] == sorted(row["t"] for row in rows)
    edges = [(row["stage"], row["phase"], row["edge"]) for row in rows]
    assert edges[0] == ("train", "stage", "begin") and edges[-1] == ("evaluate", "stage", "end")
    assert ("evaluate", "sliding", "begin") in edges and left(folder) == []
    assert 0 < result["train_seconds"] < result["worker_seconds"]


FAILURES = {
    "an exception": ({"train3": "crash"}, "user_error", "train", "the toy crashed in train3"),
    "a NaN": ({"train3": "nan"}, "nan", "train", "loss is nan at step 3"),
    "a killed process": ({"train2": "kill"}, "rank_killed", "train", "killed from outside"),
    "an exception in evaluation": ({"sliding": "crash"}, "user_error", "evaluate", "the toy crashed in sliding"),
}


@pytest.mark.parametrize("behaviour, cls, stage, message", FAILURES.values(), ids=FAILURES)
def test_a_failure_has_its_class(tmp_path, behaviour, cls, stage, message):
    """Class, stage and message say what happened; a failed attempt has no seal, and no process is left."""
    folder = attempt_folder(tmp_path, toy_text(behaviour))
    result = run_attempt(folder)
    assert (result["outcome"], result["class"], result["stage"]) == ("failed", cls, stage)
    assert message in result["message"]
    assert not (folder / SEAL).exists() and is_sealed(folder, TRAIN_SEAL) == (stage == "evaluate")
    assert left(folder) == []


DEADLINES = {
    "training that hangs": ({"train2": "chatter"}, {"train_s": 0.2, "kill_after_s": 0.3}, "deadline", "train"),
    "evaluation that hangs": ({"ttt": "chatter"}, {"evaluate_s": 0.2, "kill_after_s": 0.3}, "deadline", "evaluate"),
    "a phase without a limit": ({"compress": "chatter"}, {"startup_s": 0.8}, "deadline", "train"),
    "all of it": ({"train2": "chatter"}, {"dead_man_s": 0.8}, "deadline", "train"),
    "silence": ({"train2": "hang"}, {"silence_s": 0.5}, "silent", "train"),
}


@pytest.mark.parametrize("behaviour, changed, cls, stage", DEADLINES.values(), ids=DEADLINES)
def test_a_hang_hits_its_deadline(tmp_path, behaviour, changed, cls, stage):
    """The stage is ended, its class says which deadline, and its whole process tree is gone."""
    folder = attempt_folder(tmp_path, toy_text(behaviour), given_limits=limits(**changed))
    result = run_attempt(folder)
    assert (result["class"], result["stage"]) == (cls, stage)
    assert left(folder) == []


def test_what_measures_is_not_silent(tmp_path):
    """An evaluation that prints nothing for longer than silence_s, but goes on writing metrics.jsonl, is let end."""
    folder = attempt_folder(tmp_path, toy_text({"sliding": "measure"}), given_limits=limits(silence_s=2.0))
    assert run_attempt(folder)["class"] == "completed"


def test_a_bundle_that_never_begins_a_phase_is_ended(tmp_path):
    """Without a first phase within startup_s the class is startup."""
    text = "import time\nprint('importing', flush=True)\ntime.sleep(600)\n"
    result = run_attempt(attempt_folder(tmp_path, text, given_limits=limits(startup_s=0.5)))
    assert result["class"] == "startup"


def test_a_stage_that_leaves_no_artifact_fails(tmp_path):
    """Exit code 0 without the files of the contract is a failure that names the file."""
    result = run_attempt(attempt_folder(tmp_path, "print('phase:begin train', flush=True)\n"))
    assert result["class"] == "artifact" and "artifact.bin" in result["message"]


def test_evaluation_alone_is_repeated_after_a_kill(tmp_path):
    """The train stage is not run again; what the first evaluation left is cut off, its log kept as void."""
    once = tmp_path / "once"
    once.mkdir()
    folder = attempt_folder(tmp_path, toy_text({"sliding": f"kill:{once}"}))
    first = run_attempt(folder)
    assert (first["class"], first["stage"]) == ("rank_killed", "evaluate")
    sealed = (folder / TRAIN_SEAL).read_bytes()
    second = run_attempt(folder)
    assert second["class"] == "completed" and (folder / TRAIN_SEAL).read_bytes() == sealed
    assert second["train_seconds"] == first["train_seconds"]
    log = (folder / "log.txt").read_text()
    assert log.count("phase:begin train") == 1 and log.count("phase:begin roundtrip") == 1
    assert "phase:begin roundtrip" in (folder / "evaluate-1.void.log").read_text()
    assert [m["stage"] for m in read_jsonl(folder / "metrics.jsonl") if m["event"] == "score"] == [
        "roundtrip",
        "sliding",
        "ttt",
    ]
    assert "evaluate-1.void.log" in verify_seal(folder)["files"]


def test_a_changed_train_stage_is_not_evaluated_again(tmp_path):
    """Where a sealed file differs, the worker neither evaluates nor trains over it."""
    once = tmp_path / "once"
    once.mkdir()
    folder = attempt_folder(tmp_path, toy_text({"sliding": f"kill:{once}"}))
    run_attempt(folder)
    (folder / "artifact.bin").write_bytes(b"swapped")
    result = run_attempt(folder)
    assert result["class"] == "launch_error" and "was begun" in result["message"]


def test_evaluation_sees_no_training_data(tmp_path):
    """The fresh process gets a DATA_PATH with validation shards only."""
    folder = attempt_folder(tmp_path, toy_text({"roundtrip": "environ"}))
    assert run_attempt(folder)["class"] == "completed"  # the toy itself fails where it finds a training shard
    shown = [line for line in (folder / "log.txt").read_text().splitlines() if line.startswith("DATA_PATH=")]
    assert shown and not os.path.exists(shown[0].removeprefix("DATA_PATH="))


def test_secrets_reach_neither_the_bundle_nor_the_folder(tmp_path, monkeypatch):
    """A bundle that prints its environment finds no secret there, and env.json holds none."""
    for name in ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "MY_PASSWORD", "WANDB_API_KEY"):
        monkeypatch.setenv(name, "s3cr3t-marker")
    monkeypatch.setenv("PROXY", "http://me:s3cr3t-marker@proxy")
    monkeypatch.setenv("HARMLESS", "stays")
    folder = attempt_folder(tmp_path, toy_text({"setup": "environ"}))
    assert run_attempt(folder)["class"] == "completed"
    assert "HARMLESS=stays" in (folder / "log.txt").read_text()
    for path in folder.iterdir():
        assert b"s3cr3t-marker" not in path.read_bytes(), path


def test_the_project_is_not_on_a_bundles_path(tmp_path, monkeypatch):
    """The worker's PYTHONPATH holds this project, the bundle's does not; what else the user had there stays."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(tmp_path)]))
    folder = attempt_folder(tmp_path, toy_text({"setup": "environ", "roundtrip": "environ"}))
    assert run_attempt(folder)["class"] == "completed"
    shown = [line for line in (folder / "log.txt").read_text().splitlines() if line.startswith("PYTHONPATH=")]
    assert shown == [f"PYTHONPATH={tmp_path}"] * 2
    for alone in (str(ROOT), f"{ROOT}{os.pathsep}", f"{ROOT}/orchestrator/.."):
        assert "PYTHONPATH" not in bundle_environment({"PYTHONPATH": alone}, {"device": "cpu", "threads": 1})


def test_whoever_stops_it_is_named(tmp_path):
    """A stop is heard in the middle of a stage and gives the class."""
    folder = attempt_folder(tmp_path, toy_text({"train3": "hang"}))
    asked = threading.Event()
    threading.Thread(target=lambda: (until(lambda: left(folder), "bundle"), asked.set())).start()
    assert run_attempt(folder, lambda: "cancelled" if asked.is_set() else None)["class"] == "cancelled"
    assert left(folder) == []


def test_one_worker_at_a_time(tmp_path):
    """A folder that a worker holds is refused to a second one, and given back at its end."""
    folder = attempt_folder(tmp_path)
    with folder_lock(folder):
        assert is_locked(folder)
        with pytest.raises(Locked), folder_lock(folder):
            pass
    assert not is_locked(folder)


@contextlib.contextmanager
def worker_process(folder, mark):
    env = dict(os.environ) | {"PYTHONPATH": str(ROOT), MARK: mark}
    command = [sys.executable, "-m", "orchestrator.worker", str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=env, start_new_session=True) as worker:
        try:
            yield worker
        finally:
            worker.kill()


@pytest.mark.parametrize("processes, launcher", [(1, "python"), (2, "torchrun")])
def test_the_watchdog_clears_after_a_killed_worker(tmp_path, processes, launcher):
    """kill -9 of the worker: every process of the attempt, ranks in their own sessions too, is gone in 10 s."""
    folder = attempt_folder(tmp_path, toy_text({"train3": "hang"}), processes=processes, launcher=launcher)
    with worker_process(folder, tmp_path.name) as worker:
        until(lambda: "step 2" in text(folder / "log.txt"), "training")
        assert len(left(folder)) >= processes
        worker.kill()
    until(lambda: not left(folder) and not carrying(MARK, tmp_path.name), "the end of all", 10)
    assert not (folder / "result.json").exists() and not is_locked(folder)


@pytest.mark.parametrize("how, cls", [("close", "orphaned"), ("cancel", "cancelled"), ("terminate", "preempted")])
def test_a_worker_hears_its_parent(tmp_path, how, cls):
    """The end of the parent's pipe, a cancel through it and SIGTERM each end the attempt with their class."""
    folder = attempt_folder(tmp_path, toy_text({"train3": "hang"}))
    with worker_process(folder, tmp_path.name) as worker:
        until(lambda: "step 2" in text(folder / "log.txt"), "training")
        if how == "cancel":
            worker.stdin.write(b"c")
            worker.stdin.flush()
        elif how == "terminate":
            worker.send_signal(signal.SIGTERM)
        else:
            worker.stdin.close()
        assert worker.wait(15) == 0
    assert read_json(folder / "result.json")["class"] == cls and left(folder) == []


def test_a_killed_rank_of_torchrun_has_its_class(tmp_path):
    """Under real torchrun, a rank that is killed by signal 9 is told from a rank that failed."""
    folder = attempt_folder(tmp_path, toy_text({"train3": "kill"}), processes=2, launcher="torchrun")
    assert run_attempt(folder)["class"] == "rank_killed"
    assert left(folder) == []


def test_a_failed_rank_of_torchrun_has_its_class(tmp_path):
    """Under real torchrun the message is the exception of the script, not that of torchrun."""
    folder = attempt_folder(tmp_path, toy_text({"train3": "crash"}), processes=2, launcher="torchrun")
    result = run_attempt(folder)
    assert result["class"] == "user_error" and "the toy crashed in train3" in result["message"]


def test_the_cut_keeps_only_the_sealed_prefix(tmp_path):
    """After the cut, each appended file has exactly the bytes of its train seal."""
    folder = attempt_folder(tmp_path)
    run_attempt(folder)
    cut_to_train_seal(folder)
    sealed = json.loads((folder / TRAIN_SEAL).read_text())["files"]
    for name in ("log.txt", "metrics.jsonl", "phases.jsonl"):
        assert (folder / name).stat().st_size == sealed[name]["size"]
    assert not (folder / SEAL).exists() and is_sealed(folder, TRAIN_SEAL)


def text(path):
    return path.read_text() if path.exists() else ""


def test_the_watchdog_keeps_the_last_deadline_for_a_worker_that_cannot(tmp_path):
    """What carries the marker is killed at the deadline, though the worker, which may have been stopped, still holds
    the watchdog's pipe."""
    marker = f"{os.urandom(8).hex()}:1"
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    carrier = subprocess.Popen(command, env=os.environ | {VARIABLE: marker})
    pipe = guard(marker, str(tmp_path / "scratch"), 0.3)
    try:
        assert carrier.wait(timeout=30) == -signal.SIGKILL
    finally:
        os.close(pipe)
        carrier.kill()
        carrier.wait()
