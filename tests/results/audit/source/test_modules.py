"""What a script brings along: modules beside it, sources in C, and nothing from outside of its folder."""

import os

from results.audit.source import Limits, read_program

MAIN = "import torch\n"


def put(folder, **files):
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path = path.with_suffix(".py") if not path.suffix else path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def names(folder):
    return [piece.name for piece in read_program(folder, Limits()).pieces]


def test_modules_beside_the_script_are_pieces(tmp_path):
    """Imported, from a package, executed, run, or loaded by a path or a name."""
    lines = "import one\nfrom pack import two\nexec(open('three.py').read())\nimport runpy\nrunpy.run_path('four.py')\n"
    lines += "import importlib\nimportlib.import_module('five')\n"
    lines += "from pathlib import Path\nexec(compile((Path(__file__).parent / 'six.py').read_text(), 'x', 'exec'))\n"
    put(tmp_path, train_gpt=MAIN + lines, one="x = 1", three="y = 1\nz = 2", four="a = 1", five="b = 1", six="c = 1")
    put(tmp_path, pack____init__="", pack__two="from . import deeper", pack__deeper="d = 1", unused="e = 1")
    (tmp_path / "pack" / "__init__.py").write_text("")
    found = names(tmp_path)
    assert found[0] == "train_gpt.py"
    texts = [piece.text for piece in read_program(tmp_path, Limits()).pieces]
    assert {"x = 1", "y = 1\nz = 2", "a = 1", "b = 1", "c = 1", "d = 1"} <= set(texts)
    assert "e = 1" not in texts and "unused.py" not in found


def test_circles_of_imports_end(tmp_path):
    """Every module is a piece once."""
    put(tmp_path, train_gpt=MAIN + "import a", a="import b", b="import a, train_gpt")
    assert names(tmp_path) == ["train_gpt.py", "a.py", "b.py"]


def test_a_script_that_executes_itself_ends(tmp_path):
    """Its own text is no new code."""
    put(tmp_path, train_gpt=MAIN + "exec(open(__file__).read())\n")
    assert names(tmp_path) == ["train_gpt.py"]


def test_sources_in_c_are_kept_apart(tmp_path):
    """Files that are named, and long strings that are C."""
    code = "#include <stdint.h>\nint f(int x) {\n  return x + 1;\n}\n" * 4
    put(tmp_path, train_gpt=MAIN + f"SRC = {code!r}\nimport subprocess\nsubprocess.run(['gcc', 'state.c'])\n")
    (tmp_path / "state.c").write_text(code)
    assert dict(read_program(tmp_path, Limits()).other) == {
        "train_gpt.py (string in line 2)": code,
        "state.c": code,
    }


def test_nothing_outside_the_folder_is_read(tmp_path):
    """No path that leads up, no link, no pipe; the rest is analysed."""
    inside = tmp_path / "submission"
    inside.mkdir()
    (tmp_path / "secret.py").write_text("s = 1")
    put(
        inside,
        train_gpt=MAIN + "import link, pipe\nexec(open('../secret.py').read())\nexec(open('/etc/passwd').read())\n",
    )
    (inside / "link.py").symlink_to(tmp_path / "secret.py")
    os.mkfifo(inside / "pipe.py")
    found = read_program(inside, Limits())
    assert [piece.name for piece in found.pieces] == ["train_gpt.py"]
    assert len(found.notes) == 2


def test_a_module_that_cannot_be_read_is_noted(tmp_path):
    """The script is analysed without it, and a reviewer is told."""
    put(tmp_path, train_gpt=MAIN + "import broken")
    (tmp_path / "broken.py").write_bytes(b"x = '\xff'")
    assert "broken.py was not followed" in read_program(tmp_path, Limits()).notes[0]
