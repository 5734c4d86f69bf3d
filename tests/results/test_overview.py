"""collect of several submissions and of all: results.csv, the printed forms, exit codes; damaged ones are listed."""

import csv
import io
import json
import random
from hashlib import sha256

import pytest
from typer.testing import CliRunner

from golf_core.rundir import ARTIFACT, write_json
from results.cli import app
from results.content import HEAD, REMEMBERED
from results.overview import look_at_all, write_overview
from results.rows import COLUMNS
from tests.results.attempts import CODE, Runs, stage


def make(runs_dir, name, bpb, grid=None, seeds=(1337, 42)):
    runs = Runs(runs_dir, recipe=name, code=CODE + f"# {name}\n", seeds=seeds)
    if grid is not None:
        place = {"name": "g", "base": "g.base", "position": grid, "of": 3}
        write_json(runs.folder / "spec.json", runs.spec | {"grid": place})
    for seed in seeds:
        runs.attempt(seed, stages={"roundtrip": stage(bpb + seed / 1e6)})
    return runs


@pytest.fixture
def grid(tmp_path):
    """Three variants of a grid, made in another order than theirs."""
    made = [make(tmp_path / "runs", f"g.{name}", bpb, place) for name, bpb, place in NAMES]
    return dict(zip(("worse", "base", "better"), made, strict=True))


NAMES = (("worse", 1.6, 3), ("base", 1.5, 1), ("better", 1.4, 2))


def results(runs_dir, *arguments, columns=None, verb="collect"):
    env = {"COLUMNS": str(columns) if columns else None}
    done = CliRunner().invoke(app, [verb, *arguments, "--runs-dir", str(runs_dir)], env=env)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def test_the_overview_does_not_depend_on_order_or_time(tmp_path):
    """Made in any order, looked at twice, with other files about: the same bytes."""
    texts = set()
    for order in range(4):
        runs_dir = tmp_path / str(order) / "runs"
        names = list(NAMES)
        random.Random(order).shuffle(names)
        for name, bpb, place in names:
            make(runs_dir, f"g.{name}", bpb, place)
        (runs_dir / "notes.txt").write_text("mine")
        for _ in range(2):
            write_overview(runs_dir, look_at_all(runs_dir))
            texts.add((runs_dir / "results.csv").read_bytes())
    assert len(texts) == 1
    rows = list(csv.DictReader(io.StringIO(texts.pop().decode())))
    assert list(rows[0]) == list(COLUMNS) and len(rows) == 6
    ids = [row["submission_id"] for row in rows]
    assert ids == sorted(ids) and [row["seed"] for row in rows] == ["1337", "42"] * 3


def test_all_prints_rows_and_lists_what_is_damaged(grid):
    """results.csv holds what can be read; the rest is named on stderr and in JSON, and the exit code is 5."""
    runs_dir = grid["base"].runs_dir
    assert results(runs_dir, "--all").exit_code == 0
    (grid["better"].folder / "spec.json").write_text("{}")
    (grid["worse"].attempt_folder(42) / ARTIFACT).write_bytes(b"other")
    (runs_dir / ("0" * 12)).mkdir()
    done = results(runs_dir, "--all", "--json")
    assert done.exit_code == 5, done.stderr
    told = json.loads(done.stdout)
    assert [row["status"] for row in told["rows"]].count("counted") == 3 and len(told["rows"]) == 4
    for folder in (grid["better"].folder, grid["worse"].folder, runs_dir / ("0" * 12)):
        assert any(str(folder) in problem for problem in told["problems"]) and str(folder) in done.stderr
    assert len(told["problems"]) == 3
    page = results(runs_dir, "--all", "--format", "html").stdout
    assert page.count("<p>Damaged: ") == 3 and "0" * 12 in page
    printed = results(runs_dir, "--all", "--format", "csv").stdout
    assert printed == (runs_dir / "results.csv").read_text() and "counted" in printed


def test_several_submissions_give_an_ablation_table(grid):
    """Against the grid's first, or the chosen one; the tables of each are written; 80 columns are enough."""
    runs_dir, ids = grid["base"].runs_dir, [one.submission_id[:12] for one in grid.values()]
    done = results(runs_dir, *ids, columns=80)
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines if "2/2" in line] == ["base", "better", "worse"]
    assert max(map(len, lines)) <= 80 and "base (base)" in done.stdout and "-0.1" in done.stdout
    assert all((one.folder / "table.md").is_file() for one in grid.values())
    told = json.loads(results(runs_dir, *ids, "--base", "g.worse", "--json").stdout)
    assert (told["rows"][0]["variant"], told["rows"][0]["is_base"]) == ("worse", True)
    assert all(row["is_base"] or row["delta_bpb"] < 0 for row in told["rows"])


def test_a_base_that_was_not_named_is_taken_along(grid):
    """--base may name any submission of the runs folder; the first named is the base where there is no grid's."""
    runs_dir = grid["base"].runs_dir
    one, other = (grid[name].submission_id[:12] for name in ("worse", "better"))
    told = json.loads(results(runs_dir, one, "--base", other, "--json").stdout)
    assert [(row["variant"], row["is_base"]) for row in told["rows"]] == [("better", True), ("worse", False)]
    told = json.loads(results(runs_dir, one, other, "--json").stdout)
    assert [(row["variant"], row["is_base"]) for row in told["rows"]] == [("worse", True), ("better", False)]


@pytest.mark.parametrize("table", [(), ("--table", "ablation"), ("--table", "leaderboard")])
def test_an_empty_folder_gives_an_empty_table(tmp_path, table):
    """JSON with no rows, a results.csv of one line, exit code 0; a folder that is none is told."""
    told = results(tmp_path, "--all", "--json", *table)
    assert told.exit_code == 0 and json.loads(told.stdout)["rows"] == []
    assert (tmp_path / "results.csv").read_text().splitlines() == [",".join(COLUMNS)]
    missing = results(tmp_path / "none", "--all", "--json", *table)
    assert missing.exit_code == 5 and "there are no submissions" in missing.stderr and not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--format", "xml"], "table, csv, md, json, html"),
        (["--all", "--table", "best"], "seeds, ablation, leaderboard"),
        ([], "--all"),
        (["a", "--all"], "not both"),
        (["a", "b", "--table", "seeds"], "of one submission"),
        (["--all", "--table", "leaderboard", "--base", "x"], "--base is of the ablation table"),
        (["--all", "--base", "nobody"], "none of them; there are"),
        (["zzz", "--table", "ablation"], "is no submission"),
    ],
)
def test_usage_errors_say_what_there_is(grid, arguments, says):
    """Exit code 2, one line, nothing on stdout."""
    done = results(grid["base"].runs_dir, *arguments)
    assert (done.exit_code, done.stdout) == (2, "") and says in done.stderr


def test_one_submission_keeps_its_exit_codes(grid, tmp_path):
    """0 finished, 3 not finished, 1 failed; a seed table can be had as a page."""
    runs_dir = grid["base"].runs_dir
    page = results(runs_dir, grid["base"].submission_id[:12], "--format", "html")
    assert page.exit_code == 0 and page.stdout.startswith("<!doctype html>") and "<caption>g.base" in page.stdout
    waiting = Runs(runs_dir, recipe="w", code="# w\n")
    assert results(runs_dir, waiting.submission_id[:12]).exit_code == 3
    waiting.failed(42)
    assert results(runs_dir, waiting.submission_id[:12], grid["base"].submission_id[:12]).exit_code == 1


def test_pack_verify_and_a_submissions_own_table_read_every_byte(grid):
    """A memory forged to vouch for a changed file fools none of them; --rehash undoes what it says."""
    runs = grid["base"]
    path = runs.attempt_folder(42) / ARTIFACT
    sealed = sha256(path.read_bytes()).hexdigest()
    path.write_bytes(b"X" + path.read_bytes()[1:])
    look_at_all(runs.runs_dir)
    found = path.stat()
    times = [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]
    name = str(path.relative_to(runs.runs_dir))
    text = json.dumps({"files": {name: [*times, sealed]}, "bundles": {}}).encode()
    (runs.runs_dir / REMEMBERED).write_bytes(HEAD + sha256(text).hexdigest().encode() + b"\n" + text)
    short = runs.submission_id[:12]
    own = results(runs.runs_dir, short, "--json")
    assert [row["status"] for row in json.loads(own.stdout)["rows"]] == ["counted", "damaged"]
    done = results(runs.runs_dir, short, verb="pack")
    assert done.exit_code == 3 and "42 (damaged)" in done.stderr
    assert results(runs.runs_dir, "--all", "--rehash").exit_code == 5
