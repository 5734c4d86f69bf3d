"""One contract for every backend: process, local Ray, a Ray cluster, Modal, and the fake that ships."""

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import modal
import pytest

from golf_core.rundir import RUN, SEAL, is_sealed, read_json, write_json
from orchestrator.attempts import NODE, create
from orchestrator.backends import load_backend, modal_follow
from orchestrator.backends.base import Backend, Job, JobLost, Unavailable
from orchestrator.backends.fake import Act, FakeBackend
from orchestrator.backends.modal_backend import ModalBackend
from orchestrator.backends.modal_client import Cloud
from orchestrator.backends.private_ray import clear_homes, home_name, tighten
from orchestrator.backends.ray_cluster import RayClusterBackend
from orchestrator.cloud.options import AppOptions
from orchestrator.cluster.options import ClusterOptions
from tests.orchestrator.cluster_runs import real_data
from tests.orchestrator.toy import attempt_folder, limits, toy_text
from tests.processes import carrying, command_line, until

KINDS = [
    "fake",
    "process",
    pytest.param("ray", marks=pytest.mark.xdist_group("ray")),
    pytest.param("ray-cluster", marks=pytest.mark.xdist_group("cluster")),
    pytest.param("modal", marks=pytest.mark.xdist_group("cluster")),
]
HANGING = toy_text({"train3": "hang"})
CRASHING = toy_text({"train2": "crash"})
each = pytest.mark.parametrize("kind", KINDS, indirect=True)
on_cluster = pytest.mark.parametrize("kind", KINDS[3:4], indirect=True)
on_rays = pytest.mark.parametrize("kind", KINDS[2:4], indirect=True)


@pytest.fixture(scope="module")
def kind(request, tmp_path_factory):
    """Name, and what all tests of the module share: of each Ray one connection, which a test points at its own runs
    folder. One after the other, since a process has one Ray."""
    if request.param == "ray":
        shared = load_backend("ray", tmp_path_factory.mktemp("ray") / "runs")
        yield request.param, shared
        own = shared.own
        shared.close()
        assert own is None or not own.home.exists()
    elif request.param == "ray-cluster":
        cluster = request.getfixturevalue("whole_cluster")
        cluster.mend()
        folder = cluster.folder / "contract"
        options = ClusterOptions(state_dir=str(folder), node_dir=str(folder / "node"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RAY_AUTH_MODE", cluster.environment()["RAY_AUTH_MODE"])
            shared = RayClusterBackend(folder, options, cluster.gcs_address)
            yield request.param, shared
            shared.close()
    elif request.param == "modal":
        with pytest.MonkeyPatch.context() as patch:
            yield request.param, in_process(request.getfixturevalue("whole_account"), patch)
            modal.Client.from_env().close()
    else:
        yield request.param, None


@pytest.fixture
def backend(kind, tmp_path):
    """A backend of each kind on a fresh runs folder. A hanging text makes the fake hang, too."""
    runs_dir = tmp_path / "runs"
    runs_dir.mkdir()
    name, shared = kind
    if name == "modal":
        made = ModalBackend(runs_dir, shared, print, options_of=lambda job: AppOptions())
        yield made
        made.close()
        return
    if shared is not None:
        shared.attempts = (runs_dir / "attempts").resolve()
        if isinstance(shared, RayClusterBackend):
            shared.followers.clear()  # attempts have the same names in every test, so their folders lie elsewhere
            node_dir = Path(shared.options.state_dir) / tmp_path.name / "node"
            shared.options = replace(shared.options, node_dir=str(node_dir))
        yield shared
        return
    made = FakeBackend(runs_dir) if name == "fake" else load_backend(name, runs_dir)
    yield made
    made.close()


def in_process(account, patch):
    """The account, as a client of this process has it."""
    for name, value in account.environment().items():
        if name.startswith("MODAL_"):
            patch.setenv(name, value)
    patch.setattr(modal_follow, "LOOK_SECONDS", 0.3)
    return Cloud()


@pytest.fixture(scope="module")
def data(corpus):
    return real_data(corpus)


@pytest.fixture
def laid_down(backend, tmp_path, data, request):
    if isinstance(backend, ModalBackend):
        account = request.getfixturevalue("account")
        return lambda text: lay_down_for_modal(account.submission(text), tmp_path)
    return lambda text: lay_down(backend, tmp_path, text, data)


def lay_down_for_modal(asked, tmp_path):
    """Each attempt is another one: all tests share the account."""
    folder = create(tmp_path / "runs", asked.run_json(asked.runs[0], 1, limits()), asked.bundle)
    return Job(folder.name, folder, 1, 8, "NVIDIA H100 80GB HBM3")


def lay_down(backend, tmp_path, text, data):
    """An attempt folder that was not begun, as a job; the fake is told what a worker would find out, and on a cluster
    the data must be there."""
    folder = attempt_folder(tmp_path, text)
    if isinstance(backend, FakeBackend):
        acts = {HANGING: Act("completed", polls=10**9), CRASHING: Act("user_error")}
        backend.script.append(acts.get(text, Act()))
    if isinstance(backend, RayClusterBackend):
        write_json(folder / RUN, read_json(folder / RUN) | {"data": data.to_dict()})
        return Job(folder.name, folder, 1, 8, "NVIDIA H100 80GB HBM3")
    return Job(folder.name, folder, 1)


@each
def test_an_attempt_runs_to_its_seal(backend: Backend, laid_down):
    """start, poll until it is over, fetch: the folder is sealed and the log can be read from any byte on."""
    job = laid_down(toy_text())
    handle = backend.start(job)
    assert until(lambda: backend.poll(handle).over, "the end") and backend.poll(handle).phase == "ended"
    backend.fetch(handle, job.folder)
    assert is_sealed(job.folder, SEAL) and read_json(job.folder / "result.json")["outcome"] == "completed"
    whole = backend.logs(handle, 0)
    assert whole and backend.logs(handle, 3) == whole[3:]


@each
def test_a_failed_attempt_is_an_end_and_no_exception(backend: Backend, laid_down):
    """A crash of the code is a state with a result, and no seal."""
    job = laid_down(CRASHING)
    handle = backend.start(job)
    until(lambda: backend.poll(handle).over, "the end")
    assert backend.poll(handle).phase == "ended"
    assert read_json(job.folder / "result.json")["class"] == "user_error" and not (job.folder / SEAL).exists()


@each
def test_the_same_attempt_is_started_once(backend: Backend, laid_down):
    """A second start while the first is alive gives the same handle; find gives it too."""
    job = laid_down(HANGING)
    handle = backend.start(job)
    assert backend.start(job) == handle and backend.find(job.attempt_id) == handle
    backend.cancel(handle)
    until(lambda: backend.poll(handle).over, "the end")
    assert backend.find(job.attempt_id) is None


@each
def test_cancel_ends_an_attempt(backend: Backend, laid_down):
    """After cancel the attempt is over, its class is cancelled; a second cancel does nothing."""
    job = laid_down(HANGING)
    handle = backend.start(job)
    if not isinstance(backend, FakeBackend):
        until(lambda: b"step 2" in backend.logs(handle, 0), "training")
    assert not backend.poll(handle).over
    backend.cancel(handle)
    until(lambda: backend.poll(handle).over, "the end")
    backend.cancel(handle)
    assert read_json(job.folder / "result.json")["class"] == "cancelled"


@each
def test_a_handle_of_nobody_is_lost(backend: Backend, laid_down):
    """A handle of another backend, or of an attempt that never was, raises JobLost."""
    with pytest.raises(JobLost):
        backend.poll({"backend": "elsewhere", "attempt_id": "0000000000000000-a1"})
    assert backend.find("0000000000000000-a1") is None


@each
def test_a_foreign_folder_cannot_be_fetched_into(backend: Backend, laid_down, tmp_path):
    """Attempts of these backends are made, or mirrored, in place: another folder is refused, not filled."""
    job = laid_down(toy_text())
    handle = backend.start(job)
    until(lambda: backend.poll(handle).over, "the end")
    with pytest.raises(JobLost):
        backend.fetch(handle, tmp_path / "elsewhere")


def in_training(backend, laid_down):
    """A job that hangs in its second step, its handle, and the process of its one rank."""
    job = laid_down(HANGING)
    handle = backend.start(job)
    until(lambda: b"step 2" in backend.logs(handle, 0), "training")
    (bundle,) = bundles(job)
    return job, handle, bundle


@on_rays
def test_a_killed_actor_is_lost_and_its_processes_are_gone(backend, laid_down):
    """kill -9 of the Ray worker process: the state is lost, and the watchdog clears what it had started."""
    job, handle, bundle = in_training(backend, laid_down)
    os.kill(parent(bundle), signal.SIGKILL)
    until(lambda: backend.poll(handle).over, "the end")
    assert backend.poll(handle).phase == "lost"
    until(lambda: not bundles(job), "the end of the bundle", 10)


@on_rays
def test_ranks_of_ray_are_not_slowed_down(backend, laid_down):
    """Ray runs its workers at nice 15; ours run at the niceness of the process that submitted."""
    _, handle, bundle = in_training(backend, laid_down)
    assert os.getpriority(os.PRIO_PROCESS, bundle) == os.getpriority(os.PRIO_PROCESS, 0)
    backend.cancel(handle)
    until(lambda: backend.poll(handle).over, "the end")


@on_cluster
def test_what_a_cluster_can_never_take_is_told_with_what_it_has(backend, tmp_path):
    """ray-cluster: nine GPUs on one node, another model, more than is allowed; what it can take is not held."""
    never = {
        "no node has 9x H100; the cluster has .*n1: 8x H100": (9, "H100"),
        "no node has 8x B200": (8, "NVIDIA B200"),
    }
    for told, (gpus, gpu) in never.items():
        with pytest.raises(Unavailable, match=told):
            backend.hold(Job("0" * 16 + "-a1", tmp_path, 1, gpus, gpu))
    assert backend.hold(Job("0" * 16 + "-a1", tmp_path, 1, 8, "H100")) is None


@on_cluster
def test_an_actor_that_got_no_order_gets_it_from_who_finds_it(backend, laid_down):
    """ray-cluster: its controller died between making it and telling it what to run."""
    job = laid_down(toy_text())
    (node, *_) = [view for view in backend.nodes.views() if view.gpus == 8]
    handle = {"backend": backend.name, "attempt_id": job.attempt_id, "node": node.node_id, "host": node.host}
    handle |= {"node_dir": backend.options.node_dir, "home": "h", "launch": "1a2b", "gpus": 8, "cpus": 0}
    write_json(job.folder / NODE, handle)
    until(lambda: backend._actor(job.attempt_id) is None, "the end of the actor of an earlier test's attempt")
    backend._make_actor(handle, 60.0)
    assert backend.find(job.attempt_id) == handle
    until(lambda: backend.poll(handle).over, "the end")
    assert is_sealed(job.folder, SEAL) and backend.poll(handle).phase == "ended"


def bundles(job):
    """Processes that run the job's bundle. The folder of each try of these tests is another, its name the same."""
    ours = [pid for pid in carrying("SEED", "1") if f"/{job.attempt_id}/" in command_line(pid)]
    return [pid for pid in ours if os.getpgid(pid) == pid]


def parent(pid):
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1])


def test_what_a_killed_ray_left_is_cleared(tmp_path, monkeypatch):
    """Session folders of processes that are gone are removed, those of living ones stay."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    dead, alive, foreign = tmp_path / "golf-ray-1-7", tmp_path / home_name(os.getpid()), tmp_path / "golf-ray-x-y"
    for folder in (dead, alive, foreign):
        folder.mkdir()
    clear_homes()
    assert not dead.exists() and alive.exists() and foreign.exists()


def test_a_token_that_all_may_read_is_tightened(tmp_path):
    """The token that Ray writes with mode 0644 is left to its owner alone."""
    token = tmp_path / "auth_token"
    token.write_text("t")
    token.chmod(0o644)
    tighten(token)
    assert token.stat().st_mode & 0o777 == 0o600
    tighten(tmp_path / "absent")


def test_a_worker_that_is_killed_is_lost(tmp_path):
    """process: kill -9 of the worker gives lost, also to a backend that did not start it."""
    runs_dir = tmp_path / "runs"
    runs_dir.mkdir()
    backend, other = load_backend("process", runs_dir), load_backend("process", runs_dir)
    job = lay_down(backend, tmp_path, HANGING, None)
    handle = backend.start(job)
    until(lambda: b"step 2" in backend.logs(handle, 0), "training")
    assert other.find(job.attempt_id) == handle and other.poll(handle).phase == "running"
    os.kill(handle["pid"], signal.SIGKILL)
    until(lambda: backend.poll(handle).over, "the end")
    assert backend.poll(handle).phase == other.poll(handle).phase == "lost"
    backend.close()


def test_close_ends_what_runs(tmp_path):
    """process: closing the backend ends its workers and what they started, with class orphaned."""
    runs_dir = tmp_path / "runs"
    runs_dir.mkdir()
    backend = load_backend("process", runs_dir)
    job = lay_down(backend, tmp_path, HANGING, None)
    handle = backend.start(job)
    until(lambda: b"step 2" in backend.logs(handle, 0), "training")
    began = time.monotonic()
    backend.close()
    assert time.monotonic() - began < 10
    assert read_json(job.folder / "result.json")["class"] == "orphaned"
    assert not carrying("DATA_PATH", str(tmp_path / "data"))
