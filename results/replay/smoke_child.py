"""Run by path in the sandbox: imports one script, never as a program, and says what it finds. Stands alone.

    python smoke_child.py SCRIPT REPORT

Packages that exist for GPUs alone are stood in for where they are missing: their names can be taken and called, and
give nothing. Whatever else is missing is missing.
"""

import builtins
import dataclasses
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import sys
import time
import traceback
import types
from typing import Any

FOR_GPUS = (
    *("flash_attn", "flash_attn_interface", "flash_attn_3", "flash_attn_2_cuda", "hopper", "triton", "cupy", "pynvml"),
    *("transformer_engine", "xformers", "apex", "deep_gemm", "cutlass", "tilelang", "kernels", "causal_conv1d"),
    *("mamba_ssm", "fla", "torchao", "liger_kernel", "bitsandbytes", "nvtx"),
)
# What people call these: attributes of a class, of an instance, or names of the module; the first that is there counts.
NAMES = {
    "width": ("model_dim", "n_embd", "d_model", "hidden_size", "hidden_dim", "embed_dim", "n_embed", "width", "dim"),
    "layers": ("num_layers", "n_layer", "n_layers", "num_hidden_layers", "depth", "layers"),
    "vocabulary": ("vocab_size", "n_vocab", "num_vocab", "vocab"),
}
LIBRARIES = ("torch", "numpy", "scipy", "transformers", "sentencepiece")
CLASSES = ("hyperparameters", "hparams", "config", "gptconfig", "modelconfig", "args", "hp", "cfg", "settings")
LARGEST = 10_000_000


class Nothing:
    """Stands in for anything of a missing package: can be called, subscripted, inherited from, or used to decorate."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return args[0] if len(args) == 1 and callable(args[0]) and not kwargs else Nothing()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Nothing()

    def __getitem__(self, key: Any) -> Any:
        return Nothing()

    def __mro_entries__(self, bases: Any) -> tuple[type, ...]:
        return (Nothing,)


class StandIn(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Nothing()


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """The last to be asked: only for what nobody else has."""

    def __init__(self) -> None:
        self.given: dict[str, None] = {}

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        top = name.partition(".")[0]
        if top not in FOR_GPUS or (top in sys.modules and not isinstance(sys.modules[top], StandIn)):
            return None
        self.given[top] = None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: Any) -> types.ModuleType:
        return StandIn(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def is_installed(name: str) -> bool:
    """Whether anybody but the finder of stand-ins has it."""
    finders = [one for one in sys.meta_path if not isinstance(one, Finder)]
    return any(one.find_spec(name, None) is not None for one in finders)


def hide_from_libraries(given: dict[str, None]) -> None:
    """Torch looks for Triton by itself, and would take a stand-in for the real one: to libraries there is none."""
    plain = builtins.__import__

    def guarded(name: str, scope: Any = None, *more: Any, **named: Any) -> Any:
        asked_by = str((scope or {}).get("__name__", "")).partition(".")[0]
        top = name.partition(".")[0]
        if asked_by in LIBRARIES and top in FOR_GPUS and (top in given or not is_installed(top)):
            raise ModuleNotFoundError(f"No module named {top!r}", name=top)
        return plain(name, scope, *more, **named)

    vars(builtins)["__import__"] = guarded


def number(value: Any) -> int | None:
    """A count, written as a number or as the text of one."""
    if isinstance(value, str) and value.isdigit() and len(value) < 9:
        value = int(value)
    return value if type(value) is int and 0 < value < LARGEST else None


def places(module: types.ModuleType) -> list[tuple[str, dict[str, Any]]]:
    """(name, values) of what may hold hyperparameters: the likeliest first, and what was built before its class."""
    found: list[tuple[bool, bool, str, dict[str, Any]]] = []
    for name, value in vars(module).items():
        is_class = isinstance(value, type)
        kind = value if is_class else type(value)
        if name.startswith("__") or not (isinstance(value, dict) or kind.__module__ == module.__name__):
            continue
        values = {key: one for key, one in values_of(value).items() if isinstance(key, str)}
        unlikely = name.lower() not in CLASSES and kind.__name__.lower() not in CLASSES
        found.append((unlikely, is_class, name, values))
        inner = [(key, one) for key, one in values.items() if dataclasses.is_dataclass(one)]
        found += [(unlikely, is_class, f"{name}.{key}", values_of(one)) for key, one in inner]
    found.append((True, False, "the module", dict(vars(module))))
    return [(name, values) for *_, name, values in sorted(found, key=lambda one: one[:2])]


def values_of(value: Any) -> dict[Any, Any]:
    if isinstance(value, dict):
        return value
    told: dict[Any, Any] = {}
    for one in reversed(value.__mro__) if isinstance(value, type) else (*reversed(type(value).__mro__), value):
        told |= dict(getattr(one, "__dict__", {}))
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            if field.default is not dataclasses.MISSING:
                told.setdefault(field.name, field.default)
    return told


def hyperparameters(module: types.ModuleType) -> dict[str, Any]:
    """Of each: the first number under one of its names, and where it stands."""
    found: dict[str, Any] = {}
    every = places(module)
    for what, names in NAMES.items():
        told = (
            (value, f"{place}.{name}")
            for place, values in every
            for name in (*names, *(one.upper() for one in names))
            if (value := number(values.get(name))) is not None
        )
        if (first := next(told, None)) is not None:
            found[what], found[f"{what}_from"] = first
    return found


def main() -> int:
    script, report = sys.argv[1:3]
    finder = Finder()
    sys.meta_path.append(finder)
    hide_from_libraries(finder.given)
    sys.path.insert(0, os.path.dirname(script))
    sys.argv = [script]
    told: dict[str, Any] = {"error": ""}
    began, cpu = time.monotonic(), time.process_time()
    try:
        spec = importlib.util.spec_from_file_location("train_gpt", script)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["train_gpt"] = module
        spec.loader.exec_module(module)
        told |= hyperparameters(module)
    except BaseException as error:
        at = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == script]
        line = getattr(error, "lineno", None) if isinstance(error, SyntaxError) else at[-1].lineno if at else None
        told["error"] = f"{type(error).__name__}: {error}"[:400] + (f" (line {line})" if line else "")
    told["import_seconds"] = time.monotonic() - began
    told["import_cpu_seconds"] = time.process_time() - cpu
    told["stand_ins"] = list(finder.given)
    with open(report, "w", encoding="utf-8") as file:
        json.dump(told, file)
    sys.stdout.flush()
    os._exit(0)  # whatever threads it started


if __name__ == "__main__":
    main()
