"""A log as numbered lines, read in blocks: bounded memory at any size, printed source code skipped.

Trainers print their own source at the top of a log, f-strings and examples that look like results included. Such
a block is recognised by how it begins and ends, and none of its lines is evidence.
"""

import re
import typing
from collections.abc import Iterator

BLOCK = 1 << 20
MAX_LINE = 8192  # bytes looked at; packed source may be one line of megabytes

# What the first line of a Python file looks like, in the first column.
SOURCE_BEGINS = re.compile(
    rb"\n(?:Source code:|#!.*python|\"\"\"|'''|from [\w.]+ import |import \w+(?:[\n, .]|\s+as )|# \(source line)"
)
# A rule after the source, or a line of a trainer's header where there is none.
SOURCE_ENDS = re.compile(
    rb"\n(?:={40,}\s*\n|step:0/\d|0/\d+ val_loss|warmup_step:|val_bpb:enabled|train_loader:|val_loader:"
    rb"|model_params:\d|world_size:\s?\d|Hyperparameters:|Running Py)"
)
# Of the pieces that a line may begin with before the trainer's own words: unix time, clock, rank.
PREFIX = re.compile(
    r"(?:\d{10}\.\d{1,6}\s|\[?\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:[.,]\d+)?Z?\]?\s(?:INFO\s|-\s)?|\[\d\d:\d\d:\d\d\]\s"
    r"|\[?(?:default)?\d?\]?:?\s?\[?rank ?0\]?:\s?|\[default0\]:)+"
)


class Lines(typing.NamedTuple):
    """Lines that follow each other. `after_source`: printed source was skipped before them, a trainer starts anew."""

    first: int
    raw: list[bytes]
    after_source: bool = False
    complete: bool = True  # False for a last line that no newline ends: the log may have been cut inside it


def read_lines(file: typing.BinaryIO) -> Iterator[Lines]:
    """The lines of a log that can be evidence, in order."""
    number, rest, in_source = 1, b"", False
    after_source = False
    while chunk := file.read(BLOCK):
        # A newline stands before the block's first line, so that the patterns above see where that begins.
        text = b"\n" + rest + chunk
        end = text.rfind(b"\n")
        rest, text = text[end + 1 :], text[: end + 1]
        if len(rest) > BLOCK:  # one line longer than a block: its head is enough
            rest = rest[:MAX_LINE]
        position = 0  # of the newline before the next line
        while position < len(text) - 1:
            found = (SOURCE_ENDS if in_source else SOURCE_BEGINS).search(text, position)
            stop = len(text) - 1 if found is None else found.start()
            if in_source:
                number += text.count(b"\n", position, stop)
            elif stop > position:
                raw = text[position + 1 : stop].split(b"\n")
                yield Lines(number, raw, after_source)
                number += len(raw)
                after_source = False
            position = stop
            if found is not None:
                in_source = not in_source
                after_source = after_source or not in_source
    if rest and not in_source:
        yield Lines(number, [rest[:MAX_LINE]], after_source, complete=False)


def text_of(raw: bytes) -> str:
    """The trainer's own words of a line: what a progress bar left standing, without time stamps and ranks."""
    text = raw[:MAX_LINE].rstrip().rpartition(b"\r")[2].decode("utf-8", errors="replace").strip()
    found = PREFIX.match(text)
    return text[found.end() :] if found else text
