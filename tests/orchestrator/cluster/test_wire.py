"""Frames in a job's log: bytes arrive whole or are refused, whatever is cut, doubled, damaged or printed between."""

import contextlib
import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.cluster import wire
from orchestrator.cluster.wire import Receiver, Sender, hear, whole
from orchestrator.errors import BackendFailure
from tests.orchestrator.toy import ROOT


def sent(data, code=0, chunk=7):
    """The lines that a command's answer makes in a log."""
    read, write = os.pipe()
    before = wire.STDOUT, wire.CHUNK_BYTES
    wire.STDOUT, wire.CHUNK_BYTES = write, chunk
    try:
        sender = Sender()
        sender.send(data)
        sender.end(code)
    finally:
        wire.STDOUT, wire.CHUNK_BYTES = before
        os.close(write)
    with open(read, "rb") as log:
        return log.read().decode().splitlines()


@settings(max_examples=50)
@given(st.binary(max_size=200), st.integers(0, 130), st.lists(st.text('ab: {}"golf', max_size=12), max_size=4))
def test_bytes_arrive_whole_between_other_output(data, code, noise):
    """What others print into the same log is text, wherever it stands."""
    lines = sent(data, code)
    for number, text in enumerate(noise):
        lines.insert(number * 2 % (len(lines) + 1), text)
    got, ended, text = whole(lines)
    assert (got, ended) == (data, code) and all(one in text for one in noise)


@settings(max_examples=50)
@given(st.binary(min_size=8, max_size=200), st.data())
def test_what_is_lost_or_damaged_is_noticed(data, draw):
    """A frame left out, a frame changed, an end that never came: never other bytes than those that were sent."""
    lines = [line for line in sent(data) if line]
    at = draw.draw(st.integers(0, len(lines) - 1))
    changed = draw.draw(st.sampled_from(["lost", "cut", "flipped"]))
    if changed == "lost":
        lines.pop(at)
    elif changed == "cut":
        lines[at] = lines[at][: draw.draw(st.integers(0, len(lines[at]) - 1))]
    else:
        place = draw.draw(st.integers(0, len(lines[at]) - 1))
        lines[at] = lines[at][:place] + chr(1 + (ord(lines[at][place]) + 1) % 126) + lines[at][place + 1 :]
    with contextlib.suppress(BackendFailure):
        got, code, _ = whole(lines)
        assert got == data and code in range(256)


@given(st.binary(min_size=1, max_size=100), st.integers(0, 20))
def test_a_log_that_is_read_again_adds_nothing(data, again):
    """After a lost connection the log comes from its beginning: each byte counts once."""
    receiver, frames = Receiver(), [frame for line in sent(data) if (frame := hear(line))]
    first = b"".join(receiver.take(frame) for frame in frames[: again % len(frames)])
    assert first + b"".join(receiver.take(frame) for frame in frames) == data and receiver.code == 0


def test_a_frame_begins_its_own_line():
    """Behind a line that somebody else has not ended, and while several print at once."""
    script = (
        "import os, sys, threading; from orchestrator.cluster.wire import say\n"
        "os.write(1, b'half a line')\n"
        "def many(): [say('n', of=threading.get_ident(), text='x' * 3000) for _ in range(50)]\n"
        "them = [threading.Thread(target=many) for _ in range(4)]\n"
        "[one.start() for one in them]; [one.join() for one in them]"
    )
    log = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    frames = [frame for line in log.splitlines() if (frame := hear(line))]
    assert len(frames) == 200 and log.startswith("half a line\n")


@pytest.mark.parametrize("line", ["golf:", "golf:[]", "golf:{", 'golf:{"kind": 1}', 'golf:{"type": 1}', "x golf:{}"])
def test_what_only_looks_like_a_frame_is_text(line):
    """Nothing is guessed of a line that is not one."""
    assert hear(line) is None
