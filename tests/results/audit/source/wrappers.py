"""Self-extracting scripts of every kind, made around a given source."""

import base64
import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable

import brotli
import zstandard

RAW = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 20}]

# name -> (compress, expression that undoes it with {} for the data, imports)
PACKERS: dict[str, tuple[Callable[[bytes], bytes], str, str]] = {
    "lzma": (lzma.compress, "lzma.decompress({})", "lzma"),
    "lzma raw": (
        lambda data: lzma.compress(data, format=lzma.FORMAT_RAW, filters=RAW),
        'lzma.decompress({}, format=lzma.FORMAT_RAW, filters=[{{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 20}}])',
        "lzma",
    ),
    "lzma alone": (
        lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
        "lzma.LZMADecompressor(lzma.FORMAT_ALONE).decompress({})",
        "lzma",
    ),
    "zlib": (zlib.compress, "zlib.decompress({})", "zlib"),
    "zlib raw": (lambda data: zlib.compress(data)[2:-4], "zlib.decompressobj(-15).decompress({})", "zlib"),
    "gzip": (gzip.compress, "gzip.decompress({})", "gzip"),
    "gzip file": (gzip.compress, "gzip.GzipFile(fileobj=io.BytesIO({})).read()", "gzip, io"),
    "bz2": (bz2.compress, "bz2.decompress({})", "bz2"),
    "brotli": (brotli.compress, "brotli.decompress({})", "brotli"),
    "zstd": (zstandard.compress, "zstandard.ZstdDecompressor().decompress({})", "zstandard"),
}
CODERS: dict[str, tuple[Callable[[bytes], bytes], str, str]] = {
    "base85": (base64.b85encode, "base64.b85decode({})", "base64"),
    "ascii85": (base64.a85encode, "base64.a85decode({})", "base64"),
    "base64": (base64.b64encode, "base64.b64decode({})", "base64"),
    "base32": (base64.b32encode, "base64.b32decode({})", "base64"),
    "hex": (lambda data: data.hex().encode(), "bytes.fromhex({})", "binascii"),
}


def wrapped(source: str, packer: str, coder: str) -> str:
    """A script that executes the source when it is run."""
    pack, unpack, modules = PACKERS[packer]
    encode, decode, more = CODERS[coder]
    text = encode(pack(source.encode())).decode()
    expression = unpack.format(decode.format(repr(text)))
    return f"import {modules}, {more}\nexec({expression})\n"


def by_hand(source: str) -> dict[str, str]:
    """Wrappers that are written in less usual ways."""
    packed = base64.b64encode(zlib.compress(source.encode())).decode()
    half = len(packed) // 2
    tail = "zlib.decompress(base64.b64decode(open(__file__).read().rsplit('#', 1)[1]))"
    flipped = bytes(one ^ 0x5A for one in source.encode())
    return {
        "__import__": f"exec(__import__('zlib').decompress(__import__('base64').b64decode('{packed}')).decode())",
        "aliases": "from base64 import b64decode as a\nfrom zlib import decompress as b\nrun = exec\n"
        f"un = lambda s: b(a(s))\nrun(un('{packed}'))",
        "a function": "import zlib, base64\ndef un(text):\n    data = base64.b64decode(text)\n"
        f"    return zlib.decompress(data).decode('utf-8')\nexec(compile(un('{packed}'), 'train', 'exec'), globals())",
        "pieces": f"import zlib, base64\nP = ['{packed[:half]}', '{packed[half:]}']\n"
        "exec(zlib.decompress(base64.b64decode(''.join(P))))",
        "reversed": f"import zlib, base64\nexec(zlib.decompress(base64.b64decode('{packed[::-1]}'[::-1])))",
        "replaced": "import zlib, base64\n"
        f"exec(zlib.decompress(base64.b64decode('{packed.replace('A', '~')}'.replace('~', 'A'))))",
        "getattr": "import builtins, zlib, base64\n"
        f"getattr(builtins, 'ex' + 'ec')(zlib.decompress(base64.b64decode('{packed}')))",
        "computed": f"exec(bytes(one ^ 0x5a for one in {flipped!r}).decode())",
        "own tail": f"import zlib, base64\nexec({tail})\n#{packed}",
        "own lines": "import zlib, base64, pathlib\n"
        "lines = pathlib.Path(__file__).read_text().splitlines()\n"
        f"exec(zlib.decompress(base64.b64decode(lines[-1][1:])))\n#{packed}",
        "a file written": "import zlib, base64, runpy\n"
        f"open('/tmp/t.py', 'wb').write(zlib.decompress(base64.b64decode('{packed}')))\nrunpy.run_path('/tmp/t.py')",
        "codecs": f"import codecs, zlib\nexec(zlib.decompress(codecs.decode(b'{packed}', 'base64')))",
        "in a branch": "import zlib, base64\nif __name__ == '__main__':\n    try:\n"
        f"        exec(zlib.decompress(base64.b64decode('{packed}')))\n    except ImportError:\n        raise",
    }
