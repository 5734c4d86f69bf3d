"""The config that a bundle was frozen with, read from its text, packed or not: parsed, never executed."""

import ast
import functools
import typing
import unicodedata

from golf_core.bundle_pack import readable_source


def frozen_config(code: str) -> dict[str, typing.Any] | None:
    """What the one `CONFIG = Config(...)` of a bundle says; None where it has no such expression of plain values.

    >>> frozen_config("CONFIG = Config(name='a', model=ModelConfig(layers=4))")
    {'name': 'a', 'model': {'layers': 4}}
    >>> frozen_config("CONFIG = Config(name='a')\\nCONFIG = other(CONFIG)") is None
    True
    """
    try:
        source = readable_source(code)
        head, mark, tail = source.partition("\nCONFIG = Config(")
        if mark and _never_writes_config(head + "\n"):  # two whole programs are, one after the other, one
            source = mark + tail
        tree = ast.parse(source)
        writes = [node for node in ast.walk(tree) if _writes_config(node)]
        for node in tree.body:
            if isinstance(node, ast.Assign) and node.targets == writes and isinstance(node.value, ast.Call):
                return _fields(node.value)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        pass  # another program, whatever it is
    return None


@functools.lru_cache(maxsize=16)
def _never_writes_config(code: str) -> bool:
    """Whether this is a whole program that leaves CONFIG alone. Many bundles begin with the same one."""
    try:
        nodes = ast.walk(ast.parse(code))
    except (SyntaxError, ValueError):
        return False
    named = "CONFIG" in unicodedata.normalize("NFKC", code)  # as Python reads names
    return not named or not any(_writes_config(node) for node in nodes)


def _writes_config(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "CONFIG" and not isinstance(node.ctx, ast.Load)


def _fields(call: ast.Call) -> dict[str, typing.Any]:
    """Keyword arguments as nested plain data. Raises ValueError for anything else."""
    if call.args or not isinstance(call.func, ast.Name) or not call.func.id.endswith("Config"):
        raise ValueError("not a config")
    found: dict[str, typing.Any] = {}
    for keyword in call.keywords:
        if keyword.arg is None:
            raise ValueError("fields from elsewhere")
        value = keyword.value
        found[keyword.arg] = _fields(value) if isinstance(value, ast.Call) else _plain(value)
    return found


def _plain(node: ast.expr) -> str | int | float | bool | None:
    value = ast.literal_eval(node)
    if value is not None and not isinstance(value, (str, int, float)):
        raise ValueError("not a plain value")
    return value
