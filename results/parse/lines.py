"""A log as numbered lines, read in blocks: bounded memory at any size, printed source code skipped.

Trainers print their own source at the top of a log, f-strings and examples that look like results included. Such
a block is recognised by how it begins and ends, and none of its lines is evidence.
"""

import codecs
import re
import typing
from collections.abc import Iterator

BLOCK = 1 << 20
MAX_LINE = 4096  # bytes looked at; packed source may be one line of megabytes

# What the first line of a Python file looks like, in the first column, to its end.
NAMES = rb"[\w.*]+(?:\s+as\s+\w+)?"
SOURCE_BEGINS = re.compile(
    rb"\n(?:Source code:|#!.*python|(?P<quote>\"\"\"|''')|# \(source line|from [\w.]+ import \("
    rb"|(?:from [\w.]+ )?import " + NAMES + rb"(?:\s*,\s*" + NAMES + rb")*\s*(?:[#;\\][^\n]*)?(?=\n))"
)
# A rule after the source, or a line of a trainer's header where there is none.
SOURCE_ENDS = re.compile(
    rb"\n(?:={40,}\s*\n|step:0/\d|0/\d+ val_loss|warmup_step:|val_bpb:enabled|train_loader:|val_loader:"
    rb"|model_params:\d|world_size:\s?\d|Hyperparameters:|Running Py)"
)
COLOURS = re.compile(rb"\x1b\[[0-9;?]{0,16}[A-Za-z]")
# Of the pieces that a line may begin with before the trainer's own words: unix time, clock, logger, rank.
PREFIX = re.compile(
    r"(?:\d{10}\.\d{1,6}\s|\[?\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:[.,]\d{1,6})?Z?\]?\s(?:INFO\s|-\s)?"
    r"|\|\s\w{4,8}\s+\|\s[\w.:<>]{1,80}\s-\s|\[\d\d:\d\d:\d\d\]\s|\[default0\]:"
    r"|\[?(?:default)?0?\]?:?\s?\[?rank ?0\]?:\s?|[A-Za-z][\w.-]{0,40}\s{1,4}\|\s(?=[\w\s]))+"
)
OTHER_RANK = re.compile(rb"\s{0,4}\[(?:default)?(?:rank ?)?[1-9]\d{0,3}\]:")


class Lines(typing.NamedTuple):
    """Lines that follow each other. `after_source`: printed source was skipped before them, a trainer starts anew."""

    first: int
    raw: list[bytes]
    after_source: bool = False
    complete: bool = True  # False for a last line that no newline ends: the log may have been cut inside it


def read_chunks(file: typing.BinaryIO) -> Iterator[bytes]:
    """The file in blocks: UTF-16 as UTF-8, colours taken out, carriage returns as newlines where no other are."""
    decoder: codecs.IncrementalDecoder | None = None
    alone = False
    first = True
    while chunk := file.read(BLOCK):
        if first:
            first = False
            if chunk.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                decoder = codecs.getincrementaldecoder("utf-16")(errors="replace")
            chunk = chunk.removeprefix(codecs.BOM_UTF8)
            alone = b"\r" in chunk and b"\n" not in chunk and decoder is None
        if decoder is not None:
            chunk = decoder.decode(chunk).encode()
        if alone:
            chunk = chunk.replace(b"\r", b"\n")
        yield COLOURS.sub(b"", chunk) if b"\x1b" in chunk else chunk


def read_lines(file: typing.BinaryIO) -> Iterator[Lines]:
    """The lines of a log that can be evidence, in order."""
    number, rest, in_source = 1, b"", False
    after_source = False
    for chunk in read_chunks(file):
        # A newline stands before the block's first line, so that the patterns above see where that begins.
        text = b"\n" + rest + chunk
        end = text.rfind(b"\n")
        rest, text = _kept(text[end + 1 :]), text[: end + 1]
        if text.isspace():
            number += len(text) - 1 if text.count(b"\n") == len(text) else text.count(b"\n") - 1
            continue
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
                if in_source and found["quote"] is not None:
                    # What stands in a module's docstring is no end of its source: rules, examples, headers.
                    closing = text.find(found["quote"], found.end())
                    if closing > 0:
                        number += text.count(b"\n", position, closing)
                        position = closing
    if rest and not in_source:
        yield Lines(number, [rest], after_source, complete=False)


def _kept(rest: bytes) -> bytes:
    """Of an unfinished line longer than a block its head, or what a progress bar wrote last."""
    if len(rest) <= BLOCK:
        return rest
    last = rest.rfind(b"\r")
    return rest[last:] if len(rest) - last < BLOCK and last >= 0 else rest[:MAX_LINE]


def text_of(raw: bytes) -> str:
    """The trainer's own words of a line: what a progress bar left standing, without time stamps and ranks."""
    text = raw.rstrip().rpartition(b"\r")[2][:MAX_LINE].decode("utf-8", errors="replace").strip()
    found = PREFIX.match(text)
    return text[found.end() :] if found else text
