"""The tables of a grid's variants, made one after another beside what still runs."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from orchestrator.finish import finish
from orchestrator.ledger.store import Ledger
from orchestrator.outcome import Outcome
from orchestrator.registered import submission_of


class Tables:
    """A thread with a ledger of its own: to open one reads all of it, so that it is opened once."""

    def __init__(self, runs_dir: Path, quiet: bool) -> None:
        self.runs_dir, self.quiet = runs_dir, quiet
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tables")
        self._ledger: Ledger | None = None
        self._ended: dict[str, Future[Outcome]] = {}

    def make(self, submission_id: str) -> None:
        self._ended[submission_id] = self._thread.submit(self._make, submission_id)

    def _make(self, submission_id: str) -> Outcome:
        if self._ledger is None:
            self._ledger = Ledger.open(self.runs_dir)
        return finish(submission_of(self.runs_dir, submission_id), self._ledger, self.quiet)

    def outcomes(self, submission_ids: Sequence[str]) -> list[Outcome]:
        """Waits for all of them."""
        return [self._ended[sid].result() for sid in submission_ids]

    def begun(self, submission_ids: Sequence[str]) -> list[Outcome]:
        """Of those that were begun; the others are not made any more."""
        left = [self._ended[sid] for sid in submission_ids if sid in self._ended and not self._ended[sid].cancel()]
        return [future.result() for future in left if future.exception() is None]

    def __enter__(self) -> "Tables":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.submit(self._close)  # where it was opened: SQLite's connections are of their thread
        self._thread.shutdown()

    def _close(self) -> None:
        if self._ledger is not None:
            self._ledger.close()
