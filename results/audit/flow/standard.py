"""Functions of the standard library: of lists and objects, of the environment, of files and processes."""

import ast
import json
import typing

from results.audit.flow.constants import FUNCTIONS, folded
from results.audit.flow.machine import Machine, labels_of_text
from results.audit.flow.values import (
    ANYTHING,
    NONE,
    NOTHING,
    PATH,
    TOKENS,
    TRAIN,
    UNKNOWN,
    VAL,
    Bound,
    Class,
    Instance,
    Library,
    Mapping,
    Obj,
    Sequence,
    Value,
    all_labels,
    copied_value,
)


class BuiltinCalls(Machine):
    """Needs the calls of Calls."""

    def l_print(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        for one in args:
            self.report(one, node)
        return NOTHING

    def l_super(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        return Value(call=Library("builtins.super")) if name == "builtins.super" else None

    def l___init__(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        return NOTHING

    def l_len(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        if args and isinstance(args[0].obj, (Sequence, Mapping)):
            obj = args[0].obj
            exact = obj.exact if isinstance(obj, Sequence) else obj.rest is None
            return Value(const=len(obj.items) if exact else UNKNOWN)
        return None

    def l_range(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        if all(one.known for one in args):
            return None
        first = args[0] if len(args) > 1 else Value(const=0)
        others = frozenset().union(*(one.labels for one in args if one is not first))
        labels = self.content(frozenset(one for one in others if one[0] not in ("ahead", "next")))
        return Value(obj=Sequence(items=[first.but(first.labels | labels), Value(labels=labels)], exact=False))

    def l_list(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        if not args:
            return Value(obj=Sequence())
        one = args[0]
        if one.known and isinstance(one.const, (range, tuple, str)):
            return Value(obj=Sequence(items=self.turns(one), exact=len(one.const) <= 2))
        if isinstance(one.obj, (Sequence, Mapping)):
            exact = one.obj.exact if isinstance(one.obj, Sequence) else one.obj.rest is None
            return Value(obj=Sequence(items=self.turns(one), exact=exact), labels=one.labels)
        return None

    l_tuple = l_set = l_frozenset = l_list

    def l_sorted(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        if args and isinstance(args[0].obj, Sequence):
            return Value(obj=Sequence(items=self.turns(args[0]), exact=False), labels=args[0].labels)
        return None

    def l_reversed(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        if args and isinstance(args[0].obj, Sequence):
            return Value(obj=Sequence(items=args[0].obj.items[::-1], exact=args[0].obj.exact), labels=args[0].labels)
        return None

    def l_enumerate(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        turns = self.turns(args[0]) if args else []
        exact = bool(args) and isinstance(args[0].obj, Sequence) and args[0].obj.exact
        numbers = [Value(const=n if exact or not n else UNKNOWN) for n in range(len(turns))]
        pairs = [Value(obj=Sequence(items=[n, one])) for n, one in zip(numbers, turns, strict=True)]
        return Value(obj=Sequence(items=pairs, exact=exact))

    def l_zip(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        columns = [self.turns(one) for one in args]
        rows = [Value(obj=Sequence(items=list(row))) for row in zip(*columns, strict=False)]
        exact = all(isinstance(one.obj, Sequence) and one.obj.exact for one in args)
        return Value(obj=Sequence(items=rows, exact=exact))

    def l_dict(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        if args and not isinstance(args[0].obj, Mapping):
            return Value(obj=Mapping(rest=self.element(args[0])), labels=args[0].labels)
        items = dict(args[0].obj.items) if args and isinstance(args[0].obj, Mapping) else {}
        return Value(obj=Mapping(items={**items, **kwargs}))

    def l_type(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        if name != "builtins.type" or len(args) != 1:
            return None
        if isinstance(args[0].obj, Instance) and args[0].obj.cls is not None:
            return Value(call=args[0].obj.cls)
        return Value(call=Library(f"builtins.{type(args[0].const).__name__}")) if args[0].known else None

    def l_SimpleNamespace(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        return Value(obj=Instance(library="namespace", attrs=dict(kwargs)))

    l_Namespace = l_SimpleNamespace

    def l_vars(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        held = args[0].obj if args else None
        return Value(obj=Mapping(items=dict(held.attrs))) if isinstance(held, Instance) else None

    l_asdict = l_vars

    def l_fields(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        """Of a dataclass: name and default of each."""
        given = args[0] if args else ANYTHING
        cls = given.call if isinstance(given.call, Class) else getattr(given.obj, "cls", None)
        if not isinstance(cls, Class):
            return None
        made = [
            Instance(library="dataclass field", attrs={"name": Value(const=one), "default": cls.find(one) or ANYTHING})
            for one in dict.fromkeys(cls.fields)
        ]
        return Value(obj=Sequence(items=[Value(obj=one) for one in made]))

    def l_getattr(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        if len(args) >= 2 and isinstance(args[1].const, str):
            owner = args[0].obj
            if isinstance(owner, Instance) and len(args) > 2:
                known = args[1].const in owner.attrs or (owner.cls is not None and owner.cls.find(args[1].const))
                if not known:
                    return args[2]
            return self.attribute(args[0], args[1].const, node)
        return None

    def l_setattr(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        if len(args) == 3 and isinstance(args[1].const, str):
            self.store_attribute(args[0], args[1].const, args[2], node)
        return NOTHING

    def l_hasattr(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        if len(args) == 2 and isinstance(args[0].obj, Instance) and isinstance(args[1].const, str):
            obj = args[0].obj
            if args[1].const in obj.attrs or (obj.cls is not None and obj.cls.find(args[1].const) is not None):
                return Value(const=True)
        return ANYTHING

    def l_isinstance(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        if len(args) == 2 and args[0].known and args[0].const is None:
            return Value(const=False)
        if len(args) == 2 and isinstance(args[0].obj, Instance) and isinstance(args[1].call, Class):
            cls = args[0].obj.cls
            return Value(const=cls is not None and args[1].call in list(cls.lineage()))
        return ANYTHING

    def l_map(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        if len(args) < 2:
            return None
        rows = zip(*(self.turns(one) for one in args[1:]), strict=False)
        return Value(obj=Sequence(items=[self.call(args[0], list(row), {}, node) for row in rows], exact=False))

    def l_next(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        if args and isinstance(args[0].obj, Instance) and args[0].obj.cls is not None:
            method = args[0].obj.cls.find("__next__")
            if method is not None:
                return self.call(Value(call=Bound(method.call, (args[0],))), [], {}, node)
        return self.element(args[0]) if args else None

    def l_open(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        return Value(labels=args[0].labels | {PATH} if args else NONE, obj=Obj())

    def l_partial(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        if not args:
            return None
        call = args[0].call
        if call is None:  # of a module
            return args[0]
        return Value(call=Bound(call, tuple(args[1:]), tuple(kwargs.items())), labels=args[0].labels)

    def l_deepcopy(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        return copied_value(args[0], {}) if args else None

    def l_get(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        if name not in ("os.environ.get", "os.environ.setdefault", "os.environ.pop", "os.getenv") or not args:
            return None
        found = self.environment.get(str(args[0].const)) if args[0].known else None
        if found is not None:
            return Value(const=found, labels=labels_of_text(found))
        return args[1] if len(args) > 1 else kwargs.get("default", NOTHING)

    l_getenv = l_setdefault = l_get

    def l_ArgumentParser(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        return Value(obj=Instance(library="arguments"))

    def argument(self, parser: Obj, names: list[str], kwargs: dict[str, Value]) -> None:
        """add_argument: its default, or what the command says."""
        option = max(names, key=len)
        key = kwargs["dest"].const if "dest" in kwargs else option.lstrip("-").replace("-", "_")
        action = kwargs["action"].const if "action" in kwargs else None
        if "action" in kwargs and isinstance(kwargs["action"].call, Library):  # argparse.BooleanOptionalAction
            action = "store_true"
        default = kwargs.get(
            "default", Value(const=False if action == "store_true" else True if action == "store_false" else None)
        )
        given = [n for n, word in enumerate(self.arguments) if word.partition("=")[0] in names]
        if given:
            word = self.arguments[given[-1]]
            following = self.arguments[given[-1] + 1] if given[-1] + 1 < len(self.arguments) else ""
            text = word.partition("=")[2] or following
            default = (
                Value(const=action == "store_true") if action in ("store_true", "store_false") else Value(const=text)
            )
            kind_of = kwargs["type"].call if "type" in kwargs else None
            if isinstance(kind_of, Library) and action is None and (function := FUNCTIONS.get(kind_of.name)):
                default = Value(const=folded(function, text))
        if isinstance(key, str):
            parser.attrs[key] = default

    def l_save(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        for one in args[:1]:
            labels = self.keep(one, node)
            for into in args[1:]:
                self.change(into, labels)
        return NOTHING

    l_dump = l_save_file = l_save

    def l_loads(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        if name == "json.loads" and args and isinstance(args[0].const, str):
            try:
                return of_plain(json.loads(args[0].const))
            except (ValueError, RecursionError):
                return ANYTHING
        return self.l_load(name, args, kwargs, node)

    def l_load(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        labels = frozenset().union(*(all_labels(one) for one in args)) if args else NONE
        if labels & {VAL, TRAIN}:
            return Value(labels=labels - {PATH} | {TOKENS})
        return Value(labels=labels - {PATH} | self.saved)

    l_load_file = l_load

    def l_Process(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        target, given = kwargs.get("target"), kwargs.get("args")
        if target is not None and target.call is not None:
            items = given.obj.items if given is not None and isinstance(given.obj, Sequence) else []
            self.call(target, list(items), {}, node)
        return ANYTHING

    l_Thread = l_Process

    def l_spawn(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        given = kwargs.get("args") or (args[1] if len(args) > 1 else None)
        if args and args[0].call is not None:
            items = given.obj.items if given is not None and isinstance(given.obj, Sequence) else []
            self.call(args[0], [Value(const=0), *items], {}, node)
        return NOTHING

    def l_field(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        return Value(obj=Instance(library="field", attrs=dict(kwargs)))

    def l_Path(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        return self.l_join(name, args, kwargs, node) if len(args) > 1 else (args[0] if args else None)

    def l_join(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        text = "/".join(str(one.const) if one.known else "?" for one in args)
        labels = frozenset().union(*(one.labels for one in args)) if args else NONE
        return Value(const=text if all(one.known for one in args) else UNKNOWN, labels=labels | labels_of_text(text))


def of_plain(data: typing.Any) -> Value:
    """A value of JSON."""
    if isinstance(data, dict):
        return Value(obj=Mapping(items={str(key): of_plain(one) for key, one in data.items()}))
    if isinstance(data, list):
        return Value(obj=Sequence(items=[of_plain(one) for one in data]))
    return Value(const=data, labels=labels_of_text(data) if isinstance(data, str) else NONE)
