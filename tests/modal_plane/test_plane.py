"""The plane does to the real client, command line and container entry point what its docstring says it does."""

import json
import signal
import subprocess
import sys

import pytest

from tests.modal_plane.client import Client, Failed, command
from tests.modal_plane.toy import (
    APP,
    H100,
    HELD,
    HERE,
    MARK,
    call,
    containers,
    get,
    let_go,
    make,
    quiet,
    running,
    spawn,
)
from tests.processes import carrying, until

pytestmark = [pytest.mark.xdist_group("modal"), pytest.mark.usefixtures("modal_containers")]


def test_modal_run_maps_three_inputs_over_containers_and_prints_what_they_print(tmp_path):
    """`modal run` with --seeds exits 0 with the results in order and the containers' lines; no RPC is refused."""
    with make(tmp_path / "plane") as plane:
        ended = command(plane, "run", f"{APP}::main", "--seeds", "1,2,3")
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
    volumes=[os.listdir("/runs"), sorted(os.listdir("/data"))],
)
"""
    seen = get(client, spawn(client, source))
    assert seen["files"] == ["/root/toy_app.py", "/root/toy_mate.py", "/root"]
    assert seen["given"] == ["hidden", "given", "light blue", "/root"]
    assert seen["gpus"] == [H100] * 8
    assert seen["callers"] == [False, False, False]
    assert seen["volumes"] == [["attempts"], sorted(it.name for it in plane.volume("data").iterdir())]


def test_our_own_look_at_the_gpus_finds_eight_healthy_ones(plane, client):
    """What a worker asks of NVML as it is installed tells of the declared GPUs: their name, links, memory errors."""
    source = """
from orchestrator.hardware.gpus import installed_gpus, nvml_library, opened
from orchestrator.hardware.health import healths
gpus = installed_gpus()
with opened(nvml_library()) as nvml:
    states = healths(gpus, nvml)
result = [[it.name, it.source, it.memory_bytes >> 30, it.clock_mhz, it.power_limit_watts] for it in gpus]
result = [[len({it.uuid for it in gpus})], *map(list, set(map(tuple, result)))]
result += [list(it) for it in {(it.nvlinks, it.ecc, it.ecc_errors, it.rows, it.slowed, it.processes) for it in states}]
"""
    assert get(client, spawn(client, source)) == [
        [8],
        [H100, "nvml", 80, 1980, 700.0],
        [18, True, 0, "", "", []],
    ]


@pytest.mark.chaos
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


@pytest.mark.chaos
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


def test_a_wrong_token_an_unknown_rpc_and_a_missing_secret_are_refused_by_name(plane):
    """The messages name the token, the RPC and the secret; the RPC is on record."""
    before = len(plane.unknown)
    with Client(plane, MODAL_TOKEN_ID="ak-other") as stranger, pytest.raises(Failed) as refused:
        stranger.do("modal.Dict.from_name('claims', create_if_missing=True).put('a', 1)")
    assert refused.value.name == "AuthError" and "ak-other" in refused.value.text
    with Client(plane) as other:
        with pytest.raises(Failed, match="does not serve QueueGetOrCreate"):
            other.do("modal.Queue.from_name('q', create_if_missing=True).put(1)")
        with pytest.raises(Failed, match="Secret 'none' not found"):
            other.do("modal.Secret.from_name('none').hydrate()")
    assert plane.unknown[before:] == ["QueueGetOrCreate"]


@pytest.mark.chaos
def test_the_calls_of_a_client_that_dies_are_ended_and_nothing_outlives_the_plane(tmp_path):
    """An app that is not deployed ends with its client's heartbeats; close kills what escaped into its own session."""
    source = """
import subprocess, sys
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print("begun", flush=True)
import time; time.sleep(600)
"""
    folder = tmp_path / "plane"
    with make(folder, client_timeout=2) as plane:
        script = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
import toy_app
with toy_app.app.run():
    toy_app.run.remote({source!r})
"""
        heard_often = plane.environment() | {"MODAL_HEARTBEAT_INTERVAL": "0.5"}
        dying = subprocess.Popen([sys.executable, "-c", script], env=heard_often, stderr=subprocess.DEVNULL)
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


@pytest.mark.chaos
def test_of_a_detached_run_the_call_that_was_made_last_lives_on(plane):
    """`modal run --detach` that leaves two calls behind keeps one, as the client documents; then its app ends."""
    words = ["run", "--detach", f"{APP}::leave", "--source", HELD]
    ended = command(plane, *words, MODAL_LOGS_TIMEOUT="0.5")  # how long it waits for lines of an app that goes on
    assert ended.returncode == 0, ended.stderr
    first, last = (line.split()[1] for line in ended.stdout.splitlines() if line.startswith("spawned"))
    running(plane, last)
    assert call(plane, first).results == ("terminated",) and call(plane, last).state == "running"
    let_go(plane, last)
    until(lambda: call(plane, last).results == ("success",), "the last call")
    quiet(plane)


@pytest.mark.chaos
def test_options_make_a_variant_with_containers_of_its_own(plane, client):
    """`with_options` changes GPUs, timeout and how many containers there may be; the deployed function stays."""
    client.do("small = toy.with_options(gpu='H100:1', timeout=1, max_containers=1)")
    one, two = (spawn(client, HELD, "small") for _ in range(2))
    running(plane, one)
    (used,) = containers(plane, one)
    assert (used.gpus, used.gpu_type) == (1, "H100") and call(plane, two).state == "queued"
    with pytest.raises(Failed, match="FunctionTimeoutError"):
        get(client, one)
    let_go(plane, two)
    assert get(client, two) is None
    assert plane.definition("toy", "run").resources.gpu_config.count == 8


VERSIONED = """
import modal
app = modal.App("versioned")
data = modal.Volume.from_name("data")
@app.function(volumes={"/data": data.with_mount_options(read_only=True)}, scaledown_window=300)
def run(source):
    names = {"modal": modal}
    exec(source, names)
    return VERSION
"""


@pytest.mark.chaos
def test_a_new_version_takes_what_comes_and_the_old_one_ends_what_it_has(plane, client, tmp_path):
    """A deploy while calls run: they end in their containers, an idle one is ended, new calls meet the new code."""
    file = tmp_path / "versioned.py"
    file.write_text(VERSIONED + "VERSION = 'old'\n")
    assert command(plane, "deploy", str(file)).returncode == 0
    client.do("versioned = modal.Function.from_name('versioned', 'run')")
    held, idle = spawn(client, HELD, "versioned"), spawn(client, HELD, "versioned")
    running(plane, held)
    running(plane, idle)
    let_go(plane, idle)
    assert get(client, idle) == "old"
    file.write_text(VERSIONED + "VERSION = 'new'\n")
    assert command(plane, "deploy", str(file)).returncode == 0
    assert get(client, spawn(client, "", "versioned")) == "new"
    until(lambda: not containers(plane, idle)[0].alive, "end of the idle one")
    assert call(plane, held).state == "running" and containers(plane, idle)[0].exit_code == 0
    let_go(plane, held)
    assert get(client, held) == "old"
    assert command(plane, "app", "stop", "--yes", "versioned").returncode == 0
    quiet(plane)


@pytest.mark.chaos
def test_the_command_line_shows_apps_lines_and_files(plane, client):
    """`modal app list`, `app logs`, `volume ls` and `volume get` tell of what was done here."""
    call_id = spawn(client, "open('/runs/attempts/shown', 'w').write('kept'); print('a line of it', flush=True)")
    get(client, call_id)
    listed = json.loads(command(plane, "app", "list", "--json").stdout)
    assert ("toy", "deployed") in {(it["description"], it["state"]) for it in listed}
    assert "a line of it" in command(plane, "app", "logs", "toy").stdout
    until(lambda: not containers(plane, call_id)[0].alive, "the commit at its end")
    assert "shown" in command(plane, "volume", "ls", "attempts").stdout.split()
    assert command(plane, "volume", "get", "attempts", "shown", "-").stdout.startswith("kept")
