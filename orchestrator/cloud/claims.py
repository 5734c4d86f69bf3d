"""Never charged twice: whose call does the work of an order, agreed on by a dictionary that all can see.

Who gives an order first looks for a claim of its key; else calls, and then claims. Of two that did so at once one
finds the other's claim, and cancels its own call. Whatever got through (a reply that was lost, a process that died
between call and claim) meets in front of the GPUs: a container that is not the owner of the key ends at once.
A repeated request may tell its own winner that the key was there: what is stored decides, never the answer.
"""

import typing
from dataclasses import dataclass, replace
from pathlib import Path

from golf_core.rundir import RESULT, TRAIN_SEAL, VOID, RunDirError, is_sealed, read_json
from orchestrator.attempts import ATTEMPTS, write_void
from orchestrator.cloud.order import Order, Told, cancels_of, claim_of, execution_key, owner_of
from orchestrator.cloud.starts import Start, path_of, read_starts
from orchestrator.script import SCRIPT, SCRIPT_STAGE

AGAIN = ("preempted", "orphaned")  # how a worker ends whose machine is taken away: the order is given to another
PREEMPTED = "Modal took its machine away and gave its order to another"


class Claims(typing.Protocol):
    def claimed(self, key: str) -> str | None:
        """What is stored under a key."""

    def claim(self, key: str, value: str) -> str:
        """Store a value where there is none; what is stored then."""


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
    if winner != mine:
        caller.cancel(mine)
    return winner


@dataclass(frozen=True)
class Turn:
    """What a container is to do."""

    order: Order
    voided: str = ""  # attempt that a container before this one had begun


def take_turn(order: Order, call: str, claims: Claims, runs: Path) -> Turn | Told:
    """In a container, before anything else. `runs`: where the volume of runs lies. Told: there is nothing to do."""
    starts = read_starts(path_of(runs, order.run_id))
    if mine := [one for one in starts if one.call == call]:
        return _again(order, call, claims, runs, starts, mine)
    for one in starts:
        if execution_key(one.attempt_id, one.execution) == order.key:
            return Told(order.attempt_id, duplicate_of=one.call)
    return _own(Turn(order), call, claims)


def _own(turn: Turn, call: str, claims: Claims) -> Turn | Told:
    owner = claims.claim(owner_of(turn.order.key), call)
    if owner != call:
        return Told(turn.order.attempt_id, duplicate_of=owner)
    claims.claim(claim_of(turn.order.key), call)  # whoever called died before it could say so
    return turn


def _again(order: Order, call: str, claims: Claims, runs: Path, starts: list[Start], mine: list[Start]) -> Turn | Told:
    """The same order in another container: what the one before left decides where this one begins."""
    last = mine[-1]
    folder = runs / ATTEMPTS / last.attempt_id
    there = order.next_attempt(last.attempt)
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
        return _own(Turn(replace(there, stage="evaluate", execution=execution)), call, claims)
    if not (folder / VOID).exists() and folder.is_dir():
        write_void(folder, "preempted", PREEMPTED)
    number = 1 + max(one.attempt for one in starts)
    stage = SCRIPT_STAGE if order.run.get("kind") == SCRIPT else "train"
    return _own(Turn(replace(order.next_attempt(number), stage=stage), last.attempt_id), call, claims)


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
