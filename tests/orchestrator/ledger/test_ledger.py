"""The ledger: append-only, fenced, taken over from the dead alone, and nobody else's folder touched."""

import contextlib
import signal
import sqlite3
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import UsageError
from orchestrator.ledger import store as ledger_module
from orchestrator.ledger.schema import APPLICATION_ID, SCHEMA
from orchestrator.ledger.store import FILE, Event, Fenced, Lease, Ledger, LedgerError, check_ownership
from orchestrator.proc import Owner
from tests.orchestrator.toy import ROOT, stop
from tests.processes import until


@pytest.mark.parametrize(
    "statement",
    ["UPDATE events SET kind = 'other'", "DELETE FROM events", "UPDATE leases SET token = 0", "DELETE FROM leases"],
)
def test_what_is_written_stays(ledger, statement):
    """Events cannot be changed or removed, tokens cannot shrink: not even by SQL on the file."""
    ledger.append("one", data={"value": 1})
    ledger.acquire("lease")
    with pytest.raises(sqlite3.IntegrityError):
        ledger.db.execute(statement)
    assert [event.kind for event in ledger.events()] == ["one"]


def holder_process(runs_dir, lease):
    """A process that takes a lease and keeps it."""
    script = (
        "import sys, time; from pathlib import Path; from orchestrator.ledger.store import Ledger; "
        f"lease = Ledger.create(Path({str(runs_dir)!r})).acquire({lease!r}); print(lease.token, flush=True); "
        "sys.stdin.read()"
    )
    return subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )


def test_a_lease_of_a_living_process_is_not_taken(ledger, runs_dir):
    """Nobody gets it while its owner lives, though the owner is stopped; at once when the owner is killed."""
    other = holder_process(runs_dir, "it")
    try:
        assert other.stdout.readline().strip() == "1"
        other.send_signal(signal.SIGSTOP)
        assert ledger.acquire("it") is None and ledger.holder("it").pid == other.pid
        other.kill()
        other.wait()
        assert ledger.holder("it") is None and ledger.acquire("it") == Lease("it", 2)
    finally:
        stop(other)


def test_a_pid_that_was_given_again_is_not_its_owner(ledger):
    """An owner is a pid and its start time: the same pid with another start is somebody else."""
    me = Owner.me()
    ledger.owner = Owner(me.machine, me.pid, me.start - 1)
    ledger.acquire("it")
    ledger.owner = me
    assert ledger.acquire("it") == Lease("it", 2)


def test_an_owner_elsewhere_is_given_up_when_its_lease_stands_still(ledger, monkeypatch):
    """Another machine's owner cannot be looked at: its lease goes after a long stillness by our own clock."""
    clock = [0.0]
    monkeypatch.setattr(ledger_module.time, "monotonic", lambda: clock[0])
    me, ledger.owner = ledger.owner, Owner("elsewhere/boot/pid", 1, 1)
    foreign = ledger.acquire("it")
    here = ledger.owner = me
    assert ledger.acquire("it") is None
    clock[0] += ledger_module.FOREIGN_PATIENCE - 1
    ledger.beat(foreign)
    assert ledger.acquire("it") is None
    clock[0] += ledger_module.FOREIGN_PATIENCE - 1
    assert ledger.acquire("it") is None
    clock[0] += 2
    assert ledger.acquire("it") == Lease("it", foreign.token + 1) and ledger.owner == here


def test_a_stale_controller_cannot_write(ledger, runs_dir):
    """Two controllers: once the second has the lease, the first one's events, beats and releases do nothing."""
    first = ledger.acquire("it")
    ledger.append("by the first", lease=first)
    with Ledger.open(runs_dir) as other:
        other.db.execute("UPDATE leases SET owner = NULL")
        second = other.acquire("it")
        for write in (lambda: ledger.append("late", lease=first), lambda: ledger.beat(first)):
            with pytest.raises(Fenced):
                write()
        ledger.release(first)
        other.append("by the second", lease=second)
    assert [(event.kind, event.token) for event in ledger.events()] == [("by the first", 1), ("by the second", 2)]


def test_a_released_lease_is_free_and_its_token_dead(ledger):
    """After release anybody may have the lease, and its old token writes nothing."""
    first = ledger.acquire("it")
    ledger.release(first)
    with pytest.raises(Fenced):
        ledger.append("late", lease=first)
    assert ledger.acquire("it") == Lease("it", 2)


def test_many_make_one_ledger_and_one_gets_the_lease(runs_dir):
    """Eight at once: one ledger, each lease token is given once, every event is kept."""

    def one(number):
        with Ledger.create(runs_dir) as mine:
            lease = mine.acquire(f"lease {number % 2}")
            mine.append("came", data={"number": number})
            return lease

    with ThreadPoolExecutor(8) as pool:
        leases = list(pool.map(one, range(8)))
    assert sorted(lease.name for lease in leases if lease) == ["lease 0", "lease 1"]
    with Ledger.open(runs_dir) as made:
        assert sorted(event.data["number"] for event in made.events(kind="came")) == list(range(8))


FOREIGN = {
    "a folder with other content": lambda path: (path.mkdir(), (path / "thesis.txt").write_text("mine")),
    "a file": lambda path: path.write_text("mine"),
    "a database of somebody else": lambda path: (path.mkdir(), foreign_database(path / FILE)),
    "a text called ledger.sqlite": lambda path: (path.mkdir(), (path / FILE).write_text("not a database at all" * 99)),
}


def foreign_database(path):
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE theirs (x)")
        db.commit()


@pytest.mark.parametrize("make", FOREIGN.values(), ids=FOREIGN)
def test_what_is_not_ours_is_refused_untouched(runs_dir, make):
    """A runs folder that is not ours raises UsageError, and not a byte or a name in it changes."""
    make(runs_dir)
    before = snapshot(runs_dir)
    for attempt in (check_ownership, Ledger.create):
        with pytest.raises(UsageError, match="--runs-dir"):
            attempt(runs_dir)
    assert snapshot(runs_dir) == before


def snapshot(path):
    if path.is_file():
        return path.read_bytes()
    return {one.name: one.read_bytes() for one in path.iterdir() if not one.name.endswith(("-wal", "-shm"))}


def test_a_ledger_of_another_version_is_refused(ledger, runs_dir):
    """A schema version that we do not know is named, not guessed at."""
    ledger.db.execute("PRAGMA user_version = 99")
    with pytest.raises(LedgerError, match="99"):
        Ledger.open(runs_dir)


def test_an_empty_folder_is_taken(runs_dir):
    """An empty runs folder becomes ours; opening one that was never made says how to make it."""
    with pytest.raises(UsageError, match="submit"):
        Ledger.open(runs_dir)
    runs_dir.mkdir()
    Ledger.create(runs_dir).close()
    assert check_ownership(runs_dir)


def test_a_killed_writer_leaves_whole_events(runs_dir):
    """kill -9 in the middle of writing: the ledger opens, and each event is whole and in order."""
    script = (
        "from pathlib import Path; from orchestrator.ledger.store import Ledger\n"
        f"ledger = Ledger.create(Path({str(runs_dir)!r}))\n"
        "for number in range(10**9): ledger.append('n', data={'number': number})"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT) as writer:
        try:
            until(lambda: written(runs_dir) > 20, "some events")
        finally:
            writer.kill()
    with Ledger.open(runs_dir) as ledger:
        numbers = [event.data["number"] for event in ledger.events()]
        assert numbers == list(range(len(numbers))) and len(numbers) > 20
        ledger.append("and on")


def written(runs_dir):
    try:
        with Ledger.open(runs_dir) as ledger:
            return len(ledger.events())
    except UsageError:  # not made yet
        return 0


FIRST_SCHEMA = SCHEMA.replace(
    "    data TEXT NOT NULL,\n    origin TEXT,\n    origin_seq INTEGER\n", "    data TEXT NOT NULL\n"
)


def first_ledger(runs_dir):
    """A ledger as version 1 made it, with an event."""
    runs_dir.mkdir()
    with contextlib.closing(sqlite3.connect(runs_dir / "ledger.sqlite", isolation_level=None)) as db:
        db.executescript(f"{FIRST_SCHEMA} PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version=1;")
        db.execute("INSERT INTO events (at, kind, data) VALUES ('then', 'old', '{}')")


def test_a_ledger_of_version_1_is_brought_forward(runs_dir):
    """What it holds stays, it gets a name for good, and it takes events of others; a second opening changes nothing."""
    first_ledger(runs_dir)
    with Ledger.open(runs_dir) as ledger, Ledger.open(runs_dir) as again:
        assert [event.kind for event in ledger.events()] == ["old"] and ledger.name == again.name
        assert ledger.replicate("there", ledger.events()) == 1
        made = ledger.db.execute("SELECT sql FROM sqlite_master WHERE type != 'table' ORDER BY name").fetchall()
    with Ledger.create(runs_dir.with_name("new")) as new:
        assert new.db.execute("SELECT sql FROM sqlite_master WHERE type != 'table' ORDER BY name").fetchall() == made


def test_many_processes_bring_a_ledger_forward_once(runs_dir):
    """Openings of a version 1 ledger at once all succeed, and see one name."""
    first_ledger(runs_dir)
    script = (
        "from pathlib import Path; from orchestrator.ledger.store import Ledger\n"
        f"print(Ledger.open(Path({str(runs_dir)!r})).name)"
    )
    them = [subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE) for _ in range(3)]
    assert len({one.communicate()[0] for one in them}) == 1 and all(one.returncode == 0 for one in them)


@settings(max_examples=15)
@given(st.lists(st.lists(st.integers(1, 30), max_size=8), max_size=6))
def test_events_of_another_ledger_are_written_once(pieces):
    """However often and in whatever pieces its events arrive, each is here once, as it was, and no other changes."""
    with tempfile.TemporaryDirectory() as folder, Ledger.create(Path(folder) / "runs") as ledger:
        own = ledger.append("own")
        for piece in pieces:
            ledger.replicate("there", [Event(n, "then", "k", "s", None, None, 3, {"n": n}) for n in piece])
        there = ledger.events(kind="k")
        assert sorted(event.origin_seq for event in there) == sorted(set().union(*pieces))
        assert all((e.at, e.origin, e.data, e.token) == ("then", "there", {"n": e.origin_seq}, 3) for e in there)
        assert [event.seq for event in ledger.events(kind="own")] == [own] and ledger.events()[0].origin is None
