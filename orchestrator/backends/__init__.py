"""Backends of this machine by name, imported when asked for."""

import importlib
import threading
import typing
from pathlib import Path

from golf_core.fields import nearest
from orchestrator.backends.base import Backend
from orchestrator.errors import UsageError

BACKENDS = {
    "process": "orchestrator.backends.process:ProcessBackend",
    "ray": "orchestrator.backends.local_ray:LocalRayBackend",
}


MODAL = "modal"  # made by cloud/site.py, which knows the account


def check_backend(name: str) -> str:
    if name not in (*BACKENDS, MODAL):
        raise UsageError(f"there is no backend {name!r}; {nearest(name, (*BACKENDS, MODAL))}")
    return name


def warm_up(name: str) -> None:
    """Begin to import what the backend needs, beside other work: it is a second of Ray's start."""
    if name == "ray":
        threading.Thread(target=_import_ray).start()


def _import_ray() -> None:
    importlib.import_module("orchestrator.backends.private_ray").import_ray()


def load_backend(name: str, runs_dir: Path) -> Backend:
    module, _, symbol = BACKENDS[check_backend(name)].partition(":")
    return typing.cast(Backend, getattr(importlib.import_module(module), symbol)(runs_dir))
