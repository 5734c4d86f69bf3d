"""The parts that a config names, loaded from the package. The bundle carries them written out instead."""

import importlib
import typing

from golf_core.config import Config
from golf_core.fields import chosen_parts


def load_parts(config: Config) -> dict[str, typing.Any]:
    """Config path to implementation, for every part in use."""
    parts = {}
    for path, place in chosen_parts(config):
        module, _, symbol = place.partition(":")
        parts[path] = getattr(importlib.import_module(module), symbol)
    return parts
