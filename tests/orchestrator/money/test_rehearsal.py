"""The rehearsal: which code needs one, what it runs, on what data, and that it happens once."""

import struct
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golf_core.bundle_pack import pack_source
from golf_core.config_io import to_dict
from golf_core.policy import load_policy
from golf_core.recipes import RECIPES
from golf_core.rundir import RunDirError, read_json
from orchestrator.attempts import create
from orchestrator.catalogue import build
from orchestrator.ledger.store import Ledger
from orchestrator.limits import REHEARSAL_SECONDS, limits_of
from orchestrator.money.rehearsal import (
    STEPS,
    VALIDATION_TOKENS,
    has_run,
    key_of,
    parts_sha256,
    plan_rehearsal,
    write_rehearsed,
)
from orchestrator.money.spending import spent_on
from orchestrator.plan import Plan
from orchestrator.planning import PlannedSubmit
from orchestrator.request import Request
from orchestrator.script import Script
from orchestrator.settings import Settings
from orchestrator.spec import Data, Submission, Target
from orchestrator.submit import rehearse
from orchestrator.view import make_view
from orchestrator.worker.attempt import run_attempt
from orchestrator.worker.short_data import HEADER_BYTES, lay_out_short
from tests.orchestrator.money.test_cost import EIGHT, cost
from tests.orchestrator.toy import limits, submission, toy_text

DEMO = RECIPES["demo"]().config
SIMULATED = Target(device="cpu", gpu="H100", gpus=8, processes=2)


def asked(config=DEMO, target=EIGHT, **changed):
    made = submission(seeds=(7, 8, 9))
    return replace(made, config=to_dict(config), bundle=build(config), target=target, **changed)


def planned(of, config=DEMO, wanted=True, known=False, **price):
    return plan_rehearsal(of, config, cost(**price), wanted=wanted, known=known)


def write_shard(path, tokens):
    head = struct.pack("<3i", 20240520, 1, len(tokens)).ljust(HEADER_BYTES, b"\0")
    path.write_bytes(head + struct.pack(f"<{len(tokens)}H", *tokens))


def test_a_rehearsal_is_a_few_steps_of_the_same_code_on_one_gpu():
    """Its parts have the same hash; one seed, one process, few steps, nothing of it a score, a share of the price."""
    main = asked()
    found = planned(main)
    short = found.submission
    assert parts_sha256(short.bundle) == parts_sha256(main.bundle) and short.submission_id != main.submission_id
    assert (short.seeds, short.target.gpus, short.target.processes) == ((7,), 1, 1)
    assert short.config["train"]["iterations"] == STEPS and short.diagnostic_only
    assert short.rehearsal == {"of": main.submission_id, "validation_tokens": VALIDATION_TOKENS}
    assert found.cost.price.usd_per_hour == pytest.approx(31.59 / 8)
    assert found.cost.worst_usd == pytest.approx(3 * REHEARSAL_SECONDS * 31.59 / 8 / 3600)
    assert "0.26 USD expected" in found.rows()[0][1] and found.rows()[0][2] == "--no-rehearsal leaves it out"
    assert Submission.from_dict(short.to_dict(""), short.bundle) == short
    given_none = Settings.resolve({}, {}, Path("/nowhere"))
    assert limits_of(short, given_none).attempt_s == REHEARSAL_SECONDS < limits_of(main, given_none).attempt_s


def test_why_there_is_none_is_said():
    """A script, an edited bundle, code that has run, a flag; and nothing at all where nothing is paid for."""
    script = replace(asked(), script=Script(name="t.py", env=(), artifact=None))
    for found, why in (
        (planned(script, None), "a script runs as it is"),
        (planned(asked(), None), "an edited bundle"),
        (planned(asked(), known=True), "this code has run on such a GPU"),
        (planned(asked(), wanted=False), "--no-rehearsal"),
    ):
        assert found.submission is None and found.rows()[0][1].startswith(f"none: {why}")
    assert planned(asked(), hourly=0.0) is None and planned(asked(target=Target(device="cpu"))) is None


def test_code_is_known_by_its_parts():
    """Another learning rate, name or form is the same code; another part is not."""
    main = parts_sha256(build(DEMO))
    assert parts_sha256(build(replace(DEMO, name="other", optim=replace(DEMO.optim, matrix_lr=0.5)))) == main
    assert parts_sha256(pack_source(build(DEMO))) == main
    assert parts_sha256(build(replace(DEMO, artifact=replace(DEMO.artifact, codec="zlib")))) != main
    assert parts_sha256(build(DEMO).replace("def forward(", "def forward( ", 1)) != main


def test_it_is_remembered_for_such_a_gpu(tmp_path):
    """A runs folder without a ledger knows nothing; a GPU that is only declared proves nothing for a real one."""
    main, runs_dir = asked(), tmp_path / "runs"
    assert not has_run(runs_dir, main) and not runs_dir.exists()
    with Ledger.create(runs_dir) as ledger:
        write_rehearsed(ledger, planned(asked(target=SIMULATED)).submission)
        assert not has_run(runs_dir, main) and has_run(runs_dir, asked(target=SIMULATED))
        write_rehearsed(ledger, planned(main).submission)
    assert has_run(runs_dir, main) and not has_run(runs_dir, asked(target=replace(EIGHT, gpu="NVIDIA B200")))
    assert key_of(main) == key_of(planned(main).submission)


@settings(max_examples=30)
@given(count=st.integers(1, 50), tokens=st.integers(1, 60))
def test_short_data_is_the_beginning_of_the_validation_text(tmp_path_factory, count, tokens):
    """One shard, whose header counts what is in it; training shards are the same files; sidecars are left out."""
    folder = tmp_path_factory.mktemp("data")
    write_shard(folder / "x_val_000000.bin", range(count))
    write_shard(folder / "x_val_000001.bin", range(9))
    (folder / "x_val_bytes_000000.bin").write_bytes(b"sidecar")
    write_shard(folder / "x_train_000000.bin", range(3))
    short = lay_out_short(folder, folder / "short", tokens)
    assert sorted(path.name for path in short.iterdir()) == ["x_train_000000.bin", "x_val_000000.bin"]
    data, kept = (short / "x_val_000000.bin").read_bytes(), min(count, tokens)
    assert struct.unpack("<3i", data[:12]) == (20240520, 1, kept)
    assert data[HEADER_BYTES:] == struct.pack(f"<{kept}H", *range(kept))
    assert (short / "x_train_000000.bin").samefile(folder / "x_train_000000.bin")


def test_data_without_a_validation_shard_is_no_data(tmp_path):
    """The worker ends with the words of it, not with a program that finds nothing."""
    with pytest.raises(RunDirError, match="has no validation shard"):
        lay_out_short(tmp_path, tmp_path / "short", 10)
    (tmp_path / "x_val_0.bin").write_bytes(b"cut")
    with pytest.raises(RunDirError, match="is no token shard"):
        lay_out_short(tmp_path, tmp_path / "again", 10)


@pytest.mark.whole
def test_the_demo_is_rehearsed_end_to_end(tmp_path, corpus):
    """The real bundle, shortened: it trains, rounds, compresses, and scores the short text in all its stages."""
    data = Data(
        path=corpus["data_path"],
        sha256="d" * 64,
        tokenizer_path=corpus["tokenizer_path"],
        tokenizer_sha256="e" * 64,
    )
    short = planned(asked(target=SIMULATED, data=data)).submission
    patient = limits(startup_s=300.0, silence_s=300.0, train_s=300.0, evaluate_s=300.0)
    (tmp_path / "runs").mkdir()
    folder = create(tmp_path / "runs", short.run_json(short.runs[0], 1, patient), short.bundle)
    assert run_attempt(folder)["outcome"] == "completed"
    stages = read_json(folder / "scores.json")["stages"]
    assert list(stages) == ["roundtrip", "sliding", "ttt"]
    assert {one["tokens"] for one in stages.values()} == {VALIDATION_TOKENS - 1}


@pytest.mark.parametrize("behaviour, went_well", [({}, True), ({"compress": "crash"}, False)])
def test_what_is_rehearsed_on_this_machine(tmp_path, monkeypatch, corpus, behaviour, went_well):
    """Its end is remembered; where it fails, its outcome is that of the submit, and what it was for never begins."""
    monkeypatch.setattr("orchestrator.money.rehearsal.build", lambda config: toy_text(behaviour))
    monkeypatch.setattr("orchestrator.finish.results_command", lambda *arguments: 0)
    given = {"runs_dir": str(tmp_path / "runs"), "on": "process", "price": 36.0, "startup_seconds": 60.0}
    flags = Settings.resolve(given, {}, Path("/nowhere"))
    data = replace(submission().data, path=corpus["data_path"], tokenizer_path=corpus["tokenizer_path"])
    target = replace(SIMULATED, launcher="python", processes=1)
    main = asked(target=target, data=data, policy=load_policy("demo"))
    plan = Plan(submission=main, runs=(), sources={}, size=None, meant_for=None, cost=cost(), rehearsal=planned(main))
    with Ledger.create(tmp_path / "runs") as ledger:
        outcome = rehearse(plan, PlannedSubmit((plan,), flags, Request()), ledger, make_view())
        assert ledger.submissions() == [plan.rehearsal.submission.submission_id]
        found = spent_on(ledger, ledger.submissions()[0])
    assert found.exact and 0 < found.usd < 1 and found.reserved_usd == pytest.approx(0)
    assert (outcome is None) == went_well == has_run(tmp_path / "runs", plan.rehearsal.submission)
    if outcome is not None:
        assert outcome.exit_code == 1 and outcome.spent == found
