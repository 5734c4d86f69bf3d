"""What the gates of a folder are judged on, and the line that one gives."""

import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from results.untrusted import Folder
from results.verify.assign import Assigned
from results.verify.logtext import LogText
from results.verify.rival import Asked
from results.verify.seen import Seen


@dataclass(frozen=True, kw_only=True)
class Check:
    """A gate's line: what it was judged on, and why it is not passed."""

    name: str
    value: str
    limit: str
    margin: str = ""
    seed: int | None = None
    source: str = ""
    verdict: str
    why: str = ""

    def to_dict(self) -> dict[str, typing.Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Case:
    """All that the gates look at."""

    folder: Folder
    policy: Mapping[str, typing.Any]
    seeds: list[int]
    assigned: Assigned
    texts: Mapping[str, LogText]  # by file
    ours: bool  # logs of our own worker
    facts: Mapping[str, typing.Any] = field(default_factory=dict)  # submission.json
    asked: Asked = field(default_factory=Asked)

    @property
    def runs(self) -> dict[int, Seen]:
        return self.assigned.runs

    @property
    def incomplete(self) -> str:
        """Why not every claimed seed has a run; empty where each has."""
        for seed in self.seeds:
            if seed not in self.runs:
                return self.assigned.lies.get(seed) or self.assigned.unknown.get(
                    seed, f"there is no log of seed {seed}"
                )
        return "" if self.seeds else "no seed is claimed, and no log tells one"

    def largest(self, figure: str) -> tuple[int, float] | None:
        known = {seed: run.values[figure] for seed, run in self.runs.items() if figure in run.values}
        return max(known.items(), key=lambda pair: pair[1]) if known else None

    def missing(self, figure: str) -> str:
        """Why the figure is not known of every claimed seed; empty where it is."""
        silent = [run for run in self.runs.values() if figure not in run.values]
        return self.incomplete or (silent[0].why(figure) if silent else "")
