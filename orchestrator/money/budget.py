"""The budget of a runs folder: what was spent, what is reserved, what may still be.

A submit that costs money reserves its worst case in the ledger before anything begins; several at once cannot reserve
the same money twice, since a reservation is looked at and written in one transaction. Every execution of an attempt is
settled when it ends: by its worker's seconds, or, where no worker could tell, by the most that it can have taken: the
time from its start to its end as its controller saw them, and where nobody saw it end, its last deadline. A
reservation that is over counts for what was spent under it.

All of it is events, and an `Account` follows from them alone. Those that come from another ledger (of a cluster's head)
carry the reservation's own name, so that the same money is never counted twice.
"""

import bisect
import math
import secrets
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime

from orchestrator.errors import BudgetRefused
from orchestrator.ledger.store import Event, Lease, Ledger
from orchestrator.money.cost import Cost, usd

RESERVED, SPENT, RELEASED = "budget_reserved", "attempt_spent", "budget_released"
BARRED = "budget_barred"  # a run gets no other attempt; it changes no amount
# The controller's own: money is at stake from the first on, and is not where the last follows without the second.
STARTING, STARTED, ENDED = "attempt_starting", "attempt_started", "attempt_ended"
ADOPTED = "attempt_adopted"  # found at work, whatever had been said of its start
REBUILT = "ledger_rebuilt"  # in place of a damaged one: what its lost events cost is not known
LOST_SIGHT = ("node_lost", "preempted")  # classes of an end that was not seen
KINDS = (RESERVED, STARTING, STARTED, ADOPTED, ENDED, SPENT, RELEASED, REBUILT)
CLEAR_SECONDS = 30.0  # in which what a worker that was killed leaves behind is ended, and seen to be
CENT = 1e-6  # USD that a sum may differ by rounding


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a submit may spend. Travels to a cluster's head as JSON."""

    reservation: str
    worst_usd: float
    attempt_usd: float  # of one execution, at most
    usd_per_hour: float
    expected_usd: float
    attempts: int  # of a seed
    seeds: int

    def to_dict(self) -> dict[str, typing.Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, told: Mapping[str, typing.Any]) -> "Terms":
        return cls(**told)

    @property
    def seed_usd(self) -> float:
        """The share of one seed."""
        return self.attempts * self.attempt_usd


def terms_of(cost: Cost) -> Terms | None:
    """What is to be reserved; None where nothing is paid for, or nobody knows what."""
    if cost.free or cost.price.usd_per_hour is None:
        return None
    return Terms(
        reservation=secrets.token_hex(8),
        worst_usd=cost.worst_usd or 0.0,
        attempt_usd=cost.attempt_usd or 0.0,
        usd_per_hour=cost.price.usd_per_hour,
        expected_usd=cost.expected_usd or 0.0,
        attempts=cost.attempts,
        seeds=cost.seeds,
    )


@dataclass
class Execution:
    """One start of an attempt under a reservation. Its name is the same in every ledger."""

    name: str  # attempt id, slash, which start of it
    attempt_id: str
    run_id: str
    most_usd: float
    at: str  # when it was to begin
    began: bool = False
    refused: bool = False  # by the backend: it never began
    gone_at: str = ""  # when it was certain that nothing of it runs any more
    spent_usd: float | None = None  # None: not settled
    exact: bool = False

    @property
    def claim(self) -> float:
        return self.most_usd if self.spent_usd is None else self.spent_usd

    def at_most(self, usd_per_hour: float) -> float:
        """USD that it can have taken, where no worker could tell. A node that was lost may go on unseen."""
        if not self.gone_at:
            return self.most_usd
        seconds = (datetime.fromisoformat(self.gone_at) - datetime.fromisoformat(self.at)).total_seconds()
        if seconds < 0:  # the clock was set back meanwhile
            return self.most_usd
        return min(self.most_usd, (seconds + CLEAR_SECONDS) * usd_per_hour / 3600)


@dataclass
class Reservation:
    terms: Terms
    submission_id: str
    released: bool = False
    executions: dict[str, Execution] = field(default_factory=dict)

    @property
    def spent(self) -> float:
        return math.fsum(one.spent_usd or 0.0 for one in self.executions.values())

    @property
    def committed(self) -> float:
        """Spent, and at stake in what has not ended."""
        return math.fsum(one.claim for one in self.executions.values())

    @property
    def claim(self) -> float:
        """What it takes from the budget."""
        return self.committed if self.released else max(self.terms.worst_usd, self.committed)

    def take_over(self, before: "Reservation") -> None:
        """What has not ended under a reservation that this one replaces: it is part of what this one may cost."""
        for name in [name for name, one in before.executions.items() if one.spent_usd is None]:
            self.executions[name] = before.executions.pop(name)

    @property
    def settled(self) -> list[Execution]:
        return [one for one in self.executions.values() if one.spent_usd is not None]


@dataclass
class Account:
    """Of a runs folder: every reservation that was ever made there, by its name."""

    reservations: dict[str, Reservation] = field(default_factory=dict)
    unpriced: int = 0  # attempts on GPUs whose money was lost with a damaged ledger

    @property
    def spent(self) -> float:
        return math.fsum(one.spent for one in self.reservations.values())

    @property
    def reserved(self) -> float:
        """Beyond what is spent."""
        return math.fsum(one.claim for one in self.reservations.values()) - self.spent

    def named(self, reservation: str, event: Event) -> Reservation | None:
        """A reservation that the event may speak of: of its own submission."""
        under = self.reservations.get(reservation)
        return under if under is not None and under.submission_id == event.submission_id else None

    def of(self, submission_id: str) -> list[Reservation]:
        return [one for one in self.reservations.values() if one.submission_id == submission_id]


def account(events: Iterable[Event]) -> Account:
    """What the events say, in their order. The same event twice says nothing new."""
    found = Account()
    current: dict[str, Reservation] = {}  # by submission: under which its attempts begin
    starts: dict[str, int] = {}  # of each attempt
    latest: dict[str, Execution] = {}  # of each attempt
    for event in events:
        attempt = str(event.attempt_id)
        if event.kind == RESERVED:
            made = Reservation(Terms.from_dict(event.data["terms"]), str(event.submission_id))
            if made.terms.reservation not in found.reservations:
                for old in event.data.get("replaces", []):
                    if (before := found.named(old, event)) is not None:
                        before.released = True
                        made.take_over(before)
                found.reservations[made.terms.reservation] = current[made.submission_id] = made
        elif event.kind == STARTING:
            starts[attempt] = starts.get(attempt, 0) + 1
            under = current.get(str(event.submission_id))
            if under is not None and not under.released:
                most = under.terms.attempt_usd
                latest[attempt] = Execution(f"{attempt}/{starts[attempt]}", attempt, str(event.run_id), most, event.at)
                under.executions[latest[attempt].name] = latest[attempt]
        elif event.kind in (STARTED, ADOPTED) and attempt in latest:
            latest[attempt].began, latest[attempt].refused = True, False
        elif event.kind == ENDED and attempt in latest:
            one, cls = latest[attempt], event.data.get("class")
            one.refused = cls == "launch_error" and not one.began
            one.gone_at = event.at if cls not in LOST_SIGHT else ""
        elif event.kind == SPENT:
            execution = _execution(found, event)
            if execution is not None:
                execution.spent_usd, execution.exact = float(event.data["usd"]), bool(event.data["exact"])
        elif event.kind == RELEASED:
            if (over := found.named(event.data["reservation"], event)) is not None:
                over.released = True
        elif event.kind == REBUILT:
            found.unpriced += int(event.data.get("unpriced", 0))
    return found


def check_event(kind: str, data: Mapping[str, typing.Any]) -> None:
    """Raise KeyError, TypeError or ValueError for an event of another ledger that `account` could not count: a sum with
    one amount that is no number is larger than no budget."""
    amounts: list[typing.Any] = []
    names: list[typing.Any] = []
    if kind == RESERVED:
        told = Terms.from_dict(data["terms"]).to_dict()
        names = [told.pop("reservation"), *data.get("replaces", [])]
        amounts = list(told.values())
    elif kind in (SPENT, RELEASED):
        names = [data["reservation"]]
        if kind == SPENT:
            names.append(data["execution"])
            amounts = [data["usd"]]
            bool(data["exact"])
    elif kind == REBUILT:
        amounts = [data.get("unpriced", 0)]
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f"{kind} names {names!r}")
    if not all(isinstance(one, int | float) and 0 <= one < math.inf for one in amounts):
        raise ValueError(f"{kind} tells amounts {amounts!r}")


def _execution(found: Account, event: Event) -> Execution | None:
    under = found.named(event.data["reservation"], event)
    return under.executions.get(event.data["execution"]) if under is not None else None


def read_account(ledger: Ledger) -> Account:
    return account(sorted((event for kind in KINDS for event in ledger.events(kind=kind)), key=lambda event: event.seq))


def freed(found: Account, submission_id: str) -> float:
    """What a new reservation of a submission takes over from its open ones: all that is not spent."""
    return math.fsum(one.claim - one.spent for one in found.of(submission_id) if not one.released)


def check(costs: Sequence[tuple[str, Cost]], found: Account, budget: float | None) -> None:
    """Refuse (submission id, cost) of what would be begun, where a budget could not bear all of it."""
    paid = [(sid, cost) for sid, cost in costs if not cost.free]
    if budget is None or not paid:
        return
    for _, cost in paid:
        if cost.price.usd_per_hour is None:
            raise BudgetRefused(f"budget refused: the price is {cost.price.source}. Without one no budget can hold")
    if found.unpriced:
        raise BudgetRefused(
            f"budget refused: this runs folder's ledger was damaged and made anew, and what {found.unpriced} attempts "
            "before that cost is not known. A new folder has a budget of its own: --runs-dir"
        )
    worst = math.fsum(cost.worst_usd or 0.0 for _, cost in paid)
    left = budget - found.spent - found.reserved + math.fsum(freed(found, sid) for sid in {sid for sid, _ in paid})
    if worst > left + CENT:
        raise BudgetRefused(refusal(worst, left, budget, found, [cost for _, cost in paid]))


def refusal(worst: float, left: float, budget: float, found: Account, costs: Sequence[Cost]) -> str:
    """The numbers, and what would fit."""
    one = max(costs, key=lambda cost: cost.worst_usd or 0.0)
    what = one.most()
    more = ", and the rest of the plan" if len(costs) > 1 else ""
    text = (
        f"budget refused: {usd(worst)} at worst ({what} at {one.price.usd_per_hour:,.2f} USD an hour{more}), and "
        f"{usd(max(0.0, left))} of the budget of {usd(budget)} are left ({usd(found.spent)} spent, "
        f"{usd(found.reserved)} reserved)."
    )
    return (
        f"{text} What would fit: {'; '.join([*fitting(left, costs), f'--budget {math.ceil(budget - left + worst)}'])}"
    )


def fitting(left: float, costs: Sequence[Cost]) -> list[str]:
    """Other ways to ask, each of which would pass."""

    def most(highest: int, change: Callable[[Cost, int], Cost]) -> int:
        """The largest number below `highest` with which all of it fits; 0 where none does."""

        def total(number: int) -> float:
            return math.fsum(change(cost, number).worst_usd or 0.0 for cost in costs)

        return bisect.bisect_right(range(1, highest), left, key=total)

    found, longest = [], math.ceil(max(cost.attempt_s for cost in costs))
    least = max(cost.seconds.whole for cost in costs)  # less would end what is expected
    if attempts := most(max(cost.attempts for cost in costs), lambda c, n: replace(c, attempts=min(n, c.attempts))):
        found.append(f"--max-attempts {attempts}")
    if seeds := most(max(cost.seeds for cost in costs), lambda c, n: replace(c, whole=min(n, c.seeds), evaluations=0)):
        found.append(f"{seeds} seed{'s' if seeds > 1 else ''}")
    if (seconds := most(longest, lambda c, n: replace(c, attempt_s=min(n, c.attempt_s)))) > least:
        found.append(f"--dead-man-seconds {seconds}")
    return found


def reserve(ledger: Ledger, lease: Lease, submission_id: str, cost: Cost, budget: float | None) -> Terms | None:
    """Take the worst case out of the budget, or raise BudgetRefused; None where nothing is paid for.

    Whoever holds the submission's lease drives it alone: an open reservation of a driver that died is replaced."""
    terms = terms_of(cost)
    if terms is not None:
        reserve_terms(ledger, lease, submission_id, terms, lambda found: check([(submission_id, cost)], found, budget))
    else:
        check([(submission_id, cost)], Account(), budget)
    return terms


def reserve_terms(
    ledger: Ledger,
    lease: Lease,
    submission_id: str,
    terms: Terms,
    allow: Callable[[Account], None] = lambda found: None,
) -> None:
    """Write a reservation once, however often it is asked for: a controller that was started again goes on under it."""
    found = read_account(ledger)
    if terms.reservation in found.reservations and not found.reservations[terms.reservation].released:
        return
    old = [one.terms.reservation for one in found.of(submission_id) if not one.released]
    ledger.append(
        RESERVED,
        lease=lease,
        submission_id=submission_id,
        data={"terms": terms.to_dict(), "replaces": old},
        allow=lambda: allow(read_account(ledger)),
    )
