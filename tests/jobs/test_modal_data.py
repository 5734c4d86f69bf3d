"""`prepare_data.py --on modal` through the real client: what it sends, starts, prints, and how it ends."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from golf_core.data.embedded import embedded_data
from golf_core.data.manifest import DATA_MANIFEST, read_manifest
from golf_core.rundir import read_json, write_json
from jobs.modal_data import ModalData, files_to_send
from jobs.prepare_data import app
from orchestrator.cloud.data import CHECKED, make_checked, sha256_of
from orchestrator.cloud.volume_data import DataVolume
from orchestrator.errors import UsageError
from tests.jobs.test_fetch import NAME
from tests.orchestrator.cloud.test_data import Account
from tests.processes import until

pytestmark = pytest.mark.xdist_group("modal")

ROOT = Path(__file__).resolve().parents[2]
COMMAND = ["jobs/prepare_data.py", "--on", "modal"]
SOTU = "sotu_1901_2026"


@pytest.fixture(scope="module")
def plane(modal_containers, tmp_path_factory):
    """One for all tests here: data of one test is other data than that of the others."""
    from tests.modal_plane import Plane

    with Plane(tmp_path_factory.mktemp("modal") / "plane") as plane:
        yield plane
        assert plane.errors == [] and plane.unknown == []


def prepare(plane, *arguments, code=0, command=COMMAND, **environment):
    """The command as a process; nobody's traceback is shown."""
    env = plane.environment() | {"PYTHONPATH": str(ROOT)} | environment
    done = subprocess.run(
        [sys.executable, *command, *map(str, arguments)], cwd=ROOT, env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_a_folder_is_sent_and_read_once(plane, tmp_path):
    """Its shards, manifest and tokenizer, and checked.json of them; again starts no container. --check reads all of it,
    whatever the volume lists, and tells a change."""
    folder = Path(shutil.copytree(embedded_data()[0], tmp_path / "mine"))
    done = prepare(plane, "--upload", folder)
    assert done.stdout == f"/data/datasets/{SOTU}\n"
    assert "sending 4 files, 4.7 MB" in done.stderr and "2,082,430 tokens" in done.stderr
    assert f"submit --on modal --data {SOTU}" in done.stderr
    there = plane.volume("parameter-golf-data") / "datasets" / SOTU
    assert read_json(there / CHECKED)["data_sha256"] == sha256_of(read_manifest(folder))
    started = len(plane.containers())
    again = prepare(plane, "--upload", folder)
    assert again.stdout == done.stdout and "has it, checked" in again.stderr and len(plane.containers()) == started
    (row,) = json.loads(prepare(plane, "--status", "--json").stdout)["data"]
    assert (row["name"], row["state"], row["shards"]) == (SOTU, "checked", {"train": 1, "val": 1})
    shard = there / "sotu_val_000000.bin"
    before = shard.stat()
    shard.write_bytes(shard.read_bytes()[:-2] + b"\x01\x00")
    os.utime(shard, ns=(before.st_atime_ns, before.st_mtime_ns))  # as its listing was
    damaged = prepare(plane, "--check", SOTU, code=1)
    assert "its manifest says" in damaged.stderr and not (there / CHECKED).exists()
    shutil.rmtree(there)


def test_status_and_what_is_not_there(tmp_path, capsys):
    """From what the volume lists alone: 0 where all is checked, 1 where something changed since, 3 where it never was,
    or nothing is there. What is asked for and is not there is told, with what there is instead."""
    account = ModalData(DataVolume(Account(tmp_path)), None, as_json=True)
    assert account.show() == 3
    for name in ("one", "two"):
        make_checked(Path(shutil.copytree(embedded_data()[0], tmp_path / "datasets" / name)))
    assert account.show() == 0
    os.utime(tmp_path / "datasets" / "two" / "sotu_val_000000.bin", (1, 1))
    (tmp_path / "datasets" / "one" / CHECKED).unlink()
    assert account.show() == 1
    told = capsys.readouterr().out
    rows = json.loads(told[told.rindex('{\n "schema_version"') :])["data"]
    assert [row["state"] for row in rows] == ["unchecked", "changed"] and "--check one" in rows[0]["problem"]
    assert "sotu_val_000000.bin was written again" in rows[1]["problem"]
    table = ModalData(account.volume, None, as_json=False)
    assert table.show() == 1 and capsys.readouterr().out.splitlines()[1].split()[:2] == ["one", "unchecked"]
    shutil.rmtree(tmp_path / "datasets" / "two")
    assert table.show() == 3
    with pytest.raises(UsageError, match="has no data never; there is one"):
        account.check("never")
    with pytest.raises(UsageError, match=r"must be a data folder with a manifest\.json"):
        account.send(tmp_path)


@pytest.mark.chaos
def test_the_hub_fills_the_volume_though_it_was_interrupted(plane, hub):
    """Ctrl-C ends the container and keeps what came: 130. `modal run` with the flags of ours goes on from there; a
    token comes from a secret, never from here, and is not printed. Again starts nothing."""
    asked = ["--variant", "sp1024", "--train-shards", "2"]
    hub.rate = 100_000
    env = plane.environment() | {"PYTHONPATH": str(ROOT), "HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_of_this_machine"}
    begun = subprocess.Popen([sys.executable, *COMMAND, *asked], cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True)
    with begun:
        said = list(until_line(begun.stderr, "files, 3,276,338 bytes"))
        until(lambda: hub.gets("fineweb_train_000000"), "the first bytes of a shard")
        begun.send_signal(signal.SIGINT)
        said += begun.stderr
    assert begun.returncode == 130 and "goes on from there" in said[-1] and "Traceback" not in "".join(said)
    assert any("HF_TOKEN is not sent to Modal; --secret NAME" in line for line in said)
    assert not any(request.authorized for request in hub.requests)
    until(lambda: not any(it.alive for it in plane.containers()), "end of the container")
    hub.rate, hub.tokens = None, {"hf_of_the_secret"}
    plane.secret("hub", {"HF_TOKEN": "hf_of_the_secret"})
    run = ["-m", "modal", "run", "jobs/prepare_data.py"]
    done = prepare(plane, *asked, "--secret", "hub", command=run, HF_ENDPOINT=hub.url)
    assert done.stdout.splitlines()[-1] == f"/data/datasets/{NAME}" and "1,388,287 tokens" in done.stderr
    assert "going on: " in done.stderr and "hf_of" not in done.stdout + done.stderr  # what the container said
    started = len(plane.containers())
    told = json.loads(prepare(plane, *asked, "--json").stdout)
    assert told["data"] == f"/data/datasets/{NAME}" and told["tokenizer"] == "/data/tokenizers/fineweb_1024_bpe.model"
    assert told["shards"] == {"train": 2, "val": 1} and len(plane.containers()) == started


def until_line(lines, text):
    """The lines up to the one that holds `text`."""
    for line in lines:
        yield line
        if text in line:
            return


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["--on", "modal", "--into", "here"], "--into is of this machine"),
        (["--on", "modal", "--upload", "/nowhere", "--variant", "sp1024"], "leave it out, or --upload"),
        (["--on", "modal", "--status", "--check", "a"], "give one of them"),
        (["--upload", "/nowhere"], "--upload is for Modal's data volume: say --on modal"),
        (["--on", "ray"], "--on ray is for shards made from documents"),
        (["--on", "modal", "--vocab", "512"], "--vocab is for shards made from documents"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_usage_asks_nobody(arguments, told):
    """2 and a line, before Modal is."""
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2 and told in done.stderr and done.stdout == ""


@pytest.mark.parametrize(
    "command",
    [
        [*COMMAND, "--status"],
        ["-m", "modal", "run", "jobs/prepare_data.py", "--status"],
        ["-m", "modal", "run", "jobs/evaluate.py", "--attempt", "a"],
    ],
    ids=lambda command: " ".join(command[:4]),
)
def test_without_a_token_nothing_is_tried(tmp_path, command):
    """2, and what to do, at once."""
    env = {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, *command], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 2 and "no token" in done.stderr and "Traceback" not in done.stderr


def test_a_tokenizer_goes_into_the_folder(tmp_path):
    """From wherever the manifest has it, and the one that is sent says so; one that was cut or changed is refused."""
    folder = Path(shutil.copytree(embedded_data()[0], tmp_path / "a" / "b" / "c"))
    (folder / "tokenizer.model").rename(tmp_path / "own.model")
    told = read_json(folder / DATA_MANIFEST)
    told["tokenizer"]["path"] = "../../../own.model"
    write_json(folder / DATA_MANIFEST, told)
    files = files_to_send(folder, read_manifest(folder), f"datasets/{SOTU}")
    assert set(files) == {f"datasets/{SOTU}/{name}" for name in (*told["files"], "own.model", DATA_MANIFEST)}
    sent = tmp_path / "sent"
    for place, content in files.items():
        (sent / place).parent.mkdir(parents=True, exist_ok=True)
        (sent / place).write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    assert make_checked(sent / "datasets" / SOTU).tokenizer_path == "own.model"
    shard = folder / "sotu_val_000000.bin"
    shard.write_bytes(shard.read_bytes()[:-2])
    for content in (shard.read_bytes(), shard.read_bytes() + b"\x01\x00"):  # of another size, and of the same
        shard.write_bytes(content)
        with pytest.raises(UsageError, match="not as its manifest says"):
            files_to_send(folder, read_manifest(folder), f"datasets/{SOTU}")
