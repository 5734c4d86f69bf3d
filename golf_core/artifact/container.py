"""artifact.bin: a self-describing container for stored tensors. Plain data with checked lengths, no pickle.

8 bytes   magic "GOLFART1"
8 bytes   codec name, ASCII, zero-padded
8 bytes   size of the payload before compression, little-endian
16 bytes  BLAKE2b of everything else in the file
rest      compressed payload:
          4 bytes  length of the table, little-endian
          table    JSON: a list of {name, route, shape, bits}
          data     tensor after tensor: fp16 scales of a grid, then codes (int8, fp16 or fp32, little-endian)
"""

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from typing import Protocol

import numpy as np
import torch

from golf_core.quant.rows import StoredTensor

ARTIFACT_MAGIC = b"GOLFART1"
ARTIFACT_HEADER = struct.Struct("<8s8sQ16s")
MAX_PAYLOAD_BYTES = 1 << 31  # far above what fits in 16 MB compressed; a hostile header must not fill the memory
CODE_TYPES = {"grid": "i1", "fp16": "<f2", "fp32": "<f4"}


class ArtifactError(Exception):
    """An artifact that cannot be read: cut, altered, of another codec, or not one of ours."""


class Codec(Protocol):
    """Bytes in, bytes out. `decompress` gives at most about `size` bytes and raises ValueError on a bad stream."""

    name: str

    def compress(self, data: bytes) -> bytes: ...

    def decompress(self, data: bytes, size: int) -> bytes: ...


def _digest(codec: bytes, size: int, body: bytes) -> bytes:
    digest = hashlib.blake2b(ARTIFACT_MAGIC + codec + struct.pack("<Q", size), digest_size=16)
    digest.update(body)
    return digest.digest()


def _bytes_of(tensor: torch.Tensor, kind: str) -> bytes:
    return tensor.contiguous().numpy().astype(kind, copy=False).tobytes()


def encode_artifact(stored: Mapping[str, StoredTensor], codec: Codec) -> bytes:
    """The whole file as bytes."""
    table = [{"name": n, "route": s.route, "shape": s.shape, "bits": s.bits} for n, s in stored.items()]
    head = json.dumps(table, separators=(",", ":")).encode()
    parts = [struct.pack("<I", len(head)), head]
    for s in stored.values():
        if s.scale is not None:
            parts.append(_bytes_of(s.scale, "<f2"))
        parts.append(_bytes_of(s.codes, CODE_TYPES[s.route]))
    payload = b"".join(parts)
    body = codec.compress(payload)
    name = codec.name.encode().ljust(8, b"\0")
    return ARTIFACT_HEADER.pack(ARTIFACT_MAGIC, name, len(payload), _digest(name, len(payload), body)) + body


def decode_artifact(data: bytes, codec: Codec) -> dict[str, StoredTensor]:
    """The stored tensors of a file. Raises ArtifactError, whatever the bytes are."""
    if len(data) < ARTIFACT_HEADER.size:
        raise ArtifactError(
            f"the artifact has {len(data)} bytes, fewer than its header of {ARTIFACT_HEADER.size}: it was cut"
        )
    magic, name, size, digest = ARTIFACT_HEADER.unpack_from(data)
    if magic != ARTIFACT_MAGIC:
        raise ArtifactError(f"not an artifact of ours: it starts with {magic!r}, not {ARTIFACT_MAGIC!r}")
    body = data[ARTIFACT_HEADER.size :]
    if _digest(name, size, body) != digest:
        raise ArtifactError(f"the artifact was cut or altered: the checksum of its {len(data)} bytes does not match")
    if name.rstrip(b"\0") != codec.name.encode():
        raise ArtifactError(f"the artifact is compressed with {name!r}; this run's codec is {codec.name!r}")
    if size > MAX_PAYLOAD_BYTES:
        raise ArtifactError(f"the artifact claims {size} bytes of payload; at most {MAX_PAYLOAD_BYTES} are read")
    try:
        payload = codec.decompress(body, size)
    except ValueError as error:
        raise ArtifactError(f"the artifact's {codec.name} stream is damaged: {error}") from None
    if len(payload) != size:
        raise ArtifactError(f"the artifact's payload has {len(payload)} bytes; its header says {size}")
    return _decode_payload(payload)


def _decode_payload(payload: bytes) -> dict[str, StoredTensor]:
    try:
        (length,) = struct.unpack_from("<I", payload)
        table = json.loads(payload[4 : 4 + length])
        offset = 4 + length
        stored = {}
        for entry in table:
            route, bits, shape = entry["route"], entry["bits"], tuple(entry["shape"])
            if any(type(n) is not int or n < 0 for n in shape) or math.prod(shape) > MAX_PAYLOAD_BYTES:
                raise ArtifactError(f"the artifact's tensor {entry['name']!r} has the shape {shape}")
            scale = None
            if route == "grid":
                scale, offset = _take(payload, offset, "<f2", shape[:1])
            codes, offset = _take(payload, offset, CODE_TYPES[route], shape)
            stored[entry["name"]] = StoredTensor(route, shape, codes, bits, scale)
    except (struct.error, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ArtifactError(f"the artifact's table is damaged: {type(error).__name__}: {error}") from None
    if offset != len(payload):
        raise ArtifactError(f"the artifact holds {len(payload) - offset} bytes after its last tensor")
    return stored


def _take(payload: bytes, offset: int, kind: str, shape: tuple[int, ...]) -> tuple[torch.Tensor, int]:
    count = math.prod(shape)
    end = offset + count * np.dtype(kind).itemsize
    if end > len(payload):
        raise ArtifactError(f"the artifact ends inside a tensor: byte {end} of {len(payload)}")
    array = np.frombuffer(payload, dtype=kind, count=count, offset=offset).reshape(shape)
    return torch.from_numpy(array.copy()), end
