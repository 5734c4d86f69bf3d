"""Events of another ledger: what would break the books here, or bend them, is refused before it is written."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.ledger.store import Event, Ledger
from orchestrator.ledger.travel import event_from_dict, event_to_dict
from orchestrator.money.budget import RELEASED, RESERVED, SPENT, account, read_account, reserve
from tests.orchestrator.toy import COST

SID, OTHER, AT = "a" * 64, "b" * 64, "2026-11-22T18:00:00.000Z"
TERMS = {
    "reservation": "r1",
    "worst_usd": 10.0,
    "attempt_usd": 5.0,
    "usd_per_hour": 20.0,
    "expected_usd": 2.0,
    "attempts": 2,
    "seeds": 1,
}
HISTORY = (
    (RESERVED, None, {"terms": TERMS, "replaces": []}),
    ("attempt_starting", "r-a1", {"stage": "train"}),
    (SPENT, "r-a1", {"reservation": "r1", "execution": "r-a1/1", "usd": 3.0, "seconds": 540.0, "exact": True}),
    (RELEASED, None, {"reservation": "r1"}),
)
JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**80), 2**80),
    st.floats(),
    st.text(max_size=3),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
)


def event(number):
    kind, attempt, data = HISTORY[number]
    return Event(number + 1, AT, kind, SID, attempt and "r", attempt, 1, data)


def places(value, at=()):
    """The way to every value in a nested dictionary."""
    for name, inner in value.items():
        yield (*at, name)
        if isinstance(inner, dict):
            yield from places(inner, (*at, name))


def changed(value, way, to):
    name, *rest = way
    return value | {name: changed(value[name], rest, to) if rest else to}


@pytest.mark.parametrize("number", range(len(HISTORY)))
def test_an_event_travels_unchanged(number):
    """Through JSON, and back."""
    assert event_from_dict(json.loads(json.dumps(event_to_dict(event(number))))) == event(number)


@given(st.data())
def test_whatever_is_let_in_can_be_written_and_counted(data):
    """With anything in the place of any value of any event: it is refused, or the ledger takes it and every sum is a
    number that is not negative."""
    number = data.draw(st.integers(0, len(HISTORY) - 1))
    told = event_to_dict(event(number))
    way = data.draw(st.sampled_from(list(places(told))))
    told = json.loads(json.dumps(changed(told, way, data.draw(JUNK))))
    try:
        taken = event_from_dict(told)
    except (KeyError, TypeError, ValueError):
        return
    assert 0 <= taken.seq < 2**63
    found = account([event(i) if i != number else taken for i in range(len(HISTORY))])
    assert 0 <= found.spent < math.inf and -1e-6 <= found.reserved < math.inf


def test_money_of_one_submission_is_not_moved_by_the_events_of_another(runs_dir):
    """A cluster that tells of its own submission can neither give back nor settle what is reserved for others here."""
    with Ledger.create(runs_dir) as ledger:
        mine = reserve(ledger, ledger.acquire(f"submission:{SID}"), SID, COST, None).reservation
        ledger.append("attempt_starting", submission_id=SID, run_id="r", attempt_id="r-a1")
        before = read_account(ledger)
        spent = {"reservation": mine, "execution": "r-a1/1", "usd": 0.0, "seconds": 0.0, "exact": True}
        told = [
            Event(1, AT, RELEASED, OTHER, None, None, 1, {"reservation": mine}),
            Event(2, AT, SPENT, OTHER, "r", "r-a1", 1, spent),
            Event(3, AT, RESERVED, OTHER, None, None, 1, {"terms": TERMS | {"worst_usd": 0.0}, "replaces": [mine]}),
        ]
        ledger.replicate("another", [event_from_dict(event_to_dict(one)) for one in told])
        after = read_account(ledger)
        assert (after.spent, after.reserved) == (before.spent, before.reserved) == (0.0, 2.0)
