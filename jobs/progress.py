"""Progress of a long job on stderr: one live line on a terminal, else a line every few seconds."""

import collections
import os
import sys
import time

EVERY_SECONDS = 5.0  # between two lines where nobody watches
LIVE_SECONDS = 0.2
WINDOW_SECONDS = 15.0  # that a rate is the mean of


class ProgressLine:
    def __init__(self) -> None:
        self.live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self.shown = time.monotonic()
        self.drawn = False
        self.samples: collections.deque[tuple[float, int]] = collections.deque()

    def say(self, text: str) -> None:
        """A line that stays."""
        self.end()
        print(text, file=sys.stderr, flush=True)

    def show(self, text: str, moved: int = 0, left: int = 0) -> None:
        """How far the job is: `text`, and the rate and time left of `left` bytes, after `moved` of them in this job."""
        now = time.monotonic()
        if self.samples and moved < self.samples[-1][1]:
            self.samples.clear()  # another job, or bytes that were of no use
        self.samples.append((now, moved))
        while now - self.samples[0][0] > WINDOW_SECONDS:
            self.samples.popleft()
        if now - self.shown < (LIVE_SECONDS if self.live else EVERY_SECONDS):
            return
        self.shown = now
        seconds = now - self.samples[0][0]
        rate = (moved - self.samples[0][1]) / seconds if seconds else 0.0
        if rate and left:
            text += f", {size_text(rate)}/s, {duration_text(left / rate)} left"
        if self.live:
            width = (os.get_terminal_size(sys.stderr.fileno()).columns or 80) - 1  # a terminal may not know its own
            print(f"\r{text[:width]}\x1b[K", end="", file=sys.stderr, flush=True)
            self.drawn = True
        else:
            print(text, file=sys.stderr, flush=True)

    def end(self) -> None:
        """Take the live line away, so that what follows starts on a line of its own."""
        if self.drawn:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self.drawn = False


def size_text(count: float) -> str:
    """Bytes in decimal units.

    >>> size_text(999), size_text(200_001_024), size_text(16_122_600_000)
    ('999 B', '200.0 MB', '16.1 GB')
    """
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count:.0f} B"


def duration_text(seconds: float) -> str:
    """Seconds as people say them.

    >>> duration_text(8.4), duration_text(187), duration_text(7300)
    ('8 s', '3 min 7 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
