"""Folders that we packed: in their runs folder, and elsewhere with nothing but their logs."""

import shutil
import subprocess
import sys

import pytest

from golf_core.policy import load_policy
from results.collect import collect
from results.pack import pack
from results.project import Project
from results.untrusted import Folder
from results.verify.check import check_logs
from tests.results.attempts import CODE, Runs, stage

POLICY = load_policy("demo").to_dict()
MODEL = b"weights" * 300
DIGEST = "5e" * 32


def log_of(seed, stages, steps=500, average=120.123456, train_ms=60_061.728, config=DIGEST, hardware="cpu"):
    """What our trainer prints, in its words."""
    stated = f"torch:2.13.0+cpu config_sha256:{config} hardware:{hardware}"
    size = len(MODEL) + len(CODE)
    lines = [f"stage:train recipe:demo seed:{seed} world_size:2 dtype:fp32", stated, "model_params:123456"]
    lines += ["phase:begin train", f"step:{steps}/{steps} train_loss:3.1 train_time:{train_ms:.0f}ms step_avg:120.11ms"]
    lines += ["phase:end train"]
    lines += [f"stopped_by:iterations step:{steps} train_time:{train_ms:.3f}ms step_avg:{average:.6f}ms"]
    lines += [f"Serialized model lzma: {len(MODEL)} bytes", f"Code size: {len(CODE)} bytes"]
    lines += [f"Total submission size lzma: {size} bytes"]
    lines += [f"stage:evaluate recipe:demo seed:{seed} world_size:2 dtype:fp32", stated]
    for name, one in stages.items():
        told = f"val_loss:{one['val_loss']:.8f} val_bpb:{one['val_bpb']:.8f} eval_time:{1000 * one['seconds']:.3f}ms"
        lines += [f"phase:begin {name}", f"final_{name} {told}", f"phase:end {name}"]
    total = 1000 * sum(one["seconds"] for one in stages.values())
    return "\n".join([*lines, f"evaluated:{len(stages)} stages eval_sum:{total:.3f}ms"]) + "\n"


@pytest.fixture
def runs(tmp_path):
    made = Runs(tmp_path / "runs", seeds=(1, 2))
    for seed in made.seeds:
        bpb = 1.7 + seed / 1e5 + 0.00000123
        stages = {"roundtrip": stage(bpb), "sliding": stage(bpb - 0.05), "ttt": stage(bpb - 0.06, loop_seconds=9.95)}
        made.attempt(
            seed,
            stages=stages,
            artifact=MODEL,
            train_end={"steps": 500, "step_avg_ms": 120.123456, "train_seconds": 60.061728},
            log=log_of(seed, stages),
        )
    pack(collect(made.folder), Project(), made.folder / "submission")
    return made


def gates_of(checked):
    return {gate.name: gate for gate in checked.gates}


def test_a_true_folder_of_ours_has_no_fault_without_its_runs(runs, tmp_path):
    """Copied elsewhere, nothing that it claims is refuted by its own logs, which tell config, hardware and times."""
    away = shutil.copytree(runs.folder / "submission", tmp_path / "away")
    checked = check_logs(Folder(away), POLICY)
    wrong = [one for one in [*checked.findings, *checked.gates] if one.verdict == "fail"]
    assert wrong == [] and checked.nothing_failed
    by_place = {one.place: one for one in checked.findings}
    assert by_place["submission.json: seed_results.1.step_avg_ms"].verdict == "pass"
    assert by_place["submission.json: seed_results.1.eval_time_s"].derived == "30.000 s"
    gates = gates_of(checked)
    assert gates["same config"].verdict == "pass" and DIGEST[:12] in gates["same config"].why
    assert gates["hardware"].value == "2xcpu" and gates["evaluate: sum"].value == "30.000 s"
    asked = gates_of(check_logs(Folder(away), load_policy("record-2026-03").to_dict()))
    assert asked["hardware"].verdict == "fail" and asked["hardware"].source.endswith(".log:2")


LIES = {
    "another config": ("config_sha256:5e", "config_sha256:6e", "same config", "fail"),
    "a longer sum": ("eval_sum:30000.000ms", "eval_sum:700000.000ms", "evaluate: sum", "fail"),
    "a shorter sum": ("eval_sum:30000.000ms", "eval_sum:1.000ms", "evaluate: sum", "pass"),
}


@pytest.mark.parametrize("old, new, name, verdict", LIES.values(), ids=LIES.keys())
def test_what_our_log_states_is_held_to_the_rest(runs, tmp_path, old, new, name, verdict):
    """Another hash of one seed refutes; a stated sum counts where it is larger than that of its stages, not below."""
    away = shutil.copytree(runs.folder / "submission", tmp_path / "away")
    path = away / "train_seed2.log"
    path.write_text(path.read_text().replace(old, new))
    gate = gates_of(check_logs(Folder(away), POLICY))[name]
    assert gate.verdict == verdict and (name != "evaluate: sum" or gate.value in ("30.000 s", "700.000 s")), gate


def test_a_packed_folder_finds_the_runs_that_it_lies_in(runs):
    """Named by its path, without --runs-dir, the sealed attempts beside it are the evidence, under its own policy."""
    path = runs.folder / "submission"
    done = subprocess.run([sys.executable, "-m", "results", "verify", path], capture_output=True, text=True)
    assert "policy demo, derived from the sealed attempts of" in done.stdout.replace("\n", " "), done.stderr
    assert "judged by the logs alone" not in done.stderr
