"""Files beside a script that it names: modules it imports, scripts it starts, sources in C; and C code in strings."""

import ast
import re
import sys
from collections.abc import Iterator

from results.audit.source.files import Beside

FOREIGN = (".c", ".cc", ".cpp", ".cxx", ".cu", ".cuh", ".h", ".hpp", ".triton", ".rs")
NAMED = re.compile(r"(?:[\w.-]+/){0,3}[\w.-]+\.(?:py|c|cc|cpp|cxx|cu|cuh|h|hpp)")
MIN_C = 120  # characters of a string that can be a source in C
C_CODE = re.compile(
    r"#\s*include\s*[<\"]|__global__|extern\s+\"C\"|TORCH_LIBRARY|PYBIND11_MODULE|"
    r"\b(?:void|int|float|double|char|bool|u?int\d+_t|size_t|auto)\b[\s*&]+\w+\s*\([^;{}]*\)\s*\{"
)


def named_modules(tree: ast.Module, package: str, beside: Beside) -> Iterator[str]:
    """Places of the Python files beside the script that it imports or names, in the order of the source."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _module(alias.name, "", beside)
        elif isinstance(node, ast.ImportFrom):
            inside = "" if not node.level else "/".join(package.split("/")[: -1 - (node.level - 1) or None][:-1])
            base = package.rpartition("/")[0] if node.level == 1 else inside
            yield from _module(node.module or "", base if node.level else "", beside)
            for alias in node.names:
                yield from _module(
                    ".".join(part for part in (node.module, alias.name) if part), base if node.level else "", beside
                )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < 4096:
            yield from (name for name in NAMED.findall(node.value) if name.endswith(".py") and beside.has(name))
            if re.fullmatch(r"[A-Za-z_]\w{1,60}", node.value) and beside.has(f"{node.value}.py"):
                yield f"{node.value}.py"  # importlib.import_module("name")


def _module(dotted: str, base: str, beside: Beside) -> Iterator[str]:
    """The file of a dotted name, and those of the packages on the way."""
    parts = [part for part in dotted.split(".") if part]
    if not base and parts and parts[0] in sys.builtin_module_names:
        return
    for many in range(1, len(parts) + 1):
        stem = "/".join([*([base] if base else []), *parts[:many]])
        for name in (f"{stem}.py", f"{stem}/__init__.py"):
            if beside.has(name):
                yield name
                break


def named_sources(tree: ast.Module, beside: Beside) -> Iterator[str]:
    """Places of the C, C++ and CUDA files beside the script that it names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < 4096:
            for name in NAMED.findall(node.value):
                if name.endswith(FOREIGN) and beside.has(name):
                    yield name


def c_in_strings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, text) of the string constants that are sources in C."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes) and len(node.value) >= MIN_C:
            text = node.value if isinstance(node.value, str) else node.value.decode("utf-8", "replace")
            if C_CODE.search(text) and "{" in text and ";" in text:
                yield node.lineno, text
