"""How a whole grid stands, a line a variant. `status NAME` finds it by the event that its submit wrote, the last of a
name; each variant has its own `status` too, being a submission."""

import json
import sys
import time
import typing
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from golf_core.rundir import RunDirError
from orchestrator.attempts import numbers_by_run
from orchestrator.case import lease_of_submission
from orchestrator.ledger.store import Ledger
from orchestrator.outcome import exit_code_of
from orchestrator.overview import Overview, Row, with_collected
from orchestrator.registered import grids, is_diagnostic, runs_of, spec_of
from orchestrator.settled import Settled
from orchestrator.spec import SUBMISSION_DIGITS

FOLLOW_SECONDS = 2.0


class GridOverview:
    """Remembers what cannot change any more, as Overview does for one submission."""

    def __init__(self, runs_dir: Path, submission_ids: Sequence[str]) -> None:
        self.runs_dir = runs_dir
        self.settled = Settled(runs_dir)
        self.names: dict[str, str] = {}  # submission id -> recipe
        self._overviews: dict[str, Overview] = {}
        for sid in submission_ids:
            try:
                spec = spec_of(runs_dir, sid)
            except RunDirError:  # moved away
                continue
            self.names[sid] = spec["recipe"]
            self._overviews[sid] = Overview(runs_dir, runs_of(spec), is_diagnostic(spec), settled=self.settled)

    def rows(self, ledger: Ledger) -> dict[str, list[Row]]:
        there = numbers_by_run(self.runs_dir)
        rows = {
            sid: with_collected(
                overview.rows(ledger.holder(lease_of_submission(sid)) is not None, there=there),
                self.runs_dir / sid[:SUBMISSION_DIGITS],
            )
            for sid, overview in self._overviews.items()
        }
        self.settled.save()
        return rows


def status_of_grid(ledger: Ledger, name: str, follow: bool, as_json: bool) -> int:
    """Print it; the exit code is that of `status` over all runs."""
    overview = GridOverview(ledger.path.parent, grids(ledger)[name])
    last = ""
    while follow and any(ledger.holder(lease_of_submission(sid)) is not None for sid in overview.names):
        head = describe(name, overview, overview.rows(ledger))[0]
        if head != last:
            print(head, file=sys.stderr if as_json else sys.stdout, flush=True)
        last = head
        time.sleep(FOLLOW_SECONDS)
    rows = overview.rows(ledger)
    if as_json:
        print(json.dumps(to_dict(name, overview, rows), indent=1))
    else:
        print("\n".join(describe(name, overview, rows)))
    return exit_code_of(row.state for own in rows.values() for row in own)


def describe(name: str, overview: GridOverview, rows: typing.Mapping[str, Sequence[Row]]) -> list[str]:
    """For the eye: how many runs are in which state, then a line a variant."""
    states = Counter(row.state for one in rows.values() for row in one)
    width = max((len(recipe) for recipe in overview.names.values()), default=0)
    runs = sum(states.values())
    lines = [f"grid {name}: {len(rows)} variants, {runs} runs: {_told(states)}"]
    for sid, own in rows.items():
        bpb = [row.progress.bpb for row in own if row.state == "done" and row.progress.bpb is not None]
        scores = f" · BPB {', '.join(f'{one:.4f}' for one in bpb)}" if bpb else ""
        stamp = " (diagnostic)" if bpb and any(row.diagnostic_only for row in own) else ""
        short = sid[:SUBMISSION_DIGITS]
        lines.append(
            f"{overview.names[sid]:<{width}}  {short}  {_told(Counter(row.state for row in own))}{scores}{stamp}"
        )
    return lines


def to_dict(name: str, overview: GridOverview, rows: typing.Mapping[str, Sequence[Row]]) -> dict[str, typing.Any]:
    told = [
        {"submission_id": sid, "recipe": overview.names[sid], "seeds": [row.to_dict() for row in own]}
        for sid, own in rows.items()
    ]
    return {"schema_version": 1, "grid": name, "submissions": told}


def _told(states: typing.Mapping[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
