"""Faults 1, 3 and 4 from the laptop's side: submits by address, through a line that breaks, to a head that dies."""

import os
import random
import signal

import pytest

from tests.chaos.cluster_faults import golf_actors
from tests.chaos.invariants import check, expected, ledger_rows, scores_of
from tests.chaos.proxy import ACTIONS, Proxy
from tests.cluster import HEAD
from tests.orchestrator.remote import Laptop
from tests.orchestrator.toy import Bench, stop, toy_text
from tests.processes import command_line, until

pytestmark = pytest.mark.xdist_group("cluster")
TEXT = toy_text(steps=4, pause=0.3)


class Storm:
    """A rule of the proxy that takes every request with some probability, each time for another fault."""

    def __init__(self, seed, share, actions):
        self.draw, self.share, self.actions = random.Random(seed), share, actions
        self.action, self.at = actions[0], 20

    def takes(self, method, path):
        self.action, self.at = self.draw.choice(self.actions), self.draw.randrange(200)
        return self.draw.random() < self.share


@pytest.fixture(scope="module")
def calm(tmp_path_factory, corpus):
    """Scores of the seeds, as this machine alone makes them."""
    bench = Bench(tmp_path_factory.mktemp("calm"), corpus, toy_text(steps=4))
    done = bench.run("--seeds", "1,2")
    assert done.returncode == 0, done.stderr
    return scores_of(bench.runs_dir)


@pytest.fixture
def make_laptop(make_bench, cluster):
    def make(text=TEXT, name="laptop", **kwargs):
        return make_bench(text, name, Laptop, cluster=cluster, flags=("--parallel", "-y", "--no-rehearsal"), **kwargs)

    return make


def well_on_both_sides(cluster, laptop, calm):
    """Head and laptop hold the same counted attempts. Jobs of ours controlled them one after another,
    and each seed was begun once: no second job of a key did anything."""
    scores = expected(calm, laptop.text)
    check(laptop.runs_dir, scores, mark=laptop.mark)
    check(laptop.state, scores)
    (sid,) = {path.parent.name for path in laptop.runs_dir.glob("*/spec.json")}
    jobs = [name for name in laptop.controllers() if name.startswith(f"golf-{sid}-")]
    assert sorted(jobs) == [f"golf-{sid}-{1 + number}" for number in range(len(jobs))]
    begun = [row[4] for row in ledger_rows(laptop.state) if row[1] == "attempt_created"]
    assert len(begun) == len(set(begun))
    until(lambda: not golf_actors(cluster), lambda: f"I5: {golf_actors(cluster)}", 10)


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(3))
def test_a_submit_through_a_line_that_breaks(cluster, make_laptop, calm, tally, seed):
    """A fifth of all requests is lost, answered to nobody or cut: it comes home in one go, or in the next."""
    count = tally("4 every fifth request of a submit lost or cut")
    storm = Storm(seed, 0.2, [one for one in ACTIONS if one != "hang"])
    with Proxy(cluster.job_port, storm) as proxy, count.recovery():
        laptop = make_laptop(address=proxy.address)
        for _ in range(4):
            done = laptop.run()
            assert "Traceback" not in done.stderr, done.stderr
            if done.returncode == 0:
                break
            count.note(f"ended with {done.returncode}, submitted again")
        assert done.returncode == 0, done.stderr
        well_on_both_sides(cluster, laptop, calm)
        fired = sum(proxy.done[one] for one in ACTIONS)
    count.injected += fired
    count.fired += fired
    count.survived += fired - 1


@pytest.mark.chaos
def test_a_followed_log_that_is_cut_again_and_again(cluster, make_laptop, calm, tally):
    """All connections that are open end at once, four times: it is followed again, and comes home."""
    count = tally("4 followed log cut in flight")
    with Proxy(cluster.job_port) as proxy:
        laptop = make_laptop(address=proxy.address, text=toy_text(steps=4, pause=1.0))
        submit = laptop.start()
        try:
            for _ in range(4):
                seen = len(proxy.requests)

                def followed(seen=seen):
                    return any("tail" in one for one in proxy.requests[seen:]) or submit.poll() is not None

                until(followed, "it is followed")
                if submit.poll() is not None:
                    break
                count.injected += 1
                proxy.cut_all()
                count.fired += 1
            with count.recovery():
                _, err = submit.communicate(timeout=240)
                assert submit.returncode == 0, err
                well_on_both_sides(cluster, laptop, calm)
            count.survived = count.fired
        finally:
            stop(submit)


def controllers_on(cluster):
    return [pid for pid in cluster.processes(HEAD) if "orchestrator.cluster.control drive" in command_line(pid)]


@pytest.mark.chaos
@pytest.mark.parametrize("kills", [1, 4])
def test_a_controller_that_dies_under_its_supervisor(cluster, make_laptop, calm, tally, kills):
    """SIGKILL on the head while the laptop follows: it is started again, adopts what runs, and all comes home."""
    count = tally("1 head's controller killed under its supervisor")
    laptop = make_laptop(toy_text(steps=4, pause=1.0))
    submit = laptop.start()
    try:
        killed = set()
        for number in range(kills):
            pid = until(lambda: [one for one in controllers_on(cluster) if one not in killed], "a controller", 240)[0]
            if number == 0:
                until(lambda: golf_actors(cluster), "attempts on the nodes", 240)
            killed.add(pid)
            count.injected += 1
            os.kill(pid, signal.SIGKILL)
            count.fired += 1
        with count.recovery():
            _, err = submit.communicate(timeout=240)
            assert submit.returncode == 0, err
            well_on_both_sides(cluster, laptop, calm)
        count.survived = count.fired
    finally:
        stop(submit)


KILLED = {
    "submit": "4 laptop's submit killed while it follows",
    "head": "3 head killed and started again under a submit",
}


@pytest.mark.chaos
@pytest.mark.parametrize("victim", KILLED)
def test_a_submit_that_dies_while_it_follows(cluster, make_laptop, calm, tally, victim):
    """SIGKILL of it alone, or after the whole head, which comes back at the same address: the same submit attaches, or
    finishes what is left, and brings everything home."""
    count = tally(KILLED[victim])
    laptop = make_laptop(toy_text(steps=4, pause=1.0))
    submit = laptop.start()
    try:
        until(lambda: len(golf_actors(cluster)) == 2, "both attempts on the nodes", 240)
        count.injected += 1
        if victim == "head":
            cluster.kill_head()
    finally:
        stop(submit)
    count.fired += HEAD not in cluster.alive() if victim == "head" else submit.returncode == -signal.SIGKILL
    with count.recovery():
        if victim == "head":
            cluster.restart_head(nodes=True)
        done = laptop.run()
        assert done.returncode == 0, done.stderr
        well_on_both_sides(cluster, laptop, calm)
