"""What follows a run on Modal although nobody is left to say so: each container that ends gives the next order.

The canary comes first where one does, and what follows begins in as many chains as may run at once. Whoever still
drives the submission finds these calls by their claims, as it finds its own.
"""

import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from golf_core.policy import Policy

Runs = Sequence[Mapping[str, typing.Any]]  # run.json of each
Chains = tuple[tuple[Mapping[str, typing.Any], ...], ...]


@dataclass(frozen=True)
class Following:
    """Runs of one submission that are still to come, in order, each as its first attempt."""

    runs: tuple[Mapping[str, typing.Any], ...] = ()
    canary: Policy | None = None
    lanes: int = 1  # that may run at once

    def after(self, run_id: str) -> Chains:
        """What is given to the order of a run to give.

        >>> runs = tuple({"run_id": name} for name in "abcde")
        >>> [[one["run_id"] for one in chain] for chain in Following(runs, lanes=2).after("b")]
        [['d']]
        """
        ids = [one["run_id"] for one in self.runs]
        if run_id not in ids:
            return ()
        at = ids.index(run_id)
        if self.canary is not None:
            rest = self.runs[1:] if at == 0 else ()
            return tuple(chain for lane in range(self.lanes) if (chain := tuple(rest[lane :: self.lanes])))
        chain = tuple(self.runs[at + self.lanes :: self.lanes]) if at < self.lanes else ()
        return (chain,) if chain else ()
