"""`python jobs/prepare_data.py` as people type it: what it prints where, and how it ends."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from golf_core.data.embedded import TOKENIZER_NAME, embedded_data
from golf_core.data.manifest import read_manifest
from jobs.prepare_data import app
from tests.jobs.test_fetch import NAME

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def prepare(hub, tmp_path, monkeypatch):
    """Runs the command in this process; data goes under the test's folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, code=0):
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == code, done.output
        assert "Traceback" not in done.stderr and "\x1b" not in done.stderr
        return done

    return run


def test_a_fetch_says_what_came_and_what_to_type_next(hub, tmp_path):
    """As a process: stdout holds the data folder alone, stderr the counts and the next command."""
    env = {**os.environ, "HF_ENDPOINT": hub.url, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "jobs" / "prepare_data.py"), "--train-shards", "2"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    assert done.stdout == f"data/datasets/{NAME}\n"
    assert f"python -m orchestrator submit --data data/datasets/{NAME}" in done.stderr
    assert "1,388,287 tokens" in done.stderr and "data/tokenizers/fineweb_1024_bpe.model (1024 pieces)" in done.stderr


def test_status_as_json(prepare):
    """A row a data folder, with what it is made of."""
    prepare("--train-shards", "2")
    status = json.loads(prepare("--status", "--json").stdout)
    assert status["schema_version"] == 1
    (row,) = status["data"]
    assert row["data"] == f"data/datasets/{NAME}" and row["state"] == "whole" and row["shards"]["train"] == 2


def test_data_sets_may_lie_behind_a_link(prepare, tmp_path):
    """On another disk, say: the tokenizer that is told is the one that is there."""
    (tmp_path / "disk" / "deep" / "datasets").mkdir(parents=True)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "datasets").symlink_to(tmp_path / "disk" / "deep" / "datasets")
    said = json.loads(prepare("--train-shards", "1", "--json").stdout)
    (row,) = json.loads(prepare("--status", "--json").stdout)["data"]
    assert row["state"] == "whole" and Path(said["tokenizer"]).is_file() and row["tokenizer"] == said["tokenizer"]


def test_a_fetch_as_json(prepare):
    """One object: paths, counts, source, the next command."""
    said = json.loads(prepare("--train-shards", "1", "--json").stdout)
    assert said["data"] == f"data/datasets/{NAME}" and said["shards"] == {"train": 1, "val": 1}
    assert said["tokens"]["val"] == 120_907 and said["source"]["kind"] == "hub"


def test_the_variants_of_the_hub(prepare, hub):
    """As a table and as JSON, from the hub's manifest alone."""
    table = prepare("--list").stdout.splitlines()
    assert table[0].split()[:3] == ["variant", "train", "shards"]
    assert table[2].split() == ["sp1024", "3", "2,082,430", "120,907", "1,024", "4.4", "MB", "fineweb_1024_bpe.model"]
    said = json.loads(prepare("--list", "--json").stdout)
    assert [one["variant"] for one in said["variants"]] == ["byte260", "sp1024"] and said["revision"] == hub.main
    assert not [one for one in hub.requests if "/cdn/" in one.path]


def test_status_without_data_and_with_damage(prepare, hub, tmp_path):
    """3 where nothing is whole, 1 where something is damaged; each says the mend."""
    assert "prepare_data.py --list" in prepare("--status", code=3).stderr
    prepare("--train-shards", "1")
    prepare("--status")
    shard = tmp_path / "data" / "datasets" / NAME / "fineweb_train_000000.bin"
    shard.write_bytes(shard.read_bytes()[:-2])
    done = prepare("--status", code=1)
    assert "damaged" in done.stdout and f"{NAME}: data/datasets/{NAME}/fineweb_train_000000.bin has" in done.stderr
    again = f"prepare_data.py --variant sp1024 --train-shards 1 --revision {hub.main}` again brings it back"
    assert again in done.stderr and "manifest.json" not in done.stderr  # nobody means to have half a shard


def test_documents_may_be_named_in_both_ways(prepare, tmp_path):
    """Every --documents counts, and what stands behind; arguments are checked before anything is noted."""
    for name, text in (("a", "one"), ("b", "two"), ("c", "three")):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"text": f"{text} words " * 9}) + "\n")
    asked = ["--documents", "a.jsonl", "--documents", "b.jsonl", "c.jsonl", "--on", "process", "--val-documents", "1"]
    assert "note:" not in prepare(*asked, code=2).stderr
    (tmp_path / "byte.json").write_text('{"kind": "byte"}')
    assert "is no SentencePiece model (it is JSON" in prepare(*asked, "--tokenizer", "byte.json", code=2).stderr
    done = prepare(*asked, "--tokenizer", str(embedded_data()[0] / TOKENIZER_NAME))
    source = read_manifest(tmp_path / done.stdout.strip()).source
    assert [one["name"] for one in source["sources"]] == ["a.jsonl", "b.jsonl", "c.jsonl"] and "note:" in done.stderr


@pytest.mark.parametrize(
    "arguments, code, told",
    [
        (["--train-shards", "0"], 2, "error: --train-shards 0: at least 1"),
        (["--train-shards", "many"], 2, "Invalid value for '--train-shards'"),
        (["--variant", "sp4096"], 2, "is not in willdepueoai/parameter-golf"),
        (["--list", "--status"], 2, "give one of them"),
        (["a.jsonl"], 2, "a.jsonl: files and folders stand behind --documents, as in --documents a.jsonl"),
        (["--vocab", "2048"], 2, "--vocab is for shards made from documents"),
        (["--documents", "a.jsonl", "--variant", "sp1024"], 2, "--variant is for what comes from the hub"),
        (["--repo", "nobody/nothing", "--list"], 2, "has no dataset repository nobody/nothing"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_usage_ends_with_its_code(prepare, arguments, code, told):
    """Two lines at most, and no data."""
    done = prepare(*arguments, code=code)
    assert told in done.stderr and done.stdout == ""


def test_a_refusal_of_the_hub_ends_with_its_code(prepare, hub):
    """5: the hub, not the user."""
    hub.tokens = set()
    assert "is gated" in prepare("--list", code=5).stderr
