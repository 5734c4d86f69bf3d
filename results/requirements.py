"""requirements.txt of a submission: what its train_gpt.py imports, in the versions that ran."""

import ast
import sys
from collections.abc import Mapping

from golf_core.bundle_pack import readable_source
from golf_core.rundir import RunDirError

# Where the name that is imported is not the name that is installed.
DISTRIBUTIONS = {"flash_attn_interface": "flash-attn-3", "yaml": "pyyaml", "PIL": "pillow", "sklearn": "scikit-learn"}


def imported_modules(source: str, place: str) -> dict[str, bool]:
    """Top-level modules outside of the standard library, each with whether the script cannot do without it. Of a
    packed bundle it is the script inside that counts."""
    try:
        tree = ast.parse(readable_source(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise RunDirError(f"{place} cannot be read as Python: {error}") from None
    found: dict[str, bool] = {}
    pending: list[tuple[ast.AST, bool]] = [(tree, True)]
    while pending:
        node, needed = pending.pop()
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        for name in names:
            module = name.partition(".")[0]
            if module not in sys.stdlib_module_names:
                found[module] = found.get(module, False) or needed
        inside = needed and not isinstance(node, ast.Try)
        pending.extend((child, inside) for child in ast.iter_child_nodes(node))
    return dict(sorted(found.items()))


def requirements_text(source: str, place: str, versions: Mapping[str, object]) -> str:
    """A line a distribution; what the script can do without is a comment.

    >>> source = "import os, numpy\\ntry:\\n    import brotli\\nexcept ImportError: ..."
    >>> requirements_text(source, "train_gpt.py", {"numpy": "2.4"}).splitlines()
    ['numpy==2.4', '# brotli  (optional: imported in a try)']
    """
    lines = []
    for module, needed in imported_modules(source, place).items():
        name = DISTRIBUTIONS.get(module, module)
        version = versions.get(name)
        pinned = f"{name}=={version.partition('+')[0]}" if isinstance(version, str) and version.isprintable() else name
        lines.append((not needed, pinned if needed else f"# {pinned}  (optional: imported in a try)"))
    return "".join(f"{line}\n" for _, line in sorted(lines))
