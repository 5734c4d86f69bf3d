"""What is refused of data before anything is started, what the plan says of good data, and which run it is."""

import io
import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from golf_core.data.manifest import DATA_MANIFEST, read_manifest
from golf_core.data.shard_writer import write_shard
from orchestrator import data_check
from orchestrator.data_check import DataCheck, Progress
from orchestrator.errors import UsageError
from orchestrator.request import Request
from orchestrator.script import check_sidecars
from orchestrator.settings import Settings
from orchestrator.submit import submit
from tests.orchestrator.toy import TOY

TRAIN, VAL = "sotu_train_000000.bin", "sotu_val_000000.bin"


@pytest.fixture
def data(corpus, tmp_path):
    """A copy of the embedded data set, manifest and tokenizer in it."""
    return Path(shutil.copytree(corpus["data_path"], tmp_path / "shards"))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """What is built of a recipe does not matter here."""
    monkeypatch.setattr("orchestrator.preflight.build", lambda config: TOY)


def ask(data, *, script=None, **settings):
    """A dry submit of the demo on that data."""
    flags = {"data": str(data), "runs_dir": str(data.parent / "runs"), "on": "process", **settings}
    return submit(Settings.resolve(flags, {}, data.parent), Request(dry_run=True, json=True, script=script))


def header(magic=20240520, version=1, count=60_000):
    return struct.pack("<3i", magic, version, count).ljust(1024, b"\0")


def alone(change):
    """The change, and no manifest: the shard itself must give it away."""

    def both(data):
        (data / DATA_MANIFEST).unlink()
        change(data)

    return both


def only_sidecars(data):
    (data / VAL).rename(data / "sotu_val_bytes_000000.bin")


BAD = {
    "empty shard": (alone(lambda data: (data / VAL).write_bytes(b"")), rf"{VAL} has 0 bytes, less than .* header"),
    "no tokens": (alone(lambda data: (data / VAL).write_bytes(header(count=0))), rf"{VAL} has a header .* 0 tokens"),
    "wrong magic": (alone(lambda data: (data / TRAIN).write_bytes(header(7))), rf"{TRAIN} is no token shard: .* 7, 1"),
    "wrong version": (alone(lambda data: (data / TRAIN).write_bytes(header(version=2))), rf"{TRAIN} is no token shard"),
    "wrong count": (alone(lambda data: (data / TRAIN).write_bytes(header())), rf"{TRAIN} has 1024 bytes, .* 60000"),
    "wrong hash": (lambda data: write_shard(data / VAL, np.full(120_907, 9)), rf"{VAL} has SHA-256 .* manifest says"),
    "wrong size": (lambda data: write_shard(data / VAL, np.arange(9)), rf"{VAL} has 1,042 bytes; its manifest says"),
    "sidecar as val": (alone(only_sidecars), r"has no \*_val_\*.bin"),
    "sidecar as val, listed": (only_sidecars, r"has no \*_val_\*.bin"),
    "a foreign set": (lambda data: write_shard(data / "fineweb_val_0.bin", np.arange(9)), r"fineweb_val_0.bin is not"),
    "two sets": (alone(lambda data: write_shard(data / "x_val_0.bin", np.arange(9))), r"mixes two data sets"),
    "validation text": (alone(lambda data: shutil.copy(data / VAL, data / "sotu_train_1.bin")), r"also a val shard"),
    "too large a token": (alone(lambda data: write_shard(data / VAL, np.array([1024]))), rf"{VAL} holds token 1024"),
}


@pytest.mark.parametrize("spoil, says", BAD.values(), ids=BAD)
def test_bad_data_is_refused_before_anything_is_started(spoil, says, data):
    """One usage error that names the file, and no runs folder."""
    spoil(data)
    with pytest.raises(UsageError, match=says) as refusal:
        ask(data, tokenizer=str(data / "tokenizer.model"))
    assert "\n" not in str(refusal.value) and not (data.parent / "runs").exists()


def test_a_script_is_given_no_bad_data_either(data):
    """What it reads is held to the same manifest as what ours reads."""
    script = data.parent / "train_gpt.py"
    script.write_text("print()\n")
    (data / TRAIN).write_bytes(header())
    with pytest.raises(UsageError, match=rf"{TRAIN} has 1,024 bytes; its manifest says"):
        ask(data, script=script)


@pytest.mark.parametrize(
    "text, refused",
    [
        ("import glob, os\nbase_bytes_lut = glob.glob('fineweb_val_*.bin')", True),
        ("import glob\nfiles = [f for f in glob.glob('*_val_*.bin') if '_bytes_' not in f]", False),
        ("import glob\nsidecar = glob.glob('fineweb_val_bytes_*.bin')", False),
        ("import glob\nexec(packed)", False),
        ("open('fineweb_val_000000.bin')", False),
    ],
)
def test_a_script_that_would_read_sidecars_as_tokens_is_refused(text, refused, data):
    """Where byte sidecars lie beside the shards, a script that globs and does not leave them out is not started; where
    none lie there, every script is."""
    check_sidecars(text, "train_gpt.py", data)
    write_shard(data / "sotu_val_bytes_000000.bin", np.arange(9))
    if not refused:
        check_sidecars(text, "train_gpt.py", data)
        return
    path = data.parent / "train_gpt.py"
    path.write_text(text)
    with pytest.raises(
        UsageError, match=r"sotu_val_bytes_000000.bin holds byte counts, and train_gpt.py would read it"
    ):
        ask(data, script=path)


def planned(data, capsys, **settings):
    ask(data, **settings)
    return json.loads(capsys.readouterr().out)


def test_a_changed_shard_is_another_run_and_a_moved_folder_the_same(data, capsys):
    """Run ids follow the content of the shards: not their folder, their names or their manifest."""
    first = planned(data, capsys)
    moved = data.rename(data.parent / "elsewhere")
    assert planned(moved, capsys)["runs"] == first["runs"]
    (moved / DATA_MANIFEST).unlink()
    tokenizer = str(moved / "tokenizer.model")
    bare = planned(moved, capsys, tokenizer=tokenizer)
    assert bare["runs"] == first["runs"] and bare["data"]["name"] is None
    tokens = bytearray((moved / TRAIN).read_bytes())
    tokens[-2] ^= 1
    (moved / TRAIN).write_bytes(tokens)
    changed = planned(moved, capsys, tokenizer=tokenizer)
    assert changed["data"]["sha256"] != first["data"]["sha256"]
    assert not {run["run_id"] for run in changed["runs"]} & {run["run_id"] for run in first["runs"]}


def test_the_plan_and_run_json_say_what_data_it_is(data, capsys):
    """Name, source, counts and paths, the tokenizer found by the folder alone; the embedded corpus the same way."""
    manifest = read_manifest(data)
    told = planned(data, capsys)["data"]
    assert told["name"] == manifest.name and told["source"] == {"kind": "embedded"}
    assert told["tokenizer_path"] == str(data / "tokenizer.model") and told["shards"] == {"train": 1, "val": 1}
    assert told["val_tokens"] == manifest.splits["val"].tokens == 120_907
    check = DataCheck(None, None, 1024)
    embedded = check.result()
    assert embedded.sha256 == told["sha256"] and embedded.name == manifest.name
    words = embedded.describe()
    assert "(embedded), 2,082,430 train tokens in 1 shard, 120,907 val tokens in 1 shard, verified" in words


def test_a_tokenizer_without_data_is_refused_at_once(tmp_path):
    """The embedded corpus has its own: no process is started for it."""
    with pytest.raises(UsageError, match="--tokenizer needs --data"):
        DataCheck(None, str(tmp_path / "t.model"), 1024)


def test_a_run_gets_the_folder_that_was_read(data, tmp_path):
    """A `..` behind a link leads out of the link's target: it is not cut away with the link's name."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "link").symlink_to(data)
    there = tmp_path / "elsewhere" / "link" / ".." / "shards"
    found = DataCheck(str(there), str(there / "tokenizer.model"), 1024).result()
    assert Path(found.path).samefile(data) and Path(found.tokenizer_path).samefile(data / "tokenizer.model")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_long_reading_is_told_of(monkeypatch):
    """Nothing at first; then one live line on a terminal, wiped at the end, or a line at times elsewhere."""
    monkeypatch.delenv("TERM", raising=False)
    clock = iter(range(0, 1000, 3))
    monkeypatch.setattr(data_check.time, "monotonic", lambda: next(clock))
    for stream, lines, ends in ((Terminal(), 1, "\r\x1b[K"), (io.StringIO(), 3, "s left\n")):
        progress = Progress(stream)
        for done in range(1, 11):
            progress.tell(done * 10**9, 16 * 10**9)
        progress.close()
        text = stream.getvalue()
        assert "of 16.0 GB read" in text and len(text.splitlines()) <= 13 and text.endswith(ends)
        assert text.count("\n") == (0 if lines == 1 else lines)


def test_a_progress_that_is_soon_over_says_nothing(data, capfd):
    """Small data is checked without a word on stderr."""
    DataCheck(str(data), None, 1024).result()
    assert capfd.readouterr().err == ""
