"""What the bytes of an artifact are spent on: the table of tensors inside artifact.bin, and the code beside it.

Written against the format (golf_core/artifact/container.py), not with its reader, which needs torch; the codecs are
its own, which do not. Every length is checked; nothing of the file is executed. Tensors are compressed together, so
the bytes of one are an estimate: the compressed size, shared in proportion to the order-0 entropy of each tensor's
bytes. The sum is the file's own size.
"""

import json
import math
import struct
import typing
from pathlib import Path

from golf_core.artifact.brotli_codec import BrotliCodec
from golf_core.artifact.lzma_codec import LzmaCodec
from golf_core.artifact.zlib_codec import ZlibCodec
from golf_core.artifact.zstd_codec import ZstdCodec
from golf_core.rundir import RunDirError

MAGIC = b"GOLFART1"
HEADER = struct.Struct("<8s8sQ16s")
MAX_FILE_BYTES = 1 << 27
MAX_PAYLOAD_BYTES = 1 << 28  # 16 MB of weights are 30 to 60 MB before compression
CODECS = {codec.name: codec for codec in (BrotliCodec, LzmaCodec, ZlibCodec, ZstdCodec)}
PACKED_BITS = 4
CODE_BYTES = {"grid": 1, "fp16": 2, "fp32": 4}
# What a tensor's name must hold to be of a group, the first that fits.
GROUPS = (
    ("token embedding", ("tok_emb",)),
    ("other embeddings", ("embed", "bigram", "trigram", "_emb")),
    ("head", ("lm_head", "head.weight")),
    ("attention", (".attn.", "attn_", "qkv")),
    ("MLP", (".mlp.", "mlp_")),
)
REST = "scales and other tensors"


def parts_of_artifact(path: Path) -> list[tuple[str, float]]:
    """(group, compressed bytes), the largest first; they sum to the file's size. Raises RunDirError, whatever the
    bytes."""
    if (size := path.stat().st_size) > MAX_FILE_BYTES:
        raise RunDirError(f"{path} has {size} bytes; {MAX_FILE_BYTES} are read at most")
    payload = _payload(path.read_bytes(), path)
    weights: dict[str, float] = {}
    for name, low, high in _tensors(payload, path):
        group = group_of(name)
        weights[group] = weights.get(group, 0.0) + _entropy_bytes(payload[low:high])
    total = math.fsum(weights.values())
    if not total:
        raise RunDirError(f"{path} holds no tensor")
    largest_first = sorted(weights.items(), key=lambda one: -one[1])
    return [(group, size * share / total) for group, share in largest_first]


def group_of(name: str) -> str:
    """
    >>> group_of("blocks.0.attn.c_q.weight"), group_of("tok_emb.weight"), group_of("skip_weights")
    ('attention', 'token embedding', 'scales and other tensors')
    """
    return next((group for group, marks in GROUPS if any(mark in name for mark in marks)), REST)


def _payload(data: bytes, path: Path) -> bytes:
    if len(data) < HEADER.size or not data.startswith(MAGIC):
        raise RunDirError(f"{path} is no artifact of ours: it does not start with {MAGIC.decode()}")
    _, codec, size, _ = HEADER.unpack_from(data)
    if size > MAX_PAYLOAD_BYTES:
        raise RunDirError(f"{path} claims {size} bytes of payload; {MAX_PAYLOAD_BYTES} are read at most")
    try:
        payload = _decompressed(codec.rstrip(b"\0").decode("ascii", "replace"), data[HEADER.size :], size)
    except ValueError as error:
        raise RunDirError(f"{path}: its compressed weights are damaged: {error}") from None
    if len(payload) != size:
        raise RunDirError(f"{path}: its payload has {len(payload)} bytes, its header says {size}")
    return payload


def _decompressed(codec: str, body: bytes, size: int) -> bytes:
    """At most `size` and a buffer more, by the codec that the trainer's own reader takes. Raises ValueError."""
    if codec not in CODECS:
        raise ValueError(f"the codec {codec!r} is not known; there are {', '.join(CODECS)}")
    return bytes(CODECS[codec]().decompress(body, size))


def _tensors(payload: bytes, path: Path) -> list[tuple[str, int, int]]:
    """(name, first byte, byte after the last) of each tensor."""
    try:
        (length,) = struct.unpack_from("<I", payload)
        offset, found = 4 + length, []
        for entry in json.loads(payload[4:offset]):
            size = _size(entry)
            found.append((str(entry["name"]), offset, offset + size))
            offset += size
    except (struct.error, KeyError, TypeError, ValueError, RecursionError, AttributeError) as error:
        raise RunDirError(f"{path}: its table of tensors is damaged: {type(error).__name__}: {error}") from None
    if offset != len(payload):
        raise RunDirError(f"{path}: its tensors take {offset} bytes, its payload has {len(payload)}")
    return found


def _size(entry: dict[str, typing.Any]) -> int:
    """Bytes of a tensor: the scales of a grid, then the codes."""
    shape, group = entry["shape"], entry.get("group_rows", 1)
    if any(type(n) is not int or not 0 <= n <= MAX_PAYLOAD_BYTES for n in (*shape, group)) or group < 1:
        raise ValueError(f"shape {str(shape)[:80]}, {str(group)[:20]} rows a scale")
    each = CODE_BYTES[entry["route"]]
    if entry["route"] != "grid":
        return int(math.prod(shape)) * each
    rows, columns = shape
    if entry.get("packed"):
        if entry["bits"] != PACKED_BITS:
            raise ValueError(f"codes of {str(entry['bits'])[:20]} bits are packed")
        columns = -(-columns * PACKED_BITS // 8)
    return int(2 * -(-rows // group) + rows * columns)


def _entropy_bytes(data: bytes) -> float:
    """Order-0 entropy of the bytes, in bytes."""
    if not data:
        return 0.0
    import numpy as np

    counts = np.bincount(np.frombuffer(data, dtype=np.uint8), minlength=256)
    counts = counts[counts > 0]
    return max(float(-(counts * np.log2(counts / len(data))).sum()) / 8, 1.0)
