"""Grids: several submissions planned together, run side by side, resumable, with one exit code."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from golf_core.recipes import load_grid
from orchestrator.drive import register
from orchestrator.errors import NOT_FINISHED, UsageError
from orchestrator.grids.plan import settings_of_grid
from orchestrator.ledger.store import Ledger
from orchestrator.other_seeds import Asked
from orchestrator.outcome import worst
from orchestrator.settings import Settings
from tests.orchestrator.fake_gpus import fake_nvml, install_nvml
from tests.orchestrator.toy import TOY_BUILD, stop, submission, toy_text
from tests.processes import PATIENCE, until

MINE = """
from golf_core.config import Config
from golf_core.config_model import ModelConfig
from golf_core.recipes import Grid, Recipe

def recipe(name, **more):
    words = {"summary": name, "source": "here", "command": "none", "expects": "nothing"}
    return Recipe(config=Config(name=name, **more), **words)

def grid(*recipes, target="cpu"):
    return Grid(name="pair", summary="Two toys.", source="here", command="none", target=target, recipes=recipes)

def pair():
    return grid(recipe("pair.a"), recipe("pair.b"))

def empty():
    return grid()

def mixed():
    return grid(recipe("pair.a"), recipe("pair.b", model=ModelConfig(vocab=512)))

def rented():
    return grid(recipe("pair.a"), target="H100:1")

def number():
    return 7
"""


def start(bench, *arguments, recipe="./mine.py:pair"):
    """A submit of a grid of toys in the bench's folder."""
    (bench.folder / "mine.py").write_text(MINE)
    given = ["--runs-dir", str(bench.runs_dir), "--launcher", "python", "--on", "process", "--recipe", recipe]
    given += ["--data", bench.corpus["data_path"], "--tokenizer", bench.corpus["tokenizer_path"]]
    return subprocess.Popen(
        [sys.executable, TOY_BUILD, "submit", *given, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=bench.folder,
        env=bench.environment(),
    )


def run(bench, *arguments, **more):
    process = start(bench, *arguments, **more)
    out, err = process.communicate(timeout=PATIENCE)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def test_the_plan_shows_every_variant_and_writes_nothing(make_bench):
    """What is shared once, then each variant with its id and seeds; --set reaches all; as JSON a plan each."""
    bench = make_bench()
    done = run(bench, "--seeds", "1,2", "--dry-run", "--set", "model.layers=3")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("seeds        1, 2") == 1 and done.stdout.count("submission ") == 2
    assert "variant 1 of 2: pair.a" in done.stdout and "variant 2 of 2: pair.b" in done.stdout
    said = json.loads(run(bench, "--seeds", "1,2", "--dry-run", "--json", "--set", "model.layers=3").stdout)
    assert (said["schema_version"], said["grid"], said["meant_for"]) == (1, "pair", "cpu")
    assert [plan["recipe"] for plan in said["plans"]] == ["pair.a", "pair.b"]
    assert {plan["config"]["model"]["layers"] for plan in said["plans"]} == {3}
    assert len({plan["submission_id"] for plan in said["plans"]}) == 2 and not bench.runs_dir.exists()


def test_each_variant_becomes_a_submission(make_bench):
    """Both run, a line each with id and mean; the same submit again starts nothing and says the same."""
    bench = make_bench()
    done = run(bench, "--seeds", "1,2")
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith("pair.a  ") and second.startswith("pair.b  ")
    assert "mean BPB" in first and "(2 seeds)" in second and len(bench.attempts()) == 4
    again = run(bench, "--seeds", "1,2")
    assert (again.returncode, again.stdout) == (0, done.stdout) and len(bench.attempts()) == 4
    machine = json.loads(run(bench, "--seeds", "1,2", "--json").stdout)
    assert (machine["grid"], machine["exit_code"]) == ("pair", 0)
    assert [one["recipe"] for one in machine["submissions"]] == ["pair.a", "pair.b"]
    assert all(one["seeds"] == {"1": "done", "2": "done"} and one["mean_bpb"] for one in machine["submissions"])
    specs = [
        json.loads((bench.runs_dir / one["submission_id"][:12] / "spec.json").read_text())
        for one in machine["submissions"]
    ]
    assert [spec["grid"] for spec in specs] == [
        {"name": "pair", "base": "pair.a", "position": position, "of": 2} for position in (1, 2)
    ]
    assert [spec["base"]["recipe"] for spec in specs] == ["pair.a"] * 2
    assert specs[0]["base"]["config"] == specs[1]["base"]["config"] == specs[0]["config"]
    quiet = run(bench, "--seeds", "1,2", "-q").stdout.split()
    assert quiet == [one["submission_id"] for one in machine["submissions"]]
    whole = bench.run("pair", verb="status")
    head, *lines = whole.stdout.splitlines()
    assert whole.returncode == 0 and head == "grid pair: 2 variants, 4 runs: 4 done", whole.stderr
    assert [line.split()[:2] for line in lines] == [[f"pair.{n}", sid[:12]] for n, sid in zip("ab", quiet, strict=True)]
    told = json.loads(bench.run("pair", "--json", verb="status").stdout)
    assert [one["submission_id"] for one in told["submissions"]] == quiet


def test_a_variant_that_fails_stops_no_other(make_bench):
    """The exit code is the worst of them, its line has the state, and the next variant is run."""
    bench = make_bench()
    (bench.folder / "pair.a.py").write_text(toy_text({"train2": "crash"}))
    done = run(bench, "--seeds", "1")
    assert done.returncode == 1, done.stderr
    first, second = done.stdout.splitlines()
    assert first.endswith("1 failed") and "mean BPB" in second


def test_a_diagnostic_variant_has_no_mean(make_bench):
    """Its line says why; the exit code is that of a good end."""
    bench = make_bench()
    (bench.folder / "pair.b.py").write_text(toy_text({"diagnostic": "yes"}))
    done = run(bench, "--seeds", "1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].endswith("diagnostic only: no score")


def test_ctrl_c_ends_the_grid_and_the_same_submit_goes_on(make_bench, tmp_path):
    """An interrupt voids what runs of all variants; the same submit runs what is missing and nothing twice."""
    bench = make_bench(toy_text({"train2": f"hang:{tmp_path}"}))
    first = start(bench, "--seeds", "1")
    try:
        logs = bench.runs_dir / "attempts"
        until(lambda: any("hanging" in log.read_text() for log in logs.glob("*-a1/log.txt")), "a variant hangs")
        first.send_signal(signal.SIGINT)
        out, err = first.communicate(timeout=30)
    finally:
        stop(first)
    assert first.returncode == 130 and "the same submit goes on" in err
    assert "not ended" in out and len(out.splitlines()) == 2
    bench.nobody_is_left()
    sealed = [folder for folder in bench.attempts() if (folder / "MANIFEST.json").exists()]
    void = [folder for folder in bench.attempts() if (folder / "VOID.json").exists()]
    assert void and len(sealed) + len(void) == len(bench.attempts())
    done = run(bench, "--seeds", "1")
    assert done.returncode == 0 and done.stdout.count("mean BPB") == 2, done.stderr
    assert len(bench.attempts()) == 2 + len(void) and all(folder in bench.attempts() for folder in sealed)


def test_cancel_ends_a_grid_by_its_name(make_bench, tmp_path):
    """What runs ends and is void, what waits is never begun; the same submit goes on with all of it."""
    bench = make_bench(toy_text({"train2": f"wait {tmp_path}/go"}))
    first = start(bench, "--seeds", "1,2")
    try:
        logs = bench.runs_dir / "attempts"
        until(lambda: any("waiting" in log.read_text() for log in logs.glob("*-a1/log.txt")), "a variant waits")
        assert bench.run("pair", "--seeds", "3", verb="cancel").returncode == 2
        asked = bench.run("pair", verb="cancel")
        first.communicate(timeout=PATIENCE)
    finally:
        stop(first)
    assert asked.returncode == 0 and "cancelled 2 of 2 variants of pair" in asked.stderr, asked.stderr
    begun = len(bench.attempts())
    assert first.returncode == NOT_FINISHED and begun == len([*logs.glob("*/VOID.json")])
    assert "nothing of pair is running" in bench.run("pair", verb="cancel").stderr
    (tmp_path / "go").touch()
    done = run(bench, "--seeds", "1,2")
    assert done.returncode == 0 and len(bench.attempts()) == 4 + begun, done.stderr


@pytest.mark.parametrize(
    "name, words",
    [("empty", "no variants"), ("mixed", "differ in vocabulary"), ("number", "not a Recipe or a Grid"), ("no", "no")],
)
def test_a_grid_that_cannot_be_is_refused(make_bench, name, words):
    """No variants, variants for different data, or something else: exit code 2, and nothing is written."""
    bench = make_bench()
    done = run(bench, recipe=f"./mine.py:{name}")
    assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr
    assert not bench.runs_dir.exists()


def test_variants_are_registered_with_one_look_at_the_attempts(tmp_path, monkeypatch):
    """However many there are: the attempts of a runs folder are read for the first of them alone."""
    looks = []
    monkeypatch.setattr("orchestrator.other_seeds.attempt_folders", lambda runs_dir: looks.append(runs_dir) or [])
    with Ledger.create(tmp_path) as ledger:
        asked = Asked(tmp_path)
        for seed in range(3):
            register(submission(seeds=(seed,)), tmp_path, ledger, asked)
        assert len(ledger.submissions()) == 3 and looks == [tmp_path]


def settings(folder, **flags):
    return Settings.resolve({"recipe": "int6_ablation"} | flags, {}, folder)


def test_a_grid_brings_its_target(monkeypatch, tmp_path):
    """One H100: device and processes, with their source; what somebody gave goes before."""
    install_nvml(monkeypatch, fake_nvml(["NVIDIA H100 80GB HBM3"] * 4))
    grid = load_grid("int6_ablation")
    own = settings_of_grid(grid, settings(tmp_path), None)
    assert (own["device"], own["processes"]) == ("cuda", 1)
    assert own.source("device") == own.source("processes") == "grid int6_ablation"
    given = settings_of_grid(grid, settings(tmp_path, processes=2, device="cuda"), None)
    assert (given["processes"], given.source("device")) == (2, "--device")
    cpu = settings_of_grid(grid, settings(tmp_path, device="cpu"), None)
    assert (cpu["device"], cpu["processes"]) == ("cpu", None)


def test_without_a_gpu_a_grid_for_one_says_how_to_try_it(monkeypatch, tmp_path):
    """The message names what it is meant for and the way on a CPU; a bundle for several programs is refused."""
    install_nvml(monkeypatch, fake_nvml([]))
    monkeypatch.setattr("orchestrator.hardware.gpus.ROCM", ("rocm-smi-that-is-not-there",))
    with pytest.raises(UsageError, match=r"meant for H100:1.*--device cpu --set"):
        settings_of_grid(load_grid("int6_ablation"), settings(tmp_path), None)
    with pytest.raises(UsageError, match="grid of 5"):
        settings_of_grid(load_grid("int6_ablation"), settings(tmp_path), Path("mine.py"))


def test_the_worst_exit_code_is_that_of_the_grid():
    """Infrastructure before failures of the code, those before gates, those before what is only not finished."""
    assert [worst([0, 3]), worst([3, 4]), worst([4, 1, 0]), worst([1, 5])] == [3, 4, 1, 5]
