"""Our own evaluators, as a bundle offers them, under every probe; and a sealed submission through the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from golf_core.artifact.container import encode_artifact
from golf_core.bundle import build_bundle
from golf_core.config import Config
from golf_core.config_io import to_dict
from golf_core.data.embedded import TOKENIZER_NAME, embedded_data
from golf_core.data.shard_writer import write_shard
from golf_core.data.shards import read_shard
from golf_core.evaluate.stream import stream_scores
from golf_core.model.gpt import GPT
from golf_core.parts import load_parts
from golf_core.quant.rows import Quantizer
from golf_core.rundir import write_json
from results.audit.finding import FAIL, PASS, REVIEW
from results.audit.probe.probes import Plan, probe_stream
from results.audit.probe.scorer import Scorer, StreamScore
from results.audit.probe.stream import StreamError, whole_documents
from results.audit.record import read_records, seal_of
from results.cli import app
from tests.golf_core.test_pipeline import tiny
from tests.orchestrator.monoliths import MONOLITH, script_submission, sealed_runs
from tests.results.attempts import Runs
from tests.results.audit.probe.alone import write_alone
from tests.results.audit.probe.toys import LENGTHS, language, text

VOCAB, BOS = 64, 1
KINDS = {
    "sliding": ("ttt.kind=none",),
    "chunk": ("ttt.kind=chunk", "ttt.chunk_tokens=64", "ttt.lr=0.01", "ttt.epochs=1"),
    "lora": ("ttt.kind=lora", "ttt.lora_chunk_tokens=32", "ttt.lora_documents=2", "ttt.lora_rank=2"),
    "phased": ("ttt.kind=phased", "ttt.lora_chunk_tokens=32", "ttt.lora_documents=2", "ttt.lora_rank=2"),
    "unscored": ("ttt.kind=unscored", "ttt.unscored_epochs=1", "ttt.unscored_lr=0.003", "diagnostic_only=true"),
}


@pytest.fixture(scope="module")
def embedded_corpus() -> dict[str, str]:
    folder, _ = embedded_data()
    return {"data_path": str(folder), "tokenizer_path": str(folder / TOKENIZER_NAME)}


def documents(*lengths: int) -> np.ndarray:
    random = np.random.default_rng(0)
    return np.concatenate([[BOS, *random.integers(2, VOCAB, length - 1)] for length in lengths])


STREAM = documents(60, 31, 70, 42)


def config_of(kind: str) -> Config:
    return tiny(f"model.vocab={VOCAB}", "quant.keep_numel=64", *KINDS[kind])


@pytest.fixture(scope="module")
def artifact(tmp_path_factory) -> Path:
    """A model whose every tensor was moved, as a file; all kinds score with it."""
    config = config_of("sliding")
    parts = load_parts(config)
    torch.manual_seed(0)
    model = GPT(config.model, parts, torch.float32, config.train.seq_len)
    model.init_weights(torch.Generator().manual_seed(0))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape))
    stored = Quantizer(config.quant, config.model.layers, parts).export(model.state_dict())
    path = tmp_path_factory.mktemp("ours") / "artifact.bin"
    path.write_bytes(
        encode_artifact(stored, parts["artifact.codec"](config.artifact.level), parts.get("quant.nibbles"))
    )
    return path


def scorer_of(kind: str, artifact: Path) -> Scorer:
    config = config_of(kind)
    parts = load_parts(config)

    def scorer(tokens, learn):
        found = stream_scores(config, parts, artifact, tokens, learn)
        return StreamScore(found.nll, found.order, found.learned)

    return scorer


@pytest.mark.parametrize("kind", KINDS)
def test_what_our_ledger_allows_passes_and_what_it_taints_fails(kind, artifact):
    """Sliding, chunks, documents and phases pass every probe; learning before scoring, the diagnostic, fails."""
    isolated = {"isolated": kind in ("lora", "phased"), "whole_isolated": kind == "lora"}
    plan = Plan(vocab=VOCAB, bytes_a_token=2.5, exact=0, swap_runs=1, events=4, drawn_cuts=1, **isolated)
    found = {one.name: one for one in probe_stream(scorer_of(kind, artifact), STREAM, documents(*[300] * 9), plan)}
    blunt = {"normalisation"}  # one run of a few hundred tokens: no excess is seen, and little would be
    verdicts = {name: one.verdict for name, one in found.items() if name not in blunt}
    wanted = dict.fromkeys(verdicts, PASS)
    if kind == "unscored":
        assert (verdicts.pop("causality"), verdicts.pop("controls")) == (FAIL, REVIEW)
        del wanted["causality"], wanted["controls"]
    assert verdicts == wanted
    assert found["normalisation"].verdict in (PASS, REVIEW)
    assert (found["coverage"].evidence["adaptation_events"] > 0) == (kind != "sliding")


@pytest.mark.whole
@pytest.mark.parametrize("kind", ["chunk", "lora", "phased"])
def test_our_scores_sum_to_one_over_the_vocabulary(kind, artifact):
    """At every position that is tried, with every token in its place; a document start too where it moves no order."""
    plan = Plan(vocab=VOCAB, bytes_a_token=2.5, exact=3, swap_runs=0, events=1, drawn_cuts=0)
    found = {one.name: one for one in probe_stream(scorer_of(kind, artifact), STREAM, STREAM, plan)}
    assert found["normalisation"].verdict == PASS
    for one in found["normalisation"].evidence["sums"]:
        assert one["whole"] == (kind == "chunk")
        assert one["total"] == pytest.approx(1, abs=1e-4 if one["whole"] else 0.1) and one["total"] < 1 + 1e-4


def test_a_sealed_submission_is_probed_and_recorded(artifact, tmp_path):
    """`results audit ID --probe` runs the sealed bundle on its sealed artifact, prints every verdict and what it
    costs, leaves a record for the seal, and exits with 0."""
    config = config_of("chunk")
    runs = Runs(tmp_path / "runs", seeds=(1337,), code=build_bundle(config), recipe=config.name)
    runs.spec["config"] = to_dict(config)
    write_json(runs.folder / "spec.json", runs.spec)
    attempt = runs.attempt(1337, artifact=artifact.read_bytes())
    shard = tmp_path / "val.bin"
    write_shard(shard, documents(*[70, 31, 90, 52, 44] * 20).astype(np.uint16))
    words = ("--stream", shard, "--probe-tokens", 230, "--exact-positions", 0, "--swap-runs", 12)
    done = called(runs.submission_id[:8], "--runs-dir", runs.runs_dir, *words, "--json")
    assert done.exit_code == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["verdict"] == PASS and told["probed"] == attempt.name and told["seed"] == 1337
    names = ["coverage", "null replay", "causality", "normalisation", "controls", "last replay"]
    assert [one["name"] for one in told["probes"]] == names
    assert "runs of" in done.stderr and "around 3 places of adaptation" in done.stderr
    assert told["probes"][3]["evidence"]["Z_mean"] == pytest.approx(1, abs=0.1)
    (record,) = read_records(runs.runs_dir, attempt.name, seal_of(attempt))
    assert (record.name, record.verdict) == ("probe", PASS) and "no violation found by coverage" in record.says
    assert record.evidence["probes"][2]["evidence"]["places_cut"] == 3


UNIGRAM = """
import os
import numpy as np

def score_stream(artifact, tokens, learn="on"):
    assert os.path.getsize(os.environ["TOKENIZER_PATH"]) > 1000 and os.environ["STEP_SECONDS"] == "0.01"
    p = np.load(artifact)
    return {"nll": -np.log(p[tokens[1:]]), "order": np.arange(len(tokens) - 1) // 64, "learned": []}
"""


def test_a_scripts_run_is_probed_through_an_evaluator_of_its_own(embedded_corpus, tmp_path):
    """Its text comes from the submission's own validation data, its environment from what was asked; without a file
    that offers scores it says what is missing."""
    submission = script_submission(embedded_corpus, MONOLITH, [("STEP_SECONDS", "0.01")], None, seeds=(1,))
    folder = sealed_runs(tmp_path / "runs", submission)
    words = (folder.name, "--runs-dir", tmp_path / "runs")
    done = called(*words)
    assert done.exit_code == 2 and "of a script's run --evaluator must name a file" in done.stderr
    (tmp_path / "mine.py").write_text(UNIGRAM)
    weights = tmp_path / "unigram.npy"
    counts = np.bincount(read_shard(next(Path(embedded_corpus["data_path"]).glob("*_val_*.bin"))), minlength=1024) + 1
    np.save(weights, counts / counts.sum())
    words += ("--evaluator", tmp_path / "mine.py", "--artifact", weights, "--swap-runs", 1, "--json")
    done = called(*words, "--bytes-per-token", 2.86, "--probe-tokens", 4200)
    told = json.loads(done.stdout)
    assert done.exit_code == 0 and told["verdict"] == PASS
    assert told["stream"]["shard"] == "sotu_val_000000.bin" and told["stream"]["tokens"] > 4200
    (record,) = read_records(
        tmp_path / "runs", told["probed"], seal_of(tmp_path / "runs" / "attempts" / told["probed"])
    )
    assert record.verdict == PASS


def called(*words):
    return CliRunner().invoke(app, ["audit", "--probe", *map(str, words)])


def test_anybodys_evaluator_is_probed_in_every_form(tmp_path):
    """A cheat in a file of its own exits with 4, and table, comment and JSON name probe, place and rule."""
    file, weights, shard = tmp_path / "mine.py", tmp_path / "weights.npy", tmp_path / "shard.bin"
    write_alone(tmp_path)
    file.write_text("from cheats import train_chunk_first as score_stream\n")
    np.save(weights, language())
    write_shard(shard, text(LENGTHS * 4).astype(np.uint16))
    words = (file, "--artifact", weights, "--stream", shard, "--probe-tokens", 300, "--swap-runs", 1)
    for form in ("table", "md", "json"):
        done = called(*words, "--exact-positions", 0, "--bytes-per-token", 2.5, "--format", form)
        assert done.exit_code == 4, done.stderr
        assert "causality" in done.stdout and "D2'" in done.stdout and "[R] A2" in done.stdout
        assert "moved by" in done.stdout and "mine.py" in done.stdout
        if form == "json":
            assert json.loads(done.stdout)["verdict"] == FAIL


WRONG = {
    "nothing": ((), 2, "--probe takes the id of one submission, and 0 are given"),
    "two": (("aa", "bb"), 2, "2 are given"),
    "no artifact": (("{file}",), 2, "a file is probed with its artifact"),
    "no file": (("--evaluator", "{none}", "--artifact", "{file}", "--stream", "{file}"), 2, "there is no such file"),
    "no shard": (("--evaluator", "{file}", "--artifact", "{file}", "--stream", "{file}"), 2, "is no token shard"),
    "no stream": (("--evaluator", "{file}", "--artifact", "{file}", "--stream", "{none}"), 2, "cannot be read"),
    "unknown": (("ffff",), 2, "is no submission"),
    "no function": (("--evaluator", "{file}", "--artifact", "{file}", "--stream", "{shard}"), 1, "has no score_stream"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_probed_is_said_in_one_line(case, tmp_path):
    """With the value, and what to give instead; exit code 2, or 1 for an evaluator without scores."""
    words, code, message = WRONG[case]
    (tmp_path / "mine.py").write_text("x = 1\n")
    write_shard(tmp_path / "shard.bin", documents(30, 40, 50, 60).astype(np.uint16))
    places = {"file": tmp_path / "mine.py", "none": tmp_path / "none", "shard": tmp_path / "shard.bin"}
    done = called(*[word.format(**places) for word in words], "--runs-dir", tmp_path)
    assert done.exit_code == code and message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_text_of_one_token_is_none():
    """Nothing could be put in another's place."""
    with pytest.raises(StreamError, match="hold 1 kinds beside document starts"):
        whole_documents(np.array([BOS, *[7] * 20] * 5, dtype=np.uint16), 64)


def test_documents_that_do_not_fit_are_named(tmp_path):
    """Fewer tokens than three documents take are refused with the length that one has."""
    with pytest.raises(StreamError, match=r"no 3 whole documents fit into 64 tokens \(one has 200\)"):
        whole_documents(documents(200, 200, 200, 200).astype(np.uint16), 64)
