"""A script run: somebody's own train_gpt.py with its environment, run as it is. What it may be asked with.

The script sees the variables that it is given here, SEED, DATA_PATH and TOKENIZER_PATH, what torchrun sets, and what
any program needs of the machine (PATH, HOME, ...; orchestrator/environment.py). So its environment is known, and is
part of the run's id. It is written into spec.json and run.json: no secret may be in it.
"""

import ast
import os
import re
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from golf_core.fields import nearest
from orchestrator.environment import SECRET_VALUE, SET_BY_US
from orchestrator.errors import UsageError

RECIPE, SCRIPT = "recipe", "script"  # kinds of submission, as spec.json and run.json name them
SCRIPT_STAGE = "run"  # the one stage of a script's attempt
MAX_SCRIPT_BYTES = 64 * 1024 * 1024
MAX_VALUE = 10_000  # characters of a variable's value
# Names under which the challenge's programs leave their compressed weights. Of the whole folder, whatever the depth.
ARTIFACTS = ("**/*.ptz", "**/final_model*.zst", "**/final_model*.xz", "**/final_model*.lzma", "**/final_model*.br",
             "**/artifact.bin")  # fmt: skip

SECRET_NAME = re.compile(r"SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|COOKIE|(?:^|_)(?:AUTH|PAT|DSN)(?:_|$)")
MAYBE_SECRET_NAME = re.compile(r"TOKEN(?!IZER)|(?<!MON)KEY")  # TRAIN_BATCH_TOKENS=524288 is none
HARMLESS_VALUE = re.compile(r"[+-]?[0-9][0-9_.]{0,11}(?:[eE][+-]?[0-9]{1,2})?|true|false|yes|no|on|off|none|", re.I)


@dataclass(frozen=True, kw_only=True)
class Script:
    """What is asked of a script, beside its text: its name, its environment in order, where its artifact is."""

    name: str
    env: tuple[tuple[str, str], ...] = ()
    artifact: str | None = None  # glob in the folder that it runs in; None: the challenge's names

    def content(self, sha256: str) -> dict[str, typing.Any]:
        """Its part of a run id. The order of the environment has no effect; another file to take as artifact has."""
        taken = {} if self.artifact is None else {"artifact": self.artifact}
        return {"script_sha256": sha256, "environment": dict(self.env)} | taken

    def to_dict(self) -> dict[str, typing.Any]:
        return {"name": self.name, "environment": dict(self.env), "artifact": self.artifact}

    @classmethod
    def from_dict(cls, told: Mapping[str, typing.Any]) -> "Script":
        return cls(name=told["name"], env=tuple(told["environment"].items()), artifact=told["artifact"])

    def describe_environment(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.env)

    def describe_artifact(self) -> str:
        return self.artifact or ", ".join(pattern.removeprefix("**/") for pattern in ARTIFACTS)


def read_script(path: Path) -> str:
    """The text of a script, to the byte (its line ends stay). It must be one Python file that can be read as UTF-8."""
    if not path.name.isprintable():
        raise UsageError(f"--script {str(path)!r}: the name holds what cannot be printed; rename it")
    try:
        if path.stat().st_size > MAX_SCRIPT_BYTES:
            raise UsageError(f"--script {path}: {path.stat().st_size:,} bytes are more than any program has")
        data = path.read_bytes()
        text = data.decode("utf-8")
        tree = ast.parse(data, filename=str(path))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UsageError(f"--script {path}: no Python file in UTF-8: {error}") from None
    except IsADirectoryError:
        raise UsageError(f"--script {path} is a folder; name the file in it, such as {path / 'train_gpt.py'}") from None
    except OSError as error:
        raise UsageError(f"--script {path}: {error.strerror or error}") from None
    if beside := siblings(tree, path):
        raise UsageError(
            f"--script {path} imports {', '.join(beside)} beside it; a script is one file, which runs alone and whose "
            "bytes count alone: put that code into it"
        )
    return text


def siblings(tree: ast.Module, path: Path) -> list[str]:
    """Files and packages beside the script that it imports: where the challenge runs it, they are not."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    found = [path.with_name(f"{name}.py") for name in names] + [path.with_name(name) / "__init__.py" for name in names]
    return sorted(str(one.relative_to(path.parent)) for one in found if one.is_file() and one != path)


def parse_environment(given: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The variables of `--env K=V`, in order. What is no variable, stands twice, is ours to set, or may be a secret is
    refused; a message never shows the value of what may be one."""
    found: dict[str, str] = {}
    for number, one in enumerate(given, 1):
        name, equals, value = one.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            shown = f"number {number}" if SECRET_VALUE.search(one) or len(one) > 80 else repr(one)
            raise UsageError(f"--env {shown} is no variable; write NAME=VALUE, such as ITERATIONS=9000")
        if name in found:
            raise UsageError(f"--env {name} stands twice; name each variable once")
        if by := next((by for pattern, by in SET_BY_US if pattern.fullmatch(name)), None):
            raise UsageError(f"--env {name} is not yours to set here: {by}")
        if may_be_secret(name, value):
            raise UsageError(
                f"--env {name} looks like a secret, and the environment of a script is written into spec.json and "
                "run.json; leave it out: a training run needs none"
            )
        if not value.isprintable() or len(value) > MAX_VALUE:
            raise UsageError(f"--env {name}: its value must be one printable line of at most {MAX_VALUE:,} characters")
        found[name] = value
    return tuple(found.items())


def may_be_secret(name: str, value: str) -> bool:
    """By its name, unless the value is harmless, or by the form of its value.

    >>> may_be_secret("WANDB_API_KEY", "x1y2z3"), may_be_secret("TRAIN_BATCH_TOKENS", "524288")
    (True, False)
    """
    if SECRET_VALUE.search(value) or SECRET_NAME.search(name.upper()):
        return True
    return bool(MAYBE_SECRET_NAME.search(name.upper())) and not HARMLESS_VALUE.fullmatch(value)


def check_artifact(glob: str | None) -> str | None:
    """A glob that can match a file that the script writes in its own folder."""
    if glob is None:
        return None
    if not glob.isprintable() or not glob.strip() or len(glob) > MAX_VALUE:
        raise UsageError(
            f"--artifact {glob!r:.80} is no pattern of file names, such as final_model.int8.ptz or '*.ptz'"
        )
    if Path(glob).is_absolute() or ".." in Path(glob).parts:
        raise UsageError(
            f"--artifact {glob} leaves the folder that the script runs in; write it relative to that folder"
        )
    try:
        list(Path("/nowhere").glob(glob))
    except (ValueError, NotImplementedError) as error:
        raise UsageError(f"--artifact {glob}: {error}") from None
    return glob


def check_sidecars(text: str, name: str, data: Path) -> None:
    """Refuse a script that would read byte sidecars as tokens: their names match `*_val_*.bin`, and they begin as
    shards do. One that holds packed code is not judged by its words."""
    found = sorted(path.name for path in data.glob("*.bin") if re.search(r"_(?:train|val)_(?:.*_)?bytes_", path.name))
    heeds = re.search(r"(?:val|train)_bytes|[\"']_bytes_|\bexec\s*\(", text)
    if found and re.search(r"\bglob\b", text) and not heeds:
        raise UsageError(
            f"{data / found[0]} holds byte counts, and {name} would read it as tokens: it looks for shards by glob and "
            f"names no '_bytes_' to leave out; move the sidecars ({len(found)} files) to another folder"
        )


def hints(text: str, script: Script) -> list[str]:
    """What a reader of the command would ask about: paths that are only from here, and variables that the script does
    not name. One that holds packed code, or reads no environment by name, is not judged by its words."""
    told = [
        f"{name}={value} is a path from here, and the script runs elsewhere: give it whole, {os.path.abspath(value)}"
        for name, value in script.env
        if "/" in value and not os.path.isabs(value) and os.path.exists(value)
    ]
    if not re.search(r"\benviron\b|\bgetenv\b", text) or re.search(r"\bexec\s*\(", text):
        return told
    words = set(re.findall(r"[A-Za-z_][A-Za-z0-9_]*", text))
    for name, why in (
        ("SEED", "every run may be the same"),
        ("DATA_PATH", "it may train on other data than the plan names"),
        ("TOKENIZER_PATH", "it may score with another tokenizer than the plan names"),
    ):
        if name not in words:
            told.append(f"{name} is not in the script: {why}")
    capitals = {word for word in words if word.isupper() and len(word) > 2}
    for name, _ in script.env:
        if name not in words:
            close = nearest(name, capitals).partition("there are")[0].strip()
            told.append(f"{name} is not in the script{'; ' + close if close else ': it may have no effect'}")
    return told
