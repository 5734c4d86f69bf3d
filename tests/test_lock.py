"""The lock: one exact version of everything, of torch no particular build, and no place to take it from."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PIN = re.compile(r"([A-Za-z0-9._-]+)(?:\[[a-z,]+\])?==([0-9][A-Za-z0-9.]*)")


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    found = {}
    for line in lines:
        if line and not line.startswith("#"):
            match = PIN.fullmatch(line)
            assert match, f"not a plain pin: {line}"
            found[normal(match[1])] = match[2]
    return found


def test_every_line_is_a_pin_and_torch_has_no_build():
    """No range, hash, local tag, option or address: any machine may choose its own build of torch."""
    assert pins()["torch"] == "2.13.0"
    assert len(pins()) > 50


def test_the_lock_holds_every_dependency_of_the_project():
    """What pyproject.toml asks for, tools included, is pinned within its range."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    asked = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    asked += project["build-system"]["requires"]
    for requirement in asked:
        match = re.fullmatch(r"([A-Za-z0-9._-]+)(?:\[\w+\])?>=([0-9.]+)", requirement)
        assert match, requirement
        pinned = [int(part) for part in re.findall(r"\d+", pins()[normal(match[1])])]
        assert pinned >= [int(part) for part in match[2].split(".")], requirement


def test_this_environment_is_the_locked_one():
    """Every pinned package is installed in that version; torch in any build of it."""
    installed = {normal(one.metadata["Name"]): one.version.partition("+")[0] for one in metadata.distributions()}
    assert {name: installed.get(name) for name in pins()} == pins()
