"""The bundle: one `train_gpt.py` made of the modules that a config uses, laid end to end.

What ran is what is submitted, so the trainer never imports the package: it runs this file. Modules come in
import order, each under a banner, comments kept; imports of our own disappear, and the config is written out
at the end as Python, its checks left behind (bundle_frozen.py). A part that the config does not name does not enter.
A config says in which form it ships: readable as it is, or packed (bundle_pack.py).

Inside golf_core (recipes and light commands apart) this asks for a little discipline, which `build_bundle`
enforces: own imports are `from golf_core.x import name` on top level, without `as` or `*`; no
`from __future__`; every top-level name means one thing in all modules. No torch here.
"""

import ast
import functools
import textwrap
import typing
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path

from golf_core.bundle_frozen import CONFIG_MODULES, without_checks
from golf_core.bundle_pack import pack_source
from golf_core.config import Config
from golf_core.fields import chosen_parts

PACKAGE = "golf_core"
ENTRY = "golf_core.pipeline"
STREAM = "golf_core.evaluate.stream"  # for whoever imports the file; no program of ours does
ROOT = Path(__file__).parent.parent
BANNER = "# " + "-" * 98


OFFER = '''
def score_stream(artifact: Path, tokens: np.ndarray, learn: str = "on") -> StreamScore:
    """Loss and order of every target of a stream, by this file's evaluation (golf_core/evaluate/stream.py)."""
    return stream_scores(CONFIG, PARTS, artifact, tokens, learn)

'''


class BundleError(Exception):
    """A module cannot be laid into the one file; the message names the place and the rule."""


@dataclass(frozen=True)
class _Module:
    name: str
    text: str  # without its own imports of golf_core
    imports: tuple[str, ...]  # modules of ours
    names: typing.Mapping[str, str]  # top-level name -> what it means ("def here" or "import ...")


def build_bundle(config: Config, root: Path = ROOT) -> str:
    """`train_gpt.py` for a config, in the form that it ships in. Raises BundleError where a module breaks the rules."""
    source = readable_bundle(config, root)
    return pack_source(source) if config.ship == "packed" else source


def readable_bundle(config: Config, root: Path = ROOT) -> str:
    """The readable form, whatever the config ships."""
    parts = [(path, *place.split(":")) for path, place in chosen_parts(config)]
    modules = _in_import_order([module for _, module, _ in parts] + [STREAM, ENTRY], root)
    _check_names(modules)
    body = _joined([f"{BANNER}\n# {m.name.replace('.', '/')}.py\n{BANNER}\n\n{m.text}" for m in modules])
    chosen = "".join(f"    {path!r}: {symbol},\n" for path, _, symbol in parts)
    own = (
        f"{BANNER}\n# The config of this run, and the parts that it names\n{BANNER}\n\n"
        f"CONFIG = {_literal(config)}\n\nPARTS = {{\n{chosen}}}\n\n{OFFER}\n"
        'if __name__ == "__main__":\n    main(CONFIG, PARTS)\n'
    )
    head = _head(config)
    _check_compiles(body)
    compile(_joined([head, own]), "train_gpt.py", "exec")
    return _joined([head, body, own])


def _joined(sections: list[str]) -> str:
    return "\n\n".join(section.rstrip("\n") + "\n" for section in sections)


@functools.lru_cache(maxsize=8)
def _check_compiles(body: str) -> None:
    """Modules that are whole by themselves are so in a row: the variants of a grid that share theirs, try once."""
    compile(body, "train_gpt.py", "exec")


def _head(config: Config) -> str:
    text = (
        f"{config.name}: one run of Parameter Golf in one file.\n\n"
        "Built from the modules named in the banners below; this file is what ran and what is submitted.\n\n"
        "    torchrun --standalone --nproc_per_node=8 train_gpt.py            # train, then evaluate\n"
        "    torchrun --standalone --nproc_per_node=8 train_gpt.py evaluate   # score artifact.bin\n\n"
        "Environment: SEED, DATA_PATH (shards), TOKENIZER_PATH (SentencePiece model)."
    )
    return f'"""{text}\n"""\n'


def _in_import_order(names: list[str], root: Path) -> list[_Module]:
    """The modules and all that they import, each after what it imports. Refuses a cycle."""
    ordered: dict[str, _Module] = {}
    underway: list[str] = []

    def visit(name: str) -> None:
        if name in ordered:
            return
        if name in underway:
            raise BundleError(f"modules import each other: {' -> '.join([*underway[underway.index(name) :], name])}")
        underway.append(name)
        module = _read(name, root)
        for needed in module.imports:
            visit(needed)
        underway.pop()
        ordered[name] = module

    for name in names:
        visit(name)
    return list(ordered.values())


def _read(name: str, root: Path) -> _Module:
    path = root / (name.replace(".", "/") + ".py")
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        raise BundleError(f"there is no module {name} ({path.name} in {path.parent.name}/)") from None
    return _parsed(name, text)


@functools.lru_cache(maxsize=256)  # by the text: a file that was changed is another module
def _parsed(name: str, text: str) -> _Module:
    if name.startswith(CONFIG_MODULES):
        text = without_checks(text)
    tree = ast.parse(text)
    lines = text.splitlines()
    imports: list[str] = []
    names: dict[str, str] = {}
    drop: set[int] = set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom | ast.Import):
            if _is_ours(node):
                imports.append(_own_import(node, name))
                drop.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
            else:
                names.update(_foreign_names(node, name))
        else:
            names.update({bound: f"defined in {name}" for bound in _bound(node)})
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom | ast.Import) and node not in tree.body and _is_ours(node):
            raise BundleError(f"{name}, line {node.lineno}: an import of ours inside a function or a condition")
    kept = "\n".join(line for number, line in enumerate(lines, 1) if number not in drop)
    return _Module(name, kept.strip("\n") + "\n", tuple(imports), names)


def _is_ours(node: ast.ImportFrom | ast.Import) -> bool:
    if isinstance(node, ast.Import):
        return any(alias.name.split(".")[0] == PACKAGE for alias in node.names)
    return node.level > 0 or (node.module or "").split(".")[0] == PACKAGE


def _own_import(node: ast.ImportFrom | ast.Import, name: str) -> str:
    where = f"{name}, line {node.lineno}"
    if isinstance(node, ast.Import) or node.level or not node.module:
        raise BundleError(f"{where}: import ours as `from golf_core.module import name`")
    if any(alias.asname or alias.name == "*" for alias in node.names):
        raise BundleError(
            f"{where}: an import of ours must not use `as` or `*`: the name would not exist in the bundle"
        )
    return node.module


def _foreign_names(node: ast.ImportFrom | ast.Import, name: str) -> dict[str, str]:
    if isinstance(node, ast.ImportFrom):
        if node.module == "__future__":
            raise BundleError(
                f"{name}, line {node.lineno}: `from __future__` would apply to every module of the bundle"
            )
        return {a.asname or a.name: f"from {node.module} import {a.name}" for a in node.names}
    return {
        (a.asname or a.name.split(".")[0]): f"import {a.name if a.asname else a.name.split('.')[0]}" for a in node.names
    }


def _bound(node: ast.stmt) -> list[str]:
    """Names that a top-level statement binds, those under `if` and `try` included."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    targets = [n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
    inner = [n.name for n in ast.walk(node) if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    return targets + inner


def _check_names(modules: list[_Module]) -> None:
    meaning: dict[str, tuple[str, str]] = {}
    for module in modules:
        for name, means in module.names.items():
            known, where = meaning.setdefault(name, (means, module.name))
            if known != means:
                raise BundleError(
                    f"the name {name!r} means two things in one file: {known} ({where}) and {means} ({module.name})"
                )


def _literal(value: typing.Any) -> str:
    """A config as the Python expression that builds it, one field a line."""
    if is_dataclass(value) and not isinstance(value, type):
        inner = "".join(f"{f.name}={_literal(getattr(value, f.name))},\n" for f in fields(value))
        return f"{type(value).__name__}(\n{textwrap.indent(inner, '    ')})"
    return repr(value)
