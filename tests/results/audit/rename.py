"""Gives every identifier that a script chose itself a name that says nothing, without changing what the script does.

Renamed: functions, classes, variables, parameters (with the keyword arguments that name them), import aliases,
attributes and methods that the script itself defines. Kept: names of libraries, builtins, names with two underscores,
strings, attributes that a library has too, attributes of modules whose name the script also spells in a string
(patterns of state dicts, getattr), fields of dataclasses where the script walks them by name. Comments are lost. What
this Python cannot parse raises SyntaxError.
"""

import argparse
import ast
import builtins
import collections
import functools
import io
import json
import keyword
import math
import os
import pathlib
import random
import re
import sys
import time

import numpy as np
import sentencepiece
import torch
import torch.distributed

FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
BUILTINS = set(dir(builtins)) | {"__file__", "__name__", "__doc__", "self", "cls"}
# Attributes that are libraries' own, besides those that are read off them below.
EXTRA_LIB = {
    *("weight", "bias", "training", "in_features", "out_features", "param_groups", "state", "defaults", "grad"),
    *("embedding_dim", "num_embeddings", "require_backward_grad_sync", "data", "shape", "dtype", "device", "T"),
    *("mT", "H", "ndim", "size", "numel", "forward", "backward", "step", "zero_grad", "parameters"),
    *("state_dict", "load_state_dict", "train", "eval", "to", "cuda", "cpu", "reset", "read", "write", "close"),
    *("seek", "tell", "name", "parts", "parent", "stem", "suffix", "stdout", "stderr", "returncode"),
    *("allow_tf32", "optimize_ddp", "argtypes", "restype", "learning_rate", "update", "stride", "seed", "rank"),
    *("world_size", "result", "submit", "queue"),
}


@functools.cache
def library_attributes():
    layer = torch.nn.Linear(1, 1)
    objects = [int, float, str, bytes, list, dict, set, tuple, complex, type, object, os, os.path, math, time, io]
    objects += [io.BytesIO, pathlib.Path, collections, argparse, json, re, sys, random, random.Random]
    objects += [np, np.ndarray, np.random, np.random.Generator, np.dtype, sentencepiece.SentencePieceProcessor]
    objects += [torch, torch.Tensor, torch.nn, torch.nn.Module, torch.nn.functional, torch.optim, torch.cuda]
    objects += [torch.optim.Optimizer, torch.distributed, torch.Generator, torch.device, torch.utils, torch.linalg]
    objects += [torch.autograd, torch.autograd.Function, layer, torch.nn.Embedding(1, 1)]
    objects += [torch.optim.SGD([layer.weight], lr=1.0)]
    return EXTRA_LIB.union(*map(dir, objects))


def dunder(n):
    return n.startswith("__") and n.endswith("__")


class Collect(ast.NodeVisitor):
    """What the script defines: plain names, attributes, functions with their parameters."""

    def __init__(self):
        self.names, self.attrs, self.module_attrs = set(), set(), set()
        self.imported, self.funcs, self.classes = set(), {}, {}
        self.strings, self.plain_imports = [], set()
        self.dataclass_fields, self.field_walk, self.globals_walk = set(), False, False
        self.module_level, self.stack = set(), []
        self.loose_attr_stores, self.namespace_keys = [], set()
        self.spelled = set()

    # definitions
    def visit_ClassDef(self, node):
        (self.attrs if self.stack and self.stack[-1][0] == "class" else self.names).add(node.name)
        bases = [
            b.id if isinstance(b, ast.Name) else b.attr if isinstance(b, ast.Attribute) else "" for b in node.bases
        ]
        info = self.classes.setdefault(node.name, {"bases": bases, "own": set(), "params": set(), "module": False})
        is_data = any("dataclass" in ast.dump(d) for d in node.decorator_list) or "NamedTuple" in bases
        for st in node.body:
            targets = []
            if isinstance(st, ast.Assign):
                targets = st.targets
            elif isinstance(st, (ast.AnnAssign, ast.AugAssign)):
                targets = [st.target]
            for t in targets:
                for n in ast.walk(t):
                    if isinstance(n, ast.Name):
                        info["own"].add(n.id)
                        if is_data:
                            info["params"].add(n.id)
                            if "NamedTuple" not in bases:
                                self.dataclass_fields.add(n.id)
            if isinstance(st, (*FUNCTION, ast.ClassDef)):
                info["own"].add(st.name)
            for n in ast.walk(st):
                if (
                    not isinstance(st, (*FUNCTION, ast.ClassDef))
                    and isinstance(n, ast.Name)
                    and isinstance(n.ctx, ast.Store)
                ):
                    info["own"].add(n.id)
        self.attrs |= {n for n in info["own"] if not dunder(n)}
        for d in node.decorator_list + node.bases + [k.value for k in node.keywords]:
            self.visit(d)
        self.stack.append(("class", node.name))
        for st in node.body:
            self.visit(st)
        self.stack.pop()

    def _function(self, node):
        in_class = bool(self.stack) and self.stack[-1][0] == "class"
        a = node.args
        params = {p.arg for p in a.posonlyargs + a.args + a.kwonlyargs}
        if not in_class:
            self.names.add(node.name)
        self.funcs.setdefault(node.name, set()).update(params)
        if in_class and node.name in ("__init__", "__new__"):
            self.classes[self.stack[-1][1]]["params"] |= params
        if in_class and node.name == "__call__":
            self.funcs.setdefault("forward", set()).update(params)
        first = (a.posonlyargs + a.args)[:1]
        static = any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in node.decorator_list)
        owner = next((f[1] for f in reversed(self.stack) if f[0] == "class"), None)
        self.stack.append(("def", node.name, first[0].arg if in_class and first and not static else None, owner))
        for d in node.decorator_list:
            self.visit(d)
        self.visit(a)
        if node.returns:
            self.visit(node.returns)
        for st in node.body:
            self.visit(st)
        self.stack.pop()

    visit_FunctionDef = visit_AsyncFunctionDef = _function

    def visit_arg(self, node):
        self.names.add(node.arg)
        self.generic_visit(node)

    def visit_Name(self, node):
        if isinstance(node.ctx, (ast.Store, ast.Del)):
            if self.stack and self.stack[-1][0] == "class":
                self.attrs.add(node.id)
            else:
                self.names.add(node.id)
                if not self.stack:
                    self.module_level.add(node.id)

    def visit_Attribute(self, node):
        if isinstance(node.ctx, ast.Store):
            base = node.value.id if isinstance(node.value, ast.Name) else None
            frames = [f for f in self.stack if f[0] == "def" and f[2] is not None]
            if base is not None and any(f[2] == base for f in frames):
                self.attrs.add(node.attr)
                f = next(f for f in reversed(frames) if f[2] == base)
                if f[3]:
                    self.classes[f[3]].setdefault("inst", set()).add(node.attr)
            elif base is not None:
                self.loose_attr_stores.append((base, node.attr))
        self.generic_visit(node)

    def visit_ExceptHandler(self, node):
        if node.name:
            self.names.add(node.name)
        self.generic_visit(node)

    def visit_Import(self, node):
        for al in node.names:
            if al.asname:
                self.names.add(al.asname)
                self.imported.add(al.asname)
            else:
                self.plain_imports.add(al.name.split(".")[0])

    def visit_ImportFrom(self, node):
        for al in node.names:
            if al.asname and node.module != "__future__":
                self.names.add(al.asname)
                self.imported.add(al.asname)
            else:
                self.plain_imports.add(al.name)

    def visit_MatchAs(self, node):
        if node.name:
            self.names.add(node.name)
        self.generic_visit(node)

    visit_MatchStar = visit_MatchAs

    def visit_Constant(self, node):
        if isinstance(node.value, str):
            self.strings.append(node.value)

    def visit_Call(self, node):
        f = node.func
        name = f.id if isinstance(f, ast.Name) else f.attr if isinstance(f, ast.Attribute) else ""
        if name in ("fields", "asdict", "replace") and (
            isinstance(f, ast.Name) or getattr(f.value, "id", "") == "dataclasses"
        ):
            self.field_walk = True
        if name in ("globals", "locals"):
            self.globals_walk = True
        if name == "SimpleNamespace":
            self.namespace_keys |= {k.arg for k in node.keywords if k.arg}
        if name in (
            "getattr",
            "setattr",
            "hasattr",
            "delattr",
            "register_buffer",
            "register_parameter",
            "add_module",
            "attrgetter",
            "methodcaller",
        ):
            self.spelled |= {a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)}
        if name == "vars" or name == "__dict__":
            self.spelled |= {s for s in self.strings if s.isidentifier()}
        self.generic_visit(node)


class Renamer(ast.NodeTransformer):
    def __init__(self, col, name_map, attr_map):
        self.c, self.n, self.a, self.stack = col, name_map, attr_map, []

    def _class_scope(self):
        return self.stack and self.stack[-1][0] == "class"

    def name(self, ident):
        if self._class_scope() and ident in self.c.classes[self.stack[-1][1]]["own"]:
            return self.a.get(ident, ident)
        return self.n.get(ident, ident)

    def visit_Name(self, node):
        node.id = self.name(node.id)
        return node

    def visit_Attribute(self, node):
        self.generic_visit(node)
        node.attr = self.a.get(node.attr, node.attr)
        return node

    def visit_arg(self, node):
        if node.annotation:
            node.annotation = self.visit(node.annotation)
        node.arg = self.n.get(node.arg, node.arg)
        return node

    def visit_ClassDef(self, node):
        node.decorator_list = [self.visit(d) for d in node.decorator_list]
        node.bases = [self.visit(b) for b in node.bases]
        node.keywords = [self.visit(k) for k in node.keywords]
        original = node.name
        node.name = self.a.get(original, original) if self._class_scope() else self.n.get(original, original)
        self.stack.append(("class", original))
        node.body = [self.visit(s) for s in node.body]
        self.stack.pop()
        return node

    def _function(self, node):
        node.decorator_list = [self.visit(d) for d in node.decorator_list]
        if node.returns:
            node.returns = self.visit(node.returns)
        a = node.args
        a.defaults = [self.visit(d) for d in a.defaults]
        a.kw_defaults = [d and self.visit(d) for d in a.kw_defaults]
        original = node.name
        node.name = self.a.get(original, original) if self._class_scope() else self.n.get(original, original)
        self.stack.append(("def", original))
        for p in a.posonlyargs + a.args + a.kwonlyargs + [x for x in (a.vararg, a.kwarg) if x]:
            self.visit(p)
        node.body = [self.visit(s) for s in node.body]
        self.stack.pop()
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = _function

    def visit_Lambda(self, node):
        a = node.args
        a.defaults = [self.visit(d) for d in a.defaults]
        a.kw_defaults = [d and self.visit(d) for d in a.kw_defaults]
        self.stack.append(("def", "<lambda>"))
        for p in a.posonlyargs + a.args + a.kwonlyargs + [x for x in (a.vararg, a.kwarg) if x]:
            self.visit(p)
        node.body = self.visit(node.body)
        self.stack.pop()
        return node

    def visit_Global(self, node):
        node.names = [self.n.get(x, x) for x in node.names]
        return node

    visit_Nonlocal = visit_Global

    def visit_ExceptHandler(self, node):
        if node.name:
            node.name = self.n.get(node.name, node.name)
        return self.generic_visit(node)

    def visit_alias(self, node):
        if node.asname:
            node.asname = self.n.get(node.asname, node.asname)
        return node

    def visit_MatchAs(self, node):
        if node.name:
            node.name = self.n.get(node.name, node.name)
        return self.generic_visit(node)

    visit_MatchStar = visit_MatchAs

    def _root(self, f):
        while isinstance(f, (ast.Attribute, ast.Call, ast.Subscript)):
            f = f.value if not isinstance(f, ast.Call) else f.func
        return f.id if isinstance(f, ast.Name) else None

    def _kw_params(self, node):
        """Parameter names a keyword of this call may mean, or None: leave the keywords alone."""
        c, f = self.c, node.func
        everything = set().union(*c.funcs.values()) if c.funcs else set()
        if isinstance(f, ast.Name):
            if f.id in c.classes:
                out, seen, todo = set(), set(), [f.id]
                while todo:
                    k = todo.pop()
                    if k in c.classes and k not in seen:
                        seen.add(k)
                        out |= c.classes[k]["params"]
                        todo += c.classes[k]["bases"]
                return out
            if f.id in c.funcs:
                return c.funcs[f.id] | (everything if self._takes_kwargs(f.id) else set())
            if f.id == "cls":
                owner = next((f[1] for f in reversed(self.stack) if f[0] == "class"), None)
                return c.classes[owner]["params"] if owner else None
            if f.id in c.imported or f.id in c.plain_imports or (f.id in BUILTINS and f.id not in c.names):
                return everything if f.id == "partial" else None
            return everything if f.id in c.names else None
        if isinstance(f, ast.Attribute):
            if f.attr == "__init__":
                owner = next((f[1] for f in reversed(self.stack) if f[0] == "class"), None)
                out = set()
                for b in c.classes[owner]["bases"] if owner else []:
                    out |= c.classes.get(b, {"params": set()})["params"]
                return out or None
            root = self._root(f)
            if root in c.imported or (root in c.plain_imports and root not in c.names):
                return everything if f.attr == "partial" else None
            if f.attr in c.classes:
                return c.classes[f.attr]["params"]
            if f.attr in c.funcs:
                return c.funcs[f.attr]
            return everything if f.attr in self.a or f.attr in c.attrs else None
        return everything  # the result of a call, a subscript: user callables

    def _takes_kwargs(self, name):
        return name in self.kwargs_funcs

    def visit_Call(self, node):
        f = node.func
        is_ns = (isinstance(f, ast.Name) and f.id == "SimpleNamespace") or (
            isinstance(f, ast.Attribute) and f.attr == "SimpleNamespace"
        )
        params = None if is_ns else self._kw_params(node)
        is_class = isinstance(f, ast.Name) and (f.id in self.c.classes or f.id == "cls")
        fields = self.c.classes[f.id]["own"] if isinstance(f, ast.Name) and f.id in self.c.classes else set()
        for k in node.keywords:
            if k.arg is None:
                continue
            if is_ns:
                k.arg = self.a.get(k.arg, k.arg)
            elif params is not None and k.arg in params:
                k.arg = self.a.get(k.arg, k.arg) if is_class and k.arg in fields else self.n.get(k.arg, k.arg)
        return self.generic_visit(node)


def derived_from_module(col):
    out = set()
    grew = True
    while grew:
        grew = False
        for name, info in col.classes.items():
            if name not in out and any(
                b in ("Module", "Linear", "Embedding", "ModuleList") or b in out for b in info["bases"]
            ):
                out.add(name)
                grew = True
    return out


def kept(c, lib):
    """Names and attributes of the script's own that must stay as they are."""
    modules = derived_from_module(c)
    of_modules = set().union(*(c.classes[m].get("inst", set()) | c.classes[m]["own"] for m in modules))
    short = {s for s in c.strings if s and not re.search(r"\s", s) and len(s) < 400}
    words = {w for s in short for w in re.findall(r"[A-Za-z_][A-Za-z_0-9]*", s)}
    parts = {s.strip("._") for s in short if len(s) >= 3 and re.fullmatch(r"[A-Za-z_0-9.]+", s)} - {""}
    attributes = {a for a in c.attrs if a in lib or dunder(a) or a in c.spelled}
    attributes |= {a for a in of_modules if a in words or any(s in a for s in parts)}
    if c.field_walk:
        attributes |= c.dataclass_fields
    names = {n for n in c.names if n in BUILTINS or dunder(n) or n in c.plain_imports or n == "_"}
    if c.globals_walk:
        names |= c.module_level | c.spelled
    return names, attributes


def rename(source: str, seed: int = 0) -> str:
    """The script under other names, drawn by the seed."""
    tree = ast.parse(source)
    c = Collect()
    c.visit(tree)
    lib = library_attributes()
    for base, attr in c.loose_attr_stores:  # f.x = ... on a function of the script, or on an instance: only its own
        if base in c.funcs and attr not in lib:
            c.attrs.add(attr)
    c.attrs |= c.namespace_keys
    keep_names, keep_attributes = kept(c, lib)
    taken = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
    taken |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    taken |= c.names | c.attrs | lib | BUILTINS | set(keyword.kwlist)
    count = len(c.names | c.attrs) // 8 + 50
    pool = [f"{a}{i}" for i in range(10, count) for a in "abcdefghkmnpqrstuvwxyz" if f"{a}{i}" not in taken]
    random.Random(seed).shuffle(pool)
    fresh = {own: pool.pop() for own in sorted(c.names | c.attrs)}  # one for a name and for an attribute of that name
    attributes = {a: fresh[a] for a in c.attrs - keep_attributes}
    renamer = Renamer(c, {n: fresh[n] for n in c.names - keep_names}, attributes)
    renamer.kwargs_funcs = {n.name for n in ast.walk(tree) if isinstance(n, FUNCTION) and n.args.kwarg}
    return ast.unparse(ast.fix_missing_locations(renamer.visit(tree))) + "\n"
