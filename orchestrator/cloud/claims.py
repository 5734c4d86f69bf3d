"""Never charged twice: whose call does the work of an order, agreed on by a dictionary that all can see.

Who gives an order first looks for a claim of its key; else calls, and then claims. Of two that did so at once one
finds the other's claim, and cancels its own call. Whatever got through (a reply that was lost, a process that died
between call and claim) meets in front of the GPUs: a container that is not the owner of the key ends at once. Should
one call be given to two containers, the later one begins a new attempt, and the earlier one learns that it is late.
A repeated request may tell its own winner that the key was there: what is stored decides, never the answer.
"""

import typing
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from golf_core.rundir import RESULT, TRAIN_SEAL, VOID, RunDirError, is_sealed, read_json
from orchestrator.attempts import ATTEMPTS, write_void
from orchestrator.cloud.cancels import is_cancelled
from orchestrator.cloud.order import Order, Told, cancels_of, claim_of, execution_key, owner_of, place_of
from orchestrator.cloud.starts import Start, path_of, read_starts
from orchestrator.script import SCRIPT, SCRIPT_STAGE

AGAIN = ("preempted", "orphaned")  # how a worker ends whose machine is taken away: the order is given to another
PREEMPTED = "Modal took its machine away and gave its order to another"


class Claims(typing.Protocol):
    def claimed(self, key: str) -> str | None:
        """What is stored under a key."""

    def claim(self, key: str, value: str) -> str:
        """Store a value where there is none; what is stored then."""

    def write(self, key: str, value: str) -> None:
        """Store a value, whatever is there."""


class Caller(Claims, typing.Protocol):
    def call(self, order: Order) -> str:
        """Give an order; the id of the call."""

    def cancel(self, call: str) -> None:
        """End a call, if it is not over."""


def call_once(order: Order, caller: Caller) -> str:
    """The call that an order is given to: one that was made before, or a new one."""
    if (known := caller.claimed(claim_of(order.key))) is not None:
        return known
    mine = caller.call(order)
    winner = caller.claim(claim_of(order.key), mine)
    if winner == mine:
        return mine
    owner = caller.claim(owner_of(order.key), winner)
    if owner != mine:  # or our container was first, and the winner's will find that
        caller.cancel(mine)
    return owner


def take_turn(order: Order, call: str, container: str, claims: Claims, runs: Path) -> Order | Told:
    """What a container is to do, before anything else; Told: nothing. `runs`: where the volume of runs lies."""
    starts = read_starts(path_of(runs, order.run_id))
    if mine := [one for one in starts if one.call == call]:
        return _Taking(call, container, claims, runs).again(order, starts, mine)
    for one in starts:  # of this very order, or of what was begun after it had gone before its own line
        if execution_key(one.attempt_id, one.execution) == order.key or one.attempt > order.number:
            return Told(order.attempt_id, duplicate_of=one.call)
    return _Taking(call, container, claims, runs).own(order)


def is_in_place(order: Order, container: str, claims: Claims) -> bool:
    """Whether no other container was given the call meanwhile."""
    return claims.claimed(place_of(order.key)) in (None, container)


@dataclass(frozen=True)
class _Taking:
    call: str
    container: str
    claims: Claims
    runs: Path

    def own(self, order: Order) -> Order | Told:
        key = order.key
        owner = self.claims.claim(owner_of(key), self.call)
        if owner != self.call:
            return Told(order.attempt_id, duplicate_of=owner)
        self.claims.claim(claim_of(key), self.call)  # whoever called died before it could say so
        # Whoever cancels says so, then ends the calls that have claims: one that had none then sees here what was said.
        if is_cancelled(order.seed, order.cancels, self.claims.claimed(cancels_of(order.submission_id)) or ""):
            return Told(order.attempt_id, "cancelled", "it was cancelled before it began")
        if self.claims.claim(place_of(key), self.container) == self.container:
            return order
        self.claims.write(place_of(key), self.container)  # who had it is gone, or is about to hear that it is late
        return self.own(self._anew(order, order.number))

    def again(self, order: Order, starts: Sequence[Start], mine: Sequence[Start]) -> Order | Told:
        """The same order in another container: what the one before left decides where this one begins."""
        last = mine[-1]
        folder = self.runs / ATTEMPTS / last.attempt_id
        there = replace(order.next_attempt(last.attempt), execution=last.execution)
        self.claims.write(place_of(there.key), self.container)
        cls = _class_of(folder)
        if cls is not None and cls not in AGAIN:
            return Told(last.attempt_id, cls, "it had ended before its container did")
        sealed = is_sealed(folder, TRAIN_SEAL)
        if len(mine) > order.restarts:
            if not sealed:
                write_void(folder, "preempted", f"{PREEMPTED}; after {len(mine)} starts it was given up")
            return Told(last.attempt_id, "preempted", f"its machine was taken away {len(mine)} times")
        if sealed:
            execution = 1 + max(one.execution for one in starts if one.attempt_id == last.attempt_id)
            return self.own(replace(there, stage="evaluate", execution=execution))
        return self.own(self._anew(there, max(one.attempt for one in starts)))

    def _anew(self, order: Order, highest: int) -> Order:
        """The next attempt, from its start; the present one is void."""
        folder = self.runs / ATTEMPTS / order.attempt_id
        if order.stage == "evaluate":
            return replace(order, execution=order.execution + 1)
        if not (folder / VOID).exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_void(folder, "preempted", PREEMPTED)
        stage = SCRIPT_STAGE if order.run.get("kind") == SCRIPT else "train"
        return replace(order.next_attempt(1 + highest), stage=stage)


def _class_of(folder: Path) -> str | None:
    """How an attempt ended; None where nothing says so."""
    try:
        return str(read_json(folder / RESULT).get("class"))
    except RunDirError:
        return None


def follow_up(order: Order, claims: Caller, ended_well: bool, over: str) -> list[str]:
    """The calls of what was to come after an order, now that it has ended; none after a cancel. `over`: the caps that
    it does not keep."""
    if not order.chains or (claims.claimed(cancels_of(order.submission_id)) or "") != order.cancels:
        return []
    if order.canary is not None and (not ended_well or over):
        return []
    stage = SCRIPT_STAGE if order.run.get("kind") == SCRIPT else "train"
    return [call_once(order.follower(chain, stage), claims) for chain in order.chains if chain]
