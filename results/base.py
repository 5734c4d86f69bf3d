"""What a submission started from, as it was registered: the recipe without overrides, or the grid's first variant."""

import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from golf_core.rundir import RunDirError, content_id, read_json
from results.facts import Facts
from results.spec import SPEC, Spec

MAX_DEPTH = 8  # of a config's groups


@dataclass(frozen=True)
class Base:
    recipe: str
    source: str  # where the recipe's values come from
    config: dict[str, typing.Any]

    @property
    def config_id(self) -> str:
        return content_id(self.config)


def base_of(spec: Spec) -> Base | None:
    """None for a script, and for what was submitted before bases were registered. Raises RunDirError."""
    facts = Facts(read_json(spec.folder / SPEC), str(spec.folder / SPEC))
    if not facts.has("base"):
        return None
    told = facts.child("base")
    config = told.child("config").values
    try:
        content_id(config)
    except (ValueError, UnicodeError, RecursionError) as error:
        raise RunDirError(f"{told.place}: config cannot be hashed: {error}") from None
    return Base(told.text("recipe"), told.text("source"), dict(config))


def differences(base: Mapping[str, typing.Any], ours: Mapping[str, typing.Any]) -> list[tuple[str, str, str]]:
    """(field, of the base, of ours) wherever two configs differ, but for the name; in the order of ours.

    >>> differences({"name": "a", "model": {"layers": 9, "width": 8}}, {"name": "b", "model": {"layers": 11}})
    [('model.layers', '9', '11'), ('model.width', '8', 'absent')]
    """
    left, right = dict(_leaves(base)), dict(_leaves(ours))
    paths = list(dict.fromkeys([*right, *left]))
    found = [(path, _shown(left, path), _shown(right, path)) for path in paths if path != "name"]
    return [one for one in found if one[1] != one[2]]


def _leaves(config: Mapping[str, typing.Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, typing.Any]]:
    for key, value in config.items():
        if isinstance(value, dict) and depth < MAX_DEPTH:
            yield from _leaves(value, f"{prefix}{key}.", depth + 1)
        else:
            yield f"{prefix}{key}", value


def _shown(leaves: Mapping[str, typing.Any], path: str) -> str:
    if path not in leaves:
        return "absent"
    value = leaves[path]
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
