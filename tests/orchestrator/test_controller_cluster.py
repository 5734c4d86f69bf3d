"""The controller where attempts outlive it, over a fake cluster: adopt before retry, waiting nodes, refused nodes."""

import pytest

from golf_core.rundir import VOID, read_json, write_json
from orchestrator.attempts import NODE
from orchestrator.backends.base import BackendError, Refused, State, Unavailable
from orchestrator.backends.fake import Act, FakeBackend
from orchestrator.case import lease_of_submission
from orchestrator.controller import Controller
from orchestrator.errors import BackendFailure
from orchestrator.overview import story
from orchestrator.policy import MAX_REFUSALS
from tests.orchestrator.test_controller import Clock, finish, states
from tests.orchestrator.toy import limits, submission


class FakeCluster(FakeBackend):
    """What was started is known to every one on the same runs folder, and does not end with it. `holds` are answers to
    whether an attempt can begin: a reason, an exception, or None; `lost` the classes of lost attempts, in order."""

    outlives = True
    name = "cluster"

    def __init__(self, runs_dir, script=(), holds=(), lost=(), seeks=()):
        super().__init__(runs_dir, script)
        self.holds, self.lost, self.seeks = list(holds), list(lost), list(seeks)
        self.sought = []

    def hold(self, job):
        answer = self.holds.pop(0) if self.holds else None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def start(self, job):
        write_json(job.folder / NODE, {"host": "n1"})
        return super().start(job) | {"host": "n1"}

    def find(self, attempt_id):
        self.sought.append(attempt_id)
        if self.seeks:
            raise self.seeks.pop(0)
        return super().find(attempt_id)

    def poll(self, handle):
        state = super().poll(handle)
        return State("lost", "n1 is gone", self.lost.pop(0)) if state.phase == "lost" and self.lost else state

    def close(self):
        self.closed = True


def controller(runs_dir, ledger, backend, seeds=(1,), **kwargs):
    asked = submission(seeds=seeds)
    lease = ledger.acquire(lease_of_submission(asked.submission_id))
    return Controller(
        asked, runs_dir, ledger, lease, lambda: backend, limits(), 3, backend_name="ray", clock=Clock(), **kwargs
    )


def killed(made, ledger):
    """Its leases are free again, as those of a dead process are."""
    for lease in (made.lease, *(case.lease for case in made.cases if case.lease)):
        ledger.release(lease)


def test_a_running_attempt_is_adopted_and_nothing_is_started(runs_dir, ledger):
    """The next controller finds the attempt of a dead one before it would call it lost, and follows it to its end."""
    cloud = FakeCluster(runs_dir, [Act(polls=3), Act(polls=0)])
    first = controller(runs_dir, ledger, cloud, seeds=(1, 2))
    first.round()
    killed(first, ledger)
    second = controller(runs_dir, ledger, cloud, seeds=(1, 2))
    assert finish(second) == {1: "done", 2: "done"} and len(cloud.started) == 2
    assert states(runs_dir, second) == {1: [("counted", "completed")], 2: [("counted", "completed")]}
    told = " | ".join(story(ledger, second.submission.submission_id, {run.run_id: 1 for run in second.submission.runs}))
    assert "attempt 1 started training on n1" in told and "attempt 1 is taken over" in told


def test_what_is_nowhere_is_lost_and_looked_for_once(runs_dir, ledger):
    """An attempt that its node knows nothing of is void; the next one is started. It is no fault of this submit."""
    cloud = FakeCluster(runs_dir, [Act(polls=9), Act()])
    first = controller(runs_dir, ledger, cloud)
    first.round()
    killed(first, ledger)
    cloud._running.clear()
    second = controller(runs_dir, ledger, cloud)
    assert finish(second) == {1: "done"} and second.cases[0].faults["train"] == 0
    assert states(runs_dir, second)[1] == [("void", "worker_lost"), ("counted", "completed")]
    assert cloud.sought == cloud.started[:1]


def test_nothing_is_decided_while_the_node_does_not_answer(runs_dir, ledger):
    """An attempt that may run on a silent node is neither void nor repeated; the reason is shown."""
    cloud = FakeCluster(runs_dir, [Act(polls=9)])
    first = controller(runs_dir, ledger, cloud)
    first.round()
    killed(first, ledger)
    cloud.seeks = [BackendError("n1 lives but does not answer")] * 3
    second = controller(runs_dir, ledger, cloud)
    second.round()
    assert second.cases[0].note == "n1 lives but does not answer" and second.cases[0].live is None
    assert finish(second) == {1: "done"} and len(cloud.started) == 1 and len(cloud.sought) == 4


def test_an_attempt_waits_for_a_node_without_a_folder(runs_dir, ledger):
    """Where every node is busy nothing is created yet, and why is shown."""
    cloud = FakeCluster(runs_dir, holds=["every node with 8x H100 is busy (n1)"] * 2)
    made = controller(runs_dir, ledger, cloud)
    made.round()
    assert "busy" in made.cases[0].note and not (runs_dir / "attempts").exists()
    assert finish(made) == {1: "done"}


@pytest.mark.parametrize("error", [Unavailable("no node has 9x H100"), Refused("every node was refused")])
def test_what_cannot_ever_run_is_said_at_once(runs_dir, ledger, error):
    """Before anything was begun the submit ends with what the cluster has; no attempt is left behind."""
    made = controller(runs_dir, ledger, FakeCluster(runs_dir, holds=[error]))
    with pytest.raises(BackendFailure, match=str(error)):
        made.round()
    assert not (runs_dir / "attempts").exists()


def test_a_node_that_went_is_waited_for_and_then_given_up(runs_dir, ledger):
    """Once something ran, a cluster without its nodes is waited for: they come back, or the run stops and says so."""
    gone = Unavailable("no node has 8x H100; the cluster has no node")
    back = FakeCluster(runs_dir, [Act("lost"), Act()], holds=[None, *[gone] * 5], lost=["node_lost"])
    made = controller(runs_dir, ledger, back)
    assert finish(made) == {1: "done"}
    assert states(runs_dir, made)[1] == [("void", "node_lost"), ("counted", "completed")]
    killed(made, ledger)
    never = FakeCluster(runs_dir, [Act("lost")], holds=[None, *[gone] * 5000], lost=["preempted"])
    made = controller(runs_dir, ledger, never, seeds=(2,))
    assert finish(made, 3000) == {2: "stop"} and made.cases[0].end.reason == str(gone)


@pytest.mark.parametrize("cls", ["node_lost", "preempted"])
def test_the_class_of_a_lost_attempt_is_the_cluster_s(runs_dir, ledger, cls):
    """The void mark says what the backend knew, not only that the worker is gone."""
    made = controller(runs_dir, ledger, FakeCluster(runs_dir, [Act("lost"), Act()], lost=[cls]))
    assert finish(made) == {1: "done"}
    (mark,) = (runs_dir / "attempts").glob(f"*/{VOID}")
    assert read_json(mark)["class"] == cls and read_json(mark)["message"] == "n1 is gone"


def test_nodes_found_wanting_cost_no_retries_until_there_are_too_many(runs_dir, ledger):
    """A wrong node is the next one's chance, up to a limit; where the last one was refused the run stops."""
    cloud = FakeCluster(runs_dir, [Act("wrong_hardware")] * 4)
    made = controller(runs_dir, ledger, cloud)
    assert finish(made) == {1: "done"} and made.cases[0].faults == {"train": 0, "evaluate": 0, "node": 4}
    killed(made, ledger)
    made = controller(runs_dir, ledger, FakeCluster(runs_dir, [Act("slow_node")] * 99), seeds=(2,))
    assert finish(made, 500) == {2: "stop"} and made.cases[0].faults["node"] == MAX_REFUSALS + 1
    killed(made, ledger)
    refused = Refused("every node with 8x H100 was refused (n1: PCIe)")
    made = controller(runs_dir, ledger, FakeCluster(runs_dir, [Act("slow_node")], holds=[None, refused]), seeds=(3,))
    assert finish(made) == {3: "stop"} and "n1: PCIe" in made.cases[0].end.reason


def test_an_interrupted_controller_leaves_the_cluster_alone(runs_dir, ledger):
    """Nothing is void because a controller ends: its attempts go on and are adopted by the next one."""
    cloud = FakeCluster(runs_dir, [Act(polls=4)])
    made = controller(runs_dir, ledger, cloud)

    def interrupted(cases):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made.drive(interrupted)
    assert cloud.closed and not list(runs_dir.rglob(VOID)) and len(ledger.events(kind="submission_detached")) == 1
    ledger.release(made.lease)
    again = controller(runs_dir, ledger, cloud)
    assert finish(again) == {1: "done"} and len(cloud.started) == 1
