"""Zstandard."""

import zstandard


class ZstdCodec:
    name = "zstd"

    def __init__(self, level: int | None = None) -> None:
        self.level = 22 if level is None else level

    def compress(self, data: bytes) -> bytes:
        return zstandard.ZstdCompressor(level=self.level).compress(data)

    def decompress(self, data: bytes, size: int) -> bytes:
        """At most `size` + 1 bytes, so that a hostile stream cannot fill the memory. Raises ValueError."""
        try:
            with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(data) as reader:
                return reader.read(size + 1)
        except zstandard.ZstdError as error:
            raise ValueError(str(error)) from None
