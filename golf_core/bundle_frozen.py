"""Config modules as a bundle needs them: a bundle's config is frozen and has passed its checks, so it carries the
fields with plain defaults, and neither the checks nor the list of other implementations. No torch here.
"""

import ast

CONFIG_MODULES = "golf_core.config"
CHECKED_FIELDS = "golf_core.fields"
PART_FIELDS = ("choice", "switch")  # their second argument is the default


def without_checks(text: str) -> str:
    """The source of a config module without `__post_init__`, `_check...` methods and imports of golf_core.fields;
    `choice` and `switch` fields become plain ones. Comments and everything else stay."""
    tree = ast.parse(text)
    lines = text.splitlines(keepends=True)
    for node in reversed(tree.body):
        if isinstance(node, ast.ImportFrom) and node.module == CHECKED_FIELDS:
            del lines[node.lineno - 1 : node.end_lineno]
        elif isinstance(node, ast.ClassDef):
            for statement in reversed(node.body):
                _replace(lines, statement, text)
    return "".join(lines)


def _replace(lines: list[str], node: ast.stmt, text: str) -> None:
    if isinstance(node, ast.FunctionDef) and (node.name == "__post_init__" or node.name.startswith("_check")):
        start = node.lineno - 1
        del lines[start : node.end_lineno]
        while start and not lines[start - 1].strip():  # the blank line above it
            start -= 1
            del lines[start]
    elif isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Call) and _makes_part(node.value):
        call = node.value
        default = ast.get_source_segment(text, call.args[1])
        head = lines[call.lineno - 1].encode()[: call.col_offset].decode()
        tail = lines[(call.end_lineno or call.lineno) - 1].encode()[call.end_col_offset :].decode()
        lines[call.lineno - 1 : call.end_lineno] = [f"{head}{default}{tail}"]


def _makes_part(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id in PART_FIELDS
