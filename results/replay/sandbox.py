"""A command in the strongest sandbox that this machine has; which one it was is told, never left open."""

import json
import os
import shutil
import site
import subprocess
import sys
import tempfile
import time
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from golf_core.rundir import RunDirError
from results.replay.jail import HOOK, LANDLOCK, NAMESPACES, REFUSED, TIMED_OUT

LEVELS = (NAMESPACES, LANDLOCK, HOOK)  # the strongest first
WORDS = {
    NAMESPACES: "a new root with read-only binds, a network of its own without routes, no capabilities",
    LANDLOCK: "files by Landlock, sockets by seccomp; processes and shared memory of the machine can be seen",
    HOOK: "a hook inside Python alone: native code walks around it, so that nothing is proved against intent",
}
JAIL, HOOK_FILE = Path(__file__).with_name("jail.py"), Path(__file__).with_name("hook.py")
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/sys")
CONFIGURATION = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "passwd", "group", "nsswitch.conf", "hosts", "localtime")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
GPU_DEVICES = ("nvidia*", "kfd", "dri")
GRACE_S = 30.0
TAIL_BYTES = 16_000  # of the output that are kept
MAX_TRACE_BYTES = 64_000_000
MEMORY_DISK = "2g"  # of /tmp and /dev/shm each


class SandboxError(RunDirError):
    """No sandbox could be had, or what ran in it left nothing; the message says why."""


@dataclass(frozen=True)
class Limits:
    """Of a process in the sandbox, and of what it starts."""

    seconds: float = 900.0
    file_bytes: int = 4_000_000_000  # of each file that is written
    memory_bytes: int | None = None  # address space; None: as the machine has


@dataclass(frozen=True)
class Ran:
    level: str
    refused: tuple[str, ...]  # stronger levels and why they could not be had
    code: int
    seconds: float
    output: str  # its end
    events: tuple[tuple[str, str], ...]  # (kind, path or address), each once, as the hook wrote them down

    @property
    def timed_out(self) -> bool:
        return self.code == TIMED_OUT

    @property
    def words(self) -> str:
        """The sandbox, in words; with what was better and could not be had."""
        weaker = f" ({'; '.join(self.refused)})" if self.refused else ""
        return f"{self.level}: {WORDS[self.level]}{weaker}"


@dataclass
class Work:
    """The folders of one sandbox: `inside` is read-only there, `outside` is all that can be written and kept."""

    folder: Path
    files: list[tuple[Path, Path]] = field(default_factory=list)  # (of this machine, its place in `inside`)

    @property
    def inside(self) -> Path:
        return self.folder / "in"

    @property
    def outside(self) -> Path:
        return self.folder / "out"

    def show(self, source: Path, name: str) -> Path:
        """A file of this machine, to be seen in the sandbox under another name; it is not copied."""
        place = self.inside / name
        place.parent.mkdir(parents=True, exist_ok=True)
        self.files.append((source.resolve(strict=True), place))
        return place


@contextmanager
def work_folder() -> Iterator[Work]:
    folder = Path(tempfile.mkdtemp(prefix="golf-replay-")).resolve()
    try:
        work = Work(folder)
        for name in ("in/hook", "out/home", "out/tmp", "out/trace", "out/files", "root"):
            (folder / name).mkdir(parents=True)
        yield work
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_in_sandbox(
    work: Work,
    command: typing.Callable[[str], Sequence[str]],
    env: Mapping[str, str],
    limits: Limits,
    levels: Sequence[str] = LEVELS,
    gpu: bool = False,
) -> Ran:
    """Run at the first of the levels that can be had. `command` is told which, since below namespaces of its own a
    process has no loopback. Raises SandboxError where none can."""
    refused: list[str] = []
    shutil.copyfile(HOOK_FILE, work.inside / "hook" / "sitecustomize.py")
    for level in levels:
        order = _order(work, level, list(command(level)), env, limits, gpu)
        began = time.monotonic()
        code, why = _start(order, work, limits)
        if code == REFUSED and why:
            refused.append(f"not {level}: {why}")
            continue
        seconds = time.monotonic() - began
        return Ran(level, tuple(refused), code, seconds, _tail(work.folder / "log"), tuple(_events(work)))
    raise SandboxError(f"no sandbox could be had on this machine: {'; '.join(refused)}")


def _order(
    work: Work, level: str, command: list[str], env: Mapping[str, str], limits: Limits, gpu: bool
) -> dict[str, typing.Any]:
    reads, devices = readable(), [path for path in DEVICES if os.path.exists(path)]
    if gpu:
        devices += [str(path) for name in GPU_DEVICES for path in sorted(Path("/dev").glob(name))]
    for source, target in work.files:
        target.unlink(missing_ok=True)
        if level == NAMESPACES:
            target.touch()  # the file is bound over it
        else:
            target.symlink_to(source)
    sources = [str(source) for source, _ in work.files]
    allow = {
        "read": [*reads, *sources, "/proc", "/dev/shm", str(work.inside), "/etc"],
        "write": [str(work.outside), *devices],
    }
    hook = {"trace": str(work.outside / "trace"), "allow": allow if level == HOOK else None}
    (work.inside / "hook" / "hook.json").write_text(json.dumps(hook), encoding="utf-8")
    resources = {"RLIMIT_FSIZE": limits.file_bytes}
    if limits.memory_bytes is not None:
        resources["RLIMIT_AS"] = limits.memory_bytes
    return {
        "level": level,
        "root": str(work.folder / "root"),
        "inside": str(work.inside),
        "outside": str(work.outside),
        "folder": str(work.outside / "files"),
        "reads": reads,
        "files": [[str(source), str(target)] for source, target in work.files],
        "devices": devices,
        "memory_disk": MEMORY_DISK,
        "command": command,
        "env": _environment(work, env),
        "limits": resources,
        "seconds": limits.seconds,
    }


def _environment(work: Work, env: Mapping[str, str]) -> dict[str, str]:
    """Little, and nothing that names a place of this machine's user."""
    caches = {name: str(work.outside / "tmp") for name in ("TMPDIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")}
    told = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1", **caches}
    told |= {"HOME": str(work.outside / "home"), "XDG_CACHE_HOME": str(work.outside / "home")}
    told |= {"PYTHONPATH": str(work.inside / "hook"), "PYTHONDONTWRITEBYTECODE": "1"}
    return told | dict(env)


def _start(order: Mapping[str, typing.Any], work: Work, limits: Limits) -> tuple[int, str]:
    """(exit code, why it did not start)."""
    mine, theirs = os.pipe()
    with open(mine, encoding="utf-8", errors="replace") as status, (work.folder / "log").open("wb") as log:
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", str(JAIL), str(theirs)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(theirs,),
                env={"PATH": os.defpath},
                start_new_session=True,
            )
        finally:
            os.close(theirs)
        try:
            process.communicate(json.dumps(order).encode(), timeout=limits.seconds + GRACE_S)
        except BaseException as error:
            process.kill()  # with it the command, which asked the kernel for that
            process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                return TIMED_OUT, ""
            raise
        return process.returncode, status.read(2000).strip()


def talk_in_sandbox(
    work: Work,
    level: str,
    command: Sequence[str],
    env: Mapping[str, str],
    limits: Limits,
    descriptors: Sequence[int],
    gpu: bool = False,
) -> "tuple[subprocess.Popen[bytes], typing.TextIO]":
    """A command at one level, to be talked with over descriptors that it inherits; what it prints comes as its
    `stderr`. Beside it where the reason is told if the level cannot be had: then its exit code is REFUSED."""
    shutil.copyfile(HOOK_FILE, work.inside / "hook" / "sitecustomize.py")
    order = _order(work, level, list(command), env, limits, gpu)
    mine, theirs = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", str(JAIL), str(theirs)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=(theirs, *descriptors),
            env={"PATH": os.defpath},
            start_new_session=True,
        )
    except BaseException:
        os.close(mine)
        raise
    finally:
        os.close(theirs)
    assert process.stdin is not None
    with process.stdin as told:
        told.write(json.dumps(order).encode())
    return process, open(mine, encoding="utf-8", errors="replace")


def readable() -> list[str]:
    """The system's and Python's own folders, none within another."""
    python = [sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix, *site.getsitepackages()]
    python += [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    python.append(str(Path(sys.executable).resolve().parent))
    etc = [f"/etc/{name}" for name in CONFIGURATION]
    wanted = [path for path in (*SYSTEM, *etc, *dict.fromkeys(python)) if os.path.exists(path)]
    return [
        path
        for path in wanted
        if not any(path != other and path.startswith(other.rstrip("/") + "/") for other in wanted)
    ]


def _tail(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL_BYTES))
        return file.read().decode("utf-8", "replace")


def _events(work: Work) -> Iterator[tuple[str, str]]:
    """What the hooks of all its processes wrote; a line that is none of theirs is passed over."""
    seen: dict[tuple[str, str], None] = {}
    left, folder = MAX_TRACE_BYTES, work.outside / "trace"
    for path in sorted(folder.iterdir()) if folder.is_dir() and not folder.is_symlink() else []:
        if path.is_symlink() or not path.is_file() or (left := left - path.stat().st_size) < 0:
            continue
        for line in path.read_bytes().splitlines():
            try:
                kind, what = json.loads(line)
            except (ValueError, TypeError, RecursionError):
                continue
            if isinstance(kind, str) and isinstance(what, str):
                seen[kind, what] = None
    return iter(seen)
