"""A submission as it stands: one row a seed, from the attempt folders and the ledger. Used by every view."""

import csv
import typing
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from golf_core.rundir import SCORES, VOID, RunDirError, read_json
from orchestrator.attempts import ATTEMPTS, NODE, Attempt, counted, inspect, key_of, numbers_by_run
from orchestrator.ledger.store import Event, Ledger
from orchestrator.money.budget import RESERVED
from orchestrator.money.spending import Meter, money_sentence
from orchestrator.policy import OUTSIDE
from orchestrator.progress import Progress, Tail
from orchestrator.script import SCRIPT_STAGE
from orchestrator.settled import Settled
from orchestrator.spec import attempt_id

SCORES_CSV = "scores.csv"  # written by results, a line a seed
FINAL = ("done", "failed", "stopped")


@dataclass(frozen=True)
class Row:
    """`state`: queued, running, waiting (between attempts), done, failed, stopped (resumable by the same submit)."""

    seed: int
    run_id: str
    state: str
    attempt: int
    attempts: int
    note: str
    progress: Progress
    folder: Path | None
    diagnostic_only: bool = False  # no BPB of it is a score
    score: float | None = None  # BPB that `results collect` has read in the log of a script
    usd: float | None = None  # so far; None: nothing is paid for

    def to_dict(self) -> dict[str, typing.Any]:
        folder = str(self.folder) if self.folder else None
        return asdict(self) | {"progress": self.progress.to_dict(), "folder": folder}

    @classmethod
    def from_dict(cls, told: typing.Mapping[str, typing.Any]) -> "Row":
        """Of a row that another machine told."""
        folder = None if told["folder"] is None else Path(told["folder"])
        return cls(**{**told, "progress": Progress(**told["progress"]), "folder": folder})


class Overview:
    """Remembers what cannot change any more, so that looking often is cheap."""

    def __init__(
        self,
        runs_dir: Path,
        runs: Sequence[tuple[int, str]],
        diagnostic_only: bool = False,
        meter: Meter | None = None,
        settled: Settled | None = None,
    ) -> None:
        """`settled`: what is known of attempts from earlier looks; else all that is sealed is read once."""
        self.runs_dir, self.runs, self.diagnostic_only, self.settled = runs_dir, runs, diagnostic_only, settled
        self._counted_or_void: dict[Path, Attempt] = {}
        self._tails: dict[Path, Tail] = {}
        self._done: dict[str, Row] = {}
        self.meter = meter

    def rows(
        self,
        controlled: bool,
        notes: typing.Mapping[int, str] | None = None,
        there: typing.Mapping[str, Sequence[int]] | None = None,
    ) -> list[Row]:
        """`controlled`: somebody drives the submission now. `notes`: what that somebody says of a seed. `there`: what
        `numbers_by_run` tells, where it was asked already."""
        there = numbers_by_run(self.runs_dir) if there is None else there
        rows = [
            self._row(seed, run_id, controlled, (notes or {}).get(seed, ""), there.get(key_of(run_id), ()))
            for seed, run_id in self.runs
        ]
        cost = self.meter() if self.meter is not None else {}
        return [replace(row, usd=cost.get(row.run_id)) for row in rows] if cost else rows

    def _row(self, seed: int, run_id: str, controlled: bool, note: str, numbers: Sequence[int]) -> Row:
        done = self._done.get(run_id)
        if (
            done is not None
            and done.attempts == len(numbers)
            and not (self.runs_dir / ATTEMPTS / attempt_id(run_id, done.attempt) / VOID).exists()
        ):
            return done
        folders = [(number, self.runs_dir / ATTEMPTS / attempt_id(run_id, number)) for number in numbers]
        attempts = [self._inspect(folder, number) for number, folder in folders if folder.is_dir()]
        shown = counted(attempts) or (attempts[-1] if attempts else None)
        if shown is None:
            return Row(seed, run_id, "queued" if controlled else "stopped", 0, 0, note, Progress(), None)
        state, why = _state(shown, controlled)
        if state == "done":
            progress, diagnostic = self._final(shown.folder)
        else:
            progress, diagnostic = self._tails.setdefault(shown.folder, Tail(shown.folder)).read(), False
        said = why if state == "done" else why or note
        diagnostic = diagnostic or self.diagnostic_only
        row = Row(seed, run_id, state, shown.number, len(attempts), said, progress, shown.folder, diagnostic)
        if state == "done":  # nothing of it changes any more: neither its files nor its tail are kept in mind
            self._done[run_id] = row
            for attempt in attempts:
                self._counted_or_void.pop(attempt.folder, None)
                self._tails.pop(attempt.folder, None)
        return row

    def _final(self, folder: Path) -> tuple[Progress, bool]:
        """How far a counted attempt came, and whether it says that its scores are none."""
        if self.settled is not None and (kept := self.settled.shown(folder)) is not None:
            return Progress(**kept["progress"]), kept["diagnostic"] is True
        progress, diagnostic = self._tails.setdefault(folder, Tail(folder)).read(), is_diagnostic(folder)
        if self.settled is not None:
            self.settled.keep(folder, {"progress": progress.to_dict(), "diagnostic": diagnostic})
        return progress, diagnostic

    def _inspect(self, folder: Path, number: int) -> Attempt:
        known = self._counted_or_void.get(folder)
        if known is not None and (known.state == "void" or not (folder / VOID).exists()):
            return known
        attempt = inspect(folder, number) if self.settled is None else self.settled.inspect(folder, number)
        if attempt.state in ("counted", "void"):
            self._counted_or_void[folder] = attempt
        return attempt


def final_score(folder: Path) -> float | None:
    """The BPB that a counted attempt claims; None where it claims none that can be read."""
    scores = _scores(folder)
    stages = scores.get("stages")
    stage = stages.get(scores.get("final_stage")) if isinstance(stages, dict) else None
    bpb = stage.get("val_bpb") if isinstance(stage, dict) else None
    return float(bpb) if isinstance(bpb, int | float) and not is_diagnostic(folder) else None


def with_collected(rows: Sequence[Row], submission: Path) -> list[Row]:
    """The rows with the scores that `results collect` wrote beside spec.json. A script's log is read there alone, and
    what a script printed last is no result; without the table nothing is shown."""
    told: dict[str, str] = {}
    try:
        with (submission / SCORES_CSV).open(encoding="utf-8", newline="") as file:
            told = {str(line.get("seed")): str(line.get("val_bpb")) for line in csv.DictReader(file)}
    except (OSError, ValueError, csv.Error):
        pass
    return [replace(row, score=_number(told.get(str(row.seed)))) if row.state == "done" else row for row in rows]


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if 0 < number < 1e9 else None


def is_diagnostic(folder: Path) -> bool:
    """Whether a counted attempt says of itself that its scores are none."""
    return _scores(folder).get("diagnostic_only") is True


def _scores(folder: Path) -> dict[str, typing.Any]:
    try:
        return read_json(folder / SCORES)
    except RunDirError:
        return {}


def _state(attempt: Attempt, controlled: bool) -> tuple[str, str]:
    if attempt.state == "counted":
        return "done", attempt.message
    if attempt.state == "busy":
        return "running", ""
    if attempt.state == "lost" and controlled:  # its worker has not begun yet, or its end was not noticed yet
        return "running", ""
    if attempt.state == "lost" and (host := _sent_to(attempt.folder)):
        told = f"attempt {attempt.number} was sent to {host} and may go on there"
        return "stopped", f"{told}; the same submit looks for it, `cancel` ends it"
    why = f"{attempt.cls}: {attempt.message}".rstrip(": ")
    if attempt.cls not in OUTSIDE and attempt.state != "void":
        return "failed", why
    return ("waiting", why) if controlled else ("stopped", f"{_fate(attempt)} ({why}); the same submit goes on")


def _sent_to(folder: Path) -> str:
    """The node of a cluster that an attempt was sent to; empty where it was not."""
    try:
        return str(read_json(folder / NODE).get("host", ""))
    except RunDirError:
        return ""


def _fate(attempt: Attempt) -> str:
    """What becomes of an attempt that ended for an outside reason: a sealed training is never thrown away."""
    if attempt.state != "void" and attempt.train_sealed and attempt.stage == "evaluate":
        return f"attempt {attempt.number} was cut off in evaluate, its training is sealed"
    return f"attempt {attempt.number} is void"


def story(ledger: Ledger, submission_id: str, seeds: typing.Mapping[str, int]) -> list[str]:
    """The history of a submission in sentences, a line an event. `seeds` maps run ids to seeds."""
    events = [e for e in ledger.events(submission_id=submission_id)]
    known = {event.seq for event in events}
    for run_id in seeds:  # what other submissions did to a run that is also ours
        events += [e for e in ledger.events(run_id=run_id) if e.seq not in known]
    lines, told = [], set[str]()
    for event in sorted(events, key=lambda e: e.seq):
        if (same := _in_both_ledgers(event)) is not None:
            if same in told:
                continue
            told.add(same)
        number = (event.attempt_id or "").rpartition("-a")[2]
        data = event.data
        why = f"{data.get('class', '')} in {data.get('stage', '')}".removesuffix(" in ")
        said = f" ({data['message']})" if data.get("message") else ""
        sentence = {
            "submission_registered": "registered",
            "submit": f"a controller began on {data.get('backend')} (process {data.get('pid')})",
            "attempt_started": f"attempt {number} started {_gerund(data.get('stage'))}{_on(data)}",
            "attempt_adopted": f"attempt {number} is taken over{_on(data)}: it did not need its controller",
            "attempt_ended": f"attempt {number} ended{_on(data)}: {why}{said}",
            "attempt_voided": f"attempt {number} is void: {why}{said}",
            "attempt_counted": f"attempt {number} is counted",
            "cancel_requested": f"cancel was asked for seeds {', '.join(map(str, data.get('seeds', [])))}",
            "submission_interrupted": _interruption(data.get("seeds")),
            "submission_detached": "the controller ended; what runs there goes on without it",
            "submission_ended": "the controller ended",
        }.get(event.kind) or money_sentence(event.kind, data)
        if sentence is not None:
            seed = seeds.get(event.run_id or "")
            who = "" if seed is None else f"seed {seed}: "
            lines.append(f"{event.at}  {who}{sentence}")
    return lines


def _in_both_ledgers(event: Event) -> str | None:
    """A name for what the machine that submits and the cluster's head write each for itself; None for all else."""
    if event.kind == RESERVED:
        return str(event.data["terms"]["reservation"])
    return event.kind if event.kind == "submission_registered" else None


def _on(data: typing.Mapping[str, typing.Any]) -> str:
    """Of a cluster, where it runs or ran.

    >>> _on({"handle": {"host": "gpu-3"}}), _on({"host": "gpu-3"}), _on({"handle": {"pid": 7}})
    (' on gpu-3', ' on gpu-3', '')
    """
    handle = data.get("handle")
    host = handle.get("host") if isinstance(handle, dict) else data.get("host")
    return f" on {host}" if host else ""


def _interruption(seeds: typing.Any) -> str:
    """
    >>> _interruption([2])
    'the submit was interrupted while seed 2 ran; the same submit goes on'
    """
    running = ", ".join(str(seed) for seed in seeds) if isinstance(seeds, list) else ""
    return f"the submit was interrupted{f' while seed {running} ran' if running else ''}; the same submit goes on"


def _gerund(stage: typing.Any) -> str:
    return {"train": "training", "evaluate": "evaluating", SCRIPT_STAGE: "running"}.get(str(stage), str(stage))
