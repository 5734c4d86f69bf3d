"""Whether a score ledger can be what it says: derived from its events alone, without torch, model or tokens.

Shown is, stage by stage: the chains of all ranks are whole, in their order, and bound to what the stage says it found;
every target was scored exactly once; nothing was handed out to learn from before it was scored, by this rank or before
a barrier; weights that were watched moved only after something had been handed out; loss and bytes are the sum of the
commits'; and scores.json says the same. Whoever makes up all events can make all of this fit, but for the ends of the
chains, which the log has told while the run went on; and what a model did with its inputs, no ledger shows.
"""

import hashlib
import json
import math
import struct
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from results.ledger_file import COMMIT, MAGIC, LedgerFileError, Rank, Stage

ADAPT, ADAPT_OWN, MERGE, WATCH, UNSCORED, END = 2, 3, 4, 5, 6, 7
NAMES = {1: "commit", 2: "adapt", 3: "adapt_own", 4: "merge", 5: "watch", 6: "unscored_tokens", 7: "end"}
TRACK_A, SCORE_FIRST_OK, ILLEGAL = "TRACK_A", "SCORE_FIRST_OK", "ILLEGAL_TRAIN_BEFORE_SCORE"
EVENT = struct.Struct("<QBdQQQQ")  # number, kind, nats, bytes, two digests, runs
SUM_TOLERANCE = 1e-9  # relative: sums of 64-bit floats in another order


@dataclass(frozen=True)
class Shown:
    """What the ledger of one stage shows."""

    stage: str
    verdict: str
    ranks: int
    commits: int
    adaptations: int
    seconds: float  # from its first event to its last, by the slowest rank


def check_ledger(stages: list[Stage], scores: Mapping[str, typing.Any]) -> list[Shown]:
    """`scores`: the stages of scores.json, by name. Raises LedgerFileError at the first thing that cannot be."""
    named = [stage.name for stage in stages]
    if named != list(scores):
        raise LedgerFileError(f"it has the stages {', '.join(named)}, scores.json has {', '.join(scores)}")
    for stage in stages:
        _check_score(stage, scores[stage.name])
    return [check_stage(stage) for stage in stages]


def _check_score(stage: Stage, told: Mapping[str, typing.Any]) -> None:
    loss = stage.nats / max(stage.tokens, 1)
    said = told.get("val_loss")
    same = isinstance(said, float) and math.isclose(said, loss, rel_tol=SUM_TOLERANCE)
    found = {"tokens": stage.tokens, "bytes": stage.text_bytes, "val_loss": said if same else loss}
    found |= {"verdict": stage.verdict, "ledger_order": stage.order, "ledger_clock": stage.clock}
    for key, value in found.items():
        if told.get(key) != value:
            raise LedgerFileError(f"stage {stage.name}: {key} is {value} in it, {told.get(key)!r:.80} in scores.json")


def check_stage(stage: Stage) -> Shown:
    place = f"stage {stage.name}"
    for number, rank in enumerate(stage.ranks):
        _check_events(stage, rank, f"{place}, rank {number}")
    _check_chains(stage, place)
    commits = _check_coverage(stage, place)
    for number, rank in enumerate(stage.ranks):
        _check_learning(rank, number, commits, f"{place}, rank {number}")
    _check_weights(stage, place)
    return _check_sums(stage, place)


def _check_events(stage: Stage, rank: Rank, place: str) -> None:
    """Every event is one of ours, with what belongs to it and nothing else."""
    kind, commit = rank.kind, rank.kind == COMMIT
    if not len(kind) or kind[0] != WATCH:
        raise LedgerFileError(f"{place}: it does not begin by watching the weights")
    _refuse(~np.isin(kind, list(NAMES)), place, "is of no known kind")
    ends = np.flatnonzero(kind == END)
    if ends.tolist() != [len(kind) - 1] or len(kind) < 2 or kind[-2] != MERGE:
        raise LedgerFileError(f"{place}: it does not end with a barrier and an end")
    late = np.cumsum(rank.micros.astype(np.float64)) >= 2**62
    _refuse((rank.micros < 0) | late, place, "happened before the one before, or after the end of time")
    _refuse((rank.count > 0) != np.isin(kind, (COMMIT, ADAPT, ADAPT_OWN, UNSCORED)), place, "has wrong positions")
    _refuse(commit & ~(np.isfinite(rank.nats) & (rank.nats >= 0)), place, "has a loss that is no number")
    _refuse((rank.text_bytes < 0) | (~commit & ((rank.text_bytes != 0) | (rank.nats != 0))), place, "has wrong sums")
    if ((rank.first < 0) | (rank.first >= rank.stop) | (rank.stop > stage.tokens)).any():
        wrong = int(np.argmax((rank.first < 0) | (rank.first >= rank.stop) | (rank.stop > stage.tokens)))
        where = f"{rank.first[wrong]} to {rank.stop[wrong]}"
        raise LedgerFileError(f"{place}: positions {where} are not within {stage.tokens} targets")
    whole = np.repeat(kind == UNSCORED, rank.count)
    if ((rank.first[whole] != 0) | (rank.stop[whole] != stage.tokens)).any():
        raise LedgerFileError(f"{place}: unscored_tokens hands out all of them, not some")


def _refuse(wrong: np.ndarray, place: str, says: str) -> None:
    if wrong.any():
        raise LedgerFileError(f"{place}: event {int(np.argmax(wrong))} {says}")


def _check_chains(stage: Stage, place: str) -> None:
    """Both chains, derived again event by event, with all ranks' ends taken in at each barrier."""
    world = len(stage.ranks)
    if len({int((rank.kind == MERGE).sum()) for rank in stage.ranks}) > 1:
        raise LedgerFileError(f"{place}: its ranks do not have equally many barriers")
    ends = []
    for number in range(world):
        begin = hashlib.sha256(f"{MAGIC.decode()} {stage.name} {stage.tokens} {number} {world}".encode()).digest()
        ends.append((begin, begin))
    walks = [_bound(rank) for rank in stage.ranks]
    going = True
    while going:
        found = []
        for walk, end in zip(walks, ends, strict=True):
            going = True
            for content, micros in walk:
                if content is None:
                    break
                order = hashlib.sha256(end[0] + content).digest()
                end = order, hashlib.sha256(end[1] + order + micros).digest()
            else:
                going = False
            found.append(end)
        if going:
            orders, clocks = (b"".join(one[place] for one in found) for place in (0, 1))
            ends = [(hashlib.sha256(o + orders).digest(), hashlib.sha256(c + clocks).digest()) for o, c in found]
        else:
            ends = found
    facts = {"stage": stage.name, "tokens": stage.tokens, "world": world, "nats": stage.nats}
    facts |= {"bytes": stage.text_bytes, "verdict": stage.verdict, "reads": stage.reads}
    canonical = json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()
    for which, said in enumerate((stage.order, stage.clock)):
        if hashlib.sha256(b"".join(end[which] for end in ends) + canonical).hexdigest() != said:
            what = ("events or what it found were", "times were")[which]
            raise LedgerFileError(f"{place}: its chain does not end where it says: its {what} altered")


def _bound(rank: Rank) -> Iterator[tuple[bytes | None, bytes]]:
    """Each event as it is bound, and its time; after a barrier's own a None."""
    runs = np.stack((rank.first, rank.stop), axis=1).astype("<i8")
    clock, low = np.cumsum(rank.micros), 0
    columns = (rank.kind, rank.nats, rank.text_bytes, rank.weights, rank.additions, rank.count, clock)
    for number, (kind, nats, text, weights, additions, count, micros) in enumerate(
        zip(*(column.tolist() for column in columns), strict=True)
    ):
        content = EVENT.pack(number, kind, nats, text, weights, additions, count)
        yield content + runs[low : low + count].tobytes(), struct.pack("<Q", micros)
        low += count
        if kind == MERGE:
            yield None, b""


@dataclass(frozen=True)
class Commits:
    """Every run of scored targets, in the stream's order; they follow each other without gap or overlap."""

    first: np.ndarray
    rank: np.ndarray
    event: np.ndarray
    round: np.ndarray  # how many barriers its rank had passed


def _rounds(rank: Rank) -> np.ndarray:
    barrier = (rank.kind == MERGE).astype(np.int64)
    before: np.ndarray = np.cumsum(barrier) - barrier
    return before


def _check_coverage(stage: Stage, place: str) -> Commits:
    """Every target is scored exactly once."""
    parts = []
    for number, rank in enumerate(stage.ranks):
        event = np.repeat(np.arange(len(rank.kind)), rank.count)
        mine = rank.kind[event] == COMMIT
        event = event[mine]
        columns = (rank.first[mine], rank.stop[mine], np.full(len(event), number), event, _rounds(rank)[event])
        parts.append(np.stack(columns))
    table = np.concatenate(parts, axis=1)
    table = table[:, np.argsort(table[0], kind="stable")]
    first, stop = np.append(table[0], stage.tokens), np.concatenate(([0], table[1]))
    if (first != stop).any():
        wrong = int(np.argmax(first != stop))
        if first[wrong] > stop[wrong]:
            raise LedgerFileError(f"{place}: target {stop[wrong]} was never scored")
        who = table[2][min(wrong, table.shape[1] - 1)]
        raise LedgerFileError(f"{place}: target {first[wrong]} is scored twice, the second time by rank {who}")
    return Commits(table[0], table[2], table[3], table[4])


def _check_learning(rank: Rank, number: int, commits: Commits, place: str) -> None:
    """What was handed out to learn from was scored: before this rank's last barrier, or by this rank before."""
    event = np.repeat(np.arange(len(rank.kind)), rank.count)
    for kind in (ADAPT, ADAPT_OWN):
        mine = rank.kind[event] == kind
        if not mine.any():
            continue
        low = np.searchsorted(commits.first, rank.first[mine], side="right") - 1
        high = np.searchsorted(commits.first, rank.stop[mine], side="left")
        if kind == ADAPT:
            late = commits.round
            limit = _rounds(rank)[event[mine]]
        else:
            late = np.where(commits.rank == number, commits.event, len(rank.kind))
            limit = event[mine]
        wrong = _greatest(late, low, high) >= limit
        if wrong.any():
            span = int(np.flatnonzero(mine)[int(np.argmax(wrong))])
            raise LedgerFileError(
                f"{place}: event {event[span]} hands out targets {rank.first[span]} to {rank.stop[span] - 1} to learn "
                f"from, and not all were scored before"
            )


def _greatest(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The greatest of values[low:high], for many pairs; none is empty."""
    ordered = np.argsort(low, kind="stable")  # `reduceat` also goes from each high to the next low
    pairs = np.stack((low[ordered], high[ordered]), axis=1).reshape(-1)
    greatest = np.empty_like(low)
    greatest[ordered] = np.maximum.reduceat(np.append(values, 0), pairs)[::2]
    return greatest


def _check_weights(stage: Stage, place: str) -> None:
    """The artifact's weights moved only in a round in which some rank had something to learn from, this rank's
    additions only right after it had."""
    learning = [np.isin(rank.kind, (ADAPT, UNSCORED)) for rank in stage.ranks]
    rounds = [_rounds(rank) for rank in stage.ranks]
    learned = np.unique(np.concatenate([r[one] for r, one in zip(rounds, learning, strict=True)]))
    for number, rank in enumerate(stage.ranks):
        begun = (rank.kind[1:] == WATCH) & (rank.weights[:-1] == 0)
        allowed = begun | np.isin(rounds[number][1:], learned)
        where = f"{place}, rank {number}"
        moved = np.append(False, (rank.weights[1:] != rank.weights[:-1]) & ~allowed)
        _refuse(moved, where, "shows weights that moved though nothing had been handed out to learn from")
        allowed = (rank.kind[1:] == WATCH) | np.isin(rank.kind[:-1], (ADAPT, ADAPT_OWN, UNSCORED))
        moved = np.append(False, (rank.additions[1:] != rank.additions[:-1]) & ~allowed)
        _refuse(moved, where, "shows additions that moved though nothing had been handed out to learn from")


def _check_sums(stage: Stage, place: str) -> Shown:
    kinds = np.concatenate([rank.kind for rank in stage.ranks])
    nats = math.fsum(float(one) for rank in stage.ranks for one in rank.nats)
    text = sum(int(rank.text_bytes.sum()) for rank in stage.ranks)
    if not math.isclose(nats, stage.nats, rel_tol=SUM_TOLERANCE) or text != stage.text_bytes:
        raise LedgerFileError(f"{place}: its commits sum to {nats} nats of {text} bytes, not {stage.nats} of "
                              f"{stage.text_bytes}")  # fmt: skip
    learned = sum(
        int((rank.stop - rank.first)[np.repeat(np.isin(rank.kind, (ADAPT, ADAPT_OWN)), rank.count)].sum())
        for rank in stage.ranks
    )
    unscored = int((kinds == UNSCORED).sum())
    asked = {"targets": stage.tokens, "learned": learned, "unscored": unscored * (stage.tokens + 1)}
    for purpose, tokens in asked.items():
        if stage.reads[purpose] != tokens:
            told = f"{stage.reads[purpose]} tokens were handed out as {purpose}"
            raise LedgerFileError(f"{place}: {told}, its events ask for {tokens}")
    adaptations = int(np.isin(kinds, (ADAPT, ADAPT_OWN)).sum())
    verdict = ILLEGAL if unscored else SCORE_FIRST_OK if adaptations else TRACK_A
    if verdict != stage.verdict:
        raise LedgerFileError(f"{place}: its verdict is {stage.verdict}, its events are {verdict}")
    seconds = max(int(rank.micros[1:].sum()) for rank in stage.ranks) / 1e6
    commits = int((kinds == COMMIT).sum())
    return Shown(stage.name, verdict, len(stage.ranks), commits, adaptations, seconds)
