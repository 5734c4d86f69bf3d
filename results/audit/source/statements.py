"""Statements of a foreign script under the evaluator: strictly inside a pure function, leniently at its top level."""

import ast
import contextlib
import typing

from results.audit.source.pure import Evaluator
from results.audit.source.values import Env, Function, Known, Leave, OutOfSteps, Stand, Undecided

FUNCTION_STEPS = 200_000  # of the evaluation of one function's body


def bound(
    evaluator: Evaluator, called: Function, positional: list[typing.Any], named: dict[str, typing.Any]
) -> dict[str, typing.Any]:
    """Arguments of a call by the names of the parameters. Raises Undecided where they do not fit."""
    spec = called.node.args
    names = [one.arg for one in (*spec.posonlyargs, *spec.args)]
    env: Env = {}
    for name, default in zip(reversed(names), reversed(spec.defaults), strict=False):
        env[name] = evaluator.value(default, called.env)
    for one, default_node in zip(spec.kwonlyargs, spec.kw_defaults, strict=True):
        if default_node is not None:
            env[one.arg] = evaluator.value(default_node, called.env)
    env.update(zip(names, positional, strict=False))
    if spec.vararg is not None:
        env[spec.vararg.arg] = tuple(positional[len(names) :])
    elif len(positional) > len(names):
        raise Undecided("too many arguments")
    for name, value in named.items():
        if name not in names and name not in [one.arg for one in spec.kwonlyargs]:
            raise Undecided(f"argument {name}")
        env[name] = value
    if missing := [name for name in (*names, *(one.arg for one in spec.kwonlyargs)) if name not in env]:
        raise Undecided(f"argument {missing[0]}")
    return env


def run_body(evaluator: Evaluator, body: list[ast.stmt], env: Env) -> None:
    """Statements one after the other. Raises Undecided at the first that cannot be told, or Leave."""
    for one in body:
        run_statement(evaluator, one, env)


def run_statement(evaluator: Evaluator, one: ast.stmt, env: Env) -> None:
    evaluator.budget.step()
    match one:
        case ast.Assign():
            value = evaluator.value(one.value, env)
            for target in one.targets:
                evaluator.assign(target, value, env)
        case ast.AnnAssign() if one.value is not None:
            evaluator.assign(one.target, evaluator.value(one.value, env), env)
        case ast.AugAssign():
            before = evaluator.value(_loaded(one.target), env)
            after = evaluator.binary(one.op, before, evaluator.value(one.value, env))
            evaluator.assign(one.target, after, env)
        case ast.Expr():
            evaluator.value(one.value, env)
        case ast.If():
            run_body(evaluator, one.body if _true(evaluator, one.test, env) else one.orelse, env)
        case ast.For() | ast.While():
            _loop(evaluator, one, env)
        case ast.Return():
            raise Leave("return", None if one.value is None else evaluator.value(one.value, env))
        case ast.Break():
            raise Leave("break")
        case ast.Continue():
            raise Leave("continue")
        case ast.Import() | ast.ImportFrom():
            run_import(one, env)
        case ast.FunctionDef():
            env[one.name] = Function(one, env)
        case ast.Assert() | ast.Pass() | ast.Global() | ast.Nonlocal() | ast.AnnAssign():
            pass
        case ast.With():
            for item in one.items:
                value = evaluator.value(item.context_expr, env)
                if item.optional_vars is not None:
                    evaluator.assign(item.optional_vars, value, env)
            run_body(evaluator, one.body, env)
        case _:
            raise Undecided(type(one).__name__)


def _true(evaluator: Evaluator, test: ast.expr, env: Env) -> bool:
    value = evaluator.value(test, env)
    if isinstance(value, Stand | Function):
        raise Undecided("a condition")
    return bool(value)


def _loaded(target: ast.expr) -> ast.expr:
    """The target of an augmented assignment, as an expression that reads it."""
    if isinstance(target, ast.Name):
        return ast.Name(id=target.id, ctx=ast.Load())
    if isinstance(target, ast.Subscript):
        return ast.Subscript(value=target.value, slice=target.slice, ctx=ast.Load())
    raise Undecided("assignment")


def _loop(evaluator: Evaluator, one: ast.For | ast.While, env: Env) -> None:
    items = iter(evaluator.iterated(evaluator.value(one.iter, env))) if isinstance(one, ast.For) else None
    while True:
        evaluator.budget.step()
        if isinstance(one, ast.For):
            assert items is not None
            try:
                evaluator.assign(one.target, next(items), env)
            except StopIteration:
                break
        elif not _true(evaluator, one.test, env):
            break
        try:
            run_body(evaluator, one.body, env)
        except Leave as leave:
            if leave.kind == "return":
                raise
            if leave.kind == "break":
                return
    run_body(evaluator, one.orelse, env)


def run_import(one: ast.Import | ast.ImportFrom, env: Env) -> None:
    """Names of modules and of what is taken from them; none is loaded."""
    for alias in one.names:
        if isinstance(one, ast.Import):
            env[alias.asname or alias.name.partition(".")[0]] = Known(
                alias.name if alias.asname else alias.name.partition(".")[0]
            )
        elif alias.name != "*":
            env[alias.asname or alias.name] = Known(f"{one.module or ''}.{alias.name}".removeprefix("builtins."))


def run_leniently(evaluator: Evaluator, body: list[ast.stmt], env: Env) -> None:
    """Statements of which many cannot be told: what they assign is forgotten, and their bodies are looked into."""
    for one in body:
        if isinstance(one, ast.FunctionDef):
            env[one.name] = Function(one, env)
            inner = dict(env)
            for parameter in ast.walk(one.args):
                if isinstance(parameter, ast.arg):
                    inner.pop(parameter.arg, None)
            _in_function(evaluator, one.body, inner)
        elif isinstance(one, ast.AsyncFunctionDef | ast.ClassDef):
            env.pop(one.name, None)
            run_leniently(evaluator, one.body, dict(env))
        elif isinstance(one, ast.If | ast.Try | ast.TryStar | ast.With | ast.AsyncWith):
            _branches(evaluator, one, env)
        elif isinstance(one, ast.For | ast.While | ast.AsyncFor):
            _try_loop(evaluator, one, env)
        else:
            try:
                run_statement(evaluator, one, env)
            except (Undecided, Leave):
                forget(one, env)
                _parts(evaluator, one, env)


def _in_function(evaluator: Evaluator, body: list[ast.stmt], env: Env) -> None:
    """The body of a function, in a small part of the budget: an honest one may compute what it likes."""
    budget = evaluator.budget
    rest = max(budget.steps - FUNCTION_STEPS, 0)
    budget.steps -= rest
    with contextlib.suppress(OutOfSteps):
        run_leniently(evaluator, body, env)
    budget.steps = max(budget.steps, 0) + rest


def _branches(evaluator: Evaluator, one: ast.stmt, env: Env) -> None:
    """The bodies of a compound statement, all of them: which one runs is not asked."""
    if isinstance(one, ast.With | ast.AsyncWith):
        for item in one.items:
            try:
                value = evaluator.value(item.context_expr, env)
                if item.optional_vars is not None:
                    evaluator.assign(item.optional_vars, value, env)
            except Undecided:
                if item.optional_vars is not None:
                    forget(item.optional_vars, env)
    for name in ("body", "handlers", "orelse", "finalbody"):
        for part in getattr(one, name, []):
            run_leniently(evaluator, part.body if isinstance(part, ast.ExceptHandler) else [part], env)


def _try_loop(evaluator: Evaluator, one: ast.For | ast.While | ast.AsyncFor, env: Env) -> None:
    try:
        run_statement(evaluator, one, env)
    except (Undecided, Leave):
        forget(one, env)
        run_leniently(evaluator, [*one.body, *one.orelse], env)


def _parts(evaluator: Evaluator, one: ast.stmt, env: Env) -> None:
    """The calls inside a statement that as a whole cannot be told, the outer before the inner."""
    done: set[int] = set()
    for node in ast.walk(one):
        if isinstance(node, ast.Call) and id(node) not in done:
            try:
                evaluator.value(node, env)
            except (Undecided, Leave):
                continue
            done |= {id(inner) for inner in ast.walk(node)}


def forget(node: ast.AST, env: Env) -> None:
    """Names that a statement assigns have no known value after it."""
    for one in ast.walk(node):
        if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store):
            env.pop(one.id, None)
