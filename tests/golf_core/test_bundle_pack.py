"""The packed bundle: the same source, the same run, fewer bytes; and nothing is executed to read it."""

import base64
import lzma
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from golf_core.bundle import build_bundle, readable_bundle
from golf_core.bundle_pack import MAX_SOURCE_BYTES, PackedError, pack_source, readable_source
from golf_core.config_io import override, to_dict
from golf_core.recipes import RECIPES, load_recipe
from results.bundle_config import frozen_config
from results.requirements import imported_modules
from tests.golf_core.test_pipeline import run_bundle, run_package, scores_of, start_bundle, tiny

PROGRAM = '''"""A program: small."""

import inspect
import pickle
import sys


class Box:
    """What is looked at."""

    def open(self):
        return 7 // 0  # the line that fails


def same(value):
    return value  # what inspect finds


if __name__ == "__main__":
    assert __doc__.startswith("A program")
    if sys.argv[1] == "inspect":
        print(inspect.getsource(same) + inspect.getsource(Box))
    elif sys.argv[1] == "pickle":
        sys.stdout.buffer.write(pickle.dumps(pickle.loads(pickle.dumps([same, Box]))[0]))
    elif sys.argv[1] == "spawn":
        import multiprocessing

        with multiprocessing.get_context("spawn").Pool(1) as pool:
            print(pool.map(same, [3, 4]))
    else:
        Box().open()
'''


def run_packed(folder: Path, text: str, *arguments: str) -> subprocess.CompletedProcess:
    script = folder / "train_gpt.py"
    script.write_text(text, encoding="utf-8")
    return subprocess.run([sys.executable, str(script), *arguments], capture_output=True, timeout=120)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_packed_is_the_readable_one_in_fewer_bytes(name):
    """For every recipe the packed form gives back the readable one to the byte, and has less than half of its bytes."""
    config = override(load_recipe(name).config, ["ship=packed"])
    packed, readable = build_bundle(config), readable_bundle(config)
    assert readable_source(packed) == readable_source(readable) == readable
    assert len(packed) < len(readable) / 2
    assert build_bundle(override(config, ["ship=readable"])) == readable.replace("ship='packed'", "ship='readable'")


@given(st.text(st.characters(codec="utf-8")))
def test_any_text_survives_packing(text):
    """Whatever the text, it comes back as it was."""
    assert readable_source(pack_source(text)) == text


def test_results_read_a_packed_bundle_as_the_readable_one():
    """The frozen config and the imports of a packed bundle are those of what is inside."""
    config = override(load_recipe("demo").config, ["ship=packed"])
    packed = build_bundle(config)
    assert frozen_config(packed) == to_dict(config)
    assert imported_modules(packed, "train_gpt.py") == imported_modules(readable_bundle(config), "train_gpt.py")
    assert {"torch", "numpy"} <= set(imported_modules(packed, "train_gpt.py"))


def test_the_file_prints_its_source(tmp_path):
    """`python train_gpt.py source` writes the readable source to the byte."""
    config = override(load_recipe("demo").config, ["ship=packed"])
    done = run_packed(tmp_path, build_bundle(config), "source")
    assert done.stdout == readable_bundle(config).encode() and done.returncode == 0


def test_what_exec_hides_is_found_again(tmp_path):
    """inspect finds functions and classes, pickle and spawned processes their names, and a traceback its lines."""
    packed = pack_source(PROGRAM)
    found = run_packed(tmp_path, packed, "inspect").stdout.decode()
    assert "return value  # what inspect finds" in found and '"""What is looked at."""' in found
    assert b"same" in run_packed(tmp_path, packed, "pickle").stdout
    assert run_packed(tmp_path, packed, "spawn").stdout.decode().strip() == "[3, 4]"
    trace = run_packed(tmp_path, packed, "fail").stderr.decode()
    line = next(n for n, text in enumerate(PROGRAM.splitlines(), 1) if "the line that fails" in text)
    assert f'train_gpt.py", line {line}, in open' in trace and "return 7 // 0  # the line that fails" in trace


@pytest.mark.parametrize("damage", ["cut", "swap", "foreign"])
def test_a_damaged_payload_is_one_clear_error(tmp_path, damage):
    """A literal that lost or changed characters neither runs nor reads, and both say that it is damaged."""
    packed = pack_source(PROGRAM + "\n".join(f"x{i} = {random.Random(i).random()}" for i in range(200)))
    start = packed.index('PACKED = "') + 400
    damaged = {
        "cut": packed[:start] + packed[start + 50 :],
        "swap": packed[:start] + packed[start + 5 : start + 10] + packed[start : start + 5] + packed[start + 10 :],
        "foreign": packed[:start] + "~~~~~" + packed[start + 5 :],
    }[damage]
    done = run_packed(tmp_path, damaged, "inspect")
    assert done.returncode == 1 and b"the packed source is damaged" in done.stderr and b"Traceback" not in done.stderr
    with pytest.raises(PackedError, match="the packed source is damaged"):
        readable_source(damaged)
    assert frozen_config(damaged) is None


def literal_replaced(packed: str, data: bytes) -> str:
    start = packed.index('PACKED = "') + len('PACKED = "')
    return packed[:start] + base64.b85encode(data).decode() + packed[packed.index('"\n', start) :]


def test_a_bomb_is_refused():
    """A literal that would grow beyond any bundle, ask for a lot of memory, or hide a second stream is not read."""
    packed = pack_source(PROGRAM)
    bomb = lzma.compress(b" " * (MAX_SOURCE_BYTES + 1))
    with pytest.raises(PackedError, match="larger than"):
        readable_source(literal_replaced(packed, bomb))
    wide = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 256 << 20}]
    with pytest.raises(PackedError, match="emory"):
        readable_source(literal_replaced(packed, lzma.compress(PROGRAM.encode(), filters=wide)))
    two = lzma.compress(PROGRAM.encode()) + lzma.compress(b"print('more')")
    with pytest.raises(PackedError, match="followed by something else"):
        readable_source(literal_replaced(packed, two))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("exec(compile(source", "exec(compile('1 + 1'"),
        ("import base64\n", "import base64\nimport os\n"),
        ('"""A program: small."""', '"""A program"""; import os; """small.'),
        ("This is the packed form", "This is a packed form"),
    ],
)
def test_a_frame_that_was_touched_is_not_read_as_packed(old, new):
    """What is read is what runs: with any other frame around the literal, the text is its own source."""
    packed = pack_source('"""A program: small.\n"""\nCONFIG = Config(name=\'a\')\n')
    other = packed.replace(old, new) if old in packed else packed.replace("A program: small.", new.strip('"'))
    assert other != packed and frozen_config(packed) == {"name": "a"}
    assert readable_source(other) == other and frozen_config(other) is None


@pytest.mark.slow
def test_all_forms_compute_the_same(small_data, tmp_path):
    """Readable, packed and package have the same artifact, byte for byte, and the same scores but for the bytes of
    code, which are those of the file that ran."""
    runs = {}
    for form in ("readable", "packed", "package"):
        folder = tmp_path / form
        folder.mkdir()
        config = tiny(f"ship={'readable' if form == 'package' else form}")
        run = run_package if form == "package" else run_bundle
        for verb in ("train", "evaluate"):
            done = run(folder, config, small_data, verb)
            assert done.returncode == 0, done.stdout + done.stderr
        scores = scores_of(folder)
        if form != "package":
            assert scores["code_bytes"] == (folder / "train_gpt.py").stat().st_size
        for stage in scores["stages"].values():
            for clock in ("seconds", "loop_seconds", "ledger_clock"):
                stage.pop(clock, None)
        del scores["code_bytes"]
        runs[form] = (folder / "artifact.bin").read_bytes(), scores
    assert runs["readable"] == runs["packed"] == runs["package"]
    assert (tmp_path / "packed" / "train_gpt.py").stat().st_size < 80_000


@pytest.mark.slow
@pytest.mark.whole
def test_packed_runs_under_torchrun(small_data, tmp_path):
    """Two processes train and, having become new programs, score: argv, environment and the file's name hold."""
    done = start_bundle(tmp_path, tiny("ship=packed"), small_data, "--dtype", "bf16", processes=2)
    assert done.returncode == 0, done.stdout + done.stderr
    begun = [line.split() for line in done.stdout.splitlines() if line.startswith("stage:")]
    assert [(words[0], words[-1]) for words in begun] == [
        ("stage:train", "dtype:bf16"),
        ("stage:evaluate", "dtype:bf16"),
    ]
    assert scores_of(tmp_path)["code_bytes"] == (tmp_path / "train_gpt.py").stat().st_size
