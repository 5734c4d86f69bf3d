"""Remembered hashes: as good as reading everything again, void where anything changed, never believed when damaged."""

import json
import os
import random
import time
from hashlib import sha256

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from golf_core.rundir import ARTIFACT, SEAL, read_jsonl, write_seal
from results import content
from results.bundle_config import frozen_config
from results.content import FRESH, RACY_NS, REMEMBERED, Remembered
from results.overview import look_at_all
from tests.results.attempts import FINAL_FILES, Runs

LONG_AGO = time.time() - 3600


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Three sealed attempts, written long before anybody looks: ctime cannot be set, so the margin is."""
    monkeypatch.setattr(content, "RACY_NS", -60_000_000_000)
    return Runs(tmp_path / "runs").all_attempts()


@pytest.fixture
def hashed(monkeypatch):
    """The files that are really read for their hash."""
    seen = []

    def counting(path, size=None):
        seen.append(path.name)
        return FRESH_SHA256(path, size)

    monkeypatch.setattr(content, "file_sha256", counting)
    return seen


FRESH_SHA256 = content.file_sha256


def rows(runs, **more):
    return look_at_all(runs.runs_dir, **more).rows


def test_untouched_files_are_not_read_again(runs, hashed):
    """The second look hashes nothing and finds the same rows; --rehash reads all again, with the same end."""
    first = rows(runs)
    count = len(hashed)
    assert count == 3 * len(FINAL_FILES) + 1 and all(row.counted for row in first)
    assert rows(runs) == first and len(hashed) == count
    assert rows(runs, fresh=True) == first and len(hashed) == 2 * count


def test_a_changed_byte_is_noticed_though_size_and_mtime_are_as_before(runs):
    """Whoever sets the mtime back cannot set the ctime back."""
    assert all(row.counted for row in rows(runs))
    path = runs.attempt_folder(42) / ARTIFACT
    before, data = path.stat(), bytearray(path.read_bytes())
    data[0] ^= 1
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)
    overview = look_at_all(runs.runs_dir)
    assert [row.status for row in overview.rows] == ["counted", "damaged", "counted"]
    assert len(overview.problems) == 1 and ARTIFACT in overview.problems[0]


def test_a_file_swapped_for_another_is_noticed(runs):
    """Another inode with the same size and times is another file."""
    rows(runs)
    path = runs.attempt_folder(42) / ARTIFACT
    before = path.stat()
    other = path.with_name("other")
    other.write_bytes(bytes(before.st_size))
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(other, path)
    assert rows(runs)[1].status == "damaged"


def test_what_was_just_written_is_hashed_again(tmp_path, hashed):
    """A file changed within the clock's margin of the look could change again unseen: it is not remembered."""
    runs = Runs(tmp_path / "runs").all_attempts()
    rows(runs)
    count = len(hashed)
    assert rows(runs) and len(hashed) == 2 * count
    assert RACY_NS >= 2_000_000_000 and "artifact" not in (runs.runs_dir / REMEMBERED).read_text()


def test_times_in_the_future_are_not_believed(runs):
    """After the clock was set back, a file may change again under the times that it has: it is hashed each time."""
    ahead = time.time() + 3600
    os.utime(runs.attempt_folder(42) / ARTIFACT, (ahead, ahead))
    rows(runs)
    kept = (runs.runs_dir / REMEMBERED).read_text()
    assert [f"{runs.attempt_folder(seed).name}/{ARTIFACT}" in kept for seed in runs.seeds] == [True, False, True]


def damage(kind, data, rng):
    if kind == "cut":
        return data[: rng.randrange(len(data))]
    if kind == "flipped":
        changed = bytearray(data)
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        return bytes(changed)
    return rng.randbytes(rng.randrange(200))


@pytest.mark.parametrize("kind", ["cut", "flipped", "foreign"])
def test_a_damaged_memory_is_made_again(runs, kind):
    """Cut, flipped or foreign, at 40 places each: the rows are those of reading everything, and the file is mended."""
    first = rows(runs)
    memory = runs.runs_dir / REMEMBERED
    good, rng = memory.read_bytes(), random.Random(kind)
    for _ in range(40):
        memory.write_bytes(damage(kind, good, rng))
        assert rows(runs) == first
    assert memory.read_bytes() == good


def forged(payload):
    text = json.dumps(payload).encode()
    return content.HEAD + sha256(text).hexdigest().encode() + b"\n" + text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(payload=JSON | st.fixed_dictionaries({"files": JSON, "bundles": JSON}))
def test_a_hostile_memory_is_ignored(tmp_path, payload):
    """Whatever JSON stands under a right checksum: entries of ours, or nothing."""
    path = tmp_path / REMEMBERED
    path.write_bytes(forged(payload))
    files, bundles = content._read(path)
    assert all(isinstance(times, tuple) and len(digest) == 64 for times, digest in files.values())
    assert all(value is None or isinstance(value, bool) for value in bundles.values())


def test_a_memory_that_is_no_plain_file_is_ignored(runs, tmp_path):
    """A link, a folder: not followed, not read; a link is replaced."""
    first = rows(runs)
    memory = runs.runs_dir / REMEMBERED
    target = tmp_path / "elsewhere"
    memory.rename(target)
    kept = target.read_bytes()
    memory.symlink_to(target)
    assert content._read(memory) == ({}, {}) and rows(runs) == first
    assert not memory.is_symlink() and target.read_bytes() == kept


def test_only_hashes_are_remembered(runs):
    """The file holds times, hashes and what bundles are frozen with: no status, no score, no name of a verdict."""
    rows(runs)
    kept = json.loads((runs.runs_dir / REMEMBERED).read_bytes().partition(b"\n")[2])
    assert set(kept) == {"files", "bundles"} and len(kept["files"]) == 3 * len(FINAL_FILES) + 1
    assert all(len(entry) == 6 for entry in kept["files"].values()) and set(kept["bundles"].values()) == {None}


def test_what_is_gone_is_forgotten(runs):
    """A look at everything keeps only what it saw; a look with known submissions keeps the rest."""
    rows(runs)
    before = (runs.runs_dir / REMEMBERED).read_bytes()
    found = look_at_all(runs.runs_dir).found
    look_at_all(runs.runs_dir, known=found)
    assert (runs.runs_dir / REMEMBERED).read_bytes() == before
    folder = runs.attempt_folder(42)
    for path in folder.iterdir():
        path.unlink()
    rows(runs)
    assert folder.name not in (runs.runs_dir / REMEMBERED).read_text()


CHANGES = ("byte", "append", "remove", "reseal", "void", "nothing", "touch")


def change(runs, kind, seed, file):
    folder = runs.attempt_folder(seed)
    path = folder / file
    if kind == "byte" and path.exists():
        path.write_bytes(b"?" + path.read_bytes()[1:])
    elif kind == "append" and path.exists():
        path.write_bytes(path.read_bytes() + b" ")
    elif kind == "remove":
        path.unlink(missing_ok=True)
    elif kind == "reseal" and all((folder / name).exists() for name in FINAL_FILES):
        write_seal(folder, SEAL, FINAL_FILES, {})
    elif kind == "void":
        runs.void(seed)
    elif kind == "touch" and path.exists():
        os.utime(path, (LONG_AGO, LONG_AGO))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(
        st.tuples(st.sampled_from(CHANGES), st.sampled_from([1337, 42, 2025]), st.sampled_from(FINAL_FILES)), max_size=5
    )
)
def test_remembering_changes_no_result(tmp_path_factory, changes):
    """Whatever is done to the files between two looks, both ways give the same rows and the same problems."""
    runs = Runs(tmp_path_factory.mktemp("r") / "runs").all_attempts()
    remembered, read = content.RACY_NS, []
    try:
        content.RACY_NS = -60_000_000_000
        look_at_all(runs.runs_dir)
        for one in changes:
            change(runs, *one)
            remembering = look_at_all(runs.runs_dir)
            reading = look_at_all(runs.runs_dir, fresh=True)
            read.append((remembering.rows, remembering.problems) == (reading.rows, reading.problems))
    finally:
        content.RACY_NS = remembered
    assert all(read)


def test_a_part_of_a_file_is_read_each_time(runs):
    """A stage's seal is of a prefix; what is remembered is of whole files."""
    path = runs.attempt_folder(42) / ARTIFACT
    remembered = Remembered(runs.runs_dir)
    assert remembered.sha256(path, 3) == FRESH.sha256(path, 3) != remembered.sha256(path)


CONFIG = "CONFIG = Config(name='a')\n"


@pytest.mark.parametrize(
    "code, frozen",
    [
        ("x = 1\n" + CONFIG, {"name": "a"}),
        ("def f():\n    CONFIG = 1\n" + CONFIG, None),
        ('"""\n' + CONFIG + '"""\nmain()\n', None),
        ("x = '''\n" + CONFIG + "'''\n" + CONFIG, {"name": "a"}),
        ("x = 1 + \\\n" + CONFIG, None),
        ("if x:\n" + CONFIG, None),
        ("if x:\n    pass\n" + CONFIG, {"name": "a"}),
        ("x = (\n" + CONFIG + ")\n", None),
        ("\uff23\uff2f\uff2e\uff26\uff29\uff27 = 1\n" + CONFIG, None),
        ("for CONFIG in x:\n    pass\n" + CONFIG, None),
        ("x = CONFIG\n" + CONFIG, {"name": "a"}),
        (CONFIG + "CONFIG = Config(name='b')\n", None),
        ("x = 1\n" + CONFIG + "def f():\n    global CONFIG\n    CONFIG = 2\n", None),
    ],
)
def test_a_config_is_found_as_in_the_whole_program(code, frozen):
    """The head and the rest of a program are parsed apart; nothing that the whole would tell is missed."""
    assert frozen_config(code) == frozen


LINES = st.lists(
    st.sampled_from(
        [
            b'{"event": "train_end", "steps": 1}',
            b'{"event": "train\\u005fend"}',
            b'{"event": "step"}',
            b'{"note": "train_end"}',
            b'{"event": "tra',
            b"",
            b"\xff\xfe",
            b'["train_end"]',
        ]
    ),
    max_size=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=LINES)
def test_asking_for_a_word_misses_no_line_that_has_it(tmp_path, lines):
    """Lines without it are not parsed; an event spelled with escapes is found too."""
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"\n".join(lines))
    ends = [row for row in read_jsonl(path) if row.get("event") == "train_end"]
    assert [row for row in read_jsonl(path, "train_end") if row.get("event") == "train_end"] == ends
