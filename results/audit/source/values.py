"""The values of the evaluator of constants, the operations on them, and how much of them there may be."""

import ast
import operator
import typing
from collections.abc import Callable
from dataclasses import dataclass

from results.audit.source.decoders import TooMuch

Env = dict[str, typing.Any]
MAX_BITS = 1 << 24  # of an integer
MAX_CALLS = 60  # of functions of the script, one inside the other
BINARY: dict[type[ast.operator], Callable[[typing.Any, typing.Any], typing.Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
}
UNARY: dict[type[ast.unaryop], Callable[[typing.Any], typing.Any]] = {
    ast.Not: operator.not_,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Invert: operator.invert,
}
COMPARE: dict[type[ast.cmpop], Callable[[typing.Any, typing.Any], typing.Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda one, many: one in many,
    ast.NotIn: lambda one, many: one not in many,
}


class Undecided(Exception):
    """The value cannot be told without running the script."""


class OutOfSteps(Exception):
    """The budget of steps is used up: what was found until then stands."""


class Leave(Exception):
    """A return, break or continue of the script, on its way out."""

    def __init__(self, kind: str, value: typing.Any = None) -> None:
        self.kind, self.value = kind, value


@dataclass(frozen=True)
class Known:
    """A module, or a function of the library or the language, by its dotted name."""

    name: str


@dataclass(frozen=True)
class Machine:
    """A decoder object, or a stream of bytes: the function that does the same, with the keywords of its class."""

    name: str
    named: tuple[tuple[str, typing.Any], ...] = ()
    data: typing.Any = None


@dataclass(frozen=True, eq=False)
class Function:
    """A function or lambda of the script, and the names that it sees."""

    node: ast.FunctionDef | ast.Lambda
    env: Env


class Stand:
    """A stand-in for an object that no plain value is; a rule that needs one derives it from this."""

    def attribute(self, name: str) -> typing.Any:
        raise Undecided(name)


@dataclass
class Budget:
    steps: int
    decoded_bytes: int  # of one value
    total_bytes: int

    def step(self, cost: int = 1) -> None:
        self.steps -= cost
        if self.steps < 0:
            raise OutOfSteps("the script computes more constants than are evaluated here")

    def hold(self, size: int) -> None:
        if size > self.decoded_bytes:
            raise TooMuch(f"a constant grows beyond {self.decoded_bytes:,} bytes")
        self.total_bytes -= size
        if self.total_bytes < 0:
            raise TooMuch("the constants of the script hold more bytes together than are evaluated here")
