"""What the verbs of results share on the command line: pipes, repeated ids, names of options in errors."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from results.cli import app
from tests.results.attempts import Runs

ROOT = Path(__file__).resolve().parents[2]


def called(*words):
    return CliRunner().invoke(app, [*map(str, words)])


@pytest.mark.parametrize("verb", [("collect", "--json"), ("pack",), ("compare", "--json")], ids=lambda verb: verb[0])
def test_a_reader_that_has_gone_is_no_error(tmp_path, verb):
    """Exit code 141 as of any command before `head`, and no word."""
    runs = Runs(tmp_path).all_attempts()
    name, *options = verb
    sides = [runs.folder, runs.folder] if name == "compare" else [runs.submission_id, "--runs-dir", tmp_path]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "results", name, *map(str, sides), *options],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    os.close(write)
    assert done.returncode == 141 and "ipe" not in done.stderr, done.stderr


def test_one_submission_given_twice_is_one(tmp_path):
    """Its own table, and a word of it: no ablation of one row."""
    runs = Runs(tmp_path).all_attempts()
    done = called("collect", runs.submission_id, runs.submission_id[:8], "--runs-dir", tmp_path)
    assert done.exit_code == 0 and "given 2 times: it is one submission" in done.stderr
    assert "Ablation" not in done.stdout and "Seed" in done.stdout


@pytest.mark.parametrize("option, place", [("--charts", "/proc/none/x"), ("--out", "/proc/none/x.html")])
def test_a_place_that_cannot_be_written_is_named_with_its_option(tmp_path, option, place):
    """The path, why, and what names another; exit code 5."""
    runs = Runs(tmp_path).all_attempts()
    done = called("report", runs.submission_id, "--runs-dir", tmp_path, option, place)
    assert done.exit_code == 5 and place in done.stderr and f"name another place with {option}" in done.stderr


def test_pack_gives_one_submission_its_own_name(tmp_path):
    """`--name` goes before golf.toml; what is no line of text is refused."""
    runs = Runs(tmp_path).all_attempts()
    words = ("pack", runs.submission_id, "--runs-dir", tmp_path)
    done = called(*words, "--name", "Warm tail")
    assert done.exit_code == 0, done.output
    assert json.loads((Path(done.stdout.strip()) / "submission.json").read_text())["name"] == "Warm tail"
    assert called(*words, "--name", " ").exit_code == 2


@pytest.mark.parametrize("verb", ["collect", "report", "pack", "verify"])
def test_help_has_one_word_for_a_submission(verb):
    """SUBMISSION, whichever verb takes one."""
    done = CliRunner().invoke(app, [verb, "--help"], env={"COLUMNS": "200"})
    usage = next(line for line in done.stdout.splitlines() if "Usage" in line)
    assert "SUBMISSION" in usage and "submission" not in usage and "_ID" not in usage
