"""Enters a container: a program of its own, run as `python -I -S enter.py PLAN`, that imports nothing of ours.

It makes private mount and process namespaces, so that `/root` and the volumes lie where the code expects them, and so
that everything the container started dies with it. Three processes: this one, whose parent is the plane; the first of
the new namespace, which reaps; and the entry point. When the plane dies, however, the kernel kills all three.

SIGINT and SIGTERM are handed down to the entry point. SIGUSR2 kills the container at once, all of it.
"""

import ctypes
import json
import os
import signal
import sys
from typing import Any, NoReturn

CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER = 0x00020000, 0x20000000, 0x10000000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
PR_SET_PDEATHSIG = 1
KEPT = {os.ST_NOSUID: 2, os.ST_NODEV: 4, os.ST_NOEXEC: 8, os.ST_NOATIME: 1024, os.ST_RELATIME: 1 << 21}

HANDED_DOWN = (signal.SIGINT, signal.SIGTERM)

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str | None, flags: int) -> None:
    encoded = None if kind is None else kind.encode()
    check(libc.mount(source.encode(), target.encode(), encoded, flags, None), f"mount {source} on {target}")


def bind(source: str, target: str, read_only: bool) -> None:
    mount(source, target, None, MS_BIND | MS_REC)
    if read_only:
        # A remount must keep the flags that the mount below it is locked with.
        kept = sum(flag for have, flag in KEPT.items() if os.statvfs(target).f_flag & have)
        mount(source, target, None, MS_BIND | MS_REMOUNT | MS_RDONLY | kept)


def leave_host() -> None:
    """Namespaces of one's own; where that takes more than we may, with a user namespace in which we seem to be root."""
    user, group = os.getuid(), os.getgid()
    if libc.unshare(CLONE_NEWNS | CLONE_NEWPID) == 0:
        return
    check(libc.unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUSER), "unshare, also with a user namespace")
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def give_up(error: BaseException) -> NoReturn:
    sys.stderr.write(f"the container could not be entered: {error}\n")
    sys.stderr.flush()
    os._exit(125)


def die_with_parent() -> None:
    check(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL), "prctl")


def hand_down(pid: int) -> None:
    for number in HANDED_DOWN:
        signal.signal(number, lambda got, _frame: os.kill(pid, got))
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def code_of(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def first(plan: dict[str, Any], parent_lives: int) -> NoReturn:
    """Process 1 of the container: lays out its root, starts the entry point, reaps until that has ended."""
    die_with_parent()
    if not os.read(parent_lives, 1):  # the parent ended before it could take us with it
        os._exit(125)
    os.close(parent_lives)
    root = plan["root"]
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    for source, target, read_only in plan["binds"]:
        bind(source, root + target, read_only)
    mount("proc", root + "/proc", "proc", 0)
    os.chroot(root)
    os.chdir(plan["cwd"])
    pid = os.fork()
    if pid == 0:
        for number in HANDED_DOWN:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.execve(plan["argv"][0], plan["argv"], plan["env"])
    hand_down(pid)
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == pid:
            os._exit(code_of(status))


def main() -> None:
    # No signal may come between a fork and the handlers that know of the child.
    signal.pthread_sigmask(signal.SIG_BLOCK, [*HANDED_DOWN, signal.SIGUSR2])
    die_with_parent()
    with open(sys.argv[1]) as file:
        plan = json.load(file)
    try:
        leave_host()
    except OSError as error:
        give_up(error)
    parent_lives, still_here = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(still_here)
        try:
            first(plan, parent_lives)
        except BaseException as error:
            give_up(error)
    signal.signal(signal.SIGUSR2, lambda _got, _frame: os.kill(pid, signal.SIGKILL))
    hand_down(pid)
    os.write(still_here, b"!")
    os._exit(code_of(os.waitpid(pid, 0)[1]))


main()
