"""Programs in processes of their own that need not import torch anew: each is forked from a process that has it.

The import takes two to three CPU-seconds, a tiny run less than one. What is about the start of a program (torchrun, the
second stage that a run becomes, a packed file) is tested in processes that were started plainly.
"""

import multiprocessing
import multiprocessing.context
import multiprocessing.forkserver
import os
import runpy
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired

ON_ONE_CORE = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


@cache
def fork_server() -> multiprocessing.context.ForkServerContext:
    """The process to fork from, one for each process of the suite; it ends with it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "torch.distributed", "sentencepiece"])
    before = {name: os.environ.get(name) for name in ON_ONE_CORE}
    os.environ.update(ON_ONE_CORE)  # torch reads it while it is imported
    try:
        multiprocessing.forkserver.ensure_running()
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    return context


def become(script: str, arguments: list[str], env: dict[str, str], output: dict[int, str]) -> None:
    """In the fork: be what `python SCRIPT ARGUMENTS` would be, as far as the program can tell."""
    assert "torch" in sys.modules, "the fork server did not import torch"
    os.setsid()
    for stream, path in output.items():
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), stream)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = [script, *arguments]
    sys.path[0] = str(Path(script).parent)
    runpy.run_path(script, run_name="__main__")


def group_environment(rank: int, world: int, port: int) -> dict[str, str]:
    """What torchrun tells a process of its group."""
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "MASTER_PORT": port}
    return {"MASTER_ADDR": "127.0.0.1", **{name: str(value) for name, value in names.items()}}


def run_forked(
    script: Path, *arguments: object, env: Mapping[str, str], world: int = 1, timeout: float = 300
) -> CompletedProcess[str]:
    """`python SCRIPT ARGUMENTS`, finished; of a group of processes all output, and the first exit status that is
    not 0."""
    words = [str(word) for word in arguments]
    with socket.socket() as probe, tempfile.TemporaryDirectory() as folder:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        output = {stream: str(Path(folder) / str(stream)) for stream in (1, 2)}
        for path in output.values():
            Path(path).touch()
        group = [{} if world == 1 else group_environment(rank, world, port) for rank in range(world)]
        processes = [
            fork_server().Process(target=become, args=(str(script), words, {**env, **its}, output)) for its in group
        ]
        for process in processes:
            process.start()
        last = time.monotonic() + timeout
        for process in processes:
            process.join(max(0.0, last - time.monotonic()))
        late = [process.pid for process in processes if process.is_alive()]
        for pid in late:
            os.killpg(pid, signal.SIGKILL)
        stdout, stderr = (Path(output[stream]).read_text() for stream in (1, 2))
        if late:
            raise TimeoutExpired([str(script), *words], timeout, stdout, stderr)
        status = next((process.exitcode for process in processes if process.exitcode), 0)
        return CompletedProcess([str(script), *words], status, stdout, stderr)
