"""The command line: help, refusals with their exit codes, and what status, logs and recipes print."""

import json
import os
import subprocess
import sys

import pytest

from orchestrator.errors import EXIT_CODES
from tests.orchestrator.toy import ROOT, TOY, Bench, toy_text


@pytest.fixture(scope="module")
def finished(tmp_path_factory, corpus):
    """A bench whose one submit has ended: seed 1 counted on its second attempt, seed 2 failed."""
    once = tmp_path_factory.mktemp("once")
    text = toy_text({"train2": f"kill:{once}"}).replace("def number(what):", "def number(what):\n    1 / (seed - 2)", 1)
    bench = Bench(tmp_path_factory.mktemp("finished"), corpus, text)
    done = bench.run("--seeds", "1,2")
    assert done.returncode == 1, done.stderr
    return bench


# Fake quantization of matrices, none of which is shipped on a grid.
IDLE = ["--set", "qat.kind=swap", "--set", "qat.tensors=matrices", "--set", "quant.keep_numel=100000000"]

REFUSALS = {
    "an unknown recipe": (["--recipe", "dmeo"], "did you mean 'demo'"),
    "an unknown override": (["--set", "model.layer=3"], "did you mean model.layers"),
    "an override of another kind": (["--set", "model.layers=many"], "whole number"),
    "a switch without effect": (IDLE, "error: demo: qat.tensors='matrices'"),
    "a plan with such a switch": ([*IDLE, "--dry-run"], "error: demo: qat.tensors='matrices'"),
    "a grid with such a switch": (
        ["--recipe", "int6_ablation", "--device", "cpu", *IDLE],
        "error: int6_ablation.steps: qat.tensors='matrices'",
    ),
    "no seeds": (["--seeds", ""], "empty"),
    "repeated seeds": (["--seeds", "1,1"], "twice"),
    "negative seeds": (["--seeds", "-1"], "negative"),
    "half seeds": (["--seeds", "1.5"], "not a whole number"),
    "an unknown backend": (["--on", "rya"], "did you mean 'ray'"),
    "of modal": (["--modal-secret", "hub"], "add --on modal"),
    "an unknown policy": (["--policy", "dmo"], "did you mean 'demo'"),
    "processes that do not divide": (["--processes", "3", "--launcher", "torchrun"], "does not divide"),
    "an unknown device": (["--device", "tpu"], "there are cpu, cuda"),
    "an unknown dtype": (["--dtype", "fp8"], "bf16, fp32"),
    "a bundle that is no Python": (["--bundle", "."], "--bundle ."),
    "an unknown grid": (["--recipe", "int6_ablatoin"], "did you mean 'int6_ablation'"),
    "a bundle for a grid": (["--recipe", "int6_ablation", "--bundle", "."], "is a grid of 5"),
    "a recipe file that is not there": (["--recipe", "./mine.py:wider"], "no file"),
    "a negative startup": (["--startup-seconds", "-1"], "--startup-seconds=-1.0 must be a number above 0"),
    "no silence": (["--silence-seconds", "0"], "--silence-seconds=0.0 must be a number above 0"),
    "an unknown option": (["--sedes", "1"], "--seeds"),
    "shards without a tokenizer": (["--data", "."], "--tokenizer"),
    "a missing tokenizer": (["--data", ".", "--tokenizer", "absent.model"], "absent.model"),
}


@pytest.mark.parametrize("arguments, words", REFUSALS.values(), ids=REFUSALS)
def test_what_cannot_be_is_refused_before_anything_is_written(tmp_path, arguments, words):
    """One clear message, exit code 2, no trace, and not a file left in the folder."""
    (tmp_path / "golf.toml").write_text("[author]\n")
    done = cli(tmp_path, "submit", *arguments)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr and "Traceback" not in done.stderr and done.stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == ["golf.toml"]


def cli(folder, *arguments):
    """A command without the bench's defaults, in `folder`."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("GOLF_")}
    env |= {"PYTHONPATH": str(ROOT), "COLUMNS": "300", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "orchestrator", *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60)


def test_a_folder_that_is_not_ours_is_left_alone(tmp_path, corpus):
    """A runs folder with other content, and a submission folder without its spec: refused and untouched."""
    bench = Bench(tmp_path, corpus, TOY)
    bench.runs_dir.mkdir()
    (bench.runs_dir / "thesis.txt").write_text("mine")
    done = bench.run("--seeds", "1")
    assert done.returncode == 2 and "nothing was touched" in done.stderr
    assert [path.name for path in bench.runs_dir.iterdir()] == ["thesis.txt"]


def test_a_submission_folder_that_is_not_ours_is_left_alone(make_bench):
    """The folder that a submission would get exists without its spec: refused, nothing half-made."""
    bench = make_bench()
    assert bench.run("--seeds", "1").returncode == 0
    plan = json.loads(bench.run("--seeds", "2", "--dry-run", "--json").stdout)
    folder = bench.runs_dir / plan["submission_id"][:12]
    folder.mkdir()
    done = bench.run("--seeds", "2")
    assert done.returncode == 2 and "is not ours" in done.stderr
    assert list(folder.iterdir()) == [] and len(bench.attempts()) == 1


def test_help_is_light_and_names_the_exit_codes():
    """--help shows every exit code; the whole command takes under a second of CPU time."""
    before = os.times()
    done = cli(ROOT, "--help")
    spent = os.times()
    assert done.returncode == 0
    said = " ".join(done.stdout.split())
    for code in EXIT_CODES.removeprefix("Exit codes: ").split(" · "):
        assert code.split(" ")[0] in said
    assert spent.children_user - before.children_user + spent.children_system - before.children_system < 1.0


def test_a_dry_run_prints_the_plan_and_writes_nothing(tmp_path):
    """Ids, what would run, and where each value came from; no runs folder afterwards."""
    done = cli(tmp_path, "submit", "--dry-run", "--seeds", "5", "--set", "model.layers=2")
    assert done.returncode == 0, done.stderr
    for words in ("[--seeds]", "[default]", "seed 5", "train and evaluate as", "--set model.layers=2"):
        assert words in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_settings_come_from_the_project_file(tmp_path):
    """golf.toml gives defaults that a flag overrides; the plan says so; an unknown key is refused."""
    (tmp_path / "golf.toml").write_text("seeds = [3, 4]\non = 'process'\n")
    plan = json.loads(cli(tmp_path, "submit", "--dry-run", "--json", "--on", "ray").stdout)
    assert plan["seeds"] == [3, 4]
    assert (plan["sources"]["seeds"], plan["sources"]["on"]) == ("golf.toml", "--on")
    (tmp_path / "golf.toml").write_text("seed = [3, 4]\n")
    done = cli(tmp_path, "submit", "--dry-run")
    assert done.returncode == 2 and "did you mean 'seeds'" in done.stderr


def test_status_tells_states_and_the_story(finished):
    """A row a seed, exit code 1 for the failure, the history in sentences, the same as JSON."""
    done = finished.run("-v", verb="status")
    assert done.returncode == 1
    for words in ("seed 1: done · attempt 2 is counted", "seed 2: failed", "attempt 1 is void: rank_killed"):
        assert words in done.stdout
    answer = json.loads(finished.run("--json", verb="status").stdout)
    assert answer["schema_version"] == 1
    assert {row["seed"]: row["state"] for row in answer["seeds"]} == {1: "done", 2: "failed"}


def test_logs_are_shown_by_seed_and_attempt(finished):
    """The last attempt's log by default, another by number; --tail cuts; what is not there is refused."""
    whole = finished.run("--seed", "1", verb="logs")
    assert whole.returncode == 0 and "phase:end ttt" in whole.stdout
    first = finished.run("--seed", "1", "--attempt", "1", verb="logs")
    assert "phase:begin train" in first.stdout and "phase:end train" not in first.stdout
    assert finished.run("--seed", "1", "--tail", "1", verb="logs").stdout == "phase:end ttt\n"
    for wrong in (["--seed", "9"], ["--seed", "1", "--attempt", "9"], []):
        assert finished.run(*wrong, verb="logs").returncode == 2


def test_a_prefix_that_names_nothing_is_refused(finished, tmp_path):
    """Unknown ids list what there is; without any runs the way to make them is named."""
    done = finished.run("ffffffffffff", verb="status")
    assert done.returncode == 2 and "there are" in done.stderr
    assert "submit" in cli(tmp_path, "status").stderr


def test_nothing_to_cancel_is_said(finished):
    """cancel of an ended submission does nothing and says so."""
    done = finished.run(verb="cancel")
    assert done.returncode == 0 and "nothing" in done.stderr


def test_debug_shows_the_trace(finished):
    """With --debug an error has its trace, without it has none."""
    assert "Traceback" in finished.run("ffffffffffff", "--debug", verb="status").stderr


def test_the_list_of_recipes_needs_no_torch():
    """Every recipe and grid with counts, target, source, command and published score, and no model is built for it."""
    code = (
        "import sys; from orchestrator.catalogue import recipes; code = recipes(None, (), True); "
        "assert not {'torch', 'pandas', 'ray'} & set(sys.modules); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    whole = json.loads(done.stdout)
    rows = {row["name"]: row for row in whole["recipes"]}
    assert whole["schema_version"] == 1 and rows["naive_baseline"]["parameters"] == 17_059_912
    assert rows["naive_baseline"]["published"]["status"] == "measured" and rows["demo"]["published"] is None
    assert (rows["demo"]["target"], rows["naive_baseline"]["target"]) == ("cpu", "H100:8")
    grids = {grid["name"]: grid for grid in whole["grids"]}
    assert grids["int6_ablation"]["target"] == "H100:1" and len(grids["int6_ablation"]["recipes"]) == 5
    assert all(row["differs"] for row in grids["int6_ablation"]["recipes"][1:])


def test_a_grid_is_listed_with_its_variants():
    """In words: each variant's name, size and what differs from the first; --set reaches all of them."""
    done = cli(ROOT, "recipes", "int6_ablation", "--set", "train.iterations=20")
    assert done.returncode == 0, done.stderr
    for words in ("a grid of 5", "int6_ablation.steps_mixed", "quant.mlp_bits=5", "meant for   H100:1"):
        assert words in done.stdout
    whole = json.loads(cli(ROOT, "recipes", "int6_ablation", "--set", "train.iterations=20", "--json").stdout)
    assert whole["recipes"] == [] and whole["grids"][0]["recipes"][3]["config"]["train"]["iterations"] == 20


@pytest.mark.parametrize("more", [["demo"], ["demo", "--json"], ["demo", "--rehearse"], ["int6_ablation"]])
def test_a_recipe_with_a_switch_without_effect_is_refused(more):
    """`recipes NAME --set` says what submit says, in one line with the recipe's name, and builds no model."""
    done = cli(ROOT, "recipes", *more, *IDLE)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"error: {more[0]}") and "qat.tensors='matrices'" in done.stderr


@pytest.mark.slow
def test_one_recipe_is_counted_from_the_built_model():
    """With a name the bundle builds the model: the same count as the list's; --set changes both; fields are shown."""
    (row,) = json.loads(cli(ROOT, "recipes", "demo", "--set", "model.layers=1", "--json").stdout)["recipes"]
    assert row["parameters_built"] == row["parameters"] < 361_604 and row["code_bytes"] > 100_000
    shown = cli(ROOT, "recipes", "demo").stdout
    assert "361,604 (counted from the built model)" in shown and "model.layers=2" in shown


def test_a_reader_that_leaves_is_no_error():
    """`recipes | head` ends without a word on stderr, and with the code of a closed pipe."""
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestrator", "recipes"], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True
    )
    os.close(writer)
    os.close(reader)
    assert process.communicate()[1] == ""
    assert process.returncode == 141


def test_a_rehearsal_runs_the_recipe_at_its_size():
    """`recipes NAME --rehearse` builds, takes gradients, compresses and reloads; a grid and no name are refused."""
    done = cli(ROOT, "recipes", "demo", "--rehearse", "--json")
    (row,) = json.loads(done.stdout)["recipes"]
    assert row["rehearsed"]["parameters"] == row["parameters"] == 361_604
    assert row["rehearsed"]["total_bytes"] == row["rehearsed"]["model_bytes"] + row["code_bytes"]
    assert 6.5 < row["rehearsed"]["loss"] < 7.5
    assert cli(ROOT, "recipes", "int6_ablation", "--rehearse").returncode == 2
    assert "NAME" in cli(ROOT, "recipes", "--rehearse").stderr
