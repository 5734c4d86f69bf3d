"""Self-extracting scripts taken apart: what they would execute, found by evaluating constants, and read in turn."""

import ast
import typing
from dataclasses import dataclass, field

from results.audit.source.files import Beside, checked
from results.audit.source.library import CONSTANTS, FUNCTIONS, call_method, files_functions
from results.audit.source.program import Limits, SourceError
from results.audit.source.pure import Evaluator
from results.audit.source.statements import run_leniently
from results.audit.source.syntax import parse
from results.audit.source.values import Budget, Env, Known, OutOfSteps

RUNNERS = ("exec", "eval", "compile", "builtins.exec", "builtins.eval", "builtins.compile")
OPAQUE = ("marshal.loads", "pickle.loads", "dill.loads", "cloudpickle.loads", "marshal.load")
MIN_CODE = 200  # characters of a decoded constant that is taken for code though nothing seems to execute it
PLAIN = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.Expr, ast.FunctionDef)
MAX_SHIM = 200  # nodes of the tree of a wrapper that does nothing else


@dataclass(frozen=True)
class Code:
    """A text of Python and its tree."""

    name: str
    text: str
    tree: ast.Module


@dataclass
class Unwrapped:
    """All code of one file: the outer text first, then what it executes."""

    codes: list[Code] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    wrappers: set[int] = field(default_factory=set)  # ids of the trees that other code came out of

    def main(self) -> Code:
        """The innermost code that is not smaller than what wraps it."""
        return max(reversed(self.codes), key=lambda code: sum(1 for _ in ast.walk(code.tree)))


@dataclass
class _Seen:
    """What one text executes, in order, with the decoders it went through."""

    executed: list[str | bytes] = field(default_factory=list)
    opaque: list[str] = field(default_factory=list)
    lines: set[int] = field(default_factory=set)  # of the calls whose code is known

    def called(self, evaluator: Evaluator, known: Known, positional: list[typing.Any]) -> None:
        if known.name in RUNNERS and positional and isinstance(positional[0], str | bytes):
            self.executed.append(positional[0])
            self.lines.add(evaluator.line)
        elif known.name in OPAQUE and positional and isinstance(positional[0], str | bytes) and len(positional[0]) > 64:
            self.opaque.append(known.name)


def unwrap(name: str, text: str, data: bytes, beside: Beside, limits: Limits, budget: Budget) -> Unwrapped:
    """The code of a file, and what it executes, to the depth of the limits. Raises SourceError, TooMuch."""
    found = Unwrapped()
    tree, notes = parse(text, name, limits)
    found.notes += notes
    found.codes.append(Code(name, text, tree))
    _follow(found, name, name, tree, {}, data, beside, limits, budget, 0)
    return found


def _follow(
    found: Unwrapped,
    outer: str,
    name: str,
    tree: ast.Module,
    env: Env,
    data: bytes,
    beside: Beside,
    limits: Limits,
    budget: Budget,
    depth: int,
) -> None:
    seen = _Seen()
    functions = {**FUNCTIONS, **files_functions(beside, data)}
    evaluator = Evaluator(budget, functions, call_method, CONSTANTS, called=seen.called)
    env = dict(env)
    try:
        run_leniently(evaluator, tree.body, env)
    except OutOfSteps as error:
        found.notes.append(f"{name}: {error}; code that it executes may be hidden behind them")
    found.notes += _unread(name, tree, seen)
    found.notes += [f"{name} loads code by {one}, which is not read: no source is in it" for one in seen.opaque]
    inner = {code.text for code in found.codes}
    for value in [*seen.executed, *_decoded(evaluator, seen)]:
        code = _code(outer, value, evaluator.made.get(value, ()), value in seen.executed, beside, limits, found.notes)
        if code is None or code.text in inner:
            continue
        if depth >= limits.depth:
            raise SourceError(f"{outer} wraps code more than {limits.depth} times; unwrap it by hand")
        if len(found.codes) >= limits.pieces:
            raise SourceError(f"{outer} holds more than {limits.pieces} texts of code; unwrap it by hand")
        inner.add(code.text)
        found.wrappers.add(id(tree))
        found.codes.append(code)
        _follow(found, outer, code.name, code.tree, env, data, beside, limits, budget, depth + 1)


def _unread(name: str, tree: ast.Module, seen: _Seen) -> list[str]:
    """Notes on calls of exec whose code could not be told."""
    lines = {
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "exec"
    }
    return [f"{name}: what exec runs in line {line} could not be read" for line in sorted(lines - seen.lines)][:8]


def _decoded(evaluator: Evaluator, seen: _Seen) -> list[str | bytes]:
    """Decoded constants that nothing was seen to execute: they may be written to a file, or run in a way not known."""
    return [value for value in evaluator.made if len(value) >= MIN_CODE and value not in seen.executed]


def _code(
    outer: str,
    value: str | bytes,
    labels: tuple[str, ...],
    executed: bool,
    beside: Beside,
    limits: Limits,
    notes: list[str],
) -> Code | None:
    """A value as code; None where it is none: data, a lone expression, or an alphabet of base64."""
    if not executed and len(value) < MIN_CODE:
        return None
    try:
        text = value if isinstance(value, str) else value.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not executed and not any(word in text for word in ("import", "def ", "=", "exec")):
        return None
    name = beside.names.get(value) or f"{outer} (unwrapped: {', '.join(labels) or 'constant'})"
    try:
        tree, said = parse(checked(text, name, limits), name, limits, tolerant=executed and len(text) >= MIN_CODE)
    except SourceError:
        if executed and len(text) >= MIN_CODE:
            raise
        return None
    if all(isinstance(one, ast.Expr) and not isinstance(one.value, ast.Call) for one in tree.body):
        return None
    notes += said
    return Code(name, text, tree)


def is_shim(found: Unwrapped, code: Code) -> bool:
    """Whether a code does nothing but unwrap another: imports, constants and calls, few of them."""
    tree = code.tree
    if id(tree) not in found.wrappers:
        return False
    return all(isinstance(one, PLAIN) for one in tree.body) and sum(1 for _ in ast.walk(tree)) <= MAX_SHIM
