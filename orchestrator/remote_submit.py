"""A submit to a cluster: a controller on its head does the work, this process watches and brings the results home.

It may leave at any time and so may its machine: the same submit, or `status -f`, goes on. The controller's job is found
by its name before one is started; what it tells is written into the ledger here, each event once.
"""

import time
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path

from orchestrator.budget import Terms, reserve
from orchestrator.case import lease_of_submission
from orchestrator.cluster_site import Cluster
from orchestrator.drive import register
from orchestrator.errors import BackendFailure
from orchestrator.finish import finish, runs_flag
from orchestrator.ledger import Lease, Ledger
from orchestrator.limits import limits_of
from orchestrator.money import Spending
from orchestrator.outcome import Outcome
from orchestrator.overview import Row
from orchestrator.parcel import Order
from orchestrator.place import REMOTE
from orchestrator.plan import Plan
from orchestrator.remote import Head
from orchestrator.settings import Settings
from orchestrator.spec import SUBMISSION_DIGITS
from orchestrator.transfer import Seen, event_from_dict, fetch
from orchestrator.view import View
from orchestrator.wire import Frame

AGAIN = 3  # controllers that this process starts where one is lost with its head
PATIENCE = 300.0  # seconds for another submit of the same, from this machine, to have started its controller


def send_order(
    cluster: Cluster,
    plans: Sequence[Plan],
    settings: Settings,
    spendings: Sequence[Spending],
    retry_failed: bool,
    ledger: Ledger,
    view: View,
) -> str:
    """Register, reserve, and have one controller; the name of its job."""
    for plan in plans:
        register(plan.submission, ledger.path.parent, ledger)
    leases = _leases(plans, ledger)
    try:
        terms: dict[str, Terms | None] = {}
        order = _order(cluster, plans, settings, spendings, terms, retry_failed)
        live = [job for _, job in cluster.head.controllers(order.key) if not job.over]
        if not live:
            for plan, spending, lease in zip(plans, spendings, leases, strict=True):
                sid = plan.submission.submission_id
                terms[sid] = reserve(ledger, lease, sid, spending.cost, spending.budget)
            order = _order(cluster, plans, settings, spendings, terms, retry_failed)
        job, began = cluster.head.start(order)
    finally:
        for lease in leases:
            ledger.release(lease)
    view.note(f"the controller is job {job} on {cluster.server.url}" + ("" if began else ", begun by another submit"))
    for plan in plans:
        data = {"address": cluster.server.url, "state_dir": cluster.options.state_dir, "job": job, "began": began}
        ledger.append(REMOTE, submission_id=plan.submission.submission_id, data=data)
    return job


def _leases(plans: Sequence[Plan], ledger: Ledger) -> list[Lease]:
    """Of this runs folder: who else submits the same from here waits, and then finds the job."""
    until, leases = time.monotonic() + PATIENCE, []
    for plan in plans:
        while (lease := ledger.acquire(lease_of_submission(plan.submission.submission_id))) is None:
            if time.monotonic() > until:
                raise BackendFailure(f"another process holds {plan.submission.submission_id[:SUBMISSION_DIGITS]} here")
            time.sleep(0.2)
        leases.append(lease)
    return leases


def _order(
    cluster: Cluster,
    plans: Sequence[Plan],
    settings: Settings,
    spendings: Sequence[Spending],
    terms: Mapping[str, Terms | None],
    retry_failed: bool,
) -> Order:
    return Order(
        submissions=tuple((plan.submission, limits_of(plan.submission, settings)) for plan in plans),
        options=cluster.options,
        retry_failed=retry_failed,
        terms=tuple(terms.get(plan.submission.submission_id) for plan in plans),
        canary=any(spending.canary for spending in spendings),
    )


class Follower:
    """Takes in what a controller tells: events into the ledger, where there is one, rows to the view."""

    def __init__(self, ledger: Ledger | None, view: View) -> None:
        self.ledger, self.view = ledger, view
        self.origin = ""
        self.rows: dict[str, list[Row]] = {}
        self.ended: Frame | None = None  # the last word of the controller

    def take(self, frame: Frame) -> None:
        try:
            if frame["type"] == "hello":
                self.origin, self.ended = str(frame["origin"]), None
            elif frame["type"] == "event" and self.ledger is not None:
                self.ledger.replicate(str(frame["origin"]), [event_from_dict(frame)])
            elif frame["type"] == "rows":
                self.rows[str(frame["submission_id"])] = [Row.from_dict(row) for row in frame["rows"]]
                self.view.update([row for rows in self.rows.values() for row in rows])
            elif frame["type"] in ("end", "error"):
                self.ended = frame
        except (KeyError, TypeError, ValueError) as error:
            raise BackendFailure(f"the head told something that cannot be read: {error!r}") from None


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


def bring(head: Head, submission_id: str, runs_dir: Path, ledger: Ledger, note: typing.Callable[[str], None]) -> Seen:
    """Every attempt that is over, from the head into this runs folder."""
    seen = head.look(submission_id)
    ledger.replicate(seen.origin, seen.events)
    fetch(seen, runs_dir, ledger, head.send, note)
    return seen


def detached(submission_id: str, runs_dir: Path, url: str) -> str:
    short = submission_id[:SUBMISSION_DIGITS]
    return (
        f"detached: {short} goes on on the cluster. Come back with `python -m orchestrator status {short} "
        f"-f{runs_flag(runs_dir)}`, or from any machine with --address {url}; `cancel` ends it"
    )


def run_on_cluster(
    cluster: Cluster,
    plans: Sequence[Plan],
    settings: Settings,
    spendings: Sequence[Spending],
    *,
    retry_failed: bool,
    quiet: bool,
    ledger: Ledger,
    view: View,
) -> list[Outcome]:
    """From the plan to the tables. KeyboardInterrupt leaves everything running."""
    runs_dir = ledger.path.parent
    if not all(plan.finished for plan in plans):
        for left in reversed(range(AGAIN)):
            job = send_order(cluster, plans, settings, spendings, retry_failed, ledger, view)
            if follow(cluster.head, job, Follower(ledger, view)):
                break
            if not left:
                raise BackendFailure(f"the controller {job} was lost {AGAIN} times; look at its log in Ray's dashboard")
            view.note(f"the controller {job} is gone without a last word; starting another one")
    outcomes = []
    for plan in plans:
        register(plan.submission, runs_dir, ledger)
        bring(cluster.head, plan.submission.submission_id, runs_dir, ledger, view.note)
        view.close()
        outcomes.append(finish(plan.submission, runs_dir, quiet))
    return outcomes
