"""Self-extracting scripts: what they would execute is read, and nothing of them runs."""

import ast
import marshal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results.audit.source import Limits, SourceError, read_program
from tests.results.audit.source.wrappers import CODERS, PACKERS, by_hand, wrapped

INNER = "import torch\n\n\ndef train():\n    return torch.zeros(3)\n\n\n" + "".join(f"v{n} = {n}\n" for n in range(40))


def read(tmp_path, text, name="train_gpt.py"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_program(path, Limits())


@pytest.mark.parametrize("packer", PACKERS)
def test_every_compressor_is_undone(packer, tmp_path):
    """The main piece is the source that was packed, and its name says by what."""
    found = read(tmp_path, wrapped(INNER, packer, "base85"))
    assert found.main.text == INNER
    assert found.main.name == f"train_gpt.py (unwrapped: base85, {packer.split()[0]})"
    assert found.notes == () and found.pieces == (found.main,)


@pytest.mark.parametrize("coder", CODERS)
def test_every_encoding_is_undone(coder, tmp_path):
    """Whatever alphabet the packed bytes are written in."""
    assert read(tmp_path, wrapped(INNER, "zlib", coder)).main.text == INNER


@pytest.mark.parametrize("way", by_hand(""))
def test_unusual_wrappers_are_undone(way, tmp_path):
    """Aliases, lambdas, pieces, computed bytes, the script's own last line: only constants decide."""
    assert read(tmp_path, by_hand(INNER)[way]).main.text == INNER


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(sorted(PACKERS)), st.sampled_from(sorted(CODERS))), min_size=1, max_size=4))
def test_wrappers_around_wrappers(tmp_path_factory, layers):
    """Any nest of them, to the depth of the limits, ends at the source."""
    text = INNER
    for packer, coder in layers:
        text = wrapped(text, packer, coder)
    assert read(tmp_path_factory.mktemp("w"), text).main.text == INNER


def test_a_nest_beyond_the_limit_is_refused(tmp_path):
    """The message says how deep."""
    text = INNER
    for _ in range(Limits().depth + 1):
        text = wrapped(text, "zlib", "base64")
    with pytest.raises(SourceError, match="more than 8 times"):
        read(tmp_path, text)


def test_nothing_of_the_script_runs(tmp_path):
    """Neither the wrapper nor what it wraps leaves a trace."""
    touch = f"open({str(tmp_path / 'ran')!r}, 'w').write('x')\n"
    read(tmp_path, touch + wrapped(INNER + touch, "zlib", "base64"))
    assert not (tmp_path / "ran").exists()


def test_a_wrapper_with_code_of_its_own_is_kept(tmp_path):
    """What runs before the payload is a piece too."""
    found = read(tmp_path, "import os\nfor key in os.environ:\n    print(key)\n" + wrapped(INNER, "zlib", "base64"))
    assert [piece.name for piece in found.pieces] == ["train_gpt.py (unwrapped: base64, zlib)", "train_gpt.py"]


def test_a_small_packed_part_does_not_hide_the_script(tmp_path):
    """The larger code is the main one; the packed one is a piece beside it."""
    found = read(tmp_path, INNER * 3 + wrapped("import torch\nx = torch.zeros(1)\n" * 8, "zlib", "base64"))
    assert found.main.name == "train_gpt.py" and len(found.pieces) == 2


def test_code_that_cannot_be_read_is_noted(tmp_path):
    """Marshalled code, and code from elsewhere: a note for a reviewer, no silence."""
    packed = marshal.dumps(compile(INNER, "x", "exec"))
    notes = read(tmp_path, f"import marshal\nexec(marshal.loads({packed!r}))\n").notes
    assert any("marshal.loads" in note for note in notes)
    assert "line 2 could not be read" in read(tmp_path, "import os\nexec(os.environ['CODE'])\n").notes[0]


def test_an_alphabet_is_no_code(tmp_path):
    """Decoded data that happen to be text are no piece."""
    text = "import base64\nDATA = base64.b64decode('" + "QUJD" * 400 + "')\nimport torch\n"
    assert len(read(tmp_path, text).pieces) == 1


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_read_or_refused(tmp_path_factory, text):
    """No other error than SourceError, and a tree with the lines of the text."""
    try:
        found = read(tmp_path_factory.mktemp("t"), text.encode("utf-8", "replace"))
    except SourceError as error:
        assert str(error).isprintable() and len(str(error)) < 1000
        return
    assert all(getattr(node, "lineno", 1) <= found.main.text.count("\n") + 1 for node in ast.walk(found.main.tree))
