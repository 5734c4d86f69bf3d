"""A submit to a cluster: a controller on its head does the work, this process watches and brings the results home.

It may leave at any time and so may its machine: the same submit, or `status -f`, goes on. The controller's job is found
by its name before one is started; what it tells is written into the ledger here, each event once.
"""

import time
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.case import lease_of_submission
from orchestrator.cluster.order import Order, Part
from orchestrator.cluster.remote import Head
from orchestrator.cluster.site import Cluster
from orchestrator.cluster.transfer import fetch, sealed_here
from orchestrator.cluster.wire import Frame
from orchestrator.drive import failed_unasked, register
from orchestrator.errors import BackendFailure
from orchestrator.finish import finish, runs_flag
from orchestrator.ledger.store import Lease, Ledger
from orchestrator.ledger.travel import event_from_dict
from orchestrator.limits import limits_of
from orchestrator.money.admission import Purse
from orchestrator.money.budget import Terms, reserve
from orchestrator.money.spending import Spending
from orchestrator.other_seeds import Asked
from orchestrator.outcome import Outcome
from orchestrator.overview import Row
from orchestrator.place import REMOTE
from orchestrator.plan import Plan
from orchestrator.registered import write_grid
from orchestrator.settings import Settings
from orchestrator.spec import SUBMISSION_DIGITS, Submission
from orchestrator.view import View, describe

AGAIN = 3  # controllers that this process starts where one is lost with its head
PATIENCE = 300.0  # seconds for another submit of the same, from this machine, to have started its controller


@dataclass(frozen=True)
class Sending:
    """What a submit asks of a cluster, beyond its plans."""

    cluster: Cluster
    plans: Sequence[Plan]
    settings: Settings
    grid: str | None = None
    retry_failed: bool = False
    parallel: bool = False

    def submissions(self) -> list[Submission]:
        """All that are registered for it, those that rehearse first."""
        return [one.submission for one in self.rehearsals()] + [plan.submission for plan in self.plans]

    def rehearsals(self) -> list[Part]:
        found = []
        for plan in self.plans:
            if plan.rehearsal is not None and plan.rehearsal.submission is not None:
                submission = plan.rehearsal.submission
                found.append(Part(submission=submission, limits=limits_of(submission, self.settings)))
        return found

    def spendings(self) -> dict[str, Spending]:
        """Of each submission."""
        budget, found = self.settings["budget"], {}
        for plan in self.plans:
            first = plan.rehearsal
            if first is not None and first.submission is not None and first.cost is not None:
                found[first.submission.submission_id] = Spending(first.cost, budget, parallel=True)
            found[plan.submission.submission_id] = Spending(plan.cost, budget, self.parallel)
        return found

    def order(self, terms: Mapping[str, Terms | None]) -> Order:
        spendings = self.spendings()
        parts = [
            Part(submission=plan.submission, limits=limits_of(plan.submission, self.settings)) for plan in self.plans
        ]

        def paid(part: Part) -> Part:
            sid = part.submission.submission_id
            return replace(part, terms=terms.get(sid), canary=spendings[sid].canary)

        return Order(
            parts=tuple(map(paid, parts)),
            rehearsals=tuple(map(paid, self.rehearsals())),
            options=self.cluster.options,
            grid=self.grid,
            retry_failed=self.retry_failed,
        )


def send_order(sending: Sending, ledger: Ledger, view: View) -> str:
    """Register, reserve, and have one controller; the name of its job."""
    head, submissions = sending.cluster.head, sending.submissions()
    asked = Asked(ledger.path.parent)
    for submission in submissions:
        register(submission, ledger.path.parent, ledger, asked)
    leases = _leases(submissions, ledger)
    try:
        job, began = head.live(sending.order({}).key), False
        terms = {} if job else _reserved(sending, ledger, leases)
        # Before the first controller may be there: from now on whoever asks here about them is to ask there.
        url = sending.cluster.server.url
        data = {"address": url, "state_dir": sending.cluster.options.state_dir}
        for sid, lease in leases.items():
            ledger.append(REMOTE, lease=lease, submission_id=sid, data=data)
        if not job:
            job, began = head.start(sending.order(terms))
        if not began:  # another machine's controller works with what was reserved there
            for sid, found in terms.items():
                if found is not None:
                    Purse(ledger, leases[sid], sid, found).release()
    finally:
        for lease in leases.values():
            ledger.release(lease)
    view.note(f"the controller is job {job} on {url}" + ("" if began else ", begun by another submit"))
    if sending.retry_failed and not began:
        view.note(
            "unless that one was told --retry-failed, what failed is tried again when it has ended: stay until then"
        )
    return job


def _reserved(sending: Sending, ledger: Ledger, leases: Mapping[str, Lease]) -> dict[str, Terms | None]:
    spendings = sending.spendings()
    return {
        sid: reserve(ledger, lease, sid, spendings[sid].cost, spendings[sid].budget) for sid, lease in leases.items()
    }


def _leases(submissions: Sequence[Submission], ledger: Ledger) -> dict[str, Lease]:
    """Of this runs folder: who else submits the same from here waits, and then finds the job."""
    until, leases = time.monotonic() + PATIENCE, dict[str, Lease]()
    for submission in submissions:
        sid = submission.submission_id
        while (lease := ledger.acquire(lease_of_submission(sid))) is None:
            if time.monotonic() > until:
                raise BackendFailure(f"another process holds {sid[:SUBMISSION_DIGITS]} here")
            time.sleep(0.2)
        leases[sid] = lease
    return leases


class Follower:
    """Takes in what a controller tells: events into the ledger, where there is one, rows to the view."""

    def __init__(self, ledger: Ledger | None, view: View, several: bool = False) -> None:
        self.ledger, self.view, self.several = ledger, view, several
        self.origin = ""
        self.rows: dict[str, Sequence[Row]] = {}  # of each submission, the last
        self.shown: dict[tuple[str, int], tuple[str, int]] = {}
        self.ended: Frame | None = None  # the last word of the controller

    def take(self, frame: Frame) -> None:
        try:
            if frame["type"] == "hello":
                self.origin, self.ended = str(frame["origin"]), None
            elif frame["type"] == "event" and self.ledger is not None:
                self.ledger.replicate(str(frame["origin"]), [event_from_dict(frame)])
            elif frame["type"] == "rows":
                self.show(
                    str(frame["submission_id"]), str(frame["name"]), [Row.from_dict(row) for row in frame["rows"]]
                )
            elif frame["type"] in ("end", "error"):
                self.ended = frame
        except (KeyError, TypeError, ValueError) as error:
            raise BackendFailure(f"the head told something that cannot be read: {error!r}") from None

    def show(self, submission_id: str, name: str, rows: Sequence[Row]) -> None:
        """Of one submission all that moves; of many, side by side, a line where a run's state changes."""
        self.rows[submission_id] = rows
        if not self.several:
            self.view.update(rows)
            return
        for row in rows:
            key, now = (submission_id, row.seed), (row.state, row.attempt)
            if row.state != "queued" and self.shown.get(key) != now:
                self.shown[key] = now
                self.view.note(f"{name} {describe(row)}")


def follow(head: Head, job: str, follower: Follower) -> bool:
    """Until the controller has ended. False where its job was lost without a last word."""
    for frame in head.follow(job, follower.view.note):
        follower.take(frame)
    last = follower.ended
    if last is not None and last["type"] == "error":
        raise _failure(last)
    return last is not None


def _failure(frame: Frame) -> BackendFailure:
    error = BackendFailure(f"the controller on the head stopped: {frame.get('message')}")
    error.exit_code = int(frame.get("code", error.exit_code))
    return error


def bring(head: Head, submission_ids: Sequence[str], ledger: Ledger, note: typing.Callable[[str], None]) -> None:
    """Every attempt that is over, from the head into the ledger's runs folder."""
    runs_dir = ledger.path.parent
    for seen in head.look_at(submission_ids, sealed_here(runs_dir)):
        ledger.replicate(seen.origin, seen.events)
        fetch(seen, runs_dir, ledger, head.send, note)


def detached(what: str, runs_dir: Path, url: str) -> str:
    """`what`: the beginning of a submission's id, or the name of a grid."""
    return (
        f"detached: {what} goes on on the cluster. Come back with `python -m orchestrator status {what} "
        f"-f{runs_flag(runs_dir)}`, or from any machine with --address {url}; `cancel` ends it"
    )


def run_on_cluster(sending: Sending, quiet: bool, ledger: Ledger, view: View) -> list[Outcome]:
    """From the plan to the tables. KeyboardInterrupt leaves everything running."""
    runs_dir, head = ledger.path.parent, sending.cluster.head
    if sending.grid is not None:
        write_grid(ledger, sending.grid, [plan.submission.submission_id for plan in sending.plans])
    ended: Frame = {"type": "end"}
    if not all(plan.finished for plan in sending.plans):
        ended = _control(sending, ledger, view)
    unrehearsed = ended.get("unrehearsed")
    asked = Asked(runs_dir)
    for submission in sending.submissions():
        register(submission, runs_dir, ledger, asked)
    ids = [submission.submission_id for submission in sending.submissions()]
    bring(head, ids if unrehearsed is None else [str(unrehearsed)], ledger, view.note)
    view.close()
    told = [plan.submission for plan in sending.plans]
    if unrehearsed is not None:
        view.note("the rehearsal did not come to its end: nothing that it was for was started")
        told = [one.submission for one in sending.rehearsals() if one.submission.submission_id == unrehearsed]
    return [finish(submission, ledger, quiet) for submission in told]


def _control(sending: Sending, ledger: Ledger, view: View) -> Frame:
    """Have a controller, and follow it to its last word. One that was lost with its head is started again, and one
    that another submit began is followed by ours, where that one left failures which this submit wants to try again."""
    for _ in range(AGAIN):
        job = send_order(sending, ledger, view)
        follower = Follower(ledger, view, several=len(sending.submissions()) > 1)
        follow(sending.cluster.head, job, follower)
        if follower.ended is None:
            view.note(f"the controller {job} is gone without a last word")
        elif not (sending.retry_failed and any(failed_unasked(ledger, *one) for one in follower.rows.items())):
            return follower.ended
    if follower.ended is not None:
        return follower.ended
    raise BackendFailure(f"the controller {job} was lost {AGAIN} times; look at its log in Ray's dashboard")
