"""S9: the bytes by which a score is divided are those of the text (rules.md D2, D3)."""

import ast
import math
from collections.abc import Callable, Iterator, Mapping

from results.audit.finding import FAIL, PASS, REVIEW, Finding
from results.audit.rules.byte_tables import ASKS, SIZE, VOCABULARY, Found, bytes_of, tables_of
from results.audit.rules.settings import Settings, evidence, live_nodes, nodes, settings_of, texts
from results.audit.source.program import Piece, Program

AUTHORITY = "[R] D2; [M] #1806"
IDS = {kind: [n for n, (_, what) in enumerate(VOCABULARY) if what == kind] for kind in ("byte", "control", "normal")}
PLAIN = [n for n in IDS["normal"] if not VOCABULARY[n][0].startswith("\u2581")]
SPACED = [n for n in IDS["normal"] if VOCABULARY[n][0].startswith("\u2581") and len(VOCABULARY[n][0]) > 1]
LN2 = math.log(2)
RATIOS = (1.5, 6.0)  # bytes per token of the tokenizers of the race lie well within


def check(program: Program, variables: Mapping[str, str] | None = None) -> list[Finding]:
    settings = settings_of(program, variables)
    live = {id(node) for _, node in live_nodes(program, settings)}
    found: list[Finding] = []
    untried: list[tuple[Piece, ast.AST]] = []
    for piece in program.pieces:
        for node, tables in tables_of(piece):
            if id(node) not in live:
                continue
            judged = list(_of_tables(piece, tables, _adds_spaces(program)))
            found += judged
            untried += [] if judged else [(piece, node)]
        found += _ratios(piece, settings, live)
    if not any(one.rule == "S9" for one in found):
        found += _untried(untried) if untried else _uncounted(program)
    return found


def _untried(places: list[tuple[Piece, ast.AST]]) -> Iterator[Finding]:
    """A note that the bytes are counted in a way that could not be tried; a recount decides."""
    for piece, node in places[:1]:
        line = getattr(node, "lineno", None)
        says = "bytes are counted from the tokenizer here, in a way that could not be tried; a recount decides"
        yield Finding("S9", PASS, AUTHORITY, says, piece.name, line, evidence(piece, line))


def _of_tables(piece: Piece, tables: list[Found], adds_spaces: bool) -> Iterator[Finding]:
    """What is wrong with the tables of one function; nothing where none of them counts bytes."""
    marks = [True] * len(SPACED) + [False] * len(PLAIN)
    flags = any(set(one.values) <= {0, 1} and [bool(one.values[n]) for n in SPACED + PLAIN] == marks for one in tables)
    for one in tables:
        unit = _unit(one.values)
        if unit is None:
            continue
        faults = list(_faults(one, *unit, flags and adds_spaces))
        verdict = FAIL if faults else PASS
        says = "; ".join(faults) or f"{one.name} counts bytes as the text has them, tried on {SIZE} pieces"
        yield Finding("S9", verdict, AUTHORITY, says, piece.name, one.line, evidence(piece, one.line))


def _unit(values: tuple[float, ...]) -> tuple[Callable[[str], int], float] | None:
    """What a table counts in pieces, bytes or characters, and how many it adds to all of them; None: neither."""
    for count in (bytes_of, _characters_of):
        extra = {values[n] - count(VOCABULARY[n][0]) for n in PLAIN}
        if len(extra) == 1 and 0 <= min(extra) <= 4:
            return count, extra.pop()
    return None


def _characters_of(piece: str) -> int:
    return len(piece.removeprefix("\u2581"))


def _faults(table: Found, count: Callable[[str], int], more: float, adds: bool) -> Iterator[str]:
    values = table.values
    if count is not bytes_of:
        yield f"{table.name} counts characters, not bytes"
    if more:
        yield f"{table.name} counts {more:g} bytes more than each piece has"
    extra = {values[n] - more - count(VOCABULARY[n][0]) for n in SPACED}
    if extra == {1} and adds:
        yield f"{table.name} counts the space before a word as a byte, and the evaluation adds it again"
    elif extra - {0, 1}:
        told = ", ".join(f"{number:+g}" for number in sorted(extra))
        yield f"{table.name} counts the space before a word as {told} bytes besides the word's"
    for kind, right in (("byte", 1), ("control", 0)):
        wrong = sorted({values[n] for n in IDS[kind] if values[n] != right})
        if wrong:
            yield f"{table.name} counts {kind} tokens as {', '.join(f'{one:g}' for one in wrong)} bytes, not {right}"


def _adds_spaces(program: Program) -> bool:
    """Whether a looked-up flag counts only where another looked-up flag does not hold: flag[target] & ~edge[before]."""
    for piece in program.pieces:
        for node in nodes(piece.tree):
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd | ast.Mult):
                sides = (node.left, node.right)
                if any(_negated(one) for one in sides) and all(_looks_up(one) for one in sides):
                    return True
            elif isinstance(node, ast.Call) and _name(node.func) in ("logical_and", "bitwise_and", "where"):
                return True
    return False


def _negated(node: ast.expr) -> bool:
    for one in ast.walk(node):
        if isinstance(one, ast.UnaryOp) and isinstance(one.op, ast.Invert | ast.Not):
            return True
        if isinstance(one, ast.BinOp) and isinstance(one.op, ast.Sub) and _is_one(one.left):
            return True
        if isinstance(one, ast.Call) and _name(one.func) in ("logical_not", "bitwise_not"):
            return True
        if isinstance(one, ast.Compare) and len(one.comparators) == 1:
            right = one.comparators[0]
            if isinstance(one.ops[0], ast.Eq) and isinstance(right, ast.Constant) and right.value in (0, False):
                return True
    return False


def _is_one(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value == 1


def _looks_up(node: ast.expr) -> bool:
    return any(isinstance(one, ast.Subscript | ast.Call | ast.Name) for one in ast.walk(node))


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _ratios(piece: Piece, settings: Settings, live: set[int]) -> Iterator[Finding]:
    """Nats turned to bits by ln 2, and then to bits per byte by a constant."""
    for function in nodes(piece.tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Module):
            continue
        bits: set[str] = set()
        for node in _own(function):
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult | ast.Div):
                ratio = _ratio(node, settings, bits)
                if ratio is not None and id(node) in live:
                    says = f"bits are divided by a constant ({ratio:g} bytes a token), not by the bytes of the text"
                    yield Finding(
                        "S9", FAIL, "[R] D2; [C] #1804", says, piece.name, node.lineno, evidence(piece, node.lineno)
                    )
            elif (
                isinstance(node, ast.Assign)
                and isinstance(node.targets[0], ast.Name)
                and _has_ln2(node.value, settings)
            ):
                bits.add(node.targets[0].id)


def _own(function: ast.AST) -> Iterator[ast.AST]:
    """Nodes of a function in the order of the source, without those of functions in it; whole products only."""
    pending = list(reversed(list(ast.iter_child_nodes(function))))
    while pending:
        node = pending.pop()
        yield node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if isinstance(function, ast.Module) and isinstance(node, ast.ClassDef):
                pending += reversed(list(ast.iter_child_nodes(node)))
            continue
        children = list(ast.iter_child_nodes(node))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult | ast.Div):
            children = [inner for one in _factors(node) for inner in ast.iter_child_nodes(one[0])]
        pending += reversed(children)


def _factors(node: ast.expr, upper: bool = True) -> list[tuple[ast.expr, bool]]:
    """The factors of a product, and whether each stands above the line."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult | ast.Div):
        right = upper if isinstance(node.op, ast.Mult) else not upper
        return [*_factors(node.left, upper), *_factors(node.right, right)]
    return [(node, upper)]


def _is_ln2(value: float | None) -> bool:
    return value is not None and (abs(value - LN2) < 1e-3 or abs(value - 1 / LN2) < 2e-3)


def _has_ln2(node: ast.expr, settings: Settings) -> bool:
    return any(_is_ln2(settings.number(one)) for one in ast.walk(node) if isinstance(one, ast.expr))


def _ratio(node: ast.BinOp, settings: Settings, bits: set[str]) -> float | None:
    """Bytes a token that a product of bits divides by, where they are constant and nothing else divides."""
    factors = _factors(node)
    numbers = [(settings.number(one), upper) for one, upper in factors]
    in_bits = any(isinstance(one, ast.Name) and one.id in bits for one, _ in factors)
    if not in_bits and not any(_is_ln2(value) for value, _ in numbers):
        return None
    ratios = [1 / value if upper else value for value, upper in numbers if value and not _is_ln2(value)]
    others = [one for one, (value, _) in zip(factors, numbers, strict=True) if value is None]
    likely = [one for one in ratios if RATIOS[0] < one < RATIOS[1] and abs(one - round(one)) > 1e-6]
    mean = len(others) == 1 or sorted(upper for _, upper in others) == [False, True]  # a loss, or its sum over a count
    return likely[0] if len(likely) == 1 and len(ratios) == 1 and mean else None


def _uncounted(program: Program) -> Iterator[Finding]:
    """A score in bits per byte without any place where bytes are counted from a tokenizer, a sidecar or a text."""
    told = next(((piece, node) for piece, node, text in texts(program) if "bpb" in text.lower()), None)
    if told is None:
        return
    asks = any(
        isinstance(node, ast.Attribute) and (node.attr in ASKS or node.attr in ("encode", "decode", "DecodeIds"))
        for piece in program.pieces
        for node in nodes(piece.tree)
    )
    if asks or any("_bytes" in text for _, _, text in texts(program)):
        return
    piece, node = told
    says = "bits per byte are told, and no place was found where bytes are counted from the tokenizer"
    yield Finding("S9", REVIEW, AUTHORITY, says, piece.name, node.lineno, evidence(piece, node.lineno))
