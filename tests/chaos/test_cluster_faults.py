"""Faults 1, 2, 3, 11 and 17 on a real cluster: three nodes of eight declared GPUs, the toy on each."""

import os
import random
import signal
import time

import pytest

from orchestrator.policy import OUTSIDE
from tests.chaos.cluster_faults import Submitted, all_is_well, at_work
from tests.chaos.invariants import expected, scores_of
from tests.cluster import HEAD, NODES
from tests.orchestrator.cluster_runs import real_data, submission
from tests.orchestrator.toy import toy_text
from tests.processes import until

pytestmark = pytest.mark.xdist_group("cluster")
SEEDS = (1, 2, 3)


@pytest.fixture(scope="module")
def data(corpus):
    return real_data(corpus)


@pytest.fixture(scope="module")
def calm(whole_cluster, data):
    """The scores of three seeds that nothing disturbed, and how long that took."""
    whole_cluster.mend()
    began = time.monotonic()
    with Submitted(whole_cluster, submission(data, toy_text(steps=3))) as runs:
        runs.start()
        assert runs.finish(), "\n".join(runs.said())
        return scores_of(runs.runs_dir), time.monotonic() - began


def killed(controller):
    """SIGKILL; whether it still lived."""
    alive = controller.poll() is None
    controller.kill()
    controller.wait()
    return alive


@pytest.mark.parametrize("kills", [3, pytest.param(200, marks=pytest.mark.chaos)])
def test_a_controller_killed_at_random_moments(cluster, calm, data, tally, kills):
    """Again and again, on the way of one submission and then of the next: adopted, never started twice."""
    count, draw = tally("1 controller killed at random moments (cluster)"), random.Random(kills)
    scores, takes = calm
    while count.injected < kills:
        text = toy_text(steps=3, pause=1.0 if kills > 10 else 0.4)
        with Submitted(cluster, submission(data, text)) as runs:
            fired = 0
            while fired < min(10, kills - count.injected):
                controller = runs.start()
                time.sleep(draw.uniform(0.3, takes))
                if not killed(controller):  # it had brought all to an end: the next submission has the other kills
                    break
                fired += 1
            count.injected += fired
            with count.recovery():
                runs.start()
                assert {verb for verb, _ in runs.finish().values()} == {"done"}, "\n".join(runs.said())
                all_is_well(cluster, runs, expected(scores, text))
                started = len(runs.events("attempt_started"))
                assert started <= sum(len(found) for found in runs.states().values())
            count.fired += fired
            count.survived += fired - 1


VICTIMS = {"actor": "ray::NodeAttempt", "rank": "train_gpt.py"}
PLACES = {"training": "train2", "serialisation": "compress", "evaluation": "sliding"}


@pytest.mark.chaos
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("victim", VICTIMS)
def test_a_killed_process_of_an_attempt(cluster, calm, data, tally, tmp_path, place, victim):
    """The actor in which the worker lives, or the rank: void or evaluated again, as its class says."""
    count = tally(f"2 {victim} killed in {place} (cluster)")
    text = toy_text({PLACES[place]: f"hang:{tmp_path}"}, steps=3)
    with Submitted(cluster, submission(data, text, seeds=(1,))) as runs:
        runs.start()
        until(lambda: list(tmp_path.glob(f"{PLACES[place]}-1-*")), "the place")
        host = until(lambda: runs.attempt(1) and runs.host(1), "its node")
        victims = at_work(cluster, host, VICTIMS[victim])
        count.injected += 1
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        count.fired += bool(victims)
        with count.recovery():
            assert runs.finish() == {"1": ["done", "counted"]}, "\n".join(runs.said())
            all_is_well(cluster, runs, expected(calm[0], text, 1))
            voided = [cls for state, cls in runs.states()[1] if state == "void"]
            assert len(voided) <= 1 and set(voided) <= set(OUTSIDE)
            count.note("evaluated again" if not voided else voided[0])


BREAKS = {
    "killed machine": (lambda cluster, name: cluster.kill_node(name), 3),
    "killed raylet": (lambda cluster, name: cluster.kill_raylet(name), 3),
    "preempted node": (lambda cluster, name: cluster.preempt_node(name), 11),
    "frozen machine": (lambda cluster, name: cluster.stop_node(name, work=True), 3),
}


@pytest.mark.parametrize(
    "kind", ["killed raylet", *(pytest.param(one, marks=pytest.mark.chaos) for one in BREAKS if one != "killed raylet")]
)
def test_a_node_that_goes_away_in_training(cluster, calm, data, tally, tmp_path, kind):
    """Its attempt is void by its class, another node trains; what comes back late is not counted."""
    act, number = BREAKS[kind]
    count = tally(f"{number} {kind} in training")
    text = toy_text({"train2": f"chatter:{tmp_path}"}, steps=3)  # a hang would be ended as silent first
    with Submitted(cluster, submission(data, text, seeds=(1,))) as runs:
        runs.start()
        until(lambda: runs.reaches(1, "step 1", file="log.txt"), "training")
        name = runs.host(1)
        count.injected += 1
        act(cluster, name)
        with count.recovery():
            assert runs.finish() == {"1": ["done", "counted"]}, "\n".join(runs.said())
            ((state, cls), *_) = runs.states()[1]
            count.note(cls)
            assert state == "void" and cls in OUTSIDE and runs.host(1, 2) != name
            count.fired += 1
            cluster.continue_node(name)
            all_is_well(cluster, runs, expected(calm[0], text, 1))


# Where the attempts stay, in which way, and what the head has of them by then.
STAYS = {
    "training": ("train2", "chatter", {"text": "step 1", "file": "log.txt"}),  # a hang would be ended as silent first
    "evaluation": ("sliding", "hang", {"text": "files", "file": "MANIFEST.train.json"}),
}


@pytest.mark.chaos
@pytest.mark.parametrize("stage, seeds", [("training", SEEDS), ("evaluation", (1,))])
def test_the_whole_head_dies_and_starts_again(cluster, calm, data, tally, tmp_path, stage, seeds):
    """Ray knows nothing of before; the ledger and the attempts' folders do. Same submission again: one counted each,
    and what was sealed on the head is not trained again."""
    count = tally(f"3 head killed and started again in {stage}")
    place, way, seen = STAYS[stage]
    text = toy_text({place: f"{way}:{tmp_path}"}, steps=3)
    with Submitted(cluster, submission(data, text, seeds=seeds)) as runs:
        runs.start()
        until(lambda: all(runs.reaches(seed, **seen) for seed in seeds), stage)
        count.injected += 1
        killed(runs.controllers[-1])
        cluster.kill_head()
        count.fired += HEAD not in cluster.alive()
        with count.recovery():
            cluster.restart_head(nodes=True)
            runs.start()
            assert {verb for verb, _ in runs.finish().values()} == {"done"}, "\n".join(runs.said())
            all_is_well(cluster, runs, expected(calm[0], text, *seeds))
            if stage == "evaluation":
                assert [state for state, _ in runs.states()[1]] == ["counted"], "it was trained again"


@pytest.mark.chaos
def test_a_stopped_controller_wakes_after_its_replacement(cluster, calm, data, tally, tmp_path):
    """Stopped, so long that its lease is taken, and continued: it cannot write, and ends nothing that runs."""
    count = tally("17 stopped controller continued after its replacement (cluster)")
    text = toy_text({"train2": f"wait {tmp_path}/go"}, steps=3)
    with Submitted(cluster, submission(data, text)) as runs:
        stale = runs.start()
        until(lambda: all(runs.reaches(seed, "step 1", file="log.txt") for seed in SEEDS), "training")
        count.injected += 1
        os.kill(stale.pid, signal.SIGSTOP)
        second = runs.start()
        time.sleep(3)
        assert second.poll() is None, "it must wait: the first one lives, for all that it can see"
        stale.kill()
        stale.wait()
        (tmp_path / "go").touch()
        count.fired += 1
        with count.recovery():
            assert {verb for verb, _ in runs.finish().values()} == {"done"}, "\n".join(runs.said())
            all_is_well(cluster, runs, expected(calm[0], text))
            assert len(runs.events("attempt_started")) == 3


def test_three_nodes_are_there_again(cluster):
    """The cluster was mended after all of the above."""
    assert cluster.alive() == {HEAD, *NODES}
