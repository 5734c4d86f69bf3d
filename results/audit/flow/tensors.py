"""Functions of torch and numpy that look at a target, mix, count, or learn."""

import ast
import math

from results.audit.flow.events import COUNT
from results.audit.flow.machine import Machine
from results.audit.flow.values import (
    ANYTHING,
    LN2,
    NONE,
    NOTHING,
    PACKED,
    PROBABILITY,
    TOKENS,
    TRAIN,
    VAL,
    Obj,
    Sequence,
    Value,
    all_labels,
    best,
    chosen,
    kind,
    learned,
    site,
)


class TensorCalls(Machine):
    """Needs the calls of Calls."""

    def l_tensor(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        if not args:
            return None
        labels = all_labels(args[0])
        if isinstance(args[0].obj, Sequence) and len(args[0].obj.items) > 1 and kind(labels, "loss"):
            labels |= {PACKED}
            for one in args[0].obj.items:
                self.added(one, node)
        slots = {}
        if isinstance(args[0].obj, Sequence) and args[0].obj.exact:
            slots = {f"[{number}]": one for number, one in enumerate(args[0].obj.items)}
        return Value(labels=labels, obj=Obj(attrs=slots))

    l_as_tensor = l_array = l_asarray = l_stack = l_cat = l_concatenate = l_hstack = l_tensor

    def l_Parameter(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        return Value(obj=Obj(), labels=self.content(all_labels(args[0])) if args else NONE)

    def l_softmax(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        labels = frozenset().union(*(all_labels(one) for one in args)) if args else NONE
        return Value(labels=self.content(labels) | {PROBABILITY})

    l_log_softmax = l_softmax

    def l_logsumexp(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        return Value(labels=frozenset(one for one in all_labels(args[0]) if one[0] == "learned")) if args else None

    def l_sum(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        if args:
            self.added(self.element(args[0]) if isinstance(args[0].obj, Sequence) else args[0], node)
        return None

    l_mean = l_fsum = l_nansum = l_sum

    def l_roll(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        if not args or TOKENS not in all_labels(args[0]):
            return None
        return Value(labels=all_labels(args[0]) | {site(self.now())})

    def l_gather(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        if "distributed" in name or name.startswith("dist"):
            return self.l_all_gather(name, args, kwargs, node)
        base = args[0] if args else kwargs.get("input", ANYTHING)
        index = kwargs.get("index") or (args[-1] if len(args) > 1 else ANYTHING)
        return self.gathered(base, index, node)

    def l_take_along_axis(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        if len(args) < 2:
            return None
        return self.gathered(args[0], args[1], node)

    l_take_along_dim = l_take = l_index_select = l_take_along_axis

    def l_all_gather(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        """What the other ranks have is like what this one has."""
        for into in [one for one in (*args, *kwargs.values()) if isinstance(one.obj, Sequence)]:
            assert isinstance(into.obj, Sequence)
            sent = [one for one in args if one is not into]
            if sent and all(item.const is None or not item.labels for item in into.obj.items):
                into.obj.items, into.obj.exact = [sent[0]], False
        return NOTHING

    l_gather_object = l_all_gather_object = l_all_gather

    def l_minimum(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        if len(args) == 1 and isinstance(args[0].obj, Sequence) and args[0].obj.items:
            args = args[0].obj.items  # of a list
        labels = [all_labels(one) for one in args]
        scores = [one for one in labels if kind(one, "loss") or kind(one, "found by hash") or kind(one, "read")]
        total = frozenset().union(*labels) if labels else NONE
        if len(scores) >= 2 and any(kind(one, "loss") for one in scores) and LN2 not in total:
            total |= {chosen(getattr(node, "lineno", 0))}
        if len([one for one in labels if LN2 in one and kind(one, "loss")]) >= 2:
            total |= {best(getattr(node, "lineno", 0))}
        if all(one.known for one in args):
            return None
        return Value(labels=self.content(total) if kind(total, "loss") else total)

    l_maximum = l_fmin = l_fmax = l_min = l_max = l_minimum

    def l_where(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        if len(args) != 3:
            return None
        test, *ways = (all_labels(one) for one in args)
        total = frozenset().union(*ways)
        if kind(test, "loss") and kind(total, "loss"):
            total |= {chosen(getattr(node, "lineno", 0))}
        extra = frozenset(
            one for one in test if one[0] in ("learned", "read", "looked up", "site", "equals", "found by hash")
        )
        return Value(labels=total | extra, refs=args[1].objects() | args[2].objects())

    def l_log(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        if args and args[0].known and args[0].const in (2, 2.0):
            return Value(const=math.log(2), labels=frozenset({LN2}))
        return None

    def l_log2(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        labels = all_labels(args[0]) if args else NONE
        return Value(labels=self.content(labels) | {LN2})

    def l_bincount(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        labels = all_labels(args[0]) if args else NONE
        if VAL not in labels:
            return None
        return Value(labels=frozenset({learned(self.learn(COUNT, labels, node).number)}), obj=Obj())

    def l_at(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        """numpy.add.at(table, keys, 1)"""
        if len(args) < 2:
            return None
        labels = self.count(args[0], args[1], node)
        self.change(args[0], labels or frozenset().union(*(all_labels(one) for one in args[1:])))
        return NOTHING

    def l_grad(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        if not name.endswith("autograd.grad") or not args:
            return None
        return Value(labels=self.backward(args[0], node))

    def l_backward(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        if args:
            self.backward(args[0], node)
        return NOTHING

    def l_apply(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value | None:
        """autograd.Function of the script: a loss, where logits and token ids go in."""
        ids = [one for one in args if TOKENS in all_labels(one)]
        rest = [one for one in args if all_labels(one) & {VAL, TRAIN} and TOKENS not in all_labels(one)]
        if ids and rest:
            return self.loss_of(all_labels(rest[0]), all_labels(ids[0]), node)
        return None
