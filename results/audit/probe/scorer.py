"""What a probe asks: the loss of every target of a stream of tokens, and the order in which they were scored.

Target i is token i + 1 of the stream. A probe knows nothing of the evaluator but these answers: it asks about streams
that differ in places it chose, and compares.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

ON, OFF, SHUFFLED = "on", "off", "shuffled"


class ScorerError(Exception):
    """The evaluator gave no answer: it failed, took too long, or answered what is no score. The message says which."""


class Refused(ScorerError):
    """The evaluator raised an error of its own at this question, and can still be asked others."""


@dataclass(frozen=True)
class StreamScore:
    nll: Floats  # (targets,) nats
    order: Ints  # (targets,) number of the commit that scored it, from 0, in time
    learned: Ints  # (adaptation events,) how many commits came before each, ascending


Scorer = Callable[[Ints, str], StreamScore]  # tokens, learn


@dataclass
class Counted:
    """A scorer that counts what it was asked, and how long that took."""

    scorer: Scorer
    tell: Callable[[int, float], None] = lambda runs, seconds: None
    runs: int = 0
    seconds: list[float] = field(default_factory=list)

    def __call__(self, tokens: Ints, learn: str = ON) -> StreamScore:
        begin = time.monotonic()
        found = self.scorer(tokens, learn)
        self.runs += 1
        self.seconds.append(time.monotonic() - begin)
        self.tell(self.runs, self.seconds[-1])
        return found

    @property
    def seconds_a_run(self) -> float:
        """Of the quickest: the first one also starts the process."""
        return min(self.seconds, default=0.0)
