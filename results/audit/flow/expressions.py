"""Expressions: what each may be, and what is read, compared and computed in it."""

import ast
import math

from results.audit.flow.constants import binary, folded
from results.audit.flow.machine import as_text, labels_of_text
from results.audit.flow.parts import Parts
from results.audit.flow.values import (
    ANYTHING,
    EQUALS,
    LN2,
    MULTIPLIED,
    NONE,
    NOTHING,
    PATH,
    PER_BYTE,
    PROBABILITY,
    SCORES,
    TOKENS,
    TRAIN,
    UNKNOWN,
    VAL,
    Function,
    Instance,
    Labels,
    Library,
    Mapping,
    Sequence,
    Value,
    ahead,
    all_labels,
    best,
    following,
    hashed,
    index,
    join,
    join_all,
    kind,
    smoothed,
)
from results.audit.source.values import COMPARE, UNARY

LN2_VALUES = (math.log(2), 1 / math.log(2))


def seq(items: list[Value], exact: bool = True) -> Value:
    return Value(obj=Sequence(items=items, exact=exact))


class Expressions(Parts):
    """Needs the calls of Calls."""

    def evaluate(self, node: ast.expr) -> Value:
        self.step()
        method = getattr(self, f"of_{type(node).__name__.lower()}", None)
        found: Value = method(node) if method is not None else ANYTHING
        return found

    def of_constant(self, node: ast.Constant) -> Value:
        value = node.value
        if isinstance(value, str):
            return Value(const=value, labels=labels_of_text(value))
        if isinstance(value, float) and any(abs(value - one) < 1e-4 for one in LN2_VALUES):
            return Value(const=value, labels=frozenset({LN2}))
        return Value(const=UNKNOWN if value is Ellipsis else value)

    def of_name(self, node: ast.Name) -> Value:
        found = self.frame.scope.find(node.id)
        if found is not None:
            return found
        if node.id in ("__name__", "__file__"):
            return Value(const="__main__" if node.id == "__name__" else self.frame.module.name)
        return Value(call=Library(f"builtins.{node.id}"))

    def of_attribute(self, node: ast.Attribute) -> Value:
        return self.attribute(self.evaluate(node.value), node.attr, node)

    def of_tuple(self, node: ast.Tuple | ast.List | ast.Set) -> Value:
        items: list[Value] = []
        exact = True
        for one in node.elts:
            value = self.evaluate(one.value if isinstance(one, ast.Starred) else one)
            if isinstance(one, ast.Starred):
                items += self.turns(value)
                exact = exact and isinstance(value.obj, Sequence) and value.obj.exact
            else:
                items.append(value)
        return seq(items, exact)

    of_list = of_set = of_tuple

    def of_dict(self, node: ast.Dict) -> Value:
        found = Mapping()
        for key, value_node in zip(node.keys, node.values, strict=True):
            value = self.evaluate(value_node)
            if key is None:
                if isinstance(value.obj, Mapping):
                    found.items |= value.obj.items
                continue
            name = self.evaluate(key)
            if name.known and isinstance(name.const, (str, int, float, bool)):
                found.items[name.const] = value
            else:
                found.rest = value if found.rest is None else join(found.rest, value)
        return Value(obj=found)

    def of_lambda(self, node: ast.Lambda) -> Value:
        return Value(call=self.function(node))

    def of_namedexpr(self, node: ast.NamedExpr) -> Value:
        value = self.evaluate(node.value)
        self.frame.scope.set(node.target.id, value)
        return value

    def of_starred(self, node: ast.Starred) -> Value:
        return self.evaluate(node.value)

    def of_await(self, node: ast.Await) -> Value:
        return self.evaluate(node.value)

    def of_yield(self, node: ast.Yield) -> Value:
        self.frame.yields.append(self.evaluate(node.value) if node.value else NOTHING)
        return ANYTHING

    def of_yieldfrom(self, node: ast.YieldFrom) -> Value:
        self.frame.yields += self.turns(self.evaluate(node.value))
        return ANYTHING

    def of_slice(self, node: ast.Slice) -> Value:
        parts = [self.evaluate(one) for one in (node.upper, node.step) if one is not None]
        labels = frozenset(label for one in parts for label in all_labels(one) if label[0] not in ("ahead", "next"))
        return Value(labels=labels | (all_labels(self.evaluate(node.lower)) if node.lower is not None else NONE))

    def of_joinedstr(self, node: ast.JoinedStr) -> Value:
        labels: Labels = NONE
        text, known = "", True
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                value = self.evaluate(part.value)
                self.report(value, part)
                labels |= as_text(all_labels(value))
                plain = value.known and part.format_spec is None and isinstance(value.const, (str, int))
                text += str(value.const) if plain else "?"
                known = known and plain
            elif isinstance(part, ast.Constant):
                text += str(part.value)
        return Value(const=text if known else UNKNOWN, labels=labels | labels_of_text(text))

    def of_formattedvalue(self, node: ast.FormattedValue) -> Value:
        return self.evaluate(node.value)

    def truth(self, value: Value) -> bool | None:
        """None where it is not known."""
        if value.known:
            return bool(value.const)
        if isinstance(value.obj, Sequence) and value.obj.exact:
            return bool(value.obj.items)
        if isinstance(value.obj, Instance) or (value.call is not None and not isinstance(value.call, tuple)):
            return True
        return None

    def of_boolop(self, node: ast.BoolOp) -> Value:
        stops = isinstance(node.op, ast.Or)
        found: list[Value] = []
        for one in node.values:
            value = self.evaluate(one)
            truth = self.truth(value)
            if truth is stops:
                return join_all([*found, value])
            if truth is None or one is node.values[-1]:
                found.append(value)
        return join_all(found)

    def of_unaryop(self, node: ast.UnaryOp) -> Value:
        value = self.evaluate(node.operand)
        if isinstance(node.op, ast.Not):
            truth = self.truth(value)
            return Value(const=UNKNOWN if truth is None else not truth, labels=self.condition(value.labels))
        if value.known:
            return Value(const=folded(UNARY[type(node.op)], value.const), labels=value.labels)
        return Value(labels=self.content(all_labels(value)))

    def of_ifexp(self, node: ast.IfExp) -> Value:
        condition = self.evaluate(node.test)
        test = self.truth(condition)
        if test is not None:
            return self.evaluate(node.body if test else node.orelse)
        self.uncertain += 1
        found = join(self.evaluate(node.body), self.evaluate(node.orelse))
        self.uncertain -= 1
        return found.but(found.labels | {best(node.lineno)}) if SCORES in condition.labels else found

    def of_compare(self, node: ast.Compare) -> Value:
        values = [self.evaluate(node.left), *(self.evaluate(one) for one in node.comparators)]
        found: list[Value] = []
        for op, one, other in zip(node.ops, values, values[1:], strict=False):
            found.append(self.compare(op, one, other))
        if all(one.known for one in found):
            return Value(const=all(one.const for one in found))
        if any(one.known and not one.const for one in found):
            return Value(const=False)
        return Value(labels=frozenset().union(*(one.labels for one in found)))

    def compare(self, op: ast.cmpop, one: Value, other: Value) -> Value:
        if isinstance(op, (ast.Is, ast.IsNot)):
            return self.identity(op, one, other)
        if isinstance(op, (ast.In, ast.NotIn)):
            return self.membership(op, one, other)
        if one.known and other.known:
            return Value(const=folded(COMPARE[type(op)], one.const, other.const))
        mine, theirs = all_labels(one), all_labels(other)
        if TOKENS in mine or TOKENS in theirs:
            data = {VAL, TRAIN}
            both = (mine & data or kind(mine, "read")) and (theirs & data or kind(theirs, "read"))
            return Value(labels=frozenset({EQUALS}) if both and isinstance(op, (ast.Eq, ast.NotEq)) else NONE)
        if LN2 in mine and LN2 in theirs and kind(mine, "loss") and kind(theirs, "loss"):
            return Value(labels=self.condition(mine | theirs) | {SCORES})
        return Value(labels=self.condition(mine | theirs))

    def condition(self, labels: Labels) -> Labels:
        """Of a yes or no that is computed from what has `labels`."""
        return NONE if TOKENS in labels else labels - {PATH, PROBABILITY}

    def identity(self, op: ast.cmpop, one: Value, other: Value) -> Value:
        negated = isinstance(op, ast.IsNot)
        if one.known and other.known and (one.const is None or other.const is None or one.const == other.const):
            same = one.const is other.const
            return Value(const=same != negated)
        if isinstance(one.call, Library) and isinstance(other.call, Library):
            return Value(const=(one.call.name == other.call.name) != negated)
        for value, against in ((one, other), (other, one)):
            if against.known and against.const is None and (value.obj is not None or value.call is not None):
                return Value(const=negated) if value.const is UNKNOWN else ANYTHING
        return ANYTHING

    def membership(self, op: ast.cmpop, one: Value, other: Value) -> Value:
        negated = isinstance(op, ast.NotIn)
        if isinstance(other.call, Library) and other.call.name == "os.environ" and one.known:
            return Value(const=(one.const in self.environment) != negated)
        if isinstance(other.obj, Mapping) and one.known and other.obj.rest is None:
            return Value(const=(one.const in other.obj.items) != negated)
        if isinstance(other.obj, Sequence) and one.known and other.obj.exact:
            if all(item.known for item in other.obj.items):
                return Value(const=any(item.const == one.const for item in other.obj.items) != negated)
            return ANYTHING
        if one.known and other.known:
            return Value(const=folded(COMPARE[type(op)], one.const, other.const))
        return ANYTHING

    def of_binop(self, node: ast.BinOp) -> Value:
        return self.arithmetic(node.op, self.evaluate(node.left), self.evaluate(node.right), node)

    def arithmetic(self, op: ast.operator, one: Value, other: Value, node: ast.AST) -> Value:
        mine, theirs = all_labels(one), all_labels(other)
        labels = mine | theirs | turned(op, one, other)
        labels = moved(op, one, other, labels)
        if not isinstance(op, (ast.Add, ast.Mult)):  # a length is nowhere
            labels = frozenset(label for label in labels if label[0] not in ("ahead", "next"))
        if one.known and other.known:
            const = binary(op, one.const, other.const)
            if isinstance(op, ast.Div) and isinstance(one.const, str) and isinstance(other.const, str):
                const = f"{one.const}/{other.const}"
            if isinstance(const, str):
                return Value(const=const, labels=labels_of_text(const))
            return Value(const=const, labels=labels)
        if PATH in labels and isinstance(op, (ast.Div, ast.Add)):
            return Value(labels=labels)
        if isinstance(op, ast.Add) and any(isinstance(part.const, str) for part in (one, other)):
            return Value(labels=as_text(labels))
        if isinstance(op, ast.Add) and (joined := _both_lists(one, other)) is not None:
            return joined
        if isinstance(op, ast.Mult) and isinstance(one.obj, Sequence):
            return Value(obj=Sequence(items=one.obj.items, exact=False), labels=one.labels)
        if (
            isinstance(node, ast.BinOp)
            and isinstance(op, (ast.Sub, ast.Div))
            and LN2 in mine
            and LN2 in theirs
            and kind(mine, "loss")
        ):
            labels = frozenset(one for one in labels if one[0] != "loss")  # a gain is no score
        if (
            isinstance(op, ast.Div)
            and kind(mine, "loss")
            and kind(mine, "found by hash")
            and kind(theirs, "found by hash")
        ):
            labels = frozenset(one for one in labels if one[0] != "found by hash") | {
                smoothed(getattr(node, "lineno", 0))
            }
        if (
            isinstance(op, ast.Div)
            and kind(theirs, "looked up")
            and not kind(theirs, "found by hash") | kind(theirs, "loss")
        ):
            labels |= {PER_BYTE}
        if isinstance(op, ast.MatMult):
            return Value(labels=self.content(labels))
        return Value(labels=self.content(labels | self.mixing(op, labels, node)))

    def mixing(self, op: ast.operator, labels: Labels, node: ast.AST) -> Labels:
        """Whether token ids become a key that several of them share."""
        if not labels & {VAL, TRAIN}:
            return NONE
        line = getattr(node, "lineno", 0)
        if isinstance(op, ast.BitXor):
            return frozenset({hashed(line)})
        if isinstance(op, ast.Mult) and TOKENS in labels:
            return frozenset({MULTIPLIED})
        if isinstance(op, (ast.Mod, ast.BitAnd)) and MULTIPLIED in labels:
            return frozenset({hashed(line)})
        return NONE

    def function(self, node: "ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda") -> Function:
        return Function(
            node=node,
            scope=self.frame.scope,
            module=self.frame.module,
            defaults=[self.evaluate(one) for one in node.args.defaults],
            kw_defaults={
                arg.arg: self.evaluate(default)
                for arg, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
                if default is not None
            },
        )


def moved(op: ast.operator, one: Value, other: Value, labels: Labels) -> Labels:
    """With positions that a constant moves, and without those that are computed into something else."""
    rest = frozenset(label for label in labels if label[0] != "index")
    if len(rest) == len(labels) or not isinstance(op, (ast.Add, ast.Sub)):
        return rest
    value, by = (one, other) if isinstance(other.const, int) else (other, one)
    if not isinstance(by.const, int) or value is by:
        return rest
    step = by.const if isinstance(op, ast.Add) else -by.const
    return rest | {index(label[1], label[2] + step) for label in value.labels if label[0] == "index"}


def turned(op: ast.operator, one: Value, other: Value) -> Labels:
    """(c + 1) * size: where the data of the turn after c begin."""
    for value, by in ((one, other), (other, one)):
        if isinstance(op, ast.Add) and isinstance(by.const, int) and by.const > 0 and not by.labels:
            return frozenset(following(label[1]) for label in value.labels if label[0] == "turn")
        if isinstance(op, ast.Mult):
            return frozenset(ahead(label[1]) for label in all_labels(value) if label[0] == "next")
    return NONE


def _both_lists(one: Value, other: Value) -> Value | None:
    if isinstance(one.obj, Sequence) and isinstance(other.obj, Sequence):
        return Value(
            obj=Sequence(items=[*one.obj.items, *other.obj.items], exact=one.obj.exact and other.obj.exact),
            labels=one.labels | other.labels,
        )
    return None
