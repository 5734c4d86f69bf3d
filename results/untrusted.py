"""Folders and JSON that anybody may have written: opened without following, within bounds, or refused in one line.

Nothing in them is executed, nothing outside of the folder is read, and what is echoed of them is plain text. The
folder is taken to hold still while it is read: whoever can change it meanwhile can also change it afterwards.
"""

import errno
import json
import os
import re
import stat
import typing
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from golf_core.rundir import RunDirError

MAX_FILES = 2000  # in a submission folder, folders included; the largest of the race has 16
MAX_DEPTH = 4
MAX_NAME = 255
MAX_LOG_BYTES = 256 * 1024 * 1024
MAX_TOTAL_BYTES = 4 * 1024 * 1024 * 1024
MAX_DOCUMENT_BYTES = 4 * 1024 * 1024  # of README.md, submission.json, train_gpt.py
MAX_NESTING = 32
MAX_VALUES = 100_000
MAX_DIGITS = 40
LARGEST = 10**18  # beyond any count, size or time
KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISCHR, "a device"),
)


class Refused(RunDirError):
    """A folder or file that is not read at all; the message says which and why."""


def plain(text: object, limit: int = 200) -> str:
    """What may be shown of a foreign text: one line, no control characters, no terminal escapes, no turned direction.

    >>> plain("seed\\x1b[31m 42\\n\\u202e")
    'seed 42'
    """
    said = str(text)[: 4 * limit]
    said = re.sub(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)?|\x9b[0-?]*[ -/]*[@-~]", "", said)
    said = " ".join(said.split())
    said = "".join(one for one in said if unicodedata.category(one)[0] != "C").strip()
    return said if len(said) <= limit else said[: limit - 3] + "..."


@dataclass(frozen=True)
class File:
    name: str  # from the folder, with / between parts
    size: int


class Folder:
    """The plain files of a folder, none of which is a link or leads outside. Raises Refused, or OSError for the
    folder itself."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_dir():
            raise Refused(f"{plain(path)} is not a folder" if path.exists() else f"{plain(path)} does not exist")
        self.files = {file.name: file for file in sorted(self._walk(), key=lambda file: file.name)}
        if (total := sum(file.size for file in self.files.values())) > MAX_TOTAL_BYTES:
            raise Refused(f"{plain(path)} holds {total:,} bytes; {MAX_TOTAL_BYTES:,} are read at most")

    def _walk(self) -> Iterator[File]:
        pending, seen = [("", 0)], 0
        while pending:
            inside, depth = pending.pop()
            with os.scandir(self.path / inside) as entries:
                for entry in entries:
                    seen += 1
                    if seen > MAX_FILES:
                        raise Refused(f"{plain(self.path)} holds more than {MAX_FILES} files and folders")
                    name = self._checked(f"{inside}/{entry.name}".lstrip("/"), entry.name)
                    info = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(info.st_mode):
                        if depth + 1 >= MAX_DEPTH:
                            raise self.refusal(name, f"lies deeper than {MAX_DEPTH} folders")
                        pending.append((name, depth + 1))
                    elif stat.S_ISREG(info.st_mode):
                        yield File(name, info.st_size)
                    else:
                        kind = next((word for test, word in KINDS if test(info.st_mode)), "no plain file")
                        raise self.refusal(name, f"is {kind}; a submission folder holds plain files")

    def _checked(self, name: str, last: str) -> str:
        if not last.isprintable() or len(last) > MAX_NAME or "\\" in last:
            raise self.refusal(name, "has a name with characters that no file here may have")
        return name

    def refusal(self, name: str, why: str) -> Refused:
        return Refused(f"{plain(self.path)}: {plain(name)!r} {why}")

    def has(self, name: str) -> bool:
        return name in self.files

    def open(self, name: str) -> typing.BinaryIO:
        """A file of the folder for reading. Raises Refused where it was swapped for a link or a device since."""
        try:
            descriptor = os.open(self.path / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise self.refusal(name, "is a symbolic link; a submission folder holds plain files") from None
            raise
        stream = os.fdopen(descriptor, "rb")
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            stream.close()
            raise self.refusal(name, "is no plain file")
        return stream

    def read(self, name: str, limit: int = MAX_DOCUMENT_BYTES) -> bytes:
        """The content of a file of the folder. Raises Refused where it is too large."""
        if (size := self.files[name].size) > limit:
            raise self.refusal(name, f"has {size:,} bytes; {limit:,} are read at most")
        with self.open(name) as stream:
            data = stream.read(limit + 1)
        if len(data) > limit:
            raise self.refusal(name, f"grew beyond {limit:,} bytes while it was read")
        return data

    def text(self, name: str, limit: int = MAX_DOCUMENT_BYTES) -> str:
        """The same as text. Raises Refused where it is not UTF-8; a byte order mark is no part of the text."""
        try:
            return self.read(name, limit).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise self.refusal(name, f"is not UTF-8 (byte {error.start})") from None

    def document(self, name: str) -> dict[str, typing.Any]:
        """The object of a JSON file. Numbers with a fraction are Decimals, which keep the digits that were written."""
        try:
            return parse_document(self.text(name))
        except ValueError as error:
            raise self.refusal(name, f"cannot be read as JSON: {plain(error)}") from None


def parse_document(text: str) -> dict[str, typing.Any]:
    """A JSON object within bounds: ValueError for all else, such as a key that stands twice, NaN, or 1e400."""
    try:
        value = json.loads(
            text,
            parse_constant=_constant,
            parse_float=_fraction,
            parse_int=_whole,
            object_pairs_hook=_once,
        )
    except RecursionError:
        raise ValueError(f"it is nested deeper than {MAX_NESTING} levels") from None
    if not isinstance(value, dict):
        raise ValueError(f"it holds {type(value).__name__}, not an object")
    _check_bounds(value)
    return value


def _constant(name: str) -> typing.NoReturn:
    raise ValueError(f"{name} is not a number")


def _fraction(text: str) -> Decimal:
    mantissa, _, exponent = text.lower().partition("e")
    if len(mantissa) > MAX_DIGITS or len(exponent) > 4 or abs(value := Decimal(text)) > LARGEST:
        raise ValueError(f"the number {plain(text, 30)} is too large or too long ({len(text)} characters)")
    return value


def _whole(text: str) -> int:
    if len(text) > MAX_DIGITS or abs(int(text)) > LARGEST:
        raise ValueError(f"the number {plain(text, 30)} is too large ({len(text)} characters)")
    return int(text)


def _once(pairs: list[tuple[str, typing.Any]]) -> dict[str, typing.Any]:
    found: dict[str, typing.Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {plain(key, 60)!r} stands twice in one object")
        found[key] = value
    return found


def _check_bounds(value: typing.Any) -> None:
    pending, values = [(value, 1)], 0
    while pending:
        node, depth = pending.pop()
        values += 1
        if depth > MAX_NESTING:
            raise ValueError(f"it is nested deeper than {MAX_NESTING} levels")
        if values > MAX_VALUES:
            raise ValueError(f"it holds more than {MAX_VALUES:,} values")
        if isinstance(node, dict):
            pending += [(child, depth + 1) for child in node.values()]
        elif isinstance(node, list):
            if len(node) > MAX_VALUES:
                raise ValueError(f"it holds more than {MAX_VALUES:,} values")
            pending += [(child, depth + 1) for child in node]
