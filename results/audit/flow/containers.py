"""Methods of lists, dicts, files, pools and argument parsers."""

import ast

from results.audit.flow.machine import Machine
from results.audit.flow.values import (
    ANYTHING,
    NOTHING,
    PATH,
    TOKENS,
    TRAIN,
    VAL,
    Instance,
    Mapping,
    Sequence,
    Value,
    all_labels,
    join_all,
)


class Containers(Machine):
    """Needs the calls of Calls."""

    def m_append(self, owner: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        value = args[-1] if args else ANYTHING
        self.added(value, node)
        if isinstance(owner.obj, Sequence):
            owner.obj.items.append(value)
            owner.obj.exact = owner.obj.exact and not self.uncertain and not self.path
            if len(owner.obj.items) > 64:
                owner.obj.items, owner.obj.exact = [owner.obj.items[0], join_all(owner.obj.items[1:])], False
            return NOTHING
        self.change(owner, all_labels(value))
        return NOTHING

    m_appendleft = m_push = m_put = m_append

    def m_add(self, owner: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        return self.m_append(owner, args, kwargs, node) if isinstance(owner.obj, Sequence) else None

    def m_insert(self, owner: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        return self.m_append(owner, args, kwargs, node)

    def m_extend(self, owner: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        for one in self.turns(args[0]) if args else []:
            self.m_append(owner, [one], {}, node)
        if isinstance(owner.obj, Sequence):
            owner.obj.exact = False
        return NOTHING

    def m_update(self, owner: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        given = args[0] if args else ANYTHING
        if isinstance(owner.obj, Mapping) and isinstance(given.obj, Mapping):
            owner.obj.items |= given.obj.items
        labels = all_labels(given)
        if VAL in labels and TOKENS in labels:
            self.change(owner, self.count(owner, given, node))
        else:
            self.change(owner, labels)
        return NOTHING

    def m_get(self, owner: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        if not args:
            return None
        labels, keys = all_labels(owner), all_labels(args[0])
        default = args[1] if len(args) > 1 else NOTHING
        if keys & {VAL, TRAIN} and not (args[0].known and isinstance(args[0].const, str)):
            return self.table(owner, labels, keys, node)
        if isinstance(owner.obj, Mapping) and args[0].known:
            held = owner.obj.items.get(args[0].const)
            return held if held is not None else owner.obj.rest or default
        return Value(labels=labels, refs=owner.objects())

    def m_setdefault(self, owner: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        if not args:
            return None
        value = args[1] if len(args) > 1 else NOTHING
        self.store_under(owner, args[0], value, node)
        return self.m_get(owner, args, kwargs, node)

    def m___setitem__(self, owner: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        if len(args) == 2:
            self.store_under(owner, args[0], args[1], node)
        return NOTHING

    def m_items(self, owner: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        if isinstance(owner.obj, Mapping):
            own = frozenset(owner.obj.labels)
            held = [(Value(const=key), value) for key, value in owner.obj.items.items()]
            held += [(ANYTHING, owner.obj.rest)] if owner.obj.rest is not None else []
            pairs = [Value(obj=Sequence(items=[key, value.but(value.labels | own)])) for key, value in held]
            return Value(obj=Sequence(items=pairs, exact=owner.obj.rest is None))
        pair = Value(obj=Sequence(items=[ANYTHING, Value(labels=all_labels(owner), refs=owner.objects())]))
        return Value(obj=Sequence(items=[pair], exact=False))

    def m_values(self, owner: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        if isinstance(owner.obj, Mapping):
            items = [*owner.obj.items.values(), *([owner.obj.rest] if owner.obj.rest is not None else [])]
            return Value(obj=Sequence(items=items, exact=owner.obj.rest is None))
        return None

    def m_pop(self, owner: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        if isinstance(owner.obj, Mapping) and args and args[0].known:
            return owner.obj.items.get(args[0].const) or owner.obj.rest or (args[1] if len(args) > 1 else ANYTHING)
        return self.element(owner)

    def m_write(self, owner: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        if not args:
            return None  # log() of a tensor
        for one in args:
            self.report(one, node)
            self.change(owner, all_labels(one) | self.keep(one, node))
        return NOTHING

    m_write_bytes = m_write_text = m_info = m_log = m_warning = m_debug = m_print = m_write

    def m_read(self, owner: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        labels = all_labels(owner)
        data = {TOKENS} if labels & {VAL, TRAIN} else set(self.saved)
        return Value(labels=(labels - {PATH}) | data)

    m_read_bytes = m_getvalue = m_getbuffer = m_read

    def m_map(self, owner: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        """pool.map(function, items), executor.submit(function, ...): the function on its items."""
        if not args or args[0].call is None:
            return None
        items = [self.turns(one) for one in args[1:]]
        if not items:
            return None
        results = [self.call(args[0], list(row), {}, node) for row in zip(*items, strict=False)]
        return Value(obj=Sequence(items=results, exact=False))

    m_imap = m_imap_unordered = m_starmap = m_map

    def m_submit(self, owner: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        if not args or args[0].call is None:
            return None
        return self.call(args[0], args[1:], kwargs, node)

    m_apply_async = m_submit

    def m_add_argument(self, owner: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        names = [one.const for one in args if one.known and isinstance(one.const, str)]
        if not names or owner.obj is None:
            return None
        self.argument(owner.obj, names, kwargs)
        return NOTHING

    def m_parse_args(self, owner: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        if owner.obj is None:
            return None
        return Value(obj=Instance(attrs=dict(owner.obj.attrs), library="namespace"))

    def m_parse_known_args(
        self, owner: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST
    ) -> Value | None:
        found = self.m_parse_args(owner, args, kwargs, node)
        return Value(obj=Sequence(items=[found or ANYTHING, ANYTHING]))
