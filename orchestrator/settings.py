"""Where each setting of a command comes from: flag > GOLF_* environment > golf.toml > default.

golf.toml holds the names below, flat, and a table [author]; paths in it are relative to its folder. No secrets in it.
"""

import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from golf_core.fields import nearest
from orchestrator.errors import UsageError
from orchestrator.spec import DEFAULT_SEEDS

PROJECT_FILE = "golf.toml"
DEFAULT = "default"


@dataclass(frozen=True)
class Field:
    default: str | int | float | None
    kind: type
    is_path: bool = False
    above_zero: bool = False


FIELDS: dict[str, Field] = {
    "recipe": Field(None, str),  # None: what default_recipe gives for the device
    "seeds": Field(DEFAULT_SEEDS, str),
    "on": Field("ray", str),
    "policy": Field("demo", str),  # on GPUs what default_policy gives for the target
    "runs_dir": Field("runs", str, is_path=True),
    "data": Field(None, str, is_path=True),  # None: the embedded corpus
    "tokenizer": Field(None, str, is_path=True),
    "device": Field("cpu", str),
    "gpus": Field(None, str),  # MODEL:COUNT, any:COUNT or 0, of a seed; a dry run's need not be here
    "max_gpus": Field(None, int, above_zero=True),  # at a time, of all submits to a state folder
    "address": Field(None, str),  # of a Ray cluster's job server; None: a local Ray
    "state_dir": Field("~/golf-runs", str),  # on the cluster's head: ledger and attempts
    "node_dir": Field("~/golf-node", str),  # on each node: what runs there
    "storage": Field(None, str),  # fsspec URI for sealed attempts
    "modal_packages": Field(None, str),  # of its image, beyond the lock: name==version, or name @ https://...whl
    "modal_secret": Field(None, str),  # name of a modal.Secret, for the containers
    "modal_environment": Field(None, str),  # of the account; None: what Modal's client takes
    "budget": Field(None, float, above_zero=True),  # USD, of the runs folder
    "price": Field(None, float),  # USD an hour for the GPUs of a seed; None: of the price file
    "provider": Field(None, str),  # whose GPUs these are, in the price file
    "max_attempts": Field(None, int, above_zero=True),  # of a seed, that may be paid for; None: what the policy retries
    "dead_man_seconds": Field(None, float, above_zero=True),  # of an attempt in all; None: its limits added up
    "processes": Field(None, int),  # None: what the machine and the recipe allow
    "threads": Field(1, int),
    "dtype": Field(None, str),
    "launcher": Field("torchrun", str),
    "startup_seconds": Field(600.0, float, above_zero=True),
    "silence_seconds": Field(600.0, float, above_zero=True),
}
# Read by other commands; known here so that they are not refused.
OTHER_FIELDS = ("author",)


@dataclass(frozen=True)
class Setting:
    value: typing.Any
    source: str


class Settings:
    """Every setting with its source.

    >>> Settings.resolve({"seeds": "1,2"}, {"GOLF_RECIPE": "naive_baseline"}, Path("/nowhere")).source("recipe")
    'GOLF_RECIPE'
    """

    def __init__(self, values: Mapping[str, Setting]) -> None:
        self.values = dict(values)

    def __getitem__(self, name: str) -> typing.Any:
        return self.values[name].value

    def source(self, name: str) -> str:
        return self.values[name].source

    @classmethod
    def resolve(cls, flags: Mapping[str, typing.Any], environ: Mapping[str, str], folder: Path) -> "Settings":
        """`flags` holds what stood on the command line; a flag that is None was not given."""
        project = read_project_file(folder / PROJECT_FILE)
        values = {}
        for name, field in FIELDS.items():
            variable = f"GOLF_{name.upper()}"
            if flags.get(name) is not None:
                flag = "--" + name.replace("_", "-")
                values[name] = Setting(_read(field, flags[name], flag), flag)
            elif environ.get(variable):
                values[name] = Setting(_read(field, environ[variable], variable), variable)
            elif name in project:
                value = _read(field, project[name], f"{PROJECT_FILE}: {name}")
                values[name] = Setting(str(folder / value) if field.is_path else value, PROJECT_FILE)
            else:
                values[name] = Setting(field.default, DEFAULT)
        if values["recipe"].source == DEFAULT:
            from golf_core.recipes import default_recipe  # not for --help

            device = values["device"].value
            values["recipe"] = Setting(default_recipe(device), f"default for {device}")
        return cls(values)

    def for_device(self, device: str, source: str) -> "Settings":
        """The same with another default device, and the recipe that is the default for it."""
        found = self.with_default("device", device, source)
        if found["device"] != self["device"] and self.source("recipe").startswith(DEFAULT):
            from golf_core.recipes import default_recipe

            found.values["recipe"] = Setting(default_recipe(device), f"default for {device}")
        return found

    def replaced(self, name: str, value: typing.Any, source: str) -> "Settings":
        """The same with what was made of a value."""
        return Settings(self.values | {name: Setting(value, source)})

    def with_default(self, name: str, value: typing.Any, source: str) -> "Settings":
        """The same with another default: a value that somebody gave stays."""
        if self.source(name) != DEFAULT:
            return self
        return self.replaced(name, value, source)


def read_project_file(path: Path) -> dict[str, typing.Any]:
    """The table in golf.toml; empty where there is none. An unknown key is refused with the nearest."""
    if not path.exists():
        return {}
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: {error}") from None
    for key in data:
        if key not in FIELDS and key not in OTHER_FIELDS:
            raise UsageError(f"{path}: there is no setting {key!r}; {nearest(key, [*FIELDS, *OTHER_FIELDS])}")
    return data


def _read(field: Field, value: typing.Any, place: str) -> typing.Any:
    if field.kind is str and isinstance(value, list):  # seeds = [1, 2] reads well in TOML
        return ",".join(str(one) for one in value)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UsageError(f"{place}={value!r} must be {_words(field)}")
    try:
        read = field.kind(value)
    except (ValueError, OverflowError):
        raise UsageError(f"{place}={value!r} must be {_words(field)}") from None
    if field.above_zero and not 0 < read < float("inf"):  # NaN is refused too
        raise UsageError(f"{place}={value!r} must be {_words(field)} above 0")
    return read


def _words(field: Field) -> str:
    return {str: "text", int: "a whole number", float: "a number"}[field.kind]
