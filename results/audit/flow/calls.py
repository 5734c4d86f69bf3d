"""Calls: functions of the script are followed into, classes made, what is a library's is told by its name."""

import ast
from dataclasses import replace

from results.audit.flow.library import LibraryCalls
from results.audit.flow.methods import Methods
from results.audit.flow.scope import Frame, Module, Scope
from results.audit.flow.statements import Statements
from results.audit.flow.values import (
    ANYTHING,
    NOTHING,
    PATH,
    TOKENS,
    VAL,
    Bound,
    Class,
    Function,
    Instance,
    Library,
    Mapping,
    Sequence,
    Value,
    all_labels,
    join,
    join_all,
    kind,
)

MOST_CALLS = 40  # of functions of the script within each other
MOST_AGAIN = 2  # of one function within itself
SELF_RETURNING = {
    *(
        "train",
        "eval",
        "to",
        "cuda",
        "cpu",
        "float",
        "bfloat16",
        "half",
        "double",
        "requires_grad_",
        "compile",
        "apply",
    ),
    *("share_memory", "zero_grad"),
}
Args = list[Value]
Kwargs = dict[str, Value]


class Calls(Statements, LibraryCalls, Methods):
    """The whole interpreter."""

    def of_call(self, node: ast.Call) -> Value:
        func = node.func
        if isinstance(func, ast.Attribute):
            owner = _itself(self.evaluate(func.value))
            args, kwargs = self.arguments_of(node)
            found = self.attribute(owner, func.attr, node)
            if found.call is not None:
                return self.call(found, args, kwargs, node)
            return self.method(owner, func.attr, args, kwargs, node)
        found = self.evaluate(func)
        args, kwargs = self.arguments_of(node)
        return self.call(found, args, kwargs, node, launched=isinstance(func, ast.Subscript))

    def arguments_of(self, node: ast.Call) -> tuple[Args, Kwargs]:
        args: Args = []
        for one in node.args:
            value = self.evaluate(one.value if isinstance(one, ast.Starred) else one)
            if isinstance(one, ast.Starred):
                args += (
                    value.obj.items if isinstance(value.obj, Sequence) and value.obj.exact else [self.element(value)]
                )
            else:
                args.append(value)
        kwargs: Kwargs = {}
        for keyword in node.keywords:
            value = self.evaluate(keyword.value)
            if keyword.arg is not None:
                kwargs[keyword.arg] = value
            elif isinstance(value.obj, Mapping):
                kwargs |= {str(name): held for name, held in value.obj.items.items()}
        return args, kwargs

    def call(self, found: Value, args: Args, kwargs: Kwargs, node: ast.AST, launched: bool = False) -> Value:
        call = found.call
        if launched and (isinstance(call, Function) or (call is None and not found.objects())):
            return self.launch(found, args, kwargs, node)
        if isinstance(call, tuple):
            self.uncertain += 1
            results = [self.call(replace(found, call=one), args, kwargs, node) for one in call]
            self.uncertain -= 1
            return join_all(results)
        if isinstance(call, Function):
            return self.inline(call, args, kwargs, node)
        if isinstance(call, Bound):
            inner = Value(call=call.call, labels=found.labels)
            return self.call(inner, [*call.args, *args], {**dict(call.kwargs), **kwargs}, node)
        if isinstance(call, Class):
            return self.instantiate(call, args, kwargs, node)
        if isinstance(call, Library):
            return self.library_call(call.name, args, kwargs, node)
        found = _itself(found)
        modules = [
            one
            for one in ([found.obj] if found.obj is not None else found.refs)
            if isinstance(one, Instance) and one.cls is not None
        ]
        for one in modules:
            assert one.cls is not None
            method = one.cls.find("forward") or one.cls.find("__call__")
            if method is not None and isinstance(method.call, Function):
                return self.module_call(one, method.call, args, kwargs, node)
        return self.generic(found, args, kwargs, node)

    def module_call(self, module: Instance, forward: Function, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
        """A network of the script on its input, with the hooks that hang on it."""
        taken = frozenset().union(*(all_labels(one) for one in args)) - {TOKENS, PATH}
        for hook in self.hooks if VAL in taken else []:
            seen = Value(labels=taken)
            self.call(hook, [Value(obj=module), Value(obj=Sequence(items=[seen])), seen], {}, node)
        return self.inline(forward, [Value(obj=module), *args], kwargs, node)

    def launch(self, found: Value, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
        """kernel[grid](...): writes what it computes into what it was given."""
        given = [*args, *kwargs.values()]
        labels = frozenset().union(*(all_labels(one) for one in given))
        targets = [one for one in given if TOKENS in all_labels(one)]
        others = [one for one in given if one.labels and TOKENS not in all_labels(one)]
        written = self.content(labels)
        if targets and any(VAL in all_labels(one) or ("train",) in all_labels(one) for one in others):
            written = self.loss_of(self.content(labels), all_labels(targets[-1]), node).labels
        for one in given:
            if TOKENS not in all_labels(one):
                self.change(one, written)
        return Value(labels=written)

    def generic(self, found: Value, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
        """Something of which only what goes in is known."""
        given = [found, *args, *kwargs.values()]
        labels = frozenset().union(*(all_labels(one) for one in given))
        if ("library",) in found.labels:
            labels = self.foreign(self.content(labels)) - {("library",)}
            for one in args:
                self.change(one, labels)
            return Value(labels=labels)
        if VAL in labels and self.hooks and any(not isinstance(one, (Sequence, Mapping)) for one in found.objects()):
            seen = Value(labels=self.content(labels))
            for hook in self.hooks:
                self.call(hook, [found, Value(obj=Sequence(items=[seen])), seen], {}, node)
        if found.obj is not None and kind(found.labels | frozenset(found.obj.labels), "criterion") and len(args) >= 2:
            return self.loss_of(all_labels(args[0]), all_labels(args[1]), node)
        return Value(labels=self.content(labels))

    # --- functions of the script

    def inline(self, function: Function, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
        again = sum(frame.node is function.node for frame in self.stack)
        if len(self.stack) > MOST_CALLS or again >= MOST_AGAIN:
            return self.generic(ANYTHING, args, kwargs, node)
        scope = Scope(parent=function.scope)
        self.bind(function, args, kwargs, scope)
        frame = Frame(function.module, scope, node=function.node)
        self.stack.append(frame)
        uncertain, self.uncertain = self.uncertain, self.uncertain
        try:
            if isinstance(function.node, ast.Lambda):
                return self.evaluate(function.node.body)
            end = self.run(function.node.body)
        finally:
            self.stack.pop()
            self.uncertain = uncertain
        if frame.yields or _yields(function.node):
            return Value(obj=Sequence(items=frame.yields, exact=False))
        if end != "return" and frame.returns:
            return join(join_all(frame.returns), NOTHING) if end is None else join_all(frame.returns)
        return join_returns(frame.returns) if frame.returns else NOTHING

    def bind(self, function: Function, args: Args, kwargs: Kwargs, scope: Scope) -> None:
        spec = function.node.args
        names = [arg.arg for arg in (*spec.posonlyargs, *spec.args)]
        for name, default in zip(names[len(names) - len(function.defaults) :], function.defaults, strict=True):
            scope.names[name] = default
        scope.names |= function.kw_defaults
        scope.names |= dict(zip(names, args, strict=False))
        keywords = {arg.arg for arg in spec.kwonlyargs} | set(names)
        scope.names |= {name: value for name, value in kwargs.items() if name in keywords}
        if spec.vararg:
            scope.names[spec.vararg.arg] = Value(obj=Sequence(items=list(args[len(names) :])))
        if spec.kwarg:
            rest = {name: value for name, value in kwargs.items() if name not in keywords}
            scope.names[spec.kwarg.arg] = Value(obj=Mapping(items=dict(rest)))
        for name in keywords:
            scope.names.setdefault(name, ANYTHING)

    def decorated(self, value: Value, node: ast.expr) -> Value:
        decorator = self.evaluate(node)
        call, function = decorator.call, value.call
        name = call.name if isinstance(call, Library) else ""
        if isinstance(function, Function):
            if name == "builtins.staticmethod":
                function.plain = True
            elif name == "builtins.classmethod":
                function.of_class = True
            elif name in ("builtins.property", "functools.cached_property"):
                function.is_property = True
        if isinstance(call, (Function, Bound)):
            made = self.call(decorator, [value], {}, node)
            return made if made.call is not None else value
        return value

    # --- classes of the script

    def instantiate(self, cls: Class, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
        made = Instance(cls=cls)
        value = Value(obj=made)
        init = cls.find("__init__")
        if init is not None and isinstance(init.call, Function):
            self.inline(init.call, [value, *args], kwargs, node)
        else:
            for name, given in [*zip(cls.fields, args, strict=False), *kwargs.items()]:
                made.attrs[name] = given
            for one in cls.lineage():
                for name in one.fields:
                    if name not in made.attrs and (default := one.attrs.get(name)) is not None:
                        made.attrs[name] = self.field_default(default, node)
            if (after := cls.find("__post_init__")) is not None and isinstance(after.call, Function):
                self.inline(after.call, [value], {}, node)
        if is_optimizer(cls):
            made.library = "optimizer"
            if args or kwargs:
                given = args[0] if args else next(iter(kwargs.values()))
                made.attrs.setdefault("params", given)
                group = Value(obj=Mapping(items={"params": given}, rest=ANYTHING))
                made.attrs.setdefault("param_groups", Value(obj=Sequence(items=[group], exact=False)))
        return value

    def field_default(self, default: Value, node: ast.AST) -> Value:
        """Of a dataclass: field(default=..., default_factory=...)."""
        if isinstance(default.obj, Instance) and default.obj.library == "field":
            if (factory := default.obj.attrs.get("default_factory")) is not None:
                return self.call(factory, [], {}, node)
            return default.obj.attrs.get("default", ANYTHING)
        return default

    def attribute(self, owner: Value, name: str, node: ast.AST) -> Value:
        owner = _itself(owner)
        if isinstance(owner.call, Library):
            return self.library_attribute(owner, name)
        if isinstance(owner.call, Class):
            return self.class_attribute(owner.call, name)
        if isinstance(owner.obj, Instance):
            found = self.instance_attribute(owner.obj, name, node)
            if found is not None:
                return found
            if name == "step" and owner.obj.library == "optimizer":
                return ANYTHING
        if name in ("shape", "ndim", "dtype", "device", "itemsize", "nbytes", "is_cuda", "requires_grad"):
            return ANYTHING
        if name == "grad":
            return Value(labels=frozenset(("learned", event.number) for event in self.pending))
        if owner.obj is not None and name in owner.obj.attrs:
            return owner.obj.attrs[name]
        refs = owner.objects()
        return Value(labels=owner.labels, refs=refs)

    def class_attribute(self, cls: Class, name: str) -> Value:
        found = cls.find(name)
        if name == "__dataclass_fields__":
            fields = {one: Value(obj=field_of(cls, one)) for one in cls.fields}
            return Value(obj=Mapping(items=fields))
        if found is None:
            return Value(call=Library(f"class.{name}"), obj=Instance(cls=cls)) if name == "apply" else ANYTHING
        if isinstance(found.call, Function) and found.call.of_class:
            return Value(call=Bound(found.call, (Value(call=cls),)))
        return found

    def instance_attribute(self, obj: Instance, name: str, node: ast.AST) -> Value | None:
        mine = frozenset(one for one in obj.labels if one[0] == "learned")
        if name in obj.attrs:
            found = obj.attrs[name]
            return found.but(found.labels | mine) if mine else found
        if obj.cls is None:
            return None
        if name == "step" and obj.library == "optimizer":
            return None
        if name == "__class__":
            return Value(call=obj.cls)
        found_in_class = obj.cls.find(name)
        if found_in_class is None:
            getter = obj.cls.find("__getattr__")
            return None if getter is None or name in SELF_RETURNING else ANYTHING
        call = found_in_class.call
        if isinstance(call, Function):
            if call.plain:
                return found_in_class
            if call.is_property:
                return self.inline(call, [Value(obj=obj)], {}, node)
            return Value(call=Bound(call, (Value(call=obj.cls) if call.of_class else Value(obj=obj),)))
        return self.field_default(found_in_class, node)

    def module(self, name: str) -> Value:
        """A module by its name: a file beside the script, or a library."""
        module = self.modules.get(name)
        if module is None:
            return Value(call=Library(name))
        return Value(obj=Instance(attrs=module.scope.names, library="module"))

    def run_module(self, module: Module, body: list[ast.stmt]) -> None:
        self.stack.append(Frame(module, module.scope))
        try:
            self.run(body)
        finally:
            self.stack.pop()


def _itself(value: Value) -> Value:
    """A view of one object of the script's classes, as that object: torch.compile(model), model.to(device)."""
    if value.obj is not None or value.call is not None:
        return value
    own = [one for one in value.refs if isinstance(one, Instance) and one.cls is not None]
    return replace(value, obj=own[0]) if len(own) == 1 and len(value.refs) == 1 else value


def join_returns(values: list[Value]) -> Value:
    """Tuples of one length are joined place by place."""
    lengths = {len(one.obj.items) if isinstance(one.obj, Sequence) and one.obj.exact else -1 for one in values}
    if len(values) > 1 and len(lengths) == 1 and -1 not in lengths:
        columns = zip(*(one.obj.items for one in values if isinstance(one.obj, Sequence)), strict=True)
        return Value(obj=Sequence(items=[join_all(column) for column in columns]))
    return join_all(values)


def field_of(cls: Class, name: str) -> Instance:
    """A field of a dataclass, as dataclasses.fields tells of it."""
    default = cls.find(name) or ANYTHING
    return Instance(library="dataclass field", attrs={"name": Value(const=name), "default": default})


def is_optimizer(cls: Class) -> bool:
    return any(
        isinstance(base.call, Library) and "optim" in base.call.name.lower()
        for one in cls.lineage()
        for base in one.bases
    )


def _yields(node: ast.AST) -> bool:
    pending = list(ast.iter_child_nodes(node))
    while pending:
        one = pending.pop()
        if isinstance(one, (ast.Yield, ast.YieldFrom)):
            return True
        if not isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            pending.extend(ast.iter_child_nodes(one))
    return False
