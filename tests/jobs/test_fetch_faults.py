"""Hubs and networks that fail: what passes is outlived, what stays is told, and nothing half-made is ever seen."""

import errno
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import pytest
from huggingface_hub import constants

from golf_core.data.manifest import damage, read_manifest
from golf_core.data.shards import DataError
from golf_core.prepare import hub_client
from golf_core.prepare.hub import fetch
from golf_core.prepare.hub_errors import HubError
from golf_core.prepare.hub_manifest import HUB_MANIFEST
from tests.jobs.loopback_hub import REPO
from tests.jobs.test_fetch import NAME, SHARDS, ask, hidden, visible

ROOT = Path(__file__).resolve().parents[2]
SHARD, API, LISTING, MANIFEST = "train_000001.bin", f"/api/datasets/{REPO}", "/paths-info/", "/manifest.json"
BIN = "fineweb_train_000001.bin"


def whole(folder):
    return damage(folder, read_manifest(folder)) == []


@pytest.mark.parametrize(
    "path, kind",
    [
        *((SHARD, kind) for kind in ("429", "500", "page", "empty", "short", "cut")),
        *((API, kind) for kind in ("408", "503", "page")),
        (MANIFEST, "cut"),
    ],
)
def test_a_fault_that_passes_is_outlived(hub, tmp_path, path, kind):
    """Twice the wrong answer, then the right one: the folder is whole."""
    hub.fail(path, kind, 2)
    assert whole(fetch(ask(tmp_path / "data")))
    assert all(fault.times == 0 for faults in hub.faults.values() for fault in faults)


@pytest.mark.parametrize(
    "kind, told",
    [
        ("503", "answers 503 for datasets/datasets/.*000001.bin, 3 times; give the same command later"),
        ("429", "answers 429 for .*000001.bin, 3 times"),
        ("page", r"sends a page instead of datasets/.*000001.bin, 3 times"),
        ("empty", r"sends 0 bytes for .*000001.bin instead of 1,389,310"),
        ("short", r"sends 694655 bytes for .*000001.bin instead of 1,389,310"),
        (
            "wrong",
            r"000001.bin came with hash [0-9a-f]{12}; .* lists [0-9a-f]{12}; it was fetched twice and is not kept",
        ),
        ("403", "refuses .*000001.bin .403.: .* is gated, and no token was sent; accept its terms at http"),
        ("404", r"has no .*000001.bin .404. in willdepueoai/parameter-golf; check --repo and --revision"),
        ("418", r"answers 418 for .*000001.bin; try again later"),
    ],
)
def test_a_fault_that_stays_is_told_and_the_next_fetch_goes_on(hub, tmp_path, kind, told):
    """Value, place and next step in one line; nothing is visible; what came is not asked for again."""
    hub.fail(SHARD, kind)
    with pytest.raises((HubError, DataError), match=told) as error:
        fetch(ask(tmp_path / "data", workers=1))
    assert "\n" not in str(error.value)
    assert visible(tmp_path / "data") == {}
    asked = len(hub.requests)
    hub.mend()
    assert whole(fetch(ask(tmp_path / "data")))
    assert not any("train_000000" in one.path for one in hub.requests[asked:])


@pytest.mark.parametrize("path", [API, LISTING, MANIFEST], ids=["commit", "listing", "manifest"])
@pytest.mark.parametrize("kind", ["page", "503"])
def test_a_hub_that_answers_no_question_is_told(hub, tmp_path, path, kind):
    """A page where JSON should be is no crash."""
    hub.fail(f"{path}{hub.main}" if path == LISTING else path, kind)
    with pytest.raises(HubError, match=r"3 times; give the same command later"):
        fetch(ask(tmp_path / "data"))


def test_a_hub_that_is_down_is_told(hub, tmp_path, monkeypatch):
    """No server: the address, the system's word for it, and what to do."""
    monkeypatch.setenv("all_proxy", "http://me:hunter2@127.0.0.1:9")  # named, since it may be the cause; not used here
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
        events = []
        with pytest.raises(
            HubError, match=r"http://127.0.0.1:\d+ cannot be reached for .*Connection refused; all_proxy is set.*HF_END"
        ) as error:
            fetch(ask(tmp_path / "data"), events.append)
    assert "hunter2" not in f"{events}{error.value}"
    assert [re.search(r"again in 0 s", event) is not None for event in events] == [True, True]


def test_a_silent_hub_is_not_waited_for_for_ever(hub, tmp_path, monkeypatch):
    """A server that takes the connection and says nothing counts as one that cannot be reached."""
    monkeypatch.setattr(hub_client, "ASK_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(HubError, match="no answer in time"):
            fetch(ask(tmp_path / "data"))


@pytest.mark.parametrize("text", ["nonsense", "ftp://here", "me:hunter2@here"])
def test_an_endpoint_that_is_no_url_is_refused(hub, tmp_path, monkeypatch, text):
    """At once, with its value, without what may be a password."""
    monkeypatch.setattr(constants, "ENDPOINT", text)
    with pytest.raises(DataError, match=r"HF_ENDPOINT='.*' is no URL of a hub") as error:
        fetch(ask(tmp_path / "data"))
    assert "hunter2" not in str(error.value)


def test_a_variable_that_the_client_cannot_be_loaded_with_is_a_usage_error(tmp_path):
    """huggingface_hub itself ends in a traceback there, whatever was asked for."""
    env = {**os.environ, "HF_ENDPOINT": "http://me:hunter2@here:99999", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "jobs" / "prepare_data.py"), "--list"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "HF_ENDPOINT='here:99999' is no URL of a hub" in done.stderr
    assert "Traceback" not in done.stderr and "hunter2" not in done.stderr


def test_offline_mode_is_told(hub, tmp_path, monkeypatch):
    """HF_HUB_OFFLINE is named, not worked around."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="HF_HUB_OFFLINE is set"):
        fetch(ask(tmp_path / "data"))


def test_a_cut_connection_goes_on_by_range(hub, tmp_path):
    """The second half is asked for, not the whole; the bytes are the hub's."""
    hub.fail(SHARD, "cut", 1)
    folder = fetch(ask(tmp_path / "data"))
    first, second = hub.gets("train_000001")
    size = (folder / BIN).stat().st_size
    assert first.range is None and 0 < int(re.fullmatch(r"bytes=(\d+)-", second.range)[1]) <= size // 2
    assert whole(folder)


@pytest.mark.parametrize("kind", ["whole", "shifted", "packed"])
def test_a_hub_that_cuts_wrongly_does_no_harm(hub, tmp_path, kind):
    """One that ignores ranges, sends another one, or packs the file, after a cut: the bytes are right in the end."""
    hub.fail(SHARD, "cut", 1)
    hub.fail(SHARD, kind, 1)
    assert whole(fetch(ask(tmp_path / "data")))


def test_many_cuts_with_progress_are_no_failure(hub, tmp_path):
    """A file that comes in pieces is never given up while it grows: more cuts than tries."""
    hub.fail("train_000000.bin", "cut", 4)
    assert whole(fetch(ask(tmp_path / "data")))


def test_a_hash_that_is_wrong_once_is_fetched_again(hub, tmp_path):
    """Damage on the way, or in what an older fetch left, is mended from the start of the file."""
    hub.fail(SHARD, "wrong", 1)
    folder = fetch(ask(tmp_path / "data"))
    assert whole(folder) and [one.range for one in hub.gets("train_000001")] == [None, None]


def test_a_small_file_is_checked_by_its_git_hash(hub, tmp_path):
    """What is not in LFS has the hash of its git blob: a changed manifest of the hub is refused."""
    hub.fail(MANIFEST, "wrong")
    with pytest.raises(HubError, match=f"{HUB_MANIFEST} came with hash"):
        fetch(ask(tmp_path / "data"))


def test_a_listing_of_empty_files_is_refused(hub, own_hub, tmp_path):
    """A 0-byte shard that the hub itself lists is refused before anything comes."""
    (own_hub / SHARDS / BIN).write_bytes(b"")
    hub.publish(own_hub)
    with pytest.raises(HubError, match=f"{BIN} has 0 bytes in .*--revision"):
        fetch(ask(tmp_path / "data"))
    assert not [one for one in hub.requests if "/cdn/" in one.path]


def test_a_file_of_the_right_hash_that_is_no_shard_is_refused(hub, own_hub, tmp_path):
    """The hub's own listing may be of something else: the header decides."""
    (own_hub / SHARDS / BIN).write_bytes(b"<html>" * 1000)
    hub.publish(own_hub)
    with pytest.raises(DataError, match="is no token shard"):
        fetch(ask(tmp_path / "data"))
    assert visible(tmp_path / "data") == {}


def test_a_manifest_that_names_absent_shards_is_told(hub, own_hub, tmp_path):
    """What is promised and not there is named."""
    (own_hub / SHARDS / BIN).unlink()
    hub.publish(own_hub)
    with pytest.raises(HubError, match=f"has no {SHARDS}/{BIN}: less than its manifest says"):
        fetch(ask(tmp_path / "data"))


def test_a_list_of_pieces_is_not_needed(hub, own_hub, tmp_path):
    """A repository without the .vocab file that its manifest names is whole all the same."""
    (own_hub / "datasets" / "tokenizers" / "fineweb_1024_bpe.vocab").unlink()
    hub.publish(own_hub)
    assert whole(fetch(ask(tmp_path / "data")))


def test_a_token_opens_a_gate_and_is_told_to_nobody(hub, tmp_path, monkeypatch):
    """It goes to the hub, not to where that redirects, and stands in no file, event or message."""
    hub.tokens = {"hf_right"}
    events = []
    with pytest.raises(HubError, match=r"is gated, and no token was sent"):
        fetch(ask(tmp_path / "data"), events.append)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(HubError, match=r"is gated, and the token that was sent does not suffice") as error:
        fetch(ask(tmp_path / "data"), events.append)
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    folder = fetch(ask(tmp_path / "data"), events.append)
    assert {one.authorized for one in hub.requests if one.path.startswith("/cdn/")} == {False}
    told = f"{error.value}{events}{(folder / 'manifest.json').read_text()}"
    assert "hf_right" not in told and "hf_wrong" not in told


def test_too_little_space_is_told_before_anything_comes(hub, tmp_path, monkeypatch):
    """What is needed and what is free stand in the message."""
    few = types.SimpleNamespace(free=1_000_000)
    monkeypatch.setattr("golf_core.prepare.hub.shutil.disk_usage", lambda _: few)
    with pytest.raises(OSError, match=r"3,276,338 bytes are to come, and the disk of .* has 1,000,000 free"):
        fetch(ask(tmp_path / "data"))
    assert not [one for one in hub.requests if "/cdn/" in one.path]


FULL_DISK = """
import errno, subprocess, sys
from pathlib import Path
from golf_core.prepare import hub
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", "disk"], check=True)
hub.SPARE_BYTES = -10**9  # so that the check before does not see it
asked = hub.FetchRequest(into=Path("disk"), train_shards=2, waits=(), workers=2)
try:
    hub.fetch(asked)
except OSError as error:
    print(error)
print(sorted(path.name for path in Path("disk").rglob("*.bin") if ".fetch" not in path.parts))
subprocess.run(["mount", "-o", "remount,size=20m", "disk"], check=True)
print(hub.fetch(asked))
"""


def test_a_disk_that_fills_up_is_told_and_gone_on_with(hub, tmp_path):
    """On a small disk of its own: a clear error, nothing visible, and after space is made the same call ends well."""
    inside = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*inside, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine gives no private mounts")
    (tmp_path / "disk").mkdir()
    env = {**os.environ, "HF_ENDPOINT": hub.url, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*inside, sys.executable, "-c", FULL_DISK], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
    )
    told, seen, folder = done.stdout.splitlines()
    assert re.search(rf"{os.strerror(errno.ENOSPC)}, at byte [\d,]+ of [\d,]+ of fineweb_\w+.bin; make space", told)
    assert seen == "[]" and folder == f"disk/datasets/{NAME}"


@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT"])
def test_a_killed_fetch_goes_on_where_it_was(hub, tmp_path, name):
    """The command, killed in the middle of a file: nothing is visible; the same command asks for the rest alone."""
    hub.fail(SHARD, "pause", 1)
    command = [sys.executable, "jobs/prepare_data.py", "--train-shards", "2", "--into", str(tmp_path / "data")]
    env = {**os.environ, "HF_ENDPOINT": hub.url, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as job:
        assert hub.paused.wait(60)
        part = hub.commits[hub.main].files[f"{SHARDS}/{BIN}"]["lfs"]["oid"]
        home = tmp_path / "data" / "datasets" / ".fetch" / f"{NAME}.parts"
        while not (home / part).exists() or (home / part).stat().st_size < 600_000:
            time.sleep(0.01)
        job.send_signal(getattr(signal, name))
        _, said = job.communicate(timeout=60)
    assert job.returncode == (130 if name == "SIGINT" else -getattr(signal, name))
    assert name != "SIGINT" or "interrupted; what came is kept: the same command goes on from there" in said
    assert visible(tmp_path / "data") == {} and hidden(tmp_path / "data")
    hub.resume.set()
    again = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert again.stdout.split() == [str(tmp_path / "data" / "datasets" / NAME)]
    assert whole(Path(again.stdout.strip()))
    ranges = [one.range for one in hub.gets("train_000001")]
    assert ranges[0] is None and int(re.fullmatch(r"bytes=(\d+)-", ranges[1])[1]) >= 600_000 and len(ranges) == 2


def test_two_fetches_at_once_do_not_meet(hub, tmp_path):
    """The second is refused, or comes after the first; the folder is whole either way."""
    ends = []

    def one():
        try:
            ends.append(fetch(ask(tmp_path / "data")))
        except HubError as error:
            ends.append(str(error))

    both = [threading.Thread(target=one) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    folder = tmp_path / "data" / "datasets" / NAME
    assert folder in ends and whole(folder)
    assert all(end == folder or "another fetch" in end for end in ends)
