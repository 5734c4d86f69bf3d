"""LZMA (xz container, no checksum of its own: the artifact has one)."""

import lzma


class LzmaCodec:
    name = "lzma"

    def __init__(self, level: int | None = None) -> None:
        self.preset = (9 if level is None else level) | lzma.PRESET_EXTREME

    def compress(self, data: bytes) -> bytes:
        return lzma.compress(data, check=lzma.CHECK_NONE, preset=self.preset)

    def decompress(self, data: bytes, size: int) -> bytes:
        """At most `size` + 1 bytes, so that a hostile stream cannot fill the memory. Raises ValueError."""
        try:
            return lzma.LZMADecompressor().decompress(data, size + 1)
        except (lzma.LZMAError, EOFError) as error:
            raise ValueError(str(error)) from None
