"""The budget of a runs folder: no schedule of submits, starts, ends and deaths spends more than it (I6)."""

import math
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from orchestrator.attempts import Attempt
from orchestrator.errors import BudgetRefused
from orchestrator.ledger.store import Event, Ledger
from orchestrator.money.admission import Purse
from orchestrator.money.budget import (
    CENT,
    RELEASED,
    RESERVED,
    SPENT,
    Account,
    account,
    check,
    read_account,
    reserve,
    reserve_terms,
    terms_of,
)
from orchestrator.money.cost import Cost, Seconds
from orchestrator.money.prices import Price
from orchestrator.money.spending import spent_on

HOURLY = 36.0  # a cent a second


def cost(seeds=3, attempts=2, attempt_s=100.0, hourly=HOURLY):
    seconds = Seconds(train=30.0, evaluate=30.0, how="a test")
    price = Price(hourly, "a test")
    return Cost(price=price, seconds=seconds, attempt_s=attempt_s, attempts=attempts, whole=seeds)


def lease_of(ledger, sid):
    return ledger.acquire(f"submission:{sid}")


def start(ledger, sid, run, attempt):
    ledger.append("attempt_starting", submission_id=sid, run_id=run, attempt_id=attempt)
    ledger.append("attempt_started", submission_id=sid, run_id=run, attempt_id=attempt)


def ended(folder, attempt, seconds=None):
    """An attempt that is over; without seconds its worker could not tell."""
    place = folder / attempt
    place.mkdir(parents=True, exist_ok=True)
    if seconds is not None:
        (place / "result.json").write_text(f'{{"worker_seconds": {seconds}}}')
    return Attempt(place, 1, "void")


class Schedules(RuleBasedStateMachine):
    """Submits of three kinds on one runs folder: reserve, start, end measured or lost, die, come again, finish."""

    BUDGET = 20.0
    SIDS = ("a", "b", "c")

    @initialize()
    def begin(self):
        self.ledger, self.scratch = MemoryLedger(), tempfile.TemporaryDirectory()
        self.purses, self.running, self.numbers, self.over = {}, {}, {}, []
        self.true_spend = 0.0

    def teardown(self):
        self.scratch.cleanup()

    @rule(sid=st.sampled_from(SIDS), seeds=st.integers(1, 4), attempts=st.integers(1, 3), attempt_s=st.floats(1, 300))
    def submit(self, sid, seeds, attempts, attempt_s):
        """A new driver of a submission; the one before, if any, is dead, and what it ran may still run."""
        try:
            terms = reserve(self.ledger, None, sid, cost(seeds, attempts, attempt_s), self.BUDGET)
        except BudgetRefused:
            return
        self.purses[sid] = Purse(self.ledger, None, sid, terms)

    @rule(sid=st.sampled_from(SIDS), run=st.integers(0, 3))
    def start(self, sid, run):
        purse, name = self.purses.get(sid), f"{sid}{run}"
        if purse is None or run >= purse.terms.seeds or name in self.running or purse.refuses(name):
            return
        self.numbers[name] = self.numbers.get(name, 0) + 1
        attempt = f"{name}-a{self.numbers[name]}"
        start(self.ledger, sid, name, attempt)
        self.running[name] = (sid, attempt, purse.terms)

    @rule(pick=st.randoms(use_true_random=False), used=st.floats(0, 1), tells=st.booleans())
    def end(self, pick, used, tells):
        """Something that runs ends, within its last deadline; its driver settles, if it has one."""
        if not self.running:
            return
        name = pick.choice(sorted(self.running))
        _, attempt, terms = self.running.pop(name)
        self.true_spend += used * terms.attempt_usd
        seconds = used * terms.attempt_usd / HOURLY * 3600
        self.over.append(ended(Path(self.scratch.name), attempt, seconds if tells else None))

    @rule(sid=st.sampled_from(SIDS))
    def settle(self, sid):
        if (purse := self.purses.get(sid)) is not None:
            purse.settle([one for one in self.over if one.attempt_id.startswith(sid)])

    @rule(sid=st.sampled_from(SIDS))
    def finish(self, sid):
        """A driver at its end gives back the rest, though something of an earlier driver may still run."""
        self.settle(sid)
        if (purse := self.purses.pop(sid, None)) is not None:
            purse.release()

    @invariant()
    def the_budget_holds(self):
        """What was spent, and what runs now at its worst, is within the budget, and so is all that is claimed."""
        at_stake = math.fsum(terms.attempt_usd for _, _, terms in self.running.values())
        assert self.true_spend + at_stake <= self.BUDGET + CENT
        found = read_account(self.ledger)
        assert found.spent + found.reserved <= self.BUDGET + CENT
        assert found.spent + found.reserved >= self.true_spend + at_stake - CENT


class MemoryLedger:
    """Events in memory: thousands of schedules, and none of them about SQLite."""

    def __init__(self):
        self.rows = []

    def append(self, kind, *, lease=None, submission_id=None, run_id=None, attempt_id=None, data=None, allow=None):
        if allow is not None:
            allow()
        seq = len(self.rows) + 1
        self.rows.append(Event(seq, "", kind, submission_id, run_id, attempt_id, None, dict(data or {})))
        return seq

    def events(self, *, submission_id=None, kind=None, after=0):
        fits = lambda e: submission_id in (None, e.submission_id) and kind in (None, e.kind)  # noqa: E731
        return [event for event in self.rows[after:] if fits(event)]


TestSchedules = Schedules.TestCase
TestSchedules.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


@pytest.fixture
def ledger(tmp_path):
    with Ledger.create(tmp_path / "runs") as made:
        yield made


def test_submits_at_once_cannot_reserve_the_same_money(tmp_path):
    """Twelve at the same moment, each worth a third of the budget: exactly three pass, the others are told why."""
    with Ledger.create(tmp_path / "runs"):
        pass
    passed, refused, gate = [], [], threading.Barrier(12)

    def submit(number):
        with Ledger.open(tmp_path / "runs") as mine:
            gate.wait()
            try:
                passed.append(reserve(mine, lease_of(mine, f"s{number}"), f"s{number}", cost(), 18.0))
            except BudgetRefused as error:
                refused.append(str(error))

    threads = [threading.Thread(target=submit, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(passed) == 3 and len(refused) == 9
    assert all("0.00 USD of the budget of 18.00 USD are left" in why for why in refused)


def test_a_refusal_says_the_numbers_and_what_would_fit(ledger):
    """Spent, reserved, left; and each way that it names passes when it is taken."""
    reserve(ledger, lease_of(ledger, "other"), "other", cost(seeds=1), 100.0)
    with pytest.raises(BudgetRefused) as refusal:
        check([("mine", cost())], read_account(ledger), 5.5)
    told = str(refusal.value)
    assert "6.00 USD at worst (3 seeds x 2 attempts x 100 s at 36.00 USD an hour)" in told
    assert "3.50 USD of the budget of 5.50 USD are left (0.00 USD spent, 2.00 USD reserved)" in told
    with pytest.raises(BudgetRefused, match=r"and the rest of the plan\), .* --max-attempts 1; 1 seed; --budget 9"):
        check([("small", cost(seeds=1, attempt_s=50.0)), ("mine", cost())], read_account(ledger), 5.6)
    for fits, flag in ((cost(attempts=1), "--max-attempts 1"), (cost(seeds=1), "1 seed;"), (cost(), "--budget 8")):
        assert flag in told
        check([("mine", fits)], read_account(ledger), 8.0 if flag == "--budget 8" else 5.5)
    assert "--dead-man-seconds" not in told  # 58 s are less than what it is expected to take
    assert refusal.value.exit_code == 6


@given(left=st.floats(0.01, 30), seeds=st.integers(1, 5), attempts=st.integers(1, 4), attempt_s=st.floats(10, 500))
def test_what_would_fit_does(left, seeds, attempts, attempt_s):
    """Every alternative in a refusal is taken at its word and passes."""
    asked = cost(seeds, attempts, attempt_s)
    try:
        check([("s", asked)], Account(), left)
    except BudgetRefused as error:
        for way in str(error).partition("What would fit: ")[2].split("; "):
            flag, _, value = way.partition(" ")
            ways = {
                "--max-attempts": lambda v: (cost(seeds, int(v), attempt_s), left),
                "--dead-man-seconds": lambda v: (cost(seeds, attempts, float(v)), left),
                "--budget": lambda v: (asked, float(v)),
            }
            other, budget = ways[flag](value) if flag in ways else (cost(int(flag), attempts, attempt_s), left)
            check([("s", other)], Account(), budget)


def test_a_budget_refuses_what_has_no_price(ledger):
    """Nobody could hold it."""
    with pytest.raises(BudgetRefused, match="the price is a test"):
        check([("s", cost(hourly=None))], Account(), 1e9)
    check([("s", cost(hourly=None))], Account(), None)
    assert terms_of(cost(hourly=None)) is None and terms_of(cost(hourly=0.0)) is None


def test_a_driver_that_takes_over_replaces_the_reservation(ledger):
    """The worst case is not reserved twice: what the dead driver's attempts may still cost is part of it, and they
    count among the attempts that it bears."""
    lease = lease_of(ledger, "s")
    reserve(ledger, lease, "s", cost(), 7.0)
    start(ledger, "s", "run", "run-a1")
    again = reserve(ledger, lease, "s", cost(seeds=2), 4.0)
    found = read_account(ledger)
    assert [one.claim for one in found.of("s")] == [0.0, 4.0] and found.reserved == 4.0
    purse = Purse(ledger, lease, "s", again)
    assert purse.refuses("run") == ""
    start(ledger, "s", "run", "run-a2")
    assert "bears no other attempt" in purse.refuses("run")
    purse.settle([ended(ledger.path.parent, "run-a1", 40.0)])
    assert read_account(ledger).spent == pytest.approx(0.4)


def test_a_lost_attempt_is_settled_at_its_worst_and_a_refused_launch_at_nothing(ledger):
    """A worker that could not tell may have run to its deadline; what the backend never took has cost nothing."""
    lease = lease_of(ledger, "s")
    purse = Purse(ledger, lease, "s", reserve(ledger, lease, "s", cost(), None))
    start(ledger, "s", "one", "one-a1")
    ledger.append("attempt_starting", submission_id="s", run_id="two", attempt_id="two-a1")
    ledger.append("attempt_ended", submission_id="s", run_id="two", attempt_id="two-a1", data={"class": "launch_error"})
    folder = ledger.path.parent
    purse.settle([ended(folder, "one-a1"), ended(folder, "two-a1")])
    spent = {event.data["execution"]: event.data for event in ledger.events(kind=SPENT)}
    assert (spent["one-a1/1"]["usd"], spent["one-a1/1"]["exact"]) == (1.0, False)
    assert (spent["two-a1/1"]["usd"], spent["two-a1/1"]["exact"]) == (0.0, True)
    ended(folder, "one-a1", 30.0)  # a late finisher told after all: whoever drives next takes its word
    Purse(ledger, lease, "s", purse.terms).settle([ended(folder, "one-a1")])
    assert read_account(ledger).spent == pytest.approx(0.3)


def test_a_seed_has_its_own_share(ledger):
    """One seed that fails again and again cannot use up what the others need."""
    lease = lease_of(ledger, "s")
    purse = Purse(ledger, lease, "s", reserve(ledger, lease, "s", cost(seeds=2, attempts=2), None))
    for number in (1, 2):
        assert purse.refuses("one") == ""
        start(ledger, "s", "one", f"one-a{number}")
        purse.settle([ended(ledger.path.parent, f"one-a{number}", 90.0)])
    assert "bears no other attempt" in purse.refuses("one") and purse.refuses("two") == ""
    assert "1.80 USD of 2.00 USD are used" in purse.refuses("one")


def test_a_share_is_money_not_a_count(ledger):
    """Nodes that are refused within seconds leave nearly all of it."""
    lease = lease_of(ledger, "s")
    purse = Purse(ledger, lease, "s", reserve(ledger, lease, "s", cost(seeds=1, attempts=2), None))
    for number in range(1, 6):
        assert purse.refuses("one") == ""
        start(ledger, "s", "one", f"one-a{number}")
        purse.settle([ended(ledger.path.parent, f"one-a{number}", 2.0)])


def test_the_same_reservation_is_written_once(ledger):
    """A controller that was started again on a cluster's head goes on under what it was given."""
    lease, terms = lease_of(ledger, "s"), terms_of(cost())
    for _ in range(3):
        reserve_terms(ledger, lease, "s", terms)
    assert len(ledger.events(kind=RESERVED)) == 1


def test_events_that_come_twice_count_once(ledger):
    """A ledger that repeats another's events, in which the same reservation stands, sees the same money."""
    lease = lease_of(ledger, "s")
    purse = Purse(ledger, lease, "s", reserve(ledger, lease, "s", cost(), None))
    start(ledger, "s", "one", "one-a1")
    purse.settle([ended(ledger.path.parent, "one-a1", 50.0)])
    events = ledger.events()
    reserved = [event for event in events if event.kind == RESERVED]
    spent = [event for event in events if event.kind == SPENT]
    twice = account([*reserved, *events, *spent])
    assert (twice.spent, twice.reserved) == (0.5, 5.5)
    ledger.append(RELEASED, submission_id="s", data={"reservation": purse.terms.reservation})
    assert (read_account(ledger).spent, read_account(ledger).reserved) == (0.5, 0.0)


@pytest.mark.parametrize(
    ("cls", "ended_at", "usd"),
    [
        ("worker_lost", 6, 0.36),
        ("cancelled", 6, 0.36),
        ("node_lost", 6, 1.0),
        ("preempted", 6, 1.0),
        ("worker_lost", 90, 1.0),
        ("worker_lost", -5, 1.0),
        ("worker_lost", None, 1.0),
    ],
)
def test_an_end_that_was_seen_bounds_what_it_cost(tmp_path, cls, ended_at, usd):
    """Without a worker's word an attempt costs at most the time until its controller saw it end; one that nobody saw
    end, or over which the clock was set back, its last deadline."""
    ledger, run = MemoryLedger(), "s0"
    purse = Purse(ledger, None, "s", reserve(ledger, None, "s", cost(seeds=1), 100.0))

    def happens(kind, second, **data):
        ledger.append(kind, submission_id="s", run_id=run, attempt_id="s0-a1", data=data)
        ledger.rows[-1] = replace(ledger.rows[-1], at=f"2026-11-22T18:{10 + second // 60:02}:{second % 60:02}.000Z")

    happens("attempt_starting", 0)
    happens("attempt_started", 1)
    before = spent_on(ledger, "s")
    assert before.running and before.describe().startswith("0.00 USD, and what has not ended; ")
    if ended_at is not None:
        happens("attempt_ended", ended_at, **{"class": cls})
    purse.settle([ended(tmp_path, "s0-a1")])
    found = spent_on(ledger, "s")
    assert found.usd == pytest.approx(usd) and not found.exact and not found.running
    assert found.describe().startswith(f"at most {usd:.2f} USD; ")


def test_nothing_begins_under_a_reservation_that_was_given_back(tmp_path):
    """A controller that is started again with its old order, after the money went back, begins nothing: another submit
    may have reserved it since."""
    ledger = MemoryLedger()
    terms = reserve(ledger, None, "s", cost(seeds=2), 4.0)
    assert Purse(ledger, None, "s", terms).refuses("s0") == ""
    Purse(ledger, None, "s", terms).release()
    reserve(ledger, None, "other", cost(seeds=2), 4.0)
    reserve_terms(ledger, None, "s", terms)
    again = Purse(ledger, None, "s", terms)
    assert "was given back; the same submit reserves anew" in again.refuses("s0")
    anew = reserve(ledger, None, "s", cost(seeds=2), 8.0)
    assert Purse(ledger, None, "s", anew).refuses("s0") == ""
