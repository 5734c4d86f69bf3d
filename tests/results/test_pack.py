"""The submission folder and the command line: all computed, whole or absent, never over foreign work."""

import ast
import json
import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from golf_core.rundir import read_json
from results.cli import app
from results.collect import collect
from results.pack import NotFinished, pack, verify
from results.project import Project, ProjectError, load_project
from results.requirements import imported_modules, requirements_text
from results.untrusted import Folder
from results.whole_folder import PackError
from tests.results.attempts import CODE, Runs

NAMES = {
    "README.md",
    "submission.json",
    "train_gpt.py",
    "requirements.txt",
    "train_seed1337.log",
    "train_seed42.log",
    "train_seed2025.log",
}


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path / "runs").all_attempts()


@pytest.fixture
def packed(runs):
    out = runs.folder / "submission"
    assert pack(collect(runs.folder), Project(), out)
    return out


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def results(*arguments, folder, **environment):
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "results", *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.getcwd(), **environment},
    )


def called(*arguments, **environment):
    """The same command in this process and its working directory."""
    done = CliRunner().invoke(app, [*map(str, arguments)], env=environment)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def exit_code(*arguments, **environment):
    return called(*arguments, **environment).exit_code


def test_the_folder_holds_what_a_reviewer_needs(runs, packed):
    """README, submission.json, the bundle that ran, a log a seed, requirements; nothing else."""
    files = contents(packed)
    assert set(files) == NAMES and files["train_gpt.py"].decode() == CODE
    assert files["train_seed42.log"] == (runs.attempt_folder(42) / "log.txt").read_bytes()


def test_every_number_of_submission_json_is_computed(runs, packed):
    """Mean, spread, largest bytes and the seeds' own numbers come from the rows."""
    facts, rows = read_json(packed / "submission.json"), collect(runs.folder).rows
    bpb = [row.val_bpb for row in rows]
    assert facts["val_bpb"] == sum(bpb) / 3 and facts["seeds"] == [1337, 42, 2025]
    assert facts["bytes_total"] == max(row.artifact_bytes for row in rows) and facts["bytes_code"] == len(CODE)
    assert facts["seed_results"]["42"]["val_bpb"] == rows[1].val_bpb
    assert facts["seed_results"]["42"]["ttt_gain"] == rows[1].ttt_gain_bpb < 0
    assert facts["compliance"]["score_first_ttt"] is None and facts["compliance"]["artifact_under_16mb"] is True
    assert facts["track"] == "non_record_16mb" and facts["date"] == "2026-11-22"
    for name, entry in facts["files"].items():
        assert entry["bytes"] == (packed / name).stat().st_size


def test_an_unknown_author_is_a_named_gap(runs, packed, tmp_path):
    """Without golf.toml author and github_id are null and listed; with it they stand there."""
    facts = read_json(packed / "submission.json")
    assert (
        facts["author"] is None and len(facts["gaps"]) == 2 and "Still to be told" in (packed / "README.md").read_text()
    )
    (tmp_path / "golf.toml").write_text('[author]\nauthor = "A. Golfer"\ngithub_id = "golfer"\nname = "Low"\n')
    out = runs.folder / "with_author"
    pack(collect(runs.folder), load_project(tmp_path / "golf.toml"), out)
    facts = read_json(out / "submission.json")
    assert (facts["author"], facts["github_id"], facts["name"], facts["gaps"]) == ("A. Golfer", "golfer", "Low", [])
    assert verify(collect(runs.folder), Folder(out)) == []


@pytest.mark.parametrize(
    "text", ["[author]\nage = 3\n", "[author]\nauthor = 3\n", "author = 'me'\n", "not toml", 'runs_dir = ""\n']
)
def test_a_bad_project_file_is_refused(text, tmp_path):
    """The message names the file and what may stand there."""
    path = tmp_path / "golf.toml"
    path.write_text(text)
    with pytest.raises(ProjectError, match=r"golf\.toml"):
        load_project(path)


def test_packing_again_changes_nothing(runs, packed):
    """The same evidence gives the same bytes, and the folder is left alone."""
    before = {path: path.stat().st_mtime_ns for path in packed.iterdir()}
    assert not pack(collect(runs.folder), Project(), packed)
    assert {path: path.stat().st_mtime_ns for path in packed.iterdir()} == before
    assert sorted(path.name for path in runs.folder.iterdir()) == ["spec.json", "submission", "train_gpt.py"]


def test_our_own_folder_is_replaced_whole(runs, packed):
    """With another author every file is there again and no scratch folder is left."""
    assert pack(collect(runs.folder), Project(author="B", github_id="b"), packed)
    assert set(contents(packed)) == NAMES and read_json(packed / "submission.json")["author"] == "B"
    assert sorted(path.name for path in runs.folder.iterdir()) == ["spec.json", "submission", "train_gpt.py"]


@pytest.mark.parametrize("kind", ["foreign", "edited", "added", "file", "link", "other submission"])
def test_what_is_not_ours_is_not_touched(runs, packed, kind, tmp_path):
    """A folder of somebody else's, or with a file changed or added by hand, is refused and stays as it is."""
    out = packed
    if kind == "foreign":
        out = tmp_path / "work"
        out.mkdir()
        (out / "README.md").write_text("mine")
    elif kind == "edited":
        (out / "README.md").write_text("my own words")
    elif kind == "added":
        (out / "notes.txt").write_text("mine")
    elif kind == "file":
        out = tmp_path / "plain"
        out.write_text("mine")
    elif kind == "link":
        out = tmp_path / "link"
        out.symlink_to(packed)
    else:
        facts = read_json(out / "submission.json") | {"submission_id": "0" * 64}
        (out / "submission.json").write_text(json.dumps(facts))
    before = contents(out) if out.is_dir() else out.read_bytes()
    with pytest.raises(PackError, match="move it away"):
        pack(collect(runs.folder), Project(author="changed"), out)
    assert (contents(out) if out.is_dir() else out.read_bytes()) == before


def test_packing_needs_no_pandas(runs, tmp_path):
    """Nor does verifying: both start in a moment."""
    script = f"""
import sys
sys.argv = ["results", "pack", {runs.submission_id!r}, "--runs-dir", {str(runs.runs_dir)!r}]
from results.cli import main
try:
    main()
except SystemExit as end:
    assert end.code == 0 and "pandas" not in sys.modules
"""
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True)


def test_an_unfinished_submission_is_not_packed(tmp_path):
    """A missing seed refuses the folder and leaves none."""
    runs = Runs(tmp_path / "runs")
    runs.attempt(1337)
    runs.failed(42)
    with pytest.raises(NotFinished, match=r"42 \(failed \(nan\)\), 2025 \(missing\)"):
        pack(collect(runs.folder), Project(), runs.folder / "submission")
    assert not (runs.folder / "submission").exists()


def test_a_failed_write_leaves_the_old_folder(runs, packed, monkeypatch):
    """An error in the middle of writing leaves what was there, and no scratch."""
    before = contents(packed)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        pack(collect(runs.folder), Project(author="B"), packed)
    assert contents(packed) == before and not list(runs.folder.glob(".submission*"))


@pytest.mark.parametrize("change", ["number", "log", "missing", "added", "nothing"])
def test_verify_finds_what_the_evidence_does_not_support(runs, packed, change):
    """An edited score, log or file list is named; an untouched folder has no difference."""
    if change == "number":
        facts = read_json(packed / "submission.json")
        facts["seed_results"]["42"]["val_bpb"] -= 0.01
        (packed / "submission.json").write_text(json.dumps(facts))
    elif change == "log":
        (packed / "train_seed42.log").write_text("better")
    elif change == "missing":
        (packed / "train_gpt.py").unlink()
    elif change == "added":
        (packed / "extra.bin").write_bytes(b"x")
    found = [difference.place for difference in verify(collect(runs.folder), Folder(packed))]
    expected = {"number": ["seed_results.42.val_bpb"], "log": ["train_seed42.log"], "missing": ["train_gpt.py"]}
    assert found == expected.get(change, ["extra.bin"] if change == "added" else [])


def test_requirements_follow_the_imports():
    """Third-party modules in any place; the standard library is left out, what stands in a try is optional."""
    code = (
        "import os, sys, numpy as np\nfrom torch.nn import functional\n"
        "def f():\n    import zstandard\n"
        "try:\n    import flash_attn_interface\nexcept ImportError:\n    import brotli\n"
    )
    found = imported_modules(code, "x")
    assert found == {"brotli": False, "flash_attn_interface": False, "numpy": True, "torch": True, "zstandard": True}
    lines = requirements_text(code, "x", {"numpy": "2.4.6", "torch": "2.13.0+cpu", "zstandard": None}).splitlines()
    assert lines[:3] == ["numpy==2.4.6", "torch==2.13.0", "zstandard"] and all(line[0] == "#" for line in lines[3:])
    assert "flash-attn-3" in lines[-1]


def test_the_command_line_writes_prints_and_packs(runs, tmp_path):
    """collect writes three files and the overview, prints the table; pack prints the folder; verify supports it all."""
    where = ("--runs-dir", runs.runs_dir)
    done = results("collect", runs.submission_id[:6], *where, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "") and "Post-TTT BPB" in done.stdout
    for path in (runs.folder / "results.csv", runs.folder / "scores.csv", runs.folder / "table.md"):
        assert path.is_file()
    assert (runs.runs_dir / "results.csv").read_text() == (runs.folder / "results.csv").read_text()
    done = results("pack", runs.submission_id, *where, folder=tmp_path)
    assert done.returncode == 0 and done.stdout.strip() == str(runs.folder / "submission")
    assert done.stderr.count("gap: ") == 2
    ast.parse((runs.folder / "submission" / "train_gpt.py").read_text())
    done = results("verify", runs.folder / "submission", *where, folder=tmp_path)
    assert done.returncode == 0 and "every claim is supported" in done.stdout, done.stdout


@pytest.mark.parametrize("form", ["table", "csv", "md", "json"])
def test_each_format_goes_to_stdout(runs, form):
    """One table in four forms; nothing but the data on stdout."""
    done = called("collect", runs.submission_id, "--runs-dir", runs.runs_dir, "--format", form)
    assert done.exit_code == 0
    if form == "json":
        found = json.loads(done.stdout)
        assert found["schema_version"] == 1 and len(found["rows"]) == 3 and found["val_bpb"]["n"] == 3
    else:
        expected = {"csv": "results.csv", "md": "table.md"}
        assert "1337" in done.stdout
        assert form == "table" or done.stdout == (runs.folder / expected[form]).read_text()


def test_exit_codes_are_the_documented_ones(tmp_path, monkeypatch):
    """0 ok, 1 a run failed, 2 usage, 3 not finished, 4 a gate failed, 5 damaged files."""
    runs = Runs(tmp_path / "runs")
    monkeypatch.chdir(tmp_path)

    def code(*arguments):
        return exit_code(*arguments, "--runs-dir", runs.runs_dir)

    assert code("collect", "zzz") == 2 and code("collect", runs.submission_id, "--format", "xml") == 2
    assert code("collect", runs.submission_id) == 3 and code("pack", runs.submission_id) == 3
    for seed in runs.seeds[:2]:
        runs.attempt(seed, result={"train_seconds": 601.0})
    runs.failed(2025)
    assert code("collect", runs.submission_id) == 1
    runs.attempt(2025, 2)
    assert code("collect", runs.submission_id) == 0 and code("pack", runs.submission_id) == 0
    assert code("verify", runs.folder / "submission") == 4
    (runs.folder / "spec.json").write_text("{}")
    assert code("collect", runs.submission_id) == 5 and code("verify", tmp_path / "absent") == 5


def test_runs_dir_comes_from_flag_environment_or_project(runs, tmp_path, monkeypatch):
    """Flag over environment over golf.toml over the default."""
    asked = ("collect", runs.submission_id)
    monkeypatch.delenv("GOLF_RUNS_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    assert exit_code(*asked) == 0  # ./runs
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert exit_code(*asked) == 2
    assert exit_code(*asked, GOLF_RUNS_DIR=str(runs.runs_dir)) == 0
    (elsewhere / "golf.toml").write_text(f'runs_dir = "{runs.runs_dir}"\n')
    assert exit_code(*asked) == 0
    assert exit_code(*asked, GOLF_RUNS_DIR="absent") == 2
    assert exit_code(*asked, "--runs-dir", runs.runs_dir, GOLF_RUNS_DIR="absent") == 0


def test_eight_at_once_leave_one_whole_folder(runs, tmp_path):
    """Processes that pack the same submission together all succeed, and nothing else is left."""
    command = [sys.executable, "-m", "results", "pack", runs.submission_id, "--runs-dir", str(runs.runs_dir)]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    running = [subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE) for _ in range(8)]
    said = [process.communicate(timeout=120)[1].decode() for process in running]
    assert [process.returncode for process in running] == [0] * 8, said
    assert set(contents(runs.folder / "submission")) == NAMES
    assert sorted(path.name for path in runs.folder.iterdir()) == ["spec.json", "submission", "train_gpt.py"]
