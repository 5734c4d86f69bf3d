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
from orchestrator.ledger.chain import damage, extend, mark_lease, write_tip
from orchestrator.ledger.runs_folder import is_ours
from orchestrator.ledger.schema import APPLICATION_ID, MIGRATIONS, SCHEMA_VERSION, WHOLE, expected_shape, migrate
from orchestrator.proc import Owner

FILE = "ledger.sqlite"
MAKING = ".ledger.making"  # the beginning of the name of a ledger that is not whole yet
BUSY_SECONDS = 30.0
# An owner on another machine cannot be looked at: it is given up when its lease has not moved for this long,
# by the looker's own monotonic clock.
FOREIGN_PATIENCE = 120.0
REBUILT_BY = "the next submit into this folder keeps it aside and makes a new one from what is certain"


class LedgerError(BackendFailure):
    """The ledger is damaged, or of a version that we do not know."""


class Damaged(LedgerError):
    """It cannot be what we have written, or is not there: a submit makes a new one from what is certain."""


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
    if is_ours(runs_dir):  # and its ledger is gone
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
        with making(runs_dir):
            if not check_ownership(runs_dir):
                cls.make(runs_dir)
        return cls.open(runs_dir)

    @classmethod
    def make(cls, runs_dir: Path, fill: "Callable[[Ledger], None]" = lambda ledger: None) -> None:
        """A new ledger, whole or not at all, for whoever is `making` it."""
        path, scratch = runs_dir / FILE, runs_dir / f"{MAKING}.{os.getpid()}"
        scratch.unlink(missing_ok=True)
        with contextlib.closing(_connect(scratch)) as db:
            db.execute("PRAGMA journal_mode=WAL")
            db.executescript(
                f"BEGIN IMMEDIATE; {WHOLE} PRAGMA application_id={APPLICATION_ID}; "
                f"PRAGMA user_version={SCHEMA_VERSION}; COMMIT;"
            )
            fill(cls(db, scratch))
        for suffix in ("-wal", "-shm"):  # of a damaged one, which would be taken for those of the new one
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        os.rename(scratch, path)  # closed: nothing of it is left in a write-ahead log

    @classmethod
    def open(cls, runs_dir: Path) -> "Ledger":
        """The ledger that is there. Raises Damaged where it is not as it was written."""
        path = runs_dir / FILE
        if not check_ownership(runs_dir):
            raise UsageError(f"there are no runs in {runs_dir}; `python -m orchestrator submit` makes them")
        if not path.is_file() or _application_id(path) != APPLICATION_ID:
            what = "has no header of a ledger" if path.exists() else "is missing, though there are runs beside it"
            raise Damaged(f"{path} {what}; {REBUILT_BY}")
        db = _connect(path)
        try:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version in MIGRATIONS:
                version = migrate(db)
            if version != SCHEMA_VERSION:
                raise LedgerError(f"{path} has schema version {version}; this program knows {SCHEMA_VERSION}")
            if (found := damage(runs_dir, db, expected_shape())) is not None:
                raise Damaged(f"{path} is damaged: {found}; {REBUILT_BY}")
            db.execute("PRAGMA synchronous=NORMAL")
        except BaseException as error:
            db.close()
            if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
                raise Damaged(f"{path} is damaged: {error}; {REBUILT_BY}") from error
            raise
        return cls(db, path)

    def close(self) -> None:
        self.db.close()

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        try:
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield
                extend(self.db)
            except BaseException:
                self.db.execute("ROLLBACK")
                raise
            self.db.execute("COMMIT")
            write_tip(self.path.parent, self.db)
        except sqlite3.DatabaseError as error:
            raise LedgerError(f"{self.path}: {error}") from error

    # --- leases

    def acquire(self, name: str) -> Lease | None:
        """The lease, if it is free, or its owner is dead; None while somebody else has it."""
        with self.transaction():
            row = self.db.execute("SELECT token, owner, beat FROM leases WHERE name = ?", (name,)).fetchone()
            if row is None:
                self.db.execute("INSERT INTO leases VALUES (?, 1, ?, 0)", (name, self._me()))
                mark_lease(self.db, name)
                return Lease(name, 1)
            token, owner, beat = row
            if owner is not None and not self._is_gone(name, Owner(**json.loads(owner)), token, beat):
                return None
            self.db.execute("UPDATE leases SET token = token + 1, owner = ? WHERE name = ?", (self._me(), name))
            mark_lease(self.db, name)
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
        with self.transaction():
            self._check(lease)
            self.db.execute("UPDATE leases SET beat = beat + 1 WHERE name = ?", (lease.name,))
            mark_lease(self.db, lease.name)

    def release(self, lease: Lease) -> None:
        """Give the lease back; nothing happens where it is ours no more."""
        with self.transaction():
            self.db.execute(
                "UPDATE leases SET owner = NULL WHERE name = ? AND token = ? AND owner = ?",
                (lease.name, lease.token, self._me()),
            )
            mark_lease(self.db, lease.name)

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
        with self.transaction():
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
        with self.transaction():
            self.db.executemany(
                "INSERT OR IGNORE INTO events "
                "(at, kind, submission_id, run_id, attempt_id, lease, token, data, origin, origin_seq) "
                "VALUES (?, ?, ?, ?, ?, NULL, ?, ?, ?, ?)",
                [
                    (e.at, e.kind, e.submission_id, e.run_id, e.attempt_id, e.token, json.dumps(e.data), origin, e.seq)
                    for e in events
                ],
            )
            new = self.db.total_changes - before
        return new

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
def making(runs_dir: Path) -> Iterator[None]:
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
