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
CORE, GIB = "core", "GiB"


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
class PartRow:
    """A core or a GiB of a container, where they are counted beside the GPUs."""

    provider: str
    part: str
    usd_per_hour: float  # of one
    as_of: str
    source: str

    def __post_init__(self) -> None:
        known = self.part in (CORE, GIB)
        if not known or not 0 < self.usd_per_hour < math.inf or not self.source or len(self.as_of) != 7:
            raise ValueError(f"the price of a {self.part} at {self.provider} is damaged: {self}")


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


@functools.lru_cache(maxsize=1)
def part_rows() -> tuple[PartRow, ...]:
    with FILE.open("rb") as file:
        return tuple(PartRow(**row) for row in tomllib.load(file)["part"])


def providers() -> list[str]:
    return sorted({row.provider for row in price_rows()})


def price_of(target: Target, *, given: float | None, place: str, provider: str | None, rented: bool) -> Price:
    """`given` is what --price says, and `place` where it says so; `rented`: the GPUs are not this machine's own."""
    if given is not None:
        return _given(given, place)
    if provider is not None and provider not in providers():
        raise UsageError(f"provider={provider!r} is not in {FILE.name}; there are {', '.join(providers())}, or --price")
    if target.device != "cuda":
        return Price(0.0, "none: no GPU; --price gives it one" if rented else "none: this machine")
    if not rented:
        return Price(0.0, "none: this machine")
    return _listed(target, [row for row in price_rows() if provider in (None, row.provider)], provider)


def price_of_container(
    gpu: str | None, gpus: int, cores: float, gib: float, *, provider: str, given: float | None, place: str
) -> Price:
    """An hour of a container with all that it asks for. A provider that counts cores and memory counts each GPU, too:
    where so many have no row, they cost so many times one. `gpu`: as its driver names it."""
    if given is not None:
        return _given(given, place)
    parts = {row.part: row for row in part_rows() if row.provider == provider}
    if set(parts) != {CORE, GIB}:
        return Price(None, f"not known: {provider} is listed without cores and memory; --price USD_PER_HOUR gives it")
    costs = {f"{cores:g} cores": cores * parts[CORE].usd_per_hour, f"{gib:g} GiB": gib * parts[GIB].usd_per_hour}
    dates = [row.as_of for row in parts.values()]
    if gpus:
        rows = [row for row in price_rows() if (row.provider, row.gpu) == (provider, gpu) and row.gpus in (gpus, 1)]
        if not rows:
            return Price(None, f"not known: {provider} is not listed with {gpu}; --price USD_PER_HOUR gives it")
        row = max(rows, key=lambda one: one.gpus)
        costs = {f"{gpus}x {gpu}": row.usd_per_hour * gpus / row.gpus} | costs
        dates.append(row.as_of)
    told = ", ".join(f"{what} {usd:.2f}" for what, usd in costs.items())
    return Price(sum(costs.values()), f"{provider}, {min(dates)}: {told}")


def _given(given: float, place: str) -> Price:
    if not 0 <= given < math.inf:
        raise UsageError(f"{place}={given:g} is no price; write USD an hour for the GPUs of a seed, as in 31.59")
    return Price(given, place)


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
