"""Constants of a script by the name that they are given, with its defaults and the variables that it is run with."""

import ast
import math
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from results.audit.source.decoders import TooMuch
from results.audit.source.library import CONSTANTS, FUNCTIONS, call_method
from results.audit.source.program import Piece, Program
from results.audit.source.pure import Evaluator
from results.audit.source.statements import run_import
from results.audit.source.values import Budget, Env, Function, Known, Leave, OutOfSteps, Undecided
from results.untrusted import plain

STEPS = 400_000
AMBIGUOUS = object()  # among the values of a name: it has others, or one that is not constant
FUNCTIONS_AND_CLASSES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
MATHS: dict[str, Callable[..., typing.Any]] = {
    f"{module}.{name}": getattr(math, name) for module in ("math", "numpy", "torch") for name in ("log", "log2", "exp")
}


@dataclass
class Settings:
    """What is assigned to a name, or to an attribute of that name, anywhere in the script, where it is constant."""

    variables: Mapping[str, str]  # of the environment, as the run command sets them
    values: dict[str, set[typing.Any]] = field(default_factory=dict)
    keys: dict[str, set[str]] = field(default_factory=dict)  # name -> variables of the environment that it is read from
    asked: list[tuple[str, typing.Any, Piece, int]] = field(default_factory=list)  # (variable, default, where, line)
    env: Env = field(default_factory=dict)  # imports of all pieces
    evaluator: Evaluator = field(init=False)
    live: list[tuple[Piece, ast.AST]] | None = None  # as live_nodes finds them
    _now: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        functions = {**FUNCTIONS, **MATHS, "os.environ.get": self._get, "os.getenv": self._get}
        self.evaluator = Evaluator(Budget(STEPS, 1 << 20, 1 << 24), functions, call_method, CONSTANTS)

    def _get(self, key: str, default: typing.Any = None) -> typing.Any:
        self._now.append(key)
        return self.variables.get(key, default)

    def number(self, node: ast.expr) -> float | None:
        """The value of an expression, where it is a number that the source and the command settle."""
        found = self.value(node)
        return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None

    def value(self, node: ast.expr, env: Env | None = None) -> typing.Any:
        """The value of an expression; None where it is not settled."""
        if isinstance(node, ast.Name | ast.Attribute):
            name = node.id if isinstance(node, ast.Name) else node.attr
            known = self.values.get(name, set())
            if len(known) == 1 and AMBIGUOUS not in known:
                return next(iter(known))
            if known:
                return None
        try:
            return self.evaluator.value(node, self.env if env is None else env)
        except (Undecided, Leave, OutOfSteps, TooMuch):
            return None


def settings_of(program: Program, variables: Mapping[str, str] | None = None) -> Settings:
    """The settings of a program; the same ones for every rule that asks."""
    return _settings_of(program, tuple(sorted((variables or {}).items())))


@lru_cache(maxsize=1)
def _settings_of(program: Program, variables: tuple[tuple[str, str], ...]) -> Settings:
    found = Settings(dict(variables))
    for piece in program.pieces:
        for node in nodes(piece.tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                run_import(node, found.env)
        for one in piece.tree.body:
            if isinstance(one, ast.FunctionDef):
                found.env.setdefault(one.name, Function(one, found.env))
    for piece in program.pieces:
        for name in _otherwise(piece.tree):
            found.values.setdefault(name, set()).add(AMBIGUOUS)
    for piece in program.pieces:
        for name, value, line in _assigned(piece.tree):
            found._now.clear()
            constant = found.value(value)
            if found._now:
                found.keys.setdefault(name, set()).update(found._now)
                found.asked += [(key, constant, piece, line) for key in found._now]
            if isinstance(constant, Known | Function):
                found.env.setdefault(name, constant)
            elif isinstance(constant, int | float | str | bool):
                found.values.setdefault(name, set()).add(constant)
                found.env.setdefault(name, constant)
            else:
                found.values.setdefault(name, set()).add(AMBIGUOUS)
    return found


def _assigned(tree: ast.Module) -> Iterator[tuple[str, ast.expr, int]]:
    """(name, expression, line) of every plain assignment."""
    for node in nodes(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name | ast.Attribute):
                    yield _last(target), node.value, node.lineno
                elif isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    for one, value in zip(target.elts, node.value.elts, strict=False):
                        if isinstance(one, ast.Name | ast.Attribute):
                            yield _last(one), value, node.lineno
        elif (
            isinstance(node, ast.AnnAssign)
            and node.value is not None
            and isinstance(node.target, ast.Name | ast.Attribute)
        ):
            yield _last(node.target), node.value, node.lineno


def _otherwise(tree: ast.Module) -> Iterator[str]:
    """Names that get values in ways other than plain assignments: parameters, loops, options of a command line."""
    plain_targets = set()
    for node in nodes(tree):
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        for target in targets:
            pairs = isinstance(target, ast.Tuple) and isinstance(getattr(node, "value", None), ast.Tuple)
            plain_targets |= {id(one) for one in (target.elts if pairs and isinstance(target, ast.Tuple) else [target])}
    for node in nodes(tree):
        if isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            if id(node) not in plain_targets:
                yield _last(node)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument":
            for one in node.args:
                if isinstance(one, ast.Constant) and isinstance(one.value, str):
                    yield one.value.lstrip("-").replace("-", "_")


@lru_cache(maxsize=128)
def nodes(tree: ast.Module) -> tuple[ast.AST, ...]:
    """All nodes of a tree, gone through once for all rules."""
    return tuple(ast.walk(tree))


def _last(node: ast.Name | ast.Attribute) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr


def evidence(piece: Piece, line: int | None) -> str:
    """A line of the source as evidence: printable, shortened."""
    return plain(piece.line(line), 160)


def live_nodes(program: Program, settings: Settings) -> list[tuple[Piece, ast.AST]]:
    """The nodes that a run can reach: without functions that nothing reached names, and branches that are settled."""
    if settings.live is None:
        settings.live = _live_nodes(program, settings)
    return settings.live


def _live_nodes(program: Program, settings: Settings) -> list[tuple[Piece, ast.AST]]:
    found: list[tuple[Piece, ast.AST]] = []
    waiting: dict[str, list[tuple[Piece, ast.AST]]] = {}
    named: set[str] = set()
    pending: list[tuple[Piece, ast.AST]] = [(piece, one) for piece in program.pieces for one in piece.tree.body]
    while pending:
        piece, node = pending.pop()
        found.append((piece, node))
        for name in _names(node):
            if name not in named:
                named.add(name)
                pending += waiting.pop(name, [])
        for child in _reached(node, settings):
            if isinstance(node, FUNCTIONS_AND_CLASSES) and child in node.body and not _always(node, named):
                waiting.setdefault(node.name, []).append((piece, child))
            else:
                pending.append((piece, child))
    return found


def _always(node: ast.AST, named: set[str]) -> bool:
    name = getattr(node, "name", "")
    return name in named or (name.startswith("__") and name.endswith("__")) or name in ("forward", "backward", "step")


def _names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        yield node.id
    elif isinstance(node, ast.Attribute):
        yield node.attr
    elif isinstance(node, ast.alias):
        yield node.name.rpartition(".")[2]
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
        yield node.value  # getattr(module, "name")


def _reached(node: ast.AST, settings: Settings) -> Iterator[ast.AST]:
    """The children of a node, of an if with a settled test only those of the branch that is taken."""
    test = settings.value(node.test) if isinstance(node, ast.If | ast.IfExp) else None
    if isinstance(node, ast.If) and isinstance(test, int | float | str):
        yield node.test
        yield from node.body if test else node.orelse
    elif isinstance(node, ast.IfExp) and isinstance(test, int | float | str):
        yield from (node.test, node.body if test else node.orelse)
    else:
        yield from ast.iter_child_nodes(node)


def texts(program: Program) -> Iterator[tuple[Piece, ast.Constant, str]]:
    """Every string constant that is no docstring, with its piece."""
    for piece in program.pieces:
        documented = {
            id(node.value)
            for node in nodes(piece.tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        for node in nodes(piece.tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented:
                yield piece, node, node.value
