"""What a submit tells of what else was run, of why a seed failed, of an interruption, and what to type next."""

import json
import signal

import pytest

from orchestrator.last_words import SHOWN, last_words
from orchestrator.ledger.store import Ledger
from orchestrator.registered import chosen
from tests.orchestrator.monoliths import ScriptBench, monolith
from tests.orchestrator.test_submit import SLOW, outputs


def spec_of(bench, seeds):
    """The spec.json of the submission of these seeds, and its folder."""
    for folder in outputs(bench):
        spec = json.loads((folder / "spec.json").read_text())
        if spec["seeds"] == seeds:
            return spec, folder
    raise AssertionError(f"no submission of {seeds}")


def test_seeds_that_were_run_and_left_out_are_named(make_bench):
    """By the plan, in spec.json, and on a later submit of the same; a seed once told stays told."""
    bench = make_bench()
    assert bench.run("--seeds", "1,2,3").returncode == 0
    picked = bench.run("--seeds", "1,2")
    assert picked.returncode == 0 and "also run under this configuration: seed 3 (counted)" in picked.stderr
    whole, _ = spec_of(bench, [1, 2, 3])
    spec, folder = spec_of(bench, [1, 2])
    assert spec["other_seeds"] == [whole["runs"][2]] and whole["other_seeds"] == []
    assert bench.run("--seeds", "4").returncode == 0
    bench.attempt(3).rename(bench.folder / "away")
    assert "seed 3 (gone), seed 4 (counted)" in bench.run("--seeds", "1,2", "--dry-run").stdout
    bench.run("--seeds", "1,2")
    refreshed = json.loads((folder / "spec.json").read_text())
    assert [one["seed"] for one in refreshed["other_seeds"]] == [3, 4]
    assert refreshed | {"other_seeds": []} == spec | {"other_seeds": []}


def test_an_interrupted_submit_is_no_failure(make_bench):
    """Its attempt is void at once; status says so and that the same submit goes on, -v tells the interruption."""
    bench = make_bench(SLOW)
    first = bench.start("--seeds", "1")
    folder = bench.reaches(1, '"train", "edge": "begin"')
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=30)
    assert first.returncode == 130 and json.loads((folder / "VOID.json").read_text())["class"] == "orphaned"
    status = bench.run("-v", verb="status")
    assert status.returncode == 3 and "seed 1: stopped · attempt 1 is void (orphaned: the submit was" in status.stdout
    assert "the same submit goes on" in status.stdout and "the submit was interrupted while seed 1 ran" in status.stdout
    bench.tables = True
    done = bench.run("--seeds", "1")
    assert done.returncode == 0 and done.stderr.count("does not count") == 1, done.stderr
    (made,) = outputs(bench)
    assert f"python -m results verify {made.name} --runs-dir" in done.stderr and "  ls " not in done.stderr
    assert str(made / "report.html") in done.stderr.partition("next:")[2]


def test_an_interrupted_evaluation_keeps_the_training(make_bench):
    """Nothing is void: status says that the training is sealed, and the same submit evaluates the same attempt."""
    bench = make_bench(SLOW)
    first = bench.start("--seeds", "1")
    folder = bench.reaches(1, '"sliding", "edge": "begin"')
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=30)
    assert first.returncode == 130 and not (folder / "VOID.json").exists()
    assert "its training is sealed" in bench.run(verb="status").stdout
    assert bench.run("--seeds", "1").returncode == 0 and bench.attempts() == [folder]


def test_a_script_that_fails_shows_its_last_words_once(make_bench):
    """Without control characters, with the command for all of the log, and the row once."""
    text = "import sys\nprint('one')\nprint('\\x1b[31mno data: shard 7\\x1b[0m is missing')\nsys.exit(1)\n"
    bench = make_bench(text, kind=ScriptBench)
    done = bench.run("--seeds", "1")
    assert done.returncode == 1 and "\x1b" not in done.stderr
    assert done.stderr.count("no data: shard 7 is missing") == 1 and done.stderr.count("exit code 1") == 1
    (made,) = outputs(bench)
    assert f"python -m orchestrator logs {made.name} --seed 1 --runs-dir" in done.stderr
    assert "status" not in done.stderr.partition("next:")[2]


LOGS = {
    "no log": (None, []),
    "nothing in it": (b"\n\n", []),
    "a progress bar": (b"10%\r50%\rdone\r\n", ["done"]),
    "more than is shown": (b"\n".join(b"%d" % n for n in range(99)), [str(n) for n in range(99 - SHOWN, 99)]),
    "what torchrun adds": (
        b"ValueError: x\nE0101 10:00:00.0 77 torch/distributed/elastic/multiprocessing/api.py:1] failed\nRoot Cause\n",
        ["ValueError: x"],
    ),
    "nothing but torchrun": (b"torch.distributed.elastic: bad port\n", ["torch.distributed.elastic: bad port"]),
    "titles, bells and bytes": (b"\x1b]0;title\x07a\x07b\xff\n", ["ab\ufffd"]),
    "a long line": (b"x" * 900, ["x" * 197 + "..."]),
}


@pytest.mark.parametrize("text, lines", LOGS.values(), ids=LOGS)
def test_last_words_are_lines_for_a_terminal(tmp_path, text, lines):
    """The last that say something, of the program itself."""
    if text is not None:
        (tmp_path / "log.txt").write_bytes(text)
    assert last_words(tmp_path) == lines


def test_status_shows_the_collected_score_of_a_script(make_bench):
    """As the table has it; before there is a table nothing, and what is no number is no score."""
    bench = make_bench(monolith("new"), kind=ScriptBench, tables=True)
    assert bench.run("--seeds", "1", "--env", "ITERATIONS=10").returncode == 0
    (made,) = outputs(bench)
    status = json.loads(bench.run("--json", verb="status").stdout)
    score = status["seeds"][0]["score"]
    assert f"{score:.8f}" in (made / "table.md").read_text()
    assert f"BPB {score:.4f} (of its log, as collected)" in bench.run(verb="status").stdout
    (made / "scores.csv").write_text("seed,val_bpb\n1,nan\n")
    assert "as collected" not in bench.run(verb="status").stdout


def test_a_submission_that_was_moved_away_is_not_the_latest(make_bench):
    """Its folder retires it: status goes to another, and nothing else stumbles over it."""
    bench = make_bench()
    assert bench.run("--seeds", "1").returncode == 0
    assert bench.run("--seeds", "2").returncode == 0
    _, folder = spec_of(bench, [2])
    folder.rename(bench.folder / "away")
    status = bench.run(verb="status")
    assert status.returncode == 0 and "seed 1: done" in status.stdout, status.stderr
    with Ledger.open(bench.runs_dir) as ledger:
        assert chosen(ledger, None) == spec_of(bench, [1])[0]["submission_id"]
