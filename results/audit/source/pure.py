"""An evaluator of constant expressions and small pure functions of a foreign script, by its tree; nothing of it runs.

Values are plain: numbers, strings, bytes, and lists, tuples, dicts and sets of them. Whatever is not on the lists here
is Undecided. Steps, sizes and depth are limited, and so is every operation that could make a small value large.
"""

import ast
import operator
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from results.audit.source.decoders import DECODERS, FAILURES, MACHINES, TooMuch
from results.audit.source.values import (
    BINARY,
    COMPARE,
    MAX_BITS,
    MAX_CALLS,
    UNARY,
    Budget,
    Env,
    Function,
    Known,
    Leave,
    Machine,
    Stand,
    Undecided,
)


@dataclass
class Evaluator:
    """Evaluates expressions and statements under a budget. Raises Undecided, or TooMuch beyond the budget."""

    budget: Budget
    functions: Mapping[str, Callable[..., typing.Any]]  # dotted name -> what a call of it gives
    methods: Callable[["Evaluator", typing.Any, str, list[typing.Any], dict[str, typing.Any]], typing.Any]
    constants: Mapping[str, typing.Any]  # dotted name -> value
    made: dict[typing.Any, tuple[str, ...]] = field(default_factory=dict)  # decoded value -> by what
    called: Callable[["Evaluator", Known, list[typing.Any]], None] | None = None  # told of every call of a Known
    depth: int = 0
    line: int = 0  # of the call that is evaluated

    def value(self, node: ast.expr, env: Env) -> typing.Any:
        self.budget.step()
        visit = getattr(self, f"_{type(node).__name__.lower()}", None)
        if visit is None:
            raise Undecided(type(node).__name__)
        try:
            return visit(node, env)
        except FAILURES as error:
            raise Undecided(str(error)) from None

    def guarded(self, run: Callable[[], typing.Any]) -> typing.Any:
        """A call of the library on foreign values; what it raises is Undecided."""
        try:
            found = run()
        except FAILURES as error:
            raise Undecided(str(error)) from None
        if isinstance(found, str | bytes | bytearray | list | tuple) and len(found) > 4096:
            self.budget.hold(len(found))
        return found

    def _constant(self, node: ast.Constant, env: Env) -> typing.Any:
        return node.value

    def _name(self, node: ast.Name, env: Env) -> typing.Any:
        if node.id in env:
            return env[node.id]
        for dotted in (node.id, f"builtins.{node.id}"):
            if dotted in self.constants:
                return self.constants[dotted]
            if dotted in self.functions:
                return Known(dotted)
        if node.id in ("exec", "eval", "compile", "__import__", "getattr", "__builtins__", "bytes", "bytearray"):
            return Known(node.id)
        raise Undecided(node.id)

    def _attribute(self, node: ast.Attribute, env: Env) -> typing.Any:
        return self.attribute(self.value(node.value, env), node.attr)

    def attribute(self, owner: typing.Any, name: str) -> typing.Any:
        if isinstance(owner, Known):
            if owner.name in ("builtins", "__builtins__"):
                return self._name(ast.Name(id=name), {})
            dotted = f"{owner.name}.{name}"
            return self.constants[dotted] if dotted in self.constants else Known(dotted)
        if isinstance(owner, Stand):
            return owner.attribute(name)
        return (owner, name)  # a method, as _call takes it apart

    def _list(self, node: ast.List, env: Env) -> list[typing.Any]:
        return self._items(node.elts, env)

    def _tuple(self, node: ast.Tuple, env: Env) -> tuple[typing.Any, ...]:
        return tuple(self._items(node.elts, env))

    def _set(self, node: ast.Set, env: Env) -> set[typing.Any]:
        return set(self._items(node.elts, env))

    def _items(self, nodes: list[ast.expr], env: Env) -> list[typing.Any]:
        found: list[typing.Any] = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                found += list(self.iterated(self.value(node.value, env)))
            else:
                found.append(self.value(node, env))
        return found

    def _dict(self, node: ast.Dict, env: Env) -> dict[typing.Any, typing.Any]:
        found: dict[typing.Any, typing.Any] = {}
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                found.update(self.value(value, env))
            else:
                found[self.value(key, env)] = self.value(value, env)
        return found

    def _unaryop(self, node: ast.UnaryOp, env: Env) -> typing.Any:
        return UNARY[type(node.op)](self.value(node.operand, env))

    def _boolop(self, node: ast.BoolOp, env: Env) -> typing.Any:
        found = None
        for one in node.values:
            found = self.value(one, env)
            if bool(found) is isinstance(node.op, ast.Or):
                return found
        return found

    def _ifexp(self, node: ast.IfExp, env: Env) -> typing.Any:
        return self.value(node.body if self.value(node.test, env) else node.orelse, env)

    def _namedexpr(self, node: ast.NamedExpr, env: Env) -> typing.Any:
        found = env[node.target.id] = self.value(node.value, env)
        return found

    def _compare(self, node: ast.Compare, env: Env) -> typing.Any:
        left = self.value(node.left, env)
        found: typing.Any = True
        for op, right_node in zip(node.ops, node.comparators, strict=True):
            right = self.value(right_node, env)
            found = COMPARE[type(op)](left, right)
            if not isinstance(found, Stand) and not found:
                return found
            left = right
        return found

    def _binop(self, node: ast.BinOp, env: Env) -> typing.Any:
        return self.binary(node.op, self.value(node.left, env), self.value(node.right, env))

    def binary(self, op: ast.operator, left: typing.Any, right: typing.Any) -> typing.Any:
        work = BINARY.get(type(op))
        if (
            work is None
            or isinstance(left, Known | Function | Machine)
            or isinstance(right, Known | Function | Machine)
        ):
            raise Undecided(type(op).__name__)
        self.check_size(op, left, right)
        return self.remember(left, self.guarded(lambda: work(left, right)))

    def check_size(self, op: ast.operator, left: typing.Any, right: typing.Any) -> None:
        """An operation on small values whose result would be large is refused before it is done."""
        if isinstance(left, int) and isinstance(right, int):
            bits = max(left.bit_length(), 1)
            grown = {ast.Pow: bits * max(right, 0), ast.LShift: bits + right, ast.Mult: bits + right.bit_length()}
            if grown.get(type(op), 0) > MAX_BITS:
                raise TooMuch("an integer constant is too large")
        elif isinstance(op, ast.Mult) and (isinstance(left, int) or isinstance(right, int)):
            many, times = (right, left) if isinstance(left, int) else (left, right)
            if isinstance(many, str | bytes | bytearray | list | tuple) and isinstance(times, int):
                self.budget.hold(len(many) * max(times, 0))
        elif isinstance(op, ast.Mod) and isinstance(left, str | bytes):
            raise Undecided("% of a text")

    def _subscript(self, node: ast.Subscript, env: Env) -> typing.Any:
        owner = self.value(node.value, env)
        place = self.index(node.slice, env)
        if isinstance(owner, Known) and isinstance(place, str):
            return self.attribute(owner, place)
        return self.remember(owner, self.guarded(lambda: owner[place]))

    def index(self, node: ast.expr, env: Env) -> typing.Any:
        if not isinstance(node, ast.Slice):
            return self.value(node, env)
        return slice(*(None if one is None else self.value(one, env) for one in (node.lower, node.upper, node.step)))

    def _joinedstr(self, node: ast.JoinedStr, env: Env) -> str:
        parts = []
        for one in node.values:
            if isinstance(one, ast.FormattedValue):
                if one.format_spec is not None or one.conversion != -1:
                    raise Undecided("a format")
                value = self.value(one.value, env)
                if not isinstance(value, str | int | float):
                    raise Undecided("a format")
                parts.append(str(value))
            else:
                parts.append(str(self.value(one, env)))
        return typing.cast(str, self.guarded(lambda: "".join(parts)))

    def _lambda(self, node: ast.Lambda, env: Env) -> Function:
        return Function(node, env)

    def _listcomp(self, node: ast.ListComp, env: Env) -> list[typing.Any]:
        return [self.value(node.elt, inner) for inner in self._comprehended(node.generators, env)]

    def _generatorexp(self, node: ast.GeneratorExp, env: Env) -> list[typing.Any]:
        return [self.value(node.elt, inner) for inner in self._comprehended(node.generators, env)]

    def _setcomp(self, node: ast.SetComp, env: Env) -> set[typing.Any]:
        return {self.value(node.elt, inner) for inner in self._comprehended(node.generators, env)}

    def _dictcomp(self, node: ast.DictComp, env: Env) -> dict[typing.Any, typing.Any]:
        inners = self._comprehended(node.generators, env)
        return {self.value(node.key, inner): self.value(node.value, inner) for inner in inners}

    def _comprehended(self, generators: list[ast.comprehension], env: Env) -> Iterable[Env]:
        if not generators:
            yield env
            return
        first = generators[0]
        inner = dict(env)
        for one in self.iterated(self.value(first.iter, inner)):
            self.budget.step()
            self.assign(first.target, one, inner)
            if all(self.value(test, inner) for test in first.ifs):
                yield from self._comprehended(generators[1:], inner)

    def iterated(self, value: typing.Any) -> Iterable[typing.Any]:
        if isinstance(value, range):
            self.budget.step(min(len(value), self.budget.steps + 1))
        elif not isinstance(value, str | bytes | bytearray | list | tuple | dict | set | frozenset):
            raise Undecided("iteration")
        return typing.cast(Iterable[typing.Any], value)

    def assign(self, target: ast.expr, value: typing.Any, env: Env) -> None:
        if isinstance(target, ast.Name):
            env[target.id] = value
        elif isinstance(target, ast.Tuple | ast.List):
            values = list(self.iterated(value))
            stars = [number for number, one in enumerate(target.elts) if isinstance(one, ast.Starred)]
            if stars or len(values) != len(target.elts):
                raise Undecided("unpacking")
            for one, part in zip(target.elts, values, strict=True):
                self.assign(one, part, env)
        elif isinstance(target, ast.Subscript):
            owner = self.value(target.value, env)
            if not isinstance(owner, list | dict | bytearray | Stand):
                raise Undecided("item assignment")
            place = self.index(target.slice, env)
            self.guarded(lambda: operator.setitem(typing.cast(list[typing.Any], owner), place, value))
        else:
            raise Undecided("assignment")

    def _call(self, node: ast.Call, env: Env) -> typing.Any:
        called = self.value(node.func, env)
        positional = self._items(node.args, env)
        named: dict[str, typing.Any] = {}
        for one in node.keywords:
            if one.arg is None:
                named.update(self.value(one.value, env))
            else:
                named[one.arg] = self.value(one.value, env)
        self.line = node.lineno
        return self.call(called, positional, named)

    def call(self, called: typing.Any, positional: list[typing.Any], named: dict[str, typing.Any]) -> typing.Any:
        if isinstance(called, Function):
            return self.call_function(called, positional, named)
        if isinstance(called, Known):
            if self.called is not None:
                self.called(self, called, positional)
            return self.call_known(called.name, positional, named)
        if isinstance(called, tuple) and len(called) == 2 and isinstance(called[1], str):
            return self.methods(self, called[0], called[1], positional, named)
        if isinstance(called, Stand) and callable(called):
            return self.guarded(lambda: called(*positional, **named))
        raise Undecided("a call")

    def call_known(self, name: str, positional: list[typing.Any], named: dict[str, typing.Any]) -> typing.Any:
        if name in DECODERS:
            return self.decode(name, positional, named)
        if name in MACHINES:
            stream = [
                one for one in (*positional, *named.values()) if isinstance(one, Machine) and one.data is not None
            ]
            kept = {key: value for key, value in named.items() if not isinstance(value, Machine)}
            if name == "zlib.decompressobj" and positional:
                kept["wbits"] = positional[0]
            elif name == "lzma.LZMADecompressor" and positional:
                kept["format"] = positional[0]
            elif stream:
                kept = {}
            return Machine(MACHINES[name], tuple(kept.items()), stream[0].data if stream else None)
        if name in ("__import__", "importlib.import_module") and positional and isinstance(positional[0], str):
            return Known(positional[0])
        if name == "getattr" and len(positional) >= 2 and isinstance(positional[1], str):
            return self.attribute(positional[0], positional[1])
        if name in ("map", "filter") and len(positional) == 2:
            results = [(one, self.call(positional[0], [one], {})) for one in self.iterated(positional[1])]
            return [found for _, found in results] if name == "map" else [one for one, found in results if found]
        if name not in self.functions:
            raise Undecided(name)
        return self.guarded(lambda: self.functions[name](*positional, **named))

    def decode(self, name: str, positional: list[typing.Any], named: dict[str, typing.Any]) -> typing.Any:
        """A decoder on a constant; what it gives is remembered with the decoders that it went through."""
        label, decoder = DECODERS[name]
        if not positional:
            raise Undecided(name)
        data, *rest = positional
        limit = self.budget.decoded_bytes
        found = self.guarded(lambda: decoder(data, limit, *rest, **named))
        self.remember(data, found, label)
        return found

    def remember(self, source: typing.Any, found: typing.Any, label: str = "") -> typing.Any:
        """That one value was made of another; only of values large enough to be code."""
        if isinstance(found, str | bytes) and len(found) >= 64:
            before = self.made.get(source, ()) if isinstance(source, str | bytes) else ()
            if label or before:
                self.made[found] = (*before, label) if label else before
        return found

    def call_function(self, called: Function, positional: list[typing.Any], named: dict[str, typing.Any]) -> typing.Any:
        from results.audit.source.statements import bound, run_body

        if self.depth >= MAX_CALLS:
            raise Undecided("calls nested too deeply")
        env = dict(called.env) | bound(self, called, positional, named)
        self.depth += 1
        try:
            if isinstance(called.node, ast.Lambda):
                return self.value(called.node.body, env)
            run_body(self, called.node.body, env)
        except Leave as leave:
            if leave.kind == "return":
                return leave.value
            raise Undecided(leave.kind) from None
        finally:
            self.depth -= 1
        return None
