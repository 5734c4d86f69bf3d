"""Whatever Python can parse is followed to an end, and what is folded is what Python would compute."""

import ast
import math
import operator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results.audit.finding import SEVERITY
from results.audit.flow import constants
from results.audit.flow.follow import follow
from results.audit.flow.machine import MAX_STEPS
from results.audit.flow.values import UNKNOWN
from results.audit.judge import triage, verdict_of
from results.audit.source.program import Program, piece_of
from tests.results.audit.twins import BASE

ROOT = Path(__file__).resolve().parents[4]
NAMES = st.sampled_from(["a", "b", "val", "net", "self", "torch", "F", "print", "open"])
LITERALS = st.sampled_from(["0", "-1", "1.5", "True", "None", "''", "'val_*.bin'", "b'x'", "...", "[]", "{}", "()"])
OPERATORS = st.sampled_from(["+", "-", "*", "/", "//", "%", "**", "<<", ">>", "&", "|", "^", "@"])
CALLS = st.sampled_from(["where", "cat", "softmax", "load", "save"])
COMPARISONS = st.sampled_from(["<", "<=", "==", "!=", "in", "not in", "is", "is not"])


def nested(inner):
    """Expressions around expressions."""
    return st.one_of(
        st.builds("({} {} {})".format, inner, OPERATORS, inner),
        st.builds("({} {} {})".format, inner, COMPARISONS, inner),
        st.builds("({}).{}".format, inner, NAMES),
        st.builds("{}.item({})".format, inner, inner).map(lambda text: f"({text})" if text[0] != "-" else "0"),
        st.builds("({})({}, *{}, k={}, **{})".format, inner, inner, inner, inner, inner),
        st.builds("({})[{}:{}, None, ..., {}]".format, inner, inner, inner, inner),
        st.builds("({})[{}]".format, inner, inner),
        st.builds("[{}, *{}]".format, inner, inner),
        st.builds("{{{}: {}, **{}}}".format, inner, inner, inner),
        st.builds("{{{}, {}}}".format, inner, inner),
        st.builds("(lambda {}, *r, k={}, **o: {})".format, NAMES, inner, inner),
        st.builds("({} if {} else {})".format, inner, inner, inner),
        st.builds("[{} for {} in {} if {}]".format, inner, NAMES, inner, inner),
        st.builds("sum({} for {} in {})".format, inner, NAMES, inner),
        st.builds("({} := {})".format, st.sampled_from(["a", "b"]), inner),
        st.builds("(not {} and ~{} or {})".format, inner, inner, inner),
        st.builds("torch.{}({}, {})".format, CALLS, inner, inner),
        st.builds("F.cross_entropy({}, {}).backward()".format, inner, inner),
        st.builds("max({}, {})".format, inner, inner),
        st.builds("print({}, {} / 0.6931471805599453)".format, inner, inner),
    )


EXPRESSIONS = st.recursive(NAMES | LITERALS, nested, max_leaves=6)
TARGETS = st.one_of(NAMES, st.builds("{}.{}".format, NAMES, NAMES), st.builds("{}[{}]".format, NAMES, EXPRESSIONS))
SIMPLE = st.one_of(
    EXPRESSIONS,
    st.builds("{} = {}".format, TARGETS, EXPRESSIONS),
    st.builds("{}, *{} = {}".format, NAMES, NAMES, EXPRESSIONS),
    st.builds("{} {}= {}".format, TARGETS, st.sampled_from(["+", "*", "@", "//", "|"]), EXPRESSIONS),
    st.builds("{}: int = {}".format, NAMES, EXPRESSIONS),
    st.builds("del {}".format, NAMES),
    st.builds("assert {}, {}".format, EXPRESSIONS, EXPRESSIONS),
    st.builds("raise {}".format, EXPRESSIONS),
    st.sampled_from(
        ["pass", "import torch", "from torch import nn as F", "import a.b.c", "from . import a", "global a"]
    ),
)


def block(lines):
    return "\n".join("    " + line for text in lines for line in text.split("\n"))


def compound(inner):
    """Statements around statements."""
    body = st.lists(inner, min_size=1, max_size=3).map(block)
    return st.one_of(
        st.builds("if {}:\n{}\nelse:\n{}".format, EXPRESSIONS, body, body),
        st.builds("for {} in {}:\n{}\n    break\nelse:\n{}".format, TARGETS, EXPRESSIONS, body, body),
        st.builds("while {}:\n{}\n    continue".format, EXPRESSIONS, body),
        st.builds(
            "def {}({}, b={}, *r, c=1, **o):\n{}\n    return {}".format, NAMES, NAMES, LITERALS, body, EXPRESSIONS
        ),
        st.builds("def a():\n{}\n    yield {}\n    yield from a()\na()".format, body, EXPRESSIONS),
        st.builds("async def b():\n{}\n    await {}".format, body, EXPRESSIONS),
        st.builds("@{}\nclass {}({}, metaclass={}):\n{}".format, EXPRESSIONS, NAMES, EXPRESSIONS, NAMES, body),
        st.builds("try:\n{}\nexcept {} as e:\n{}\nfinally:\n{}".format, body, EXPRESSIONS, body, body),
        st.builds("with {} as {}, {}:\n{}".format, EXPRESSIONS, TARGETS, EXPRESSIONS, body),
        st.builds(
            "match {}:\n    case [{}, *_]:\n{}".format, EXPRESSIONS, st.just("z"), body.map(lambda text: block([text]))
        ),
    )


PROGRAMS = st.lists(st.recursive(SIMPLE, compound, max_leaves=5), min_size=1, max_size=5).map("\n".join)


def program(text: str) -> Program:
    piece = piece_of("train_gpt.py", text, ast.parse(text))
    return Program(Path("train_gpt.py"), piece.sha256, len(text), piece, (piece,), (), ())


def followed(text: str) -> None:
    """It comes to an end within its steps, and to a verdict."""
    whole = program(text)
    _trace, machine = follow(whole)
    assert machine.steps <= MAX_STEPS + 1
    assert verdict_of(triage(whole)) in SEVERITY


def parsed(text: str) -> bool:
    try:
        compile(text, "x", "exec", flags=ast.PyCF_ONLY_AST)
    except (SyntaxError, ValueError):
        return False
    return True


@settings(max_examples=20)
@given(text=PROGRAMS.filter(parsed))
def test_any_small_program_is_followed(text):
    """No program makes the interpreter raise."""
    followed(text)


@settings(max_examples=8)
@given(text=PROGRAMS.filter(parsed), data=st.data())
def test_a_program_inside_a_real_one_is_followed(text, data):
    """Nor does it amid models, data and optimizers, at any place of a training script."""
    lines = BASE.split("\n")
    places = [number for number, line in enumerate(lines) if line.strip().startswith("#")]
    at = data.draw(st.sampled_from(places))
    indent = lines[at][: len(lines[at]) - len(lines[at].lstrip())]
    lines[at] = "\n".join(indent + line for line in text.split("\n"))
    whole = "\n".join(lines)
    if parsed(whole):
        followed(whole)


SOURCES = sorted(
    path for room in ("golf_core", "orchestrator", "results", "jobs") for path in (ROOT / room).rglob("*.py")
)


@pytest.mark.parametrize("path", SOURCES[::50], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_our_own_sources_are_followed(path):
    """A file that is no training script at all is followed too."""
    followed(path.read_text(encoding="utf-8"))


@pytest.mark.whole
def test_all_our_own_sources_are_followed():
    """Every file of the repository."""
    for path in SOURCES:
        followed(path.read_text(encoding="utf-8"))


def test_endless_code_ends():
    """Loops without an end, calls of itself and deep nesting are given up, not run."""
    followed("def f(n):\n    return f(n + 1)\nwhile True:\n    f(0)\n")
    followed("x = 1\nfor a in range(10**9):\n    for b in range(10**9):\n        x = x * x\n")
    followed("x = " + "[" * 80 + "]" * 80)
    followed("f = lambda g: g(g)\nf(f)")


NUMBERS = st.one_of(
    st.integers(-(10**6), 10**6), st.floats(-1e6, 1e6), st.booleans(), st.text(max_size=5), st.binary(max_size=5)
)
BINARY = {
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


@given(
    node=st.sampled_from(sorted(BINARY, key=lambda one: one.__name__)), one=NUMBERS, other=NUMBERS | st.integers(0, 9)
)
def test_folding_agrees_with_python(node, one, other):
    """A constant that is folded is the one that Python computes; where Python raises, nothing is known."""
    found = constants.binary(node(), one, other)
    if found is UNKNOWN:
        return
    wanted = BINARY[node](one, other)
    assert type(found) is type(wanted)
    assert found == wanted or (isinstance(wanted, float) and math.isnan(wanted) and math.isnan(found))


@settings(max_examples=20)
@given(values=st.lists(st.integers(-9, 9), min_size=2, max_size=5), chosen=st.sampled_from([min, max]))
def test_a_branch_on_folded_constants_is_the_one_taken(values, chosen):
    """Arithmetic of a script's settings decides which code is reached, as it does when it runs."""
    call = f"{chosen.__name__}({', '.join(map(str, values))})"
    text = f"x = {call}\nif x * 2 == {chosen(values) * 2}:\n    a = 1\nelse:\n    b = 1\n"
    trace, _machine = follow(program(text))
    assert ("train_gpt.py", 3) in trace.reached
    assert ("train_gpt.py", 5) not in trace.reached
