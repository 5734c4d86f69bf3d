"""What configs are made of: checked fields, and fields that name an implementation. No torch here.

A field whose value names an implementation carries the places of all of them in its metadata, so that the
bundle can contain just the ones in use.
"""

import difflib
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field, fields, is_dataclass


class ConfigError(ValueError):
    """A config value that cannot be: the message holds the value, its place and what would do."""


def choice(options: Mapping[str, str | None], default: str) -> typing.Any:
    """A field that names one implementation: `options` maps each name to `module:symbol`, or to None for nothing."""
    return field(default=default, metadata={"parts": dict(options)})


def switch(place: str, default: float | str | None) -> typing.Any:
    """A field of any type whose implementation, `module:symbol`, is needed wherever its value is neither 0 nor none."""
    return field(default=default, metadata={"part": place})


def require(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigError(message)


def nearest(name: str, names: Iterable[str]) -> str:
    """The end of an error message about an unknown name: the likeliest meant, and all there are."""
    known = sorted(names)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}there are {', '.join(known)}"


def check_choices(config: typing.Any, prefix: str) -> None:
    """Refuse a value that a field made by `choice` does not offer."""
    for f in fields(config):
        options, value = f.metadata.get("parts"), getattr(config, f.name)
        if options is not None and value not in options:
            raise ConfigError(f"{prefix}{f.name}={value!r} is not known; {nearest(str(value), options)}")


def chosen_parts(config: typing.Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """(path, `module:symbol`) of every implementation that the config names, in order of definition."""
    for f in fields(config):
        value = getattr(config, f.name)
        if is_dataclass(value):
            yield from chosen_parts(value, f"{prefix}{f.name}.")
        elif "parts" in f.metadata:
            if place := f.metadata["parts"][value]:
                yield prefix + f.name, place
        elif "part" in f.metadata and value not in (None, 0, False, "none"):
            yield prefix + f.name, f.metadata["part"]
