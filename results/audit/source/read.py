"""A submission's source as a Program: its file unwrapped, with what it brings along."""

import hashlib
from pathlib import Path

from results.audit.source.decoders import TooMuch
from results.audit.source.files import Beside, read_file, text_of
from results.audit.source.modules import c_in_strings, named_modules, named_sources
from results.audit.source.program import Limits, Piece, Program, SourceError, piece_of
from results.audit.source.unwrap import Unwrapped, is_shim, unwrap
from results.audit.source.values import Budget
from results.untrusted import plain

SCRIPT = "train_gpt.py"


def read_program(path: Path, limits: Limits) -> Program:
    """The source at a path, or a folder's train_gpt.py. Nothing of it runs. Raises SourceError."""
    path = path / SCRIPT if path.is_dir() else path
    return program_of(read_file(path, limits.file_bytes), path, Beside(path.parent, limits), limits)


def program_of(data: bytes, path: Path, beside: Beside, limits: Limits) -> Program:
    """The same of bytes that were read already."""
    try:
        return _program(data, path, beside, limits)
    except TooMuch as error:
        raise SourceError(f"{plain(path)}: {error}") from None
    except (RecursionError, MemoryError):
        raise SourceError(f"{plain(path)} is nested too deeply, or too large, to be analysed") from None


def _program(data: bytes, path: Path, beside: Beside, limits: Limits) -> Program:
    budget = Budget(limits.steps, limits.decoded_bytes, limits.total_bytes)
    name = plain(path.name) or SCRIPT
    outer = unwrap(name, text_of(data, name, limits), data, beside, limits, budget)
    main = outer.main()
    pieces = [piece_of(main.name, main.text, main.tree)]
    pieces += _rest(outer, main.name)
    notes = list(outer.notes)
    other: dict[str, str] = {}
    seen = {name}
    at = 0
    while at < len(pieces):  # pieces grows while it is gone through; a name is read once, so circles end
        one = pieces[at]
        at += 1
        for line, text in c_in_strings(one.tree):
            other[f"{one.name} (string in line {line})"] = text
        for source in named_sources(one.tree, beside):
            if source not in other:
                other[source] = text_of(beside.read(source), source, limits)
        for module in named_modules(one.tree, one.name, beside):
            if module in seen or len(pieces) >= limits.pieces:
                continue
            seen.add(module)
            try:
                bytes_of = beside.read(module)
                inner = unwrap(module, text_of(bytes_of, module, limits), bytes_of, beside, limits, budget)
            except SourceError as error:
                notes.append(f"{module} was not followed: {error}")
                continue
            first = inner.main()
            known = {piece.text for piece in pieces}
            if first.text not in known:
                pieces += [piece_of(first.name, first.text, first.tree), *_rest(inner, first.name)]
            notes += inner.notes
    if len(pieces) >= limits.pieces:  # what is beyond is not followed
        notes.append(f"only the first {limits.pieces} pieces of source are analysed")
    digest = hashlib.sha256(data).hexdigest()
    return Program(path, digest, len(data), pieces[0], tuple(pieces), tuple(other.items()), tuple(dict.fromkeys(notes)))


def _rest(found: Unwrapped, main: str) -> list[Piece]:
    """The code of a file besides the main one: what is more than a wrapper."""
    rest = [code for code in found.codes if code.name != main and not is_shim(found, code)]
    return [piece_of(code.name, code.text, code.tree) for code in rest]
