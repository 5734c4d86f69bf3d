"""Names of a script and what they stand for, and where in it the interpretation is."""

import ast
from dataclasses import dataclass, field

from results.audit.flow.values import Value, join


class OutOfSteps(Exception):
    """The script is larger than the triage follows."""


@dataclass(eq=False)
class Module:
    """A file of the script: its name, for findings, and its top level."""

    name: str
    scope: "Scope"


@dataclass(eq=False)
class Scope:
    parent: "Scope | None" = None
    names: dict[str, Value] = field(default_factory=dict)
    elsewhere: "dict[str, Scope]" = field(default_factory=dict)  # names declared global or nonlocal
    is_class: bool = False

    def find(self, name: str) -> Value | None:
        at: Scope | None = self.elsewhere.get(name, self)
        while at is not None:
            if name in at.names and (at is self or not at.is_class):
                return at.names[name]
            at = at.parent
        return None

    def set(self, name: str, value: Value) -> None:
        self.elsewhere.get(name, self).names[name] = value

    def top(self) -> "Scope":
        at = self
        while at.parent is not None:
            at = at.parent
        return at


@dataclass(eq=False)
class Frame:
    """One call, or a module's top level."""

    module: Module
    scope: Scope
    returns: list[Value] = field(default_factory=list)
    yields: list[Value] = field(default_factory=list)
    breaks: list[dict[str, Value]] = field(default_factory=list)  # names as they were where a loop may have ended
    node: ast.AST | None = None


def merged(one: dict[str, Value], other: dict[str, Value]) -> dict[str, Value]:
    """Names after either of two ways; a name that only one way sets may be that."""
    found = dict(one)
    for name, value in other.items():
        found[name] = join(found[name], value) if name in found else value
    return found


def assigned(body: list[ast.stmt]) -> set[str]:
    """Names that statements set, functions and classes in them aside."""
    found: set[str] = set()
    pending: list[ast.AST] = list(body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            pending.extend(ast.iter_child_nodes(node))
    return found
