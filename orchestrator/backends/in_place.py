"""What backends of this machine share: the attempt folder is where it was made, so its log is a file beside us."""

from pathlib import Path

from golf_core.rundir import LOG
from orchestrator.backends.base import Handle, JobLost


def read_log(attempts: Path, handle: Handle, since: int) -> bytes:
    """The attempt's log from byte `since` on; empty where there is none yet."""
    path = attempts / str(handle["attempt_id"]) / LOG
    if not path.exists():
        return b""
    with path.open("rb") as file:
        file.seek(since)
        return file.read()


def check_in_place(attempts: Path, handle: Handle, into: Path) -> None:
    """Raises JobLost where the attempt is wanted elsewhere than where it lies."""
    folder = attempts / str(handle["attempt_id"])
    if into.resolve() != folder:
        raise JobLost(f"{handle['attempt_id']} lies in {folder}, not in {into}")
