"""Attempts remembered by the stamps of their files: as good as reading them, and void where anything changed."""

import json
import os

import pytest

from golf_core.rundir import ARTIFACT, METRICS, RESULT, VOID
from orchestrator import settled
from orchestrator.attempts import folders_of, inspect, numbers_by_run
from orchestrator.backends.fake import FakeBackend
from orchestrator.overview import Overview
from orchestrator.progress import Tail
from orchestrator.settled import REMEMBERED, Settled
from tests.orchestrator.test_controller import controller, finish


@pytest.fixture(autouse=True)
def not_racy(monkeypatch):
    """What was just written counts as old."""
    monkeypatch.setattr(settled, "RACY_NS", -60_000_000_000)


@pytest.fixture
def reads(monkeypatch):
    """Folders that were read, in order."""
    found = []

    def reading(folder, number):
        found.append(folder.name)
        return inspect(folder, number)

    monkeypatch.setattr(settled, "inspect", reading)
    return found


@pytest.fixture
def made(runs_dir, ledger):
    driven, _ = controller(runs_dir, ledger, seeds=(1, 2, 3), slots=3)
    finish(driven)
    return driven


def look(runs_dir, made):
    memory, there = Settled(runs_dir), numbers_by_run(runs_dir)
    found = {case.run.seed: memory.of(case.run.run_id, there) for case in made.cases}
    memory.save()
    return found


def folder(runs_dir, made, seed):
    ((_, found),) = folders_of(runs_dir, next(case.run.run_id for case in made.cases if case.run.seed == seed))
    return found


def test_a_second_look_reads_nothing_and_says_the_same(runs_dir, made, reads):
    """Every attempt is read once, and remembered in a file that may be deleted."""
    first = look(runs_dir, made)
    assert len(reads) == 3 and all(one.state == "counted" for attempts in first.values() for one in attempts)
    assert look(runs_dir, made) == first and len(reads) == 3
    (runs_dir / REMEMBERED).unlink()
    assert look(runs_dir, made) == first and len(reads) == 6


def test_a_second_view_reads_no_metrics_and_shows_the_same(runs_dir, made, reads, monkeypatch):
    """What a view shows of counted attempts is remembered with them."""
    runs, read, tails = [(case.run.seed, case.run.run_id) for case in made.cases], Tail.read, []
    monkeypatch.setattr(Tail, "read", lambda self: tails.append(self.folder.name) or read(self))

    def rows():
        memory = Settled(runs_dir)
        found = Overview(runs_dir, runs, settled=memory).rows(controlled=False)
        memory.save()
        return found

    first = rows()
    assert len(tails) == len(reads) == 3 and {row.state for row in first} == {"done"}
    assert rows() == first and len(tails) == len(reads) == 3
    with (folder(runs_dir, made, 2) / METRICS).open("a") as metrics:
        metrics.write("{}")
    assert [row.state for row in rows()] == ["done", "failed", "done"] and len(tails) == len(reads) == 4


CHANGES = {
    "a byte, with its time set back": lambda path: rewritten(path / ARTIFACT, back=True),
    "a longer file": lambda path: (path / ARTIFACT).write_bytes(b"x" * 99),
    "a file taken away": lambda path: (path / RESULT).unlink(),
    "a file added": lambda path: (path / VOID).write_text("{}"),
    "another file under the name": lambda path: replaced(path / ARTIFACT),
    "a link": lambda path: linked(path / ARTIFACT),
}


def rewritten(path, back):
    before, data = path.stat(), bytearray(path.read_bytes())
    data[0] ^= 1
    with path.open("r+b") as file:
        file.write(bytes(data))
    if back:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replaced(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.with_suffix(".new").write_bytes(bytes(data))
    os.replace(path.with_suffix(".new"), path)


def linked(path):
    path.rename(path.with_suffix(".away"))
    path.symlink_to(path.with_suffix(".away"))


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_was_touched_is_read_again(runs_dir, made, reads, change):
    """Whatever is done to one attempt, that one is no longer taken on trust, and the others still are."""
    look(runs_dir, made)
    reads.clear()
    changed = folder(runs_dir, made, 2)
    change(changed)
    found = look(runs_dir, made)
    assert reads == [changed.name] and found[2][0] == inspect(changed, 1) and found[2][0].state != "counted"


@pytest.mark.parametrize("damage", ["", "[]", '{"version": 1}', "\x00\xff", '{"version": 2, "attempts": {}}'])
def test_a_damaged_memory_is_no_memory(runs_dir, made, reads, damage):
    """Nothing of it is believed, and the next look writes it anew."""
    first = look(runs_dir, made)
    (runs_dir / REMEMBERED).write_text(damage, encoding="latin-1")
    assert look(runs_dir, made) == first and len(reads) == 6
    assert look(runs_dir, made) == first and len(reads) == 6


def test_an_edited_memory_is_no_memory(runs_dir, made, reads):
    """A stamp that somebody wrote in by hand breaks the checksum of the whole."""
    look(runs_dir, made)
    kept = json.loads((runs_dir / REMEMBERED).read_text())
    name = next(iter(kept["attempts"]))
    kept["attempts"][name][1] = "a note"
    (runs_dir / REMEMBERED).write_text(json.dumps(kept))
    assert all(not one.message for attempts in look(runs_dir, made).values() for one in attempts) and len(reads) == 6


def test_what_was_just_written_is_not_remembered(runs_dir, made, reads, monkeypatch):
    """A change in the same tick of the clock would carry the same times."""
    monkeypatch.setattr(settled, "RACY_NS", 2_000_000_000)
    look(runs_dir, made)
    assert not (runs_dir / REMEMBERED).exists()
    look(runs_dir, made)
    assert len(reads) == 6


def test_only_counted_attempts_are_remembered(runs_dir, ledger, reads):
    """What failed, or still runs, is looked at every time."""
    driven, backend = controller(runs_dir, ledger, seeds=(1,), slots=1)
    driven.round()
    assert isinstance(backend, FakeBackend) and look(runs_dir, driven)[1][0].state == "lost"
    assert not (runs_dir / REMEMBERED).exists()
    finish(driven)
    assert look(runs_dir, driven)[1][0].state == "counted"


def test_a_folder_that_cannot_be_written_is_looked_at_all_the_same(runs_dir, made, monkeypatch):
    """Nothing is remembered then, and nothing fails."""

    def refuse(*_, **__):
        raise PermissionError("read-only")

    monkeypatch.setattr(settled.tempfile, "TemporaryFile", refuse)
    monkeypatch.setattr(settled, "write_bytes", refuse)
    assert all(one.state == "counted" for attempts in look(runs_dir, made).values() for one in attempts)
    assert not (runs_dir / REMEMBERED).exists()
