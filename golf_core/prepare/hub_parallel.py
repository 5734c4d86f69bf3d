"""Many files at once, with one place that tells how far they are.

Threads, since they wait for the network; daemons, so that one that waits for a silent hub cannot hold up an end.
"""

import queue
import threading
import time
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass

PULSE_SECONDS = 0.25  # between two reports
JOIN_SECONDS = 1.0  # for all threads to notice that they should end

Item = typing.TypeVar("Item")


@dataclass(frozen=True)
class FetchProgress:
    """How far a fetch is. Bytes that were there before count as done, never as fetched."""

    doing: str  # "fetching" or "checking"
    done: int  # bytes
    total: int
    fetched: int = 0  # bytes that came over the network
    files_done: int = 0
    files: int = 0


FetchEvent = str | FetchProgress


class FetchTally:
    """Counts what several threads bring."""

    def __init__(self, total: int, files: int) -> None:
        self.total, self.files = total, files
        self.done = self.fetched = self.files_done = 0
        self.lock = threading.Lock()

    def resumed(self, count: int) -> None:
        """Bytes of a file that were there already; negative: they were of no use."""
        with self.lock:
            self.done += count

    def arrived(self, count: int) -> None:
        with self.lock:
            self.done += count
            self.fetched += count

    def finished(self) -> None:
        with self.lock:
            self.files_done += 1

    def progress(self) -> FetchProgress:
        with self.lock:
            return FetchProgress("fetching", self.done, self.total, self.fetched, self.files_done, self.files)


def in_parallel(
    work: Callable[[Item], None],
    items: Sequence[Item],
    workers: int,
    stop: threading.Event,
    pulse: Callable[[], None],
) -> None:
    """`work` on every item, `workers` at once; `pulse` is called by this thread while it waits.

    The first error sets `stop`, which `work` heeds, and is raised."""
    waiting: queue.SimpleQueue[Item] = queue.SimpleQueue()
    ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    for item in items:
        waiting.put(item)

    def worker() -> None:
        while not stop.is_set():
            try:
                work(waiting.get_nowait())
            except queue.Empty:
                return
            except BaseException as error:
                ended.put(error)
                return
            ended.put(None)

    threads = [threading.Thread(target=worker, daemon=True) for _ in range(min(workers, len(items)))]
    for thread in threads:
        thread.start()
    left = len(items)
    try:
        while left:
            try:
                error = ended.get(timeout=PULSE_SECONDS)
            except queue.Empty:
                pulse()
                continue
            if error is not None:
                raise error
            left -= 1
        pulse()
    finally:
        stop.set()
        until = time.monotonic() + JOIN_SECONDS
        for thread in threads:
            thread.join(timeout=max(0.0, until - time.monotonic()))
