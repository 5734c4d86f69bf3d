"""The artifact: the same tensors back, or a clear error, whatever was done to the bytes."""

import importlib
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from golf_core.artifact.container import ARTIFACT_HEADER, ArtifactError, decode_artifact, encode_artifact
from golf_core.artifact.lzma_codec import LzmaCodec
from golf_core.artifact.zlib_codec import ZlibCodec
from golf_core.config import Config
from golf_core.config_quant import QuantConfig
from golf_core.fields import chosen_parts
from golf_core.quant.rows import quantize_state

OPTIONS = next(options for path, _, options in chosen_parts(Config(name="x")) if path == "artifact.codec")


def codec(name: str, level=None):
    module, symbol = OPTIONS[name].split(":")
    return getattr(importlib.import_module(module), symbol)(level)


def stored_tensors():
    generator = torch.Generator().manual_seed(0)
    state = {
        "tok_emb.weight": torch.randn(40, 16, generator=generator),
        "blocks.0.attn.c_q.weight": torch.randn(33, 7, generator=generator),
        "blocks.0.attn.c_k.weight": torch.randn(3, 5, generator=generator),
        "blocks.0.attn.q_gain": torch.randn(4, generator=generator),
        "empty": torch.zeros(0, 3),
    }
    return quantize_state(state, QuantConfig(matrix_bits=6, keep_numel=20))


STORED = stored_tensors()
FILE = encode_artifact(STORED, ZlibCodec())


def same(a, b) -> bool:
    return list(a) == list(b) and all(
        (a[n].route, a[n].shape, a[n].bits) == (b[n].route, b[n].shape, b[n].bits)
        and torch.equal(a[n].codes, b[n].codes)
        and ((a[n].scale is None) == (b[n].scale is None))
        and (a[n].scale is None or torch.equal(a[n].scale, b[n].scale))
        for n in a
    )


@pytest.mark.parametrize("name", sorted(OPTIONS))
@pytest.mark.parametrize("level", [None, 1])
def test_tensors_come_back_through_every_codec(name, level):
    """Names, order, shapes, codes and scales survive, and two encodings are the same bytes."""
    data = encode_artifact(STORED, codec(name, level))
    assert same(decode_artifact(data, codec(name)), STORED)
    assert encode_artifact(STORED, codec(name, level)) == data


@given(st.data())
@settings(max_examples=300)
def test_a_changed_byte_is_noticed(data):
    """Whichever bits are flipped, wherever, the artifact is refused with a message."""
    place = data.draw(st.integers(0, len(FILE) - 1))
    flip = data.draw(st.integers(1, 255))
    damaged = bytearray(FILE)
    damaged[place] ^= flip
    with pytest.raises(ArtifactError):
        decode_artifact(bytes(damaged), ZlibCodec())


@given(st.integers(0, len(FILE) - 1))
def test_a_cut_is_noticed(length):
    """A file cut anywhere is refused."""
    with pytest.raises(ArtifactError, match="cut"):
        decode_artifact(FILE[:length], ZlibCodec())


@given(st.binary(max_size=200))
def test_foreign_bytes_are_refused(data):
    """Anything else is an error of ours, never a crash."""
    with pytest.raises(ArtifactError):
        decode_artifact(data, ZlibCodec())


def sealed_file(payload: bytes, size: int | None = None) -> bytes:
    """An artifact with a right checksum around any payload: what a hostile writer can make."""
    from golf_core.artifact import container

    body, name = ZlibCodec().compress(payload), b"zlib\0\0\0\0"
    size = len(payload) if size is None else size
    return ARTIFACT_HEADER.pack(container.ARTIFACT_MAGIC, name, size, container._digest(name, size, body)) + body


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        struct.pack("<I", 1 << 31) + b"[]",
        struct.pack("<I", 2) + b"{}" + b"trailing",
        struct.pack("<I", 4) + b"[[]]",
        struct.pack("<I", 44) + b'[{"name":"a","route":"x","shape":[1],"bits":8}]'[:44],
        struct.pack("<I", 48) + b'[{"name":"a","route":"grid","shape":[-1],"bits":8}]'[:48],
        (lambda t: struct.pack("<I", len(t)) + t)(b'[{"name":"a","route":"fp32","shape":[99999,99999],"bits":0}]'),
        (lambda t: struct.pack("<I", len(t)) + t)(b'[{"name":"a","route":"fp32","shape":[1e3],"bits":0}]'),
        (lambda t: struct.pack("<I", len(t)) + t)(b'[{"name":"a","route":"evil","shape":[1],"bits":0}]'),
        (lambda t: struct.pack("<I", len(t)) + t)(b"[" * 5000),
    ],
)
def test_a_hostile_table_is_refused(payload):
    """A file with a right checksum and a lying table is an error of ours, never a crash."""
    with pytest.raises(ArtifactError):
        decode_artifact(sealed_file(payload), ZlibCodec())


def test_a_lying_size_is_refused():
    """A header that claims too much or too little payload is noticed, without filling the memory."""
    for size in (3, 1 << 20, 1 << 62):
        with pytest.raises(ArtifactError):
            decode_artifact(sealed_file(b"\0" * 1000, size), ZlibCodec())


def test_another_codec_is_named():
    """An artifact of another codec says so."""
    with pytest.raises(ArtifactError, match="zlib"):
        decode_artifact(FILE, LzmaCodec())
