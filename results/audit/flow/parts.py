"""Parts of things: items, slices, what stands in a table under a key of data, the turns of a loop."""

import ast
import typing
from collections.abc import Callable

from results.audit.flow.constants import folded
from results.audit.flow.machine import Machine
from results.audit.flow.scope import Frame, Scope
from results.audit.flow.values import (
    NONE,
    NOTHING,
    PATH,
    PREFIX,
    PROBABILITY,
    TOKENS,
    TRAIN,
    VAL,
    Function,
    Instance,
    Labels,
    Library,
    Mapping,
    Sequence,
    Value,
    all_labels,
    found_by_hash,
    join,
    join_all,
    kind,
    looked_up,
    site,
    turn,
)

MOST_ITEMS = 6  # turns of a loop over a list of known length
MOST_PLAIN = 80  # where nothing in it is of data: the fields of a config


class Parts(Machine):
    """Needs the calls of Calls."""

    def of_subscript(self, node: ast.Subscript) -> Value:
        base = self.evaluate(node.value)
        index = self.evaluate(node.slice)
        return self.item(base, index, node)

    def item(self, base: Value, index: Value, node: ast.Subscript | ast.Call) -> Value:
        if isinstance(base.call, Library):
            return self.library_item(base.call, index)
        if isinstance(base.obj, Instance) and (own := self.dunder(base, "__getitem__", [index], node)) is not None:
            return own
        if isinstance(base.obj, (Mapping, Sequence)) and (found := self.held(base.obj, index, node)) is not None:
            return found.but(found.labels | base.labels)
        if base.obj is not None and index.known and (slot := f"[{index.const!r}]") in base.obj.attrs:
            return base.obj.attrs[slot]
        if base.known and index.known and isinstance(base.const, (str, tuple, bytes)):
            return Value(const=folded(lambda: base.const[index.const]), labels=base.labels)
        labels, keys = all_labels(base), all_labels(index)
        if index.known and isinstance(index.const, str):
            keys = NONE
        if TOKENS in labels:
            extra = {site(self.now())} if labels & {VAL, TRAIN} else set()
            if isinstance(node, ast.Subscript) and self.is_head(node.slice):
                extra.add(PREFIX)
            return Value(labels=labels | extra | self.content(keys))
        parts = index.obj.items if isinstance(index.obj, Sequence) else [index]
        picked = [all_labels(one) for one in parts if TOKENS in all_labels(one)]
        if picked and (PROBABILITY in labels or (len(parts) > 1 and labels & {VAL, TRAIN})):
            return self.loss_of(labels, picked[-1], node)
        if keys & {VAL, TRAIN} or kind(keys, "hashed"):
            return self.table(base, labels, keys, node)
        if isinstance(node, ast.Subscript) and kind(labels, "loss") and _is_prefix(node.slice):
            labels |= {PREFIX}
        return Value(labels=labels | self.content(keys), refs=base.objects())

    def is_head(self, node: ast.expr) -> bool:
        """[:end] with an end that the script computes: the head of a window."""
        return isinstance(node, ast.Slice) and node.lower is None and isinstance(node.upper, ast.Name)

    def table(self, base: Value, labels: Labels, keys: Labels, node: ast.AST) -> Value:
        """What stands in a table under a key of data."""
        line = getattr(node, "lineno", 0)
        found = self.look(labels, node).labels | labels | self.content(keys)
        if kind(keys, "hashed"):
            found |= {found_by_hash(line)}
        elif TOKENS in keys:
            found |= {looked_up(self.lookup(base, keys, node))}
        return Value(labels=found, refs=base.objects())

    def held(self, obj: Mapping | Sequence, index: Value, node: ast.AST) -> Value | None:
        """An item of a list or a dict of the script."""
        if isinstance(obj, Mapping):
            if index.known and isinstance(index.const, (str, int, float, bool)) and index.const in obj.items:
                return obj.items[index.const]
            items = [*obj.items.values(), *([obj.rest] if obj.rest is not None else [])]
            keys = all_labels(index)
            if keys & {VAL, TRAIN} and not (index.known and isinstance(index.const, str)):
                labels = frozenset(obj.labels).union(*(all_labels(one) for one in items))
                return self.table(Value(obj=obj), labels, keys, node)
            return join_all(items) if items else None
        if (
            index.known
            and isinstance(index.const, int)
            and obj.exact
            and -len(obj.items) <= index.const < len(obj.items)
        ):
            return obj.items[index.const]
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice):
            return self.part_of(obj, node.slice)
        if all_labels(index) & {VAL, TRAIN}:
            return None
        return join_all(obj.items).but(join_all(obj.items).labels | self.content(index.labels)) if obj.items else None

    def part_of(self, obj: Sequence, node: ast.Slice) -> Value:
        bounds = [self.evaluate(one) if one is not None else NOTHING for one in (node.lower, node.upper, node.step)]
        if obj.exact and all(one.known for one in bounds):
            items = folded_slice(obj.items, *(one.const for one in bounds))
            if items is not None:
                return Value(obj=Sequence(items=items, labels=set(obj.labels)))
        labels = frozenset().union(*(one.labels for one in bounds))
        return Value(obj=Sequence(items=obj.items, exact=False, labels=set(obj.labels)), labels=self.content(labels))

    def element(self, value: Value) -> Value:
        """Any item of what is iterated over or unpacked."""
        if isinstance(value.obj, Sequence):
            found = join_all(value.obj.items)
            return found.but(found.labels | value.labels | value.obj.labels)
        if isinstance(value.obj, Mapping):
            return Value(labels=value.labels)
        labels = all_labels(value)
        if TOKENS in labels and labels & {VAL, TRAIN} and PATH not in labels:
            return Value(labels=labels, refs=value.refs)
        return Value(labels=labels, refs=value.objects())

    def parts_of(self, value: Value, count: int) -> list[Value] | None:
        """Its items, where it surely has so many."""
        if isinstance(value.obj, Sequence) and len(value.obj.items) == count and value.obj.exact:
            return [one.but(one.labels | value.labels) for one in value.obj.items]
        if value.known and isinstance(value.const, (tuple, str)) and len(value.const) == count:
            return [Value(const=one) for one in value.const]
        return None

    def dunder(self, owner: Value, name: str, args: list[Value], node: ast.AST) -> Value | None:
        """What a class of the script does for an operator, if it says so."""
        if not isinstance(owner.obj, Instance) or owner.obj.cls is None:
            return None
        method = owner.obj.cls.find(name)
        if method is None or not isinstance(method.call, Function):
            return None
        return self.inline(method.call, [owner, *args], {}, node)

    def turns(self, value: Value) -> list[Value]:
        """What a loop over it has in its first turn and in its last, and in those between where they are few."""
        if isinstance(value.obj, Instance):
            made = self.dunder(value, "__iter__", [], ast.Pass(lineno=0))
            if made is not None and made.obj is not value.obj:
                return self.turns(made)
            following = self.dunder(value, "__next__", [], ast.Pass(lineno=0))
            if following is not None:
                return [following, self.dunder(value, "__next__", [], ast.Pass(lineno=0)) or following]
        if value.known and isinstance(value.const, (range, str, tuple, bytes)):
            items = value.const
            chosen = [items[0], items[-1]] if len(items) > 1 else list(items)
            return [Value(const=one, labels=value.labels) for one in chosen]
        if isinstance(value.obj, Sequence) and (value.obj.exact or value.obj.items):
            items_of = value.obj.items
            if not value.obj.exact and len(items_of) == 1:
                items_of = items_of * 2
            plain = value.obj.exact and not any(one.labels for one in items_of)
            if len(items_of) > (MOST_PLAIN if plain else MOST_ITEMS):
                items_of = [items_of[0], join_all(items_of[1:-1]), items_of[-1]]
            extra = value.labels | value.obj.labels
            return [one.but(one.labels | extra) for one in items_of]
        if isinstance(value.obj, Mapping) and value.obj.rest is None and len(value.obj.items) <= MOST_PLAIN:
            return [Value(const=key) for key in value.obj.items]
        return [self.element(value)] * 2

    def few(self, value: Value) -> list[Value] | None:
        """All of a short range, text or tuple."""
        if value.known and isinstance(value.const, (range, str, tuple)) and len(value.const) <= MOST_ITEMS:
            return [Value(const=one, labels=value.labels) for one in value.const]
        return None

    def of_listcomp(self, node: ast.ListComp | ast.GeneratorExp | ast.SetComp) -> Value:
        items: list[Value] = []
        exact = self.comprehend(node.generators, lambda: items.append(self.evaluate(node.elt)))
        return Value(obj=Sequence(items=items, exact=exact))

    of_generatorexp = of_setcomp = of_listcomp

    def of_dictcomp(self, node: ast.DictComp) -> Value:
        found = Mapping()

        def add() -> None:
            key, value = self.evaluate(node.key), self.evaluate(node.value)
            if key.known and isinstance(key.const, (str, int, float, bool)):
                found.items[key.const] = value
            else:
                found.rest = value if found.rest is None else join(found.rest, value)

        if not self.comprehend(node.generators, add) and found.items:
            found.rest = join_all([*found.items.values(), *([found.rest] if found.rest else [])])
        return Value(obj=found)

    def comprehend(self, generators: list[ast.comprehension], add: Callable[[], None]) -> bool:
        """Whether the turns that were gone through are all that there are."""
        scope = Scope(parent=self.frame.scope)
        self.stack.append(Frame(self.frame.module, scope, node=self.frame.node, yields=self.frame.yields))
        exact = True

        def descend(level: int) -> None:
            nonlocal exact
            if level == len(generators):
                add()
                return
            one = generators[level]
            source = self.evaluate(one.iter)
            turns = self.few(source) or self.turns(source)
            exact = exact and _is_exact(source, len(turns))
            for number, value in enumerate(turns):
                labels = value.labels | {turn(self.mark(one), number)} if len(turns) > 1 else value.labels
                self.assign(one.target, value.but(labels))
                truths = [self.truth(self.evaluate(test)) for test in one.ifs]
                exact = exact and None not in truths
                if False not in truths:
                    descend(level + 1)

        descend(0)
        self.stack.pop()
        return exact


def _is_exact(value: Value, turns: int) -> bool:
    if value.known and isinstance(value.const, (range, str, tuple, bytes)):
        return len(value.const) == turns
    if isinstance(value.obj, Sequence):
        return value.obj.exact and len(value.obj.items) == turns
    return isinstance(value.obj, Mapping) and value.obj.rest is None and len(value.obj.items) == turns


def _is_prefix(node: ast.expr) -> bool:
    last = node.elts[-1] if isinstance(node, ast.Tuple) and node.elts else node
    return isinstance(last, ast.Slice) and last.lower is None and last.upper is not None


def folded_slice(items: list[Value], lower: typing.Any, upper: typing.Any, step: typing.Any) -> list[Value] | None:
    try:
        return items[slice(lower, upper, step)]
    except (TypeError, ValueError):
        return None
