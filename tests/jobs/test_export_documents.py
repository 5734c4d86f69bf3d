"""`prepare_data --documents` as a process: killed, out of disk, on local Ray, with workers that die."""

import contextlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from golf_core.data.corpus import load_corpus
from golf_core.data.embedded import embedded_data
from golf_core.data.manifest import damage, read_manifest
from orchestrator.proc import start_ticks

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = ("--name", "made", "--val-documents", "100", "--shard-tokens", "60000")


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    """About 6 MB: every document of the embedded corpus, one a line."""
    path = tmp_path_factory.mktemp("documents") / "documents.jsonl"
    corpus = load_corpus()
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in (*corpus.val, *corpus.train)))
    return path


@pytest.fixture(scope="module")
def tokenizer():
    return embedded_data()[0] / "tokenizer.model"


@pytest.fixture(scope="module")
def undisturbed(documents, tokenizer, tmp_path_factory):
    """What an export in one go, in one process, gives."""
    into = tmp_path_factory.mktemp("undisturbed")
    done = subprocess.run(command(documents, tokenizer, into, "--on", "process"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return content(into)


def command(documents, tokenizer, into, *more):
    start = [sys.executable, str(ROOT / "jobs" / "prepare_data.py"), "--documents", str(documents)]
    return [*start, "--tokenizer", str(tokenizer), "--into", str(into), *SETTINGS, *more]


def content(folder):
    """Every file below a folder, with its bytes; hidden lock files left out."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


def sealed(into):
    return sorted((into / "datasets" / ".made.export" / "shards").glob("*.bin"))


def until(condition, what, patience=60.0):
    end = time.monotonic() + patience
    while not (found := condition()):
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.01)
    return found


def test_a_kill_at_any_moment_changes_no_byte(documents, tokenizer, undisturbed, tmp_path):
    """kill -9 when the first and when a random shard is sealed; the same command then gives the same files."""
    for count in (1, random.randint(5, 25)):
        process = subprocess.Popen(
            command(documents, tokenizer, tmp_path, "--on", "process"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        until(lambda count=count: len(sealed(tmp_path)) >= count, f"shard {count}")
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "the fault must fire"
        assert not (tmp_path / "datasets" / "made").exists()
    done = subprocess.run(command(documents, tokenizer, tmp_path, "--on", "process"), capture_output=True, text=True)
    assert done.returncode == 0 and "going on" in done.stderr
    assert content(tmp_path) == undisturbed
    assert f"submit --data {tmp_path}/datasets/made" in done.stderr and done.stdout == f"{tmp_path}/datasets/made\n"


def test_a_full_disk_is_told_and_gone_on_from(documents, tokenizer, undisturbed, tmp_path):
    """On a disk of 2.5 MB: what was sealed stays; with more room the same command goes on."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2500k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    try:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(200_000))
        short = subprocess.run(command(documents, tokenizer, disk, "--on", "process"), capture_output=True, text=True)
        assert short.returncode == 5 and "MB are still to be written" in short.stderr
        assert "run the same command again" in short.stderr and "Traceback" not in short.stderr
        subprocess.run(["mount", "-o", "remount,size=40m", str(disk)], check=True)
        ballast.unlink()
        assert (
            subprocess.run(command(documents, tokenizer, disk, "--on", "process"), capture_output=True).returncode == 0
        )
        assert content(disk) == undisturbed
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_write_that_fails_is_told(documents, tokenizer, tmp_path):
    """A limit on the size of files stops a shard in its middle: exit 5, and no half of a shard takes place."""

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    asked = command(documents, tokenizer, tmp_path, "--on", "process")
    failed = subprocess.run(asked, capture_output=True, text=True, preexec_fn=limited)
    assert failed.returncode == 5 and "disk" in failed.stderr and "the same command" in failed.stderr
    assert not list((tmp_path / "datasets" / ".made.export").rglob("*.part"))


def descendants(pid):
    """Processes below a process, by their parents."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            parents[int(entry.name)] = int(fields[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def at_work(pid):
    """Worker processes of the Ray below a process that have a task now."""
    working = []
    for child in descendants(pid):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{child}/cmdline").read_bytes().startswith(b"ray::apply"):
                working.append(child)
    return working


@pytest.mark.slow
@pytest.mark.whole
@pytest.mark.xdist_group("ray")
def test_on_ray_neither_two_workers_nor_a_killed_one_change_a_byte(documents, tokenizer, undisturbed, tmp_path):
    """Two workers, one killed at its work: the same files as of one process; and no process of ours is left."""
    asked = command(documents, tokenizer, tmp_path, "--workers", "2")
    process = subprocess.Popen(asked, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        victim = until(lambda: at_work(process.pid), "a task")[0]
        below = {pid: start_ticks(pid) for pid in descendants(process.pid)}
        os.kill(victim, signal.SIGKILL)
        out, said = process.communicate(timeout=100)
    finally:
        process.kill()
    assert process.returncode == 0, said
    assert "died" in said, "the fault must fire"
    assert out == f"{tmp_path}/datasets/made\n"
    assert "local Ray with 2 workers" in said and content(tmp_path) == undisturbed
    until(
        lambda: not [pid for pid, start in below.items() if start and start_ticks(pid) == start], "the end of all", 10
    )


@pytest.mark.whole
@pytest.mark.slow
@pytest.mark.xdist_group("ray")
@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "Ctrl-C"])
def test_on_ray_the_end_of_the_command_is_the_end_of_its_processes(documents, tokenizer, tmp_path, undisturbed, kill):
    """Killed or interrupted at work, no worker is left ten seconds later (two agents of Ray's own see the end of a
    killed one after a minute); then one worker ends what two began."""
    process = subprocess.Popen(
        command(documents, tokenizer, tmp_path, "--workers", "2"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    until(lambda: at_work(process.pid), "a task")
    workers = {pid: start_ticks(pid) for pid in at_work(process.pid)}
    process.send_signal(kill)
    process.communicate(timeout=20)
    assert process.returncode == (130 if kill == signal.SIGINT else -kill)
    until(lambda: not [pid for pid, start in workers.items() if start_ticks(pid) == start], "the end of all", 10)
    asked = command(documents, tokenizer, tmp_path, "--workers", "1")
    assert subprocess.run(asked, capture_output=True).returncode == 0
    assert content(tmp_path) == undisturbed


def test_the_folder_is_whole_and_ready_to_train_on(documents, tokenizer, tmp_path):
    """--json tells folder, tokenizer and counts; doubled documents are left out of training, and said to be."""
    twice = tmp_path / "twice.jsonl"
    lines = documents.read_bytes().splitlines(keepends=True)
    twice.write_bytes(b"".join([*lines[:200], lines[3], *lines[200:300]]))
    done = subprocess.run(
        command(twice, tokenizer, tmp_path, "--on", "process", "--json"), capture_output=True, text=True
    )
    told = json.loads(done.stdout)
    assert "1 document with the tokens of a validation document left out" in done.stderr
    folder = Path(told["data"])
    manifest = read_manifest(folder)
    assert damage(folder, manifest) == [] and told["source"]["dropped_shared"] == 1
    assert manifest.splits["train"].documents == 200 and manifest.splits["val"].documents == 100
