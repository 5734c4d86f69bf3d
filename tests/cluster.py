"""A real Ray cluster on loopback: a head with its job server and nodes with declared GPUs, and ways to break them.

Each node is what `ray start` makes on a machine of its own: own address (127.0.0.x), HOME, raylet, agents and workers.
What runs on a node works in the node's folder or carries its mark in the environment (Ray renames its processes, which
overwrites parts of it), so that the whole machine can be ended at once, found again and cleared by process id. Nodes
have no PYTHONPATH: what they run of ours must have travelled.

Tests take the fixture `cluster`: a head and three nodes of eight H100, the same for all tests of a session, mended
after each. They belong to one xdist group: `pytestmark = pytest.mark.xdist_group("cluster")`.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.processes import PATIENCE, command_line, until

ROOT = Path(__file__).resolve().parents[1]
MARK = "GOLF_TEST_NODE"  # in the environment of everything that a node runs: cluster's nonce, colon, name
# What is ours on a node. A path that Ray's own processes carry, such as that of an installed project, is not.
OURS = re.compile(
    r"train_gpt|torchrun|torch\.distributed|-m (?:orchestrator|golf_core)\b"
    r"|/(?:orchestrator|golf_core)/(?:\w+/)*\w+\.py"
)
HEAD = "head"
NODES = ("n1", "n2", "n3")
STARTS = 3  # tries of a node

# A node that does not answer is dead after about ten seconds, and one whose head is gone ends itself after as long:
# with Ray's defaults a test would wait for a minute.
SYSTEM = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 2000,
    "health_check_failure_threshold": 4,
}
RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "10",
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_enable_metrics_collection": "0",
}


def running(folder, mark):
    """Processes that work in the folder, or whose environment has the mark; one that ends in a colon is a beginning."""
    entry, found = f"{MARK}={mark}".encode(), []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            marked = entry in environ or (mark.endswith(":") and any(one.startswith(entry) for one in environ))
            if marked or f"{os.readlink(f'/proc/{pid}/cwd')}/".startswith(f"{folder}/"):
                found.append(int(pid))
    return [pid for pid in found if pid != os.getpid()]


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@dataclass
class Node:
    """What a node is started with, and the process that holds it together."""

    name: str
    ip: str
    options: list[str]
    process: "subprocess.Popen | None" = None
    node_id: str = ""  # a new one after each start
    stopped: list[int] = field(default_factory=list)  # process ids under SIGSTOP


class Cluster:
    """Started at once; `close` (or the end of a `with`) leaves nothing behind."""

    def __init__(self, nodes=(), token=None, head_cpus=2):
        self.nonce, self.token = uuid.uuid4().hex[:12], token
        self.folder = Path(tempfile.mkdtemp(prefix="golf-x-", dir="/tmp"))  # short, for Ray's sockets
        self.nodes = {}
        self.port, self.job_port = free_port(), free_port()
        self._addresses = iter(range(2, 250))
        options = [f"--port={self.port}", "--dashboard-host=127.0.0.1", f"--dashboard-port={self.job_port}"]
        options += ["--head", f"--num-cpus={head_cpus}", "--num-gpus=0", "--no-monitor"]
        options += [
            f"--ray-client-server-port={free_port()}",
            "--include-log-monitor=false",
            f"--system-config={json.dumps(SYSTEM)}",
        ]
        try:
            self.head_ip = self._address()
            self.head = Node(HEAD, self.head_ip, options)
            self.restart_head()
            for name in nodes:
                self.add_node(name)
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # --- what it is

    @property
    def address(self):
        """Of the job server: what --address takes."""
        return f"http://127.0.0.1:{self.job_port}"

    @property
    def gcs_address(self):
        """What `ray.init(address=)` takes."""
        return f"{self.head_ip}:{self.port}"

    def ask(self, path, method="GET"):
        """The job server's answer to a request, parsed."""
        request = urllib.request.Request(self.address + path, method=method)
        if self.token is not None:
            request.add_header("Authorization", f"Bearer {self.token}")
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read() or b"null")

    def ray_nodes(self):
        """node_id -> what the head says of it: state, node_name, state_message, labels, resources_total."""
        rows = self.ask("/api/v0/nodes?detail=1&limit=1000")["data"]["result"]["result"]
        return {row["node_id"]: row for row in rows}

    def alive(self):
        """Names of the nodes that the head believes alive; empty where it does not answer."""
        try:
            return {row["node_name"] for row in self.ray_nodes().values() if row["state"] == "ALIVE"}
        except (OSError, ValueError, KeyError, TypeError):
            return set()

    def actors(self):
        """Living actors, as the head tells of them."""
        rows = self.ask("/api/v0/actors?detail=1&limit=1000")["data"]["result"]["result"]
        return [row for row in rows if row["state"] != "DEAD"]

    def jobs(self):
        """Submission id -> job, of all jobs that were ever submitted to this head."""
        return {job["submission_id"]: job for job in self.ask("/api/jobs/") if job.get("submission_id")}

    def environment(self, home=None):
        """For a client of the cluster on a machine of its own: a HOME with nothing in it, our packages, the token."""
        env = self._clean() | {"HOME": str(home or self.folder / "laptop"), "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
        Path(env["HOME"]).mkdir(exist_ok=True)
        return env

    # --- nodes

    def add_node(self, name, gpus=8, gpu="H100", cpus=2, labels=None, wait=True):
        """A new node. `gpu` is the model, told as a label (gpu-type) and as Ray's own resource of that name."""
        assert name not in self.nodes, f"there is a node {name} already"
        labels = {"golf-node": name} | ({"gpu-type": gpu} if gpu else {}) | (labels or {})
        options = [f"--address={self.gcs_address}", f"--num-cpus={cpus}", f"--num-gpus={gpus}"]
        options += ["--labels=" + ",".join(f"{key}={value}" for key, value in labels.items())]
        options += ["--resources=" + json.dumps({f"accelerator_type:{gpu}": 1} if gpu and gpus else {})]
        self.nodes[name] = node = Node(name, self._address(), options)
        self._start(node)
        if wait:
            self.wait_for([name])
        return node

    def wait_for(self, names):
        """Until the head knows all of these, and their ids are ours to give. Ray gives a node thirty seconds to start:
        on a busy machine it is tried again."""
        tries = dict.fromkeys(names, STARTS)

        def there():
            for name in names:
                node = self._node(name)
                if node.process is not None and node.process.poll() is not None:
                    tries[name] -= 1
                    assert tries[name] > 0, f"{name} ended\n{self.words()}"
                    self._kill(node)
                    self._start(node)
            return set(names) <= self.alive()

        until(there, lambda: f"nodes {names}; there are {self.alive()}\n{self.words()}", 2 * PATIENCE)
        for row in self.ray_nodes().values():
            if row["state"] == "ALIVE" and row["node_name"] in names:
                self._node(row["node_name"]).node_id = row["node_id"]

    def _node(self, name):
        return self.head if name == HEAD else self.nodes[name]

    def wait_dead(self, name):
        """Until the head believes that the node is gone."""
        node_id = self.nodes[name].node_id
        until(lambda: self.ray_nodes()[node_id]["state"] == "DEAD", f"the head sees that {name} is gone")

    def processes(self, name):
        """Everything that runs on a node."""
        return running(self.folder / name, f"{self.nonce}:{name}")

    def home(self, name=HEAD):
        """HOME of a node: the defaults of --state-dir and --node-dir are in it."""
        return self.folder / name / "home"

    def everything(self):
        """All processes of all nodes and the head."""
        return running(self.folder, f"{self.nonce}:")

    def raylet(self, name):
        (pid,) = [pid for pid in self.processes(name) if "/raylet/raylet " in command_line(pid)]
        return pid

    def work(self, name=None):
        """Processes of ours on a node, or on all: whatever is no part of Ray. Actors and tasks are Ray's."""
        pids = self.processes(name) if name else self.everything()
        return [pid for pid in pids if OURS.search(command_line(pid))]

    def kill_node(self, name):
        """The machine is gone: all that ran on it ends at once."""
        self._kill(self.nodes[name])

    def kill_raylet(self, name):
        """Only Ray's own process of the node dies; what it had started finds out by itself."""
        os.kill(self.raylet(name), signal.SIGKILL)

    def preempt_node(self, name):
        """SIGTERM, as a cloud gives notice: Ray drains the node, and ends it in at most thirty seconds."""
        self.nodes[name].process.send_signal(signal.SIGTERM)

    def stop_node(self, name, work=False):
        """SIGSTOP of Ray's processes on the node; with `work` of everything on it, as a frozen machine."""
        node = self.nodes[name]
        self.continue_node(name)
        workers = set(self.work(name)) | {pid for pid in self.processes(name) if command_line(pid).startswith("ray::")}
        agents = {pid for pid in workers if command_line(pid).endswith("Agent")}
        for pid in self.processes(name):
            if work or pid not in workers - agents:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
                    node.stopped.append(pid)

    def continue_node(self, name):
        node = self.nodes[name]
        for pid in node.stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        node.stopped = []

    def remove_node(self, name):
        self.kill_node(name)
        del self.nodes[name]

    def restart_node(self, name):
        """A node of that name again, under a new node id."""
        self._kill(self.nodes[name])
        self._start(self.nodes[name])
        self.wait_for([name])

    def kill_head(self):
        """The head's machine is gone. Its nodes end themselves within seconds."""
        self._kill(self.head)

    def restart_head(self, nodes=False):
        """The head again at the same addresses, knowing nothing of before; with `nodes` these too join it anew."""
        self._kill(self.head)
        self._start(self.head)
        self.wait_for([HEAD])
        if nodes:
            for name in self.nodes:
                self.restart_node(name)

    def mend(self, names=NODES):
        """As it was at first: these nodes alive, no others, nothing of ours left running."""
        for name in set(self.nodes) - set(names):
            self.remove_node(name)
        for name in self.nodes:
            self.continue_node(name)
        if HEAD not in self.alive():
            self.restart_head(nodes=True)
        self._end_work()
        for name in set(names) - set(self.nodes):
            self.add_node(name)
        for name in set(names) - self.alive():
            self.restart_node(name)

    def _end_work(self):
        """Jobs of a test that failed, detached actors, processes."""
        for name, job in self.jobs().items():
            if job["status"] in ("PENDING", "RUNNING"):
                with contextlib.suppress(OSError):
                    self.ask(f"/api/jobs/{name}/stop", "POST")
        for actor in self.actors():
            if str(actor.get("name") or "").startswith("golf:") and actor.get("pid"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(actor["pid"], signal.SIGKILL)
        for pid in self.work():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def close(self):
        """End everything by process id, and remove the cluster's folder."""
        for node in [*self.nodes.values(), self.head]:
            self._kill(node)
        _kill_all(self.everything)
        shutil.rmtree(self.folder, ignore_errors=True)

    def words(self):
        """The last words of every node's start, for a message."""
        logs = sorted(self.folder.glob("*/start.log"))
        return "\n".join(f"{log.parent.name}: {log.read_text(errors='replace')[-400:]}" for log in logs)

    # --- inside

    def _address(self):
        return f"127.0.0.{next(self._addresses)}"

    def _clean(self):
        ours = {key: value for key, value in os.environ.items() if not key.startswith(("GOLF_", "RAY_"))}
        ours.pop("PYTHONPATH", None)
        secret = {"RAY_AUTH_MODE": "disabled"}
        if self.token is not None:
            secret = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}
        return ours | secret

    def _start(self, node):
        first = 20000 + 200 * int(node.ip.rpartition(".")[2])  # each node's own; Ray takes no 0 for them
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *node.options]
        command += [f"--node-ip-address={node.ip}", f"--node-name={node.name}", "--disable-usage-stats"]
        command += ["--object-store-memory=80000000", "--dashboard-agent-listen-port=0"]
        command += [f"--min-worker-port={first}", f"--max-worker-port={first + 199}"]
        command += [f"--temp-dir={self.folder / node.name / 'ray'}"]
        shutil.rmtree(self.folder / node.name / "ray", ignore_errors=True)  # a machine that starts again has no /tmp
        home = self.home(node.name)
        home.mkdir(parents=True, exist_ok=True)
        env = self._clean() | RAY_ENVIRONMENT | {"HOME": str(home), MARK: f"{self.nonce}:{node.name}"}
        with (self.folder / node.name / "start.log").open("ab") as log:
            node.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=home, env=env
            )
        node.node_id, node.stopped = "", []

    def _kill(self, node):
        _kill_all(lambda: self.processes(node.name))
        if node.process is not None:
            node.process.wait()
        node.process, node.stopped = None, []


def _kill_all(look):
    """SIGKILL every process that `look` finds, until two looks find none: meanwhile others may have been started."""
    clean, end = 0, time.monotonic() + 20
    while clean < 2 and time.monotonic() < end:
        alive = look()
        clean = 0 if alive else clean + 1
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


@pytest.fixture(scope="session")
def whole_cluster():
    """Started when the first test asks for it."""
    with Cluster(NODES) as made:
        yield made


@pytest.fixture
def cluster(whole_cluster):
    """A head and three nodes of eight declared H100, as they were at first, whatever the last test broke."""
    whole_cluster.mend()
    yield whole_cluster
    for name in whole_cluster.nodes:
        whole_cluster.continue_node(name)
