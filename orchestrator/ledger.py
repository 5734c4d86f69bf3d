"""The ledger: one SQLite file a runs folder, that lets controllers work side by side without doing anything twice.

Append-only events, held to it by triggers, and leases. A lease has one owner and a token that grows with each
change of owner; an event is written only if the writer's token is still the lease's, in the same transaction.
So a controller that was thought dead, and wakes up, can write nothing. The ledger coordinates; evidence is in
the sealed attempts. What happened on a cluster is written by the cluster's own ledger, and repeated here.
"""

import contextlib
import fcntl
import json
import os
import sqlite3
import time
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator.attempts import now_utc
from orchestrator.errors import BackendFailure, UsageError
from orchestrator.proc import Owner

FILE = "ledger.sqlite"
MAKING = ".ledger.making"  # the beginning of the name of a ledger that is not whole yet
APPLICATION_ID = 0x474F4C46  # "GOLF": what tells our file from any other SQLite file
SCHEMA_VERSION = 2
BUSY_SECONDS = 30.0
# An owner on another machine cannot be looked at: it is given up when its lease has not moved for this long,
# by the looker's own monotonic clock.
FOREIGN_PATIENCE = 120.0

SCHEMA = """
CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at TEXT NOT NULL,
    kind TEXT NOT NULL,
    submission_id TEXT,
    run_id TEXT,
    attempt_id TEXT,
    lease TEXT,
    token INTEGER,
    data TEXT NOT NULL,
    origin TEXT,
    origin_seq INTEGER
) STRICT;
CREATE INDEX events_of_submission ON events (submission_id, seq);
CREATE INDEX events_of_run ON events (run_id, seq);
CREATE TRIGGER events_are_never_changed BEFORE UPDATE ON events
    BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
CREATE TRIGGER events_are_never_removed BEFORE DELETE ON events
    BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
CREATE TABLE leases (
    name TEXT PRIMARY KEY,
    token INTEGER NOT NULL,
    owner TEXT,
    beat INTEGER NOT NULL
) STRICT;
CREATE TRIGGER tokens_only_grow BEFORE UPDATE OF token ON leases WHEN NEW.token < OLD.token
    BEGIN SELECT RAISE(ABORT, 'tokens only grow'); END;
CREATE TRIGGER leases_are_never_removed BEFORE DELETE ON leases BEGIN SELECT RAISE(ABORT, 'leases stay'); END;
"""
# Since version 2: a ledger has a name of its own, and holds events of others, each once, under that name.
REPLICAS = """
CREATE UNIQUE INDEX events_of_others ON events (origin, origin_seq) WHERE origin IS NOT NULL;
CREATE TABLE identity (name TEXT NOT NULL) STRICT;
INSERT INTO identity VALUES (lower(hex(randomblob(16))));
CREATE TRIGGER the_name_stays BEFORE UPDATE ON identity BEGIN SELECT RAISE(ABORT, 'a ledger keeps its name'); END;
"""
MIGRATION = f"""
ALTER TABLE events ADD COLUMN origin TEXT;
ALTER TABLE events ADD COLUMN origin_seq INTEGER;
{REPLICAS}
"""


class LedgerError(BackendFailure):
    """The ledger is damaged, or of a version that we do not know."""


class Fenced(BackendFailure):
    """Our lease has gone to another controller: whatever we still wanted to write must not be written."""


@dataclass(frozen=True)
class Lease:
    name: str
    token: int


@dataclass(frozen=True)
class Event:
    seq: int
    at: str
    kind: str
    submission_id: str | None
    run_id: str | None
    attempt_id: str | None
    token: int | None
    data: dict[str, typing.Any]
    origin: str | None = None  # the name of the ledger that it was written in, where that is another one
    origin_seq: int | None = None  # its number there


def check_ownership(runs_dir: Path) -> bool:
    """Whether a runs folder is ours already; False where nothing is there yet. Refuses, untouched, what is not ours."""
    if not runs_dir.exists() and not runs_dir.is_symlink():
        return False
    if not runs_dir.is_dir():
        raise UsageError(f"runs folder {runs_dir} is not a folder; name another with --runs-dir")
    names = [name for name in os.listdir(runs_dir) if not name.startswith(MAKING)]
    if FILE in names and _application_id(runs_dir / FILE) == APPLICATION_ID:
        return True
    if names:
        raise UsageError(
            f"runs folder {runs_dir} has content but no ledger of ours ({FILE}); "
            "nothing was touched: name an empty or a new folder with --runs-dir"
        )
    return False


class Ledger:
    """One connection. Not shared between threads or processes: each opens its own."""

    def __init__(self, db: sqlite3.Connection, path: Path) -> None:
        self.db, self.path = db, path
        self.owner = Owner.me()
        self._seen: dict[str, tuple[int, int, float]] = {}  # lease name -> token, beat, when it last moved

    @classmethod
    def create(cls, runs_dir: Path) -> "Ledger":
        """The ledger of a runs folder; folder and ledger are made where they are missing."""
        check_ownership(runs_dir)
        runs_dir.mkdir(parents=True, exist_ok=True)
        with _making(runs_dir):
            if not check_ownership(runs_dir):
                scratch = runs_dir / f"{MAKING}.{os.getpid()}"
                scratch.unlink(missing_ok=True)
                with contextlib.closing(_connect(scratch)) as db:
                    db.execute("PRAGMA journal_mode=WAL")
                    db.executescript(
                        f"BEGIN IMMEDIATE; {SCHEMA} {REPLICAS} PRAGMA application_id={APPLICATION_ID}; "
                        f"PRAGMA user_version={SCHEMA_VERSION}; COMMIT;"
                    )
                os.rename(scratch, runs_dir / FILE)  # closed: nothing of it is left in a write-ahead log
        return cls.open(runs_dir)

    @classmethod
    def open(cls, runs_dir: Path) -> "Ledger":
        path = runs_dir / FILE
        if not check_ownership(runs_dir):
            raise UsageError(f"there are no runs in {runs_dir}; `python -m orchestrator submit` makes them")
        db = _connect(path)
        try:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version == 1:
                version = _migrate(db)
        except BaseException:
            db.close()
            raise
        if version != SCHEMA_VERSION:
            db.close()
            raise LedgerError(f"{path} has schema version {version}; this program knows {SCHEMA_VERSION}")
        db.execute("PRAGMA synchronous=NORMAL")
        return cls(db, path)

    def close(self) -> None:
        self.db.close()

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self.db.execute("ROLLBACK")
                raise
            self.db.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            raise LedgerError(f"{self.path}: {error}") from error

    # --- leases

    def acquire(self, name: str) -> Lease | None:
        """The lease, if it is free, or its owner is dead; None while somebody else has it."""
        with self._transaction():
            row = self.db.execute("SELECT token, owner, beat FROM leases WHERE name = ?", (name,)).fetchone()
            if row is None:
                self.db.execute("INSERT INTO leases VALUES (?, 1, ?, 0)", (name, self._me()))
                return Lease(name, 1)
            token, owner, beat = row
            if owner is not None and not self._is_gone(name, Owner(**json.loads(owner)), token, beat):
                return None
            self.db.execute("UPDATE leases SET token = token + 1, owner = ? WHERE name = ?", (self._me(), name))
            return Lease(name, token + 1)

    def _me(self) -> str:
        return json.dumps(self.owner.to_dict())

    def _is_gone(self, name: str, owner: Owner, token: int, beat: int) -> bool:
        alive = owner.alive()
        if alive is not None:
            return not alive
        now = time.monotonic()
        seen = self._seen.get(name)
        if seen is None or seen[:2] != (token, beat):
            self._seen[name] = (token, beat, now)
            return False
        return now - seen[2] > FOREIGN_PATIENCE

    def holder(self, name: str) -> Owner | None:
        """Who has the lease, if that is a living process, or one that cannot be looked at from here."""
        row = self.db.execute("SELECT owner FROM leases WHERE name = ?", (name,)).fetchone()
        owner = Owner(**json.loads(row[0])) if row and row[0] else None
        return owner if owner is not None and owner.alive() is not False else None

    def beat(self, lease: Lease) -> None:
        """Say that the owner lives. Raises Fenced where it is the owner no more."""
        with self._transaction():
            self._check(lease)
            self.db.execute("UPDATE leases SET beat = beat + 1 WHERE name = ?", (lease.name,))

    def release(self, lease: Lease) -> None:
        """Give the lease back; nothing happens where it is ours no more."""
        with self._transaction():
            self.db.execute(
                "UPDATE leases SET owner = NULL WHERE name = ? AND token = ? AND owner = ?",
                (lease.name, lease.token, self._me()),
            )

    def _check(self, lease: Lease) -> None:
        row = self.db.execute("SELECT token, owner FROM leases WHERE name = ?", (lease.name,)).fetchone()
        if row is None or row[0] != lease.token or row[1] is None:
            raise Fenced(f"{lease.name}: token {lease.token} is stale, the lease has gone to another controller")

    # --- events

    def append(
        self,
        kind: str,
        *,
        lease: Lease | None = None,
        submission_id: str | None = None,
        run_id: str | None = None,
        attempt_id: str | None = None,
        data: Mapping[str, typing.Any] | None = None,
        allow: Callable[[], None] | None = None,
    ) -> int:
        """Write an event and return its number; with a lease only while that is still ours, else Fenced.

        `allow` may look at the ledger and raise, and nothing is written: nobody else writes between its look and ours.
        """
        with self._transaction():
            if lease is not None:
                self._check(lease)
            if allow is not None:
                allow()
            name, token = (lease.name, lease.token) if lease is not None else (None, None)
            cursor = self.db.execute(
                "INSERT INTO events (at, kind, submission_id, run_id, attempt_id, lease, token, data) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (now_utc(), kind, submission_id, run_id, attempt_id, name, token, json.dumps(dict(data or {}))),
            )
        return int(cursor.lastrowid or 0)

    @property
    def name(self) -> str:
        """What tells this ledger from every other one, made with it."""
        return str(self.db.execute("SELECT name FROM identity").fetchone()[0])

    def replicate(self, origin: str, events: Iterable[Event]) -> int:
        """Write events of the ledger that is named `origin`; those that are here already stay as they are. How many
        were new."""
        before = self.db.total_changes
        with self._transaction():
            self.db.executemany(
                "INSERT OR IGNORE INTO events "
                "(at, kind, submission_id, run_id, attempt_id, lease, token, data, origin, origin_seq) "
                "VALUES (?, ?, ?, ?, ?, NULL, ?, ?, ?, ?)",
                [
                    (e.at, e.kind, e.submission_id, e.run_id, e.attempt_id, e.token, json.dumps(e.data), origin, e.seq)
                    for e in events
                ],
            )
        return self.db.total_changes - before

    def events(
        self, *, submission_id: str | None = None, run_id: str | None = None, kind: str | None = None, after: int = 0
    ) -> list[Event]:
        """Events in order, of one submission, of one run, of one kind, or of any."""
        wanted = {"submission_id": submission_id, "run_id": run_id, "kind": kind}
        wanted = {column: value for column, value in wanted.items() if value is not None}
        where = "".join(f" AND {column} = :{column}" for column in wanted)
        columns = "seq, at, kind, submission_id, run_id, attempt_id, token, data, origin, origin_seq"
        query = f"SELECT {columns} FROM events WHERE seq > :after{where} ORDER BY seq"
        try:
            rows = self.db.execute(query, {**wanted, "after": after}).fetchall()
        except sqlite3.DatabaseError as error:
            raise LedgerError(f"{self.path}: {error}") from error
        return [_event(row) for row in rows]

    def submissions(self) -> list[str]:
        """Every registered submission, the latest last."""
        ids = [event.submission_id for event in self.events(kind="submission_registered") if event.submission_id]
        return list(dict.fromkeys(ids))


@contextlib.contextmanager
def _making(runs_dir: Path) -> Iterator[None]:
    """One process at a time makes the ledger of a folder."""
    descriptor = os.open(runs_dir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _event(row: tuple[typing.Any, ...]) -> Event:
    seq, at, kind, submission_id, run_id, attempt_id, token, data, origin, origin_seq = row
    return Event(seq, at, kind, submission_id, run_id, attempt_id, token, json.loads(data), origin, origin_seq)


def _migrate(db: sqlite3.Connection) -> int:
    """From version 1, unless another process has done it meanwhile; the version that the ledger has then."""
    db.execute("BEGIN IMMEDIATE")
    try:
        if db.execute("PRAGMA user_version").fetchone()[0] == 1:
            for statement in MIGRATION.strip().splitlines():
                if statement.strip():
                    db.execute(statement)
            db.execute("PRAGMA user_version=2")
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)


def _application_id(path: Path) -> int:
    """From the header of the file: opening a database that is not ours could change its folder."""
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    return int.from_bytes(header[68:72], "big") if header.startswith(b"SQLite format 3\0") else 0
