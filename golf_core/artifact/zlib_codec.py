"""zlib (DEFLATE): the baseline's codec."""

import zlib


class ZlibCodec:
    name = "zlib"

    def __init__(self, level: int | None = None) -> None:
        self.level = 9 if level is None else level

    def compress(self, data: bytes) -> bytes:
        return zlib.compress(data, self.level)

    def decompress(self, data: bytes, size: int) -> bytes:
        """At most `size` + 1 bytes, so that a hostile stream cannot fill the memory. Raises ValueError."""
        try:
            return zlib.decompressobj().decompress(data, size + 1)
        except zlib.error as error:
            raise ValueError(str(error)) from None
