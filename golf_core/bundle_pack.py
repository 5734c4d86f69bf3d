"""The packed form of a bundle: a Python file that carries the readable one compressed, and runs it.

It counts for about a third of the bytes. `python train_gpt.py source` prints the readable file, byte for byte;
`readable_source` does the same without executing anything. The frame around the literal is fixed, and a text
counts as packed only where it is that frame to the byte: what is read is then what runs.

`exec` hides source from `inspect`, hence from Triton, and from tracebacks; the frame registers it with `linecache`
under the file's own name, where all of them look. No torch here.
"""

import base64
import lzma
import re

MAX_SOURCE_BYTES = 4 * 1024 * 1024  # of a readable bundle; ours have 160 KB
DICTIONARY_BYTES = 1024 * 1024
MEMORY_LIMIT = 32 * 1024 * 1024  # for the decoder, whatever a file asks for
FILTERS = [
    {
        "id": lzma.FILTER_LZMA2,
        "preset": 9 | lzma.PRESET_EXTREME,
        "dict_size": DICTIONARY_BYTES,
        "pb": 0,  # text has no alignment
    }
]

FRAME = '''\
"""{title}

This is the packed form: the source lies in the literal below (xz, in base85) and runs as it was built. To read it:

    python train_gpt.py source > readable.py
"""

import base64
import linecache
import lzma
import sys
import traceback

PACKED = "{literal}"

try:
    source = lzma.decompress(base64.b85decode(PACKED)).decode()
except (ValueError, lzma.LZMAError) as error:
    sys.exit(f"{{__file__}}: the packed source is damaged ({{error}}); build this file again, or take an intact copy")
# Whoever looks for a line of this file, a traceback, inspect, a compiler of kernels, finds the source's.
linecache.cache[__file__] = (len(source), None, source.splitlines(True), __file__)
if __name__ == "__main__":
    if sys.argv[1:] == ["source"]:
        sys.stdout.buffer.write(source.encode())
        sys.exit()
    sys.excepthook = lambda kind, error, trace: traceback.print_exception(kind, error, trace and trace.tb_next)
exec(compile(source, __file__, "exec"))
'''


class PackedError(ValueError):
    """A packed bundle whose literal cannot be decoded."""


def pack_source(source: str) -> str:
    """A Python file that does what `source` does."""
    data = lzma.compress(source.encode(), format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC32, filters=FILTERS)
    return FRAME.format(title=_title(source), literal=base64.b85encode(data).decode())


def readable_source(text: str) -> str:
    """The readable source of a bundle in either form: decoded, never executed. A text that is not packed by
    `pack_source` is its own source. Raises PackedError where the literal is damaged or too large."""
    found = re.search(r'^PACKED = "([^"\\\n]*)"$', text, re.MULTILINE)
    if not found or FRAME.format(title=text[3:].partition("\n")[0], literal=found[1]) != text:
        return text
    try:
        source = _decompressed(base64.b85decode(found[1])).decode()
    except (ValueError, lzma.LZMAError, MemoryError) as error:
        raise PackedError(f"the packed source is damaged: {error}") from None
    # The title is the one other part that varies; being the source's, it has no room for code.
    return source if text.startswith(f'"""{_title(source)}\n') else text


def _title(source: str) -> str:
    """The first line of the source's docstring."""
    found = re.match(r'"""([A-Za-z0-9_.,:; -]*)\n', source)
    return found[1] if found else "A bundle of Parameter Golf."


def _decompressed(data: bytes) -> bytes:
    decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY_LIMIT)
    source = decoder.decompress(data, MAX_SOURCE_BYTES + 1)
    if len(source) > MAX_SOURCE_BYTES:
        raise PackedError(f"it is larger than {MAX_SOURCE_BYTES} bytes")
    if not decoder.eof or decoder.unused_data:
        raise PackedError("it is cut, or followed by something else")
    return source
