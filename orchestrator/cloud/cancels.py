"""Cancels that were asked for from any machine, as one value that every machine and every container can see.

Whoever drives a submission knows what was asked before it began, and hears what comes after. An order carries what was
known when it was given: where that changed, its container begins nothing else.
"""

import json
from collections.abc import Sequence

KEPT = 50  # the last so many


def with_cancel(told: str, at: str, seeds: Sequence[int] | None) -> str:
    """`told`, and another one. `seeds`: None for all; `at`: when, as no two are.

    >>> with_cancel("", "7", [42])
    '[["7", [42]]]'
    """
    return json.dumps([*_read(told), [at, None if seeds is None else list(seeds)]][-KEPT:])


def is_cancelled(seed: int, before: str, now: str) -> bool:
    """Whether a seed was cancelled between what was known before and what is known now.

    >>> first = with_cancel("", "7", [42])
    >>> [is_cancelled(seed, first, with_cancel(first, "8", [1])) for seed in (1, 42)]
    [True, False]
    """
    known = {at for at, _ in _read(before)}
    return any(seeds is None or seed in seeds for at, seeds in _read(now) if at not in known)


def _read(told: str) -> list[tuple[str, list[int] | None]]:
    return [(str(at), seeds) for at, seeds in json.loads(told)] if told else []
