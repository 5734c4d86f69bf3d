"""What pyproject.toml asks for and requirements.lock pins, and versions compared."""

import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[a-z,]+\])?==([0-9][A-Za-z0-9.]*)$", re.MULTILINE)


@dataclass(frozen=True)
class Requirement:
    name: str
    least: str
    pin: str | None  # of the lock

    def describe(self) -> str:
        return f"{self.least} or newer is asked" + (f", {self.pin} locked" if self.pin else "")

    def too_old(self, version: str) -> bool:
        return numbers(version) < numbers(self.least)

    def as_locked(self, version: str) -> bool:
        """Whatever the build: 2.13.0+cpu is 2.13.0."""
        return self.pin is None or version.partition("+")[0] == self.pin


def requirements(root: Path) -> Iterator[Requirement]:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    locked = pins(root)
    for asked in project["dependencies"]:
        name, least = re.split(r"(?:\[\w+\])?>=", asked)
        yield Requirement(name, least, locked.get(normal(name)))


def pins(root: Path) -> dict[str, str]:
    """Every version in the lock, by normal name; none where there is no lock."""
    lock = root / "requirements.lock"
    return {normal(name): pin for name, pin in PIN.findall(lock.read_text(encoding="utf-8") if lock.is_file() else "")}


def pinned(root: Path, names: Iterable[str]) -> list[str]:
    """These as pip is asked for them: in the lock's version where it has one."""
    asked = {one.name: one for one in requirements(root)}
    return [f"{name}=={asked[name].pin}" if asked[name].pin else f"{name}>={asked[name].least}" for name in names]


def python_asked(root: Path) -> tuple[str, tuple[int, ...]]:
    """As it is written, and to compare by."""
    written = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["requires-python"]
    return written, numbers(written.removeprefix(">="))


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def numbers(version: str) -> tuple[int, ...]:
    """Of a version, to compare by.

    >>> numbers("2.13.0rc1") < numbers("2.14"), numbers("3") == numbers("3.0")
    (True, True)
    """
    found = [int(part) for part in re.findall(r"\d+", re.split(r"[a-z+]", version)[0])]
    while found and not found[-1]:
        found.pop()
    return tuple(found)
