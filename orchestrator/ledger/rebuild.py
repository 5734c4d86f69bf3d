"""A new ledger in place of a damaged one: from the events that are certainly as they were written, and from evidence.

What is certain are the first events, as far as their chain of digests holds. What they do not tell of the submissions
and attempts that lie in the folder is added from spec.json, run.json, void marks, results and seals; nothing else is.
Leases come back without an owner, so that whoever held one must take it anew. The damaged file is kept aside.
"""

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from golf_core.rundir import write_bytes
from orchestrator.attempts import Attempt, inspect
from orchestrator.errors import BackendFailure
from orchestrator.ledger.chain import COLUMNS, TIP, Row, kept, mark_leases
from orchestrator.ledger.runs_folder import attempts_in, submissions_in
from orchestrator.ledger.schema import APPLICATION_ID
from orchestrator.ledger.store import FILE, Damaged, Ledger, check_ownership, making
from orchestrator.money.budget import REBUILT

ASIDE = "ledger.damaged-"  # the beginning of the names that a damaged ledger is kept under
PARTS = (FILE, f"{FILE}-wal", f"{FILE}-shm", TIP)
USER_PATIENCE = 5.0  # seconds for others to be done with the damaged one


def mend(runs_dir: Path, tell: Callable[[str], None]) -> None:
    """See to it that the ledger of a runs folder can be opened, if that has one or ought to."""
    if not check_ownership(runs_dir):
        return
    try:
        Ledger.open(runs_dir).close()
        return
    except Damaged as error:
        tell(str(error))
    with making(runs_dir):
        with contextlib.suppress(Damaged):
            Ledger.open(runs_dir).close()  # another process was quicker
            return
        _refuse_while_used(runs_dir)
        aside = _aside(runs_dir)
        events = _kept(aside) if aside is not None else []
        Ledger.make(runs_dir, lambda ledger: _fill(ledger, runs_dir, events, aside))
    with Ledger.open(runs_dir) as ledger:
        told = ledger.events(kind=REBUILT)[-1].data
    where = f"; the damaged one is kept as {told['damaged']}" if aside is not None else ""
    tell(f"a new ledger: {told['kept']} events kept, {told['added']} added from what lies in {runs_dir}{where}")


def _refuse_while_used(runs_dir: Path) -> None:
    """A process that still works with the damaged file would know nothing of the new one."""
    until = time.monotonic() + USER_PATIENCE
    while users := _users(str((runs_dir / FILE).resolve())):
        if time.monotonic() > until:
            them = ", ".join(map(str, sorted(users)))
            raise BackendFailure(
                f"{runs_dir / FILE} is damaged, and process {them} still works with it: end it, then submit again"
            )
        time.sleep(0.1)


def _users(path: str) -> set[int]:
    """Processes of this machine, other than this one, that have the file open."""
    users = set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        if int(name) != os.getpid() and path in map(_target, _descriptors(name)):
            users.add(int(name))
    return users


def _descriptors(process: str) -> list[str]:
    try:
        return [f"/proc/{process}/fd/{number}" for number in os.listdir(f"/proc/{process}/fd")]
    except OSError:  # it has ended, or is somebody else's
        return []


def _target(descriptor: str) -> str:
    try:
        return os.readlink(descriptor).removesuffix(" (deleted)")
    except OSError:
        return ""


def _aside(runs_dir: Path) -> Path | None:
    """A copy of the damaged ledger under another name; None where it is gone altogether."""
    if not (runs_dir / FILE).exists():
        return None
    number = 1
    while (runs_dir / f"{ASIDE}{number}.sqlite").exists():
        number += 1
    aside = runs_dir / f"{ASIDE}{number}.sqlite"
    for name in PARTS:
        if (runs_dir / name).exists():
            suffix = ".tip" if name == TIP else name.removeprefix(FILE)
            write_bytes(aside.with_name(aside.name + suffix), (runs_dir / name).read_bytes())
    return aside


def _kept(aside: Path) -> list[Row]:
    """From a copy of the copy: SQLite writes where it recovers what was under way."""
    scratch = aside.with_name(f".{aside.name}.{os.getpid()}")
    try:
        for suffix in ("", "-wal"):
            if (part := aside.with_name(aside.name + suffix)).exists():
                Path(f"{scratch}{suffix}").write_bytes(part.read_bytes())
        with contextlib.closing(sqlite3.connect(scratch, isolation_level=None)) as db:
            return kept(db) if db.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID else []
    except sqlite3.DatabaseError:
        return []
    finally:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{scratch}{suffix}").unlink(missing_ok=True)


def _fill(ledger: Ledger, runs_dir: Path, events: list[Row], aside: Path | None) -> None:
    began = time.monotonic()
    marks = ", ".join("?" * len(COLUMNS.split(",")))
    tokens: dict[str, int] = {}
    for row in events:
        if row[6] is not None:
            tokens[row[6]] = max(tokens.get(row[6], 0), row[7])
    with ledger.transaction():
        ledger.db.executemany(f"INSERT INTO events ({COLUMNS}) VALUES ({marks})", events)
        ledger.db.executemany("INSERT INTO leases VALUES (?, ?, NULL, 0)", tokens.items())
        mark_leases(ledger.db)
    known = {(row[2], row[3] if row[2] == "submission_registered" else row[5]) for row in events}
    added = _registered(ledger, runs_dir, known) + _attempts(ledger, runs_dir, known)
    data = {
        "unpriced": _unpriced(runs_dir, known),
        "kept": len(events),
        "added": added,
        "damaged": aside.name if aside is not None else None,
        "seconds": round(time.monotonic() - began, 3),
    }
    ledger.append(REBUILT, data=data)


Known = set[tuple[str, str | None]]  # (kind, submission or attempt) of events that are there


def _registered(ledger: Ledger, runs_dir: Path, known: Known) -> int:
    added = 0
    for spec in submissions_in(runs_dir):
        sid = spec["submission_id"]
        if ("submission_registered", sid) not in known:
            data = {key: spec.get(key) for key in ("recipe", "overrides", "seeds")}
            ledger.append("submission_registered", submission_id=sid, data=data | {"rebuilt": True})
            added += 1
    return added


def _unpriced(runs_dir: Path, known: Known) -> int:
    """Attempts on GPUs that no event tells to have begun: what they cost went with the events."""
    found = [folder for folder, asked in attempts_in(runs_dir) if (asked.get("target") or {}).get("gpus")]
    return sum(("attempt_starting", folder.name) not in known for folder in found)


def _attempts(ledger: Ledger, runs_dir: Path, known: Known) -> int:
    """What each attempt folder shows; of two whole ones of a run the first is the one that counts."""
    added, counting = 0, set()
    for folder, asked in sorted(attempts_in(runs_dir), key=lambda one: int(one[1]["attempt"])):
        attempt = inspect(folder, int(asked["attempt"]))
        for kind, data in shown(attempt).items():
            if kind == "attempt_counted" and asked["run_id"] in counting:
                continue
            if kind == "attempt_counted":
                counting.add(asked["run_id"])
            if (kind, folder.name) in known:
                continue
            ids = {"submission_id": asked.get("submission_id"), "run_id": asked["run_id"]}
            ledger.append(kind, **ids, attempt_id=folder.name, data={**data, "rebuilt": True})
            added += 1
    return added


def shown(attempt: Attempt) -> Mapping[str, Mapping[str, object]]:
    """The events that the folder itself proves, in their order."""
    events: dict[str, dict[str, object]] = {"attempt_created": {}}
    if attempt.state == "counted":
        events["attempt_counted"] = {}
    elif attempt.state == "void":
        events["attempt_voided"] = {"class": attempt.cls, "message": attempt.message}
    elif attempt.state in ("failed", "damaged"):
        events["attempt_ended"] = {"class": attempt.cls, "stage": attempt.stage, "message": attempt.message}
    return events
