"""What must hold after every fault, whoever caused it: I1 to I6 of the list of faults, looked at from outside.

Nothing here asks the orchestrator how it thinks it stands: attempt folders, seals, tables, the ledger's file and the
process table are read.
"""

import csv
import json
import sqlite3
from pathlib import Path

from golf_core.rundir import SCORES, SEAL, VOID, read_json, verify_seal
from tests.orchestrator.toy import MARK
from tests.processes import carrying, command_line, until

SIDS = "[0-9a-f]" * 12


def spec_of(runs_dir):
    (path,) = runs_dir.glob(f"{SIDS}/spec.json")
    return read_json(path)


def counted_folders(runs_dir):
    """run_id -> its attempt folders that are sealed, whole and not void."""
    found = {}
    for folder in sorted((runs_dir / "attempts").glob("[0-9a-f]*-a*")):
        if (folder / VOID).exists() or not (folder / SEAL).exists():
            continue
        verify_seal(folder)  # I2: raises where a sealed file is not what was sealed
        asked = read_json(folder / "run.json")
        assert asked["attempt_id"] == folder.name and asked["run_id"].startswith(folder.name.rpartition("-a")[0])
        found.setdefault(asked["run_id"], []).append(folder)
    return found


def scores_of(runs_dir):
    """seed -> bytes of scores.json of the counted attempt: what a step-limited run must always give again."""
    seeds = {run["run_id"]: run["seed"] for run in spec_of(runs_dir)["runs"]}
    return {seeds[run]: (folders[0] / SCORES).read_bytes() for run, folders in counted_folders(runs_dir).items()}


def expected(scores, text, *seeds):
    """The scores of the same seeds (or of these alone) by another text of the toy, which tells its own length."""
    length = len(text.encode())
    return {
        seed: json.dumps(json.loads(data) | {"code_bytes": length}).encode()
        for seed, data in scores.items()
        if not seeds or seed in seeds
    }


def tables_of(runs_dir):
    """The submission's scores.csv; None where no tables were made."""
    found = list(runs_dir.glob(f"{SIDS}/scores.csv"))
    return found[0].read_bytes() if found else None


def check(runs_dir, scores, table=None, mark=None, patience=10.0):
    """All of it. `scores` and `table` are those of the undisturbed submission; `mark` is on every process of ours."""
    runs_dir = Path(runs_dir)
    spec = spec_of(runs_dir)
    folders = counted_folders(runs_dir)
    assert {run["run_id"] for run in spec["runs"]} == set(folders), "I1: a seed without a counted attempt"
    assert all(len(found) == 1 for found in folders.values()), f"I1: {folders}"
    assert scores_of(runs_dir) == scores, "I4: other scores than undisturbed"
    _tables(runs_dir, folders, table)
    _ledger(runs_dir, spec["submission_id"], {run: found[0].name for run, found in folders.items()})
    if mark is not None:

        def left():
            return [command_line(pid) for pid in carrying(MARK, mark)]

        until(lambda: not carrying(MARK, mark), f"I5: left behind: {left()}", patience)


def _tables(runs_dir, folders, table):
    made = tables_of(runs_dir)
    if table is not None:
        assert made == table, "I4: scores.csv is not the undisturbed one"
    if made is None:
        return
    rows = list(csv.DictReader(made.decode().splitlines()))
    sealed = {str(read_json(found[0] / "run.json")["seed"]): read_json(found[0] / SCORES) for found in folders.values()}
    for row in rows:  # I2, I3: every number is that of the sealed file
        scores = sealed[row["seed"]]
        stage = scores["stages"][scores["final_stage"]]
        assert float(row["val_bpb"]) == stage["val_bpb"], f"I2: {row}"


def ledger_rows(runs_dir):
    """(seq, kind, submission_id, run_id, attempt_id, lease, token, data) of every event."""
    with sqlite3.connect(f"file:{runs_dir / 'ledger.sqlite'}?mode=ro", uri=True) as db:
        columns = "seq, kind, submission_id, run_id, attempt_id, lease, token, data"
        rows = db.execute(f"SELECT {columns} FROM events ORDER BY seq").fetchall()
    db.close()
    return rows


def _ledger(runs_dir, submission_id, counted):
    """Fencing: no token of a lease writes after a later one has. What is called counted is what is counted, and another
    one is so only after the first was voided."""
    last, told, registered = {}, {}, set()
    for _, kind, submission, run, attempt, lease, token, data in ledger_rows(runs_dir):
        json.loads(data)
        if kind == "submission_registered":
            registered.add(submission)
        if lease is not None:
            assert token >= last.get(lease, 0), f"a stale token of {lease} has written"
            last[lease] = token
        if kind == "attempt_counted":
            assert told.get(run) in (None, attempt), f"I1: {told[run]} and {attempt} are counted"
            told[run] = attempt
        if kind == "attempt_voided" and told.get(run) == attempt:
            del told[run]
    assert submission_id in registered, "the submission is not in the ledger: no command would find it"
    for run, attempt in told.items():
        assert counted.get(run, attempt) == attempt, f"I1: the ledger counts {attempt}"
