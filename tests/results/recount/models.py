"""SentencePiece models and shards written by hand, byte for byte, so that what reads them is held to the format."""

import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from golf_core.rundir import content_id, file_sha256, write_json

NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
SPECIAL = [("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL)]
BYTES = [(f"<0x{byte:02X}>", BYTE) for byte in range(256)]
WORDS = ["▁", "a", "b", "c", "e", "t", "h", "▁t", "he", "▁the", "ab", "▁a", "▁b", "▁ca", "bc", "▁▁"]


def number(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def message(tag: int, data: bytes) -> bytes:
    return number(tag << 3 | 2) + number(len(data)) + data


def model_bytes(
    pieces: Iterable[tuple[str, int]],
    *,
    dummy: bool = False,
    extra: bool = True,
    rules: bytes = b"",
    suffix: bool = False,
) -> bytes:
    """BPE; pieces of text merge in the order in which they are listed."""
    out = b""
    for place, (text, kind) in enumerate(pieces):
        told = message(1, text.encode()) + b"\x15" + struct.pack("<f", -float(place)) + number(3 << 3) + number(kind)
        out += message(1, told)
    out += message(2, number(3 << 3) + number(2) + number(24 << 3) + number(int(suffix)) + number(35 << 3) + number(1))
    normal = message(2, rules) if rules else b""
    normal += number(3 << 3) + number(int(dummy)) + number(4 << 3) + number(int(extra)) + number(5 << 3) + number(1)
    return out + message(3, normal)


def pieces_with(words: Sequence[str] = WORDS) -> list[tuple[str, int]]:
    return [*SPECIAL, *BYTES, *((word, NORMAL) for word in words)]


def write_shard(path: Path, tokens: Sequence[int]) -> None:
    head = np.zeros(256, dtype="<i4")
    head[:3] = 20240520, 1, len(tokens)
    path.write_bytes(head.tobytes() + np.array(tokens, dtype="<u2").tobytes())


def data_folder(
    folder: Path, model: bytes, val: Sequence[Sequence[int]], train: Sequence[Sequence[int]]
) -> dict[str, Any]:
    """Shards behind a BOS each, a tokenizer, a manifest; the hashes that a run's id would name."""
    folder.mkdir(parents=True)
    (folder / "tok.model").write_bytes(model)
    for split, documents in (("val", val), ("train", train)):
        write_shard(folder / f"x_{split}_000000.bin", [token for one in documents for token in (1, *one)])
    hashes = {split: [file_sha256(folder / f"x_{split}_000000.bin")] for split in ("train", "val")}
    count = sum(len(one) + 1 for one in val)
    splits = {"val": {"tokens": count, "documents": len(val), "bytes": None}}
    files = {f"x_{split}_000000.bin": {"sha256": hashes[split][0]} for split in hashes}
    write_json(
        folder / "manifest.json", {"tokenizer": {"path": "tok.model"}, "files": files, "source": {}, "splits": splits}
    )
    return {"data_sha256": content_id(hashes), "tokenizer_sha256": file_sha256(folder / "tok.model")}
