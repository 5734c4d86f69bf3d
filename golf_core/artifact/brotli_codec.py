"""Brotli."""

import brotli


class BrotliCodec:
    name = "brotli"

    def __init__(self, level: int | None = None) -> None:
        self.quality = 11 if level is None else level

    def compress(self, data: bytes) -> bytes:
        return brotli.compress(data, quality=self.quality, lgwin=24)

    def decompress(self, data: bytes, size: int) -> bytes:
        """At most `size` and one buffer more, so that a hostile stream cannot fill the memory. Raises ValueError."""
        decoder = brotli.Decompressor()
        try:
            out = decoder.process(data, output_buffer_limit=size + 1)
            while not decoder.is_finished() and len(out) <= size:
                more = decoder.process(b"", output_buffer_limit=size + 1 - len(out))
                if not more:
                    break
                out += more
        except brotli.error as error:
            raise ValueError(str(error)) from None
        return out
