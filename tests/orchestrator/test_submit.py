"""The submit command with real processes: what is run, what is not run again, what survives which kill."""

import json
import os
import re
import signal
import sqlite3

import pytest

from golf_core.bundle_pack import pack_source
from golf_core.rundir import is_sealed
from orchestrator.policy import OUTSIDE
from tests.orchestrator.toy import MARK, stop, toy_text
from tests.processes import PATIENCE, carrying, command_line, until

SLOW = toy_text(steps=6, pause=0.25)  # slow enough to be killed in the middle of anything
SEEDS = (1, 2)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, corpus):
    """scores.json of each seed and the outputs of a submit of SLOW that nothing disturbed."""
    from tests.orchestrator.toy import Bench

    bench = Bench(tmp_path_factory.mktemp("undisturbed"), corpus, SLOW, tables=True)
    done = bench.run("--seeds", "1,2")
    assert done.returncode == 0, done.stderr
    bench.nobody_is_left()
    return bench


def scores(bench):
    """Bytes of scores.json of each counted attempt, by seed."""
    found = {}
    for folder in bench.attempts():
        if not (folder / "VOID.json").exists() and is_sealed(folder):
            found[json.loads((folder / "run.json").read_text())["seed"]] = (folder / "scores.json").read_bytes()
    return found


def outputs(bench):
    """The folders of submissions."""
    return [path for path in bench.runs_dir.iterdir() if re.fullmatch("[0-9a-f]{12}", path.name)]


def events(bench, kind):
    with sqlite3.connect(bench.runs_dir / "ledger.sqlite") as db:
        rows = db.execute("SELECT attempt_id FROM events WHERE kind = ?", (kind,)).fetchall()
    db.close()
    return [row[0] for row in rows]


def test_a_submit_makes_sealed_attempts_and_outputs(undisturbed):
    """Each seed has one sealed attempt; table, scores and submission folder are there."""
    assert [folder.name[-3:] for folder in undisturbed.attempts()] == ["-a1", "-a1"]
    (folder,) = outputs(undisturbed)
    names = {path.name for path in folder.iterdir()}
    assert {"spec.json", "train_gpt.py", "results.csv", "scores.csv", "table.md", "report.html", "submission"} <= names
    spec = json.loads((folder / "spec.json").read_text())
    assert spec["submission_id"][:12] == folder.name and spec["seeds"] == [1, 2]


def test_the_same_submit_again_starts_nothing(undisturbed):
    """The second submit prints the finished table and leaves the ledger's attempts as they are; a report that cannot be
    made is told of and fails nothing."""
    before = events(undisturbed, "attempt_created")
    (folder,) = outputs(undisturbed)
    (folder / "report.html").unlink()
    (folder / "report.html").mkdir()
    again = undisturbed.run("--seeds", "1,2")
    (folder / "report.html").rmdir()
    assert again.returncode == 0 and "val_bpb" in again.stdout and "is counted" in again.stderr
    assert "no report.html (exit code 5)" in again.stderr
    assert events(undisturbed, "attempt_created") == before and len(before) == 2


def test_stdout_is_the_submission_id_alone(undisturbed):
    """-q prints the id, --json one object with it; everything else goes to stderr, without ANSI."""
    quiet = undisturbed.run("--seeds", "1,2", "-q")
    undisturbed.tables = False
    machine = undisturbed.run("--seeds", "1,2", "--json")
    undisturbed.tables = True
    assert re.fullmatch("[0-9a-f]{64}\n", quiet.stdout)
    answer = json.loads(machine.stdout)
    assert (answer["schema_version"], answer["submission_id"]) == (1, quiet.stdout.strip())
    assert answer["seeds"] == {"1": "done", "2": "done"} and "\x1b" not in quiet.stderr + machine.stderr


def test_a_subset_of_the_seeds_is_already_done(undisturbed):
    """A run done for one submission is done for all: a plan of one of its seeds has nothing to start."""
    plan = undisturbed.run("--seeds", "2", "--dry-run", "--json")
    assert plan.returncode == 0 and [run["done"] for run in json.loads(plan.stdout)["runs"]] == [True]


def test_a_kill_of_the_submit_in_training(make_bench, undisturbed):
    """kill -9 of the submitting process while seed 2 trains: seed 1 is not run again, seed 2 is, scores the same."""
    bench = make_bench(SLOW)
    first = bench.start("--seeds", "1,2", "--threads", "1", "--processes", "1")
    try:
        bench.reaches(1, "roundtrip")
        bench.reaches(2, '"train", "edge": "begin"')
    finally:
        first.send_signal(signal.SIGKILL)
        stop(first)
    bench.nobody_is_left()
    bench.tables = True
    done = bench.run("--seeds", "1,2")
    assert done.returncode == 0, done.stderr
    assert scores(bench) == scores(undisturbed)
    assert [(path / "scores.csv").read_bytes() for path in outputs(bench)] == [
        (path / "scores.csv").read_bytes() for path in outputs(undisturbed)
    ]


def test_a_kill_of_the_submit_in_evaluation(make_bench, undisturbed):
    """kill -9 of the submitting process in evaluation: the same attempt is evaluated again, not trained again."""
    bench = make_bench(SLOW)
    first = bench.start("--seeds", "1,2")
    try:
        folders = [bench.reaches(seed, '"sliding", "edge": "begin"') for seed in SEEDS]
    finally:
        first.send_signal(signal.SIGKILL)
        stop(first)
    bench.nobody_is_left()
    sealed = [(folder / "MANIFEST.train.json").read_bytes() for folder in folders]
    done = bench.run("--seeds", "1,2")
    assert done.returncode == 0, done.stderr
    assert bench.attempts() == sorted(folders)
    assert [(folder / "MANIFEST.train.json").read_bytes() for folder in folders] == sealed
    assert scores(bench) == scores(undisturbed)


def test_a_kill_of_a_rank_in_training(make_bench, undisturbed):
    """kill -9 of the training process: the attempt is void, a new one is counted, the scores are the same."""
    bench = make_bench(SLOW)
    first = bench.start("--seeds", "1,2")
    try:
        folder = bench.reaches(1, '"train", "edge": "begin"')
        ranks = [pid for pid in carrying("SEED", "1") if pid in carrying(MARK, bench.mark)]
        assert ranks, "the fault must fire"
        for pid in ranks:
            os.kill(pid, signal.SIGKILL)
        assert first.wait(60) == 0
    finally:
        stop(first)
    assert json.loads((folder / "VOID.json").read_text())["class"] == "rank_killed"
    assert bench.attempt(1, 2) is not None and bench.attempt(2, 2) is None
    assert scores(bench) == scores(undisturbed)


def test_a_kill_of_a_rank_in_evaluation(make_bench, undisturbed):
    """kill -9 of the evaluating process: only evaluation is repeated, in the same attempt."""
    bench = make_bench(SLOW)
    first = bench.start("--seeds", "1,2")
    try:
        folder = bench.reaches(1, '"sliding", "edge": "begin"')
        for pid in [pid for pid in carrying("SEED", "1") if pid in carrying(MARK, bench.mark)]:
            os.kill(pid, signal.SIGKILL)
        assert first.wait(60) == 0
    finally:
        stop(first)
    assert (folder / "evaluate-1.void.log").exists() and len(bench.attempts()) == 2
    assert scores(bench) == scores(undisturbed)


def test_a_kill_of_the_worker_in_training(make_bench, undisturbed):
    """kill -9 of the worker: the attempt is void as lost, a new one is counted, the scores are the same."""
    bench = make_bench(SLOW)
    first = bench.start("--seeds", "1,2")
    try:
        folder = bench.reaches(1, '"train", "edge": "begin"')
        (worker,) = carrying("GOLF_WORKER_FOLDER", str(folder.resolve()))
        os.kill(worker, signal.SIGKILL)
        assert first.wait(60) == 0
    finally:
        stop(first)
    assert json.loads((folder / "VOID.json").read_text())["class"] == "worker_lost"
    assert scores(bench) == scores(undisturbed)


def test_ctrl_c_ends_what_runs_and_the_same_submit_goes_on(make_bench, undisturbed):
    """SIGINT: exit code 130, nobody left, the way back is named; the same submit finishes with the same scores."""
    bench = make_bench(SLOW)
    first = bench.start("--seeds", "1,2")
    bench.reaches(2, '"train", "edge": "begin"')
    first.send_signal(signal.SIGINT)
    _, err = first.communicate(timeout=30)
    assert first.returncode == 130 and "the same submit goes on" in err
    bench.nobody_is_left()
    assert bench.run("--seeds", "1,2").returncode == 0
    assert scores(bench) == scores(undisturbed)


def test_eight_submits_at_once_make_one_set_of_attempts(make_bench, undisturbed):
    """One drives, seven follow; all end well, and each seed was started once."""
    bench = make_bench(SLOW)
    crowd = [bench.start("--seeds", "1,2") for _ in range(8)]
    try:
        ends = [process.communicate(timeout=120) for process in crowd]
    finally:
        for process in crowd:
            if process.returncode is None:
                stop(process)
    assert [process.returncode for process in crowd] == [0] * 8, [err for _, err in ends]
    assert len(events(bench, "attempt_created")) == len(bench.attempts()) == 2
    assert scores(bench) == scores(undisturbed)


def test_a_follower_takes_over_when_the_first_submit_is_killed(make_bench, tmp_path):
    """The second submit starts nothing while the first lives, and finishes its work when it dies."""
    bench = make_bench(toy_text({"sliding": f"hang:{tmp_path}"}))
    first = bench.start("--seeds", "1")
    folder = bench.reaches(1, '"sliding", "edge": "begin"')
    second = bench.start("--seeds", "1")
    try:
        assert any("following it" in line for line in second.stderr)
        assert bench.attempts() == [folder]
        first.send_signal(signal.SIGKILL)
        stop(first)
        _, err = second.communicate(timeout=60)
    finally:
        stop(second)
    assert second.returncode == 0 and "taking over" in err
    assert set(scores(bench)) == {1} and bench.attempts() == [folder]


def test_cancel_ends_the_runs_and_the_same_submit_goes_on(make_bench, tmp_path):
    """cancel: the submit ends with 3 (not finished), nobody is left; submitted again, it finishes."""
    bench = make_bench(toy_text({"train2": f"hang:{tmp_path}"}))
    first = bench.start("--seeds", "1")
    folder = bench.reaches(1, '"train", "edge": "begin"')
    asked = bench.run(verb="cancel")
    assert asked.returncode == 0, asked.stderr
    first.communicate(timeout=30)
    assert first.returncode == 3
    bench.nobody_is_left()
    assert json.loads((folder / "VOID.json").read_text())["class"] == "cancelled"
    assert bench.run(verb="status").returncode == 3
    assert bench.run("--seeds", "1").returncode == 0
    assert set(scores(bench)) == {1} and len(bench.attempts()) == 2


def test_the_submission_that_runs_is_meant_before_the_latest(make_bench, tmp_path):
    """Without an id, status and cancel are about the one that is driven, though another was registered after it."""
    bench = make_bench(toy_text({"train2": f"hang:{tmp_path}"}))
    first = bench.start("--seeds", "1")
    try:
        bench.reaches(1, '"train", "edge": "begin"')
        (tmp_path / "train2-2-0").touch()  # seed 2 does not hang
        later = bench.run("--seeds", "2", "-q")
        assert later.returncode == 0, later.stderr
        said = json.loads(bench.run("--json", verb="status").stdout)
        assert [row["seed"] for row in said["seeds"]] == [1]
        assert bench.run(verb="cancel").returncode == 0
        first.communicate(timeout=30)
    finally:
        stop(first)
    assert first.returncode == 3
    assert json.loads(bench.run("--json", verb="status").stdout)["submission_id"] == later.stdout.strip()


def test_failed_code_is_tried_again_only_when_asked(make_bench, tmp_path):
    """A crash of the code: exit code 1, no second attempt by the same submit, one with --retry-failed."""
    bench = make_bench(toy_text({"train2": f"crash:{tmp_path}"}))
    first = bench.run("--seeds", "1")
    assert first.returncode == 1 and "the toy crashed in train2" in first.stderr
    assert bench.run("--seeds", "1").returncode == 1 and len(bench.attempts()) == 1
    again = bench.run("--seeds", "1", "--retry-failed")
    assert again.returncode == 0, again.stderr
    assert (bench.attempt(1, 1) / "VOID.json").exists() and is_sealed(bench.attempt(1, 2))


def test_failed_code_is_tried_again_after_the_submit_that_runs(make_bench, tmp_path):
    """One that is followed does not hear of --retry-failed: when it has ended, the follower tries what failed."""
    bench = make_bench(toy_text({"train2": f"crash:{tmp_path}", "train3": f"wait {tmp_path}/go"}))
    (tmp_path / "train2-2-0").touch()  # of seed 2, as if it had crashed before
    first = bench.start("--seeds", "1,2")
    try:
        bench.reaches(1, "user_error", file="result.json")
        bench.reaches(2, "waiting", file="log.txt")
    except BaseException:
        stop(first)
        raise
    second = bench.start("--seeds", "1,2", "--retry-failed")
    try:
        until(lambda: "following it" in second.stderr.readline(), "the second submit follows")
        (tmp_path / "go").touch()
        assert first.wait(PATIENCE) == 1
        _, err = second.communicate(timeout=PATIENCE)
    finally:
        stop(first)
        stop(second)
    assert second.returncode == 0 and "taking over" in err, err
    assert len(bench.attempts()) == 3 and is_sealed(bench.attempt(1, 2))


def test_a_diagnostic_run_makes_tables_and_no_submission(make_bench):
    """Exit code 0, tables that say so, no submission folder; status stamps the score; again it starts nothing."""
    bench = make_bench(toy_text({"diagnostic": "yes"}), tables=True)
    done = bench.run("--seeds", "1")
    assert done.returncode == 0 and "no submission folder" in done.stderr, done.stderr
    (folder,) = outputs(bench)
    assert not (folder / "submission").exists() and "DIAGNOSTIC ONLY" in (folder / "table.md").read_text()
    bench.tables = False
    said = bench.run("--json", verb="status")
    assert json.loads(said.stdout)["seeds"][0]["diagnostic_only"] is True
    assert "(diagnostic)" in bench.run(verb="status").stdout
    assert bench.run("--seeds", "1").returncode == 0 and len(bench.attempts()) == 1


def test_a_packed_bundle_runs_is_counted_and_is_kept_readable(make_bench):
    """What runs and ships is the packed file; its source lies beside it, and is no part of the submission."""
    bench = make_bench(pack_source(toy_text()), tables=True)
    done = bench.run("--seeds", "1")
    assert done.returncode == 0, done.stderr
    (folder,) = outputs(bench)
    assert (folder / "train_gpt.readable.py").read_text() == toy_text()
    for packed in (folder, folder / "submission", bench.attempt(1)):
        assert (packed / "train_gpt.py").read_text() == bench.text
    facts = json.loads((folder / "submission" / "submission.json").read_text())
    assert facts["bytes_code"] == len(bench.text) < len(toy_text())
    assert {path.name for path in (folder / "submission").glob("train_gpt*")} == {"train_gpt.py"}
    assert not (bench.attempt(1) / "train_gpt.readable.py").exists()


def test_secrets_are_found_nowhere(make_bench):
    """A secret in the environment is in no file of the runs folder, though the bundle prints its environment."""
    bench = make_bench(toy_text({"setup": "environ"}))
    bench.extra_env = {"HF_TOKEN": "s3cr3t-marker", "HARMLESS": "h4rmless-marker"}
    assert bench.run("--seeds", "1").returncode == 0
    holding = {marker: [] for marker in (b"s3cr3t-marker", b"h4rmless-marker")}
    for path in bench.runs_dir.rglob("*"):
        for marker, found in holding.items():
            if path.is_file() and marker in path.read_bytes():
                found.append(path.name)
    assert holding[b"s3cr3t-marker"] == [] and "log.txt" in holding[b"h4rmless-marker"]


def test_ranks_of_torchrun_end_with_the_submit(make_bench):
    """Under real torchrun: kill -9 of the submitting process ends both ranks, though they have their own sessions."""
    bench = make_bench(toy_text({"train3": "hang"}))
    first = bench.start("--seeds", "1", "--launcher", "torchrun", "--processes", "2")
    try:
        bench.reaches(1, "step 2", file="log.txt")
        ranks = [pid for pid in carrying("SEED", "1") if "train_gpt.py" in command_line(pid)]
        assert len(ranks) >= 2
    finally:
        first.send_signal(signal.SIGKILL)
        stop(first)
    until(lambda: not carrying(MARK, bench.mark), "the end of all", 10)


@pytest.mark.xdist_group("ray")
@pytest.mark.parametrize("patient", [False, pytest.param(True, marks=pytest.mark.whole)])
def test_a_kill_of_a_submit_on_ray(make_bench, undisturbed, patient):
    """kill -9 on local Ray: our processes and actors are gone in 10 s, Ray's agents, which look for their raylet once a
    minute, in 90; the same submit without Ray finishes it."""
    bench = make_bench(SLOW, backend="ray")
    first = bench.start("--seeds", "1,2")
    try:
        folder = bench.reaches(1, '"train", "edge": "begin"')
    finally:
        first.send_signal(signal.SIGKILL)
        stop(first)

    def ours():
        lines = map(command_line, carrying(MARK, bench.mark))
        return [line for line in lines if "train_gpt.py" in line or ("ray::" in line and "Agent" not in line)]

    until(lambda: not ours(), "the end of the bundle and its actor", 10)
    if patient:
        bench.nobody_is_left(90)
    for agent in carrying(MARK, bench.mark):
        os.kill(agent, signal.SIGKILL)
    bench.backend = "process"
    assert bench.run("--seeds", "1,2").returncode == 0
    # Whoever was first: Ray ends the ranks, the worker sees its parent gone, or neither could say anything.
    assert json.loads((folder / "VOID.json").read_text())["class"] in OUTSIDE
    assert scores(bench) == scores(undisturbed)
