"""Which window scores which target: the exactly-once rule of sliding evaluation.

Target i (0-based) is token i + 1 of the stream; its input is token i.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class ScoreWindow:
    """Reads tokens [start, stop) and scores the targets [first, stop)."""

    start: int
    stop: int
    first: int


def score_windows(targets: int, seq_len: int, stride: int) -> list[ScoreWindow]:
    """Windows over `targets` targets; every target is scored once, and after the first window each has at
    least seq_len - stride tokens before it."""
    if targets <= 0:
        return []
    windows = [ScoreWindow(0, min(seq_len, targets), 0)]
    start = stride
    while start + seq_len - stride < targets:
        windows.append(ScoreWindow(start, min(start + seq_len, targets), start + seq_len - stride))
        start += stride
    return windows
