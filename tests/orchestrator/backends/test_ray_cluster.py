"""Runs on a real cluster of three nodes with eight declared GPUs each: in parallel, adopted, lost, repeated, fenced."""

import shutil
import subprocess
import sys

import pytest

from golf_core.rundir import ARTIFACT, SEAL, TRAIN_SEAL, is_sealed
from orchestrator.cluster.node_disk import BROUGHT
from tests.orchestrator.cluster_runs import Runs, real_data, submission, trainings
from tests.orchestrator.toy import toy_text
from tests.processes import until

pytestmark = pytest.mark.xdist_group("cluster")
NODES = {"n1", "n2", "n3"}


@pytest.fixture(scope="module")
def data(corpus):
    return real_data(corpus)


def waiting(place, folder):
    """The toy that waits in `place` until the file `go` is there."""
    return toy_text({place: f"wait {folder}/go"}, steps=3)


def actors(cluster):
    return [one for one in cluster.actors() if str(one.get("name")).startswith("golf:")]


def nothing_is_left(cluster):
    until(lambda: not cluster.work(), lambda: f"left: {cluster.work()}", 15)
    until(lambda: not actors(cluster), "actors left", 15)


def test_three_seeds_run_on_three_nodes_at_once_and_outlive_their_controller(cluster, data, tmp_path):
    """Each has a node to itself. The controller is killed: they go on, the next one adopts what runs and collects what
    ended meanwhile. Nothing is started twice, and nothing is left running on the nodes, which know what was brought."""
    text = waiting("train2", tmp_path)
    with Runs(cluster, submission(data, text)) as runs:
        runs.start()
        until(lambda: all(runs.reaches(seed, "step 1", file="log.txt") for seed in (1, 2, 3)), "three trainings")
        assert {runs.host(seed) for seed in (1, 2, 3)} == NODES
        runs.controllers[0].kill()
        runs.controllers[0].wait()
        (tmp_path / "go-2").touch()
        until(lambda: len(actors(cluster)) == 2, "seed 2 ends without a controller")
        runs.start()
        (tmp_path / "go").touch()
        assert {seed: verb for seed, (verb, _) in runs.finish().items()} == {"1": "done", "2": "done", "3": "done"}
        assert runs.states() == {seed: [("counted", "completed")] for seed in (1, 2, 3)}
        assert [trainings(runs.attempt(seed)) for seed in (1, 2, 3)] == [1, 1, 1]
        assert len(runs.events("attempt_started")) == 3 == len(runs.events("attempt_adopted"))
        assert all((runs.on_node(seed) / BROUGHT).exists() for seed in (1, 2, 3))
        nothing_is_left(cluster)


HOLD = """
import sys
from pathlib import Path
from orchestrator.backends.base import Job
from orchestrator.backends.ray_cluster import RayClusterBackend
from orchestrator.cluster.options import ClusterOptions
options = ClusterOptions(state_dir=sys.argv[2], node_dir="/nowhere", max_gpus=int(sys.argv[3]))
backend = RayClusterBackend(Path(sys.argv[2]), options, sys.argv[1])
print(backend.hold(Job("0123-a1", Path("."), gpus=8)))
backend.close()
"""


def held(cluster, state, max_gpus):
    """What another controller is told that wants eight GPUs."""
    command = [sys.executable, "-c", HOLD, cluster.gcs_address, str(state), str(max_gpus)]
    return subprocess.run(command, env=cluster.environment(), capture_output=True, text=True).stdout.strip()


@pytest.mark.chaos
def test_max_gpus_holds_over_all_controllers_of_a_state_folder(cluster, data, tmp_path):
    """What one has running counts for the next; what runs for another state folder does not, nor what has ended."""
    with Runs(cluster, submission(data, waiting("train2", tmp_path), seeds=(1,))) as runs:
        runs.start()
        until(lambda: runs.reaches(1, "step 1", file="log.txt"), "training")
        assert held(cluster, runs.runs_dir, 15) == "max_gpus=15: 8 are in use"
        assert held(cluster, runs.runs_dir, 16) == held(cluster, tmp_path / "other", 8) == "None"
        (tmp_path / "go").touch()
        assert runs.finish() == {"1": ["done", "counted"]}
        assert held(cluster, runs.runs_dir, 8) == "None"


@pytest.mark.chaos
@pytest.mark.parametrize("cls", ["node_lost", "preempted"])
def test_a_node_lost_in_training_costs_the_attempt_and_not_the_run(cluster, data, tmp_path, cls):
    """The attempt is void by its class, the next one runs on another node and is counted."""
    with Runs(cluster, submission(data, waiting("train2", tmp_path), seeds=(1,))) as runs:
        runs.start()
        until(lambda: runs.reaches(1, "step 1", file="log.txt"), "training")
        lost = runs.host(1)
        cluster.kill_node(lost) if cls == "node_lost" else cluster.preempt_node(lost)
        until(lambda: runs.attempt(1, 2), "the second attempt")
        (tmp_path / "go").touch()
        assert runs.finish() == {"1": ["done", "counted"]}
        assert runs.states() == {1: [("void", cls), ("counted", "completed")]}
        assert runs.host(1, 2) != lost
        nothing_is_left(cluster)


@pytest.mark.chaos
def test_a_node_lost_in_evaluation_costs_the_evaluation_alone(cluster, data, tmp_path):
    """The same attempt is evaluated on another node, from what was brought when its training was sealed."""
    with Runs(cluster, submission(data, waiting("sliding", tmp_path), seeds=(1,))) as runs:
        runs.start()
        until(lambda: runs.reaches(1, "files", file=TRAIN_SEAL), "the sealed training is on the head")
        lost, artifact = runs.host(1), (runs.attempt(1) / ARTIFACT).read_bytes()
        cluster.kill_node(lost)
        until(lambda: runs.host(1) != lost and runs.reaches(1, "sliding", file="phases.jsonl"), "evaluation elsewhere")
        (tmp_path / "go").touch()
        assert runs.finish() == {"1": ["done", "counted"]}
        assert runs.states() == {1: [("counted", "completed")]} and trainings(runs.attempt(1)) == 1
        assert (runs.attempt(1) / ARTIFACT).read_bytes() == artifact
        ended = runs.events("attempt_ended")
        assert [(one.data["class"], one.data["stage"], one.data["host"]) for one in ended] == [
            ("node_lost", "evaluate", lost)
        ]
        nothing_is_left(cluster)


@pytest.mark.chaos
def test_a_late_finisher_is_never_counted(cluster, data, tmp_path):
    """A node that only seemed dead finishes its attempt after the retry began: it is sealed there, and stays void."""
    with Runs(cluster, submission(data, waiting("train2", tmp_path), seeds=(1,))) as runs:
        runs.start()
        until(lambda: runs.reaches(1, "step 1", file="log.txt"), "training")
        late = runs.host(1)
        cluster.stop_node(late)
        until(lambda: runs.attempt(1, 2) and runs.reaches(1, "step 1", number=2, file="log.txt"), "the retry trains")
        (tmp_path / "go").touch()
        sealed = runs.on_node(1) / SEAL
        until(sealed.exists, "the late finisher seals its attempt")
        cluster.continue_node(late)
        assert runs.finish() == {"1": ["done", "counted"]}
        assert runs.states() == {1: [("void", "node_lost"), ("counted", "completed")]}
        assert not (runs.attempt(1) / SEAL).exists() and is_sealed(sealed.parent)
        runs.start()
        assert runs.finish() == {"1": ["done", "counted"]} and len(runs.events("attempt_started")) == 2
        nothing_is_left(cluster)


@pytest.mark.chaos
def test_a_lost_node_loses_nothing_that_was_copied_to_the_storage(cluster, data, tmp_path):
    """Controller and node are gone when the attempt has ended: the next controller brings it from the storage."""
    storage = f"file://{tmp_path}/kept"
    with Runs(cluster, submission(data, waiting("train2", tmp_path), seeds=(1,)), storage=storage) as runs:
        runs.start()
        until(lambda: runs.reaches(1, "step 1", file="log.txt"), "training")
        runs.controllers[0].kill()
        runs.controllers[0].wait()
        (tmp_path / "go").touch()
        until(lambda: list((tmp_path / "kept").rglob(SEAL)), "the copy")
        cluster.kill_node(runs.host(1))
        shutil.rmtree(runs.on_node(1))  # with its machine
        runs.start()
        assert runs.finish() == {"1": ["done", "counted"]}
        assert runs.states() == {1: [("counted", "completed")]} and len(runs.events("attempt_started")) == 1


@pytest.mark.chaos
def test_what_was_sealed_outlives_the_whole_cluster(cluster, data, tmp_path):
    """Head and nodes are killed and started again, under other ids: the sealed attempt is found on its node's disk and
    counted, what trained is void and trained anew."""
    with Runs(cluster, submission(data, waiting("train2", tmp_path), seeds=(1, 2))) as runs:
        runs.start()
        until(lambda: all(runs.reaches(seed, "step 1", file="log.txt") for seed in (1, 2)), "two trainings")
        runs.controllers[0].kill()
        runs.controllers[0].wait()
        (tmp_path / "go-1").touch()
        until((runs.on_node(1) / SEAL).exists, "seed 1 is sealed on its node")
        cluster.restart_head(nodes=True)
        (tmp_path / "go").touch()
        runs.start()
        assert {seed: verb for seed, (verb, _) in runs.finish().items()} == {"1": "done", "2": "done"}
        assert runs.states() == {
            1: [("counted", "completed")],
            2: [("void", "worker_lost"), ("counted", "completed")],
        }
        assert len(runs.events("attempt_started")) == 3
        nothing_is_left(cluster)
