"""The command cancel: ask whoever drives a submission, or the variants of a grid, to end their runs."""

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from orchestrator import errors
from orchestrator.attempts import numbers_by_run
from orchestrator.case import lease_of_run, lease_of_submission
from orchestrator.errors import UsageError
from orchestrator.ledger.store import Ledger
from orchestrator.money.cost import usd
from orchestrator.money.spending import give_back
from orchestrator.overview import Overview
from orchestrator.registered import meant, runs_of, spec_of
from orchestrator.settled import Settled
from orchestrator.spec import SUBMISSION_DIGITS

PATIENCE = 30.0  # seconds in which nothing more has ended


def cancel(runs_dir: Path, name: str | None, seeds: tuple[int, ...] | None) -> int:
    """Ask, and wait until all have ended. `name`: of a grid, or the beginning of a submission's id."""
    with Ledger.open(runs_dir) as ledger:
        settled = Settled(runs_dir)
        asked = [_Asked(ledger, sid, seeds, settled) for sid in meant(ledger, name)]
        driven = [one for one in asked if one.driven]
        what = asked[0].short if len(asked) == 1 else f"{len(driven)} of {len(asked)} variants of {name}"
        for one in asked:  # also where nobody drives: a supervisor may be about to start its controller again
            if not one.driven:
                one.ask()
        freed = sum(one.give_back() for one in asked if not one.driven)
        also = f"; {usd(freed)} that were reserved are given back" if freed > 0 else ""
        if not driven:
            print(f"nothing of {name if len(asked) > 1 else what} is running{also}", file=sys.stderr)
            return errors.OK
        for one in reversed(driven):  # what waits its turn first: nothing takes the place of what ends
            one.ask()
        _await(driven)
        print(f"cancelled {what}; the same submit goes on with it{also}", file=sys.stderr)
        for one in driven:
            for seed in one.others:
                print(f"seed {seed}: left to the submission that runs it", file=sys.stderr)
    return errors.OK


def _await(driven: Sequence["_Asked"]) -> None:
    until, left = time.monotonic() + PATIENCE, list(driven)
    while left:
        there = numbers_by_run(left[0].ledger.path.parent)
        still = [one for one in left if not one.over(there)]
        if len(still) < len(left):
            until = time.monotonic() + PATIENCE
        elif time.monotonic() > until:
            short = left[0].short
            raise errors.BackendFailure(f"{short} has not ended within {PATIENCE:g} s; look at `status {short} -v`")
        left = still
        time.sleep(0.1)


class _Asked:
    """A submission, and the runs of it that are to end."""

    def __init__(self, ledger: Ledger, sid: str, seeds: Sequence[int] | None, settled: Settled) -> None:
        self.ledger, self.sid, self.short = ledger, sid, sid[:SUBMISSION_DIGITS]
        self.runs = dict(runs_of(spec_of(ledger.path.parent, sid)))
        self.wanted = tuple(self.runs) if seeds is None else tuple(seeds)
        if foreign := [seed for seed in self.wanted if seed not in self.runs]:
            there = ", ".join(map(str, self.runs))
            raise UsageError(f"seed {foreign[0]} is not of this submission; there are {there}")
        wanted = [(seed, self.runs[seed]) for seed in self.wanted]
        self.overview = Overview(ledger.path.parent, wanted, settled=settled)
        self.driven = ledger.holder(lease_of_submission(sid)) is not None
        self.others: list[int] = []  # seeds that another submission runs

    def ask(self) -> None:
        self.ledger.append("cancel_requested", submission_id=self.sid, data={"seeds": list(self.wanted)})

    def give_back(self) -> float:
        return give_back(self.ledger, self.sid, list(self.runs.values()))

    def over(self, there: Mapping[str, Sequence[int]]) -> bool:
        """`there`: what `numbers_by_run` tells."""
        rows = self.overview.rows(controlled=False, there=there)
        driver = self.ledger.holder(lease_of_submission(self.sid))
        running = {row.seed: self.ledger.holder(lease_of_run(row.run_id)) for row in rows if row.state == "running"}
        ours = [seed for seed, holder in running.items() if holder is None or holder == driver]
        self.others = [seed for seed in running if seed not in ours]
        return driver is None or (len(self.wanted) < len(self.runs) and not ours)
