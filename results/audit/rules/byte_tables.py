"""The tables by which a script counts the bytes of tokens, evaluated on a small vocabulary without running the script.

The functions that ask a tokenizer for its pieces are found by the names of SentencePiece's methods, which no script
can rename, and are evaluated with stand-ins for the tokenizer and for arrays.
"""

import ast
import typing
from collections.abc import Iterator
from dataclasses import dataclass

from results.audit.source.decoders import TooMuch
from results.audit.source.library import CONSTANTS, FUNCTIONS, Bound, call_method
from results.audit.source.program import Piece
from results.audit.source.pure import Evaluator
from results.audit.source.statements import forget, run_statement
from results.audit.source.values import Budget, Env, Function, Leave, OutOfSteps, Stand, Undecided

SPACE = "\u2581"
# (piece, kind): every kind of token, and texts of which characters, bytes and bytes with the space all differ.
VOCABULARY: tuple[tuple[str, str], ...] = (
    ("<pad>", "control"),
    ("<s>", "control"),
    ("</s>", "control"),
    ("<unk>", "unknown"),
    ("<0x41>", "byte"),
    ("<0xE2>", "byte"),
    ("<free>", "unused"),
    (SPACE, "normal"),
    (SPACE + "the", "normal"),
    ("the", "normal"),
    ("a", "normal"),
    ("\u00e9", "normal"),
    (SPACE + "\u00e9t\u00e9", "normal"),
    ("\u65e5\u672c", "normal"),
    (SPACE + "\u65e5", "normal"),
    ("!", "normal"),
)
SIZE = len(VOCABULARY)
ASKS = ("id_to_piece", "IdToPiece", "is_byte", "IsByte")
STEPS = 200_000
AROUND = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.Assign)  # of the script, what a table's function may use
ARRAYS = ("numpy.", "torch.", "jax.numpy.", "cupy.", "array.")


def bytes_of(piece: str) -> int:
    return len(piece.removeprefix(SPACE).encode())


class Table(Stand):
    """An array of one dimension."""

    def __init__(self, values: list[typing.Any]) -> None:
        self.values = values

    def __getitem__(self, place: typing.Any) -> typing.Any:
        if isinstance(place, tuple):  # of rows: a row, then a place in it
            for one in place:
                self = self[one]
            return self
        found = self.values[place]
        return Table(found) if isinstance(found, list) else found

    def __setitem__(self, place: typing.Any, value: typing.Any) -> None:
        if isinstance(place, tuple):
            *rows, place = place
            self[tuple(rows)][place] = value
        elif isinstance(self.values[0] if self.values and isinstance(place, int) else None, Table):
            self.values[place][:] = value
        elif isinstance(place, slice):
            count = len(self.values[place])
            many = value.values if isinstance(value, Table) else [value] * count
            if len(many) != count:
                raise ValueError("sizes differ")
            self.values[place] = many
        elif isinstance(place, list):
            for one in place:
                self.values[one] = value
        else:
            self.values[place] = value

    def __len__(self) -> int:
        return len(self.values)

    def attribute(self, name: str) -> typing.Any:
        if name in ("shape", "size"):
            return (len(self.values),) if name == "shape" else len(self.values)
        if name in ("dtype", "device"):
            return Odd()
        if name in ("tolist", "copy", "clone"):
            return Bound(lambda *_, **__: Table(list(self.values)))
        if name in ("fill", "fill_"):
            return Bound(lambda value: self.__setitem__(slice(None), value))
        return Bound(lambda *_, **__: self)  # to, astype, cuda, contiguous, ...


class Odd(Stand):
    """Anything of which nothing is known: a tokenizer where it is asked as one, the vocabulary's size as a number."""

    def __int__(self) -> int:
        return SIZE

    __index__ = __int__

    def __len__(self) -> int:
        return SIZE

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = None  # type: ignore[assignment]

    def __call__(self, *_: typing.Any, **__: typing.Any) -> "Odd":
        return Odd()

    def attribute(self, name: str) -> typing.Any:
        plain = name.lower().replace("_", "")
        if plain in ("vocabsize", "getpiecesize", "piecesize"):
            return Size()
        if plain == "idtopiece":
            return Bound(lambda one: [VOCABULARY[n][0] for n in one] if isinstance(one, list) else VOCABULARY[one][0])
        if plain in ("isbyte", "iscontrol", "isunknown", "isunused"):
            return Bound(lambda one: VOCABULARY[one][1] == plain.removeprefix("is"))
        if plain in ("decode", "decodeids", "decodepieces"):
            return Bound(_decoded)
        if plain == "piecetoid":
            return Bound(lambda piece: next((n for n, (text, _) in enumerate(VOCABULARY) if text == piece), 3))
        if plain in ("bosid", "eosid", "padid", "unkid"):
            return Bound(lambda: {"pad": 0, "bos": 1, "eos": 2, "unk": 3}[plain[:3]])
        return Odd()


class Size(Odd):
    """The size of the vocabulary, called or not."""

    def __call__(self, *_: typing.Any, **__: typing.Any) -> typing.Any:
        return SIZE


def _decoded(ids: typing.Any) -> str:
    many = ids if isinstance(ids, list) else [ids]
    text = "".join(VOCABULARY[one][0] for one in many if VOCABULARY[one][1] == "normal")
    return text.replace(SPACE, " ").removeprefix(" ")


def _number(value: typing.Any) -> int:
    if isinstance(value, Table):
        return len(value)
    return value if isinstance(value, int) else SIZE


def _filled(value: typing.Any) -> typing.Callable[..., Table]:
    def make(shape: typing.Any = 0, *rest: typing.Any, **named: typing.Any) -> Table:
        fill = rest[0] if value is None and rest else named.get("fill_value", value)
        sizes = [_number(one) for one in shape] if isinstance(shape, tuple | list) else [_number(shape)]
        if len(sizes) > 2 or max(sizes) > 4 * SIZE:
            raise ValueError("no table over the vocabulary")
        if len(sizes) == 2:
            return Table([Table([fill] * sizes[1]) for _ in range(sizes[0])])
        return Table([fill] * sizes[0])

    return make


def _array(values: typing.Any, *_: typing.Any, **__: typing.Any) -> Table:
    if isinstance(values, Table):
        return values
    if not isinstance(values, list | tuple) or any(isinstance(one, list | tuple) for one in values):
        raise ValueError("no array of one dimension")
    return Table(list(values))


def _of_arrays(name: str, positional: list[typing.Any], named: dict[str, typing.Any]) -> typing.Any:
    last = name.rpartition(".")[2]
    if last in ("zeros", "empty", "ones", "full"):
        return _filled({"zeros": 0, "empty": 0, "ones": 1, "full": None}[last])(*positional, **named)
    if last in ("zeros_like", "empty_like", "ones_like"):
        return _filled(1 if last == "ones_like" else 0)(positional[0])
    if last in ("array", "asarray", "tensor", "as_tensor", "from_numpy", "frombuffer", "fromiter"):
        return _array(*positional)
    if last == "arange":
        return Table(list(range(*map(_number, positional))))
    return Odd()


class TableEvaluator(Evaluator):
    """The evaluator of constants, that also knows arrays, attributes that are stored, and what nothing is known of."""

    stored: dict[str, typing.Any]

    def _name(self, node: ast.Name, env: Env) -> typing.Any:
        try:
            return super()._name(node, env)
        except Undecided:
            return Odd()

    def attribute(self, owner: typing.Any, name: str) -> typing.Any:
        if isinstance(owner, Odd) and name in self.stored:
            return self.stored[name]
        return super().attribute(owner, name)

    def assign(self, target: ast.expr, value: typing.Any, env: Env) -> None:
        if isinstance(target, ast.Attribute):
            self.stored[target.attr] = value
        elif isinstance(target, ast.Tuple | ast.List) and isinstance(value, Odd):
            for one in target.elts:
                self.assign(one, Odd(), env)
        else:
            super().assign(target, value, env)

    def iterated(self, value: typing.Any) -> typing.Any:
        if isinstance(value, Table):
            return value.values
        return super().iterated(value)

    def call_function(self, called: Function, positional: list[typing.Any], named: dict[str, typing.Any]) -> typing.Any:
        try:
            return super().call_function(called, positional, named)
        except Undecided:
            return Odd()

    def call_known(self, name: str, positional: list[typing.Any], named: dict[str, typing.Any]) -> typing.Any:
        if name.startswith(ARRAYS):
            return self.guarded(lambda: _of_arrays(name, positional, named))
        if name in ("builtins.range", "builtins.max", "builtins.min", "builtins.int"):
            positional = [_number(one) if isinstance(one, Odd) else one for one in positional]
        if name == "builtins.len" and isinstance(positional[0], Stand):
            return _number(positional[0])
        if name not in self.functions and name.partition(".")[0] not in ("builtins", "__import__"):
            self.stored |= named  # a namespace, or a record, keeps the tables that it is given
            return Odd()
        return super().call_known(name, positional, named)


@dataclass(frozen=True)
class Found:
    """One table over the vocabulary, and the line of the function that makes it."""

    values: tuple[typing.Any, ...]
    line: int
    name: str  # of the function, or of the place


def tables_of(piece: Piece) -> Iterator[tuple[ast.AST, list[Found]]]:
    """For every function of the piece that asks a tokenizer for its pieces: where it does, and the tables it makes."""
    done = False
    for body, arguments, node, name in _asking(piece.tree):
        if done and isinstance(node, ast.Name):
            continue  # who calls the function that made the tables has them too
        evaluator = TableEvaluator(Budget(STEPS, 1 << 20, 1 << 24), FUNCTIONS, call_method, CONSTANTS)
        evaluator.stored = {}
        whole: Env = {}
        _run(evaluator, [one for one in piece.tree.body if isinstance(one, AROUND)], whole)
        evaluator.stored.clear()
        whole = {key: value for key, value in whole.items() if not isinstance(value, int | float)}  # sizes are ours
        env: Env = {**whole, **{one: Odd() for one in arguments}}
        returned = _run(evaluator, body, env)
        last = _vectors([returned, *evaluator.stored.values()])
        found = last if any(map(_counts, last)) else _vectors([value for key, value in env.items() if key not in whole])
        done = done or any(map(_counts, found))
        yield node, [Found(one, node.lineno, name) for one in dict.fromkeys(found)]


def _counts(vector: tuple[typing.Any, ...]) -> bool:
    """Whether a vector can be of numbers of bytes."""
    return any(one > 1 for one in vector)


def _vectors(values: list[typing.Any], depth: int = 0) -> list[tuple[typing.Any, ...]]:
    """The vectors over the vocabulary in some values, and in what they hold."""
    found: list[tuple[typing.Any, ...]] = []
    for value in values:
        plain = value.values if isinstance(value, Table) else value
        if isinstance(plain, dict):
            plain = [plain[key] for key in sorted(plain)] if set(plain) >= set(range(SIZE)) else list(plain.values())
        if not isinstance(plain, list | tuple):
            continue
        if len(plain) >= SIZE and all(isinstance(one, int | float) for one in plain):
            found.append(tuple(plain[:SIZE]))
        elif len(plain) >= SIZE and all(isinstance(one, tuple) and len(one) == len(plain[0]) <= 8 for one in plain):
            found += _vectors([list(column) for column in zip(*plain, strict=True)], depth + 1)
        elif len(plain) <= 64 and depth < 3:
            found += _vectors(list(plain), depth + 1)
    return found


def _run(evaluator: TableEvaluator, body: list[ast.stmt], env: Env) -> typing.Any:
    """The statements of a function; one that cannot be told is left out."""
    for one in body:
        try:
            run_statement(evaluator, one, env)
        except Undecided:
            forget(one, env)
        except Leave as leave:
            return leave.value
        except (OutOfSteps, TooMuch):
            return None
    return None


def _asking(tree: ast.Module) -> Iterator[tuple[list[ast.stmt], list[str], ast.expr, str]]:
    """(body, parameters, first question, name) of the innermost functions that ask for pieces, or of the module; and
    of those that call such a one."""
    pending: list[tuple[list[ast.stmt], list[str], str]] = [(tree.body, [], "the script")]
    others: list[tuple[list[ast.stmt], list[str], str, list[ast.AST]]] = []
    asking: set[str] = set()
    while pending:
        body, arguments, name = pending.pop()
        own, inner = _split(body)
        asks = [node for node in own if isinstance(node, ast.Attribute) and node.attr in ASKS]
        if asks:
            asking.add(name)
            yield body, arguments, asks[0], name
        else:
            others.append((body, arguments, name, own))
        for node in inner:
            if isinstance(node, ast.ClassDef):
                pending.append((node.body, [], node.name))
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                spec = node.args
                names = [one.arg for one in (*spec.posonlyargs, *spec.args, *spec.kwonlyargs)]
                pending.append((node.body, names, node.name))
    for body, arguments, name, own in others:
        calls = [node.func for node in own if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
        if called := next((one for one in calls if one.id in asking), None):
            yield body, arguments, called, name


def _split(body: list[ast.stmt]) -> tuple[list[ast.AST], list[ast.AST]]:
    """The nodes of a body without those of the functions and classes in it, and these."""
    own: list[ast.AST] = []
    inner: list[ast.AST] = []
    pending: list[ast.AST] = list(body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner.append(node)
        else:
            own.append(node)
            pending += ast.iter_child_nodes(node)
    return own, inner
