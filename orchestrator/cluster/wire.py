"""What a job on the head says to us through the one channel that there is: the lines that it prints.

A line of ours is a frame, a JSON object behind a prefix; any other line is text for the eye. Bytes travel in frames
with their place and their hash, and a last frame says how many there were and how the command ended: what was cut,
doubled or mixed with other output on the way is noticed.
"""

import base64
import binascii
import hashlib
import json
import os
import typing
from collections.abc import Iterable

from orchestrator.errors import BackendFailure

PREFIX = "golf:"
CHUNK_BYTES = 96 * 1024  # of a frame, before base64
STDOUT = 1

Frame = dict[str, typing.Any]


def say(kind: str, /, **facts: typing.Any) -> None:
    """Print a frame, in one write: it begins a line of its own, whatever others were printing."""
    line = f"\n{PREFIX}{json.dumps({'type': kind} | facts, separators=(',', ':'))}\n".encode()
    while line:
        line = line[os.write(STDOUT, line) :]


def hear(line: str) -> Frame | None:
    """The frame that a line is; None where it is text."""
    if not line.startswith(PREFIX):
        return None
    try:
        frame = json.loads(line[len(PREFIX) :])
    except ValueError:
        return None
    return frame if isinstance(frame, dict) and isinstance(frame.get("type"), str) else None


class Sender:
    """The bytes of an answer, frame by frame."""

    def __init__(self) -> None:
        self.size, self._digest = 0, hashlib.sha256()

    def send(self, data: bytes) -> None:
        for begin in range(0, len(data), CHUNK_BYTES):
            piece = data[begin : begin + CHUNK_BYTES]
            say("bytes", at=self.size, sha256=sha256(piece), data=base64.b64encode(piece).decode())
            self.size += len(piece)
            self._digest.update(piece)

    def end(self, code: int) -> None:
        say("exit", code=code, size=self.size, sha256=self._digest.hexdigest())


class Receiver:
    """The other end. Lines may come twice, since a log is read again after its connection was lost."""

    def __init__(self) -> None:
        self.size, self._digest = 0, hashlib.sha256()
        self.code: int | None = None  # None: the command has not ended

    def take(self, frame: Frame) -> bytes:
        """What is new in the frame. Raises BackendFailure for one that is damaged, or does not follow."""
        try:
            if frame["type"] == "exit":
                if (frame["size"], frame["sha256"]) != (self.size, self._digest.hexdigest()):
                    raise BackendFailure(f"the head sent {frame['size']} bytes, and {self.size} arrived")
                self.code = int(frame["code"])
                return b""
            data, at = base64.b64decode(frame["data"], validate=True), int(frame["at"])
            if sha256(data) != frame["sha256"]:
                raise BackendFailure(f"bytes from {at} on were damaged on their way from the head")
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            raise BackendFailure(f"the head sent a frame that cannot be read: {error!r}") from None
        if at < self.size:
            return b""
        if at > self.size:
            raise BackendFailure(f"bytes {self.size} to {at} were lost on their way from the head")
        self.size += len(data)
        self._digest.update(data)
        return data


def whole(lines: Iterable[str]) -> tuple[bytes, int, list[str]]:
    """The bytes of a finished command, its exit code, and what it printed beside. Raises BackendFailure where it did
    not get to its end."""
    receiver, parts, text = Receiver(), [], []
    for line in lines:
        frame = hear(line)
        if frame is None:
            text.append(line)
        elif frame["type"] in ("bytes", "exit"):
            parts.append(receiver.take(frame))
    if receiver.code is None:
        said = [line for line in text if line.strip()]
        raise BackendFailure(f"the command on the head did not end: {said[-1] if said else 'it printed nothing'}")
    return b"".join(parts), receiver.code, text


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
