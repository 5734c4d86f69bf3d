"""What is kept: volumes with their commits, files put and read by a client, Dicts."""

import pytest

from tests.modal_plane.client import Client, Failed, command
from tests.modal_plane.toy import APP, HELD, call, get, let_go, make, running, spawn
from tests.processes import until

pytestmark = [pytest.mark.xdist_group("modal"), pytest.mark.usefixtures("modal_containers")]


def test_committed_files_are_seen_by_others_and_the_rest_is_not(plane, client):
    """A client lists and reads what a container committed; what it wrote later and did not commit dies with it."""
    source = """
import os
os.makedirs("/runs/attempts/one/deep", exist_ok=True)
open("/runs/attempts/one/log.txt", "w").write("kept")
with open("/runs/attempts/one/deep/big.bin", "wb") as file:
    file.write(b"ab" * (5 << 20))
attempts.commit()
open("/runs/attempts/one/late.txt", "w").write("lost")
print("begun", flush=True)
import time; time.sleep(60)
"""
    call_id = spawn(client, source)
    running(plane, call_id)
    client.do("runs = modal.Volume.from_name('attempts')")
    listed = client.do(
        "result = sorted((it.path, it.type.name, it.size) for it in runs.listdir('one', recursive=True))"
    )
    files = [("one/deep", "DIRECTORY"), ("one/deep/big.bin", "FILE"), ("one/log.txt", "FILE")]
    assert [(path, kind) for path, kind, _ in listed] == files and listed[1][2] == 10 << 20
    big = (
        "result = [len(b''.join(runs.read_file('one/deep/big.bin'))), b''.join(runs.read_file('one/log.txt')).decode()]"
    )
    assert client.do(big) == [10 << 20, "kept"]
    with pytest.raises(Failed, match="FileNotFoundError"):
        client.do("b''.join(runs.read_file('one/late.txt'))")
    plane.crash(call_id)
    with pytest.raises(Failed) as crashed:
        get(client, call_id)
    assert crashed.value.name == "RemoteError" and "exit code: 137" in crashed.value.text
    assert not (plane.volume("attempts") / "one/late.txt").exists()


def test_a_batch_upload_is_what_a_container_reads(plane, client, tmp_path):
    """Files put by a client lie on the read-only data volume of a container, to the byte; overwriting needs force."""
    (tmp_path / "a.bin").write_bytes(bytes(range(256)) * 40_000)
    upload = f"""
with modal.Volume.from_name('data').batch_upload() as batch:
    batch.put_file({str(tmp_path / "a.bin")!r}, '/shards/a.bin')
"""
    client.do(upload)
    with pytest.raises(Failed, match="FileExistsError"):
        client.do(upload)
    source = """
content = open("/data/shards/a.bin", "rb").read()
try:
    open("/data/new", "w")
except OSError as error:
    result = [content == bytes(range(256)) * 40_000, error.errno]
"""
    beyond = "#" * 100_000  # so many bytes of arguments travel as a blob
    assert get(client, spawn(client, source + beyond)) == [True, 30]


def test_of_two_that_put_a_key_the_first_wins_until_the_entry_expires(plane, client):
    """Dict.put(skip_if_exists=True) is won once, by client or container; after expiry it can be won again."""
    client.do("claims = modal.Dict.from_name('first', create_if_missing=True)")
    assert client.do("result = claims.put('fc:1', 'mine', skip_if_exists=True)") is True
    inside = "result = modal.Dict.from_name('first').put('fc:1', 'theirs', skip_if_exists=True)"
    assert get(client, spawn(client, inside)) is False
    assert client.do("result = [claims.get('fc:1'), claims.get('fc:2'), claims.len()]") == ["mine", None, 1]
    assert plane.entries("first") == {"fc:1": "mine"}
    assert plane.expire_entry("first", "fc:1") and not plane.expire_entry("first", "fc:1")
    assert client.do("result = claims.put('fc:1', 'again', skip_if_exists=True)") is True


def test_a_client_lists_copies_and_removes_what_is_on_a_volume(plane, client, tmp_path):
    """Folders go up whole; files are copied and removed by path; what is not there is told by its kind of error."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/a.txt").write_text("a")
    client.do(f"""
files = modal.Volume.from_name('files', create_if_missing=True, version=2)
with files.batch_upload() as batch:
    batch.put_directory({str(tmp_path)!r}, '/sent')
files.copy_files(['sent/deep/a.txt'], 'sent/b.txt')
""")
    listed = "result = sorted(it.path for it in files.listdir('/', recursive=True))"
    assert client.do(listed) == ["sent", "sent/b.txt", "sent/deep", "sent/deep/a.txt"]
    client.do("files.remove_file('sent/deep', recursive=True)")
    assert client.do(listed) == ["sent", "sent/b.txt"]
    for source, error in (
        ("files.remove_file('none')", "FileNotFoundError"),
        ("b''.join(files.read_file('none'))", "FileNotFoundError"),
        ("files.listdir('none')", "NotFoundError"),
    ):
        with pytest.raises(Failed) as absent:
            client.do(source)
        assert absent.value.name == error


@pytest.mark.chaos
def test_background_commits_keep_what_the_code_did_not_commit(tmp_path):
    """Where they are asked for, files appear while the code runs, and once more when the container has crashed."""
    with make(tmp_path / "plane", background_commits=0.2) as plane:
        assert command(plane, "deploy", APP).returncode == 0
        source = "open('/runs/attempts/one', 'w').close()" + HELD + "open('/runs/attempts/two', 'w'); os._exit(3)"
        with Client(plane) as client:
            call_id = client.do(f"result = modal.Function.from_name('toy', 'run').spawn({source!r}).object_id")
        until((plane.volume("attempts") / "one").exists, "a commit while it runs")
        (plane.volume("data") / call_id).touch()
        until(lambda: call(plane, call_id).results == ("failure",), "the crash")
        assert (plane.volume("attempts") / "two").exists()
        assert plane.errors == []


def test_a_reload_is_refused_while_a_file_is_open_and_shows_what_others_committed(plane, client):
    """What a client put is seen by a container after its reload, which names the file that stands in its way."""
    call_id = spawn(
        client,
        "held = open('/runs/attempts/held', 'w')"
        + HELD
        + """
try:
    attempts.reload()
except RuntimeError as error:
    said = str(error)
held.close()
before = os.path.exists('/runs/attempts/put')
attempts.reload()
result = [said, before, os.path.exists('/runs/attempts/put')]
""",
    )
    running(plane, call_id)
    client.do("""
import io
with modal.Volume.from_name('attempts').batch_upload(force=True) as batch:
    batch.put_file(io.BytesIO(b'x'), '/put')
""")
    let_go(plane, call_id)
    said, before, after = get(client, call_id)
    assert "held is open" in said and (before, after) == (False, True)
