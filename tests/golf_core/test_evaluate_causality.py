"""The dynamic test: what comes later must not change what was scored before; and what says when it did."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from golf_core.bundle import build_bundle
from golf_core.config import TTTConfig
from golf_core.data.shards import BOS_ID
from golf_core.evaluate.chain import UNSCORED
from golf_core.evaluate.chunk_ttt import evaluate_chunk_ttt
from golf_core.evaluate.ledger import ILLEGAL_TRAIN_BEFORE_SCORE, SCORE_FIRST_OK, TRACK_A
from golf_core.evaluate.lora_ttt import evaluate_lora_ttt
from golf_core.evaluate.phased_ttt import evaluate_phased_ttt
from golf_core.evaluate.sliding import evaluate_windows
from golf_core.evaluate.tokens import LedgerError
from golf_core.evaluate.unscored_ttt import evaluate_unscored_ttt, rate_groups, shared_steps
from golf_core.fields import ConfigError
from results.ledger_check import check_ledger
from results.ledger_file import load_ledger
from tests.golf_core.forked import run_forked
from tests.golf_core.test_evaluate import events_of, quiet, stream
from tests.golf_core.test_lora_ttt import TECHNIQUES, RecordingLedger, documents, trained
from tests.golf_core.test_pipeline import environment, run_both_stages, run_bundle, scores_of, tiny

CONFIGS = {
    "chunk": TTTConfig(kind="chunk", chunk_tokens=24, lr=0.05, epochs=2, batch_seqs=2),
    "lora": TTTConfig(kind="lora", lora_chunk_tokens=8, lora_lr=0.02, lora_documents=3, lora_rank=2),
    "phased": TTTConfig(
        kind="phased",
        phased_documents=3,
        phases=2,
        phased_lr=0.05,
        chunk_tokens=20,
        batch_seqs=2,
        lora_chunk_tokens=8,
        lora_lr=0.02,
        lora_documents=1,
        lora_rank=2,
    ),
    "unscored": TTTConfig(kind="unscored", unscored_lr=0.003, unscored_epochs=2, batch_seqs=4),
}
EVALUATE = {
    "chunk": evaluate_chunk_ttt,
    "lora": evaluate_lora_ttt,
    "phased": evaluate_phased_ttt,
    "unscored": evaluate_unscored_ttt,
}
WINDOWS = {"seq_len": 16, "stride": 8, "batch_seqs": 3, "progress": quiet}
LEARNING = ("chunk", "lora", "phased")
KINDS = ("plain", "sliding", "chunk", "lora")  # which score in the stream's order; for phased see test_phased_ttt.py
STREAM = documents(30, 41, 9, 37)


def score(kind: str, tokens: np.ndarray) -> RecordingLedger:
    """A finished evaluation of a kind, with each target's loss."""
    ledger, model = RecordingLedger(tokens), trained()
    if kind in EVALUATE:
        EVALUATE[kind](model, ledger, CONFIGS[kind], **WINDOWS)
    else:
        evaluate_windows(model, ledger, **{**WINDOWS, "stride": 16 if kind == "plain" else 8})
    ledger.finish()
    return ledger


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, np.ndarray]:
    return {kind: score(kind, STREAM).nats for kind in (*KINDS, "unscored")}


def corrupted(start: int, seed: int, documents_too: bool) -> np.ndarray:
    """The stream with every token from `start` on replaced; documents stay where they are unless asked."""
    tokens = STREAM.copy()
    tokens[start:] = np.maximum(stream(len(tokens) - 1, seed)[start:], BOS_ID + 1)
    if documents_too:
        tokens[start::7] = BOS_ID
    else:
        tokens[start:][STREAM[start:] == BOS_ID] = BOS_ID
    return tokens


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8)
@given(start=st.integers(1, len(STREAM) - 1), seed=st.integers(1, 99), documents_too=st.booleans())
def test_what_comes_later_changes_no_score(kind, start, seed, documents_too, undisturbed):
    """With all tokens from any place on replaced, ends of documents included, every score before is the same."""
    after = score(kind, corrupted(start, seed, documents_too)).nats
    if kind == "lora" and documents_too:  # other batches, and so other rounding
        np.testing.assert_allclose(after[: start - 1], undisturbed[kind][: start - 1], rtol=1e-3)
    else:
        assert np.array_equal(after[: start - 1], undisturbed[kind][: start - 1])
    assert start > len(STREAM) - 9 or not np.array_equal(after, undisturbed[kind])


def test_later_chunks_in_another_order_change_no_earlier_score(undisturbed):
    """Permuted tokens of chunk c + 1 and later leave the scores of chunks up to c, all of which were learned from."""
    for chunk in range(1, len(STREAM) // 24):
        tokens = STREAM.copy()
        tokens[chunk * 24 + 1 :] = np.random.default_rng(chunk).permutation(tokens[chunk * 24 + 1 :])
        assert np.array_equal(score("chunk", tokens).nats[: chunk * 24], undisturbed["chunk"][: chunk * 24])


def test_learning_before_scoring_is_seen(undisturbed):
    """The same test fails for unscored learning: the first scores know of the last tokens."""
    after = score("unscored", corrupted(100, 1, False)).nats
    assert not np.isclose(after[:90], undisturbed["unscored"][:90]).all()
    assert undisturbed["unscored"].mean() < undisturbed["sliding"].mean()


@pytest.mark.parametrize(
    ("kind", "verdict"),
    [
        ("plain", TRACK_A),
        ("sliding", TRACK_A),
        ("chunk", SCORE_FIRST_OK),
        ("lora", SCORE_FIRST_OK),
        ("phased", SCORE_FIRST_OK),
        ("unscored", ILLEGAL_TRAIN_BEFORE_SCORE),
    ],
)
def test_the_verdict_is_what_was_done(kind, verdict):
    """A finished ledger says how its stage learned; only the unscored one is tainted, and its record shows it."""
    ledger = score(kind, STREAM)
    assert ledger.verdict == verdict
    assert ledger.tainted == (kind == "unscored") == any(event[0] == UNSCORED for event in events_of(ledger))


def test_a_verdict_comes_with_the_end():
    """There is none before, and looking at the tokens is enough for the worst."""
    ledger = RecordingLedger(STREAM)
    with pytest.raises(LedgerError, match="is not finished has no verdict"):
        _ = ledger.verdict
    ledger.unscored_tokens()
    evaluate_windows(trained(), ledger, **WINDOWS)
    ledger.finish()
    assert ledger.verdict == ILLEGAL_TRAIN_BEFORE_SCORE


@given(st.integers(1, 500), st.integers(1, 40), st.integers(1, 9), st.integers(1, 5))
def test_every_rank_takes_as_many_unscored_steps(targets, seq_len, batch_seqs, world):
    """Each step has a part for every rank, and an epoch covers every target once, in contiguous shares."""
    steps = shared_steps(targets, seq_len, batch_seqs, world)
    assert all(len(step) == world for step in steps)
    spans = [span for rank in range(world) for step in steps for span in step[rank]]
    assert [t for first, stop in spans for t in range(first, stop)] == list(range(targets))
    assert all(sum(map(len, step)) > 0 for step in steps)


def test_unscored_rates_by_matrix():
    """Three times the rate for the MLP's output matrices, half for its input ones, every parameter once."""
    model = trained()
    groups = rate_groups(model, 0.5)
    rates = {id(p): lr for params, lr in groups for p in params}
    assert len(rates) == sum(len(params) for params, _ in groups) == len(list(model.parameters()))
    block = model.blocks[1]
    assert rates[id(block.mlp.proj.weight)] == 1.5 and rates[id(block.mlp.fc.weight)] == 0.25
    assert rates[id(block.attn.proj.weight)] == rates[id(model.tok_emb.weight)] == 0.5


def test_a_model_computes_the_same_in_training_and_evaluation():
    """No technique of the model behaves differently after train(): rounding in training is the trainer's, outside."""
    ids = torch.from_numpy(STREAM[:32].astype(np.int64))[None]
    for overrides in TECHNIQUES.values():
        model = trained(*overrides)
        with torch.no_grad():
            assert torch.equal(model.train().hidden(ids), model.eval().hidden(ids))


RANKS = """
import json, sys
from pathlib import Path
from golf_core.evaluate.ledger import ScoreLedger
from golf_core.evaluate.ledger_file import encode_ledger
from golf_core.process import joined_group
from tests.golf_core.test_evaluate import TABLES
from tests.golf_core.test_evaluate_causality import CONFIGS, EVALUATE, STREAM, WINDOWS, trained
found, records = {}, []
with joined_group("fp32") as place:
    for kind, evaluate in EVALUATE.items():
        ledger = ScoreLedger(kind, STREAM, TABLES, place.device, place.rank, place.world)
        evaluate(trained(), ledger, CONFIGS[kind], **WINDOWS)
        score = ledger.finish()
        records.append(ledger.record())
        facts = {"ledger_order": ledger.facts["order"], "ledger_clock": ledger.facts["clock"]}
        found[kind] = {**vars(score), "verdict": ledger.verdict, **facts}
    if place.first:
        Path(sys.argv[1], "score_ledger.bin").write_bytes(encode_ledger(records))
    print("FOUND" + json.dumps([place.rank, found]) + "\\n", end="", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 3])
def test_uneven_ranks_neither_hang_nor_differ(tmp_path, world):
    """Processes with shares of unequal length, and more of them than a chunk has sequences, finish; legal learning
    scores what one process scores; every rank knows the same end; and the ranks' ledger holds when read again."""
    script = tmp_path / "ranks.py"
    script.write_text(RANKS)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = run_forked(script, tmp_path, env=environment, world=world)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line[5:]) for line in done.stdout.splitlines() if line.startswith("FOUND")]
    assert sorted(rank for rank, _ in found) == list(range(world))
    assert all(by_kind == found[0][1] for _, by_kind in found)
    by_kind = found[0][1]
    for kind in LEARNING:
        alone = score(kind, STREAM)
        assert by_kind[kind]["val_loss"] == pytest.approx(float(np.mean(alone.nats)), rel=1e-3)
        assert (by_kind[kind]["tokens"], by_kind[kind]["verdict"]) == (alone.targets, SCORE_FIRST_OK)
    assert by_kind["unscored"]["verdict"] == ILLEGAL_TRAIN_BEFORE_SCORE
    shown = check_ledger(load_ledger(tmp_path / "score_ledger.bin"), by_kind)
    assert [(one.stage, one.ranks) for one in shown] == [(kind, world) for kind in EVALUATE]


def test_a_diagnostic_run_is_stamped_everywhere(small_data, tmp_path):
    """Every line with a score and every event carries the stamp, nothing is the final stage, the record has the
    verdicts."""
    config = tiny("ttt.kind=unscored", "ttt.unscored_epochs=1", "diagnostic_only=true", "train.val_every=2")
    for verb in ("train", "evaluate"):
        done = run_bundle(tmp_path, config, small_data, verb)
        assert done.returncode == 0, done.stdout + done.stderr
        scored = [line for line in done.stdout.splitlines() if "val_bpb" in line or "val_loss" in line]
        assert scored and all(line.startswith("DIAGNOSTIC ONLY ") for line in scored)
    events = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert {"score", "train_end", "val"} <= {e["event"] for e in events}
    assert all(e["diagnostic_only"] is True for e in events)
    scores = scores_of(tmp_path)
    assert scores["diagnostic_only"] is True and scores["final_stage"] is None
    verdicts = {"roundtrip": TRACK_A, "sliding": TRACK_A, "ttt": ILLEGAL_TRAIN_BEFORE_SCORE}
    assert {name: stage["verdict"] for name, stage in scores["stages"].items()} == verdicts
    shown = check_ledger(load_ledger(tmp_path / "score_ledger.bin"), scores["stages"])
    assert {one.stage: one.verdict for one in shown} == verdicts


LEGAL = ("ttt.kind=lora", "ttt.lora_chunk_tokens=16", "ttt.lora_documents=16")


@pytest.fixture(scope="module")
def legal(small_data, tmp_path_factory) -> tuple[Path, str]:
    """The folder of a run that learns per document, and what it printed."""
    folder = tmp_path_factory.mktemp("legal")
    return folder, run_both_stages(folder, tiny(*LEGAL), small_data)


def test_a_legal_run_says_so(legal):
    """Without the flag nothing is stamped, every stage has its verdict, and learning per document is a stage."""
    folder, log = legal
    assert "DIAGNOSTIC" not in log and "diagnostic_only" not in (folder / "metrics.jsonl").read_text()
    scores = scores_of(folder)
    assert scores["diagnostic_only"] is False and scores["final_stage"] == "ttt"
    assert [stage["verdict"] for stage in scores["stages"].values()] == [TRACK_A, TRACK_A, SCORE_FIRST_OK]


def test_rounding_in_training_is_not_known_to_evaluation(legal, small_data, tmp_path):
    """One artifact scores the same, learning included, whether its config rounds weights in training or not."""
    config = tiny(*LEGAL, "qat.kind=swap")
    done = run_bundle(tmp_path, config, small_data, "evaluate", "--artifact", str(legal[0] / "artifact.bin"))
    assert done.returncode == 0, done.stdout + done.stderr
    for stage, found in scores_of(tmp_path)["stages"].items():
        assert found["val_loss"] == scores_of(legal[0])["stages"][stage]["val_loss"]


def test_unscored_learning_without_the_flag_does_not_run(legal, small_data, tmp_path):
    """The config refuses it; a config that got around that ends at the tainted ledger, without scores."""
    with pytest.raises(ConfigError, match="needs diagnostic_only=true"):
        tiny("ttt.kind=unscored")
    config = tiny("ttt.kind=unscored", "ttt.epochs=1", "diagnostic_only=true")
    script, text = tmp_path / "train_gpt.py", build_bundle(config)
    flag = text.rindex("diagnostic_only=True")
    text = text[:flag] + "diagnostic_only=False" + text[flag + len("diagnostic_only=True") :]
    # The check of the config, too, is taken out: the ledger must be enough.
    script.write_text(text.replace('self.ttt.kind != "unscored" or self.diagnostic_only', "True"))
    given = ("evaluate", "--artifact", legal[0] / "artifact.bin", "--out", tmp_path)
    done = run_forked(script, *given, env=environment(small_data, 1337))
    assert done.returncode == 1
    assert "fatal:ledger ttt: tokens were had before they were scored" in done.stdout
    assert not (tmp_path / "scores.json").exists()
