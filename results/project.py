"""What golf.toml says that results need: who submits, and where runs lie."""

import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

AUTHOR_KEYS = ("author", "github_id", "name")


class ProjectError(Exception):
    """golf.toml cannot be read, or holds what it cannot hold."""


@dataclass(frozen=True, kw_only=True)
class Project:
    author: str | None = None
    github_id: str | None = None
    name: str | None = None  # of the submission
    runs_dir: str = "runs"


def named(project: Project, name: str) -> Project:
    """With a name of one submission, which goes before that of golf.toml. Raises ProjectError."""
    if not name.strip() or not name.isprintable():
        raise ProjectError(f"--name is {name!r}, not a line of text")
    return replace(project, name=name)


def load_project(path: Path = Path("golf.toml")) -> Project:
    """The project file, or what holds without one."""
    if not path.exists():
        return Project()
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ProjectError(f"{path}: {error}") from None
    author = data.get("author", {})
    if not isinstance(author, dict):
        raise ProjectError(f"{path}: author is {author!r}, not a table; write [author] with {', '.join(AUTHOR_KEYS)}")
    if unknown := sorted(set(author) - set(AUTHOR_KEYS)):
        raise ProjectError(f"{path}: [author] has no {unknown[0]}; there are {', '.join(AUTHOR_KEYS)}")
    values = {**author, "runs_dir": data.get("runs_dir", "runs")}
    for key, value in values.items():
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            raise ProjectError(f"{path}: {key} is {value!r}, not a line of text")
    return Project(**values)
