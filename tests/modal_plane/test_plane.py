"""The plane does to the real client, command line and container entry point what its docstring says it does."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.modal_plane import Plane
from tests.modal_plane.client import Client, Failed, command
from tests.modal_plane.plane import CallView
from tests.processes import carrying, until

pytestmark = [pytest.mark.xdist_group("modal"), pytest.mark.usefixtures("modal_containers")]

HERE = Path(__file__).parent
APP = str(HERE / "toy_app.py")
MARK = "MODAL_PLANE_TEST"  # in the environment of every process of a plane of these tests
H100 = "NVIDIA H100 80GB HBM3"


def make(folder, **options) -> Plane:
    return Plane(folder, gpus={"H100!": H100}, variables={MARK: str(folder)}, **options)


@pytest.fixture(scope="module")
def plane(modal_containers, tmp_path_factory):
    """One for all tests here, with the toy app deployed."""
    with make(tmp_path_factory.mktemp("modal") / "plane") as plane:
        plane.secret("hub", {"HUB_TOKEN": "hidden"})
        plane.deployed = command(plane, "deploy", APP)
        yield plane
        assert plane.errors == []


@pytest.fixture(scope="module")
def client(plane):
    with Client(plane) as client:
        client.do("toy = modal.Function.from_name('toy', 'run'); from_id = modal.FunctionCall.from_id")
        yield client


def call(plane, call_id) -> CallView:
    return next(it for it in plane.calls() if it.call_id == call_id)


def spawn(client, source) -> str:
    return client.do(f"result = toy.spawn({source!r}).object_id")


def get(client, call_id, timeout=90):
    return client.do(f"result = from_id({call_id!r}).get(timeout={timeout})")


def running(plane, call_id, containers=1):
    """Waits until a call is at work in its last container: it has printed its first line there."""
    until(lambda: plane.log(call_id).count("begun") >= containers, f"begin of {call_id}")


def quiet(plane):
    until(lambda: not any(it.alive for it in plane.containers()), "end of the containers")


def test_modal_run_maps_three_inputs_over_containers_and_prints_what_they_print(tmp_path):
    """`modal run` with --seeds exits 0 with the results in order and the containers' lines; no RPC is refused."""
    with make(tmp_path / "plane") as plane:
        plane.secret("hub", {"HUB_TOKEN": "hidden"})
        ended = command(plane, "run", APP, "--seeds", "1,2,3")
        assert ended.returncode == 0, ended.stderr
        assert "doubled: 2 4 6" in ended.stdout and all(f"seed {seed}" in ended.stdout for seed in (1, 2, 3))
        (made,) = plane.calls()
        assert made.results == ("success",) * 3 and len(set(made.containers)) == 3
        assert plane.unknown == [] and plane.errors == []


def test_deploy_shows_what_was_asked_for(plane):
    """A deployed function's GPUs, timeout and retries, and its image's recipe, can be read as the client sent them."""
    assert plane.deployed.returncode == 0, plane.deployed.stderr
    asked = plane.definition("toy", "run")
    assert (asked.resources.gpu_config.gpu_type, asked.resources.gpu_config.count) == ("H100!", 8)
    assert (asked.timeout_secs, asked.retry_policy.retries, asked.single_use_containers) == (60, 0, True)
    assert any("numpy==2.0.0" in line for recipe in plane.recipes() for line in recipe)


def test_a_container_sees_what_was_sent_and_declared_and_nothing_of_the_callers(plane, client):
    """In a container are /root, the volumes, secrets, the image's variables and the GPUs; not the caller's files."""
    source = f"""
import os, site, sys, toy_app, toy_mate
sys.path.insert(0, site.getsitepackages()[0])
import pynvml
pynvml.nvmlInit()
result = dict(
    files=[toy_app.__file__, toy_mate.__file__, os.getcwd()],
    given=[os.environ[name] for name in ("HUB_TOKEN", "INLINE", "COLOUR", "HOME")],
    gpus=[pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(n)) for n in range(pynvml.nvmlDeviceGetCount())],
    callers=[os.path.exists({str(HERE)!r}), os.path.exists({str(plane.folder)!r}), "MODAL_TOKEN_ID" in os.environ],
    volumes=sorted(os.listdir("/runs") + os.listdir("/data")),
)
"""
    seen = get(client, spawn(client, source))
    assert seen["files"] == ["/root/toy_app.py", "/root/toy_mate.py", "/root"]
    assert seen["given"] == ["hidden", "given", "light blue", "/root"]
    assert seen["gpus"] == [H100] * 8
    assert seen["callers"] == [False, False, False]
    assert seen["volumes"] == ["attempts"]


def test_a_spawned_call_is_found_again_by_id_with_its_lines_while_it_runs(plane, client):
    """Another process polls a running call (builtin TimeoutError), reads its lines live, cancels it; the code hears."""
    source = "print('begun', flush=True)\nimport time\ntry: time.sleep(60)\nfinally: print('told', flush=True)"
    call_id = spawn(client, source)
    running(plane, call_id)
    with Client(plane) as other:
        other.do("from_id = modal.FunctionCall.from_id")
        with pytest.raises(Failed) as polled:
            get(other, call_id, timeout=0)
        assert polled.value.name == "TimeoutError"
        first = other.do(f"result = next(iter(from_id({call_id!r}).logs.stream(timeout=30))).message")
        tail = other.do(f"result = [line.message for line in from_id({call_id!r}).logs.tail(5)]")
        assert first == "begun\n" and tail == ["begun\n"]
        other.do(f"from_id({call_id!r}).cancel()")
        with pytest.raises(Failed):
            get(other, call_id)
    assert call(plane, call_id).results == ("terminated",)
    until(lambda: "told" in plane.log(call_id), "the code's own last line")


def test_what_the_code_raises_reaches_the_caller(client):
    """An exception in a container is raised in the client with its type and text."""
    with pytest.raises(Failed, match="ValueError: no such thing"):
        get(client, spawn(client, "raise ValueError('no such thing')"))


def test_two_containers_at_most_and_none_without_gpus(plane, client):
    """max_containers holds back what is over it; without free GPUs an input stays queued until there are some."""
    plane.set_gpu_capacity(0)
    source = "print('begun', flush=True)\nimport time\nresult = time.time(); time.sleep(0.5)"
    ids = [spawn(client, source) for _ in range(3)]
    with pytest.raises(Failed, match="TimeoutError"):
        get(client, ids[0], timeout=0.5)
    assert [call(plane, it).state for it in ids] == ["queued"] * 3 and not call(plane, ids[0]).containers
    plane.set_gpu_capacity(None)
    until(lambda: all(call(plane, it).state == "done" for it in ids), "three calls")
    used = [next(it for it in plane.containers() if it.calls == (call_id,)) for call_id in ids]
    last = max(used, key=lambda it: it.started)
    ends = [it.started + it.seconds for it in used if it is not last]
    assert last.started >= min(ends) - 0.1


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
    client.do("claims = modal.Dict.from_name('claims', create_if_missing=True)")
    assert client.do("result = claims.put('fc:1', 'mine', skip_if_exists=True)") is True
    inside = "result = modal.Dict.from_name('claims').put('fc:1', 'theirs', skip_if_exists=True)"
    assert get(client, spawn(client, inside)) is False
    assert client.do("result = [claims.get('fc:1'), claims.get('fc:2'), claims.len()]") == ["mine", None, 1]
    assert plane.entries("claims") == {"fc:1": "mine"}
    assert plane.expire_entry("claims", "fc:1") and not plane.expire_entry("claims", "fc:1")
    assert client.do("result = claims.put('fc:1', 'again', skip_if_exists=True)") is True


def test_a_preempted_input_starts_again_in_a_new_container(plane, client):
    """The code is interrupted, what it commits then is kept, and the same input succeeds elsewhere; both are billed."""
    source = """
import time
starts = "/runs/attempts/starts"
open(starts, "a").write(modal.current_input_id() + "\\n")
attempts.commit()
print("begun", flush=True)
if len(open(starts).readlines()) == 1:
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        open(starts + ".end", "w").write("interrupted")
        attempts.commit()
        raise
result = open(starts).read().split() + [open(starts + ".end").read()]
"""
    quiet(plane)  # what still ends after an earlier test is billed too
    before = plane.billed()
    call_id = spawn(client, source)
    running(plane, call_id)
    plane.preempt(call_id)
    one, two, said = get(client, call_id)
    assert one == two and said == "interrupted"
    seen = call(plane, call_id)
    assert len(seen.containers) == 2 and seen.results == ("success",)
    used = [it for it in plane.containers() if it.task_id in seen.containers]
    assert [it.fate for it in used] == ["preempted", ""]
    quiet(plane)
    spent = sum(8 * it.seconds for it in plane.containers() if it.task_id in seen.containers)
    assert plane.billed() - before == pytest.approx(spent)


def test_an_input_over_its_timeout_is_ended_and_says_so(plane, client):
    """A function over its timeout raises FunctionTimeoutError at the caller; its container is killed."""
    brief = "result = modal.Function.from_name('toy', 'brief').spawn('import time; time.sleep(60)').object_id"
    call_id = client.do(brief)
    with pytest.raises(Failed) as late:
        get(client, call_id)
    assert late.value.name == "FunctionTimeoutError"
    quiet(plane)
    assert next(it.fate for it in plane.containers() if it.calls == (call_id,)) == "timeout"


def test_a_lost_request_is_repeated_once_and_a_lost_reply_makes_two_calls(plane, client):
    """The client gets over both by itself; what the server did before its reply was lost stays done."""
    known = {it.call_id for it in plane.calls()}
    plane.faults.lose_request("FunctionMap")
    one = spawn(client, "result = 1")
    assert {it.call_id for it in plane.calls()} - known == {one}
    rule = plane.faults.lose_reply("FunctionMap")
    two = spawn(client, "result = 2")
    made = {it.call_id for it in plane.calls()} - known - {one}
    assert two in made and len(made) == 2 and rule.fired == 1
    assert [get(client, it) for it in sorted(made)] == [2, 2] and get(client, one) == 1


def test_a_duplicate_delivery_runs_twice_and_counts_once(plane, client):
    """An input given to two containers runs in both; its caller sees one result, the first."""
    source = "print('begun', flush=True)\nimport os, time; time.sleep(2); result = os.environ['MODAL_TASK_ID']"
    call_id = spawn(client, source)
    running(plane, call_id)
    plane.deliver_twice(call_id)
    result = get(client, call_id)
    running(plane, call_id, containers=2)
    quiet(plane)
    seen = call(plane, call_id)
    assert len(seen.containers) == 2 and result == seen.containers[0] and seen.results == ("success",)


def test_a_client_outlives_cut_connections_and_after_a_longer_outage_asks_again(plane, client):
    """Who waits for a result notices no cut; an outage beyond the client's three repetitions (0.7 s) is raised.

    The call goes on meanwhile, and the same process gets its result when the server is back.
    """
    call_id = spawn(client, "print('begun', flush=True)\nimport time; time.sleep(2); result = 5")
    asked = plane.requests("FunctionGetOutputs")
    client.begin(f"result = from_id({call_id!r}).get()")
    until(lambda: plane.requests("FunctionGetOutputs") == asked + 1, "the client's question")
    plane.cut()
    assert client.finish() == 5 and plane.requests("FunctionGetOutputs") == asked + 2
    call_id = spawn(client, "print('begun', flush=True)\nresult = 6")
    running(plane, call_id)
    with plane.unreachable():
        with pytest.raises(Failed) as cut_off:
            get(client, call_id)
        assert cut_off.value.name == "ConnectionError"
        until(lambda: call(plane, call_id).state == "done", "the container's work")
    assert get(client, call_id) == 6


def test_a_wrong_token_an_unknown_rpc_and_a_missing_secret_are_refused_by_name(plane):
    """The messages name the token, the RPC and the secret; the RPC is on record."""
    with Client(plane, MODAL_TOKEN_ID="ak-other") as stranger, pytest.raises(Failed) as refused:
        stranger.do("modal.Dict.from_name('claims', create_if_missing=True).put('a', 1)")
    assert refused.value.name == "AuthError" and "ak-other" in refused.value.text
    with Client(plane) as other:
        with pytest.raises(Failed, match="does not serve QueueGetOrCreate"):
            other.do("modal.Queue.from_name('q', create_if_missing=True).put(1)")
        with pytest.raises(Failed, match="Secret 'none' not found"):
            other.do("modal.Secret.from_name('none').hydrate()")
    assert plane.unknown == ["QueueGetOrCreate"]


def test_the_calls_of_a_client_that_dies_are_ended_and_nothing_outlives_the_plane(tmp_path):
    """An app that is not deployed ends with its client's heartbeats; close kills what escaped into its own session."""
    source = """
import subprocess, sys
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print("begun", flush=True)
import time; time.sleep(600)
"""
    folder = tmp_path / "plane"
    with make(folder, client_timeout=4) as plane:
        plane.secret("hub", {"HUB_TOKEN": "hidden"})
        script = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
import toy_app
with toy_app.app.run():
    toy_app.run.remote({source!r})
"""
        dying = subprocess.Popen([sys.executable, "-c", script], env=plane.environment(), stderr=subprocess.DEVNULL)
        with dying:
            until(lambda: any("begun" in plane.log(it.call_id) for it in plane.calls()), "the call")
            assert len(carrying(MARK, str(folder))) >= 2
            dying.send_signal(signal.SIGKILL)
        until(lambda: plane.calls()[0].results == ("terminated",), "the end of the app")
        command(plane, "deploy", APP)
        with Client(plane) as client:
            call_id = client.do(f"result = modal.Function.from_name('toy', 'run').spawn({source!r}).object_id")
            running(plane, call_id)
        assert carrying(MARK, str(folder))
    assert carrying(MARK, str(folder)) == []
