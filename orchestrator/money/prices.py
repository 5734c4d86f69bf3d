"""What the GPUs of a run cost by the hour: from --price, else from the dated file beside this module, else unknown.

A price that nobody knows is never guessed: the plan says that it is unknown, and a budget then refuses.
"""

import functools
import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import UsageError
from orchestrator.spec import Target

FILE = Path(__file__).parent / "prices.toml"


@dataclass(frozen=True)
class PriceRow:
    provider: str
    gpu: str  # as its driver names it
    gpus: int
    usd_per_hour: float  # of all of them
    as_of: str  # year and month, when it was known to hold
    source: str

    def __post_init__(self) -> None:
        if not 0 < self.usd_per_hour < math.inf or self.gpus < 1 or not self.source or len(self.as_of) != 7:
            raise ValueError(f"the price of {self.gpus}x {self.gpu} at {self.provider} is damaged: {self}")


@dataclass(frozen=True)
class Price:
    """USD an hour for the GPUs of one seed, and who says so. None: nobody does."""

    usd_per_hour: float | None
    source: str

    @property
    def free(self) -> bool:
        return self.usd_per_hour == 0

    def usd(self, seconds: float) -> float | None:
        return None if self.usd_per_hour is None else self.usd_per_hour * seconds / 3600

    def describe(self) -> str:
        return self.source if not self.usd_per_hour else f"{self.usd_per_hour:,.2f} USD an hour ({self.source})"


@functools.lru_cache(maxsize=1)
def price_rows() -> tuple[PriceRow, ...]:
    with FILE.open("rb") as file:
        return tuple(PriceRow(**row) for row in tomllib.load(file)["price"])


def providers() -> list[str]:
    return sorted({row.provider for row in price_rows()})


def price_of(target: Target, *, given: float | None, place: str, provider: str | None, rented: bool) -> Price:
    """`given` is what --price says, and `place` where it says so; `rented`: the GPUs are not this machine's own."""
    if given is not None:
        if not 0 <= given < math.inf:
            raise UsageError(f"{place}={given:g} is no price; write USD an hour for the GPUs of a seed, as in 31.59")
        return Price(given, place)
    if provider is not None and provider not in providers():
        raise UsageError(f"provider={provider!r} is not in {FILE.name}; there are {', '.join(providers())}, or --price")
    if target.device != "cuda":
        return Price(0.0, "none: no GPU; --price gives it one" if rented else "none: this machine")
    if not rented:
        return Price(0.0, "none: this machine")
    return _listed(target, [row for row in price_rows() if provider in (None, row.provider)], provider)


def _listed(target: Target, rows: Sequence[PriceRow], provider: str | None) -> Price:
    fitting = [row for row in rows if (row.gpu, row.gpus) == (target.gpu, target.gpus)]
    if provider is not None and fitting:
        row = fitting[0]
        return Price(row.usd_per_hour, f"{row.provider}, {row.as_of}: {row.source}")
    what = f"{target.gpus}x {target.gpu}"
    if provider is not None:
        has = ", ".join(f"{row.gpus}x {row.gpu}" for row in rows)
        return Price(
            None, f"not known: {provider} is listed with {has}, not with {what}; --price USD_PER_HOUR gives it"
        )
    if not fitting:
        return Price(None, f"not known: nobody is listed with {what}; --price USD_PER_HOUR gives it")
    told = ", ".join(f"{row.usd_per_hour:.2f} ({row.provider}, {row.as_of})" for row in fitting)
    return Price(
        None, f"not known: whose {what} these are; listed an hour: {told}; name it with --provider, or give --price"
    )
