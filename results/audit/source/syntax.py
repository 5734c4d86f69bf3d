"""Python of 3.12 to 3.14 as a tree, whatever Python this is: only the spans that are newer are written anew.

Line numbers are kept. A statement that no Python parses is left out, and a note says so.
"""

import ast
import re
import warnings
from collections.abc import Iterator

import tree_sitter
import tree_sitter_python

from results.audit.source.program import Limits, SourceError
from results.untrusted import plain

PLACEHOLDER = "_golf_audit_field_{}_"
MAX_NESTED = 20  # f-strings inside of fields of f-strings
MAX_TRIES = 40  # parses of a text that has errors
STATEMENT = re.compile(r".*(_statement|_definition|ERROR)")
LANGUAGE = tree_sitter.Language(tree_sitter_python.language())
Edit = tuple[int, int, str]  # from byte, to byte, the new text
Fields = dict[str, tuple[str, int]]  # placeholder -> (source of the expression, its row from 0)


def parse(text: str, name: str, limits: Limits, tolerant: bool = True) -> tuple[ast.Module, list[str]]:
    """The tree of a text, and notes on what was left out. Raises SourceError."""
    found = _tree(text, name)
    if not isinstance(found, SyntaxError):
        return _counted(found, name, limits), []
    fields: Fields = {}
    modern = _rewritten(text, fields, 0)
    notes: list[str] = []
    again = _tree(modern, name)
    if isinstance(again, SyntaxError):
        if not tolerant:
            raise SourceError(f"{plain(name)} is no Python: {_said(again)}")
        again, notes = _without_errors(modern, again, name)
    _put_fields(again, fields, name, 0)
    return _counted(again, name, limits), notes


def _counted(tree: ast.Module, name: str, limits: Limits) -> ast.Module:
    if sum(1 for _ in ast.walk(tree)) > limits.nodes:
        raise SourceError(
            f"{plain(name)} has more than {limits.nodes:,} nodes; no script of the race has a tenth of that"
        )
    return tree


def _tree(text: str, name: str) -> ast.Module | SyntaxError:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except SyntaxError as error:
        if "too many nested" in str(error) or "too complex" in str(error):
            raise SourceError(f"{plain(name)} is nested too deeply to be analysed: {_said(error)}") from None
        return error
    except (RecursionError, MemoryError):
        raise SourceError(f"{plain(name)} is nested too deeply, or too large, to be analysed") from None
    except ValueError as error:
        raise SourceError(f"{plain(name)} cannot be parsed: {plain(error)}") from None


def _said(error: SyntaxError) -> str:
    return f"{plain(error.msg)} (line {error.lineno})"


def _nodes(root: tree_sitter.Node) -> Iterator[tree_sitter.Node]:
    pending = [root]
    while pending:
        node = pending.pop()
        yield node
        pending += reversed(node.children)


def _rewritten(text: str, fields: Fields, row: int) -> str:
    """The text with what is newer than Python 3.11 written in older syntax, line by line where it was."""
    data = text.encode("utf-8", "replace")
    root = tree_sitter.Parser(LANGUAGE).parse(data).root_node
    edits: list[Edit] = []
    pending = [root]
    while pending:
        node = pending.pop()
        if node.type == "string" and node.children and set(_text(node.children[0]).lower()) & set("ft"):
            _string_edits(node, data, fields, row, edits)
            continue
        if node.type == "type_alias_statement":
            edits += _alias_edits(node)
        elif node.type in ("function_definition", "class_definition"):
            edits += _parameter_edits(node)
        elif node.type == "except_clause":
            edits += _except_edits(node)
        pending += reversed(node.children)
    out, at = [], 0
    for start, end, new in sorted(edits):
        if start >= at:
            out += [data[at:start], new.encode()]
            at = end
    return b"".join([*out, data[at:]]).decode("utf-8", "replace")


def _text(node: tree_sitter.Node) -> str:
    return (node.text or b"").decode("utf-8", "replace")


def _string_edits(node: tree_sitter.Node, data: bytes, fields: Fields, row: int, edits: list[Edit]) -> None:
    """Fields of an f-string that 3.11 would not take become names; _put_fields puts their trees in the place."""
    start = node.children[0]
    prefix = _text(start)
    if "t" in prefix.lower():
        edits.append((start.start_byte, start.end_byte, prefix.replace("t", "f").replace("T", "f")))
    triple = prefix.endswith(('"""', "'''"))
    lost = 0
    for one in _nodes(node):
        if one.type not in ("interpolation", "format_expression") or not one.children:
            continue
        if any(begin <= one.start_byte < end for begin, end, _ in edits[-64:]):
            continue  # inside a field that is replaced as a whole
        opening = one.children[0]
        tail = next(
            (child for child in one.children[1:] if child.type in ("type_conversion", "format_specifier", "}")), None
        )
        if tail is None:
            continue
        source = data[opening.end_byte : tail.start_byte].decode("utf-8", "replace")
        if not re.search(r"[\"'\\\n#]", source):
            continue
        name = PLACEHOLDER.format(len(fields))
        fields[name] = (re.sub(r"=\s*$", "", source), row + opening.end_point[0])
        lines = source.count("\n")
        edits.append((opening.end_byte, tail.start_byte, name + ("\n" * lines if triple else "")))
        lost += 0 if triple else lines
    if lost:  # lines that a field of a short string had: after the string, inside parentheses
        whole = node.parent if node.parent is not None and node.parent.type == "concatenated_string" else node
        edits.append((whole.start_byte, whole.start_byte, "("))
        edits.append((whole.end_byte, whole.end_byte, "\n" * lost + ")"))


def _alias_edits(node: tree_sitter.Node) -> list[Edit]:
    """`type X[T] = value` as `X = value`."""
    word, left = node.children[0], node.children[1]
    edits: list[Edit] = [(word.start_byte, left.start_byte, "")]
    for one in _nodes(left):
        if one.type == "type_parameter":
            edits.append((one.start_byte, one.end_byte, ""))
            if lines := _text(one).count("\n"):
                right = node.children[-1]
                edits += [
                    (right.start_byte, right.start_byte, "(" + "\n" * lines),
                    (right.end_byte, right.end_byte, ")"),
                ]
            break
    return edits


def _parameter_edits(node: tree_sitter.Node) -> list[Edit]:
    """`def f[T](x)` as `def f(x)`, `class A[T]` as `class A`."""
    found = next((one for one in node.children if one.type == "type_parameter"), None)
    if found is None:
        return []
    lines = "\n" * _text(found).count("\n")
    after = next((one for one in node.children if one.type in ("parameters", "argument_list")), None)
    if after is None:
        return [(found.start_byte, found.end_byte, f"({lines})" if lines else "")]
    at = after.start_byte + 1
    return [(found.start_byte, found.end_byte, ""), *([(at, at, lines)] if lines else [])]


def _except_edits(node: tree_sitter.Node) -> list[Edit]:
    """`except A, B:` as `except (A, B):`."""
    commas = [one for one in node.children if one.type == ","]
    if not commas:
        return []
    named = [one for one in node.children if one.is_named and one.type != "block" and one.type != "comment"]
    return [(named[0].start_byte, named[0].start_byte, "("), (named[-1].end_byte, named[-1].end_byte, ")")]


def _put_fields(tree: ast.AST, fields: Fields, name: str, depth: int) -> None:
    """The expressions of the fields in the places of their names, with the lines where they stand."""
    if not fields:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.FormattedValue) and isinstance(node.value, ast.Name) and node.value.id in fields:
            source, row = fields[node.value.id]
            node.value = _expression(source, row, name, depth)


def _expression(source: str, row: int, name: str, depth: int) -> ast.expr:
    if depth >= MAX_NESTED:
        raise SourceError(f"{plain(name)} nests f-strings deeper than {MAX_NESTED} levels (line {row + 1})")
    inner: Fields = {}
    text = f"({source}\n)"
    found = _tree(text, name)
    if isinstance(found, SyntaxError):
        found = _tree(_rewritten(text, inner, 0), name)
    if isinstance(found, SyntaxError) or len(found.body) != 1 or not isinstance(found.body[0], ast.Expr):
        return ast.Constant(value=source, lineno=row + 1, col_offset=0, end_lineno=row + 1, end_col_offset=0)
    value = found.body[0].value
    _put_fields(found, inner, name, depth + 1)
    ast.increment_lineno(value, row)
    return value


def _without_errors(text: str, error: SyntaxError, name: str) -> tuple[ast.Module, list[str]]:
    """The tree without the statements that do not parse: the smallest around each error."""
    notes: list[str] = []
    tries = 0
    while tries < MAX_TRIES:
        lines = text.split("\n")
        row = min(max((error.lineno or 1) - 1, 0), len(lines) - 1)
        best: tuple[int, int, str, ast.Module | SyntaxError] | None = None
        for first, last in _around(text, row):
            tries += 1
            indent = re.match(r"\s*", lines[first])
            left = [*lines[:first], (indent[0] if indent else "") + "pass", *[""] * (last - first), *lines[last + 1 :]]
            found = _tree("\n".join(left), name)
            best = (first, last, "\n".join(left), found)
            if isinstance(found, ast.Module) or (found.lineno or 0) > last + 1 or tries >= MAX_TRIES:
                break
        if best is None:
            break
        first, last, text, result = best
        notes.append(f"{plain(name)}: lines {first + 1} to {last + 1} do not parse ({_said(error)}) and were left out")
        if isinstance(result, ast.Module):
            return result, notes
        error = result
    raise SourceError(f"{plain(name)} is no Python: {_said(error)}; nor is it without the statements that do not parse")


def _around(text: str, row: int) -> list[tuple[int, int]]:
    """Rows of the statements around a row, the smallest first; the row alone where there is none."""
    root = tree_sitter.Parser(LANGUAGE).parse(text.encode("utf-8", "replace")).root_node
    spans = [(row, row)]
    node: tree_sitter.Node | None = root
    while node is not None:
        if STATEMENT.fullmatch(node.type) and node is not root:
            spans.append((node.start_point[0], node.end_point[0]))
        node = next((one for one in node.children if one.start_point[0] <= row <= one.end_point[0]), None)
    return sorted(set(spans), key=lambda span: span[1] - span[0])
