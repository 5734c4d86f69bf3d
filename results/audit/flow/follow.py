"""A script, followed from its first line to its last without running it."""

import os
import shlex
import sys

from results.audit.flow.calls import Calls
from results.audit.flow.events import Trace
from results.audit.flow.scope import Module, OutOfSteps, Scope
from results.audit.source.program import Program

RACE = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "8"}  # torchrun on eight GPUs
LAUNCHERS = ("python", "python3", "torchrun", "env", "srun", "time", "nohup", "uv")


def read_command(run: str | None) -> tuple[dict[str, str], list[str]]:
    """Variables and arguments of a run command. Raises ValueError for one with an open quotation.

    >>> read_command("TTT=1 torchrun --nproc_per_node=8 train_gpt.py --epochs 3")
    ({'TTT': '1'}, ['--epochs', '3'])
    """
    variables: dict[str, str] = {}
    words = shlex.split(run) if run else []
    script = next((n for n, word in enumerate(words) if word.endswith(".py")), None)
    for word in words[: script if script is not None else len(words)]:
        name, equals, value = word.partition("=")
        if equals and name.isidentifier():
            variables[name] = value
    return variables, words[script + 1 :] if script is not None else []


def follow(program: Program, run: str | None = None) -> tuple[Trace, Calls]:
    """What would happen in it on rank 0 of the race's eight, with the environment of a run command."""
    variables, arguments = read_command(run)
    machine = Calls({**RACE, **variables}, arguments)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, 20_000))
    try:
        for piece in program.pieces:
            if piece is not program.main:
                module = Module(piece.name, Scope())
                stem = os.path.basename(piece.name.split(" ")[0]).removesuffix(".py")
                machine.run_module(module, piece.tree.body)
                machine.modules[stem] = module
        main = Module(program.main.name, Scope())
        machine.run_module(main, program.main.tree.body)
    except OutOfSteps:
        machine.trace.notes.append("the script is larger than is followed; what comes later in it was not seen")
    except RecursionError:
        machine.trace.notes.append("the script nests deeper than is followed; what comes later in it was not seen")
    finally:
        sys.setrecursionlimit(limit)
    return machine.trace, machine
