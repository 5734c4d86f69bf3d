"""Statements: what is certain is followed, of two ways both are, of a loop its first turn and its last."""

import ast
import dataclasses
import typing

from results.audit.flow.expressions import Expressions
from results.audit.flow.scope import Frame, Scope, assigned, merged
from results.audit.flow.values import (
    NOTHING,
    UNKNOWN,
    Class,
    Instance,
    Labels,
    Library,
    Mapping,
    Obj,
    Sequence,
    Value,
    all_labels,
    gated,
    index,
    join,
    kind,
    turn,
)

RETURN, BREAK, CONTINUE, RAISE = "return", "break", "continue", "raise"
ENDS = (RETURN, RAISE)


class Statements(Expressions):
    def run(self, body: list[ast.stmt]) -> str | None:
        """How the statements end, where they surely do so before their end."""
        for node in body:
            self.step()
            self.trace.reached.add((self.frame.module.name, node.lineno))
            if (end := self.statement(node)) is not None:
                return end
        return None

    def statement(self, node: ast.stmt) -> str | None:
        method = getattr(self, f"do_{type(node).__name__.lower()}", None)
        return method(node) if method is not None else None

    def do_expr(self, node: ast.Expr) -> None:
        self.evaluate(node.value)

    def do_return(self, node: ast.Return) -> str:
        self.frame.returns.append(self.evaluate(node.value) if node.value else NOTHING)
        return RETURN

    def do_break(self, node: ast.Break) -> str:
        self.frame.breaks.append(dict(self.frame.scope.names))
        return BREAK

    def do_continue(self, node: ast.Continue) -> str:
        return CONTINUE

    def do_raise(self, node: ast.Raise) -> str:
        return RAISE

    def do_global(self, node: ast.Global) -> None:
        for name in node.names:
            self.frame.scope.elsewhere[name] = self.frame.module.scope

    def do_nonlocal(self, node: ast.Nonlocal) -> None:
        for name in node.names:
            at = self.frame.scope.parent
            while at is not None and name not in at.names:
                at = at.parent
            if at is not None:
                self.frame.scope.elsewhere[name] = at

    def do_delete(self, node: ast.Delete) -> None:
        return None

    def do_assert(self, node: ast.Assert) -> None:
        self.evaluate(node.test)

    # --- names

    def do_assign(self, node: ast.Assign) -> None:
        value = self.evaluate(node.value)
        for target in node.targets:
            self.assign(target, value)

    def do_annassign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.assign(node.target, self.evaluate(node.value))

    def do_augassign(self, node: ast.AugAssign) -> None:
        before, value = self.evaluate(_load(node.target)), self.evaluate(node.value)
        self.added(value, node)
        if isinstance(before.obj, Instance) and (own := self.dunder(before, "__iadd__", [value], node)) is not None:
            self.assign(node.target, own)
            return
        after = self.arithmetic(node.op, before, value, node)
        labels = all_labels(value)
        if isinstance(node.target, ast.Subscript):
            table = self.evaluate(node.target.value)
            self.store_under(table, self.evaluate(node.target.slice), join(before, after), node)
            return
        self.change(before, labels)
        if before.obj is not None or before.refs:  # the same object, changed in place
            after = dataclasses.replace(
                before, labels=before.labels | labels, const=after.const if after.known else UNKNOWN
            )
        self.assign(node.target, after)

    # --- ways

    def do_if(self, node: ast.If) -> str | None:
        condition = self.evaluate(node.test)
        test = self.truth(condition)
        if test is not None:
            return self.run(node.body if test else node.orelse)
        self.gates.append(condition.labels)
        try:
            return self.either(node.body, node.orelse)
        finally:
            self.gates.pop()

    def either(self, one: list[ast.stmt], other: list[ast.stmt]) -> str | None:
        """Both ways, one after the other, from the same names."""
        scope = self.frame.scope
        before = scope.names
        self.uncertain += 1
        scope.names = dict(before)
        first = self.run(one)
        names, scope.names = scope.names, dict(before)
        second = self.run(other)
        self.uncertain -= 1
        if first and second:
            return first if first == second else CONTINUE if CONTINUE in (first, second) else second
        if second:
            scope.names = names
        elif not first:
            scope.names = merged(names, scope.names)
            if not other:  # a loss that is computed again: the new one is what counts
                scope.names |= {name: value for name, value in names.items() if _is_newer(value, before.get(name))}
        return None

    def do_match(self, node: ast.Match) -> None:
        self.evaluate(node.subject)
        for case in node.cases:
            self.either(case.body, [])

    def do_try(self, node: ast.Try) -> str | None:
        end = self.run(node.body)
        if end in (None, RAISE) or self.uncertain:
            for handler in node.handlers:
                self.either(handler.body, [])
        if end is None:
            end = self.run(node.orelse)
        last = self.run(node.finalbody)
        return last or (None if end == RAISE and node.handlers else end)

    do_trystar = do_try

    def do_with(self, node: ast.With | ast.AsyncWith) -> str | None:
        for item in node.items:
            value = self.evaluate(item.context_expr)
            if item.optional_vars is not None:
                self.assign(item.optional_vars, value)
        return self.run(node.body)

    do_asyncwith = do_with

    # --- loops

    def do_for(self, node: ast.For | ast.AsyncFor) -> str | None:
        turns = self.turns(self.evaluate(node.iter))
        end = self.loop(node, turns)
        return end or self.run(node.orelse)

    do_asyncfor = do_for

    def do_while(self, node: ast.While) -> str | None:
        test = self.truth(self.evaluate(node.test))
        if test is False:
            return self.run(node.orelse)
        end = self.loop(node, [None, None])
        return end or self.run(node.orelse)

    def loop(self, node: ast.For | ast.AsyncFor | ast.While, turns: typing.Sequence[Value | None]) -> str | None:
        """The turns of a loop; a way out that is sure ends it, one that may be taken does not."""
        scope, breaks, names = self.frame.scope, self.frame.breaks, assigned(node.body)
        self.frame.breaks = []
        mark = self.mark(node)
        if isinstance(node, ast.While):
            self.trace.open_ended.add(mark)
        execution = self.executions[mark] = self.executions.get(mark, 0) + 1
        ended = None
        for number, value in enumerate(turns):
            self.path.append((mark, execution, number))
            if number:
                self.forget(names, mark, number)
            if value is not None and not isinstance(node, ast.While):
                labels = value.labels | {turn(mark, number)} if len(turns) > 1 else value.labels
                if isinstance(node.iter, ast.Call) and ast.unparse(node.iter.func).endswith("range"):
                    labels |= {index(mark, 0)}
                self.assign(node.target, value.but(labels))
            elif number and isinstance(node, ast.While) and self.truth(self.evaluate(node.test)) is False:
                self.path.pop()
                break
            end = self.run(node.body)
            self.path.pop()
            if end in (BREAK, *ENDS):
                ended = end if end in ENDS else None
                break
        if turns:
            self.forget(names, mark, None)
        for left in self.frame.breaks:
            scope.names = merged(scope.names, left)
        self.frame.breaks = breaks
        return ended

    def forget(self, names: set[str], mark: int, number: int | None) -> None:
        """Numbers that a loop's turns change are not known after the first; they depend on the turn."""
        scope = self.frame.scope
        for name in names:
            value = scope.names.get(name)
            if value is None or value.const is None:
                continue
            labels = value.labels
            if number is not None and value.obj is None and not value.refs and value.call is None:
                labels = labels | {turn(mark, number)}
            if (value.known and isinstance(value.const, (int, float, bool))) or labels is not value.labels:
                number_like = isinstance(value.const, (int, float, bool))
                scope.names[name] = dataclasses.replace(
                    value, const=UNKNOWN if number_like else value.const, labels=labels
                )

    # --- definitions

    def do_functiondef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        value = Value(call=self.function(node))
        for decorator in reversed(node.decorator_list):
            value = self.decorated(value, decorator)
        self.frame.scope.set(node.name, value)

    do_asyncfunctiondef = do_functiondef

    def do_classdef(self, node: ast.ClassDef) -> None:
        bases = [self.evaluate(base) for base in node.bases]
        scope = Scope(parent=self.frame.scope, is_class=True)
        self.stack.append(Frame(self.frame.module, scope))
        self.run(node.body)
        self.stack.pop()
        fields = [
            one.target.id for one in node.body if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
        ]
        cls = Class(node.name, bases, scope.names, [f for base in _parents(bases) for f in base.fields] + fields)
        for value in scope.names.values():
            if (call := value.call) is not None and hasattr(call, "owner") and call.owner is None:
                call.owner = cls
        value = Value(call=cls)
        for decorator in node.decorator_list:
            self.evaluate(decorator)
        self.frame.scope.set(node.name, value)

    # --- imports

    def do_import(self, node: ast.Import) -> None:
        for alias in node.names:
            module = self.module(alias.name if alias.asname else alias.name.partition(".")[0])
            self.frame.scope.set(alias.asname or alias.name.partition(".")[0], module)

    def do_importfrom(self, node: ast.ImportFrom) -> None:
        if node.module is None and not node.level:
            return
        module = self.module(node.module or "")
        for alias in node.names:
            if alias.name == "*":
                if isinstance(module.obj, Instance):
                    for name, value in module.obj.attrs.items():
                        self.frame.scope.set(name, value)
                continue
            value = (
                self.attribute(module, alias.name, node)
                if isinstance(module.obj, Instance)
                else Value(call=Library(f"{node.module}.{alias.name}"))
            )
            self.frame.scope.set(alias.asname or alias.name, value)

    # --- targets

    def assign(self, target: ast.expr, value: Value) -> None:
        if isinstance(target, ast.Name):
            self.frame.scope.set(target.id, value)
        elif isinstance(target, (ast.Tuple, ast.List)):
            self.unpack(target.elts, value)
        elif isinstance(target, ast.Starred):
            self.assign(target.value, value)
        elif isinstance(target, ast.Attribute):
            self.store_attribute(self.evaluate(target.value), target.attr, value, target)
        elif isinstance(target, ast.Subscript):
            self.added(value, target)
            self.store_under(self.evaluate(target.value), self.evaluate(target.slice), value, target)

    def unpack(self, targets: list[ast.expr], value: Value) -> None:
        items = self.parts_of(value, len(targets)) if not any(isinstance(t, ast.Starred) for t in targets) else None
        for number, target in enumerate(targets):
            self.assign(target, items[number] if items else self.element(value))

    def store_attribute(self, owner: Value, name: str, value: Value, node: ast.AST) -> None:
        if name == "data":
            self.copy_into(owner, value, node)
            return
        if name == "grad":
            if value.const is None:
                self.pending.clear()
            return
        if isinstance(owner.call, Library):
            self.patched[f"{owner.call.name}.{name}"] = value
        if owner.obj is None and not owner.refs:
            return
        for one in [owner.obj] if owner.obj is not None else owner.refs:
            held = one.attrs.get(name)
            one.attrs[name] = join(held, value) if held is not None and self.uncertain else value

    def gate(self, key: Value, value: Value, node: ast.AST) -> Labels:
        """Whether a value is stored at a position only where the token of that position, or a later one, has a property
        that a table tells."""
        if value.known and not value.const:
            return frozenset()
        for condition in self.gates:
            if not kind(condition, "looked up"):
                continue
            for label in condition:
                stored = [one for one in key.labels if label[0] == "index" and one[:2] == label[:2]]
                if any(label[2] >= one[2] for one in stored):
                    return frozenset({gated(getattr(node, "lineno", 0))})
        return frozenset()

    def store_under(self, table: Value, key: Value, value: Value, node: ast.AST) -> None:
        """table[key] = value, or += value."""
        labels = self.count(table, key, node) | self.gate(key, value, node)
        if isinstance(table.obj, Mapping):
            if key.known and _hashable(key.const):
                held = table.obj.items.get(key.const)
                table.obj.items[key.const] = join(held, value) if held is not None and self.uncertain else value
            else:
                table.obj.rest = value if table.obj.rest is None else join(table.obj.rest, value)
        elif isinstance(table.obj, Sequence):
            table.obj.items = [join(one, value) for one in table.obj.items] or [value]
        elif type(table.obj) is Obj and key.known and isinstance(key.const, int):
            slot = f"[{key.const!r}]"  # of a tensor with several totals
            table.obj.attrs[slot] = join(table.obj.attrs[slot], value) if slot in table.obj.attrs else value
        else:
            labels |= all_labels(value)
        self.change(table, labels)
        if not table.objects() and isinstance(node, (ast.Subscript, ast.AugAssign)):
            target = node.target if isinstance(node, ast.AugAssign) else node
            if isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name):
                self.frame.scope.set(target.value.id, table.but(table.labels | labels))


def _is_newer(value: Value, before: Value | None) -> bool:
    return (
        before is not None and value is not before and bool(kind(value.labels, "loss") and kind(before.labels, "loss"))
    )


def _hashable(value: typing.Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _parents(bases: list[Value]) -> list[Class]:
    return [base.call for base in bases if isinstance(base.call, Class)]


def _load(target: ast.expr) -> ast.expr:
    """The same target, read."""
    twin = type(target)(**{name: getattr(target, name) for name in target._fields})
    twin.ctx = ast.Load()  # type: ignore[attr-defined]
    return ast.copy_location(twin, target)
