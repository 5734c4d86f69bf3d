"""The text itself, where it is at hand: the embedded corpus, or a file of documents, one JSON object a line."""

import gzip
import itertools
import json
import lzma
import typing
from collections.abc import Iterator
from pathlib import Path

from results.recount.model import RecountError

CORPUS = Path(__file__).resolve().parents[2] / "data" / "sotu_1901_2026.jsonl.xz"
HELD_OUT = 10  # messages of the embedded corpus whose text is validation, the first in order


class Texts(typing.Protocol):
    """Takes the documents of the shards one after another, and says which is not the text's next."""

    raw_bytes: int
    compared: int
    literal: int  # equal to the raw text as it is, not only as the tokenizer normalises it

    def take(self, number: int, decoded: bytes) -> str | None: ...

    def rest(self) -> str | None: ...


def lines_of(path: Path) -> Iterator[tuple[str, str]]:
    """(place, text) of each document. Raises RecountError with the line that is none."""
    openers: dict[str, typing.Any] = {".gz": gzip.open, ".xz": lzma.open, ".jsonl": open}
    opener = openers.get(path.suffix)
    if opener is None:
        raise RecountError(f"{path} is no .jsonl, .jsonl.gz or .jsonl.xz of documents")
    try:
        with opener(path, "rt", encoding="utf-8", newline="\n") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                row = json.loads(line)
                if not isinstance(row, dict) or not isinstance(text := row.get("text"), str):
                    raise RecountError(f"{path}:{number} has no text")
                yield f"{path.name}:{number}", text
    except (OSError, EOFError, ValueError, lzma.LZMAError, RecursionError) as error:
        if isinstance(error, RecountError):
            raise
        raise RecountError(f"{path} cannot be read: {error}") from None


class DocumentFile:
    """A document of the shards for each document of the file, in order. The file may hold more: training text."""

    def __init__(self, path: Path, normalized: typing.Callable[[str], str]) -> None:
        self.path, self.raw_bytes, self.compared, self.literal = path, 0, 0, 0
        self.lengths: list[int] = []  # bytes of each raw text
        self._lines, self._normalized = lines_of(path), normalized

    def take(self, number: int, decoded: bytes) -> str | None:
        if (found := next(self._lines, None)) is None:
            return f"the shards have a document {number}, and {self.path.name} has no more"
        place, text = found
        raw = text.encode("utf-8", "surrogatepass")
        self.raw_bytes += len(raw)
        self.lengths.append(len(raw))
        if raw == decoded:
            self.literal += 1
        elif self._normalized(text).encode("utf-8", "surrogatepass") != decoded:
            return f"document {number} is not the text at {place}"
        self.compared += 1
        return None

    def rest(self) -> str | None:
        return None


class EmbeddedCorpus:
    """The messages that are held out: each is its documents one after another, but for white space between them."""

    def __init__(self, normalized: typing.Callable[[str], str], path: Path = CORPUS) -> None:
        self.raw_bytes, self.compared, self.literal = 0, 0, 0
        self._normalized = normalized
        self._chunks = self._held_out(path)
        self._left = b""
        self._place = ""

    def _held_out(self, path: Path) -> Iterator[tuple[str, str]]:
        seen: dict[str, None] = {}
        try:
            with lzma.open(path, "rt", encoding="utf-8") as file:
                rows = [json.loads(line) for line in file]
        except (OSError, EOFError, ValueError, lzma.LZMAError) as error:
            raise RecountError(f"the embedded corpus {path} cannot be read: {error}") from None
        for row in rows:
            seen.setdefault(row["id"], None)
        held = set(itertools.islice(seen, HELD_OUT))
        for number, row in enumerate(rows, 1):
            if row["id"] in held:
                yield f"{path.name}:{number}", row["text"]

    def take(self, number: int, decoded: bytes) -> str | None:
        self._left = self._left.lstrip(b" ")
        while not self._left:
            if (found := next(self._chunks, None)) is None:
                return f"the shards have a document {number}, and the held-out messages have no more text"
            self._place, text = found
            raw = text.encode()
            self.raw_bytes += len(raw)
            self.literal += int(raw == decoded)
            self._left = self._normalized(text).encode()
        if not self._left.startswith(decoded):
            return f"document {number} is not what follows in the text at {self._place}"
        self._left = self._left[len(decoded) :]
        self.compared += 1
        return None

    def rest(self) -> str | None:
        if self._left.strip(b" ") or next(self._chunks, None) is not None:
            return "the shards end before the held-out text does"
        return None
