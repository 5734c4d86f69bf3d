"""Faults of this machine, against real submits with real workers: kills, a full disk, a crowd, clocks, bad data, hangs.

The toy trains, step-limited, so that its scores are the same whatever happens on the way.
"""

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from golf_core.rundir import VOID, is_sealed, read_json, read_jsonl
from orchestrator.policy import OUTSIDE
from tests.chaos.invariants import check, expected, ledger_rows, scores_of
from tests.orchestrator import test_data_check
from tests.orchestrator.toy import MARK, TOY, Bench, stop, toy_text
from tests.processes import carrying, command_line, until

CHAOS = pytest.mark.chaos


@pytest.fixture(scope="module")
def calm(tmp_path_factory, corpus):
    """Scores of seeds 1 and 2 that nothing disturbed."""
    bench = Bench(tmp_path_factory.mktemp("calm"), corpus, TOY)
    done = bench.run("--seeds", "1,2")
    assert done.returncode == 0, done.stderr
    return scores_of(bench.runs_dir)


def well(bench, calm, *seeds):
    check(bench.runs_dir, expected(calm, bench.text, *seeds), mark=bench.mark)


# --- fault 2: a process of an attempt is killed


def pids_of(bench, victim, folder):
    """The worker, torchrun, or one rank of an attempt."""
    if victim == "worker":
        return carrying("GOLF_WORKER_FOLDER", str(folder.resolve()))
    ours = [pid for pid in carrying("SEED", "1") if pid in carrying(MARK, bench.mark)]
    launchers = [pid for pid in ours if "torch.distributed.run" in command_line(pid)]
    ranks = [pid for pid in ours if "train_gpt.py" in command_line(pid) and pid not in launchers]
    return launchers if victim == "torchrun" else ranks[-1:]


PLACES = {"training": "train3", "serialisation": "compress", "evaluation": "sliding"}
QUICK = [("worker", "serialisation"), ("rank", "evaluation")]
KILLS = [(victim, place) for victim in ("worker", "torchrun", "rank") for place in PLACES]


@pytest.mark.parametrize(
    "victim, place, processes",
    [(*one, 1) for one in QUICK] + [pytest.param(*one, 2, marks=CHAOS) for one in KILLS],
)
def test_a_killed_process_of_an_attempt(make_bench, calm, tally, tmp_path, victim, place, processes):
    """Void and trained again, or evaluated again; nobody is left of the killed attempt."""
    count = tally(f"2 {victim} killed in {place}")
    where = PLACES[place]
    bench = make_bench(toy_text({where: f"hang:{tmp_path}"}))
    launcher = ("--launcher", "torchrun", "--processes", "2") if processes == 2 else ()
    submit = bench.start("--seeds", "1", *launcher)
    try:
        until(lambda: len(list(tmp_path.glob(f"{where}-1-*"))) == processes, "all ranks hang")
        folder = bench.attempt(1)
        count.injected += 1
        for pid in pids_of(bench, victim, folder):
            os.kill(pid, signal.SIGKILL)
            count.fired = 1
        with count.recovery():
            _, err = submit.communicate(timeout=120)
            assert submit.returncode == 0, err
            well(bench, calm, 1)
    finally:
        stop(submit)
    again = bench.attempt(1, 2)
    assert (again is None) == (place == "evaluation" and is_sealed(folder))
    if again is not None:
        assert read_json(folder / VOID)["class"] in OUTSIDE


# --- fault 5: the disk is full

FILL = """    if what.startswith("fill "):
        try:
            with open(what.removeprefix("fill "), "wb") as filler:
                while filler.write(bytes(4096)):
                    filler.flush()
        except OSError as error:  # full, or a folder of that name is in the way
            say(64 * f"{error} ")
"""


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a file system of 3 MB of its own; where nothing may be mounted the fault cannot be made."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "golf", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


FULL = {"log": "train2", "artifact": "compress", "ledger and seal": "ttt", "result": "train5"}


@pytest.mark.parametrize("what", ["artifact", *(pytest.param(one, marks=CHAOS) for one in FULL if one != "artifact")])
def test_a_full_disk(small_disk, corpus, calm, tally, what):
    """A clear error; the ledger can be read; the same submit goes on once there is space."""
    count = tally(f"5 disk full while writing {what}")
    filler = small_disk / "filler"
    text = toy_text({FULL[what]: f"fill {filler}"}).replace("    if what ==", FILL + "    if what ==", 1)
    text = text.replace('what, _, once = what.partition(":")', 'once = ""')
    bench = Bench(small_disk, corpus, text)
    count.injected += 1
    full = bench.run("--seeds", "1")
    count.fired += filler.exists()
    with count.recovery():
        assert full.returncode in (1, 3, 5), full.stderr
        assert "Traceback" not in full.stderr, full.stderr
        assert "No space left" in full.stderr or "disk is full" in full.stderr, full.stderr
        assert ledger_rows(bench.runs_dir), "the ledger cannot be read"
        filler.unlink()
        filler.mkdir()  # so that nothing fills the disk again
        again = bench.run("--seeds", "1", "--retry-failed")
        assert again.returncode == 0, again.stderr
        well(bench, calm, 1)


# --- fault 6: many at once


@CHAOS
def test_twenty_submits_at_once(make_bench, calm, tally):
    """One submission, each seed started once, all twenty end well."""
    count = tally("6 the same submit 20 times at once")
    bench = make_bench(toy_text(pause=0.2))
    count.injected += 20
    crowd = [bench.start("--seeds", "1,2") for _ in range(20)]
    try:
        with count.recovery():
            ends = [process.communicate(timeout=240)[1] for process in crowd]
            assert [process.returncode for process in crowd] == [0] * 20, ends
            kinds = [row[1] for row in ledger_rows(bench.runs_dir)]
            assert kinds.count("submission_registered") == 1 and kinds.count("attempt_created") == 2
            well(bench, calm)
    finally:
        for process in crowd:
            stop(process)
    count.fired += sum("following it" in end or "taking over" in end for end in ends) + 1
    count.survived = count.fired


def test_the_same_name_with_other_content_is_refused(make_bench, tally):
    """A folder of that name that holds another submission is never written into."""
    count = tally("6 the same name with other content")
    bench = make_bench(TOY)
    assert bench.run("--seeds", "1").returncode == 0
    (spec,) = bench.runs_dir.glob("*/spec.json")
    told = json.loads(spec.read_text())
    spec.write_text(json.dumps(told | {"submission_id": told["submission_id"][:12] + "0" * 52}))
    before = {path: path.read_bytes() for path in spec.parent.rglob("*") if path.is_file()}
    count.injected += 1
    refused = bench.run("--seeds", "1")
    count.fired += refused.returncode != 0
    with count.recovery():
        assert refused.returncode == 2 and "Traceback" not in refused.stderr, refused.stderr
        assert {path: path.read_bytes() for path in spec.parent.rglob("*") if path.is_file()} == before


# --- fault 8: the wall clock jumps

JUMPING = '''"""In the path of every process: the wall clock jumps by an hour, both ways, again and again."""

import datetime
import time

started, real, calls = time.monotonic(), time.time, 0


def jumped():
    global calls
    calls += 1
    return real() + (0, 3600, -3600)[calls % 3]


class Jumping(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime.fromtimestamp(jumped(), tz)


time.time = jumped
time.time_ns = lambda: int(jumped() * 1e9)
datetime.datetime = Jumping
'''


def test_a_wall_clock_that_jumps(make_bench, calm, tally, tmp_path):
    """Durations are the monotonic clock's: no limit fires, no lease is lost; what is disturbed says so and is repeated
    at most as its class allows."""
    count = tally("8 wall clock jumps by an hour, both ways")
    bench = make_bench(toy_text(pause=0.05))
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(JUMPING)
    bench.extra_env = {"PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), str(Path(__file__).parents[2])])}
    count.injected += 1
    done = bench.run("--seeds", "1,2")
    assert done.returncode == 0, done.stderr
    times = [row["at"] for row in events_at(bench)]
    count.fired += times != sorted(times)
    with count.recovery():
        well(bench, calm)
        for folder in bench.attempts():
            result = read_json(folder / "result.json")
            for key in ("worker_seconds", "train_seconds", "evaluate_seconds"):
                assert 0 <= result[key] < 600, result
            rows = [row["t"] for row in read_jsonl(folder / "phases.jsonl")]
            assert rows == sorted(rows)


def events_at(bench):
    """When each event was written, as the ledger tells it."""
    db = sqlite3.connect(bench.runs_dir / "ledger.sqlite")
    rows = [{"at": row[0]} for row in db.execute("SELECT at FROM events ORDER BY seq")]
    db.close()
    return rows


# --- fault 11: SIGTERM with grace, then a start on the same input


def test_a_preempted_worker_is_not_begun_again_in_its_folder(make_bench, calm, tally, tmp_path):
    """SIGTERM ends the attempt with its class; somebody who starts a worker on the same folder is refused, the logs are
    not mixed; the retry has a number and a folder of its own."""
    count = tally("11 worker preempted by SIGTERM, started again on its input")
    bench = make_bench(toy_text({"train3": f"hang:{tmp_path}"}))
    submit = bench.start("--seeds", "1")
    try:
        until(lambda: list(tmp_path.glob("train3-1-*")), "training")
        folder = bench.attempt(1)
        count.injected += 1
        for pid in carrying("GOLF_WORKER_FOLDER", str(folder.resolve())):
            os.kill(pid, signal.SIGTERM)
            count.fired = 1
        _, err = submit.communicate(timeout=60)
        assert submit.returncode == 0, err
    finally:
        stop(submit)
    with count.recovery():
        assert read_json(folder / VOID)["class"] in OUTSIDE
        log = (folder / "log.txt").read_bytes()
        command = [sys.executable, "-m", "orchestrator.worker", str(folder)]
        subprocess.run(command, env=bench.environment(), stdin=subprocess.DEVNULL, timeout=60, check=False)
        assert (folder / "log.txt").read_bytes() == log and not is_sealed(folder)
        assert log.count(b"step 1/") == 1 and bench.attempt(1, 2) is not None
        well(bench, calm, 1)


# --- fault 14: bad data


BAD = ("empty shard", "wrong magic", "wrong count", "wrong hash", "sidecar as val")


@pytest.mark.parametrize("kind", [pytest.param(one, marks=() if one == "wrong count" else CHAOS) for one in BAD])
def test_bad_data_is_refused_before_anything_is_spent(make_bench, corpus, tally, tmp_path, kind):
    """Exit code 2 and a message that names the file; no attempt is made, no submission registered."""
    count = tally(f"14 {kind}")
    folder = tmp_path / "data"
    shutil.copytree(Path(corpus["data_path"]), folder)
    spoil, says = test_data_check.BAD[kind]
    spoil(folder)
    bench = make_bench(TOY)
    bench.corpus = {**corpus, "data_path": str(folder)}
    count.injected += 1
    refused = bench.run("--seeds", "1")
    count.fired += refused.returncode != 0
    with count.recovery():
        assert refused.returncode == 2 and "Traceback" not in refused.stderr, refused.stderr
        assert re.search(says, refused.stderr.replace("\n", " ")), refused.stderr
        assert not bench.runs_dir.exists()


# --- fault 15: ends of the program's own


ENDS = {
    "hang without output": ({"train3": "hang"}, ("--silence-seconds", "2"), "silent"),
    "NaN loss": ({"train3": "nan"}, (), "nan"),
    "out of memory": ({"train3": "memory"}, (), "memory"),
    "import error": ({"setup": "import"}, (), "user_error"),
    "no first phase": ({"start": "hang"}, ("--startup-seconds", "2"), "startup"),
}
MORE = """    if what == "memory":
        raise MemoryError("the toy has no memory left")
    if what == "import":
        import a_kernel_that_is_not_there
"""


@pytest.mark.parametrize("kind", [pytest.param(one, marks=() if one == "NaN loss" else CHAOS) for one in ENDS])
def test_how_a_program_ends_has_its_class(make_bench, calm, tally, kind):
    """Class and policy are right: the user's own fault is not tried again, and the watchdog leaves nobody."""
    behaviour, flags, cls = ENDS[kind]
    count = tally(f"15 {kind}")
    text = toy_text(behaviour).replace("    if what ==", MORE + "    if what ==", 1)
    text = text.replace('    say("phase:begin setup")\n', '    behave("start", folder)\n    say("phase:begin setup")\n')
    bench = make_bench(text)
    count.injected += 1
    done = bench.run("--seeds", "1", *flags)
    with count.recovery():
        ends = [json.loads(row[-1]) for row in ledger_rows(bench.runs_dir) if row[1] == "attempt_ended"]
        assert {end["class"] for end in ends} == {cls}, (ends, done.stderr)
        count.fired += 1
        count.note(f"{cls}, {len(bench.attempts())} attempts")
        assert done.returncode == (3 if cls in OUTSIDE else 1), done.stderr
        assert len(bench.attempts()) == (3 if cls in OUTSIDE else 1)
        bench.nobody_is_left()
