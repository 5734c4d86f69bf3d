"""What a call on Modal is told, and what it tells at its end. Plain JSON: nothing else crosses.

An order is one execution of one attempt: its run.json, its bundle, the stage that it begins with, and which execution
of that attempt it is. The same order may be given twice, after a reply that was lost: the key is the same, and the
container that comes second ends before it touches a GPU.
"""

import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from golf_core.policy import Policy, policy_from
from orchestrator.spec import attempt_id

VERSION = 1


class OrderError(ValueError):
    pass


@dataclass(frozen=True, kw_only=True)
class Order:
    app: str  # whose `train` this is: chains go on in it
    code: str  # the digest of what must be deployed there: an app may be deployed anew before its container starts
    run: Mapping[str, typing.Any]  # run.json
    bundle: str
    stage: str  # train, evaluate, or a script's one
    execution: int = 0  # of this attempt, from 0
    restarts: int = 2  # times that Modal may start it anew after it took its machine away
    cancels: str = ""  # what was known of cancels when it was given: where that changed, nothing follows
    canary: Policy | None = None  # its caps must be kept before any of `chains` begins
    chains: tuple[tuple[Mapping[str, typing.Any], ...], ...] = ()  # run.json of what follows, one after another in each

    @property
    def attempt_id(self) -> str:
        return str(self.run["attempt_id"])

    @property
    def run_id(self) -> str:
        return str(self.run["run_id"])

    @property
    def number(self) -> int:
        return int(self.run["attempt"])

    @property
    def seed(self) -> int:
        return int(self.run["seed"])

    @property
    def submission_id(self) -> str:
        return str(self.run["submission_id"])

    @property
    def key(self) -> str:
        """Of this execution: the same wherever it is asked for."""
        return execution_key(self.attempt_id, self.execution)

    def next_attempt(self, number: int) -> "Order":
        """The same as another attempt, from its start."""
        run = {**self.run, "attempt": number, "attempt_id": attempt_id(self.run_id, number)}
        return replace(self, run=run, execution=0)

    def follower(self, chain: Sequence[Mapping[str, typing.Any]], stage: str) -> "Order":
        """The order of the first run of a chain, with the rest of it to follow."""
        first, *rest = chain
        return replace(self, run=first, stage=stage, execution=0, canary=None, chains=(tuple(rest),) if rest else ())

    def to_dict(self) -> dict[str, typing.Any]:
        canary = None if self.canary is None else self.canary.to_dict()
        return {**asdict(self), "version": VERSION, "canary": canary, "chains": [list(one) for one in self.chains]}

    @classmethod
    def from_dict(cls, told: Mapping[str, typing.Any]) -> "Order":
        """Raises OrderError for what another version of this code gave."""
        if told.get("version") != VERSION:
            raise OrderError(f"this is an order of version {told.get('version')!r}, not {VERSION}: deploy again")
        facts = {name: value for name, value in told.items() if name != "version"}
        facts["canary"] = None if facts["canary"] is None else policy_from(facts["canary"])
        facts["chains"] = tuple(tuple(chain) for chain in facts["chains"])
        try:
            return cls(**facts)
        except TypeError as error:
            raise OrderError(str(error)) from None


def execution_key(attempt: str, execution: int) -> str:
    return f"{attempt}:{execution}"


def claim_of(key: str) -> str:
    """Whose call a key is: the first that said so."""
    return f"fc:{key}"


def owner_of(key: str) -> str:
    """The call that may work under a key: the first container that said so."""
    return f"own:{key}"


def place_of(key: str) -> str:
    """The container of the owner that works: the last that its call was given to."""
    return f"at:{key}"


def cancels_of(submission_id: str) -> str:
    return f"cancel:{submission_id}"


@dataclass(frozen=True)
class Told:
    """What a call returns. `duplicate_of`: the call that does the work; then there is nothing else."""

    attempt_id: str
    cls: str = ""
    message: str = ""
    seconds: float = 0.0  # that its containers worked at that attempt, the last one by its own clock
    duplicate_of: str | None = None

    def to_dict(self) -> dict[str, typing.Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, told: typing.Any) -> "Told":
        """Raises OrderError."""
        try:
            return cls(**told)
        except TypeError as error:
            raise OrderError(f"the call returned something that is not ours: {error}") from None
