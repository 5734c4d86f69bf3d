"""The process that an evaluator under probe runs in: `python child.py EVALUATOR ARTIFACT REQUESTS ANSWERS MEMORY`.

It loads the file once, which must offer `score_stream(artifact, tokens, learn)`, and answers until its requests end.
Both ways a message is 8 bytes of length, JSON of that length, and as many bytes as the JSON says; nothing is pickled.
REQUESTS and ANSWERS are file descriptors: what the evaluator prints goes elsewhere. MEMORY is a limit in bytes. This
file stands alone: it imports nothing of ours, and no torch, which is the evaluator's affair.
"""

import contextlib
import importlib.util
import json
import os
import resource
import struct
import sys
import traceback
import typing
from pathlib import Path

import numpy as np

MAX_HEAD = 1 << 16
MAX_MESSAGE = 2000  # characters of an error


def read_exactly(stream: typing.BinaryIO, count: int) -> bytes:
    """Raises EOFError where the stream ends before."""
    data = stream.read(count)
    if len(data) != count:
        raise EOFError(f"{len(data)} of {count} bytes")
    return data


def read_head(stream: typing.BinaryIO) -> dict[str, typing.Any] | None:
    """The JSON of the next message; None where the stream ends here. Raises EOFError or ValueError."""
    length = stream.read(8)
    if not length:
        return None
    if len(length) != 8 or not 0 < (size := struct.unpack("<Q", length)[0]) <= MAX_HEAD:
        raise ValueError("a message does not begin with its length")
    head = json.loads(read_exactly(stream, size))
    if not isinstance(head, dict):
        raise ValueError("a message's head is no object")
    return head


def message_head(head: dict[str, typing.Any]) -> bytes:
    text = json.dumps(head).encode()
    return struct.pack("<Q", len(text)) + text


def write_message(stream: typing.BinaryIO, head: dict[str, typing.Any], *parts: bytes) -> None:
    stream.write(message_head(head))
    for part in parts:
        stream.write(part)
    stream.flush()


def load(path: Path) -> typing.Callable[..., typing.Any]:
    """The `score_stream` of a file that is imported, not run. Raises whatever it raises, and AttributeError."""
    spec = importlib.util.spec_from_file_location("evaluator_under_probe", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    sys.path.insert(0, str(path.parent))
    spec.loader.exec_module(module)
    offered = getattr(module, "score_stream", None)
    if not callable(offered):
        raise AttributeError(f"{path.name} has no score_stream(artifact, tokens, learn)")
    make_deterministic()
    return typing.cast(typing.Callable[..., typing.Any], offered)


def make_deterministic() -> None:
    """Whatever of torch the evaluator has imported is told to repeat itself where it can."""
    torch = sys.modules.get("torch")
    if torch is not None:
        with contextlib.suppress(Exception):  # an older one, or no torch at all behind the name
            torch.use_deterministic_algorithms(True, warn_only=True)


def answer(found: typing.Any) -> tuple[dict[str, typing.Any], list[bytes]]:
    """Head and parts of an answer. Raises TypeError or ValueError where it is no score."""
    values = []
    for name, dtype in (("nll", "<f8"), ("order", "<i8"), ("learned", "<i8")):
        value = found[name] if isinstance(found, dict) else getattr(found, name)
        array = np.asarray(value)
        kinds = "f" if dtype == "<f8" else "iu" if array.size else "iuf"  # an empty list is an array of floats
        if array.ndim != 1 or array.dtype.kind not in kinds:
            raise TypeError(f"{name} is {array.dtype} of shape {array.shape}, not a row of {dtype}")
        values.append(np.ascontiguousarray(array, dtype=dtype))
    head = {"ok": True, **{name: len(one) for name, one in zip(("nll", "order", "learned"), values, strict=True)}}
    return head, [one.tobytes() for one in values]


def told(error: BaseException) -> dict[str, typing.Any]:
    """What went wrong, and the line of the evaluator where it did."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" (line {frames[-1].lineno} of {Path(frames[-1].filename).name})" if len(frames) > 1 else ""
    kind = "memory" if isinstance(error, MemoryError) or "allocate memory" in str(error) else "error"
    return {"ok": False, "kind": kind, "message": f"{type(error).__name__}: {error}"[:MAX_MESSAGE] + place}


def limit(memory: int) -> None:
    """For this process, and for each that it starts: what they allocate, and no dumps."""
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main(evaluator: str, artifact: str, requests: int, answers: int, memory: int) -> None:
    limit(memory)
    with os.fdopen(requests, "rb") as incoming, os.fdopen(answers, "wb") as outgoing:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        try:
            score_stream = load(Path(evaluator))
        except BaseException as error:
            write_message(outgoing, told(error))
            return
        write_message(outgoing, {"ok": True})
        while (head := read_head(incoming)) is not None:
            tokens = np.frombuffer(read_exactly(incoming, 8 * head["tokens"]), dtype="<i8").copy()
            try:
                message, parts = answer(score_stream(Path(artifact), tokens, head["learn"]))
            except BaseException as error:
                message, parts = told(error), []
            write_message(outgoing, message, *parts)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
