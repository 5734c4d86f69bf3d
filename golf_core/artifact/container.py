"""artifact.bin: a self-describing container for stored tensors. Plain data with checked lengths, no pickle.

8 bytes   magic "GOLFART1"
8 bytes   codec name, ASCII, zero-padded
8 bytes   size of the payload before compression, little-endian
16 bytes  BLAKE2b of everything else in the file
rest      compressed payload:
          4 bytes  length of the table, little-endian
          table    JSON: a list of {name, route, shape, bits}; group_rows where rows share a scale; packed where
                   codes lie two a byte (see quant/nibbles.py)
          data     tensor after tensor: fp16 scales of a grid, then codes (int8, fp16 or fp32, little-endian)
"""

import hashlib
import json
import math
import struct
import typing
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


class Packing(Protocol):
    """Codes of `bits`, several a byte: quant/nibbles.py."""

    bits: int

    def pack(self, codes_MN: torch.Tensor) -> torch.Tensor: ...

    def unpack(self, packed: torch.Tensor, columns: int) -> torch.Tensor: ...


def _digest(codec: bytes, size: int, body: bytes) -> bytes:
    digest = hashlib.blake2b(ARTIFACT_MAGIC + codec + struct.pack("<Q", size), digest_size=16)
    digest.update(body)
    return digest.digest()


def _bytes_of(tensor: torch.Tensor, kind: str) -> bytes:
    return tensor.contiguous().numpy().astype(kind, copy=False).tobytes()


def _entry(name: str, s: StoredTensor, packed: bool) -> dict[str, typing.Any]:
    """A tensor's line of the table; what is as usual is not written."""
    entry = {"name": name, "route": s.route, "shape": s.shape, "bits": s.bits}
    return entry | ({"group_rows": s.group_rows} if s.group_rows > 1 else {}) | ({"packed": True} if packed else {})


def _packed(name: str, s: StoredTensor, packing: Packing) -> torch.Tensor:
    """The codes packed, and proved to come back."""
    packed = packing.pack(s.codes)
    if not torch.equal(packing.unpack(packed, s.shape[1]), s.codes):
        raise ArtifactError(
            f"{name}: its codes, {int(s.codes.min())} to {int(s.codes.max())}, do not come back from their packing "
            f"in {packing.bits} bits; set quant.nibbles=false"
        )
    return packed


def encode_artifact(stored: Mapping[str, StoredTensor], codec: Codec, packing: Packing | None = None) -> bytes:
    """The whole file as bytes. Matrices of `packing`'s bits are packed. Raises ArtifactError if one of them would
    not come back."""
    packed = {n for n, s in stored.items() if packing and s.route == "grid" and s.bits == packing.bits}
    head = json.dumps([_entry(n, s, n in packed) for n, s in stored.items()], separators=(",", ":")).encode()
    parts = [struct.pack("<I", len(head)), head]
    for name, s in stored.items():
        if s.scale is not None:
            parts.append(_bytes_of(s.scale, "<f2"))
        if packing and name in packed:
            parts.append(_bytes_of(_packed(name, s, packing), "u1"))
        else:
            parts.append(_bytes_of(s.codes, CODE_TYPES[s.route]))
    payload = b"".join(parts)
    body = codec.compress(payload)
    name = codec.name.encode().ljust(8, b"\0")
    return ARTIFACT_HEADER.pack(ARTIFACT_MAGIC, name, len(payload), _digest(name, len(payload), body)) + body


def decode_artifact(data: bytes, codec: Codec, packing: Packing | None = None) -> dict[str, StoredTensor]:
    """The stored tensors of a file; `packing` is what it was written with. Raises ArtifactError, whatever the bytes."""
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
    return _decode_payload(payload, packing)


def _decode_payload(payload: bytes, packing: Packing | None) -> dict[str, StoredTensor]:
    try:
        (length,) = struct.unpack_from("<I", payload)
        table = json.loads(payload[4 : 4 + length])
        offset = 4 + length
        stored = {}
        for entry in table:
            stored[entry["name"]], offset = _decode_tensor(entry, payload, offset, packing)
    except (struct.error, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ArtifactError(f"the artifact's table is damaged: {type(error).__name__}: {error}") from None
    if offset != len(payload):
        raise ArtifactError(f"the artifact holds {len(payload) - offset} bytes after its last tensor")
    return stored


def _decode_tensor(
    entry: dict[str, typing.Any], payload: bytes, offset: int, packing: Packing | None
) -> tuple[StoredTensor, int]:
    route, bits, shape, group = entry["route"], entry["bits"], tuple(entry["shape"]), entry.get("group_rows", 1)
    sizes = (*shape, group)
    if any(type(n) is not int or n < 0 for n in sizes) or math.prod(shape) > MAX_PAYLOAD_BYTES or group < 1:
        raise ArtifactError(f"the artifact's tensor {entry['name']!r} has the shape {shape}, {group} rows a scale")
    scale = None
    if route == "grid":
        if len(shape) != 2:
            raise ArtifactError(f"the artifact's tensor {entry['name']!r} is on a grid; its shape {shape} is no matrix")
        scale, offset = _take(payload, offset, "<f2", (-(-shape[0] // group),))
    if not entry.get("packed"):
        codes, offset = _take(payload, offset, CODE_TYPES[route], shape)
        return StoredTensor(route, shape, codes, bits, scale, group), offset
    if packing is None or route != "grid" or bits != packing.bits:
        raise ArtifactError(
            f"the artifact's tensor {entry['name']!r} is packed; this run's config packs no such tensor"
        )
    per_byte = 8 // packing.bits
    codes, offset = _take(payload, offset, "u1", (shape[0], -(-shape[1] // per_byte)))
    return StoredTensor(route, shape, packing.unpack(codes, shape[1]), bits, scale, group), offset


def _take(payload: bytes, offset: int, kind: str, shape: tuple[int, ...]) -> tuple[torch.Tensor, int]:
    count = math.prod(shape)
    end = offset + count * np.dtype(kind).itemsize
    if end > len(payload):
        raise ArtifactError(f"the artifact ends inside a tensor: byte {end} of {len(payload)}")
    array = np.frombuffer(payload, dtype=kind, count=count, offset=offset).reshape(shape)
    return torch.from_numpy(array.copy()), end
