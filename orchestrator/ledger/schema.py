"""The tables of a ledger, and how those of an older version become them."""

import contextlib
import functools
import sqlite3

from orchestrator.ledger import chain
from orchestrator.ledger.chain import Row, extend, mark_leases, shape

APPLICATION_ID = 0x474F4C46  # "GOLF": what tells our file from any other SQLite file
SCHEMA_VERSION = 3

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
# From one version to the next. Since version 3 a ledger knows its own damage.
MIGRATIONS = {
    1: f"""
ALTER TABLE events ADD COLUMN origin TEXT;
ALTER TABLE events ADD COLUMN origin_seq INTEGER;
{REPLICAS}
""",
    2: chain.SCHEMA,
}
WHOLE = f"{SCHEMA} {REPLICAS} {chain.SCHEMA}"


def migrate(db: sqlite3.Connection) -> int:
    """From an older version, unless another process has done it meanwhile; the version that the ledger has then."""
    db.execute("BEGIN IMMEDIATE")
    try:
        while (version := db.execute("PRAGMA user_version").fetchone()[0]) in MIGRATIONS:
            for statement in MIGRATIONS[version].strip().splitlines():
                if statement.strip():
                    db.execute(statement)
            db.execute(f"PRAGMA user_version={version + 1}")
            if version == 2:
                extend(db)
                mark_leases(db)
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    return int(db.execute("PRAGMA user_version").fetchone()[0])


@functools.cache
def expected_shape() -> list[Row]:
    """The shape of a ledger of this version."""
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        db.executescript(WHOLE)
        return shape(db)
