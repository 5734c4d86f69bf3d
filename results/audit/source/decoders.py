"""Decoders of constants, each with a limit on what it gives out: a bomb is refused before it is unpacked."""

import base64
import binascii
import bz2
import codecs
import lzma
import typing
import zlib
from collections.abc import Callable, Mapping

import brotli
import zstandard

Arguments = Mapping[str, typing.Any]
MAX_DICTIONARY = 128 * 1024 * 1024  # of a raw LZMA stream, which is allocated before anything is decoded
TEXT_CODECS = ("hex", "base64", "rot13", "utf-8", "ascii", "latin-1", "zlib", "bz2")

FAILURES: tuple[type[Exception], ...] = (  # of a decoder, or of any other operation on foreign values
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    OSError,
    ArithmeticError,
    AttributeError,
    zlib.error,
    lzma.LZMAError,
    brotli.error,
    zstandard.ZstdError,
)


class TooMuch(Exception):
    """A constant that grows beyond the limit; the message says at which decoder."""


def _bounded(data: bytes, limit: int, name: str) -> bytes:
    if len(data) > limit:
        raise TooMuch(f"{name} gives more than {limit:,} bytes; the constant looks like a decompression bomb")
    return data


def zlib_bytes(data: bytes, limit: int, wbits: int = 15, bufsize: int = 0) -> bytes:
    return _streamed(lambda: zlib.decompressobj(wbits), data, limit, "zlib", many=False)


def gzip_bytes(data: bytes, limit: int) -> bytes:
    return _streamed(lambda: zlib.decompressobj(31), data, limit, "gzip", many=True)


def bz2_bytes(data: bytes, limit: int) -> bytes:
    return _streamed(bz2.BZ2Decompressor, data, limit, "bz2", many=True)


def lzma_bytes(
    data: bytes,
    limit: int,
    format: int = lzma.FORMAT_AUTO,
    memlimit: int | None = None,
    filters: list[dict[str, typing.Any]] | None = None,
) -> bytes:
    """What lzma.decompress gives; the memory limit is ours, whatever the script says."""
    if any(int(one.get("dict_size") or 0) > MAX_DICTIONARY for one in filters or ()):
        raise TooMuch(f"lzma asks for a dictionary of more than {MAX_DICTIONARY:,} bytes")
    memory = None if format == lzma.FORMAT_RAW else 2 * MAX_DICTIONARY
    return _streamed(lambda: lzma.LZMADecompressor(format, memory, filters), data, limit, "lzma", many=True)


def _streamed(fresh: Callable[[], typing.Any], data: bytes, limit: int, name: str, many: bool) -> bytes:
    """One stream after another where `many`, as the one-call functions of the libraries do; what follows is ignored."""
    out: bytes = b""
    rest = bytes(data)
    while True:
        machine = fresh()
        try:
            out += machine.decompress(rest, limit + 1 - len(out))
        except FAILURES:
            if out:
                return out
            raise
        _bounded(out, limit, name)
        if not machine.eof:  # a raw LZMA stream may have no end mark
            if name != "lzma" or not out:
                raise ValueError(f"{name}: the stream is cut off")
            return out
        rest = machine.unused_data
        if not many or not rest.strip(b"\0"):
            return out


def brotli_bytes(data: bytes, limit: int) -> bytes:
    machine = brotli.Decompressor()
    out: bytes = machine.process(bytes(data), output_buffer_limit=limit + 1)
    while not machine.is_finished() and len(out) <= limit:
        more = machine.process(b"", output_buffer_limit=limit + 1 - len(out))
        if not more:
            raise ValueError("brotli: the stream is cut off")
        out += more
    return _bounded(out, limit, "brotli")


def zstd_bytes(data: bytes, limit: int, max_output_size: int = 0) -> bytes:
    machine = zstandard.ZstdDecompressor(max_window_size=MAX_DICTIONARY)
    with machine.stream_reader(bytes(data), read_across_frames=False) as stream:
        out: bytes = stream.read(limit + 1)
    return _bounded(out, limit, "zstd")


def codec_value(data: typing.Any, limit: int, encoding: str = "utf-8", errors: str = "strict") -> str | bytes:
    """codecs.decode of the encodings that wrap code."""
    name = encoding.lower().replace("_codec", "").replace("_", "-").replace("rot-13", "rot13")
    if name.startswith("zlib") or name == "zip":
        return zlib_bytes(data, limit)
    if name.startswith("bz2"):
        return bz2_bytes(data, limit)
    if name not in TEXT_CODECS and codecs.lookup(name).name not in ("utf-8", "ascii", "iso8859-1", "cp1252"):
        raise ValueError(f"the encoding {encoding!r} is not decoded here")
    found = codecs.decode(data, name, errors)
    if not isinstance(found, str | bytes):
        raise ValueError(f"the encoding {encoding!r} gives {type(found).__name__}")
    return found


def _binary(decode: Callable[..., bytes], label: str) -> tuple[str, Callable[..., bytes]]:
    def run(data: typing.Any, limit: int, *rest: typing.Any, **named: typing.Any) -> bytes:
        if not isinstance(data, str | bytes | bytearray):
            raise ValueError(f"{label} of {type(data).__name__}")
        return _bounded(decode(data, *rest, **named), limit, label)

    return label, run


# Dotted name of the function -> (what the unwrapped piece says of it, decoder(data, limit, ...)).
DECODERS: dict[str, tuple[str, Callable[..., str | bytes]]] = {
    "base64.b64decode": _binary(base64.b64decode, "base64"),
    "base64.standard_b64decode": _binary(base64.standard_b64decode, "base64"),
    "base64.urlsafe_b64decode": _binary(base64.urlsafe_b64decode, "base64"),
    "base64.decodebytes": _binary(base64.decodebytes, "base64"),
    "base64.b85decode": _binary(base64.b85decode, "base85"),
    "base64.a85decode": _binary(base64.a85decode, "ascii85"),
    "base64.b32decode": _binary(base64.b32decode, "base32"),
    "base64.b32hexdecode": _binary(base64.b32hexdecode, "base32"),
    "base64.b16decode": _binary(base64.b16decode, "hex"),
    "binascii.a2b_base64": _binary(binascii.a2b_base64, "base64"),
    "binascii.unhexlify": _binary(binascii.unhexlify, "hex"),
    "binascii.a2b_hex": _binary(binascii.a2b_hex, "hex"),
    "bytes.fromhex": _binary(bytes.fromhex, "hex"),
    "bytearray.fromhex": _binary(bytes.fromhex, "hex"),
    "codecs.decode": ("codec", codec_value),
    "zlib.decompress": ("zlib", zlib_bytes),
    "gzip.decompress": ("gzip", gzip_bytes),
    "bz2.decompress": ("bz2", bz2_bytes),
    "lzma.decompress": ("lzma", lzma_bytes),
    "brotli.decompress": ("brotli", brotli_bytes),
    "brotlicffi.decompress": ("brotli", brotli_bytes),
    "zstandard.decompress": ("zstd", zstd_bytes),
    "zstd.decompress": ("zstd", zstd_bytes),
    "compression.zstd.decompress": ("zstd", zstd_bytes),
    "pyzstd.decompress": ("zstd", zstd_bytes),
}
if hasattr(base64, "z85decode"):
    DECODERS["base64.z85decode"] = _binary(base64.z85decode, "z85")
# Objects that decode by a method: the class and its keywords -> the function that does the same.
MACHINES = {
    "lzma.LZMADecompressor": "lzma.decompress",
    "bz2.BZ2Decompressor": "bz2.decompress",
    "zlib.decompressobj": "zlib.decompress",
    "zstandard.ZstdDecompressor": "zstandard.decompress",
    "brotli.Decompressor": "brotli.decompress",
    "gzip.GzipFile": "gzip.decompress",
    "gzip.open": "gzip.decompress",
    "bz2.BZ2File": "bz2.decompress",
    "bz2.open": "bz2.decompress",
    "lzma.LZMAFile": "lzma.decompress",
    "lzma.open": "lzma.decompress",
}
