"""What the README of a submission tells beyond the table: changes, what was tried, headroom, phases; and drafts."""

import json
import os
import subprocess
import sys
from hashlib import sha256

import pytest

from golf_core.rundir import read_json, write_json
from results.base import differences
from results.collect import collect
from results.draft import DRAFT_JSON, pending_in, write_draft
from results.pack import pack, verify
from results.project import Project
from results.untrusted import Folder
from results.whole_folder import PackError
from tests.results.attempts import Runs, edges, stage
from tests.results.test_pack import contents, results

CONFIG = "CONFIG = Config(name={name!r}, model=ModelConfig(layers={layers}), ship='readable')\n"
BASE = {
    "recipe": "demo",
    "source": "a pull request",
    "config": {"name": "demo", "model": {"layers": 4}, "ship": "readable"},
}
PHASES = [*edges("train", {"train": 60.5}), *edges("evaluate", {"sliding": 10.25}, 70.0)]


def submission(runs_dir, layers, shift=0.0, seeds=(1337, 42, 2025), done=3, base=BASE, phases=PHASES, **more):
    """A submission with that many layers, each seed's score shifted; some of its seeds done."""
    name = "demo" if layers == 4 else f"demo.layers{layers}"
    code = CONFIG.format(name=name, layers=layers)
    overrides = () if layers == 4 else (f"model.layers={layers}",)
    runs = Runs(runs_dir, seeds=seeds, code=code, overrides=overrides, **more)
    config = {"name": name, "model": {"layers": layers}, "ship": "readable"}
    write_json(runs.folder / "spec.json", runs.spec | {"config": config, "base": base})
    for seed in seeds[:done]:
        runs.attempt(seed, stages={"sliding": stage(1.7 + shift + seed / 1e6)}, phases=phases)
    return runs


def packed(runs, name="submission"):
    out = runs.folder / name
    pack(collect(runs.folder), Project(author="A", github_id="a"), out)
    return out, (out / "README.md").read_text()


def test_key_changes_are_the_difference_to_the_registered_base(tmp_path):
    """A row a field that differs, with both values; none where nothing does; a word where no base was registered."""
    text = packed(submission(tmp_path, 6))[1]
    assert "| `model.layers` | 4 | 6 |" in text and "`ship`" not in text.split("All that is frozen")[0]
    assert "No field differs from `demo`" in packed(submission(tmp_path / "b", 4))[1]
    assert "was not registered" in packed(submission(tmp_path / "c", 4, base=None))[1]
    assert "Recipe `demo`: a pull request." in text


def test_differences_of_configs():
    """In the order of ours, then what only the base has; the name is no field."""
    assert differences({"name": "a", "x": 1, "y": {"z": None}}, {"name": "b", "w": True, "x": 2}) == [
        ("w", "absent", "true"),
        ("x", "1", "2"),
        ("y.z", "none", "absent"),
    ]


def test_what_was_worse_is_told_with_delta_and_n(tmp_path):
    """Of the same base, data and target; what was better, other data and other recipes are no such row."""
    ours = submission(tmp_path, 4)
    worse, one = submission(tmp_path, 6, shift=0.02), submission(tmp_path, 7, shift=0.5, done=1)
    submission(tmp_path, 8, shift=-0.1)
    submission(tmp_path, 9, shift=0.1, data_sha256="f" * 64)
    submission(tmp_path, 10, shift=0.1, base=BASE | {"config": {"name": "demo", "model": {"layers": 5}}})
    out, text = packed(ours)
    tried = read_json(out / "submission.json")["tried"]
    assert [row["submission_id"] for row in tried] == [worse.submission_id, one.submission_id]
    assert tried[0]["delta_bpb"] == pytest.approx(0.02) and (tried[0]["n"], tried[1]["n"]) == (3, 1)
    assert tried[1]["delta_t95_half_width"] is None and tried[0]["delta_t95_half_width"] > 0
    assert "| `demo model.layers=6` | 3 | 1.72113467 | +0.02000000 |" in text and "| 1 of 3 |" in text
    assert verify(collect(ours.folder), Folder(out)) == []


def test_the_tried_rows_are_derived_again(tmp_path):
    """A changed delta, or a row whose submission is gone, is a difference; what was run since is none."""
    ours, worse = submission(tmp_path, 4), submission(tmp_path, 6, shift=0.02)
    out, _ = packed(ours)
    submission(tmp_path, 7, shift=0.3)
    assert verify(collect(ours.folder), Folder(out)) == []
    facts = read_json(out / "submission.json")
    facts["tried"][0]["delta_bpb"] = 0.2
    (out / "submission.json").write_text(json.dumps(facts))
    assert [one.place for one in verify(collect(ours.folder), Folder(out))] == ["tried"]
    facts["tried"][0]["delta_bpb"] = 0.02
    (worse.folder / "spec.json").unlink()
    assert {one.place for one in verify(collect(ours.folder), Folder(out))} >= {"tried", "README.md"}


def test_headroom_and_phases_are_told_a_seed(tmp_path):
    """Cap less value, each phase as stamped; a phase that never ended has no seconds of its own."""
    begun = {"stage": "evaluate", "phase": "ttt", "edge": "begin", "t": 81}
    out, text = packed(submission(tmp_path, 4, phases=[*PHASES, begun]))
    left = read_json(out / "submission.json")["headroom"]["42"]
    assert left["train_seconds"] == 600.0 - 60.5 and left["bytes"] < 16_000_000
    assert "| train | 60.500 s | 60.500 s | 60.500 s |" in text and "| sliding | 10.250 s |" in text
    assert "| ttt |" not in text


def test_both_rules_of_the_race_are_told(tmp_path):
    """By name, each with a verdict; other text than the challenge's is unknown."""
    text = packed(submission(tmp_path, 4))[1]
    assert "`record-2026-03` (p < 0.01" in text and "`frontier-2026-04` (p < 0.25" in text
    assert text.count("**unknown**, the text: not the challenge's FineWeb") == 2


def test_a_draft_lists_done_and_pending_and_has_no_mean(tmp_path):
    """DRAFT on top; a pending value is a word in the table and in the document, never a number."""
    runs = submission(tmp_path, 4, done=2)
    out = runs.folder / "draft"
    assert write_draft(collect(runs.folder), Project(), out) and not write_draft(collect(runs.folder), Project(), out)
    text, facts = (out / "README.md").read_text(), read_json(out / "draft.json")
    assert set(contents(out)) == {"README.md", "draft.json"} and text.startswith("# DRAFT: demo\n")
    assert "- [x] seed 1337: done" in text and "- [ ] seed 2025: pending, missing" in text
    assert "| Mean | pending | pending |" in text and "Mean of" not in text
    assert (facts["done"], facts["pending"], facts["val_bpb"]) == ([1337, 42], [2025], "pending")
    assert facts["seed_results"]["2025"] == "pending" and facts["seed_results"]["42"]["val_bpb"] > 1
    runs.attempt(2025, stages={"sliding": stage(1.7)})
    assert write_draft(collect(runs.folder), Project(), out)
    assert "pending" not in json.dumps(read_json(out / "draft.json")["seed_results"])
    assert read_json(out / "draft.json")["val_bpb"] == "pending"


def test_a_draft_is_never_taken_for_a_submission(tmp_path):
    """verify refuses it with 3 whatever its files are called, and pack refuses what is not done with 3."""
    runs = submission(tmp_path / "runs", 4, done=2)
    where = ("--runs-dir", runs.runs_dir)
    done = results("pack", runs.folder.name, *where, folder=tmp_path)
    assert done.returncode == 3 and "--draft" in done.stderr
    done = results("pack", runs.folder.name, "--draft", *where, folder=tmp_path)
    assert done.returncode == 0 and done.stdout.strip() == str(runs.folder / "draft") and "2025" in done.stderr
    draft = runs.folder / "draft"
    done = results("verify", draft, *where, folder=tmp_path)
    assert done.returncode == 3 and "is a draft" in done.stderr and done.stdout == ""
    (draft / "draft.json").rename(draft / "submission.json")
    assert "2025" in pending_in(Folder(draft))
    (draft / "submission.json").unlink()
    assert pending_in(Folder(draft)) is not None


def test_a_draft_is_written_over_nothing_of_others(tmp_path):
    """A folder with work in it is refused and stays."""
    runs = submission(tmp_path, 4, done=1)
    out = tmp_path / "mine"
    out.mkdir()
    (out / DRAFT_JSON).write_text("{}")
    with pytest.raises(PackError, match="move it away"):
        write_draft(collect(runs.folder), Project(), out)
    assert contents(out) == {DRAFT_JSON: b"{}"}


def test_our_folder_without_its_runs_is_judged_by_its_logs(tmp_path):
    """Another machine has no sealed attempts: it says so, and what no log tells is unknown, exit code 4."""
    runs = submission(tmp_path / "runs", 4)
    out, _ = packed(runs)
    done = results("verify", out, "--runs-dir", tmp_path / "none", folder=tmp_path)
    assert done.returncode == 4 and "judged by the logs alone" in done.stderr and "unknown" in done.stdout
    done = results("verify", out, "--runs-dir", runs.runs_dir, folder=tmp_path)
    assert done.returncode == 0 and "made again" in done.stdout
    done = results(
        "verify", runs.folder.name, "--policy", "record-2026-03", *("--runs-dir", runs.runs_dir), folder=tmp_path
    )
    assert done.returncode == 4 and "hardware" in done.stdout and "8xNVIDIA H100" in done.stdout
    told = json.loads(results("verify", out, "--json", "--runs-dir", runs.runs_dir, folder=tmp_path).stdout)
    assert told["passed"] is True and told["schema_version"] == 1


def test_the_readme_of_a_packed_folder_is_supported_by_sealed_figures(tmp_path):
    """Every number that the README and submission.json claim is derived from the attempts, none is unknown."""
    runs = submission(tmp_path / "runs", 4)
    out, _ = packed(runs)
    script = f"""
import sys
sys.argv = ["results", "verify", {str(out)!r}, "--runs-dir", {str(runs.runs_dir)!r}]
from results.cli import main
try:
    main()
except SystemExit as end:
    assert end.code == 0 and "pandas" not in sys.modules
"""
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "0 failed, 0 unknown" in done.stdout, done.stdout + done.stderr
    assert sha256((out / "train_gpt.py").read_bytes()).hexdigest() == runs.bundle_sha256


@pytest.mark.parametrize("arguments", [("--policy", "recrod"), ("--format", "xml")])
def test_an_unknown_word_names_those_there_are(arguments, tmp_path):
    """Exit code 2, with the alternatives, before anything is read."""
    done = results("verify", tmp_path, *arguments, folder=tmp_path)
    assert done.returncode == 2 and ("record-2026-03" in done.stderr or "json" in done.stderr)
