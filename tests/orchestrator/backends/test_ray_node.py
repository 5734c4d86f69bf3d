"""The actor of an attempt as a plain object: what it lays down, what it tells, and that it always comes to an end."""

import os
import subprocess
import sys

import pytest

from golf_core.rundir import LOG, RESULT, RUN, SEAL, file_sha256, read_json
from orchestrator.attempts import NODE
from orchestrator.backends import ray_node
from orchestrator.cluster.node_disk import BROUGHT, mark_brought
from orchestrator.proc import Locked, folder_lock
from tests.orchestrator.toy import ROOT, attempt_folder


def alone(code):
    """The exit code of a process that runs the code with the module's waits cut short."""
    short = "from orchestrator.backends import ray_node as n; import time; n.MARGIN_SECONDS = 0; n.KILL_SECONDS = 0.2"
    command = [sys.executable, "-c", f"{short}\n{code}\ntime.sleep(20)"]
    return subprocess.run(command, cwd=ROOT, timeout=60, check=False).returncode


DEAD_MEN = {
    "no order": "n.BEGIN_SECONDS = 0.1; n.NodeAttempt(('d', 'h', 'a'), 'l', 9)",
    "no data": "n.DATA_SECONDS = 0.1; a = n.NodeAttempt(('d', 'h', 'a'), 'l', 9); a.begun.set()",
    "no end": "a = n.NodeAttempt(('d', 'h', 'a'), 'l', 0.1); a.begun.set(); a.laid.set()",
}


@pytest.mark.parametrize("code", DEAD_MEN.values(), ids=DEAD_MEN)
def test_it_ends_without_anybody(code):
    """Nobody tells it to begin, the data is never found, the attempt never ends: the process does."""
    assert alone(code) == 1


@pytest.fixture
def attempt(tmp_path, monkeypatch):
    """An actor's object that does not end its process, which is ours; and the files that its controller has."""
    monkeypatch.setattr(ray_node.NodeAttempt, "_dead_man", lambda self: None)
    folder = attempt_folder(tmp_path)
    made = ray_node.NodeAttempt((str(tmp_path / "node"), "home", folder.name), "1a2b", 1e6)
    return made, {path.name: path.read_bytes() for path in folder.iterdir()}


def test_an_attempt_is_laid_down_whole_and_what_lay_there_moved_away(attempt):
    """A second lay-down, for an evaluation that is repeated, replaces the folder; one in use is left alone."""
    made, files = attempt
    made._lay_down(files)
    assert read_json(made.folder / RUN)["seed"] == 1 and read_json(made.folder / NODE)["launch"] == "1a2b"
    (made.folder / LOG).write_text("what an earlier execution said")
    made._lay_down(files)
    assert not (made.folder / LOG).exists() and [path.name for path in made.folder.parent.glob("[!.]*")] == [
        made.folder.name
    ]
    with folder_lock(made.folder), pytest.raises(Locked):
        made._lay_down(files)


def test_what_grew_is_told_from_where_the_asker_stands(attempt):
    """Bytes beyond those it has; from the start where the file is shorter than that."""
    made, files = attempt
    made._lay_down(files)
    (made.folder / LOG).write_bytes(b"one\ntwo\n")
    assert made.look({})["grown"][LOG] == (0, b"one\ntwo\n")
    assert made.look({LOG: 4})["grown"][LOG] == (4, b"two\n")
    assert made.look({LOG: 99})["grown"][LOG] == (0, b"one\ntwo\n")
    seen = made.look({})
    assert (seen["busy"], seen["result"], seen["train_sealed"], seen["over"]) == (False, None, False, False)


def test_a_node_that_cannot_take_it_says_so_in_a_result(attempt):
    """Data that is not there: a failed result of the class that makes the controller try another node."""
    made, files = attempt
    made._leave, made.released = lambda: None, made.begun
    made.run(files, None)
    result = read_json(made.folder / RESULT)
    assert (result["class"], result["stage"], result["outcome"]) == ("node_setup", "train", "failed")
    assert "not on this node" in result["message"] and made.look({})["over"]
    before = result
    made.run(files, None)  # a second order does nothing
    assert read_json(made.folder / RESULT) == before


def test_an_attempt_that_begins_clears_what_was_brought_long_ago(attempt):
    """Of the node's disk; what bears no mark of the head stays."""
    made, files = attempt
    made._leave, made.released = lambda: None, made.begun
    brought, kept = (made.folder.with_name(name) for name in ("0123456789abcdef-a1", "0123456789abcdef-a2"))
    for folder in (brought, kept):
        folder.mkdir(parents=True)
        (folder / SEAL).write_text("{}")
    mark_brought(brought, file_sha256(brought / SEAL))
    os.utime(brought / BROUGHT, (0, 0))
    made.run(files, None)
    assert (brought.exists(), kept.exists(), made.folder.exists()) == (False, True, True)


def test_files_are_read_by_their_plain_names_alone(attempt):
    """A name with a way in it reads the file of that name in the attempt, or nothing."""
    made, files = attempt
    made._lay_down(files)
    assert made.read("../../../" + RUN, 0) == files[RUN] and set(made.listing()) == set(files)
    with pytest.raises(OSError):
        made.read("../../../../etc/passwd", 0)
