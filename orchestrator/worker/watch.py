"""The watchdog of one execution: when its worker is gone, whatever still carries its marker is killed.

torchrun's ranks sit in sessions of their own and survive their parents. So the worker puts a marker into the
environment of what it starts, and keeps the writing end of a pipe; a watchdog that is nobody's child reads the
other end. End of file means that the worker ended, however it ended. Forked twice: one that was forked once
died with a Ray actor. Run as a file by a bare interpreter: nothing but the standard library here.

It also keeps the time that an attempt is given in all: a worker that hangs, or was stopped, cannot.
"""

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time

VARIABLE = "GOLF_ATTEMPT_PROCESS"  # in the environment of each process of an execution: folder key, colon, nonce
PATIENCE = 20.0  # seconds of killing before giving up on a process that does not die


def carriers(marker: str) -> list[int]:
    """Processes with the marker in their environment; a marker that ends in a colon matches every nonce."""
    entry = f"{VARIABLE}={marker}".encode()
    found = []
    for name in os.listdir("/proc"):
        if not name.isdecimal() or int(name) == os.getpid():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                environ = file.read().split(b"\0")
        except OSError:  # ended meanwhile, or not ours
            continue
        if entry in environ or (marker.endswith(":") and any(value.startswith(entry) for value in environ)):
            found.append(int(name))
    return found


def kill_carriers(marker: str, patience: float = PATIENCE) -> int:
    """SIGKILL every carrier until two looks in a row find none; how many processes were seen."""
    seen: set[int] = set()
    until, clean = time.monotonic() + patience, 0
    while clean < 2 and time.monotonic() < until:
        alive = carriers(marker)
        clean = 0 if alive else clean + 1
        seen.update(alive)
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if alive:
            time.sleep(0.02)
    return len(seen)


def guard(marker: str, scratch: str, seconds: float) -> int:
    """Start a watchdog for `marker`; the descriptor returned keeps it waiting until it is closed, but no longer than
    `seconds` from now. `scratch` is a folder that it removes in the end.
    """
    reading, writing = os.pipe()
    try:
        subprocess.run(
            [sys.executable, "-I", "-S", os.path.abspath(__file__), str(reading), marker, scratch, str(seconds)],
            pass_fds=(reading,),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={},
            cwd="/",
            check=True,
        )
    except BaseException:
        os.close(writing)
        raise
    finally:
        os.close(reading)
    return writing


def main(reading: int, marker: str, scratch: str, seconds: float) -> None:
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    until = time.monotonic() + seconds
    while select.select([reading], [], [], max(0.0, until - time.monotonic()))[0]:
        if not os.read(reading, 4096):
            break
    kill_carriers(marker)
    shutil.rmtree(scratch, ignore_errors=True)
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3], float(sys.argv[4]))
