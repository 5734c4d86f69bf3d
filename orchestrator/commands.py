"""The commands that look at what is there: status, logs. Each returns its exit code."""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from golf_core.rundir import LOG
from orchestrator import errors
from orchestrator.attempts import folders_of
from orchestrator.case import lease_of_submission
from orchestrator.cloud.there import was_sent
from orchestrator.errors import UsageError
from orchestrator.grids.status import status_of_grid
from orchestrator.ledger.store import Ledger
from orchestrator.money.spending import Meter, spent_on
from orchestrator.outcome import exit_code_of
from orchestrator.overview import Overview, story, with_collected
from orchestrator.registered import chosen, grids, is_diagnostic, runs_of, spec_of
from orchestrator.settled import Settled
from orchestrator.spec import SUBMISSION_DIGITS
from orchestrator.view import describe, make_view

FOLLOW_SECONDS = 0.5
BLOCK = 1 << 20  # bytes of a log at a time


def status(runs_dir: Path, prefix: str | None, follow: bool, verbose: bool, as_json: bool) -> int:
    with Ledger.open(runs_dir) as ledger:
        if prefix is not None and prefix in grids(ledger):
            return status_of_grid(ledger, prefix, follow, as_json)
        sid = chosen(ledger, prefix)
        spec = spec_of(runs_dir, sid)
        runs = runs_of(spec)
        settled, name = Settled(runs_dir), lease_of_submission(sid)
        overview = Overview(runs_dir, runs, is_diagnostic(spec), Meter(ledger, sid), settled)
        if follow:
            view = make_view(sys.stderr if as_json else sys.stdout)
            try:
                while (holder := ledger.holder(name)) is not None:
                    view.update(overview.rows(controlled=True))
                    time.sleep(FOLLOW_SECONDS)
            finally:
                view.close()
        holder = ledger.holder(name)
        rows = with_collected(overview.rows(controlled=holder is not None), runs_dir / sid[:SUBMISSION_DIGITS])
        settled.save()
        events = story(ledger, sid, {run_id: seed for seed, run_id in runs}) if verbose else []
        spent = spent_on(ledger, sid)
        there = was_sent(ledger, sid) and any(row.state == "running" for row in rows)
    if as_json:
        answer = {
            "schema_version": 1,
            "submission_id": sid,
            "controller_pid": holder.pid if holder is not None else None,
            "seeds": [row.to_dict() for row in rows],
            "cost": None if spent is None else spent.to_dict(),
        }
        print(json.dumps(answer | ({"story": events} if verbose else {}), indent=1))
    else:
        alone = "it goes on on Modal" if there else "not driven by any process"
        who = f"driven by process {holder.pid}" if holder is not None else alone
        print(f"submission {sid[:SUBMISSION_DIGITS]} ({who})")
        cost = [] if spent is None else [f"cost: {spent.describe()}"]
        for line in [describe(row) for row in rows] + events + cost:
            print(line)
    return exit_code_of(row.state for row in rows)


def logs(
    runs_dir: Path,
    prefix: str | None,
    seed: int | None,
    number: int | None,
    follow: bool,
    tail: int | None,
    goes_on: Callable[[], bool] | None = None,
) -> int:
    """`goes_on`: whether it is still being written, where no process of this machine drives it."""
    with Ledger.open(runs_dir) as ledger:
        sid = chosen(ledger, prefix)
        runs = dict(runs_of(spec_of(runs_dir, sid)))
        if seed is None and len(runs) > 1:
            raise UsageError(f"--seed is needed; there are {', '.join(map(str, runs))}")
        seed = next(iter(runs)) if seed is None else seed
        if seed not in runs:
            raise UsageError(f"--seed {seed} is not of this submission; there are {', '.join(map(str, runs))}")
        folders = dict(folders_of(runs_dir, runs[seed]))
        if not folders:
            raise UsageError(f"seed {seed} has no attempt yet")
        number = max(folders) if number is None else number
        if number not in folders:
            raise UsageError(f"--attempt {number}: there are {', '.join(map(str, folders))}")
        path = folders[number] / LOG
        offset = _write_from(path, 0 if tail is None else start_of_last(path, tail))
        driven = goes_on or (lambda: ledger.holder(lease_of_submission(sid)) is not None)
        while follow and driven():
            time.sleep(FOLLOW_SECONDS)
            offset = _write_from(path, offset)
        if follow:
            _write_from(path, offset)
    return errors.OK


def start_of_last(path: Path, lines: int) -> int:
    """Where the last lines of a file begin, read from its end: a log may be long."""
    if not path.exists():
        return 0
    with path.open("rb") as file:
        size = start = file.seek(0, os.SEEK_END)
        left = lines
        while left > 0 and start > 0:
            end, start = start, max(0, start - BLOCK)
            file.seek(start)
            block = file.read(end - start)
            at = len(block)
            while (at := block.rfind(b"\n", 0, at)) >= 0:
                if start + at + 1 < size and not (left := left - 1):  # behind the file's last byte no line begins
                    return start + at + 1
    return start


def _write_from(path: Path, offset: int) -> int:
    """Pass on what a file holds from there on, a block at a time; where it ended."""
    if not path.exists():
        return offset
    with path.open("rb") as file:
        file.seek(min(offset, path.stat().st_size))
        while block := file.read(BLOCK):
            sys.stdout.buffer.write(block)
        sys.stdout.buffer.flush()
        return file.tell()
