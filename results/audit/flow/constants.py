"""Arithmetic on what is known of a script: its constants, never its code."""

import ast
import math
import operator
import typing
from collections.abc import Callable

from results.audit.flow.values import UNKNOWN
from results.audit.source.values import BINARY

LONGEST = 100_000  # characters of a text, items of a list
LARGEST = 1 << 200

PLAIN = (int, float, str, bytes, bool, type(None), tuple, range)
FUNCTIONS: dict[str, Callable[..., typing.Any]] = {
    "builtins.int": int,
    "builtins.float": float,
    "builtins.str": str,
    "builtins.bool": bool,
    "builtins.len": len,
    "builtins.abs": abs,
    "builtins.min": min,
    "builtins.max": max,
    "builtins.round": round,
    "builtins.sum": sum,
    "builtins.range": range,
    "builtins.divmod": divmod,
    "builtins.any": any,
    "builtins.all": all,
    "builtins.tuple": tuple,
    **{
        f"math.{name}": getattr(math, name)
        for name in ("log", "log2", "exp", "sqrt", "ceil", "floor", "gcd", "cos", "isclose")
    },
}
TEXT_METHODS = {
    *("split", "strip", "lstrip", "rstrip", "lower", "upper", "replace", "startswith", "endswith", "join", "isdigit"),
    *(
        "title",
        "partition",
        "rpartition",
        "removeprefix",
        "removesuffix",
        "splitlines",
        "casefold",
        "format",
        "isdecimal",
    ),
}


def folded(function: Callable[..., typing.Any], *args: typing.Any, **kwargs: typing.Any) -> typing.Any:
    """The result on constants, UNKNOWN where there is none or it is too large to keep."""
    try:
        if function is operator.mul and not all(isinstance(one, (int, float)) for one in args):
            return UNKNOWN  # repeated texts
        found = function(*args, **kwargs)
    except Exception:  # whatever a script may do to its constants
        return UNKNOWN
    return found if small(found) else UNKNOWN


def small(value: typing.Any) -> bool:
    if isinstance(value, int) and not isinstance(value, bool):
        return -LARGEST < value < LARGEST
    if isinstance(value, (str, bytes)):
        return len(value) <= LONGEST
    if isinstance(value, tuple):
        return len(value) <= 1000 and all(small(one) for one in value)
    return isinstance(value, PLAIN)


def power(base: typing.Any, exponent: typing.Any) -> typing.Any:
    if not all(isinstance(one, (int, float)) for one in (base, exponent)) or abs(exponent) > 200 or abs(base) > 1e15:
        return UNKNOWN
    return folded(operator.pow, base, exponent)


def shift(node: ast.operator, value: typing.Any, count: typing.Any) -> typing.Any:
    if not (isinstance(value, int) and isinstance(count, int) and 0 <= count <= 128 and abs(value) < LARGEST):
        return UNKNOWN
    return value << count if isinstance(node, ast.LShift) else value >> count


def binary(node: ast.operator, one: typing.Any, other: typing.Any) -> typing.Any:
    if isinstance(node, ast.Pow):
        return power(one, other)
    if isinstance(node, (ast.LShift, ast.RShift)):
        return shift(node, one, other)
    if isinstance(node, ast.Mod) and isinstance(one, (str, bytes)):
        return UNKNOWN
    function = BINARY.get(type(node))
    return folded(function, one, other) if function else UNKNOWN
