"""Counts of a fault: how often it was injected, how often it fired, how often all was well afterwards, how soon.

A test reports its tally; the terminal's summary prints them all, also those of xdist's workers. A fault that never
fired shows nothing (I7), so its test fails.
"""

import json
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

import pytest

PROPERTY = "chaos"


@dataclass
class Tally:
    fault: str  # number in the list of faults, and what was done
    injected: int = 0
    fired: int = 0
    survived: int = 0
    seconds: list = field(default_factory=list)  # from the fault to the recovered state
    notes: dict = field(default_factory=dict)  # what fired where, counted

    def note(self, what):
        self.notes[what] = self.notes.get(what, 0) + 1

    @contextmanager
    def recovery(self):
        """Around what brings things back, and the look whether they are."""
        began = time.monotonic()
        yield
        self.seconds.append(round(time.monotonic() - began, 3))
        self.survived += 1

    def line(self):
        mean = (
            f"{sum(self.seconds) / len(self.seconds):.1f} s, worst {max(self.seconds):.1f} s" if self.seconds else "-"
        )
        counts = f"injected {self.injected:4d}  fired {self.fired:4d}  survived {self.survived:4d}  recovery {mean}"
        notes = "  (" + ", ".join(f"{key} {count}" for key, count in self.notes.items()) + ")" if self.notes else ""
        return f"{self.fault:<58}  {counts}{notes}"


@pytest.fixture
def tally(record_property):
    """Makes the tally of a fault; reported at the end, and then it must have fired, and all of it been survived."""
    made = []

    def make(fault):
        made.append(Tally(fault))
        return made[-1]

    yield make
    for one in made:
        record_property(PROPERTY, json.dumps(asdict(one)))
    for one in made:
        assert one.fired > 0, f"the fault never fired: {one.line()}"
        assert one.survived == one.fired, one.line()


def pytest_terminal_summary(terminalreporter):
    """A line a fault; they come with the reports of the tests' ends, from xdist's workers too."""
    reports = [one for kind in ("", "error") for one in terminalreporter.stats.get(kind, [])]
    told = [value for one in reports if getattr(one, "when", "") == "teardown" for key, value in one.user_properties]
    found = [Tally(**json.loads(value)) for value in told if value.startswith('{"fault"')]
    if found:
        terminalreporter.section("faults")
    for one in sorted(found, key=lambda one: (int(one.fault.split()[0]), one.fault)):
        terminalreporter.write_line(one.line())
