"""The page of a report: what it says, that it stands alone, and that nothing hostile gets through."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from results.cli import app
from results.report.html import Markup, escaped, table, tag
from results.report.make import charts_of, report_object
from results.report.page import section
from results.report.subject import load_subjects
from tests.orchestrator.monoliths import monolith, script_submission, sealed_runs
from tests.results.attempts import POLICY, Runs
from tests.results.report.markup import problems, read
from tests.results.report.samples import page_of, page_of_subjects, stages, subjects_of, submission, variants

ROOT = Path(__file__).resolve().parents[3]
HOSTILE = "<script>alert(1)</script>\"'><img src=//evil.example/x onerror=alert(1)>&amp;"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The page of a finished submission with all curves."""
    return page_of(submission(tmp_path_factory.mktemp("whole")))


def words(page: str) -> str:
    return read(page).words


def test_a_page_stands_alone_and_is_well_formed(whole):
    """Tags are balanced, ids unique, pictures have words, headings are in order, and no address is named."""
    assert problems(whole) == []
    assert len(whole.encode()) < 6_000_000


def test_the_verdict_comes_first(whole):
    """The first section says what is claimed, then how many gates pass; every gate has its verdict as a word."""
    root = read(whole)
    (main,) = root.all("main")
    first = main.all("section")[0]
    assert first.attributes["id"] == "verdict"
    assert re.search(r"1\.59\d{3} bits per byte \(± 0\.\d{5}, 95 % t interval, n=3\), by test-time", first.words)
    assert "11 of 11 gates of policy demo pass" in first.words and first.words.count("passes") == 11
    assert "State of the Union" in first.words and "no claim for a record" in first.words


def test_every_chart_is_there_in_words_too(whole):
    """Each figure has a heading, one picture with an alternative that holds numbers, a caption and its data."""
    figures = read(whole).all("figure")
    assert [one.attributes["id"] for one in figures] == [
        f"chart-{name}" for name in ("stages", "bytes", "loss", "validation", "gain", "step_time", "time", "parts")
    ]
    for one in figures:
        label = one.all("svg")[0].attributes["aria-labelledby"]
        (told,) = [p for p in one.all("p") if p.attributes.get("id") == label]
        assert re.search(r"\d", told.words)
        assert one.all("figcaption")[0].words and one.all("h3")
        assert len(one.all("details")[0].all("tr")) > 1


def test_landmarks_and_the_way_past_them(whole):
    """One header, main and footer, a labelled nav, and a skip link as the first thing that the Tab key reaches."""
    root = read(whole)
    assert [len(root.all(name)) for name in ("header", "main", "footer", "nav")] == [1, 1, 1, 1]
    (body,) = root.all("body")
    assert body.inside[0].name == "a" and body.inside[0].attributes["href"] == "#main"
    assert root.all("html")[0].attributes["lang"] == "en"
    assert all(one.attributes.get("scope") for one in root.all("th"))
    assert all(one.all("caption") for one in root.all("table"))


def test_no_distance_is_drawn_between_different_texts(whole):
    """Scores of the embedded corpus are not held against the record, and the page says why."""
    assert "chart-record" not in whole
    assert "A BPB compares only with others of the same text, so no distance is drawn" in words(whole)


def test_scores_of_the_challenges_text_are_held_against_the_record(tmp_path):
    """With text of FineWeb's size the distance is there, and the compressors of the embedded corpus are not."""
    page = page_of(submission(tmp_path, bpb=1.0605, fineweb=True))
    (figure,) = [one for one in read(page).all("figure") if one.attributes["id"] == "chart-record"]
    assert "Leaderboard as of" in figure.words and "xz -9e" not in words(page)
    assert problems(page) == []


def test_variants_are_compared_with_the_first(tmp_path):
    """Each submission but the first has a difference with its interval, and every one has its table."""
    runs = variants(tmp_path, 4)
    page = page_of(*runs)
    assert problems(page) == []
    (figure,) = [one for one in read(page).all("figure") if one.attributes["id"] == "chart-forest"]
    rows = [[cell.words for cell in row.all("th", "td")] for row in figure.all("tr")][1:]
    assert [row[0] for row in rows] == [
        "demo model.layers=3 optim.matrix_lr=0.03",
        "demo model.layers=4 optim.matrix_lr=0.03",
        "demo model.layers=5",
    ]
    assert all(re.fullmatch(r"[+-]0\.\d{8}", row[2]) and re.fullmatch(r"0\.\d{8}", row[3]) for row in rows)
    assert len(re.findall(r"Seeds of ", words(page))) == 4


def test_one_variant_that_is_not_finished_is_named(tmp_path):
    """What must be known of one submission alone is told with its name; what holds for all is told once."""
    base = submission(tmp_path, code="A = 1\n")
    half = Runs(tmp_path, code="A = 2\n", overrides=("a=2",), data_sha256=base.data_sha256)
    half.attempt(1337)
    page = page_of(base, half)
    first = read(page).all("section")[0].words
    assert problems(page) == []
    assert "demo a=2: Not finished: seed 42 (missing), 2025 (missing)" in first
    assert first.count("State of the Union") == 1


def test_a_variant_on_other_data_is_named_and_left_out(tmp_path):
    """Nothing is drawn between scores of different texts, in no chart."""
    base = submission(tmp_path, code="A = 1\n")
    same = submission(tmp_path, code="A = 2\n", overrides=("a=2",), bpb=1.61)
    other = submission(tmp_path, code="A = 3\n", overrides=("a=3",), fineweb=True, bpb=0.9)
    charts = {one.name: one for one in charts_of(subjects_of(base, same, other))}
    assert [row[0] for row in charts["forest"].rows] == ["demo a=2"]
    assert "not comparable: demo a=3" in charts["forest"].caption
    assert "a=3" not in json.dumps(charts["bytes"].spec)
    assert "Other data than demo: demo a=3" in words(page_of(base, same, other))


def test_what_somebody_else_named_is_only_ever_text(tmp_path):
    """Names, overrides and policies full of markup come out as they are written, and run nothing."""
    hostile = {"recipe": HOSTILE, "overrides": (f"x={HOSTILE}",), "policy": POLICY | {"name": HOSTILE}}
    runs = submission(tmp_path, **hostile)
    page = page_of(runs)
    root = read(page)
    assert len(root.all("script")) == 1 and root.all("img") == []
    assert HOSTILE in root.all("h1")[0].words
    told = [one for one in problems(page) if "evil.example" not in one]
    assert told == [] and 'src="' not in page
    several = page_of(runs, submission(tmp_path, code="B = 1\n", **hostile), submission(tmp_path, code="B = 2\n"))
    assert len(read(several).all("script")) == 1 and read(several).all("img") == []


@settings(max_examples=60)
@given(st.text(), st.text())
def test_escaped_text_comes_back(text, more):
    """Any text in an element or an attribute reads back as it was, and makes no element."""
    text, more = (one.replace("\r", "").replace("\0", "") for one in (text, more))
    page = f"<!doctype html>{tag('p', text, title=more)}"
    (element,) = read(page).inside
    assert "".join(element.text) == text and element.attributes["title"] == more and element.inside == []
    assert escaped(Markup("<b>")) == "<b>"


def test_a_diagnostic_run_is_stamped_on_top(tmp_path):
    """Its page opens with the stamp, claims nothing, and draws no score."""
    code = "CONFIG = Config(name='demo', diagnostic_only=True)\n"
    runs = Runs(tmp_path, code=code)
    for seed in runs.seeds:
        runs.attempt(seed, scores={"diagnostic_only": True, "final_stage": None})
    page = page_of(runs)
    first = read(page).all("section")[0].words
    assert problems(page) == []
    assert first.index("DIAGNOSTIC ONLY") < first.index("Nothing is claimed: this is a diagnostic run")
    assert "chart-stages" not in page and "chart-bytes" not in page


def test_simulated_hardware_is_stamped_on_top(tmp_path):
    """A target of declared GPUs says so before anything else."""
    target = {
        "device": "cuda",
        "gpu": "NVIDIA H100 80GB HBM3",
        "gpus": 8,
        "processes": 8,
        "threads": 1,
        "dtype": "bf16",
    }
    runs = submission(tmp_path, target=target | {"launcher": "torchrun"}, target_class="simulated")
    first = read(page_of(runs)).all("section")[0].words
    assert first.removeprefix("Verdict ").startswith("SIMULATED HARDWARE")
    assert "unknown is never pass" in first


@pytest.mark.parametrize("done", [0, 1, 2])
def test_a_missing_seed_is_missing_everywhere(tmp_path, done):
    """A page can be made at any time: seeds without a counted attempt are named, and are in no mean and no chart."""
    runs = Runs(tmp_path)
    for seed in runs.seeds[:done]:
        runs.attempt(seed, stages=stages(1.6))
    page = page_of(runs)
    first = read(page).all("section")[0].words
    assert problems(page) == []
    assert "Not finished: seed" in first and "2025 (missing)" in first
    assert ("no registered seed has a counted attempt" in first) == (done == 0)
    assert ("one seed, so no interval" in first) == (done == 1)
    assert ("interval, n=2" in first) == (done == 2)


def test_a_run_that_noted_nothing_has_a_page(tmp_path):
    """Without curves, phases and a readable artifact each chart says why it is not drawn."""
    page = page_of(Runs(tmp_path).all_attempts())
    said = words(page)
    assert problems(page) == []
    for reason in (
        "noted no training loss",
        "noted no times of their steps",
        "is no artifact of ours: it does not start",
    ):
        assert reason in said
    assert "chart-time" in page and "chart-parts" in page  # the totals are known
    assert str(tmp_path) not in page  # whoever reads it has another machine


@pytest.mark.parametrize("dialect", ["old", "stamped"])
def test_a_script_of_its_own_has_a_page(tmp_path, dialect):
    """A real run of somebody's script: curves from its log, its own bytes, gates that need our evaluator unknown."""
    command = [sys.executable, "-m", "golf_core.data.embedded"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    asked = script_submission(json.loads(said.stdout.splitlines()[-1]), monolith(dialect))
    subjects = load_subjects([sealed_runs(tmp_path, asked)])
    text = page_of_subjects(subjects)
    assert problems(text) == [] and str(tmp_path) not in text
    assert {"chart-loss", "chart-parts"} <= set(re.findall(r'id="(chart-[a-z_]+)"', text))
    assert "score first" in words(text) and "what these runs told does not say how much text" in words(text)


def test_json_says_what_the_page_says(tmp_path):
    """The command prints one object without NaN, writes no page, and its verdicts are the gates'."""
    runs = submission(tmp_path)
    said = CliRunner().invoke(app, ["report", runs.folder.name, "--runs-dir", str(tmp_path), "--json"])
    assert said.exit_code == 0
    told = json.loads(said.stdout, parse_constant=lambda name: pytest.fail(name))
    (one,) = told["submissions"]
    assert told["schema_version"] == 1 and one["verdict"] == "pass" and len(one["gates"]) == 11
    assert {chart["name"] for chart in told["charts"]} >= {"loss", "gain", "record"}
    subjects = subjects_of(runs)
    assert told == json.loads(json.dumps(report_object(subjects, charts_of(subjects))))
    assert not (runs.folder / "report.html").exists()


def test_the_command_writes_page_and_charts(tmp_path):
    """report.html stands beside the tables, its path is printed, and each chart is an SVG and a PNG of small size."""
    runs = submission(tmp_path)
    command = [sys.executable, "-m", "results", "report", runs.folder.name, "--runs-dir", str(tmp_path)]
    said = subprocess.run([*command, "--charts", str(tmp_path / "c")], cwd=ROOT, capture_output=True, text=True)
    assert (said.returncode, said.stdout) == (0, f"{runs.folder / 'report.html'}\n")
    assert problems((runs.folder / "report.html").read_text(encoding="utf-8")) == []
    files = sorted((tmp_path / "c").iterdir())
    assert len(files) == 16 and {path.suffix for path in files} == {".svg", ".png"}
    assert all(0 < path.stat().st_size < 150_000 for path in files)
    assert all("prefers-color-scheme:dark" in path.read_text() for path in files if path.suffix == ".svg")


def test_an_unfinished_submission_is_not_finished(tmp_path):
    """The page is written and the exit code says that seeds are missing; an unknown id writes nothing."""
    runs = Runs(tmp_path)
    runs.attempt(42)
    said = CliRunner().invoke(app, ["report", runs.folder.name, "--runs-dir", str(tmp_path)])
    assert said.exit_code == 3 and (runs.folder / "report.html").is_file()
    unknown = CliRunner().invoke(app, ["report", "f" * 12, "--runs-dir", str(tmp_path)])
    assert unknown.exit_code == 2 and runs.folder.name in unknown.stderr


def test_a_table_scrolls_in_its_own_frame():
    """A table is a region that the keyboard reaches and that has its caption as name."""
    frame = read(f"<!doctype html>{table([['a', 'b'], ['1', '2']], 'Some & more')}").inside[0]
    assert frame.attributes["tabindex"] == "0" and frame.attributes["aria-label"] == "Some & more"
    assert section("x", "X", "text")[2].startswith('<section id="x"') or 'id="x"' in section("x", "X")[2]
