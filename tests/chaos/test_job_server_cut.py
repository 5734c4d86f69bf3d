"""Fault 4: requests lost, replies lost, connections cut in flight before Ray's job server. One backend job a key."""

import threading
import uuid

import pytest

from orchestrator.backends import job_server
from orchestrator.backends.job_server import JobServer
from orchestrator.cluster.address import read_address
from tests.chaos.proxy import ACTIONS, Proxy, Rule
from tests.processes import until

pytestmark = pytest.mark.xdist_group("cluster")


@pytest.fixture
def impatient(monkeypatch):
    """A silent connection is given up soon."""
    monkeypatch.setattr(job_server, "REQUEST_SECONDS", 3.0)
    monkeypatch.setattr(job_server, "WAIT_SECONDS", 0.05)


def begun(cluster, name):
    """The jobs of a name, and how often each was started, by what its entry point left."""
    return [job for job in cluster.jobs() if job.startswith(name)]


def submit(address, name, marker):
    server = JobServer(read_address(address, {"HOME": "/nowhere"}))
    return server.submit(name, f"echo ran >> {marker}", {}, {"golf_submissions": name})


def is_post(method, path):
    return method == "POST"


@pytest.mark.parametrize(
    "action", [pytest.param(one, marks=() if one == "lose_reply" else pytest.mark.chaos) for one in ACTIONS]
)
def test_a_disturbed_submit_starts_one_job(cluster, tally, tmp_path, impatient, action):
    """Whatever happens to the first request that starts it, and to the look for it after that."""
    count = tally(f"4 {action} of the request that starts a job")
    for looks in range(2):
        name, marker = f"chaos-{uuid.uuid4().hex[:8]}", tmp_path / f"{looks}"
        rules = [Rule(action, is_post), Rule(action, lambda method, path: method == "GET" and "chaos-" in path, looks)]
        with Proxy(cluster.job_port, *rules) as proxy, count.recovery():
            submit(proxy.address, name, marker)
            assert begun(cluster, name) == [name]
            until(lambda name=name: cluster.jobs()[name]["status"] == "SUCCEEDED", "the job's end")
            assert marker.read_text() == "ran\n"
            proxy.released.set()
            fired = proxy.done[action]
        count.injected += fired
        count.fired += fired
        count.survived += fired - 1


@pytest.mark.chaos
def test_many_submits_of_a_key_through_bad_lines_start_one_job(cluster, tally, tmp_path, impatient):
    """Twenty clients at once, each behind a line of its own that fails once."""
    count = tally("4 twenty clients of one key at once, each with a fault")
    name, marker = f"chaos-{uuid.uuid4().hex[:8]}", tmp_path / "ran"
    proxies = [Proxy(cluster.job_port, Rule(action, is_post)) for action in 4 * ACTIONS]
    errors = []

    def one(proxy):
        try:
            submit(proxy.address, name, marker)
        except Exception as error:  # told below
            errors.append(error)

    threads = [threading.Thread(target=one, args=(proxy,)) for proxy in proxies]
    count.injected += len(threads)
    with count.recovery():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == [] and begun(cluster, name) == [name]
        until(lambda: cluster.jobs()[name]["status"] == "SUCCEEDED", "the job's end")
        assert marker.read_text() == "ran\n"
    for proxy in proxies:
        proxy.close()
        count.fired += sum(proxy.done[action] for action in ACTIONS)
    count.survived = count.fired
