"""Events on their way from one ledger to another: as JSON, and checked before they are written where nobody can take
them out again.

A ledger is only appended to. An event that a reader would trip over, or an amount that is no number, would be there for
good, and with it a budget that holds nothing.
"""

import typing
from collections.abc import Mapping
from datetime import datetime

from orchestrator.ledger.store import Event
from orchestrator.money.budget import check_event

FACTS = ("seq", "at", "kind", "submission_id", "run_id", "attempt_id", "token", "data")
LARGEST = 2**63 - 1  # that SQLite holds


def event_to_dict(event: Event) -> dict[str, typing.Any]:
    return {name: getattr(event, name) for name in FACTS}


def event_from_dict(told: Mapping[str, typing.Any]) -> Event:
    """Raises KeyError, TypeError or ValueError for what no ledger of ours would have told."""
    for name in ("seq", "token"):
        number = told[name]
        if not (type(number) is int and 0 <= number <= LARGEST) and not (number is None and name == "token"):
            raise ValueError(f"{name} {number!r}")
    for name in ("at", "kind", "submission_id", "run_id", "attempt_id"):
        if not isinstance(told[name], str) and (told[name] is not None or name in ("at", "kind")):
            raise TypeError(f"{name} {told[name]!r}")
    if datetime.fromisoformat(told["at"]).tzinfo is None:
        raise ValueError(f"at {told['at']!r}")
    data = dict(told["data"])
    check_event(told["kind"], data)
    return Event(data=data, **{name: told[name] for name in FACTS if name != "data"})
