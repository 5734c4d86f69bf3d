"""A run that counts and whose log tells no score: it is in no mean, and nothing is whole without it."""

import dataclasses
import json
import math
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from results.cli import app
from results.collect import collect
from results.project import Project
from results.tables import spread_lines
from results.tables.leaderboard import leaderboard_table
from tests.orchestrator.monoliths import MONOLITH, script_submission, sealed_runs
from tests.results.attempts import Runs

SILENT = 'import os\nif os.environ["SEED"] in os.environ["SILENT"]:\n    print("hello"); raise SystemExit\n' + MONOLITH


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A submission of three scored seeds."""
    return collect(Runs(tmp_path_factory.mktemp("scored") / "runs").all_attempts().folder)


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """Submissions of one script of two seeds: by how many of them are silent."""
    said = subprocess.run([sys.executable, "-m", "golf_core.data.embedded"], capture_output=True, text=True, check=True)
    corpus, runs = json.loads(said.stdout.splitlines()[-1]), tmp_path_factory.mktemp("scripts") / "runs"
    environments = {count: [("SILENT", who), ("ITERATIONS", "5")] for count, who in ((0, "-"), (1, "2"), (2, "12"))}
    return {
        count: sealed_runs(runs, script_submission(corpus, SILENT, environment, None, seeds=(1, 2)))
        for count, environment in environments.items()
    }


def results(verb, *words, columns=None):
    """The command in this process: exit_code, stdout and stderr."""
    width = None if columns is None else str(columns)
    return CliRunner().invoke(app, [verb, *map(str, words)], env={"COLUMNS": width, "TERMINAL_WIDTH": width})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(scored=st.lists(st.booleans(), min_size=3, max_size=3))
def test_a_mean_waits_for_every_registered_seed(found, scored):
    """Whichever seeds have a score: n counts these, and the board has a number only where that is all of them."""
    rows = [
        row if one else dataclasses.replace(row, val_bpb=None, val_loss=None, final_stage=None)
        for row, one in zip(found.rows, scored, strict=True)
    ]
    (told,) = leaderboard_table([dataclasses.replace(found, rows=rows)], Project()).records
    assert (told["n"], told["registered"]) == (sum(scored), 3)
    assert (told["val_bpb"] is not None) == all(scored) == (told["status"] == "counted")
    assert all(str(row.seed) in told["status"] for row, one in zip(rows, scored, strict=True) if not one)
    lines = spread_lines(rows)
    assert len(lines) == (2 if any(scored) else 0)
    for line in lines:
        assert f"({found.rows[0].final_stage})" in line
        assert (f"{sum(scored)} of 3 registered seeds" in line) == (not all(scored))
        assert f"n={sum(scored)}" in line


def test_a_board_of_whole_submissions_has_their_means(found):
    """The mean over all registered seeds, as the legend says."""
    (told,) = leaderboard_table([found], Project()).records
    assert told["val_bpb"] == pytest.approx(math.fsum(row.val_bpb for row in found.rows) / 3)


@pytest.mark.parametrize("silent", [0, 1, 2])
@pytest.mark.parametrize("words", [(), ("--table", "leaderboard"), ("--table", "ablation")])
def test_a_silent_seed_is_not_finished(scripts, words, silent):
    """`collect` of a script ends with 3 where a log tells no score, as where a seed is missing; never with a trace."""
    folder = scripts[silent]
    done = results("collect", folder.name, *words, "--runs-dir", folder.parent)
    assert done.exit_code == (3 if silent else 0) and isinstance(done.exception, SystemExit | None)
    if words == ("--table", "leaderboard"):
        assert (f"pending ({2 - silent}/2 seeds" in done.stdout) == bool(silent)


def test_all_ends_with_the_worst_of_its_submissions(scripts, tmp_path):
    """A silent or missing seed 3, a failed one 1, as of one submission; the page of a script says whose numbers."""
    everything = results("collect", "--all", "--runs-dir", scripts[0].parent)
    page = results("report", scripts[1].name, "--runs-dir", scripts[0].parent, "--out", tmp_path / "page.html")
    assert (everything.exit_code, page.exit_code) == (3, 3)
    said = (tmp_path / "page.html").read_text()
    assert "are what its own log says" in said
    assert "its log tells no score" in said
    runs = Runs(tmp_path / "runs")
    runs.attempt(runs.seeds[0])
    missing = [results("collect", word, "--runs-dir", runs.runs_dir) for word in (runs.folder.name, "--all")]
    runs.failed(runs.seeds[1])
    failed = [results("collect", word, "--runs-dir", runs.runs_dir) for word in (runs.folder.name, "--all")]
    assert [one.exit_code for one in missing + failed] == [3, 3, 1, 1]


@pytest.mark.parametrize("columns", [80, 120])
def test_what_collect_prints_keeps_to_the_terminal(scripts, columns):
    """No line of tables or sentences is wider than COLUMNS."""
    done = results("collect", scripts[1].name, "--runs-dir", scripts[1].parent, columns=columns)
    assert max(map(len, done.stdout.splitlines())) <= columns


@pytest.mark.parametrize("verb", ["collect", "report"])
def test_help_shows_its_defaults(verb):
    """What a help text says of a default is not taken for markup."""
    said = " ".join(results(verb, "--help", columns=200).stdout.split())
    assert ("default:" in said) and "[default: None]" not in said


def test_a_folder_as_the_reports_place_is_a_usage_error(scripts, tmp_path):
    """One line that names the folder and a file in it."""
    done = results("report", scripts[0].name, "--runs-dir", scripts[0].parent, "--out", tmp_path)
    assert done.exit_code == 2 and f"--out {tmp_path} is a folder" in done.stderr
    assert f"{tmp_path}/report.html" in done.stderr and not list(tmp_path.iterdir())
