"""What tells a ledger from a damaged one: SQLite notices a torn page, but no flipped bit in a row, and no lost end.

Each event has a digest over itself and the digest before it, each lease one over itself; and beside the ledger lies a
file with the number and the digest of the last event that was written. A row that was changed, a row that is missing
and an end that was cut off are noticed by whoever opens the ledger next. The events up to the first that does not fit
are as they were written: they can be kept.
"""

import contextlib
import hashlib
import json
import os
import sqlite3
import typing
from pathlib import Path

TIP = "ledger.tip"
TIP_BYTES = 96  # always the same, so that a new one replaces the old one in one write
COLUMNS = "seq, at, kind, submission_id, run_id, attempt_id, lease, token, data, origin, origin_seq"

SCHEMA = """
CREATE TABLE chain (seq INTEGER PRIMARY KEY, digest TEXT NOT NULL) STRICT;
CREATE TABLE lease_digests (name TEXT PRIMARY KEY, digest TEXT NOT NULL) STRICT;
"""

Row = tuple[typing.Any, ...]


def digest_of(before: str, row: Row) -> str:
    return hashlib.sha256(f"{before}{json.dumps(row)}".encode()).hexdigest()[:32]


def _first(db: sqlite3.Connection) -> str:
    """What stands for the digest before the first event."""
    return digest_of("", db.execute("SELECT name FROM identity").fetchone())


def extend(db: sqlite3.Connection) -> None:
    """Digests of the events of this transaction; to be called before it is committed."""
    seq, digest = _last(db)
    added = []
    for row in db.execute(f"SELECT {COLUMNS} FROM events WHERE seq > ? ORDER BY seq", (seq,)):
        digest = digest_of(digest, row)
        added.append((row[0], digest))
    db.executemany("INSERT INTO chain VALUES (?, ?)", added)


def _last(db: sqlite3.Connection) -> tuple[int, str]:
    found = db.execute("SELECT seq, digest FROM chain ORDER BY seq DESC LIMIT 1").fetchone()
    return found or (0, _first(db))


def mark_lease(db: sqlite3.Connection, name: str) -> None:
    row = db.execute("SELECT name, token, owner, beat FROM leases WHERE name = ?", (name,)).fetchone()
    if row is not None:
        db.execute(
            "INSERT INTO lease_digests VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET digest = excluded.digest",
            (name, digest_of("", row)),
        )


def mark_leases(db: sqlite3.Connection) -> None:
    for (name,) in db.execute("SELECT name FROM leases").fetchall():
        mark_lease(db, name)


# --- the end, as it lies beside the ledger


def write_tip(folder: Path, db: sqlite3.Connection) -> None:
    """After a transaction. A ledger whose tip could not be written, or is older, is only watched less closely."""
    seq, digest = _last(db)
    text = f"{seq} {digest}".ljust(TIP_BYTES - 1) + "\n"
    with contextlib.suppress(OSError):
        descriptor = os.open(folder / TIP, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)


def read_tip(folder: Path) -> tuple[int, str] | None:
    """None where there is none: its ledger was copied without it, or whoever made it died before it wrote. Raises
    ValueError for one that is damaged."""
    try:
        words = (folder / TIP).read_bytes().decode("ascii").split()
    except FileNotFoundError:
        return None
    if not words and (folder / TIP).stat().st_size == 0:
        return None
    if len(words) != 2 or not words[0].isdecimal() or len(words[1]) != 32:
        raise ValueError(f"{TIP} holds no number and digest")
    return int(words[0]), words[1]


# --- the look whether all is as it was written


def shape(db: sqlite3.Connection) -> list[Row]:
    """Tables with their columns, indices, triggers: the same for every ledger of a version, however it became so."""
    parts = db.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name").fetchall()
    columns = [(part[1], *db.execute(f"PRAGMA table_info({part[1]})")) for part in parts if part[0] == "table"]
    return [part if part[0] in ("index", "trigger") else part[:3] for part in parts] + columns


def damage(folder: Path, db: sqlite3.Connection, expected: list[Row]) -> str | None:
    """What is wrong with the ledger of a folder, which has the shape `expected`; None: nothing. Others may be writing
    meanwhile."""
    try:
        tip = read_tip(folder)  # before the ledger: what is written after this look is only more than it says
    except (ValueError, OSError) as error:
        return str(error)
    try:
        db.execute("BEGIN")  # one state of it for all looks
        try:
            return _damage(db, tip) if shape(db) == expected else "its tables are not those of a ledger"
        finally:
            db.execute("COMMIT")
    except (sqlite3.DatabaseError, TypeError, ValueError) as error:
        return str(error)


def _damage(db: sqlite3.Connection, tip: tuple[int, str] | None) -> str | None:
    said = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if said != "ok":
        return str(said).splitlines()[0]
    digest = _first(db)
    ends = {0: digest}
    links = db.execute("SELECT seq, digest FROM chain ORDER BY seq").fetchall()
    rows = db.execute(f"SELECT {COLUMNS} FROM events ORDER BY seq").fetchall()
    if len(links) != len(rows):
        return f"{len(rows)} events have {len(links)} digests"
    for row, (seq, told) in zip(rows, links, strict=True):
        digest = digest_of(digest, row)
        if (row[0], digest) != (seq, told):
            return f"event {seq} is not as it was written"
        ends[seq] = digest
    if tip is not None and ends.get(tip[0]) != tip[1]:
        return f"its last event was number {tip[0]}; it has {len(rows)} events" if tip[0] not in ends else "wrong tip"
    leases = db.execute("SELECT name, token, owner, beat FROM leases").fetchall()
    marks = dict(db.execute("SELECT name, digest FROM lease_digests").fetchall())
    if marks != {row[0]: digest_of("", row) for row in leases}:
        return "a lease is not as it was written"
    return None


def kept(db: sqlite3.Connection) -> list[Row]:
    """The events from the first on that are as they were written; the rest, and what cannot be read, is left out."""
    found = list[Row]()
    try:
        digest = _first(db)
        links = dict(db.execute("SELECT seq, digest FROM chain ORDER BY seq"))
        for row in db.execute(f"SELECT {COLUMNS} FROM events NOT INDEXED ORDER BY seq"):
            digest = digest_of(digest, row)
            if links.get(row[0]) != digest:
                break
            found.append(row)
    except (sqlite3.DatabaseError, TypeError, ValueError):
        pass
    return found
