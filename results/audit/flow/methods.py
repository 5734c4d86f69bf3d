"""Methods of tensors, arrays, modules and optimizers: of what is not a class of the script."""

import ast
from dataclasses import replace

from results.audit.flow.constants import TEXT_METHODS, folded
from results.audit.flow.containers import Containers
from results.audit.flow.events import CALIBRATION, COUNT
from results.audit.flow.machine import labels_of_text
from results.audit.flow.values import (
    ANYTHING,
    LN2,
    MULTIPLIED,
    NONE,
    NOTHING,
    PACKED,
    PATH,
    PROBABILITY,
    TOKENS,
    TRAIN,
    UNKNOWN,
    VAL,
    Bound,
    Function,
    Instance,
    Labels,
    Mapping,
    Obj,
    Sequence,
    Value,
    all_labels,
    chosen,
    kind,
    learned,
    packed_counts,
    reachable,
    site,
)

STRUCTURE = {
    *(
        "numel",
        "size",
        "dim",
        "nelement",
        "element_size",
        "stat",
        "exists",
        "is_file",
        "is_dir",
        "ndimension",
        "stride",
    ),
    *("is_cuda", "is_contiguous", "data_ptr", "mkdir", "unlink", "seek", "tell", "close", "flush", "count"),
}
VIEWS = {
    *(
        "view",
        "reshape",
        "contiguous",
        "detach",
        "flatten",
        "unsqueeze",
        "squeeze",
        "expand",
        "transpose",
        "permute",
        "t",
    ),
    *("pin_memory", "expand_as", "view_as", "narrow", "chunk", "split", "unbind", "get", "values", "items", "train"),
    *(
        "eval",
        "requires_grad_",
        "parameters",
        "named_parameters",
        "modules",
        "named_modules",
        "children",
        "named_children",
        "buffers",
    ),
    *("state_dict", "get_parameter", "get_submodule", "named_buffers", "to", "cuda", "float", "bfloat16", "module"),
    *(
        "half",
        "double",
        "keys",
        "tolist",
        "ravel",
        "swapaxes",
        "select",
        "as_strided",
        "unfold",
        "compile",
        "share_memory",
    ),
    *("type", "type_as", "long", "int", "numpy", "cpu", "astype"),
}
KEEP_TOKENS = {
    *VIEWS,
    *(
        "long",
        "int",
        "numpy",
        "cpu",
        "astype",
        "clone",
        "copy",
        "type",
        "type_as",
        "item",
        "repeat",
        "repeat_interleave",
    ),
    *(
        "roll",
        "flip",
        "index_select",
        "masked_select",
        "take",
        "uint16",
        "short",
        "read_bytes",
        "read",
        "pop",
        "popleft",
    ),
    *(
        "sum_docs",
        "tobytes",
        "masked_fill",
        "clamp",
        "clamp_max",
        "clamp_min",
        "clip",
        "where",
        "add",
        "sub",
        "pad",
        "bool",
        "next",
    ),
}
PATHS = {
    *("glob", "rglob", "resolve", "expanduser", "absolute", "open", "joinpath", "with_suffix", "with_name", "iterdir"),
    *("as_posix", "format", "replace", "strip", "split", "iglob", "lower", "sort", "partition", "rpartition", "join"),
}
CALLING = {"apply", "apply_", "map_", "run", "launch", "start", "filter", "foreach"}
SHAPED = {"view_as", "reshape_as", "expand_as", "type_as", "to", "new_zeros", "new_full", "new_empty", "new_tensor"}
COUNTING = {"scatter_add_", "index_add_", "put_", "index_put_", "scatter_", "scatter_reduce_", "scatter", "scatter_add"}


class Methods(Containers):
    """Needs the calls of Calls."""

    def method(self, owner: Value, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        if (special := getattr(self, f"m_{name}", None)) is not None:
            found: Value | None = special(owner, args, kwargs, node)
            if found is not None:
                return found
        if name in STRUCTURE:
            return ANYTHING
        if owner.known and isinstance(owner.const, str) and name in TEXT_METHODS:
            return self.text_method(owner, name, args)
        if name in COUNTING:
            return self.scatter(owner, args, kwargs, node)
        given = [*args, *kwargs.values()]
        labels = frozenset().union(*(all_labels(one) for one in given))
        if name in ("sum", "mean", "nanmean", "nansum"):
            self.added(owner, node)
        if name == "requires_grad_" and not owner.objects():
            return replace(owner, obj=Obj())
        if name.endswith("_") and not name.startswith("_"):
            return self.in_place(owner, labels, node)
        if isinstance(owner.obj, Instance) and name in VIEWS and not args:
            return self.own(owner, name)
        mine = all_labels(owner)
        if ("library",) in mine:
            return self.generic(owner, args, kwargs, node)
        for one in given if name in CALLING else []:
            if isinstance(one.call, (Function, Bound)):
                self.call(one, [Value(labels=mine | labels)], {}, node)
        if name in SHAPED:
            labels = NONE
        total = mine | labels
        if PATH in total and name not in PATHS:
            total = total - {PATH} | ({TOKENS} if total & {VAL, TRAIN} else NONE)
        elif name not in KEEP_TOKENS and PATH not in total:
            total = self.content(total)
        return Value(labels=total, refs=owner.objects() if name in VIEWS else frozenset())

    def own(self, owner: Value, name: str) -> Value:
        """Of a module of the script: itself again, its parameters, its parts."""
        inner = owner.objects()
        if name in ("modules", "named_modules", "children", "named_children"):  # any of them: which is not known
            inner = frozenset(one for one in reachable(inner) if isinstance(one, Instance)) | {Obj()}
        if name in ("named_parameters", "named_modules", "named_children", "named_buffers", "items"):
            pair = Value(obj=Sequence(items=[ANYTHING, Value(refs=inner)]))
            return Value(obj=Sequence(items=[pair], exact=False))
        if name in ("modules", "children"):
            return Value(obj=Sequence(items=[Value(refs=inner)], exact=False))
        if name in ("parameters", "buffers", "state_dict", "values"):
            return Value(labels=owner.labels, refs=owner.objects())
        return owner

    def text_method(self, owner: Value, name: str, args: list[Value]) -> Value:
        if name == "join" and args and isinstance(args[0].obj, Sequence):
            items = args[0].obj.items
            const = owner.const.join(str(one.const) for one in items) if all(one.known for one in items) else UNKNOWN
        elif name == "split" and all(one.known for one in args):
            parts = folded(lambda: tuple(owner.const.split(*(one.const for one in args))))
            if parts is not UNKNOWN:
                return Value(obj=Sequence(items=[Value(const=one) for one in parts]))
            const = UNKNOWN
        elif all(one.known for one in args):
            const = folded(getattr(owner.const, name), *(one.const for one in args))
        else:
            for one in args if name == "format" else []:
                self.report(one, ast.Pass(lineno=0))
            const = UNKNOWN
        return Value(const=const, labels=labels_of_text(const) if isinstance(const, str) else NONE)

    def in_place(self, owner: Value, labels: Labels, node: ast.AST) -> Value:
        """add_, mul_, copy_: what it is called on has the labels of what is given from here on."""
        self.added(Value(labels=labels), node)
        self.change(owner, labels)
        found = replace(owner, const=UNKNOWN, labels=owner.labels | labels)
        if not owner.objects() and isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            target = node.func.value
            if isinstance(target, (ast.Name, ast.Attribute)):
                self.assign(_stored(target), found)
        return found

    def m_amin(self, owner: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        """The best of several scores side by side."""
        labels = all_labels(owner)
        if len(kind(labels, "loss")) < 2 or LN2 in labels or PACKED not in labels:
            return None
        return Value(labels=labels - {PACKED} | {chosen(getattr(node, "lineno", 0))})

    def m_softmax(self, owner: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        return Value(labels=self.content(all_labels(owner)) | {PROBABILITY})

    m_log_softmax = m_softmax

    m_amax = m_min = m_max = m_amin

    def m_logsumexp(self, owner: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        """What makes logits a distribution: of all the vocabulary, not of the target."""
        return Value(labels=frozenset(one for one in all_labels(owner) if one[0] == "learned"))

    def m_backward(self, owner: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        self.backward(owner, node)
        return NOTHING

    def m_step(self, owner: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        targets = args if args and isinstance(args[0].obj, Instance) else [owner]  # scaler.step(optimizer)
        for one in args:
            if isinstance(one.call, (Function, Bound)):  # LBFGS computes the loss itself
                self.call(one, [], {}, node)
        for one in targets:
            held = one.objects()
            self.teach(frozenset(obj for obj in reachable(held) if obj not in held), node)
        return NOTHING

    def m_zero_grad(self, owner: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        if not self.uncertain:
            self.pending.clear()
        return NOTHING

    def m_load_state_dict(self, owner: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        labels = all_labels(args[0]) if args else NONE
        labels = frozenset(one for one in labels if one[0] != "packed counts")  # what begins as counts is trained on
        kept = {one for one in labels if one[0] == "learned"}
        if VAL in labels and TOKENS not in labels:
            kept.add(learned(self.learn(CALIBRATION, labels, node).number))
        for one in reachable(owner.objects()):
            if not self.uncertain:
                one.labels = {label for label in one.labels if label[0] != "learned"}
            one.labels |= kept
        return ANYTHING

    def copy_into(self, owner: Value, value: Value, node: ast.AST) -> Value:
        """owner.copy_(value), owner.data = value: all that it was is gone."""
        labels = all_labels(value)
        if not self.uncertain and not kind(labels, "learned"):
            for one in owner.objects():
                one.labels = {label for label in one.labels if label[0] != "learned"}
        if VAL in labels and TOKENS not in labels and any(isinstance(one, Instance) for one in owner.objects()):
            labels = frozenset({learned(self.learn(CALIBRATION, labels, node).number)})
        self.change(owner, labels)
        return owner

    def m_copy_(self, owner: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        return self.copy_into(owner, args[0] if args else ANYTHING, node)

    def m_clone(self, owner: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        return Value(const=owner.const, labels=all_labels(owner))

    def m_state_dict(self, owner: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        return Value(labels=all_labels(owner), refs=owner.objects())

    def m_copy(self, owner: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        if isinstance(owner.obj, (Sequence, Mapping)):
            return replace(owner, obj=replace(owner.obj))
        return Value(const=owner.const, labels=all_labels(owner))

    def m_register_forward_hook(
        self, owner: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST
    ) -> Value:
        self.hooks += args[:1]
        return Value(labels=frozenset({("hook",)}))

    m_register_forward_pre_hook = m_register_forward_hook

    def m_remove(self, owner: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        if args:
            return None
        self.hooks.clear()
        return NOTHING

    def count(self, table: Value, key: Value, node: ast.AST) -> Labels:
        """What a table has learned where something is stored in it under a key of validation data."""
        keys = all_labels(key)
        if key.known and isinstance(key.const, str):
            return NONE
        if TRAIN in keys and (TOKENS in keys or kind(keys, "hashed") or MULTIPLIED in keys):
            return frozenset({packed_counts(getattr(node, "lineno", 0))})
        if VAL not in keys:
            return NONE
        event = self.learn(COUNT, keys, node)
        return frozenset({learned(event.number)})

    def scatter(self, owner: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        given = [*args, *kwargs.values()]
        labels = frozenset().union(*(all_labels(one) for one in given))
        counted: Labels = NONE
        for one in given:
            counted |= self.count(owner, one, node)
        self.added(Value(labels=labels), node)
        labels = counted or self.content(labels)
        self.change(owner, labels)
        return replace(owner, const=UNKNOWN, labels=owner.labels | labels)

    def lookup(self, base: Value, keys: Labels, node: ast.AST) -> int:
        number = len(self.trace.lookups)
        self.trace.lookups[number] = getattr(node, "lineno", 0)
        self.looked[number] = (self.place(node), base.objects(), frozenset(kind(keys, "site")))
        return number

    def m_gather(self, owner: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        index = kwargs.get("index") or (args[1] if len(args) > 1 else args[0] if args else ANYTHING)
        return self.gathered(owner, index, node)

    def m_index_select(self, owner: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        return self.gathered(owner, args[-1] if args else kwargs.get("index", ANYTHING), node)

    m_take = m_index_select

    def gathered(self, base: Value, index: Value, node: ast.AST) -> Value:
        labels, keys = all_labels(base), all_labels(index)
        if TOKENS in labels:
            extra = {site(self.now())} if labels & {VAL, TRAIN} else set()
            return Value(labels=labels | extra | self.content(keys))
        if TOKENS in keys and (labels & {VAL, TRAIN} or PROBABILITY in labels):
            return self.loss_of(labels, keys, node)
        if keys & {VAL, TRAIN} or kind(keys, "hashed"):
            return self.table(base, labels, keys, node)
        return Value(labels=labels | self.content(keys))


def _stored(target: ast.Name | ast.Attribute) -> ast.expr:
    twin = type(target)(**{name: getattr(target, name) for name in target._fields})
    twin.ctx = ast.Store()
    return ast.copy_location(twin, target)
