"""What the tests of faults on a cluster share: the undisturbed scores, and the look at head and nodes afterwards."""

from orchestrator.drive import register
from orchestrator.ledger.store import Ledger
from tests.chaos.invariants import check
from tests.orchestrator.cluster_runs import Runs, trainings
from tests.processes import command_line, until


class Submitted(Runs):
    """Registered in its runs folder, as a submit does before a controller begins."""

    def __enter__(self):
        super().__enter__()
        with Ledger.create(self.runs_dir) as ledger:
            register(self.asked, self.runs_dir, ledger)
        return self


def golf_actors(cluster):
    return [one for one in cluster.actors() if str(one.get("name")).startswith("golf:")]


def at_work(cluster, name, word):
    """Process ids on a node whose command line holds `word`."""
    return [pid for pid in cluster.processes(name) if word in command_line(pid)]


def all_is_well(cluster, runs, scores, trained_once=True):
    """I1 to I5 on the head; no actor and no process of ours on any node, ten seconds after the end."""
    check(runs.runs_dir, scores)
    if trained_once:
        assert all(trainings(runs.attempt(seed, len(found))) == 1 for seed, found in runs.states().items())
    until(lambda: not golf_actors(cluster), lambda: f"I5: actors {golf_actors(cluster)}", 10)
    until(lambda: not cluster.work(), lambda: f"I5: {[command_line(pid) for pid in cluster.work()]}", 10)
