"""The record of an evaluation on one rank: events, each bound to all before it by a SHA-256.

Two chains run side by side. `order` binds what was done: kind, place in the order, positions, losses, digests of the
weights; the same evaluation on the same machine gives it again, to the byte. `clock` binds the time of each event to
it. At a barrier every rank takes the ends of all ranks' chains into its own, so that none can be changed alone.
A chain shows that a record is whole and in its order; it is no secret, and whoever makes a new record makes a new
chain. Its end is therefore told while the run goes on, in the log.

A digest is a sum of the bits of weights as 64-bit integers, on their device: it shows that weights changed, and
costs a fraction of a SHA-256. Values swapped within one tensor it does not show.
"""

import hashlib
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from golf_core.evaluate.ledger_file import LEDGER_MAGIC
from golf_core.evaluate.tokens import Span

# Kinds of events. Every one tells the weights' digests, as they are when it happens.
COMMIT = 1  # targets were scored
ADAPT = 2  # committed targets of any rank, as of the last merge, were handed out to learn from
ADAPT_OWN = 3  # the same of targets that this rank had committed
MERGE = 4  # all ranks told each other what they had committed
WATCH = 5  # other tensors are watched from here on
UNSCORED = 6  # every token was handed out
END = 7  # nothing comes after it

EVENT_HEAD = struct.Struct("<QBdQQQQ")  # seq, kind, nats, bytes, digest of the weights, of the additions, runs
SMALL_NUMEL = 1 << 13  # of a tensor that is not worth an operation of its own
FLUSH = 256  # events whose losses and digests wait on the device, at most


@dataclass
class Event:
    kind: int
    runs: np.ndarray  # of targets, [first, stop): (runs, 2) int64
    micros: int  # since the record began
    nats: float
    text_bytes: int
    weights: int
    additions: int


def digest(tensors: Sequence[Tensor]) -> Tensor:
    """The sum of the tensors' bits as integers, each large one and the small ones together with a factor of their own;
    int64, on their device."""
    flat = [t.detach().reshape(-1) for t in tensors]
    parts = [t for t in flat if t.numel() > SMALL_NUMEL]
    if small := [t for t in flat if t.numel() <= SMALL_NUMEL]:
        parts.append(torch.cat(small))
    sums = torch.stack([bit_sum(part) for part in parts])
    return (sums * torch.arange(1, 2 * len(sums), 2, device=sums.device)).sum()


def bit_sum(flat: Tensor) -> Tensor:
    if flat.numel() * flat.element_size() % 8 == 0 and flat.storage_offset() * flat.element_size() % 8 == 0:
        return flat.view(torch.int64).sum()  # several times as fast as narrower words
    return flat.view({1: torch.int8, 2: torch.int16, 4: torch.int32}[flat.element_size()]).sum(dtype=torch.int64)


class Chain:
    """The events of one rank. What lies on the device is fetched for many events at once, so that nobody waits."""

    def __init__(self, stage: str, targets: int, rank: int, world: int, device: torch.device) -> None:
        self.rank, self.events = rank, list[Event]()
        self.order = hashlib.sha256(f"{LEDGER_MAGIC.decode()} {stage} {targets} {rank} {world}".encode()).digest()
        self.clock = self.order
        self.weights: list[Tensor] = []
        self.additions: list[Tensor] = []
        self._waiting: list[tuple[Event, Tensor]] = []
        self._nothing = torch.zeros((), dtype=torch.int64, device=device)
        self._begin = time.monotonic_ns()

    def add(self, kind: int, runs: Sequence[Span] = (), nats: Tensor | None = None, text_bytes: int = 0) -> None:
        """An event that happens now, with the weights as they are now."""
        table = np.array(runs, dtype=np.int64).reshape(len(runs), 2)
        event = Event(kind, table, (time.monotonic_ns() - self._begin) // 1000, 0.0, text_bytes, 0, 0)
        values = [self._nothing if nats is None else nats.view(torch.int64)]
        values += [digest(watched) if watched else self._nothing for watched in (self.weights, self.additions)]
        self._waiting.append((event, torch.stack(values)))
        if len(self._waiting) >= FLUSH:
            self.flush()

    def flush(self) -> None:
        """Bind every event so far."""
        if not self._waiting:
            return
        rows = torch.stack([values for _, values in self._waiting]).tolist()
        for (event, _), (nats, weights, additions) in zip(self._waiting, rows, strict=True):
            event.nats = struct.unpack("<d", struct.pack("<q", nats))[0]
            event.weights, event.additions = weights % 2**64, additions % 2**64
            self.bind_event(len(self.events), event)
            self.events.append(event)
        self._waiting = []

    def bind_event(self, seq: int, event: Event) -> None:
        self.order = hashlib.sha256(self.order + event_bytes(seq, event)).digest()
        self.clock = hashlib.sha256(self.clock + self.order + struct.pack("<Q", event.micros)).digest()

    def ends(self) -> bytes:
        """The present end of both chains, 64 bytes."""
        self.flush()
        return self.order + self.clock

    def join(self, ends: Sequence[bytes]) -> None:
        """Take in the ends of all ranks' chains."""
        self.order = hashlib.sha256(self.order + b"".join(end[:32] for end in ends)).digest()
        self.clock = hashlib.sha256(self.clock + b"".join(end[32:] for end in ends)).digest()


def event_bytes(seq: int, event: Event) -> bytes:
    """An event as it is bound, but for its time."""
    head = EVENT_HEAD.pack(
        seq, event.kind, event.nats, event.text_bytes, event.weights, event.additions, len(event.runs)
    )
    return head + event.runs.astype("<i8").tobytes()
