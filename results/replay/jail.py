"""A program of its own, run by path with nothing of ours importable: shuts itself in, then becomes what it is told.

    python -I jail.py STATUS_FD < ORDER.json

The order names the level, what may be read and written, and the command. Where the level cannot be had here, the
reason goes to STATUS_FD as a line and the exit code is REFUSED; nothing was run then.

    namespaces  user, mount, network, PID and IPC namespaces of its own: a new root of read-only binds, a network that
                is nothing but a loopback of its own, no capabilities
    landlock    the kernel refuses files by path, and seccomp all sockets but local ones: the machine's root stays
    audit hook  nothing of the kernel's: a hook inside Python refuses, which any native code walks around
"""

import ctypes
import errno
import fcntl
import json
import os
import platform
import resource
import signal
import socket
import struct
import sys
import time
from typing import Any

REFUSED, TIMED_OUT = 97, 124  # exit codes
NAMESPACES, LANDLOCK, HOOK = "namespaces", "landlock", "audit hook"
NEW_NS, NEW_UTS, NEW_IPC, NEW_USER, NEW_PID, NEW_NET = 1 << 17, 1 << 26, 1 << 27, 1 << 28, 1 << 29, 1 << 30
MS_BIND, MS_REC, MS_PRIVATE, MS_NOSUID, MS_NODEV = 1 << 12, 1 << 14, 1 << 18, 2, 4
MNT_DETACH, AT_FDCWD, AT_RECURSIVE, ATTR_RDONLY = 2, -100, 0x8000, 1
PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_SECUREBITS, PR_SET_NO_NEW_PRIVS = 1, 22, 24, 28, 38
PR_SET_CHILD_SUBREAPER = 36
NO_ROOT_LOCKED = 1 | 2 | 4 | 8  # SECBIT_NOROOT, SECBIT_NO_SETUID_FIXUP, both locked
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
MOUNT_SETATTR, LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 442, 444, 445, 446  # of every machine
SOCKET = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}  # AUDIT_ARCH, socket(2)
IO_URING_SETUP = 425
READ_BITS = 1 << 0 | 1 << 2 | 1 << 3  # execute, read a file, read a folder
FILE_BITS = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15  # of these those that a plain file can have
ALL_BITS = (13, 14, 15, 15, 16)  # how many rights the first versions of Landlock know

Order = dict[str, Any]  # what is to be shut in, as the program that starts this one tells it

libc = ctypes.CDLL(None, use_errno=True)


class CannotShut(Exception):
    """The level cannot be had on this machine; the message says why."""


def must(name: str, *arguments: object) -> int:
    """A function of libc, whose failure is a reason."""
    found = int(getattr(libc, name)(*arguments))
    if found < 0:
        code = ctypes.get_errno()
        told = name if name != "syscall" else f"system call {arguments[0]}"
        raise CannotShut(f"{told}: {os.strerror(code)}")
    return found


def mount(source: str, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    try:
        must(
            "mount",
            source.encode(),
            target.encode(),
            None if kind is None else kind.encode(),
            ctypes.c_ulong(flags),
            None if options is None else options.encode(),
        )
    except CannotShut as error:
        raise CannotShut(f"{target}: {error}") from None


def read_only(target: str, whole: bool = True) -> None:
    attributes = struct.pack("<4Q", ATTR_RDONLY, 0, 0, 0)
    flags = AT_RECURSIVE if whole else 0
    must("syscall", MOUNT_SETATTR, AT_FDCWD, target.encode(), flags, attributes, ctypes.c_size_t(len(attributes)))


def enter_namespaces() -> None:
    """Who we are stays the same; what we may do inside is everything, until `drop` takes it away."""
    user, group = os.getuid(), os.getgid()
    must("unshare", NEW_USER | NEW_NS | NEW_NET | NEW_PID | NEW_IPC | NEW_UTS)
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {user} 1"),
        ("gid_map", f"{group} {group} 1"),
    ):
        try:
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)
        except OSError as error:
            raise CannotShut(f"/proc/self/{name}: {error.strerror}") from None


def loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sh14x", b"lo", 1)  # IFF_UP
        try:
            fcntl.ioctl(sock, 0x8914, request)  # SIOCSIFFLAGS
        except OSError as error:
            raise CannotShut(f"the loopback of its own network: {error.strerror}") from None


def place(root: str, path: str) -> str:
    return root + os.path.abspath(path)


def bind(root: str, source: str, target: str, writable: bool) -> None:
    inside = place(root, target)
    if os.path.isdir(source):
        os.makedirs(inside, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(inside), exist_ok=True)
        if not os.path.exists(inside):
            with open(inside, "w", encoding="ascii"):
                pass
    mount(source, inside, None, MS_BIND | MS_REC)
    if not writable:
        read_only(inside)


def build_root(order: Order) -> None:
    """A new root: nothing in it but what the order names, and nothing to write but its folder and empty memory."""
    root = order["root"]
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    mount("tmpfs", root, "tmpfs", MS_NOSUID | MS_NODEV, "size=16m,mode=755")
    for name, size in (("/tmp", order["memory_disk"]), ("/dev/shm", order["memory_disk"])):
        os.makedirs(place(root, name), exist_ok=True)
        mount("tmpfs", place(root, name), "tmpfs", MS_NOSUID | MS_NODEV, f"size={size},mode=1777")
    for path in order["reads"]:
        if os.path.islink(path):
            os.makedirs(os.path.dirname(place(root, path)), exist_ok=True)
            os.symlink(os.readlink(path), place(root, path))
        else:
            bind(root, path, path, writable=False)
    for path in order["devices"]:
        bind(root, path, path, writable=True)
    os.makedirs(place(root, "/proc"), exist_ok=True)
    try:
        mount("proc", place(root, "/proc"), "proc", MS_NOSUID | MS_NODEV)
    except (
        CannotShut
    ):  # parts of the machine's own are hidden, as in a container: then its own, of which others are shut
        mount("/proc", place(root, "/proc"), None, MS_BIND | MS_REC)
    read_only(place(root, "/proc"))  # whoever is root could else write what the machine listens to
    bind(root, order["inside"], order["inside"], writable=False)
    for source, target in order["files"]:
        bind(root, source, target, writable=False)
    bind(root, order["outside"], order["outside"], writable=True)
    os.makedirs(place(root, "/.old"))
    number = PIVOT_ROOT.get(platform.machine())
    if number is None:
        raise CannotShut(f"machine {platform.machine()}: its pivot_root is not known here")
    must("syscall", number, root.encode(), place(root, "/.old").encode())
    os.chdir("/")
    must("umount2", b"/.old", MNT_DETACH)
    os.rmdir("/.old")
    read_only("/", whole=False)


def drop() -> None:
    """No capability now, and none by any program that is started."""
    must("prctl", PR_SET_SECUREBITS, NO_ROOT_LOCKED, 0, 0, 0)
    for capability in range(64):
        if libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0 and ctypes.get_errno() == errno.EINVAL:
            break
    head, none = struct.pack("<Ii", 0x20080522, 0), struct.pack("<6I", 0, 0, 0, 0, 0, 0)
    must("capset", head, none)
    must("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def rule(ruleset: int, path: str, bits: int, known: int) -> None:
    handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not os.path.isdir(path):
            bits &= FILE_BITS
        told = struct.pack("<Qi", bits & known, handle)
        must("syscall", LANDLOCK_ADD, ruleset, 1, told, 0)
    finally:
        os.close(handle)


def landlock(order: Order) -> None:
    """Files by path, for this process and all that it starts; what was not named is refused."""
    version = int(libc.syscall(LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1))
    if version < 1:
        raise CannotShut(f"Landlock: {os.strerror(ctypes.get_errno())}")
    known = (1 << ALL_BITS[min(version, len(ALL_BITS)) - 1]) - 1
    must("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    attributes = struct.pack("<Q", known)
    if version >= 6:  # no local socket without a path to processes outside, and no signal
        attributes = struct.pack("<3Q", known, 0, 1 | 2)
    ruleset = must("syscall", LANDLOCK_CREATE, attributes, ctypes.c_size_t(len(attributes)), 0)
    for path in [*order["reads"], order["inside"], *(source for source, _ in order["files"]), "/proc"]:
        rule(ruleset, path, READ_BITS, known)
    for path in [order["outside"], *order["devices"]]:
        rule(ruleset, path, known, known)
    no_sockets()
    must("syscall", LANDLOCK_RESTRICT, ruleset, 0)
    os.close(ruleset)


def no_sockets() -> None:
    """No socket but a local one, and no io_uring, which could make one."""
    known = SOCKET.get(platform.machine())
    if known is None:
        raise CannotShut(f"machine {platform.machine()}: its system calls are not known here")
    arch, number = known
    allow, refuse, kill = 0x7FFF0000, 0x00050000 | errno.EACCES, 0x80000000
    load, equal, at_least, answer = 0x20, 0x15, 0x35, 0x06
    program = [
        (load, 0, 0, 4),
        (equal, 1, 0, arch),
        (answer, 0, 0, kill),
        (load, 0, 0, 0),
        (at_least, 4, 0, 0x40000000),  # the same calls by other numbers (x32)
        (equal, 3, 0, IO_URING_SETUP),
        (equal, 0, 3, number),
        (load, 0, 0, 16),
        (equal, 1, 0, socket.AF_UNIX),
        (answer, 0, 0, refuse),
        (answer, 0, 0, allow),
    ]
    code = b"".join(struct.pack("<HBBI", *line) for line in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    filters = struct.pack("<HxxxxxxQ", len(program), ctypes.addressof(buffer))
    must("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    must("prctl", PR_SET_SECCOMP, 2, ctypes.c_char_p(filters), 0, 0)


def limit(order: Order) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for name, value in order["limits"].items():
        kind = getattr(resource, name)
        _, most = resource.getrlimit(kind)
        value = value if most == resource.RLIM_INFINITY else min(value, most)
        resource.setrlimit(kind, (value, value))


def become(order: Order, status: int) -> None:
    """The last steps, in the process that runs the command. Never returns."""
    try:
        must("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if order["level"] == NAMESPACES:
            loopback_up()
            build_root(order)
        if order["level"] == NAMESPACES or os.geteuid() == 0:
            drop()
        if order["level"] == LANDLOCK:
            landlock(order)
        limit(order)
        os.chdir(order["folder"])
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.set_inheritable(status, False)
        if order["level"] == NAMESPACES and (child := os.fork()):
            first_process(child)
        os.execve(order["command"][0], order["command"], order["env"])
    except (CannotShut, OSError, ValueError) as error:
        os.write(status, f"{error}\n".encode())
    os._exit(REFUSED)


def first_process(child: int) -> None:
    """The first of a PID namespace takes in whoever lost its parent; signals do not end it, as they do a program."""
    while True:
        ended, code = os.wait()
        if ended == child:
            os._exit(os.waitstatus_to_exitcode(code) & 255)


def main() -> int:
    order, status = json.load(sys.stdin), int(sys.argv[1])
    try:
        if order["level"] == NAMESPACES:
            enter_namespaces()
    except CannotShut as error:
        os.write(status, f"{error}\n".encode())
        return REFUSED
    must("prctl", PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    child = os.fork()  # the first process of its namespace: with it all others end
    if not child:
        become(order, status)
    os.close(status)
    code = wait(child, time.monotonic() + order["seconds"])
    if order["level"] == NAMESPACES:  # the end of its first process was the end of all of them
        return code
    while left := children():
        for one in left:
            end(one)
    return code


def wait(child: int, deadline: float) -> int:
    """Until the command has ended, or its time is over."""
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status) & 255
        time.sleep(0.02)
    end(child)
    return TIMED_OUT


def end(child: int) -> None:
    try:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def children() -> list[int]:
    """Of this process: whoever lost its parent is one, too."""
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
        return [int(one) for one in file.read().split()]


if __name__ == "__main__":
    sys.exit(main())
