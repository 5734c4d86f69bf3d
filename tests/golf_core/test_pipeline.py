"""Whole runs of the bundle in processes of their own: train, evaluate, one process and two, and what goes wrong."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from golf_core.bundle import ROOT, build_bundle
from golf_core.config import Config
from golf_core.config_io import override, to_dict
from golf_core.data.shards import SHARD_HEADER_BYTES
from golf_core.parts import load_parts
from golf_core.process import Place
from golf_core.recipes import load_recipe
from golf_core.run import Run
from results.ledger_check import check_ledger
from results.ledger_file import load_ledger
from tests.golf_core.forked import run_forked

TINY = [
    *("model.layers=2", "model.width=32", "model.heads=2", "model.kv_heads=1"),
    *("train.iterations=4", "train.batch_tokens=256", "train.seq_len=32", "train.log_every=1"),
    *("evaluate.seq_len=32", "evaluate.stride=16", "evaluate.batch_seqs=8"),
    *("ttt.chunk_tokens=512", "ttt.batch_seqs=4", "quant.keep_numel=64"),
]
PACKAGE_RUN = """
import json, sys
sys.path.insert(0, sys.argv.pop(1))
from golf_core.config import Config
from golf_core.config_io import from_dict
from golf_core.parts import load_parts
from golf_core.pipeline import main
config = from_dict(Config, json.loads(sys.argv.pop(1)))
main(config, load_parts(config))
"""


def tiny(*overrides: str) -> Config:
    return override(load_recipe("demo").config, [*TINY, *overrides])


def environment(data: tuple[Path, Path], seed: int) -> dict[str, str]:
    return {
        **os.environ,
        "SEED": str(seed),
        "DATA_PATH": str(data[0]),
        "TOKENIZER_PATH": str(data[1]),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }


def start_bundle(folder: Path, config: Config, data, *arguments: str, processes: int = 1):
    """Write the bundle into `folder` and start it there as a user does, alone or by torchrun: it trains, and becomes
    the program that scores; finished."""
    script = folder / "train_gpt.py"
    script.write_text(build_bundle(config))
    launch = [sys.executable]
    if processes > 1:
        launch += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    return subprocess.run(
        [*launch, str(script), *arguments, "--out", str(folder)],
        env=environment(data, 1337),
        capture_output=True,
        text=True,
        timeout=180,
    )


def run_bundle(folder: Path, config: Config, data, verb: str, *arguments: str, world: int = 1, seed: int = 1337):
    """Write the bundle into `folder` and run one stage of it there, in processes of its own (forked.py); finished."""
    script = folder / "train_gpt.py"
    script.write_text(build_bundle(config))
    return run_forked(script, verb, *arguments, "--out", folder, env=environment(data, seed), world=world)


def run_both_stages(folder: Path, config: Config, data, *arguments: str) -> str:
    """Train, then score in another process; what both printed."""
    said = ""
    for verb in ("train", "evaluate"):
        done = run_bundle(folder, config, data, verb, *arguments)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        said += done.stdout
    return said


def run_package(folder: Path, config: Config, data, verb: str):
    """One stage from the package; the finished process."""
    script = folder / "package_run.py"
    script.write_text(PACKAGE_RUN)
    given = (ROOT, json.dumps(to_dict(config)), verb, "--out", folder)
    return run_forked(script, *given, env=environment(data, 1337))


def scores_of(folder: Path) -> dict:
    return json.loads((folder / "scores.json").read_text())


@pytest.fixture(scope="module")
def finished(tmp_path_factory, small_data):
    """A whole run of one process without a verb: the folder, and what it printed."""
    folder = tmp_path_factory.mktemp("finished")
    done = start_bundle(folder, tiny(), small_data)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def test_a_run_leaves_what_the_attempt_needs(finished):
    """One command trains, then scores in a fresh process; files, phases and numbers are there and agree."""
    folder, log = finished
    scores = scores_of(folder)
    assert list(scores["stages"]) == ["roundtrip", "sliding", "ttt"]
    assert scores["final_stage"] == "ttt"
    assert scores["model_bytes"] == (folder / "artifact.bin").stat().st_size
    assert scores["code_bytes"] == (folder / "train_gpt.py").stat().st_size
    assert all(s["tokens"] == 2_999 for s in scores["stages"].values())
    assert len({s["bytes"] for s in scores["stages"].values()}) == 1
    edges = [line.split()[0:2] for line in log.splitlines() if line.startswith("phase:")]
    assert [name for edge, name in edges if edge == "phase:begin"] == [
        name for edge, name in edges if edge == "phase:end"
    ]
    assert [name for edge, name in edges if edge == "phase:begin"] == [
        *("setup", "warmup", "train", "average", "validate", "quantize", "compress"),
        *("load", "roundtrip", "sliding", "ttt"),
    ]
    events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert {"start", "step", "train_end", "artifact", "score"} <= {e["event"] for e in events}
    assert [e["step"] for e in events if e["event"] == "step"] == [1, 2, 3, 4]


def test_the_score_ledger_accounts_for_every_target(finished):
    """score_ledger.bin shows, without torch or model, that each stage scored every target once and learned only from
    what was scored; it agrees with scores.json, and its ends with what the log told."""
    stages = load_ledger(finished[0] / "score_ledger.bin")
    roundtrip, sliding, ttt = check_ledger(stages, scores_of(finished[0])["stages"])
    assert [one.verdict for one in (roundtrip, sliding, ttt)] == ["TRACK_A", "TRACK_A", "SCORE_FIRST_OK"]
    assert roundtrip.commits < sliding.commits and roundtrip.adaptations == sliding.adaptations == 0 < ttt.adaptations
    for stage in stages:
        assert f"ledger_{stage.name} order:{stage.order} clock:{stage.clock}\n" in finished[1]


def test_package_and_bundle_give_identical_numbers(finished, small_data, tmp_path):
    """The same config run from the package has the same artifact and the same scores, byte for byte."""
    done = run_package(tmp_path, tiny(), small_data, "train")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "artifact.bin").read_bytes() == (finished[0] / "artifact.bin").read_bytes()


@pytest.mark.slow
def test_two_processes_compute_what_one_does(finished, small_data, tmp_path):
    """Trained by two processes the losses agree with one's to rounding; scored by two, the same artifact's scores do,
    learning while scoring included."""
    alone = finished[0]
    done = run_bundle(tmp_path, tiny(), small_data, "train", world=2)
    assert done.returncode == 0, done.stdout + done.stderr

    def losses(folder):
        events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        return [e["pre_quant_loss"] for e in events if e["event"] == "train_end"]

    assert losses(tmp_path) == pytest.approx(losses(alone), rel=1e-4)
    (tmp_path / "artifact.bin").write_bytes((alone / "artifact.bin").read_bytes())
    done = run_bundle(tmp_path, tiny(), small_data, "evaluate", world=2)
    assert done.returncode == 0, done.stdout + done.stderr
    for stage, score in scores_of(alone)["stages"].items():
        two = scores_of(tmp_path)["stages"][stage]
        assert (two["tokens"], two["bytes"]) == (score["tokens"], score["bytes"])
        assert two["val_bpb"] == pytest.approx(score["val_bpb"], rel=1e-6)


def test_the_seed_decides_and_repeats(finished, small_data, tmp_path):
    """Another seed gives another artifact; a warm-up before the run leaves no trace in it."""
    (tmp_path / "other").mkdir()
    (tmp_path / "warm").mkdir()
    assert run_bundle(tmp_path / "other", tiny(), small_data, "train", seed=42).returncode == 0
    assert run_bundle(tmp_path / "warm", tiny("train.warmup_steps=3"), small_data, "train").returncode == 0
    reference = (finished[0] / "artifact.bin").read_bytes()
    assert (tmp_path / "other" / "artifact.bin").read_bytes() != reference
    assert (tmp_path / "warm" / "artifact.bin").read_bytes() == reference


def test_the_time_cap_holds(small_data, tmp_path):
    """With a cap of seconds training ends by the clock, before the cap; validations are phases of their own."""
    config = tiny("train.iterations=1000000", "train.max_seconds=1.5", "train.val_every=12")
    done = run_bundle(tmp_path, config, small_data, "train")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    (end,) = (e for e in events if e["event"] == "train_end")
    assert end["stopped_by"] == "wallclock"
    assert end["train_seconds"] <= 1.5
    edges = [line for line in done.stdout.splitlines() if line.startswith("phase:")]
    parts = [edges[i : i + 4] for i, line in enumerate(edges) if line == "phase:begin train"]
    assert len(parts) == 1 + sum(e["event"] == "val" for e in events) >= 2
    for part in parts[:-1]:
        assert part == ["phase:begin train", "phase:end train", "phase:begin validate", "phase:end validate"]


def damaged_shard(folder: Path, small_data, damage) -> tuple[Path, Path]:
    """The small data with one byte range of the training shard changed."""
    for path in small_data[0].iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    path = folder / "sotu_train_000000.bin"
    path.write_bytes(damage(bytearray(path.read_bytes())))
    return folder, small_data[1]


@pytest.mark.parametrize(
    ("kind", "damage", "message"),
    [
        ("data", lambda b: struct.pack("<i", 7) + b[4:], "is no token shard"),
        ("data", lambda b: b[:-2], "its header counts"),
        ("data", lambda b: b[:SHARD_HEADER_BYTES] + b"\xff\xff" + b[SHARD_HEADER_BYTES + 2 :], "holds token 65535"),
    ],
    ids=["magic", "count", "token"],
)
def test_bad_data_is_one_clear_line(small_data, tmp_path, kind, damage, message):
    """A damaged shard ends the run with its class and its reason, and leaves no artifact."""
    (tmp_path / "data").mkdir()
    (tmp_path / "run").mkdir()
    done = run_bundle(tmp_path / "run", tiny(), damaged_shard(tmp_path / "data", small_data, damage), "train")
    assert done.returncode == 1
    (fatal,) = (line for line in done.stdout.splitlines() if line.startswith("fatal:"))
    assert fatal.startswith(f"fatal:{kind} ")
    assert message in fatal
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "artifact.bin").exists()


def test_a_loss_that_is_no_number_ends_the_run(small_data, tmp_path):
    """Training that diverges stops at the next logged step and says where."""
    done = run_bundle(tmp_path, tiny("optim.scalar_lr=1e30", "train.iterations=50"), small_data, "train")
    assert done.returncode == 1
    assert "fatal:nan step " in done.stdout


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[: len(data) // 2], "cut or altered"),
        (lambda data: data[:100] + bytes([data[100] ^ 1]) + data[101:], "cut or altered"),
        (None, "cannot be read"),
    ],
    ids=["cut", "bit", "missing"],
)
def test_a_bad_artifact_is_not_scored(finished, small_data, tmp_path, change, message):
    """An artifact that was cut, flipped or lost gives a clear line and no scores."""
    if change:
        (tmp_path / "artifact.bin").write_bytes(change((finished[0] / "artifact.bin").read_bytes()))
    done = run_bundle(tmp_path, tiny(), small_data, "evaluate")
    assert done.returncode == 1
    assert "fatal:artifact " in done.stdout
    assert message in done.stdout
    assert not (tmp_path / "scores.json").exists()


def test_an_artifact_of_another_model_is_not_scored(finished, small_data, tmp_path):
    """An artifact that does not fit the config is refused with the tensor that differs."""
    done = run_bundle(
        tmp_path, tiny("model.layers=3"), small_data, "evaluate", "--artifact", str(finished[0] / "artifact.bin")
    )
    assert done.returncode == 1
    assert "does not fit this model: blocks.2." in done.stdout


def test_describe_counts_without_data(tmp_path):
    """`describe` needs no environment and prints the parameters of the model that would be built."""
    script = tmp_path / "train_gpt.py"
    script.write_text(build_bundle(load_recipe("naive_baseline").config))
    bare = {k: v for k, v in os.environ.items() if k not in ("DATA_PATH", "TOKENIZER_PATH", "SEED")}
    done = subprocess.run(
        [sys.executable, str(script), "describe"], env=bare, capture_output=True, text=True, timeout=120
    )
    facts = json.loads(done.stdout)
    assert facts["parameters"] == 17_059_912
    assert 12e6 < facts["model_bytes_estimate"] < 17e6


class Clock:
    """Stands for `time`: moved by hand."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("stamp", ["", "DIAGNOSTIC ONLY "])
def test_a_long_stage_is_not_silent(small_data, tmp_path, monkeypatch, capsys, rank, stamp):
    """Rank 0 says how far a stage is once in 30 s at most, stamped where the run is a diagnostic, and notes it once a
    second at most; nothing is worked out for reports that are not due."""
    monkeypatch.setenv("DATA_PATH", str(small_data[0]))
    monkeypatch.setenv("TOKENIZER_PATH", str(small_data[1]))
    clock, config, asked = Clock(), tiny(), []
    monkeypatch.setattr("golf_core.run.time", clock)
    run = Run(config, load_parts(config), Place(rank, 2, torch.device("cpu"), torch.float32), tmp_path, clock.monotonic)
    run.journal.diagnostic = bool(stamp)
    ledger = SimpleNamespace(running_bpb=lambda: asked.append(clock.now) or 1.23456)
    report = run.progress("sliding", ledger)
    for done in range(250):  # 0.25 s apart
        report(done, 250)
        clock.now += 0.25
    lines = [f"{stamp}sliding: {percent}% bpb so far 1.2346" for percent in ("48.0", "96.0")]
    assert capsys.readouterr().out.splitlines() == (lines if rank == 0 else [])
    assert asked == [101.0 + second for second in range(62)]
    assert (tmp_path / "metrics.jsonl").exists() == (rank == 0)
    if rank == 0:
        notes = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
        assert [note["done"] for note in notes] == list(range(4, 250, 4))
        assert all(note.get("diagnostic_only", False) == bool(stamp) for note in notes)


def test_threads_of_the_suite_are_one():
    """Two test processes on two cores must not fight over them."""
    assert torch.get_num_threads() == 1
