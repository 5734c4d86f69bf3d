"""The artifact: the same tensors back, or a clear error, whatever was done to the bytes."""

import dataclasses
import importlib
import json
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from golf_core.artifact.container import ARTIFACT_HEADER, ArtifactError, decode_artifact, encode_artifact
from golf_core.artifact.lzma_codec import LzmaCodec
from golf_core.artifact.zlib_codec import ZlibCodec
from golf_core.config import ArtifactConfig
from golf_core.config_quant import QuantConfig
from golf_core.quant.clip import max_clip
from golf_core.quant.nibbles import Nibbles, pack_nibbles, unpack_nibbles
from golf_core.quant.rows import Quantizer, StoredTensor, restore_state

(OPTIONS,) = (f.metadata["parts"] for f in dataclasses.fields(ArtifactConfig) if f.name == "codec")


def codec(name: str, level=None):
    module, symbol = OPTIONS[name].split(":")
    return getattr(importlib.import_module(module), symbol)(level)


def stored_tensors(**quant):
    generator = torch.Generator().manual_seed(0)
    state = {
        "tok_emb.weight": torch.randn(40, 16, generator=generator),
        "blocks.0.attn.c_q.weight": torch.randn(33, 7, generator=generator),
        "blocks.0.attn.c_k.weight": torch.randn(3, 5, generator=generator),
        "blocks.0.attn.q_gain": torch.randn(4, generator=generator),
        "empty": torch.zeros(0, 3),
    }
    config = QuantConfig(**{"attn_bits": 6, "keep_numel": 20} | quant)
    return Quantizer(config, 1, {"quant.clip": max_clip}).export(state)


STORED = stored_tensors()
FILE = encode_artifact(STORED, ZlibCodec())


def same(a, b) -> bool:
    return list(a) == list(b) and all(
        (a[n].route, a[n].shape, a[n].bits, a[n].group_rows) == (b[n].route, b[n].shape, b[n].bits, b[n].group_rows)
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


@pytest.mark.parametrize("group", [2, 8, 100])
def test_shared_scales_come_back(group):
    """Tensors whose rows share scales come back with as many scales as groups, and with the same values."""
    stored = stored_tensors(group_rows=group)
    back = decode_artifact(encode_artifact(stored, ZlibCodec()), ZlibCodec())
    assert same(back, stored)
    assert len(back["blocks.0.attn.c_q.weight"].scale) == -(-33 // group)
    one, two = restore_state(back), restore_state(stored)
    assert all(torch.equal(one[name], two[name]) for name in stored)


@given(st.integers(0, 1000), st.integers(1, 9), st.integers(0, 33))
def test_packed_codes_come_back(seed, rows, columns):
    """unpack(pack(q)) is q over the whole range of 4 bits, for rows of odd length too, at half the bytes."""
    codes = torch.randint(-8, 8, (rows, columns), generator=torch.Generator().manual_seed(seed)).to(torch.int8)
    packed = pack_nibbles(codes)
    assert packed.dtype == torch.uint8 and packed.shape == (rows, -(-columns // 2))
    back = unpack_nibbles(packed, columns)
    assert back.dtype == torch.int8 and torch.equal(back, codes)


def test_the_layout_of_packed_codes():
    """The even column lies in the high half, each code plus 8; a row of odd length ends with a zero half."""
    codes = torch.tensor([[-8, 7, 0], [1, -1, -7]], dtype=torch.int8)
    assert pack_nibbles(codes).tolist() == [[0x0F, 0x80], [0x97, 0x10]]


@pytest.mark.parametrize("symmetric", [True, False])
def test_packed_tensors_come_back_through_the_file(symmetric):
    """With packing, 4-bit tensors take half the payload and come back as they were; the others are not touched."""
    stored = stored_tensors(attn_bits=4, symmetric=symmetric)
    files = [encode_artifact(stored, ZlibCodec(0), packing) for packing in (None, Nibbles)]
    assert len(files[0]) - len(files[1]) == 33 * (7 - 4) - len(',"packed":true')
    assert same(decode_artifact(files[1], ZlibCodec(), Nibbles), stored)


def test_codes_that_packing_would_change_are_refused():
    """A tensor that says 4 bits and holds more is an error that names it, not another tensor."""
    codes = torch.full((2, 3), 9, dtype=torch.int8)
    wide = {"w": StoredTensor("grid", (2, 3), codes, 4, torch.ones(2, dtype=torch.float16))}
    with pytest.raises(ArtifactError, match=r"w: its codes, 9 to 9, .* set quant.nibbles=false"):
        encode_artifact(wide, ZlibCodec(), Nibbles)


def test_a_packed_file_needs_its_packing():
    """A run whose config does not pack says that the file does."""
    data = encode_artifact(stored_tensors(attn_bits=4), ZlibCodec(), Nibbles)
    with pytest.raises(ArtifactError, match=r"c_q.weight' is packed"):
        decode_artifact(data, ZlibCodec())


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


@pytest.mark.parametrize(
    "change",
    [
        {"group_rows": 0},
        {"group_rows": -2},
        {"group_rows": 1.5},
        {"group_rows": "8"},
        {"shape": [4]},
        {"shape": []},
        {"bits": 6, "packed": True},
        {"route": "fp16", "packed": True},
        {"shape": [1 << 20, 1 << 20], "packed": True},
        {"shape": [3, 4], "packed": True},
    ],
)
def test_a_lying_entry_is_refused(change):
    """Groups, packing and shapes that cannot be are errors of ours, with packing or without."""
    entry = json.dumps([{"name": "a", "route": "grid", "shape": [4, 4], "bits": 4, **change}]).encode()
    for packing in (None, Nibbles):
        with pytest.raises(ArtifactError):
            decode_artifact(sealed_file(struct.pack("<I", len(entry)) + entry + b"\0" * 24), ZlibCodec(), packing)


def test_a_lying_size_is_refused():
    """A header that claims too much or too little payload is noticed, without filling the memory."""
    for size in (3, 1 << 20, 1 << 62):
        with pytest.raises(ArtifactError):
            decode_artifact(sealed_file(b"\0" * 1000, size), ZlibCodec())


def test_another_codec_is_named():
    """An artifact of another codec says so."""
    with pytest.raises(ArtifactError, match="zlib"):
        decode_artifact(FILE, LzmaCodec())
