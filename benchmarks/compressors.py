"""What general compressors make of the embedded validation text: the reference lines of the report's charts.

    python benchmarks/compressors.py             measure, print, compare with data/compressors.json
    python benchmarks/compressors.py --write     and write that file

Each at its strongest setting, twice: on the validation text alone, and after the training text, which the model has
seen too (the size of both less the size of the training text). Bits per byte of the text that is compressed: the
documents with every run of white space as one space, which is close to what SentencePiece makes of them. Sizes do
not depend on the machine; they may on the version of a library, so the file names it.
"""

import argparse
import bz2
import json
import lzma
import platform
import time
import zlib
from collections.abc import Callable
from importlib.metadata import version

import brotli
import zstandard

from golf_core.data.corpus import CORPUS_PATH, load_corpus
from golf_core.rundir import file_sha256, write_json

STORED = CORPUS_PATH.parent / "compressors.json"
COMMAND = "python benchmarks/compressors.py --write"

COMPRESSORS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip -9": (f"zlib {zlib.ZLIB_RUNTIME_VERSION}", lambda data: zlib.compress(data, 9)),
    "bzip2 -9": (f"Python {platform.python_version()}", lambda data: bz2.compress(data, 9)),
    "brotli -q 11": (f"brotli {version('brotli')}", lambda data: brotli.compress(data, quality=11, lgwin=24)),
    "zstd -22": (f"zstandard {version('zstandard')}", zstandard.ZstdCompressor(level=22).compress),
    "xz -9e": (
        f"Python {platform.python_version()}",
        lambda data: lzma.compress(data, preset=9 | lzma.PRESET_EXTREME),
    ),
}


def text_of(documents: list[str]) -> bytes:
    return " ".join(" ".join(document.split()) for document in documents).encode()


def measure() -> list[dict[str, object]]:
    corpus = load_corpus()
    train, val = text_of(corpus.train), text_of(corpus.val)
    print(f"validation text {len(val):,} bytes, training text {len(train):,} bytes")
    print(f"{'compressor':<14}{'alone':>10}{'after the training text':>26}{'seconds':>9}")
    rows: list[dict[str, object]] = []
    for name, (library, compress) in COMPRESSORS.items():
        begin = time.perf_counter()
        alone = len(compress(val))
        primed = len(compress(train + b" " + val)) - len(compress(train))
        bits = [8 * size / len(val) for size in (alone, primed)]
        print(f"{name:<14}{bits[0]:>10.4f}{bits[1]:>26.4f}{time.perf_counter() - begin:>9.1f}")
        rows.append(
            {
                "name": name,
                "library": library,
                "alone_bytes": alone,
                "alone_bpb": bits[0],
                "primed_bytes": primed,
                "primed_bpb": bits[1],
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"write {STORED.name}")
    write = parser.parse_args().write
    rows = measure()
    found = {
        "schema_version": 1,
        "command": COMMAND,
        "corpus_sha256": file_sha256(CORPUS_PATH),
        "unit": "bits per byte of the validation text",
        "compressors": rows,
    }
    if write:
        write_json(STORED, found)
        print(f"wrote {STORED}")
    else:
        same = STORED.is_file() and json.loads(STORED.read_bytes())["compressors"] == rows
        print(f"{STORED.name} says {'the same' if same else 'something else'}")


if __name__ == "__main__":
    main()
