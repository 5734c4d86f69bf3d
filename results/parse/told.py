"""The values of a run as they are found: each with its line, or with why it is not known."""

import typing

from results.parse.run import MAX_TEXT, MEASURED, Evidence, ParsedRun


class Told:
    def __init__(self, run: ParsedRun) -> None:
        self.run = run

    def say(self, name: str, value: typing.Any, line: int, text: str) -> None:
        setattr(self.run, name, value)
        self.run.evidence[name] = Evidence(line, text[:MAX_TEXT])
        self.run.reasons.pop(name, None)

    def say_as(self, name: str, value: typing.Any, other: str) -> None:
        """Say a value with the line of another one."""
        evidence = self.run.evidence[other]
        self.say(name, value, evidence.line, evidence.text)

    def take_back(self, name: str, why: str) -> None:
        """Unsay a value."""
        setattr(self.run, name, None)
        self.run.evidence.pop(name, None)
        self.run.reasons[name] = why

    def silent(self, why: str, *names: str) -> None:
        """Nothing is known of `names`, unless it was told already."""
        for name in names:
            if getattr(self.run, name) is None:
                self.run.reasons.setdefault(name, why)

    def finish(self) -> ParsedRun:
        self.silent("no line of the log states it", *MEASURED)
        return self.run
