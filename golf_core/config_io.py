"""Reading and changing configs: strict JSON in, plain data out, typed `path=value` overrides. No torch here."""

import difflib
import functools
import math
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass

from golf_core.fields import ConfigError, nearest


@functools.cache  # evaluating annotations takes longer than all else here, and a grid asks for every variant
def _hints(cls: type) -> dict[str, typing.Any]:
    return typing.get_type_hints(cls)


def to_dict(config: typing.Any) -> dict[str, typing.Any]:
    """Nested plain data, in order of definition."""
    return {f.name: to_dict(value) if is_dataclass(value := getattr(config, f.name)) else value for f in fields(config)}


def from_dict(cls: type, data: Mapping[str, typing.Any], prefix: str = "") -> typing.Any:
    """A config from parsed JSON. An unknown key, a missing one or a value of another type is a ConfigError."""
    if not isinstance(data, Mapping):
        raise ConfigError(f"{prefix or cls.__name__} must be an object, not {data!r}")
    hints = _hints(cls)
    for key in data:
        if key not in hints:
            raise ConfigError(f"there is no {prefix}{key}; {nearest(str(key), hints)}")
    values = {
        key: from_dict(hints[key], value, f"{prefix}{key}.")
        if is_dataclass(hints[key])
        else _typed(hints[key], value, prefix + key)
        for key, value in data.items()
    }
    try:
        return cls(**values)
    except TypeError as error:
        raise ConfigError(f"{prefix or cls.__name__}: {error}") from None


def override(config: typing.Any, assignments: Iterable[str]) -> typing.Any:
    """`config` with each `path=value` applied together, in order; the value is read by the field's type.

    >>> from golf_core.config import Config
    >>> override(Config(name="x"), ["model.layers=6", "train.max_seconds=none"]).model.layers
    6
    """
    data = to_dict(config)
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        path = path.strip()
        if not equals or not path:
            raise ConfigError(f"--set {assignment!r}: write it as path=value, such as model.layers=6")
        node, names = data, path.split(".")
        cls: type = type(config)
        for depth, name in enumerate(names):
            hints = _hints(cls)
            if name not in hints:
                raise ConfigError(f"--set {assignment}: there is no {path}; {_nearest_path(path, type(config))}")
            last = depth == len(names) - 1
            if last == is_dataclass(hints[name]):
                what = "a group of fields" if last else "a single value"
                raise ConfigError(
                    f"--set {assignment}: {'.'.join(names[: depth + 1])} is {what}; {_nearest_path(path, type(config))}"
                )
            if last:
                node[name] = _parse(hints[name], text.strip(), path)
            else:
                node, cls = node[name], hints[name]
    return from_dict(type(config), data)


def paths(cls: type, prefix: str = "") -> list[str]:
    """Every field that `override` can set, as a dotted path."""
    found: list[str] = []
    for name, hint in _hints(cls).items():
        found += paths(hint, f"{prefix}{name}.") if is_dataclass(hint) else [prefix + name]
    return found


def _nearest_path(path: str, cls: type) -> str:
    if "xsa" in path.lower():  # the word has been used for two techniques; never guess which
        return (
            "two techniques are called XSA: model.xsa_last_n (Exclusive Self Attention in the last layers) and "
            "model.kv_share (layers that share key and value projections)"
        )
    known = paths(cls)
    close = difflib.get_close_matches(path, known, n=1, cutoff=0.5)
    leaf = [p for p in known if p.rpartition(".")[2] == path.rpartition(".")[2]]
    guess = (leaf or close)[:1]
    return (f"did you mean {guess[0]}? " if guess else "") + "`python -m orchestrator recipes NAME` lists the fields"


def _options(hint: typing.Any) -> tuple[type, ...]:
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)


def _typed(hint: typing.Any, value: typing.Any, path: str) -> typing.Any:
    options = _options(hint)
    if type(value) is int and float in options:
        value = float(value)
    if type(value) not in options:
        names = " or ".join("null" if o is types.NoneType else o.__name__ for o in options)
        raise ConfigError(f"{path}={value!r} must be {names}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{path}={value!r} must be finite")
    return value


def _parse(hint: typing.Any, text: str, path: str) -> typing.Any:
    options = _options(hint)
    if types.NoneType in options and text.lower() in ("none", "null"):
        return None
    if bool in options:
        flags = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if text.lower() not in flags:
            raise ConfigError(f"{path}={text!r} must be true or false")
        return flags[text.lower()]
    for kind in (int, float):
        if kind in options:
            try:
                return _typed(hint, kind(text.replace("_", "")), path)
            except ValueError as error:
                if isinstance(error, ConfigError):
                    raise
                raise ConfigError(
                    f"{path}={text!r} must be {'a whole number' if kind is int else 'a number'}"
                ) from None
    return text
