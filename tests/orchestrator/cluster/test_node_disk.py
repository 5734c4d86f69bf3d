"""The disk of a node: what its head has goes after a day, everything else stays."""

import os
import time

import pytest

from golf_core.rundir import LOG, RESULT, RUN, SEAL, VOID, file_sha256, write_json, write_seal
from orchestrator.cluster import node_disk
from orchestrator.cluster.node_disk import BROUGHT, KEEP_SECONDS, clear, mark_brought
from orchestrator.proc import folder_lock
from tests.orchestrator.toy import attempt_folder


@pytest.fixture
def node_dir(tmp_path):
    return tmp_path / "node"


def laid(tmp_path, node_dir, number, home="home1"):
    """A sealed attempt on the node."""
    made = attempt_folder(tmp_path, number=number)
    folder = node_dir / home / "attempts" / made.name
    folder.parent.mkdir(parents=True, exist_ok=True)
    made.rename(folder)
    (folder / LOG).write_text("step 1")
    write_json(folder / RESULT, {"outcome": "completed"})
    write_seal(folder, SEAL, [RUN, LOG, RESULT], {})
    return folder


def old(folder, seconds=KEEP_SECONDS + 60):
    """Marked, that long ago."""
    mark_brought(folder, file_sha256(folder / SEAL))
    then = time.time() - seconds
    os.utime(folder / BROUGHT, (then, then))
    return folder


def test_what_the_head_has_goes_after_a_day(tmp_path, node_dir):
    """Of every home on the disk, since a node has another one after each start; with what lay beside it of an earlier
    execution, and with what a clearing that was cut off has left."""
    first, second = old(laid(tmp_path, node_dir, 1)), old(laid(tmp_path, node_dir, 2, "home2"))
    (first.with_name(f".{first.name}.old")).mkdir()
    (cut := first.with_name(".0123-a1.gone")).mkdir()
    assert sorted(clear(node_dir)) == sorted([first.name, second.name])
    assert [*first.parent.iterdir()] == [*second.parent.iterdir()] == [] and not cut.exists()


def unseal(folder):
    (folder / SEAL).unlink()


KEPT = {
    "nobody has brought it": lambda folder: (folder / BROUGHT).unlink(),
    "not a day ago": lambda folder: old(folder, KEEP_SECONDS - 600),
    "not sealed": unseal,
    "another name": lambda folder: folder.rename(folder.with_name("my-notes")),
}


@pytest.mark.parametrize("change", KEPT.values(), ids=KEPT)
def test_anything_else_stays(tmp_path, node_dir, change):
    """Whatever may be the only copy, is younger, or is not ours."""
    change(old(laid(tmp_path, node_dir, 1)))
    before = sorted(path.name for path in node_dir.rglob("*"))
    assert clear(node_dir) == [] and sorted(path.name for path in node_dir.rglob("*")) == before


def test_what_is_in_use_stays(tmp_path, node_dir):
    """Somebody holds its lock; without it, it goes."""
    folder = old(laid(tmp_path, node_dir, 1))
    with folder_lock(folder):
        assert clear(node_dir) == []
    assert clear(node_dir) == [folder.name]


def test_another_execution_is_not_marked(tmp_path, node_dir):
    """The head has verified its copy by a seal; a folder with another one is not what it has. A node on which nothing
    ran yet has nothing to clear."""
    assert clear(node_dir) == []
    folder = laid(tmp_path, node_dir, 1)
    mark_brought(folder, "0" * 64)
    assert not (folder / BROUGHT).exists()


def test_a_removal_that_is_cut_off_leaves_no_half_attempt(tmp_path, node_dir, monkeypatch):
    """It is out of the way first, under a name that is none of an attempt; the next clearing ends it."""
    folder = old(laid(tmp_path, node_dir, 1))
    monkeypatch.setattr(node_disk.shutil, "rmtree", lambda path, ignore_errors: (path / VOID).touch())
    clear(node_dir)
    assert [path.name for path in folder.parent.iterdir()] == [f".{folder.name}.gone"]
    monkeypatch.undo()
    clear(node_dir)
    assert [*folder.parent.iterdir()] == []
