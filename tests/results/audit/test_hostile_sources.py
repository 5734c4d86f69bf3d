"""Hostile sources: each is refused or analysed within limits, says so in one line, and harms no other."""

import base64
import bz2
import gzip
import lzma
import os
import zlib
from dataclasses import replace

import brotli
import pytest
import zstandard

from results.audit.pool import Request, audit_many
from results.audit.source import Limits
from tests.results.audit.scripts import SCRIPT

LIMITS = Limits(decoded_bytes=1 << 20, steps=20_000, nodes=50_000, seconds=10.0)
HUGE = b"#" * (8 << 20)
CALLS = {
    "zlib": ("zlib.decompress({})", zlib.compress),
    "gzip": ("gzip.decompress({})", gzip.compress),
    "bz2": ("bz2.decompress({})", bz2.compress),
    "lzma": ("lzma.decompress({})", lzma.compress),
    "brotli": ("brotli.decompress({})", lambda data: brotli.compress(data, quality=1)),
    "zstandard": ("zstandard.decompress({})", zstandard.compress),
}


def bomb(name):
    call, pack = CALLS[name]
    data = base64.b64encode(pack(HUGE)).decode()
    return f"import {name}, base64\nexec({call.format(f'base64.b64decode({data!r})')})\n"


def nested(depth):
    text = "import torch\n" * 30
    for _ in range(depth):
        packed = base64.b64encode(zlib.compress(text.encode()))
        text = f"import zlib, base64\nexec(zlib.decompress(base64.b64decode({packed!r})))\n"
    return text


# name -> (text, a word of the refusal)
REFUSED = {
    "deep parentheses": ("x = " + "(" * 100_000 + ")" * 100_000, "nested too deeply"),
    "deep operators": ("x = " + " + ".join(["1"] * 200_000), "nested too deeply"),
    "deep minus": ("x = " + "-" * 100_000 + "1", "nested too deeply"),
    "deep attributes": ("x = a" + ".b" * 200_000, "nested too deeply"),
    "deep calls": ("x = a" + "()" * 200_000, "nested too deeply"),
    "deep f-strings": ("x = " + "f'{" * 200 + "1" + "}'" * 200, "nests f-strings"),
    "many lines": ("x=1\n" * 1_000_000, "1,000,000 lines"),
    "many names": ("f(" + "a, " * 60_000 + ")", "50,000 nodes"),
    "a nest of wrappers": (nested(12), "more than 8 times"),
    "not UTF-8": (b"x = '\xff'", "UTF-8"),
    "UTF-16": ("x = 1".encode("utf-16"), "UTF-8"),
    "another encoding": (b"# coding: utf-7\nx = 1", "utf-7"),
    "an unknown encoding": (b"# coding: nonsense\nx = 1", "nonsense"),
    "a NUL": (b"x = 1\0", "NUL"),
    "bytes": (bytes(range(1, 256)) * 50, "UTF-8"),
    "a long text": ("x = 'a'\nx = x * 10 ** 12\nexec(x)", "grows beyond"),
    "a doubled text": ("x = 'ab' * 60000\nx = x + x\n" + "x = x + x\n" * 40, "grows beyond"),
    "a replaced text": ("x = 'a' * 100000\nx = x.replace('a', 'b' * 100000)", "grows beyond"),
    "a large power": ("x = 10 ** 10 ** 10", "too large"),
    "a large shift": ("x = 1 << 10 ** 10", "too large"),
    "a large dictionary": (
        "import lzma\nF = [{'id': lzma.FILTER_LZMA2, 'dict_size': 1 << 31}]\n"
        "exec(lzma.decompress(b'abcdefgh' * 20, format=lzma.FORMAT_RAW, filters=F))",
        "dictionary",
    ),
    **{f"a bomb of {name}": (bomb(name), "bomb") for name in CALLS},
}
NOTED = {
    "an endless loop": ("import torch\nwhile True:\n    x = 1\n", "more constants"),
    "a long loop": ("import torch\nx = 0\nfor i in range(10 ** 12):\n    x += 1\n", "more constants"),
    "prose": ("This is a text. It's no code.\n", "do not parse"),
    "nothing": ("", "imports none"),
}


@pytest.fixture(scope="module")
def audits(tmp_path_factory):
    """Every hostile source in one go through the same children, with an honest one between and at the end."""
    folder = tmp_path_factory.mktemp("hostile")
    places = {}
    for number, (name, (text, _)) in enumerate({**REFUSED, **NOTED, "honest": (SCRIPT, "")}.items()):
        places[name] = folder / f"{number}.py"
        places[name].write_bytes(text if isinstance(text, bytes) else text.encode())
    places["link"] = folder / "link.py"
    places["link"].symlink_to(places["honest"])
    places["pipe"] = folder / "pipe.py"
    os.mkfifo(places["pipe"])
    places["device"] = folder.__class__("/dev/zero")
    places["absent"] = folder / "absent.py"
    places["empty folder"] = folder / "empty"
    places["empty folder"].mkdir()
    places["100 MB"] = folder / "large.py"
    with places["100 MB"].open("wb") as stream:
        stream.truncate(100_000_000)
    places["a name"] = folder / "a\x1b[31m\n`x`.py"
    places["a name"].write_text("x = = 1\n" * 60)
    places["honest again"] = places["honest"]
    found = audit_many([Request(path) for path in places.values()], LIMITS)
    return dict(zip(places, found, strict=True))


def said(audit):
    (one,) = [one for one in audit.findings if one.rule == "source"]
    assert one.verdict == "review" and one.says.isprintable() and len(one.says) < 1000
    return one.says


@pytest.mark.parametrize("name, word", [(name, word) for name, (_, word) in REFUSED.items()], ids=list(REFUSED))
def test_what_would_break_an_analysis_is_refused(name, word, audits):
    """In one sentence that says why; every rule is left for review."""
    assert word in said(audits[name])
    assert set(audits[name].rules().values()) == {"review"} and audits[name].verdict == "review"


@pytest.mark.parametrize("name, word", [(name, word) for name, (_, word) in NOTED.items()], ids=list(NOTED))
def test_what_is_read_in_part_is_left_for_review(name, word, audits):
    """Never passed."""
    assert audits[name].verdict == "review"
    assert any(word in one.says or "is no Python" in one.says for one in audits[name].findings)


PLACES = {
    "link": "symbolic link",
    "pipe": "named pipe",
    "device": "a device",
    "absent": "No such file",
    "empty folder": "No such file",
    "100 MB": "more than 8,388,608 bytes",
    "a name": "is no Python",
}


@pytest.mark.parametrize("name, word", PLACES.items(), ids=list(PLACES))
def test_a_place_that_is_no_plain_file_is_refused(name, word, audits):
    """Nothing waits for a pipe, follows a link, or reads a device to its end; names are printed plainly."""
    assert word in said(audits[name])


def test_an_honest_source_among_them_passes(audits):
    """Whatever stood before it."""
    assert [audits[name].verdict for name in ("honest", "honest again")] == ["pass", "pass"]


def test_time_and_memory_are_limited(tmp_path):
    """A source that takes longer, or more memory, than the limits ends its process, and the next one gets another."""
    slow, honest = tmp_path / "slow.py", tmp_path / "honest.py"
    slow.write_text("x=1\n" * 60_000)
    limits = replace(LIMITS, nodes=600_000)
    honest.write_text("import torch\n")
    first, second = audit_many([Request(slow), Request(honest)], replace(limits, seconds=0.2), children=1)
    assert "processor time" in said(first) and second.verdict == "pass"
    first, second = audit_many([Request(slow), Request(honest)], replace(limits, memory_bytes=400 << 20), children=1)
    assert ("memory" in said(first) or "too large" in said(first)) and second.verdict == "pass"
