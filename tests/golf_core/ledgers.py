"""Score ledgers for tests: of several ranks in one process, and forged ones."""

import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from golf_core.evaluate.chain import COMMIT, MERGE, Chain, Event
from golf_core.evaluate.ledger import ScoreLedger
from golf_core.evaluate.ledger_file import encode_events, encode_ledger
from results.ledger_file import Rank, Stage
from tests.golf_core.test_evaluate import CPU, TABLES

FACTS = ("stage", "tokens", "world", "nats", "bytes", "verdict", "reads")


class Threaded(ScoreLedger):
    """One of several ranks, each in a thread of its own, that meet at a barrier."""

    def __init__(self, stage: str, tokens: np.ndarray, rank: int, table: list, barrier: threading.Barrier) -> None:
        self.table, self.barrier = table, barrier
        super().__init__(stage, tokens, TABLES, CPU, rank, len(table))

    def _from_all(self, values: np.ndarray) -> list[np.ndarray]:
        self.table[self.rank] = values.astype("<i8")
        self.barrier.wait(60)
        found = [one.copy() for one in self.table]
        self.barrier.wait(60)
        return found


def on_ranks(stage: str, tokens: np.ndarray, world: int, work: Callable[[ScoreLedger], None]) -> tuple[dict, list]:
    """What `work` leaves in the ledgers of so many ranks, finished: facts and records."""
    barrier, ledgers, told, errors = threading.Barrier(world), [None] * world, [None] * world, []

    def rank_of(rank: int) -> None:
        try:
            ledger = Threaded(stage, tokens, rank, ledgers, barrier)
            work(ledger)
            ledger.finish()
            told[rank] = ledger.record()
        except BaseException as error:
            errors.append(error)
            barrier.abort()

    threads = [threading.Thread(target=rank_of, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return told[0]


def scores_of_stages(stages: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What scores.json says of stages with these facts."""
    return {
        facts["stage"]: {
            "val_loss": facts["nats"] / facts["tokens"],
            "tokens": facts["tokens"],
            "bytes": facts["bytes"],
            "verdict": facts["verdict"],
            "ledger_order": facts["order"],
            "ledger_clock": facts["clock"],
        }
        for facts in stages
    }


def events_read(rank: Rank) -> list[Event]:
    """The events of a rank that was read from a file."""
    clock, ends = np.cumsum(rank.micros).tolist(), np.cumsum(rank.count).tolist()
    runs = np.stack((rank.first, rank.stop), axis=1)
    columns = (rank.kind, rank.nats, rank.text_bytes, rank.weights, rank.additions, rank.count)
    return [
        Event(kind, runs[end - count : end], micros, nats, text, weights, additions)
        for kind, nats, text, weights, additions, count, micros, end in zip(
            *(column.tolist() for column in columns), clock, ends, strict=True
        )
    ]


def facts_read(stage: Stage) -> dict[str, Any]:
    return {
        "stage": stage.name,
        "tokens": stage.tokens,
        "world": len(stage.ranks),
        "nats": stage.nats,
        "bytes": stage.text_bytes,
        "verdict": stage.verdict,
        "reads": stage.reads,
        "order": stage.order,
        "clock": stage.clock,
    }


def written(facts: dict[str, Any], ranks: Sequence[Sequence[Event]]) -> bytes:
    """A ledger of one stage with these events, whatever they are."""
    told = [encode_events(events, COMMIT) for events in ranks]
    sizes = [
        {"events": len(events), "runs": runs, "size": len(record)}
        for events, (record, runs) in zip(ranks, told, strict=True)
    ]
    return encode_ledger([(facts | {"ranks": sizes}, [record for record, _ in told])])


def rechained(facts: dict[str, Any], events: Sequence[Event]) -> dict[str, Any]:
    """The facts of a stage on one rank with the ends of the chains that these events have: a forger's best."""
    chain = Chain(facts["stage"], facts["tokens"], 0, 1, torch.device("cpu"))
    for number, event in enumerate(events):
        chain.bind_event(number, event)
        if event.kind == MERGE:
            chain.join([chain.order + chain.clock])
    canonical = json.dumps({key: facts[key] for key in FACTS}, sort_keys=True, separators=(",", ":")).encode()
    ends = {"order": chain.order, "clock": chain.clock}
    return facts | {name: hashlib.sha256(end + canonical).hexdigest() for name, end in ends.items()}


def changed(events: Sequence[Event], place: int, **values: Any) -> list[Event]:
    return [replace(event, **values) if number == place else event for number, event in enumerate(events)]
