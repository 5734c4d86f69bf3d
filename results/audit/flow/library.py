"""What is known of the libraries that the race's scripts use, by the names of their functions."""

import ast
import math

from results.audit.flow.constants import FUNCTIONS, folded
from results.audit.flow.events import COUNT
from results.audit.flow.machine import labels_of_text
from results.audit.flow.standard import BuiltinCalls
from results.audit.flow.tensors import TensorCalls
from results.audit.flow.values import (
    ANYTHING,
    LN2,
    NONE,
    PATH,
    TOKENS,
    TRAIN,
    UNKNOWN,
    VAL,
    Bound,
    Class,
    Function,
    Instance,
    Labels,
    Library,
    Mapping,
    Obj,
    Sequence,
    Value,
    all_labels,
    learned,
)

PROCESSES = 8  # of the race's runs: rank 0 is followed
FIXED = {
    "torch.cuda.is_available": True,
    "torch.distributed.is_available": True,
    "torch.distributed.is_initialized": True,
    "torch.distributed.get_rank": 0,
    "torch.distributed.get_world_size": PROCESSES,
    "torch.cuda.device_count": PROCESSES,
    "os.path.exists": UNKNOWN,
}
CONSTANTS = {"math.pi": math.pi, "math.e": math.e, "math.inf": math.inf, "numpy.inf": math.inf, "numpy.pi": math.pi}
WRAPPERS = {
    *("compile", "DistributedDataParallel", "DDP", "DataParallel", "script", "FullyShardedDataParallel", "fully_shard"),
    *(
        "no_grad",
        "inference_mode",
        "lru_cache",
        "cache",
        "wraps",
        "jit",
        "njit",
        "disable",
        "allow_in_graph",
        "checkpoint",
    ),
}
MAKERS = {
    *(
        "zeros",
        "ones",
        "empty",
        "full",
        "rand",
        "randn",
        "randint",
        "zeros_like",
        "ones_like",
        "empty_like",
        "full_like",
    ),
    *("rand_like", "randn_like", "defaultdict", "Counter", "deque", "OrderedDict", "BytesIO", "StringIO", "new_zeros"),
    *("Queue", "Array", "RawArray", "SharedMemory", "GradScaler"),
}
KEEP_TOKENS = {
    *(
        "tensor",
        "as_tensor",
        "from_numpy",
        "asarray",
        "array",
        "stack",
        "cat",
        "concatenate",
        "concat",
        "where",
        "clone",
    ),
    *(
        "int",
        "list",
        "tolist",
        "sorted",
        "pad",
        "copy",
        "ascontiguousarray",
        "int64",
        "int32",
        "uint64",
        "uint32",
        "iter",
    ),
    *("reversed", "LongTensor", "hstack", "vstack", "flatnonzero", "frombuffer", "fromfile", "memmap", "load", "next"),
    *(
        "pad_sequence",
        "tuple",
        "enumerate",
        "zip",
        "set",
        "roll",
        "flip",
        "clip",
        "abs",
        "broadcast_to",
        "unique",
        "split",
    ),
    *("sliding_window_view", "empty_like", "array_split", "chunk", "narrow", "view", "reshape", "index_select", "take"),
    *(
        "to_device",
        "device_put",
        "cumsum_ids",
        "uint16",
        "int16",
        "ravel",
        "expand_dims",
        "chain",
        "islice",
        "clamp",
        "minimum",
        "maximum",
    ),
}
PATHS = {"glob", "iglob", "sorted", "join", "Path", "str", "list", "open", "basename", "abspath", "expanduser", "sort"}
NOT_DATA = {
    "exists",
    "isfile",
    "isdir",
    "getsize",
    "print",
    "makedirs",
    "len",
    "isinstance",
    "hasattr",
    "id",
    "is_tensor",
}
LOSSES = {"cross_entropy", "nll_loss", "linear_cross_entropy", "fused_linear_cross_entropy", "softmax_cross_entropy"}
CALLING = {
    "filter",
    "reduce",
    "vmap",
    "checkpoint",
    "apply_along_axis",
    "vectorize",
    "tree_map",
    "run",
    "launch",
    "sort",
}
COMPILED = {"CDLL", "LoadLibrary", "load_library", "load_inline", "RawModule", "RawKernel", "ElementwiseKernel", "cdll"}


class LibraryCalls(BuiltinCalls, TensorCalls):
    """Needs the calls of Calls."""

    def library_attribute(self, owner: Value, name: str) -> Value:
        full = f"{owner.call.name}.{name}"
        if owner.call.name == "builtins.super":
            return self.of_parent(name)
        if full == "sys.argv":
            return Value(obj=Sequence(items=[Value(const=one) for one in ("train_gpt.py", *self.arguments)]))
        if full in self.patched:
            return self.patched[full]
        if full in CONSTANTS:
            return Value(const=CONSTANTS[full])
        return Value(call=Library(full), labels=owner.labels, obj=owner.obj)

    def of_parent(self, name: str) -> Value:
        """super().name: of the class after the one whose method is running."""
        frame = next((one for one in reversed(self.stack) if isinstance(one.node, ast.FunctionDef)), None)
        if frame is None or not isinstance(frame.node, ast.FunctionDef) or not frame.node.args.args:
            return ANYTHING
        mine = frame.scope.find(frame.node.args.args[0].arg)
        if mine is None or not isinstance(mine.obj, Instance) or mine.obj.cls is None:
            return ANYTHING
        lineage = list(mine.obj.cls.lineage())
        running = [n for n, one in enumerate(lineage) if _defines(one, frame.node)]
        for one in lineage[running[0] + 1 if running else 1 :]:
            if name in one.attrs and isinstance(one.attrs[name].call, Function):
                return Value(call=Bound(one.attrs[name].call, (mine,)))
        return Value(call=Library(f"super.{name}"), obj=mine.obj)

    def library_item(self, call: Library, index: Value) -> Value:
        if call.name == "os.environ" and index.known:
            found = self.environment.get(str(index.const))
            return Value(const=UNKNOWN if found is None else found)
        return ANYTHING if not call.name.startswith("builtins.") else Value(call=call)

    def library_call(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        found = self.by_name(name, args, kwargs, node)
        if any(label[0] in ("ahead", "next") for label in found.labels):  # the smaller of two ends is an end
            return found.but(frozenset(label for label in found.labels if label[0] not in ("ahead", "next")))
        return found

    def by_name(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        last = name.rpartition(".")[2]
        if name in FIXED:
            return Value(const=FIXED[name])
        if (method := getattr(self, f"l_{last}", None)) is not None:
            found: Value | None = method(name, args, kwargs, node)
            if found is not None:
                return found
        given = [*args, *kwargs.values()]
        if name in FUNCTIONS and given and all(one.known for one in args) and not kwargs:
            const = folded(FUNCTIONS[name], *(one.const for one in args))
            if const is not UNKNOWN:
                return self.constant(const, frozenset().union(*(one.labels for one in args)))
        if last in LOSSES and len(given) >= 2:
            target = kwargs.get("target") or kwargs.get("labels") or (args[1] if len(args) > 1 else given[-1])
            return self.loss_of(all_labels(args[0] if args else given[0]), all_labels(target), node)
        if last in WRAPPERS:
            return self.wrapped(args, kwargs)
        if last in MAKERS:
            return self.made(last, args, kwargs)
        if name.startswith(("torch.nn.", "torch.optim.")) and last[:1].isupper():
            return self.part(name, args, kwargs)
        if "optim" in name.lower() and last[:1].isupper():
            return self.part(name, args, kwargs)
        if last in COMPILED or name.startswith(("ctypes.", "cffi.")):
            return Value(labels=frozenset({("library",)}), obj=Obj())
        if ("library",) in (frozenset().union(*(one.labels for one in given)) if given else NONE):
            return Value(labels=frozenset({("library",)}))
        return self.of_arguments(last, given, node)

    def constant(self, value: object, labels: Labels) -> Value:
        if isinstance(value, str):
            return Value(const=value, labels=labels_of_text(value))
        if isinstance(value, float) and abs(value - math.log(2)) < 1e-4:
            labels = labels | {LN2}
        return Value(const=value, labels=labels)

    def of_arguments(self, last: str, given: list[Value], node: ast.AST) -> Value:
        """A function of which only the name and what goes in are known."""
        if last in NOT_DATA:
            return ANYTHING
        labels: Labels = frozenset().union(*(all_labels(one) for one in given)) if given else NONE
        for one in given if last in CALLING else []:
            if isinstance(one.call, (Function, Bound)):
                self.call(one, [Value(labels=labels)], {}, node)
        if PATH in labels and last not in PATHS:
            labels = labels - {PATH} | ({TOKENS} if labels & {VAL, TRAIN} else NONE)
        elif last not in KEEP_TOKENS and PATH not in labels:
            labels = self.content(labels)
        refs = frozenset().union(*(one.objects() for one in given)) if given else frozenset()
        return Value(
            labels=labels, refs=refs if last in KEEP_TOKENS or last in ("list", "dict", "getattr") else frozenset()
        )

    def wrapped(self, args: list[Value], kwargs: dict[str, Value]) -> Value:
        """torch.compile(f), DDP(model), no_grad(): what is given; a decorator where nothing is."""
        found = args[0] if args else kwargs.get("module") or kwargs.get("model") or ANYTHING
        return found if found.call is not None or found.objects() else ANYTHING

    def made(self, last: str, args: list[Value], kwargs: dict[str, Value]) -> Value:
        if last in ("defaultdict", "Counter", "OrderedDict"):
            counted = next((one for one in args if all_labels(one) & {VAL}), None)
            obj: Obj = Mapping()
            if last == "Counter" and counted is not None:
                obj.labels.add(learned(self.learn(COUNT, all_labels(counted), ast.Pass(lineno=0)).number))
            return Value(obj=obj)
        if last in ("deque",):
            return Value(obj=Sequence(items=self.turns(args[0]) if args else [], exact=not args))
        return Value(obj=Obj())

    def part(self, name: str, args: list[Value], kwargs: dict[str, Value]) -> Value:
        """A layer, a container of layers, an optimizer, a criterion of torch."""
        last = name.rpartition(".")[2]
        if last in ("ModuleList", "Sequential", "ParameterList"):
            items = self.turns(args[0]) if last != "Sequential" and args else list(args)
            return Value(obj=Sequence(items=items, exact=last == "Sequential"))
        if last in ("ModuleDict", "ParameterDict"):
            return args[0] if args and isinstance(args[0].obj, Mapping) else Value(obj=Mapping())
        if last.endswith("Loss"):
            return Value(obj=Obj(labels={("criterion", 1)}))
        if "optim" in name.lower():
            given = args[0] if args else kwargs.get("params", ANYTHING)
            group = Value(obj=Mapping(items={"params": given}, rest=ANYTHING))
            groups = (
                given
                if isinstance(given.obj, Sequence) and any(isinstance(one.obj, Mapping) for one in given.obj.items)
                else Value(obj=Sequence(items=[group], exact=False))
            )
            return Value(obj=Instance(library="optimizer", attrs={"params": given, "param_groups": groups}))
        labels = frozenset().union(*(all_labels(one) for one in args)) if last == "Parameter" and args else NONE
        return Value(obj=Obj(), labels=labels, refs=args[0].objects() if last == "Parameter" and args else frozenset())


def _defines(cls: Class, node: ast.AST) -> bool:
    return any(isinstance(value.call, Function) and value.call.node is node for value in cls.attrs.values())
