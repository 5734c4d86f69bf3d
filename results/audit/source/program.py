"""What the audit reads of a submission's source: pieces of Python with their trees, C sources, and how much is read."""

import ast
import hashlib
from dataclasses import dataclass
from pathlib import Path

MIB = 1024 * 1024


class SourceError(Exception):
    """A source that cannot be analysed; the message says which, why, and what to do."""


@dataclass(frozen=True)
class Limits:
    """How much of a source is read before it is refused. The largest script of the race has 4,000 lines, 220 kB."""

    file_bytes: int = 8 * MIB  # of one file
    text_characters: int = 4 * MIB  # of one piece after unwrapping
    lines: int = 100_000  # of one piece
    decoded_bytes: int = 16 * MIB  # of one decoded constant
    total_bytes: int = 64 * MIB  # of all that is decoded and read
    depth: int = 8  # wrappers around wrappers
    pieces: int = 32  # modules that are followed
    steps: int = 4_000_000  # of the evaluation of constants
    nodes: int = 600_000  # of one tree
    memory_bytes: int = 1536 * MIB  # address space of the process that analyses
    seconds: float = 60.0  # of processor time, and twice that by the clock, for one program


@dataclass(frozen=True)
class Piece:
    """One text of Python. The tree has the line numbers of the text, also where its syntax is newer than ours."""

    name: str
    text: str
    tree: ast.Module
    sha256: str

    def line(self, number: int | None) -> str:
        """A line of the text, from 1; empty where there is none such."""
        if number is None or number < 1:
            return ""
        lines = self.text.split("\n")
        return lines[number - 1].strip() if number <= len(lines) else ""


@dataclass(frozen=True)
class Program:
    """A submission's source: the piece that runs, what it brings along, and what was noted on the way."""

    path: Path
    sha256: str  # of the file as it is
    bytes: int
    main: Piece  # the innermost that was unwrapped
    pieces: tuple[Piece, ...]  # main first, then wrappers with code of their own, and sibling modules
    other: tuple[tuple[str, str], ...]  # (name, text) of C, C++ and CUDA sources
    notes: tuple[str, ...]


def piece_of(name: str, text: str, tree: ast.Module) -> Piece:
    return Piece(name, text, tree, hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest())
