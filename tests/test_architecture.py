"""The house rules that a machine can hold: who imports whom, what stays light, how long a file may be.

Each rule is a function from a tree to its breaches; it is tried on this tree, where it must find none, and on a
planted breach, which it must find.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("golf_core", "orchestrator", "results", "jobs")

# Modules of golf_core that every room may read: no torch in them, nor in what they import.
LIGHT = (
    "bundle_frozen",
    "config",
    "config_io",
    "recipes",
    "bundle",
    "bundle_pack",
    "fields",
    "inventory",
    "rundir",
    "policy",
    "hardware",
    "significance",
    "frontier",
    "data.manifest",
    "prepare.endpoint",
)

# Who may import whom of ours. An absent arrow is a decision. (results reads packed bundles without running them.)
MAY_IMPORT = {
    "golf_core": {"golf_core"},
    "orchestrator": {"orchestrator", *(f"golf_core.{name}" for name in LIGHT)},
    "results": {
        "results",
        *(f"golf_core.{name}" for name in ("rundir", "policy", "config", "fields", "bundle_pack")),
        *(f"golf_core.{name}" for name in ("significance", "frontier")),
        *(f"golf_core.artifact.{name}_codec" for name in ("brotli", "lzma", "zlib", "zstd")),
    },
    "jobs": {"jobs", "orchestrator", "golf_core"},
}

# Libraries that a folder must not import, however late. The longest matching folder decides.
FORBIDDEN = {
    "golf_core": {"ray", "modal", "pandas", "scipy", "typer", "rich", "huggingface_hub", "arro3"},
    "golf_core/prepare": {"torch", "ray", "modal", "pandas", "scipy", "typer", "rich"},
    "orchestrator": {"ray", "modal", "torch", "pandas", "scipy"},
    "orchestrator/backends": {"torch", "pandas", "scipy"},
    "results": {"torch", "ray", "modal"},
    "jobs": {"pandas"},
}

HEAVY = {"torch", "ray", "modal", "pandas"}
MAX_LINES = {"tests": 700, "": 400}


def sources(tree: Path, *folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((tree / folder).rglob("*.py"))


def imports(path: Path, tree: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import in a file, wherever in it, with `from a import b` as a.b."""
    package = path.relative_to(tree).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            stem = ".".join(part for part in (base, node.module) if part)
            yield from ((node.lineno, f"{stem}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.lineno, node.args[0].value


def within(name: str, module: str) -> bool:
    return name == module or name.startswith(module + ".")


def foreign_rooms(tree: Path) -> list[str]:
    """Imports of a room of ours that the importing room has no arrow to."""
    return [
        f"{path.relative_to(tree)}:{line} imports {name}"
        for room, allowed in MAY_IMPORT.items()
        for path in sources(tree, room)
        for line, name in imports(path, tree)
        if name.partition(".")[0] in {*ROOMS, "tests", "benchmarks"} and not any(within(name, one) for one in allowed)
    ]


def forbidden_libraries(tree: Path) -> list[str]:
    found = []
    for path in sources(tree, *ROOMS):
        folder = path.relative_to(tree).parent.as_posix() + "/"
        rule = max((name for name in FORBIDDEN if folder.startswith(name + "/")), key=len)
        for line, name in imports(path, tree):
            if name.partition(".")[0] in FORBIDDEN[rule]:
                found.append(f"{path.relative_to(tree)}:{line} imports {name}")
    return found


def unbundled_imports(tree: Path) -> list[str]:
    """Imports inside golf_core that could not be cut out when its modules are joined into one file."""
    found = []
    for path in sources(tree, "golf_core"):
        body = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(body):
            place = f"{path.relative_to(tree)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Import) and any(within(alias.name, "golf_core") for alias in node.names):
                found.append(f"{place} imports a module of ours whole; write `from golf_core.x import name`")
            if not isinstance(node, ast.ImportFrom):
                continue
            if node.level:
                found.append(f"{place} imports relatively")
            elif node.module == "__future__":
                found.append(f"{place} imports from __future__, which must come first in a file")
            elif within(node.module or "", "golf_core"):
                if any(alias.asname or alias.name == "*" for alias in node.names):
                    found.append(f"{place} renames a name of ours, or imports all of them")
                if node not in body.body:
                    found.append(f"{place} imports a name of ours inside a function or a branch")
    return found


def long_files(tree: Path) -> list[str]:
    found = []
    for folder in (*ROOMS, "benchmarks", "tests"):
        limit = MAX_LINES.get(folder, MAX_LINES[""])
        for path in sources(tree, folder):
            if (lines := len(path.read_text(encoding="utf-8").splitlines())) > limit:
                found.append(f"{path.relative_to(tree)} has {lines} lines; {limit} are allowed")
    return found


def readme_map(text: str) -> list[str]:
    """The paths that README's map of folders claims: first words of the lines of its block under 'The map'."""
    block = re.search(r"^## The map\n.*?```\w*\n(.*?)```", text, re.DOTALL | re.MULTILINE)
    if block is None:
        return []
    paths, parents = [], {}
    for line in filter(str.strip, block[1].splitlines()):
        indent = len(line) - len(line.lstrip())
        claimed = re.split(r"\s{2,}", line.strip())[0].split()
        parent = "".join(parents[depth] for depth in sorted(parents) if depth < indent)
        for name in claimed:
            paths.append(parent + name)
        parents = {depth: name for depth, name in parents.items() if depth < indent}
        if len(claimed) == 1 and claimed[0].endswith("/"):
            parents[indent] = claimed[0]
    return paths


def holds_something(path: Path) -> bool:
    """Whether it is a file, or a folder with one in it: git keeps no empty folders, so a clone would lack them."""
    return path.is_file() or any(inner.is_file() and "__pycache__" not in inner.parts for inner in path.rglob("*"))


def false_claims(tree: Path) -> list[str]:
    text = (tree / "README.md").read_text(encoding="utf-8")
    mapped = readme_map(text)
    found = [f"README's map names {path}, which is not there" for path in mapped if not holds_something(tree / path)]
    found += [f"README's map leaves out {room}/" for room in ROOMS if f"{room}/" not in mapped]
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if "://" not in target and not (tree / target).exists():
            found.append(f"README links to {target}, which is not there")
    if (lines := len(text.splitlines())) > 150:
        found.append(f"README.md has {lines} lines; 150 are allowed")
    return found


RULES = (foreign_rooms, forbidden_libraries, unbundled_imports, long_files, false_claims)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps_its_rule(rule):
    """Nothing in this tree breaks the rule."""
    assert rule(ROOT) == []


BREACHES = {
    "core_imports_orchestrator": (
        foreign_rooms,
        "golf_core/model/a.py",
        "from orchestrator.worker.attempt import run_attempt",
    ),
    "orchestrator_imports_trainer": (foreign_rooms, "orchestrator/a.py", "def f():\n    import golf_core.train"),
    "orchestrator_imports_results": (foreign_rooms, "orchestrator/a.py", "from results import collect"),
    "results_imports_orchestrator": (foreign_rooms, "results/a.py", "import orchestrator.ledger"),
    "results_imports_by_name": (foreign_rooms, "results/a.py", "import importlib\nimportlib.import_module('jobs.x')"),
    "a_room_imports_tests": (foreign_rooms, "jobs/a.py", "from tests.results import attempts"),
    "relative_into_a_foreign_room": (foreign_rooms, "results/a.py", "from ..orchestrator import ledger"),
    "ray_outside_backends": (forbidden_libraries, "orchestrator/plan.py", "def f():\n    import ray"),
    "modal_outside_backends": (forbidden_libraries, "orchestrator/cli.py", "from modal import App"),
    "torch_in_a_backend": (forbidden_libraries, "orchestrator/backends/ray.py", "import torch"),
    "torch_in_results": (forbidden_libraries, "results/gates.py", "import torch.nn as nn"),
    "pandas_in_core": (forbidden_libraries, "golf_core/a.py", "import pandas"),
    "lazy_import_of_ours": (unbundled_imports, "golf_core/a.py", "def f():\n    from golf_core.config import Config"),
    "aliased_import_of_ours": (unbundled_imports, "golf_core/a.py", "from golf_core.config import Config as C"),
    "star_import_of_ours": (unbundled_imports, "golf_core/a.py", "from golf_core.config import *"),
    "module_import_of_ours": (unbundled_imports, "golf_core/a.py", "import golf_core.config"),
    "relative_import": (unbundled_imports, "golf_core/a.py", "from .config import Config"),
    "future_import": (unbundled_imports, "golf_core/a.py", "from __future__ import annotations"),
    "long_module": (long_files, "results/a.py", "x = 1\n" * 401),
    "long_test": (long_files, "tests/test_a.py", "x = 1\n" * 701),
    "absent_folder_in_the_map": (false_claims, "README.md", "## The map\n\n```\nsomewhere/  words\n```\n"),
    "empty_folder_in_the_map": (false_claims, "README.md", "## The map\n\n```\nempty/  words\n```\n"),
    "absent_file_in_the_map": (false_claims, "README.md", "## The map\n\n```\njobs/  words\n  a.py b.py  words\n```\n"),
    "dead_link": (false_claims, "README.md", "see [the guide](docs/guide.md)\n"),
    "long_readme": (false_claims, "README.md", "\n" * 151),
}


@pytest.mark.parametrize("rule, file, text", BREACHES.values(), ids=BREACHES.keys())
def test_a_planted_breach_is_found(rule, file, text, tmp_path):
    """The rule names the file in which it was broken, or what the README claims."""
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    (tmp_path / "empty").mkdir()
    assert any(file in breach or "README" in breach for breach in rule(tmp_path))


def test_allowed_arrows_are_no_breach(tmp_path):
    """What architecture allows is found to be allowed, so that the rules above do not forbid everything."""
    for file, text in {
        "orchestrator/backends/ray.py": "def f():\n    import ray\nfrom golf_core.rundir import RUN\n",
        "orchestrator/plan.py": "from golf_core.recipes import load_recipe\nfrom orchestrator.ledger import Ledger\n",
        "results/collect.py": "import pandas as pd\nfrom golf_core.rundir import verify_seal\n",
        "jobs/train.py": "import modal\nfrom golf_core.data.embedded import main\n",
        "golf_core/a.py": "import torch\nfrom golf_core.config import Config, nearest\n",
    }.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text, encoding="utf-8")
    assert foreign_rooms(tmp_path) + forbidden_libraries(tmp_path) + unbundled_imports(tmp_path) == []


def loaded_by(statement: str, folder: Path = ROOT) -> set[str]:
    """Top-level modules that a fresh interpreter holds after the statement."""
    script = f"""
import sys
try:
    {statement}
except SystemExit as end:
    assert not end.code, end.code
finally:
    print("\\nLOADED", *sorted({{name.partition(".")[0] for name in sys.modules}}))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("LOADED")[2].split())


COMMANDS = {
    room: f"import runpy; sys.argv = ['{room}', '--help']; runpy.run_module('{room}', run_name='__main__')"
    for room in ("orchestrator", "results")
}


@pytest.mark.parametrize(
    "statement",
    [*COMMANDS.values(), *(f"import golf_core.{name}" for name in LIGHT)],
    ids=[*(f"{room} --help" for room in COMMANDS), *LIGHT],
)
def test_light_commands_load_nothing_heavy(statement):
    """`--help` and the modules that every room reads load no torch, ray, modal or pandas."""
    assert loaded_by(statement) & HEAVY == set()


def test_a_heavy_module_is_seen(tmp_path):
    """A planted `import pandas` behind an innocent name is noticed, so the test above can fail."""
    (tmp_path / "innocent.py").write_text("import pandas\n", encoding="utf-8")
    assert loaded_by("import innocent", tmp_path) & HEAVY == {"pandas"}
