"""score_ledger.bin, version 2: the records of an evaluation's stages. Plain data with checked lengths, no pickle.

8 bytes   magic "GOLFLDG2"
8 bytes   length of the head, little-endian
head      JSON: a list of stages, each with what it found (`facts`) and, for every rank, its events, runs and bytes
records   stage after stage, rank after rank: eight columns, each 4 bytes of length and a zlib stream of its values'
          bytes, first all lowest bytes, then all second ones, and so on
32 bytes  SHA-256 of everything before

Columns of events: kind, microseconds since the event before, runs of positions, bytes of text, nats, digest of the
weights, digest of the additions (kind u1, the others 8 bytes). The eighth has the runs, two values each: where a run
begins, told as the distance from where it was likely to, and its length. Likely is, for the k-th run from the end, the
place that the k-th run from the end of the rank's last commit came to: a commit goes on where that one stopped, an
adaptation goes over what it scored. Without such a run it is where the run before stopped. So a stage that scores
1.3 million pieces of documents in turn takes a few bytes for each batch of them. results/ledger_file.py reads it.
"""

import hashlib
import json
import struct
import typing
import zlib
from collections.abc import Sequence

import numpy as np

LEDGER_MAGIC = b"GOLFLDG2"
LEVEL = 6  # of zlib


class Told(typing.Protocol):
    """What an event tells: chain.py's `Event`."""

    kind: int
    runs: np.ndarray  # (runs, 2) int64
    micros: int
    nats: float
    text_bytes: int
    weights: int
    additions: int


def encode_events(events: Sequence[Told], commit: int) -> tuple[bytes, int]:
    """The record of one rank, and how many runs it has. `commit`: the kind that the next runs are told from."""
    micros = np.diff(np.array([0] + [e.micros for e in events], dtype=np.int64))
    runs = _distances(events, commit)
    columns: list[np.ndarray] = [
        np.array([e.kind for e in events], dtype=np.uint8),
        micros,
        np.array([len(e.runs) for e in events], dtype=np.int64),
        np.array([e.text_bytes for e in events], dtype=np.int64),
        np.array([e.nats for e in events], dtype=np.float64),
        np.array([e.weights for e in events], dtype=np.uint64),
        np.array([e.additions for e in events], dtype=np.uint64),
        runs,
    ]
    return b"".join(_column(one) for one in columns), len(runs) // 2


def _distances(events: Sequence[Told], commit: int) -> np.ndarray:
    found = [np.empty(0, dtype=np.int64)]
    last = np.empty((0, 2), dtype=np.int64)  # of the rank's last commit
    for event in events:
        if not len(runs := event.runs):
            continue
        likely = likely_starts(runs, last, going_on=event.kind == commit)
        found.append(np.stack((runs[:, 0] - likely, runs[:, 1] - runs[:, 0]), axis=1).reshape(-1))
        last = runs if event.kind == commit else last
    return np.concatenate(found)


def likely_starts(runs: np.ndarray, last: np.ndarray, going_on: bool) -> np.ndarray:
    likely = np.concatenate(([0], runs[:-1, 1]))
    if known := min(len(runs), len(last)):
        likely[-known:] = last[-known:, 1 if going_on else 0]
    return likely


def _column(values: np.ndarray) -> bytes:
    planes = values.astype(values.dtype.newbyteorder("<")).view(np.uint8).reshape(len(values), values.itemsize).T
    data = zlib.compress(planes.tobytes(), LEVEL)
    return struct.pack("<I", len(data)) + data


def encode_ledger(stages: Sequence[tuple[dict[str, typing.Any], Sequence[bytes]]]) -> bytes:
    """score_ledger.bin of stages: what each found, and its ranks' records."""
    head = json.dumps([facts for facts, _ in stages]).encode()
    records = b"".join(record for _, ranks in stages for record in ranks)
    body = LEDGER_MAGIC + struct.pack("<Q", len(head)) + head + records
    return body + hashlib.sha256(body).digest()
