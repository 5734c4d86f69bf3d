"""A submission's file and those beside it, opened without following a link and within bounds."""

import codecs
import errno
import io
import os
import stat
import tokenize
from pathlib import Path, PurePosixPath

from results.audit.source.program import Limits, SourceError
from results.untrusted import KINDS, plain

ENCODINGS = ("utf-8", "ascii", "iso8859", "cp125", "koi8", "mac-roman", "shift_jis", "euc", "gb", "big5")
VIRTUAL = "/submission/"  # where the file stands, for expressions with __file__


def read_file(path: Path, limit: int) -> bytes:
    """The bytes of a plain file. Raises SourceError for a link, a pipe, a device, or one that is too large."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise SourceError(f"{plain(path)} is a symbolic link; name the file itself") from None
        raise SourceError(f"{plain(path)}: {error.strerror}; name a train_gpt.py, or a folder that holds one") from None
    except ValueError as error:
        raise SourceError(f"{plain(path)}: {plain(error)}; name a train_gpt.py") from None
    with os.fdopen(descriptor, "rb") as stream:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            kind = next((word for test, word in KINDS if test(mode)), "no plain file")
            raise SourceError(f"{plain(path)} is {kind}; name a plain file")
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise SourceError(f"{plain(path)} has more than {limit:,} bytes; no script of the race has a tenth of that")
    return data


def text_of(data: bytes, name: str, limits: Limits) -> str:
    """Source bytes as text, as Python decodes them, with line ends made equal. Raises SourceError."""
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        known = codecs.lookup(encoding).name
        if not known.startswith(ENCODINGS):
            raise SourceError(f"{plain(name)} declares the encoding {plain(encoding)!r}; write it in UTF-8")
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise SourceError(f"{plain(name)} is not {error.encoding} (byte {error.start}); write it in UTF-8") from None
    except (SyntaxError, LookupError) as error:
        raise SourceError(f"{plain(name)} cannot be decoded: {plain(error)}; write it in UTF-8") from None
    return checked(text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n"), name, limits)


def checked(text: str, name: str, limits: Limits) -> str:
    """A text that is not too large to be parsed, and holds no NUL. Raises SourceError."""
    if len(text) > limits.text_characters:
        raise SourceError(f"{plain(name)} holds {len(text):,} characters; {limits.text_characters:,} are read at most")
    if (lines := text.count("\n")) > limits.lines:
        raise SourceError(f"{plain(name)} holds {lines:,} lines; {limits.lines:,} are read at most")
    if (at := text.find("\0")) >= 0:
        raise SourceError(f"{plain(name)} holds a NUL (character {at}), which Python refuses too; remove it")
    return text


class Beside:
    """The files in the folder of a script, by name; each part of a name is opened without following a link."""

    def __init__(self, folder: Path | None, limits: Limits) -> None:
        self.folder = folder  # None: a script of standard input stands beside nothing
        self.limits = limits
        self.read_bytes = 0
        self.names: dict[str | bytes, str] = {}  # content -> name, of what was read

    def place(self, name: str) -> str | None:
        """A path of the script as a path within its folder; None where it leads outside."""
        path = PurePosixPath(name.removeprefix(VIRTUAL))
        parts = [part for part in path.parts if part != "."]
        if not parts or path.is_absolute() or ".." in parts or len(parts) > 4 or "\0" in name or len(name) > 200:
            return None
        return "/".join(parts)

    def has(self, name: str) -> bool:
        if self.folder is None or (inside := self.place(name)) is None:
            return False
        path = self.folder
        for part in inside.split("/"):
            path /= part
            if path.is_symlink():
                return False
        return path.is_file()

    def read(self, name: str) -> bytes:
        """Raises SourceError where it is not there, or too much was read already."""
        inside = self.place(name)
        if self.folder is None or inside is None or not self.has(inside):
            raise SourceError(f"{plain(name)} does not lie beside the script")
        data = read_file(self.folder / inside, self.limits.file_bytes)
        self.read_bytes += len(data)
        self.names[data] = inside
        self.names[data.decode("utf-8", "replace")] = inside
        if self.read_bytes > self.limits.total_bytes:
            raise SourceError(f"more than {self.limits.total_bytes:,} bytes lie in the files that the script names")
        return data
