"""What the evaluator knows of the library: functions of plain values, their methods, and files beside the script."""

import binascii
import lzma
import operator
import os.path
import typing
import zlib
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath

from results.audit.source.files import VIRTUAL, Beside
from results.audit.source.program import SourceError
from results.audit.source.pure import Evaluator
from results.audit.source.values import Function, Machine, Stand, Undecided

TEXT = """capitalize count decode encode endswith find hex index isalnum isalpha isascii isdigit islower isspace isupper
    join lower lstrip maketrans partition removeprefix removesuffix replace rfind rindex rpartition rsplit rstrip split
    splitlines startswith strip swapcase title translate upper"""
SEQUENCE = "add append clear copy count extend get index insert items keys pop reverse setdefault update values"


def _known_integer(value: typing.Any, *base: int) -> int:
    return int(value, *base) if isinstance(value, str | bytes) else int(value)


def _whole(values: typing.Any) -> typing.Any:
    if not isinstance(values, list | tuple | range | str | bytes | bytearray | dict | set):
        raise ValueError(type(values).__name__)
    return values


def _sorted(values: typing.Any, reverse: bool = False) -> list[typing.Any]:
    return sorted(_whole(values), reverse=reverse)


def _bytes(value: typing.Any = b"", *rest: str) -> bytes:
    if isinstance(value, int):
        if value > 1 << 20:
            raise ValueError("too many bytes")
        return bytes(value)
    return value.encode(*rest) if isinstance(value, str) else bytes(_whole(value))


def _text(value: typing.Any = "", *rest: str) -> str:
    if isinstance(value, Place | str):
        return str(value)
    return str(value, *(rest or ("utf-8",))) if isinstance(value, bytes | bytearray) else str(_plain(value))


def _plain(value: typing.Any) -> int | float | bool:
    if not isinstance(value, int | float) or (isinstance(value, int) and value.bit_length() > 10_000):
        raise ValueError(type(value).__name__)
    return value


def _reduced(evaluator: Evaluator, called: typing.Any, values: typing.Any, *start: typing.Any) -> typing.Any:
    found = list(start)
    for one in evaluator.iterated(values):
        found = [evaluator.call(called, [found[0], one], {})] if found else [one]
    return found[0]


FUNCTIONS: dict[str, Callable[..., typing.Any]] = {
    "builtins.len": lambda value: len(value),
    "builtins.range": range,
    "builtins.reversed": lambda values: list(reversed(_whole(values))),
    "builtins.list": lambda values=(): list(_whole(values)),
    "builtins.tuple": lambda values=(): tuple(_whole(values)),
    "builtins.set": lambda values=(): set(_whole(values)),
    "builtins.dict": lambda values=(), **named: dict(_whole(values), **named),
    "builtins.sorted": _sorted,
    "builtins.enumerate": lambda values, start=0: list(enumerate(_whole(values), start)),
    "builtins.zip": lambda *many: list(zip(*(_whole(one) for one in many), strict=False)),
    "builtins.sum": lambda values, start=0: sum(_whole(values), start),
    "builtins.min": min,
    "builtins.max": max,
    "builtins.abs": abs,
    "builtins.any": lambda values: any(_whole(values)),
    "builtins.all": lambda values: all(_whole(values)),
    "builtins.chr": chr,
    "builtins.ord": ord,
    "builtins.int": lambda value=0, *base: _known_integer(value, *base),
    "builtins.float": lambda value=0.0: float(value),
    "builtins.bool": lambda value=False: bool(_plain(value)),
    "builtins.hex": hex,
    "builtins.divmod": divmod,
    "builtins.round": round,
    "builtins.slice": slice,
    "builtins.str": _text,
    "builtins.bytes": _bytes,
    "builtins.bytearray": lambda value=b"", *rest: bytearray(_bytes(value, *rest)),
    "builtins.memoryview": lambda value: bytes(_whole(value)),
    "builtins.iter": lambda values: list(_whole(values)),
    "builtins.compile": lambda source, *_, **__: source,
    "builtins.exec": lambda *_, **__: None,
    "builtins.eval": lambda *_, **__: None,
    "builtins.print": lambda *_, **__: None,
    "bytes": _bytes,
    "bytearray": lambda value=b"", *rest: bytearray(_bytes(value, *rest)),
    "int.from_bytes": lambda data, order="big": int.from_bytes(_bytes(data), order),
    "str.maketrans": str.maketrans,
    "bytes.maketrans": bytes.maketrans,
    "operator.xor": operator.xor,
    "operator.add": operator.add,
    "zlib.crc32": zlib.crc32,
    "binascii.hexlify": lambda data: binascii.hexlify(_bytes(data)),
    "textwrap.dedent": lambda text: __import__("textwrap").dedent(text),
    "io.BytesIO": lambda data=b"": Machine("identity", (), data),
    "os.path.join": lambda *parts: os.path.join(*map(str, parts)),
    "os.path.dirname": lambda path: os.path.dirname(str(path)),
    "os.path.basename": lambda path: os.path.basename(str(path)),
    "os.path.abspath": lambda path: str(path),
    "os.path.realpath": lambda path: str(path),
    "os.fspath": lambda path: str(path),
}
for _short in ("exec", "eval", "compile", "print"):
    FUNCTIONS[_short] = FUNCTIONS[f"builtins.{_short}"]
CONSTANTS: dict[str, typing.Any] = {
    f"lzma.{name}": value
    for name, value in vars(lzma).items()
    if name.startswith(("FORMAT_", "FILTER_", "CHECK_", "MODE_", "MF_", "PRESET_")) and isinstance(value, int)
}
CONSTANTS |= {"zlib.MAX_WBITS": zlib.MAX_WBITS, "__file__": VIRTUAL + "train_gpt.py", "__name__": "__main__"}
CONSTANTS |= {
    "os.sep": "/",
    "sys.argv": (VIRTUAL + "train_gpt.py",),
    "string.printable": __import__("string").printable,
}


class Bound(Stand):
    """A method of a stand-in."""

    def __init__(self, work: Callable[..., typing.Any]) -> None:
        self.work = work

    def __call__(self, *positional: typing.Any, **named: typing.Any) -> typing.Any:
        return self.work(*positional, **named)


class Place(Stand):
    """A path beside the script."""

    def __init__(self, path: str, beside: Beside, self_bytes: bytes) -> None:
        self.path, self.beside, self.self_bytes = PurePosixPath(path), beside, self_bytes

    def __str__(self) -> str:
        return str(self.path)

    def __truediv__(self, name: object) -> "Place":
        return Place(str(self.path / str(name)), self.beside, self.self_bytes)

    def attribute(self, name: str) -> typing.Any:
        if name == "parent":
            return Place(str(self.path.parent), self.beside, self.self_bytes)
        if name in ("name", "stem", "suffix"):
            return str(getattr(self.path, name))
        if name in ("resolve", "absolute", "expanduser"):
            return Bound(lambda *_, **__: self)
        if name in ("joinpath", "with_name", "with_suffix"):
            work = getattr(self.path, name)
            return Bound(lambda *parts: Place(str(work(*map(str, parts))), self.beside, self.self_bytes))
        if name in ("read_bytes", "read_text", "open"):
            opened = File(self, name == "read_text")
            return Bound(lambda mode="r", *_, **__: File(self, "b" not in mode) if name == "open" else opened.read())
        raise Undecided(name)

    def data(self) -> bytes:
        if str(self.path) == CONSTANTS["__file__"]:
            return self.self_bytes
        try:
            return self.beside.read(str(self.path))
        except SourceError as error:
            raise Undecided(str(error)) from None


class File(Stand):
    """An open file beside the script."""

    def __init__(self, place: Place, text: bool) -> None:
        self.place, self.text, self.at = place, text, 0

    def read(self, size: int = -1) -> str | bytes:
        data = self.place.data()[self.at :]
        data = data[:size] if size >= 0 else data
        self.at += len(data)
        return data.decode("utf-8") if self.text else data

    def attribute(self, name: str) -> typing.Any:
        if name == "read":
            return Bound(self.read)
        if name == "readlines":
            return Bound(lambda: self.read().splitlines(keepends=True))
        if name == "seek":
            return Bound(self.seek)
        if name == "close":
            return Bound(lambda: None)
        raise Undecided(name)

    def seek(self, offset: int, whence: int = 0) -> None:
        size = len(self.place.data())
        self.at = max(0, offset + {0: 0, 1: self.at, 2: size}[whence])


def files_functions(beside: Beside, self_bytes: bytes) -> Mapping[str, Callable[..., typing.Any]]:
    """open and Path, of files beside the script and of the script itself; writing is Undecided."""

    def place(path: typing.Any, *more: typing.Any) -> Place:
        if not isinstance(path, str | Place):
            raise ValueError("a path")
        return Place(str(PurePosixPath(str(path), *map(str, more))), beside, self_bytes)

    def opened(path: typing.Any, mode: str = "r", *_: typing.Any, **__: typing.Any) -> File:
        if set(mode) & set("wax+"):
            raise ValueError("a file that is written")
        return File(place(path), "b" not in mode)

    return {"open": opened, "builtins.open": opened, "io.open": opened, "pathlib.Path": place}


def call_method(
    evaluator: Evaluator, owner: typing.Any, name: str, positional: list[typing.Any], named: dict[str, typing.Any]
) -> typing.Any:
    """A method of a plain value, by the lists above. Raises Undecided for any other."""
    if isinstance(owner, Machine):
        return _machine_method(evaluator, owner, name, positional)
    if isinstance(owner, Function | Stand):
        raise Undecided(name)
    if isinstance(owner, str | bytes | bytearray) and name in TEXT.split():
        if name == "replace":
            evaluator.budget.hold(len(owner) // max(len(positional[0]), 1) * len(positional[1]))
        if name == "join":
            positional = [list(evaluator.iterated(positional[0]))]
            evaluator.budget.hold(sum(len(one) + len(owner) for one in positional[0]))
            return evaluator.guarded(lambda: owner.join(*positional))
        if (
            name == "decode"
            and positional
            and str(positional[0]).lower() not in ("utf-8", "utf8", "ascii", "latin-1", "latin1")
        ):
            return evaluator.decode("codecs.decode", [owner, *positional], named)
        return evaluator.remember(owner, evaluator.guarded(lambda: getattr(owner, name)(*positional, **named)))
    if isinstance(owner, list | dict | set | tuple | bytearray) and name in SEQUENCE.split():
        found = evaluator.guarded(lambda: getattr(owner, name)(*positional, **named))
        return list(found) if name in ("items", "keys", "values") else found
    if isinstance(owner, int) and name == "to_bytes" and positional[0] < 1 << 22:
        return evaluator.guarded(lambda: owner.to_bytes(*positional, **named))
    raise Undecided(name)


def _machine_method(evaluator: Evaluator, owner: Machine, name: str, positional: list[typing.Any]) -> typing.Any:
    if name in ("decompress", "process") and positional:
        return evaluator.decode(owner.name, positional[:1], dict(owner.named))
    if name in ("decompressobj", "stream_reader"):
        return Machine(owner.name, owner.named, positional[0] if name == "stream_reader" else None)
    if name in ("read", "getvalue") and owner.data is not None:
        data = owner.data.data if isinstance(owner.data, Machine) else owner.data
        return data if owner.name == "identity" else evaluator.decode(owner.name, [data], dict(owner.named))
    if name in ("flush", "finish"):
        return b""
    raise Undecided(name)
