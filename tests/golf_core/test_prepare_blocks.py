"""Reading documents: every kind of file gives the same ones, cut by the input alone, and bad ones are named."""

import gzip
import json
import lzma
import pickle
import re
from pathlib import Path

import arro3.core
import arro3.io
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from golf_core.data.shards import DataError
from golf_core.prepare.blocks import START, read_blocks
from golf_core.prepare.encode import documents_of
from golf_core.prepare.sources import Source, find_sources

TEXTS = [f"document {number} é \U0001f600\nsecond line {'x' * (number * 7 % 50)}" for number in range(40)]


def lines(texts) -> bytes:
    return "".join(json.dumps({"id": 1, "text": text}) + "\n" for text in texts).encode()


def write(folder: Path, kind: str, texts) -> Path:
    """A file (for text: a folder) of that kind with these documents."""
    path = folder / f"d.{kind}"
    packed = {"jsonl": bytes, "jsonl.gz": gzip.compress, "jsonl.xz": lzma.compress, "jsonl.zst": two_frames}
    if kind in packed:
        path.write_bytes(packed[kind](lines(texts)))
    elif kind == "parquet":
        write_parquet(path, texts)
    else:
        path = folder / "texts"
        path.mkdir()
        for number, text in enumerate(texts):
            (path / f"{number:03d}.txt").write_bytes(text.encode())
    return path


def two_frames(data: bytes) -> bytes:
    half = len(data) // 2
    return zstandard.compress(data[:half]) + zstandard.compress(data[half:])


def write_parquet(path: Path, texts, **columns) -> None:
    text = arro3.core.Array(texts, type=arro3.core.DataType.string())
    number = arro3.core.Array(list(range(len(texts))), type=arro3.core.DataType.int64())
    arro3.io.write_parquet(arro3.core.Table.from_pydict({"text": text, "n": number}), path, max_row_group_size=10)


def read(path: Path, start=None, **settings):
    """(blocks, texts, bad documents as strings)."""
    blocks = list(read_blocks(find_sources([path]), start, **settings))
    found = [one for block in blocks for one in documents_of(block)]
    bad = [f"{place}: {text}" for place, text in found if isinstance(text, DataError)]
    bad += [f"{one.place}: {one.reason}" for block in blocks for one in block.bad]
    return blocks, [text for _, text in found if isinstance(text, str)], bad


KINDS = ["jsonl", "jsonl.gz", "jsonl.xz", "jsonl.zst", "parquet", "text"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_documents_and_goes_on_from_any_block(kind, tmp_path):
    """All documents once, in order; reading from a block's end gives the same blocks as reading through."""
    path = write(tmp_path, kind, TEXTS)
    blocks, texts, bad = read(path, block_bytes=300)
    assert texts == TEXTS and not bad and len(blocks) > 3
    for number, block in enumerate(blocks):
        position = json.loads(json.dumps(block.after))
        assert list(read_blocks(find_sources([path]), position, block_bytes=300)) == blocks[number + 1 :]
    assert pickle.loads(pickle.dumps(blocks)) == blocks and blocks[0].start == START


@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), max_size=12),
    size=st.integers(1, 200),
)
def test_any_texts_in_blocks_of_any_size(texts, size, tmp_path_factory):
    """No text is lost, cut or changed, wherever the blocks end."""
    path = tmp_path_factory.mktemp("any") / "a.jsonl"
    path.write_bytes(b"\n" + lines(texts).replace(b"\n", b"\r\n"))
    assert read(path, block_bytes=size, largest=1000)[1:] == (texts, [])


@pytest.mark.parametrize("kind", KINDS)
def test_a_huge_document_is_named_and_the_others_are_read(kind, tmp_path):
    """Of documents over the limit nothing is held; those around them are there."""
    texts = [*TEXTS[:3], "y" * 5000, TEXTS[3], "z" * 2000, "w" * 2000, TEXTS[4]]
    blocks, found, bad = read(write(tmp_path, kind, texts), block_bytes=300, largest=1000)
    assert found == TEXTS[:5] and len(bad) == 3 and all("1,000: cut it" in line for line in bad)
    assert all(len(block.payload) <= 1300 and block.place for block in blocks)
    place = {"parquet": "row 3:", "text": "003.txt:"}.get(kind, f".{kind}:4 (byte")
    assert place in bad[0]


def test_a_huge_document_at_the_very_end_and_alone(tmp_path):
    """A last line over the limit is bad whether or not it ends; one of exactly the limit is fine."""
    for end in (b"", b"\n"):
        (tmp_path / "a.jsonl").write_bytes(lines(["a"]) + b"x" * 500 + end)
        _, texts, bad = read(tmp_path / "a.jsonl", block_bytes=100, largest=200)
        assert texts == ["a"] and len(bad) == 1 and "500 bytes" in bad[0].replace("501", "500")
        exact = json.dumps({"text": "x" * 188}).encode()
        (tmp_path / "a.jsonl").write_bytes(exact + end)
        assert read(tmp_path / "a.jsonl", block_bytes=100, largest=len(exact))[1:] == (["x" * 188], [])


BAD_LINES = {
    "cut": (b'{"text": "abc', "no JSON: Unterminated string.*the file ends within this line"),
    "no field": (b'{"body": "abc"}\n', "no 'text'; it has 'body'"),
    "empty object": (b"{}\n", "it has nothing"),
    "no text": (b'{"text": 3}\n', "its 'text' is int, not text"),
    "null": (b'{"text": null}\n', "its 'text' is NoneType"),
    "a list": (b'["abc"]\n', "it is list, not an object"),
    "latin 1": (b'{"text": "caf\xe9"}\n', r"byte 14 of it is no UTF-8"),
    "half a pair": (b'{"text": "a\\ud800b"}\n', r"half a surrogate pair \('\\ud800'\)"),
    "deep": (b'{"text": ' + b"[" * 100_000 + b"\n", "nested too deep"),
    "a huge number": (b'{"text": "a", "n": ' + b"9" * 5000 + b"}\n", "digits"),
    "utf-16": ('{"text": "a"}'.encode("utf-16-le") + b"\n", "it is no JSON"),
}


@pytest.mark.parametrize("line, says", BAD_LINES.values(), ids=BAD_LINES.keys())
def test_a_bad_line_is_named_by_file_line_and_byte(line, says, tmp_path):
    """What is wrong is said with its place, also when reading went on from a block's end; the others are read."""
    path, before = tmp_path / "a.jsonl", lines(TEXTS[:5])
    path.write_bytes(before + line)
    blocks, texts, bad = read(path, block_bytes=100, largest=200_000)
    assert texts == TEXTS[:5] and len(bad) == 1
    assert bad[0].startswith(f"{path}:6 (byte {len(before):,}): ")
    assert re.search(says, bad[0])
    assert read(path, blocks[1].after, block_bytes=100, largest=200_000)[2] == bad


def test_what_is_no_fault(tmp_path):
    """A missing end of the last line, empty lines, a byte order mark, NUL and an empty text."""
    data = b"\xef\xbb\xbf" + lines(["a", ""]) + b"\n  \n" + lines(["b\0c"]).rstrip(b"\n")
    (tmp_path / "a.jsonl").write_bytes(data)
    assert read(tmp_path / "a.jsonl", block_bytes=20)[1:] == (["a", "", "b\0c"], [])
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfabc")
    assert read(tmp_path / "a.txt")[1:] == (["abc"], [])
    (tmp_path / "b.txt").write_bytes(b"abc\xff")
    assert read(tmp_path / "b.txt")[2] == [
        f"{tmp_path / 'b.txt'}: byte 4 of it is no UTF-8 (invalid start byte): convert the file to UTF-8"
    ]


@pytest.mark.parametrize("kind", ["jsonl.gz", "jsonl.xz", "jsonl.zst", "parquet"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_file_is_refused(kind, damage, tmp_path, capfd):
    """A compressed file that is cut or changed never passes for a short one."""
    path = write(tmp_path, kind, TEXTS * 20)
    data = bytearray(path.read_bytes())
    if damage == "cut":
        del data[-len(data) // 3 :]
    elif damage == "flipped":
        middle = len(data) // 2 if kind != "parquet" else len(data) - 20
        data[middle : middle + 8] = bytes(value ^ 0xFF for value in data[middle : middle + 8])
    elif kind != "parquet":
        data = data[:10]
    else:
        data.clear()
    path.write_bytes(data)
    with pytest.raises(DataError) as refusal:
        list(read_blocks(find_sources([path]), block_bytes=300))
    assert str(path) in str(refusal.value) and "fetch it again" in str(refusal.value)
    capfd.readouterr()  # arro3 prints the trace of a panic


def test_damage_anywhere_in_a_parquet_file_is_no_crash(tmp_path, capfd):
    """Whatever arro3 makes of it, it is read or refused with the file's name."""
    path = write(tmp_path, "parquet", TEXTS * 3)
    data, refused = path.read_bytes(), 0
    for place in range(0, len(data), 31):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :])
        try:
            list(read_blocks(find_sources([path])))
        except DataError as error:
            refused += str(path) in str(error)
    assert refused > 10
    capfd.readouterr()


def test_a_parquet_column_is_named_by_the_user(tmp_path):
    """A missing column is answered with those that are there, one of numbers is refused, a null is a bad row."""
    write_parquet(tmp_path / "a.parquet", ["a", None, "b"])
    _, texts, bad = read(tmp_path / "a.parquet")
    assert texts == ["a", "b"] and bad == [f"{tmp_path / 'a.parquet'} row 1: it has no text (null)"]
    with pytest.raises(DataError, match="no column 'body'; it has text, n"):
        read(tmp_path / "a.parquet", text_field="body")
    with pytest.raises(DataError, match=r"column 'n' holds whole numbers, not text"):
        read(tmp_path / "a.parquet", text_field="n")


def test_sources_are_sorted_and_named(tmp_path):
    """Folders with their subfolders in order of paths; files as named; hidden ones left out."""
    for name in ("b.jsonl", "a/z.jsonl.gz", "a/c.parquet", ".git/x.jsonl", ".hidden"):
        (tmp_path / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "d" / name).write_bytes(b"")
    (tmp_path / "E.TXT").write_bytes(b"")
    found = find_sources([tmp_path / "E.TXT", tmp_path / "d"])
    assert found == (
        Source(tmp_path / "E.TXT", "text"),
        Source(tmp_path / "d/a/c.parquet", "parquet"),
        Source(tmp_path / "d/a/z.jsonl.gz", "jsonl.gz"),
        Source(tmp_path / "d/b.jsonl", "jsonl"),
    )


SOURCE_FAULTS = {
    "none": ([], [], "no documents were named"),
    "absent": ([], ["x.jsonl"], "there is no file or folder .*x.jsonl"),
    "empty folder": (["d/.x"], ["d"], "d holds no files"),
    "unknown": (["a.json"], ["a.json"], "a.json is of no kind that is known here; .*\\.jsonl, .*\\.md"),
    "unknown in a folder": (["d/a.jsonl", "d/b.csv"], ["d"], "b.csv is of no kind"),
    "mixed": (["d/a.jsonl", "d/README.md"], ["d"], r"both text files \(README.md, 1 in all\) and record files"),
    "twice": (["d/a.jsonl"], ["d", "d/a.jsonl"], "a.jsonl is the same file as .*: name it once"),
}


@pytest.mark.parametrize("files, named, says", SOURCE_FAULTS.values(), ids=SOURCE_FAULTS.keys())
def test_unclear_sources_are_refused(files, named, says, tmp_path):
    """The message names the path, and what can be read."""
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match=says):
        find_sources([tmp_path / name for name in named])
