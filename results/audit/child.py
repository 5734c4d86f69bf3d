"""The process that analyses sources, for results.audit.pool: one JSON line in, one out, within limits that end it.

    python -m results.audit.child < REQUESTS

It executes nothing of what it reads. Its limits are set here, before anything foreign is opened.
"""

import ast
import base64
import gc
import json
import os
import resource
import sys
import threading
import traceback
import typing
from dataclasses import asdict
from pathlib import Path

from results.audit import judge
from results.audit.finding import REVIEW, Finding
from results.audit.source.files import Beside
from results.audit.source.program import Limits, Program, SourceError
from results.audit.source.read import program_of, read_program
from results.untrusted import plain

STACK_BYTES = 256 * 1024 * 1024  # long chains of operators are legal, and analysed by recursion
RECURSION = 12_000
FRAMEWORKS = ("torch", "jax", "mlx", "tinygrad", "tensorflow")


def main() -> None:
    limits = Limits(**json.loads(sys.argv[1])) if len(sys.argv) > 1 else Limits()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever prints does not print into the answers
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    sys.setrecursionlimit(RECURSION)
    gc.disable()  # trees hold no circles, and their many nodes make every pass of the collector slow
    for line in sys.stdin:
        request = json.loads(line)
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (int(_used() + limits.seconds) + 1, hard))
        print(json.dumps(_answered(request, limits)), file=answers, flush=True)
        gc.collect()


def _used() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _answered(request: dict[str, typing.Any], limits: Limits) -> dict[str, typing.Any]:
    """The answer, computed in a thread that has the stack for it."""
    found: list[dict[str, typing.Any]] = []
    threading.stack_size(STACK_BYTES)
    worker = threading.Thread(target=lambda: found.append(analysed(request, limits)))
    worker.start()
    worker.join()
    return found[0] if found else {"refused": "the analysis ended by an error of its own; report it", "worn": True}


def analysed(request: dict[str, typing.Any], limits: Limits) -> dict[str, typing.Any]:
    """What the checks find in one source; `refused` says why where it cannot be analysed."""
    path = Path(request["path"])
    try:
        if request.get("data") is None:
            program = read_program(path, limits)
        else:
            program = program_of(base64.b64decode(request["data"]), path, Beside(None, limits), limits)
    except SourceError as error:
        return {"refused": str(error), "worn": isinstance(error.__context__, RecursionError | MemoryError)}
    told = {"sha256": program.sha256, "bytes": program.bytes, "main": program.main.name}
    try:
        found = [*noted(program), *judge.triage(program, request.get("run"))]
    except (RecursionError, MemoryError):
        return told | {"refused": f"{plain(path)} is nested too deeply, or too large, to be analysed", "worn": True}
    except Exception as error:  # the source is anybody's: whatever it brings a check to, the verdict is review
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}:{place.lineno}"
        return told | {"refused": f"a check broke down on it ({where}: {type(error).__name__}: {plain(error)})"}
    return told | {"findings": [asdict(one) for one in found]}


def noted(program: Program) -> list[Finding]:
    """What could not be read of a source is for a person to read."""
    main = program.main.name
    says = "a part of the source was not analysed: "
    found = [Finding("source", REVIEW, "[R] C2", says + plain(one, 600), main, None) for one in program.notes]
    if not any(_imports(piece.tree, FRAMEWORKS) for piece in program.pieces):
        says = f"it imports none of {', '.join(FRAMEWORKS)}: this is no training script, or its code was not found"
        found.append(Finding("source", REVIEW, "[R] E3", says, main, None))
    return found


def _imports(tree: ast.Module, names: tuple[str, ...]) -> bool:
    """Whether a piece imports one of the packages, in whatever way it names it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and any(alias.name.partition(".")[0] in names for alias in node.names):
            return True
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in names:
            return True
        if isinstance(node, ast.Constant) and node.value in names:
            return True
    return False


if __name__ == "__main__":
    main()
