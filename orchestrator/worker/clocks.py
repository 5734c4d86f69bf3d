"""What befell the clocks while an attempt ran. Durations come from the monotonic clock alone; this looks over its
shoulder.

A wall clock that jumps changes no duration and is only written down. A machine that slept is another thing: its
monotonic clock stood still meanwhile, so that nobody can say how long anything took.
"""

import time
import typing
from collections.abc import Callable
from dataclasses import dataclass, field

DISTURBED = "disturbed_clock"
LOOK_SECONDS = 1.0
JUMP_SECONDS = 2.0  # of the wall clock between two looks; time servers correct a clock in far smaller steps
SLEPT_SECONDS = 0.5
AT_ONCE_SECONDS = 0.1  # that reading the three clocks may take
MOST = 20  # disturbances that are written down


def _boottime() -> float:
    """Counts the time asleep too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass
class Clocks:
    """Look again and again. The three clocks are arguments for the tests."""

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    boottime: Callable[[], float] = _boottime
    disturbances: list[dict[str, typing.Any]] = field(default_factory=list)
    slept: float = 0.0  # seconds, in all

    def __post_init__(self) -> None:
        self.began, self.ahead, self.asleep = self._read()
        self.looked = self.began

    def look(self, at_once: bool = False) -> str | None:
        """The class of an attempt whose times nobody can tell any more; None: they can be told."""
        if at_once or self.monotonic() - self.looked >= LOOK_SECONDS:
            now, ahead, asleep = self._read()
            slept, jumped = asleep - self.asleep, ahead - self.ahead
            self.looked, self.ahead, self.asleep = now, ahead, asleep
            if slept > SLEPT_SECONDS:
                self.slept += slept
                self._note("the machine slept", slept, now)
            if abs(jumped - slept) > JUMP_SECONDS:
                self._note("the wall clock jumped", jumped - slept, now)
        return DISTURBED if self.slept else None

    def _read(self) -> tuple[float, float, float]:
        """The monotonic clock, and how far the two others are ahead of it; read again where this process was held up
        between them."""
        while True:
            now, wall, boottime = self.monotonic(), self.wall(), self.boottime()
            if self.monotonic() - now < AT_ONCE_SECONDS:
                return now, wall - now, boottime - now

    def _note(self, what: str, seconds: float, now: float) -> None:
        if len(self.disturbances) < MOST:
            told = {"what": what, "seconds": round(seconds, 3), "t": round(now - self.began, 3)}
            self.disturbances.append(told)
