"""What stands between a run and its start, where GPUs are paid for: the canary, and the money that is reserved.

A controller asks before it starts anything, and tells of each of its rounds: what ended is paid for then, in the
ledger. A controller that was started again reads there how things stand.
"""

import contextlib
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from golf_core.policy import Policy
from golf_core.rundir import RESULT, RunDirError, read_json
from orchestrator.attempts import NODE, Attempt, counted, inspect_all
from orchestrator.case import Barred, Case
from orchestrator.ledger.store import Event, Fenced, Lease, Ledger
from orchestrator.money.budget import (
    BARRED,
    CENT,
    KINDS,
    RELEASED,
    SPENT,
    Account,
    Execution,
    Reservation,
    Terms,
    account,
)
from orchestrator.money.canary import CANCELLED, COUNTED, ENDED, OPEN, Seen, measured, release
from orchestrator.money.cost import usd

FINAL = ("counted", "damaged", "void", "failed")  # of an attempt that costs nothing more
OURS_TO_STOP = ("cancelled", "left to the submission that runs it")  # how a seed ends that nobody wants now


class Purse:
    """The reservation of one submission, in the hands of the controller that drives it."""

    def __init__(self, ledger: Ledger, lease: Lease, submission_id: str, terms: Terms) -> None:
        self.ledger, self.lease, self.submission_id, self.terms = ledger, lease, submission_id, terms
        self.events: list[Event] = []
        self.seen = 0
        self.known = Account()
        self.told: set[str] = set()  # executions of which nothing more can be learned
        self.refused: set[str] = set()  # runs that got no other attempt

    def account(self) -> Account:
        new = self.ledger.events(submission_id=self.submission_id, after=self.seen)
        if new:
            self.seen = new[-1].seq
            self.events += [event for event in new if event.kind in KINDS]
            self.known = account(self.events)
        return self.known

    def refuses(self, run_id: str) -> str:
        """Why the money does not bear another attempt of a run; empty where it does."""
        mine = self.account().reservations[self.terms.reservation]
        used = sum(one.claim for one in mine.executions.values() if one.run_id == run_id)
        share, more = self.terms.seed_usd, self.terms.attempt_usd
        if mine.released:  # by a controller that failed, or a cancel while it was away: others may have the money now
            return self._bar(run_id, "what was reserved for it was given back; the same submit reserves anew")
        if used + more <= share + CENT and mine.committed + more <= self.terms.worst_usd + CENT:
            return ""
        limit, number = self.terms.attempts, sum(one.run_id == run_id for one in mine.executions.values())
        if number == limit == 1:  # what it cost does not matter
            return self._bar(run_id, "attempts are used up (1 of 1); the same submit reserves for another")
        return self._bar(
            run_id,
            ("" if number != limit else f"attempts are used up ({number} of {limit}): ")
            + f"the money reserved bears no other attempt of it: {usd(used)} of {usd(share)} are used, and one may "
            f"take {usd(more)}; the same submit reserves anew",
        )

    def _bar(self, run_id: str, why: str) -> str:
        if run_id not in self.refused:
            self.refused.add(run_id)
            sid = self.submission_id
            self.ledger.append(BARRED, lease=self.lease, submission_id=sid, run_id=run_id, data={"message": why})
        return why

    def settle(self, ended: Iterable[Attempt]) -> None:
        """Write down what attempts that ended have cost."""
        attempts = {attempt.attempt_id: attempt for attempt in ended}
        reservations = self.account().of(self.submission_id)
        latest = {one.attempt_id: one for under in reservations for one in under.executions.values()}
        for under in reservations:
            for one in under.executions.values():
                attempt = attempts.get(one.attempt_id)
                if attempt is None or one.exact or one.name in self.told:
                    continue
                if attempt.state == "lost" and not is_over(attempt) and (one.refused or not one.gone_at):
                    continue  # nobody saw it end, or only the answer to its order was lost: it may be at work
                self.told.add(one.name)
                told = latest[one.attempt_id] is one  # result.json is of the last one
                self._settle(under, one, worker_seconds(attempt.folder) if told else None)

    def _settle(self, under: Reservation, one: Execution, seconds: float | None) -> None:
        if seconds is None and one.refused:
            seconds = 0.0
        if seconds is None and one.spent_usd is not None:
            return  # told already, and nothing more is known
        hourly = under.terms.usd_per_hour
        data = {
            "reservation": under.terms.reservation,
            "execution": one.name,
            "usd": one.at_most(hourly) if seconds is None else seconds * hourly / 3600,
            "seconds": seconds,
            "exact": seconds is not None,
        }
        self.ledger.append(
            SPENT,
            lease=self.lease,
            submission_id=self.submission_id,
            run_id=one.run_id,
            attempt_id=one.attempt_id,
            data=data,
        )

    def release(self) -> None:
        """Give back what was not needed."""
        if self.account().reservations[self.terms.reservation].released:
            return
        data = {"reservation": self.terms.reservation}
        self.ledger.append(RELEASED, lease=self.lease, submission_id=self.submission_id, data=data)


def worker_seconds(folder: Path) -> float | None:
    """That an attempt is paid for: its container's life, where it had one of its own, else what its worker took, as it
    told at its end; None where nobody could tell."""
    for file, name in ((NODE, "seconds"), (RESULT, "worker_seconds")):
        with contextlib.suppress(RunDirError):
            seconds = read_json(folder / file).get(name)
            if isinstance(seconds, int | float) and 0 <= seconds < math.inf:
                return float(seconds)
    return None


class Admission:
    """What a controller asks. Without a purse nothing is paid for; without a policy no canary goes first."""

    def __init__(
        self,
        runs_dir: Path,
        run_ids: Sequence[str],
        purse: Purse | None,
        canary: Policy | None,
        goes_on: bool = False,
    ) -> None:
        """`goes_on`: what ends begins what follows by itself, whether anybody drives it or not."""
        self.runs_dir, self.run_ids, self.purse, self.canary = runs_dir, run_ids, purse, canary
        self.goes_on = goes_on
        self._over: dict[Path, str] = {}  # what a counted attempt says does not change

    def __call__(self, case: Case, cases: Sequence[Case]) -> str | None:
        if self.canary is not None:
            verdict = release(case.run.seed, [self._seen(other, self.canary) for other in cases])
            if verdict.verb != "go":
                return Barred(verdict.why) if verdict.verb == "barred" else verdict.why
        if self.purse is not None:
            gone = case.fresh | case.sought
            there = _not_live(case, (*FINAL, "lost"))
            self.purse.settle([one for one in there if is_over(one) or one.number in gone])
            if counted(case.attempts) is not None:
                return None  # it wants no other
            if not all(is_over(one) or one.number in gone for one in there):
                return None  # what another controller sent out is looked for first: it may go on
            if why := self.purse.refuses(case.run.run_id):
                return Barred(why)
        return None

    def settle(self, cases: Sequence[Case]) -> None:
        if self.purse is not None:
            self.purse.settle([attempt for case in cases for attempt in _not_live(case, FINAL)])

    def close(self, cases: Sequence[Case]) -> None:
        """Settle what has ended; give back what was not needed, unless something still runs where nobody looks now, or
        will."""
        if self.purse is None:
            return
        there = [one for run_id in self.run_ids for one in inspect_all(self.runs_dir, run_id)]
        with contextlib.suppress(Fenced):  # whoever took over settles
            self.purse.settle([one for one in there if is_over(one)])
            more = self.goes_on and bool(there) and any(case.end is None for case in cases)
            if all(map(is_over, there)) and not more:
                self.purse.release()

    def _seen(self, case: Case, policy: Policy) -> Seen:
        done = counted(case.attempts)
        if done is not None:
            if done.folder not in self._over:
                self._over[done.folder] = measured(done.folder).over(policy)
            return Seen(case.run.seed, COUNTED, over=self._over[done.folder])
        if case.end is None:
            return Seen(case.run.seed, OPEN)
        state = CANCELLED if case.end.reason in OURS_TO_STOP else ENDED
        return Seen(case.run.seed, state, why=case.end.reason)


def is_over(attempt: Attempt) -> bool:
    """Whether it costs nothing more. One that was sent to a node may go on there, whatever is seen from here."""
    return attempt.state in FINAL or (attempt.state == "lost" and not (attempt.folder / NODE).exists())


def _not_live(case: Case, states: Sequence[str]) -> list[Attempt]:
    live = case.live_folder.name if case.live is not None and case.live_folder is not None else ""
    return [one for one in case.attempts if one.state in states and one.attempt_id != live]
