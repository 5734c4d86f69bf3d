"""score_ledger.bin, read without trust: lengths checked before anything is allocated, nothing executed.

The format is described where it is written (golf_core/evaluate/ledger_file.py); this shares no code with it.
results/ledger_check.py says whether what was read can be.
"""

import hashlib
import json
import struct
import typing
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MAGIC, OLD_MAGIC = b"GOLFLDG2", b"GOLFLDG1"
COMMIT = 1  # the kind of event from whose runs the next are told
MAX_FILE_BYTES = 64 << 20  # ours have at most a few millions
MAX_HEAD_BYTES = 1 << 20
MAX_VALUES_BYTES = 512 << 20  # of all columns together, before compression
MAX_STAGES, MAX_RANKS = 16, 1024
LIMIT = 2**48  # of a count or a position
COLUMNS = [("kind", "u1"), ("micros", "<i8"), ("count", "<i8"), ("text_bytes", "<i8")]
COLUMNS += [("nats", "<f8"), ("weights", "<u8"), ("additions", "<u8")]
PURPOSES = ("inputs", "targets", "learned", "unscored")
HEX_DIGITS = set("0123456789abcdef")


class LedgerFileError(ValueError):
    """A ledger that cannot be read, or that says what cannot be; the message has the place."""


class OtherFormat(LedgerFileError):
    """No ledger of this version: an older one, or another evaluator's file."""


@dataclass(frozen=True)
class Rank:
    """The record of one rank, an element an event; `first` and `stop` an element a run, event after event."""

    kind: np.ndarray
    micros: np.ndarray  # since the event before
    count: np.ndarray  # of runs
    text_bytes: np.ndarray
    nats: np.ndarray
    weights: np.ndarray
    additions: np.ndarray
    first: np.ndarray
    stop: np.ndarray


@dataclass(frozen=True)
class Stage:
    """What a stage says it found, and the records of its ranks."""

    name: str
    tokens: int
    nats: float
    text_bytes: int
    verdict: str
    reads: dict[str, int]
    order: str
    clock: str
    ranks: tuple[Rank, ...]


def load_ledger(path: Path) -> list[Stage]:
    """The stages of a file. Raises LedgerFileError."""
    try:
        if (size := path.stat().st_size) > MAX_FILE_BYTES:
            raise LedgerFileError(f"{path.name} has {size:,} bytes, more than any ledger ({MAX_FILE_BYTES:,})")
        return read_ledger(path.read_bytes())
    except OSError as error:
        raise LedgerFileError(f"{path.name} cannot be read: {error.strerror}") from None


def read_ledger(data: bytes) -> list[Stage]:
    """The stages of a file's bytes. Raises LedgerFileError."""
    if data[:8] == OLD_MAGIC:
        raise OtherFormat("it is a ledger of format 1, whose events are not chained: their order cannot be checked")
    if data[:8] != MAGIC:
        raise OtherFormat(f"it is no score ledger: it begins with {data[:8]!r}")
    if len(data) < 48 or hashlib.sha256(data[:-32]).digest() != data[-32:]:
        raise LedgerFileError("its SHA-256 does not fit: it is cut or altered")
    (length,) = struct.unpack("<Q", data[8:16])
    if length > min(MAX_HEAD_BYTES, len(data) - 48):
        raise LedgerFileError(f"its head is said to have {length:,} bytes")
    try:
        heads = json.loads(data[16 : 16 + length].decode(), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise LedgerFileError(f"its head is no JSON: {str(error)[:80]}") from None
    if not isinstance(heads, list) or len(heads) > MAX_STAGES:
        raise LedgerFileError(f"its head is no list of at most {MAX_STAGES} stages")
    facts = [_Facts(head, f"stage {number}") for number, head in enumerate(heads)]
    sizes = [one.ranks() for one in facts]
    if (whole := sum(_raw_bytes(rank) for ranks in sizes for rank in ranks)) > MAX_VALUES_BYTES:
        raise LedgerFileError(f"its records are said to have {whole:,} bytes, more than {MAX_VALUES_BYTES:,}")
    records = data[16 + length : -32]
    if (said := sum(rank["size"] for ranks in sizes for rank in ranks)) != len(records):
        raise LedgerFileError(f"its records have {len(records):,} bytes, its head says {said:,}")
    stages = []
    for one, ranks in zip(facts, sizes, strict=True):
        found = []
        for number, rank in enumerate(ranks):
            record, records = records[: rank["size"]], records[rank["size"] :]
            found.append(_rank(record, rank["events"], rank["runs"], f"{one.place}, rank {number}"))
        stages.append(one.stage(tuple(found)))
    return stages


def _no_number(name: str) -> typing.NoReturn:
    raise ValueError(f"{name} is no number of JSON's")


def _raw_bytes(rank: dict[str, int]) -> int:
    return rank["events"] * sum(np.dtype(kind).itemsize for _, kind in COLUMNS) + rank["runs"] * 16


class _Facts:
    """The head of one stage, its values taken with their type checked."""

    KEYS = ("stage", "tokens", "world", "nats", "bytes", "verdict", "reads", "order", "clock", "ranks")

    def __init__(self, values: typing.Any, place: str) -> None:
        self.values = self.exactly(values, self.KEYS, place)
        self.place = f"stage {self.text('stage')}"

    @staticmethod
    def exactly(values: typing.Any, keys: tuple[str, ...], place: str) -> dict[str, typing.Any]:
        if not isinstance(values, dict) or sorted(values) != sorted(keys):
            raise LedgerFileError(f"{place}: its head must have {', '.join(keys)} and nothing else")
        return values

    def text(self, key: str) -> str:
        value = self.values[key]
        if not isinstance(value, str) or not value.isprintable() or not 0 < len(value) <= 100:
            raise LedgerFileError(f"{key} of a stage is {str(value)[:80]!r}, no line of text")
        return value

    def integer(self, values: dict[str, typing.Any], key: str) -> int:
        if type(values[key]) is not int or not 0 <= values[key] < LIMIT:
            raise LedgerFileError(f"{self.place}: {key} is {str(values[key])[:80]!r}, no count")
        return int(values[key])

    def ranks(self) -> list[dict[str, int]]:
        ranks, keys = self.values["ranks"], ("events", "runs", "size")
        if not isinstance(ranks, list) or len(ranks) > MAX_RANKS or len(ranks) != self.values["world"] or not ranks:
            raise LedgerFileError(f"{self.place}: ranks is not a list of as many as took part")
        told = [self.exactly(rank, keys, self.place) for rank in ranks]
        return [{key: self.integer(rank, key) for key in keys} for rank in told]

    def stage(self, ranks: tuple[Rank, ...]) -> Stage:
        nats = self.values["nats"]
        if not isinstance(nats, float) or not 0 <= nats < LIMIT:
            raise LedgerFileError(f"{self.place}: nats is {str(nats)[:80]!r}, no sum of losses")
        reads = self.exactly(self.values["reads"], PURPOSES, f"{self.place}: reads")
        ends = {key: self.text(key) for key in ("order", "clock")}
        if any(len(end) != 64 or set(end) - HEX_DIGITS for end in ends.values()):
            raise LedgerFileError(f"{self.place}: order and clock must be SHA-256 in hexadecimal")
        return Stage(
            self.text("stage"),
            self.integer(self.values, "tokens"),
            nats,
            self.integer(self.values, "bytes"),
            self.text("verdict"),
            {key: self.integer(reads, key) for key in PURPOSES},
            ends["order"],
            ends["clock"],
            ranks,
        )


def _rank(record: bytes, events: int, runs: int, place: str) -> Rank:
    columns: dict[str, np.ndarray] = {}
    for name, kind in (*COLUMNS, ("runs", "<i8")):
        count = 2 * runs if name == "runs" else events
        size = count * np.dtype(kind).itemsize
        if len(record) < 4 or len(record) - 4 < (length := struct.unpack("<I", record[:4])[0]):
            raise LedgerFileError(f"{place}: the column {name} is cut")
        packed, record = record[4 : 4 + length], record[4 + length :]
        decoder = zlib.decompressobj()
        try:
            planes = decoder.decompress(packed, size + 1)
        except zlib.error as error:
            raise LedgerFileError(f"{place}: the column {name} is damaged: {error}") from None
        if len(planes) != size or not decoder.eof or decoder.unused_data:
            raise LedgerFileError(f"{place}: the column {name} has not {size:,} bytes")
        shaped = np.frombuffer(planes, dtype=np.uint8).reshape(np.dtype(kind).itemsize, count)
        columns[name] = np.ascontiguousarray(shaped.T).view(kind).reshape(count)
    if record:
        raise LedgerFileError(f"{place}: something stands after its columns")
    told = columns.pop("runs").reshape(runs, 2)
    first, stop = _positions(columns["kind"], columns["count"], told, place)
    return Rank(**columns, first=first, stop=stop)


def _positions(kind: np.ndarray, count: np.ndarray, told: np.ndarray, place: str) -> tuple[np.ndarray, np.ndarray]:
    """Where runs lie, from their distances and lengths."""
    if (count < 0).any() or (count > len(told)).any() or int(count.sum()) != len(told):
        raise LedgerFileError(f"{place}: its events do not have the {len(told):,} runs that it holds")
    if (np.abs(told) >= LIMIT).any():
        raise LedgerFileError(f"{place}: a run lies outside of any stream")
    first, stop = np.empty(len(told), dtype=np.int64), np.empty(len(told), dtype=np.int64)
    last_first = last_stop = np.empty(0, dtype=np.int64)  # of the rank's last commit
    low = 0
    for is_commit, runs in zip((kind == COMMIT).tolist(), count.tolist(), strict=True):
        if not runs:
            continue
        high, known = low + runs, min(runs, len(last_first))
        away, length, ahead = told[low:high, 0], told[low:high, 1], runs - known
        stop[low : low + ahead] = np.cumsum(away[:ahead] + length[:ahead])
        first[low : low + ahead] = stop[low : low + ahead] - length[:ahead]
        likely = (last_stop if is_commit else last_first)[len(last_first) - known :]
        first[low + ahead : high] = likely + away[ahead:]
        stop[low + ahead : high] = first[low + ahead : high] + length[ahead:]
        if is_commit:
            last_first, last_stop = first[low:high], stop[low:high]
        low = high
        if (np.abs(stop[low - runs : low]) >= LIMIT).any():
            raise LedgerFileError(f"{place}: a run lies outside of any stream")
    return first, stop
