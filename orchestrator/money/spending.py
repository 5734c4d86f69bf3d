"""Money around a submit: what the plan says of it, the question before it is spent, what it came to in the end."""

import math
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from orchestrator.attempts import Attempt, counted, inspect_all
from orchestrator.backends import MODAL
from orchestrator.case import lease_of_submission
from orchestrator.cloud.options import BESIDE_SECONDS, options_of
from orchestrator.errors import BudgetRefused, UsageError
from orchestrator.hardware.request import is_planned
from orchestrator.ledger.store import FILE, Event, Lease, Ledger
from orchestrator.limits import limits_of
from orchestrator.money.admission import Admission, Purse, is_over, worker_seconds
from orchestrator.money.budget import (
    BARRED,
    CENT,
    KINDS,
    RELEASED,
    RESERVED,
    SPENT,
    Account,
    Terms,
    account,
    check,
    read_account,
    reserve,
    reserve_terms,
)
from orchestrator.money.cost import ATTEMPTS, Cost, at_most, expected_seconds, usd
from orchestrator.money.prices import Price, price_of, price_of_container
from orchestrator.settings import Settings
from orchestrator.spec import Submission


def is_rented(settings: Settings) -> bool:
    """Whether the GPUs are of somebody who counts the hours, or are to be: those of this machine are there anyway."""
    return settings["address"] is not None or settings["on"] == MODAL or is_planned(settings.source("gpus"))


def cost_of(submission: Submission, settings: Settings, attempts: Mapping[str, Sequence[Attempt]]) -> Cost:
    """What is left of a submission may cost. `attempts` holds what is there of each run id."""
    price, attempt_s = price_and_deadline(submission, settings)
    there = [list(attempts.get(run.run_id, ())) for run in submission.runs]
    done = [one for one in map(counted, there) if one is not None]
    left = [found for found in there if counted(found) is None]
    sealed = sum(any(map(_trained, found)) for found in left)
    took = [seconds for one in done if (seconds := worker_seconds(one.folder)) is not None]
    return Cost(
        price=price,
        seconds=expected_seconds(submission, took),
        attempt_s=attempt_s,
        attempts=settings["max_attempts"] or ATTEMPTS,
        whole=len(left) - sealed,
        evaluations=sealed,
    )


def beside_seconds(settings: Settings) -> float:
    """That a call is given beyond the last deadline of its attempt."""
    return BESIDE_SECONDS if settings["on"] == MODAL else 0.0


def price_and_deadline(submission: Submission, settings: Settings) -> tuple[Price, float]:
    """What an hour of an attempt costs, and the seconds that it may be paid for at most."""
    target, attempt_s = submission.target, limits_of(submission, settings).attempt_s
    given, place, provider = settings["price"], settings.source("price"), settings["provider"]
    if settings["on"] != MODAL:
        rented = is_rented(settings)
        return price_of(target, given=given, place=place, provider=provider, rented=rented), attempt_s
    app = options_of(target, attempt_s)
    price = price_of_container(
        target.gpu,
        target.gpus,
        app.cores,
        app.memory_mib / 1024,
        provider=provider or MODAL,
        given=given,
        place=place,
    )
    return price, app.timeout_s


def _trained(attempt: Attempt) -> bool:
    return attempt.train_sealed and attempt.stage == "evaluate" and attempt.state != "void"


@dataclass(frozen=True)
class Spending:
    """What a driver of a submission is told about money."""

    cost: Cost
    budget: float | None  # of the runs folder
    parallel: bool = False  # no canary
    goes_on: bool = False  # without whoever drives it

    @property
    def canary(self) -> bool:
        """GPUs that are there anyway may all be used at once."""
        return not self.cost.free and not self.parallel

    def admission(self, submission: Submission, ledger: Ledger, lease: Lease) -> Admission:
        """Reserve, or raise BudgetRefused."""
        settle_over(ledger, lease, submission)
        terms = reserve(ledger, lease, submission.submission_id, self.cost, self.budget)
        return make_admission(submission, terms, self.canary, ledger, lease, self.goes_on)


def spending_on(submission: Submission, cost: Cost, settings: Settings, parallel: bool) -> Spending:
    """Nothing goes first where all of it costs cents: without GPUs on Modal."""
    modal = settings["on"] == MODAL
    cheap = modal and not submission.target.gpus
    return Spending(cost, settings["budget"], parallel or cheap, goes_on=modal)


def make_admission(
    submission: Submission, terms: Terms | None, canary: bool, ledger: Ledger, lease: Lease, goes_on: bool = False
) -> Admission:
    """What the controller asks; the reservation is written where this ledger does not have it yet."""
    purse = None
    if terms is not None:
        settle_over(ledger, lease, submission)
        reserve_terms(ledger, lease, submission.submission_id, terms)
        purse = Purse(ledger, lease, submission.submission_id, terms)
    run_ids = [run.run_id for run in submission.runs]
    first = submission.policy if canary and len(run_ids) > 1 else None
    return Admission(ledger.path.parent, run_ids, purse, first, goes_on)


def settle_over(ledger: Ledger, lease: Lease, submission: Submission) -> None:
    """Write down what has ended under reservations of drivers that died, before another one takes over the rest."""
    sid = submission.submission_id
    there = [one for run in submission.runs for one in inspect_all(ledger.path.parent, run.run_id) if is_over(one)]
    for under in account(ledger.events(submission_id=sid)).of(sid):
        if there and not under.released:
            Purse(ledger, lease, sid, under.terms).settle(there)


def give_back(ledger: Ledger, submission_id: str, run_ids: Sequence[str]) -> float:
    """USD that a driver which died had reserved, and that nothing needs any more. Nothing where somebody drives."""
    open_ones = [
        one for one in account(ledger.events(submission_id=submission_id)).of(submission_id) if not one.released
    ]
    if not open_ones or (lease := ledger.acquire(lease_of_submission(submission_id))) is None:
        return 0.0
    before = read_account(ledger)
    try:
        for one in open_ones:
            Admission(ledger.path.parent, run_ids, Purse(ledger, lease, submission_id, one.terms), None).close(())
    finally:
        ledger.release(lease)
    return before.reserved - read_account(ledger).reserved


def settle(submissions: Sequence[Submission], ledger: Ledger) -> float:
    """Write down what has ended since whoever reserved for it left; USD that nothing needs any more."""
    return sum(give_back(ledger, one.submission_id, [run.run_id for run in one.runs]) for one in submissions)


# --- before


def account_of(runs_dir: Path) -> Account:
    """Of a runs folder that may not be there yet."""
    if not (runs_dir / FILE).exists():
        return Account()
    with Ledger.open(runs_dir) as ledger:
        return read_account(ledger)


def budget_rows(costs: Sequence[tuple[str, Cost]], settings: Settings, dry: bool) -> list[tuple[str, str, str]]:
    """For the plan: what the budget says to it. A refusal is told by a dry run; a submit ends with it."""
    budget = settings["budget"]
    if budget is None or all(cost.free for _, cost in costs):
        return []
    found = account_of(Path(settings["runs_dir"]))
    told = f"{usd(budget)} for this runs folder; {usd(found.spent)} spent, {usd(found.reserved)} reserved"
    rows = [("budget", told, settings.source("budget"))]
    try:
        check(costs, found, budget if dry else None)
    except BudgetRefused as error:
        rows.append(("refused", str(error).removeprefix("budget refused: "), "submit stops here"))
    return rows


def confirm(costs: Sequence[Cost], yes: bool, ask: Callable[[str], str] | None) -> bool:
    """Whether to go on. `ask` is None where nobody sits at a terminal: what costs money is refused then."""
    paid = [cost for cost in costs if not cost.free]
    if not paid or yes:
        return True
    unknown = any(cost.price.usd_per_hour is None for cost in paid)
    expected = None if unknown else sum(cost.expected_usd or 0.0 for cost in paid)
    worst = None if unknown else sum(cost.worst_usd or 0.0 for cost in paid)
    amount = "what nobody has named a price for" if unknown else f"{usd(expected)}, at worst {usd(worst)}"
    if ask is None:
        raise UsageError(f"this costs {amount}, and there is no terminal to ask on; -y says yes, --dry-run only plans")
    return ask(f"This costs {amount}. Go on? [y/N] ").strip().lower() in ("y", "yes")


def terminal() -> Callable[[str], str] | None:
    """How to ask whoever sits here: on stderr, since stdout is data."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None

    def ask(question: str) -> str:
        print(question, end="", file=sys.stderr, flush=True)
        return sys.stdin.readline()

    return ask


# --- after


@dataclass(frozen=True)
class Spent:
    """What a submission came to, against what was estimated when it was first paid for."""

    usd: float
    exact: bool  # else it is at most this, once nothing runs any more
    running: bool  # what has not ended is not in it
    expected_usd: float
    worst_usd: float
    reserved_usd: float  # still
    barred: bool  # a run of the last submit got no other attempt, since the money bore none

    def to_dict(self) -> dict[str, typing.Any]:
        return asdict(self)

    def describe(self) -> str:
        came_to = usd(self.usd) if self.exact else at_most(self.usd)
        text = f"{came_to}{', and what has not ended' if self.running else ''}; "
        text += f"{usd(self.expected_usd)} expected, "
        text += f"{usd(self.worst_usd)} at worst"
        return text + (f"; {usd(self.reserved_usd)} still reserved" if self.reserved_usd > CENT else "")


def spent_on(ledger: Ledger, submission_id: str) -> Spent | None:
    """None where nothing was ever paid for."""
    events = ledger.events(submission_id=submission_id)
    found = account(events).of(submission_id)
    if not found:
        return None
    last = max((event.seq for event in events if event.kind == "submit"), default=0)
    first = found[0].terms  # a submit that was begun again estimated only what was left
    return Spent(
        usd=math.fsum(one.spent for one in found),
        exact=all(one.exact for under in found for one in under.settled),
        running=any(one.spent_usd is None for under in found for one in under.executions.values()),
        expected_usd=first.expected_usd,
        worst_usd=first.worst_usd,
        reserved_usd=math.fsum(one.claim - one.spent for one in found),
        barred=any(event.kind == BARRED and event.seq > last for event in events),
    )


class Meter:
    """What each run has cost so far, for the eye: of what runs now by the clock on the wall."""

    def __init__(self, ledger: Ledger, submission_id: str) -> None:
        self.ledger, self.submission_id = ledger, submission_id
        self.events: list[Event] = []
        self.seen = 0

    def __call__(self) -> dict[str, float]:
        """By run id; empty where nothing is paid for."""
        new = self.ledger.events(submission_id=self.submission_id, after=self.seen)
        self.seen = new[-1].seq if new else self.seen
        self.events += [event for event in new if event.kind in KINDS]
        found: dict[str, float] = {}
        for under in account(self.events).of(self.submission_id):
            for one in under.executions.values():
                seconds = (datetime.now(UTC) - datetime.fromisoformat(one.at)).total_seconds()
                so_far = min(one.most_usd, max(0.0, seconds) * under.terms.usd_per_hour / 3600)
                found[one.run_id] = found.get(one.run_id, 0.0) + (so_far if one.spent_usd is None else one.spent_usd)
        return found


def money_sentence(kind: str, data: Mapping[str, typing.Any]) -> str | None:
    """An event of ours in the story of a submission; None for those of others.

    >>> money_sentence("attempt_spent", {"execution": "ab-a2/1", "usd": 1.5, "exact": False})
    'attempt 2 cost at most 1.50 USD'
    """
    if kind == RESERVED:
        return f"{usd(data['terms']['worst_usd'])} are reserved, {usd(data['terms']['expected_usd'])} expected"
    if kind == SPENT:
        number = str(data["execution"]).partition("/")[0].rpartition("-a")[2]
        return f"attempt {number} cost {(usd if data['exact'] else at_most)(data['usd'])}"
    if kind == BARRED:
        return f"no other attempt: {data['message']}"
    return "what was reserved and not needed is given back" if kind == RELEASED else None
