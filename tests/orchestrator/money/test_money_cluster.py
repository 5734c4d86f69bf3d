"""Money on a real cluster of declared GPUs: rehearsal, canary, reservation, and both ledgers in agreement."""

import sys
from dataclasses import dataclass

import pytest

from orchestrator.ledger.store import Ledger
from orchestrator.money.budget import read_account
from orchestrator.money.spending import spent_on
from tests.orchestrator.remote import Laptop
from tests.orchestrator.toy import TOY_BUILD, toy_text

pytestmark = pytest.mark.xdist_group("cluster")

MINE = """
from golf_core.config import Config
from golf_core.recipes import Recipe

def paid():
    return Recipe(config=Config(name="paid"), summary="a toy", source="here", command="none", expects="nothing")
"""
PAID = ("--price", "36", "--dead-man-seconds", "100", "-y")  # a cent a second: an attempt costs a dollar at most


@dataclass
class Payer(Laptop):
    """Its recipe builds a toy, so that there is something to shorten for a rehearsal."""

    def program(self):
        (self.folder / "mine.py").write_text(MINE)
        return ["--recipe", "./mine.py:paid"]

    def command(self, verb, *arguments):
        python, _, *rest = super().command(verb, *arguments)
        assert python == sys.executable
        return [python, TOY_BUILD, *rest]


def began(ledger):
    """(submission id, kind) of what began and what was counted, in order."""
    kinds = ("attempt_started", "attempt_counted", "rehearsed")
    return [(event.submission_id, event.kind, event.run_id) for event in ledger.events() if event.kind in kinds]


@pytest.mark.whole
def test_money_on_a_cluster(make_bench, cluster):
    """On one GPU a rehearsal, then on eight the canary, then the rest; both ledgers agree on what was spent, nothing
    stays reserved, and the same code is not rehearsed again. A budget that cannot bear it refuses before the cluster
    hears of it."""
    laptop = make_bench(toy_text(pause=0.02), "laptop", Payer, cluster=cluster)
    before = laptop.controllers()
    refused = laptop.run(*PAID, "--budget", "6")
    assert refused.returncode == 6, refused.stderr
    assert "budget refused: 6.38 USD at worst" in refused.stderr and laptop.controllers() == before
    done = laptop.run(*PAID, "--budget", "6.5")
    assert done.returncode == 0, done.stderr
    assert "first 4 steps end to end on one GPU, since this code never ran on one" in done.stderr
    with Ledger.open(laptop.runs_dir) as ledger:
        *_, sid = ledger.submissions()
        events, found, here = began(ledger), spent_on(ledger, sid), read_account(ledger)
    assert [kind for _, kind, _ in events][:3] == ["attempt_started", "attempt_counted", "rehearsed"]
    assert events[0][0] != sid and {one for one, _, _ in events[3:]} == {sid}
    assert [kind for _, kind, _ in events[3:]] == ["attempt_started", "attempt_counted"] * 2
    assert 0 < found.usd < 0.8 and found.exact and found.reserved_usd == pytest.approx(0)
    with Ledger.open(laptop.state) as ledger:
        there = read_account(ledger)
    assert (there.spent, there.reserved) == pytest.approx((here.spent, here.reserved))
    again = laptop.run(*PAID, "--seeds", "1,2,3", "--dry-run")
    assert "rehearsal    none: this code has run on such a GPU" in again.stdout, again.stdout + again.stderr
    assert "1 seed x 3 attempts x 100 s" in again.stdout
