"""S11: the clock of training runs while there is work, and nothing of training comes after it (rules.md B)."""

import ast
import fnmatch
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from results.audit.finding import FAIL, PASS, REVIEW, Finding
from results.audit.rules.settings import Settings, evidence, live_nodes, settings_of, texts
from results.audit.source.program import Piece, Program

CAP_S = 600.0
CLOCKS = ("perf_counter", "time", "monotonic", "perf_counter_ns", "monotonic_ns", "time_ns", "elapsed_time")
WORK = ("backward", "step")
TRAIN = "fineweb_train_000001.bin"
FORCED = ("FORCE_STOP", "FORCE_STEP", "IGNORE_WALLCLOCK", "DISABLE_WALLCLOCK", "IGNORE_CAP")
COPIES = 12  # turns of the search for names that are made of others
LIBRARY = ("len", "print", "str", "int", "list", "sorted", "sum", "max", "min", "range", "glob", "join", "format")


def check(program: Program, variables: Mapping[str, str] | None = None) -> list[Finding]:
    settings = settings_of(program, variables)
    live = live_nodes(program, settings)
    found = [*_caps(settings), *_forced(settings)]
    cap = _derived({name for name, keys in settings.keys.items() if any(_is_cap(key) for key in keys)}, live)
    clocks = _derived(_read_clocks(live), live)
    loops = {
        id(node): (piece, node)
        for piece, node in live
        if isinstance(node, ast.While | ast.For) and _compares(node, cap, clocks)
    }
    for piece, node in loops.values():
        found += _paused(piece, node)
    found += _after(program, live, set(loops), _reserve(live, settings, cap, clocks))
    return found


def _finding(piece: Piece, line: int, verdict: str, authority: str, says: str) -> Finding:
    return Finding("S11", verdict, authority, says, piece.name, line, evidence(piece, line))


def _is_cap(key: str) -> bool:
    return "WALLCLOCK" in key.upper() or key.upper() in (
        "CAP",
        "CAP_SECONDS",
        "TIME_CAP",
        "MAX_SECONDS",
        "TRAIN_SECONDS",
    )


def _caps(settings: Settings) -> Iterator[Finding]:
    for key, value, piece, line in settings.asked:
        if "WALLCLOCK" in key.upper() and isinstance(value, int | float) and value > CAP_S:
            verdict = FAIL if key in settings.variables else REVIEW
            says = f"{key} is {value:g} s; training on the race's machine has {CAP_S:g} s"
            yield _finding(piece, line, verdict, "[R] B1", says)


def _forced(settings: Settings) -> Iterator[Finding]:
    """A setting that makes training go on beyond the clock, where it is on."""
    for key, value, piece, line in settings.asked:
        if any(word in key.upper() for word in FORCED):
            on = value not in (None, "", "0", 0, -1, False, "-1", "none", "None", "false", "False")
            says = f"{key} is {value!r}: training ends by it and not by its clock" if on else f"{key} is off"
            yield _finding(piece, line, FAIL if on else PASS, "[R] B1; [P] #1908", says)


def _names(node: ast.AST) -> set[str]:
    """Names and last parts of attributes that an expression reads."""
    found = set()
    for one in ast.walk(node):
        if isinstance(one, ast.Name):
            found.add(one.id)
        elif isinstance(one, ast.Attribute):
            found.add(one.attr)
    return found


def _assignments(live: list[tuple[Piece, ast.AST]]) -> Iterator[tuple[set[str], ast.expr]]:
    for _, node in live:
        if isinstance(node, ast.Assign):
            yield {one for target in node.targets for one in _stored(target)}, node.value
        elif isinstance(node, ast.AugAssign | ast.AnnAssign) and node.value is not None:
            yield set(_stored(node.target)), node.value


def _stored(target: ast.expr) -> Iterator[str]:
    for one in ast.walk(target):
        if isinstance(one, ast.Name | ast.Attribute) and isinstance(one.ctx, ast.Store):
            yield one.id if isinstance(one, ast.Name) else one.attr


def _derived(roots: set[str], live: list[tuple[Piece, ast.AST]]) -> set[str]:
    """Names that are computed from others by arithmetic, not by a call of the script's own."""
    found = set(roots)
    arithmetic = [(names, value) for names, value in _assignments(live) if not isinstance(value, ast.Lambda)]
    for _ in range(COPIES):
        more = {name for names, value in arithmetic if _arithmetic(value) & found for name in names} - found
        if not more:
            break
        found |= more
    return found


def _arithmetic(node: ast.expr) -> set[str]:
    """Names in an expression without what is inside of calls, but for those of numbers."""
    found: set[str] = set()
    pending: list[ast.AST] = [node]
    while pending:
        one = pending.pop()
        if isinstance(one, ast.Name):
            found.add(one.id)
        elif isinstance(one, ast.Attribute):
            found.add(one.attr)
        elif isinstance(one, ast.Call):
            name = one.func.id if isinstance(one.func, ast.Name) else ""
            pending += one.args if name in ("float", "int", "max", "min", "round", "abs") else []
        else:
            pending += ast.iter_child_nodes(one)
    return found


def _reads_clock(node: ast.AST) -> bool:
    for one in ast.walk(node):
        if isinstance(one, ast.Call):
            name = one.func.attr if isinstance(one.func, ast.Attribute) else getattr(one.func, "id", "")
            if name in CLOCKS:
                return True
    return False


def _read_clocks(live: list[tuple[Piece, ast.AST]]) -> set[str]:
    return {name for names, value in _assignments(live) if _reads_clock(value) for name in names}


def _compares(loop: ast.While | ast.For, cap: set[str], clocks: set[str]) -> bool:
    """Whether a loop asks its clock whether the budget is used up, and trains."""
    asks = any(
        isinstance(one, ast.Compare) and _names(one) & cap and (_names(one) & clocks or _reads_clock(one))
        for one in ast.walk(loop)
    )
    return asks and any(isinstance(one, ast.Call) for one in ast.walk(loop))


def _paused(piece: Piece, loop: ast.While | ast.For) -> Iterator[Finding]:
    """Work between the moment at which the time so far is added up and that at which the clock starts anew."""
    for block in _blocks(loop):
        stopped: ast.stmt | None = None
        work: ast.stmt | None = None
        for one in block:
            if stopped is not None and _resets(one, stopped):
                if work is not None:
                    says = (
                        f"the clock stands still from line {stopped.lineno} to {one.lineno} while weights are updated"
                    )
                    yield _finding(piece, work.lineno, FAIL, "[R] B1", says)
                stopped = work = None
            elif isinstance(one, ast.AugAssign) and isinstance(one.op, ast.Add) and _reads_clock(one.value):
                stopped, work = one, None
            elif stopped is not None and work is None and _works(one):
                work = one


def _blocks(loop: ast.While | ast.For) -> Iterator[list[ast.stmt]]:
    for node in ast.walk(loop):
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list) and block and isinstance(block[0], ast.stmt):
                yield block


def _resets(one: ast.stmt, stopped: ast.stmt) -> bool:
    if not isinstance(one, ast.Assign) or not isinstance(one.value, ast.Call) or not _reads_clock(one.value):
        return False
    return bool({name for target in one.targets for name in _stored(target)} & _names(stopped))


def _works(one: ast.stmt) -> bool:
    called = {
        node.func.attr for node in ast.walk(one) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    return "backward" in called or ("step" in called and "zero_grad" in called)


@dataclass
class _Training:
    """What of a script has to do with training data."""

    names: set[str] = field(default_factory=set)  # variables and settings
    makers: set[str] = field(default_factory=set)  # classes and functions that read them
    classes: set[str] = field(default_factory=set)  # of the script


def _training(program: Program, live: list[tuple[Piece, ast.AST]]) -> _Training:
    """Names of patterns of training shards, of what reads them, and of what that gives."""
    found = _Training()
    own = [(node.name, node) for _, node in live if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    found.classes = {name for name, node in own if isinstance(node, ast.ClassDef)}
    patterns = {
        id(node)
        for _, node, text in texts(program)
        if "train" in text and fnmatch.fnmatchcase(TRAIN, text.rpartition("/")[2]) and "*" in text
    }
    for names, value in _assignments(live):
        joined = not isinstance(value, ast.Call) or _called(value) in ("join", "format", "sorted", "glob")
        if joined and any(id(one) in patterns for one in ast.walk(value)):
            found.names |= names
    for name, node in own:
        reads = {one.attr for one in ast.walk(node) if isinstance(one, ast.Attribute) and isinstance(one.ctx, ast.Load)}
        if reads & found.names and isinstance(node, ast.ClassDef):
            found.makers.add(name)
    for _ in range(COPIES):
        more = {name for names, value in _assignments(live) if _gives(value, found) for name in names} - found.names
        if not more:
            break
        found.names |= more
    return found


def _called(node: ast.expr) -> str:
    if not isinstance(node, ast.Call):
        return ""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _gives(value: ast.expr, training: _Training) -> bool:
    """Whether a call makes a reader of training shards: of a class that reads them, or of their pattern."""
    if not isinstance(value, ast.Call):
        return False
    name = _called(value)
    if name in training.makers:
        return True
    given = any(_names(one) & training.names for one in [*value.args, *(key.value for key in value.keywords)])
    return name in training.classes and given


def _draws(node: ast.AST, training: _Training) -> bool:
    """Whether a statement takes batches of training data: by a method of a reader, a loop, or a function's help."""
    for one in ast.walk(node):
        if isinstance(one, ast.Call):
            if isinstance(one.func, ast.Attribute) and _names(one.func.value) & training.names:
                return True
            arguments = [*one.args, *(key.value for key in one.keywords)]
            name = _called(one)
            given = any(
                (isinstance(arg, ast.Name) and arg.id in training.names) or _called(arg) in training.makers
                for arg in arguments
            )
            if given and name not in training.makers | training.classes and name not in LIBRARY:
                return True
        elif isinstance(one, ast.For | ast.comprehension) and _names(one.iter) & training.names:
            return True
    return False


def _after(
    program: Program, live: list[tuple[Piece, ast.AST]], loops: set[int], reserve: float | None
) -> Iterator[Finding]:
    """Training data that is read after the loop that its clock ends, with no part of the budget kept for it."""
    training = _training(program, live)
    if not loops or (not training.names and not training.makers):
        return
    functions = {node.name: node for _, node in live if isinstance(node, ast.FunctionDef)}
    bodies = [(piece, node.body) for piece, node in live if isinstance(node, ast.FunctionDef)]
    bodies += [(piece, piece.tree.body) for piece in program.pieces]
    trains = {name for name, node in functions.items() if any(id(one) in loops for one in ast.walk(node))}
    for piece, body in bodies:
        passed = False
        for one in body:
            line = _first_draw(one, training, functions, trains) if passed else None
            if line is not None and reserve is not None and reserve > 0:
                says = f"training data is read after the training loop, in {reserve:g} s kept of the budget"
                yield _finding(piece, line, PASS, "[M2] B3", says)
                return
            if line is not None:
                says = "training data is read after the clock of training has stopped, and no time is kept for it"
                yield _finding(piece, line, FAIL if reserve == 0 else REVIEW, "[M2] B3; #677", says)
                return
            if isinstance(one, ast.FunctionDef | ast.ClassDef):
                continue
            passed = passed or bool(_calls(one) & trains) or any(id(inner) in loops for inner in ast.walk(one))


def _calls(node: ast.AST) -> set[str]:
    return {_called(one) for one in ast.walk(node) if isinstance(one, ast.Call)}


def _first_draw(
    one: ast.stmt, training: _Training, functions: dict[str, ast.FunctionDef], trains: set[str]
) -> int | None:
    """The line of the first use of training data in a statement, or in the functions that it calls."""
    if isinstance(one, ast.FunctionDef | ast.ClassDef):
        return None
    if _draws(one, training):
        return one.lineno
    seen: set[str] = set(trains)
    pending = sorted(_calls(one))
    while pending:
        name = pending.pop()
        if name in seen or name not in functions:
            continue
        seen.add(name)
        for inner in functions[name].body:
            if _draws(inner, training):
                return one.lineno
        pending += sorted(_calls(functions[name]))
    return None


def _reserve(live: list[tuple[Piece, ast.AST]], settings: Settings, cap: set[str], clocks: set[str]) -> float | None:
    """Seconds that are kept of the budget for what follows training; None where nothing is taken from it at all."""
    kept: list[float] = []
    for _, node in live:
        pairs: list[tuple[ast.expr, ast.expr]] = []
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub):
            pairs = [(node.left, node.right)]
        elif isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Sub):
            pairs = [(node.target, node.value)]
        elif isinstance(node, ast.Compare):
            sums = [one for one in ast.walk(node) if isinstance(one, ast.BinOp) and isinstance(one.op, ast.Add)]
            pairs = [(node, one.right) for one in sums]
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            factors = [settings.number(one) for one in (node.left, node.right)]
            if _arithmetic(node) & cap and any(one is not None and 0.5 < one < 1 for one in factors):
                kept.append(CAP_S * (1 - next(one for one in factors if one is not None and 0.5 < one < 1)))
        for left, right in pairs:
            if not _names(left) & cap or _names(right) & clocks or _reads_clock(right):
                continue
            number = settings.number(right)
            names = _names(right)
            if number is not None:
                kept.append(number)
            elif names and any(settings.values.get(name) for name in names):
                kept.append(1.0)  # something is taken away, how much is not settled
    for name in cap:
        for value in settings.values.get(name, ()):
            if isinstance(value, int | float) and 60 < value < CAP_S:
                kept.append(CAP_S - value)
    return max(kept) if kept else None
