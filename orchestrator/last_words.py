"""The end of a failed attempt's log, fit for a terminal: a few lines, without control characters.

torchrun tells at length that a process of it failed; that is left out, and what the program itself said last is shown.
"""

import re
from pathlib import Path

from golf_core.rundir import LOG

SHOWN = 5  # lines
WIDTH = 200  # characters of a line
READ = 1 << 16  # bytes of the end of the log
ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b.")
# Where torchrun begins to speak of a process that failed; nothing after it is the program's.
TORCHRUN = re.compile(r"^[EW]\d{4} .*\btorch/distributed/elastic/|ChildFailedError|torch\.distributed\.elastic")


def last_words(folder: Path) -> list[str]:
    """The last lines that say something; empty where there is no log, or nothing in it."""
    try:
        with (folder / LOG).open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - READ))
            data = file.read()
    except OSError:
        return []
    told = [_clean(line) for line in data.decode("utf-8", errors="replace").split("\n")]
    told = [line for line in told if line.strip()]
    own = next((told[:at] for at, line in enumerate(told) if TORCHRUN.search(line)), told)
    return (own or told)[-SHOWN:]


def _clean(line: str) -> str:
    """What a progress bar wrote last, without colours and control characters."""
    last = line.rstrip("\r").rpartition("\r")[2]
    plain = "".join(letter for letter in ESCAPES.sub("", last).expandtabs() if letter.isprintable()).rstrip()
    return plain if len(plain) <= WIDTH else plain[: WIDTH - 3] + "..."
