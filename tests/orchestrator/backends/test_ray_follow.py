"""Bringing an attempt home from its node: whole, down to what is empty, and told to the node once it is verified."""

import shutil
from types import SimpleNamespace

import pytest

from golf_core.rundir import (
    LOG,
    METRICS,
    RESULT,
    RUN,
    SCORE_LEDGER,
    SEAL,
    TRAIN_SEAL,
    file_sha256,
    is_sealed,
    write_json,
    write_seal,
)
from orchestrator.attempts import NODE
from orchestrator.backends import ray_node
from orchestrator.backends.ray_follow import Follower
from orchestrator.cluster.node_disk import BROUGHT
from tests.orchestrator.toy import attempt_folder


class Nodes:
    """One node, on which tasks run at once, in this process."""

    class Lost(Exception):
        pass

    class Unavailable(Lost):
        pass

    def __init__(self):
        self.ray = SimpleNamespace(
            exceptions=SimpleNamespace(RayError=self.Lost, ActorUnavailableError=self.Unavailable),
            wait=lambda references, timeout=None: (references, []),
            get=lambda reference: reference,
        )

    def death(self, node_id):
        return None

    def task(self, node_id, function, *arguments):
        return function(*arguments)


@pytest.fixture
def follower(tmp_path):
    """Of an attempt that has ended on its node and left two empty files; its head has what it sent, and no more."""
    here = attempt_folder(tmp_path)
    there = tmp_path / "node" / "home" / "attempts" / here.name
    shutil.copytree(here, there)
    write_json(there / NODE, {"launch": "1a2b"})
    (there / LOG).write_text("step 1\n")
    (there / METRICS).touch()
    (there / SCORE_LEDGER).touch()
    write_json(there / RESULT, {"outcome": "completed"})
    write_seal(there, SEAL, [RUN, LOG, METRICS, SCORE_LEDGER, RESULT], {})
    handle = {"attempt_id": here.name, "node": "n", "host": "n1", "node_dir": str(tmp_path / "node"), "home": "home"}
    made = Follower(Nodes(), handle | {"launch": "1a2b"}, here, None, None)
    yield SimpleNamespace(made=made, here=here, there=there)
    made.close()


def finish(follower):
    follower.made.start()
    follower.made.join(20)
    assert follower.made.state.phase == "ended", follower.made.state


def test_an_empty_file_comes_home(follower):
    """It is sealed like any other: it exists here, empty, and the seal holds; node and head have the same seal."""
    finish(follower)
    assert is_sealed(follower.here)
    for name in (METRICS, SCORE_LEDGER):
        assert (follower.here / name).read_bytes() == b""
    assert file_sha256(follower.here / SEAL) in (follower.there / BROUGHT).read_text()


def test_the_folder_of_an_earlier_execution_is_not_mirrored(follower):
    """Until the node has laid down what it was sent, what lies there under the attempt's name is another's: its log and
    its sealed training stay there."""
    write_json(follower.there / NODE, {"launch": "another"})
    write_seal(follower.there, TRAIN_SEAL, [RUN], {})
    looks = []

    class Actor:
        """One that begins at its third look, and never lays down."""

        def __getattr__(self, name):
            return SimpleNamespace(remote=getattr(self, f"_{name}"))

        def _look(self, have):
            looks.append(have)
            seen = ray_node.look(follower.made.place, have)
            return seen | {"begun": len(looks) > 2, "over": len(looks) > 3, "trouble": "disk full"}

        def _release(self, seal):
            raise Nodes.Lost

    follower.made.actor = Actor()
    follower.made.start()
    follower.made.join(20)
    assert follower.made.state.cls == "launch_error" and len(looks) == 4
    assert not (follower.here / TRAIN_SEAL).exists() and not (follower.here / LOG).exists()


def test_what_does_not_match_its_seal_is_not_marked(follower):
    """Damaged on its node: it is brought as it is, for the controller to see, and the node is not told to drop it."""
    (follower.there / LOG).write_text("step 2\n")
    finish(follower)
    assert not is_sealed(follower.here)
    assert not (follower.there / BROUGHT).exists()
