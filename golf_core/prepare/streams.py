"""Lines of plain and compressed files as one kind of stream: read(n), readline(n), and an error where they are cut."""

import gzip
import io
import lzma
import zlib
from pathlib import Path
from typing import IO, cast

import zstandard

from golf_core.prepare.sources import Source

READ_ERRORS = (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError, zstandard.ZstdError)
ZSTD_INPUT = 1024  # bytes fed at once: at most some 32 MB come out, even of a hostile file
SKIP_CHUNK = 1024 * 1024


class ZstdLines(io.RawIOBase):
    """What a .zst file holds, all its frames. (zstandard's own reader ends silently where a file is cut.)"""

    def __init__(self, path: Path) -> None:
        self.file = path.open("rb")
        self.frame = zstandard.ZstdDecompressor().decompressobj()
        self.begun = False  # whether the frame has got any input
        self.ready = b""

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.file.close()
        super().close()

    def readinto(self, buffer: "memoryview[int]") -> int:  # type: ignore[override]
        while not self.ready:
            rest = self.frame.unused_data if self.frame.eof else b""
            if self.frame.eof:
                self.frame = zstandard.ZstdDecompressor().decompressobj()
                self.begun = False
            if not (data := rest or self.file.read(ZSTD_INPUT)):
                if self.begun:
                    raise EOFError("it ends within a frame")
                return 0
            self.begun = True
            self.ready = self.frame.decompress(data)
        part, self.ready = self.ready[: len(buffer)], self.ready[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)


def open_lines(source: Source) -> IO[bytes]:
    """The file's lines, unpacked."""
    path = source.path
    if source.kind == "jsonl.gz":
        return cast(IO[bytes], gzip.open(path, "rb"))
    if source.kind == "jsonl.xz":
        return lzma.open(path, "rb")
    if source.kind == "jsonl.zst":
        return io.BufferedReader(ZstdLines(path), 256 * 1024)
    return path.open("rb")


def skip_to(file: IO[bytes], source: Source, offset: int) -> None:
    """Go to a place in the unpacked file: at once in a plain one, by reading over what comes before in the others."""
    if source.kind == "jsonl":
        file.seek(offset)
        return
    while offset:
        if not (part := file.read(min(SKIP_CHUNK, offset))):
            raise EOFError("it is shorter than it was when reading began")
        offset -= len(part)
