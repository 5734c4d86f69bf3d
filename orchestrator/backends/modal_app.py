"""The parts of an app on Modal: its image, its volumes, and what its function is declared with.

A container imports the file of the app again: what stands here must come out the same there, so that nothing is read
but the checkout, which travels whole (cloud/code.py), and one variable of the environment.
"""

import sys
import typing

import modal

from orchestrator.checkout import ROOT
from orchestrator.cloud.code import FILES, FOLDERS, NOT_SENT
from orchestrator.cloud.image import image_python, pinned_packages
from orchestrator.cloud.options import (
    DATA_MOUNT,
    DATA_VOLUME,
    MAX_CONTAINERS,
    RUNS_MOUNT,
    RUNS_VOLUME,
    VARIABLE,
    AppOptions,
)

HOME = "/root"  # where Modal puts code that travels: on the path of every container


def make_image(options: AppOptions) -> modal.Image:
    """Pinned packages first, which are built once; our code is laid over them when a container starts."""
    image = modal.Image.debian_slim(python_version=image_python(sys.version_info[:2]))
    image = image.uv_pip_install(*pinned_packages(ROOT, options.packages))
    image = image.env({VARIABLE: options.to_json()})
    for folder in FOLDERS:
        image = image.add_local_dir(ROOT / folder, f"{HOME}/{folder}", ignore=list(NOT_SENT))
    for name in FILES:
        image = image.add_local_file(ROOT / name, f"{HOME}/{name}")
    return image


def data_volume() -> modal.Volume:
    return modal.Volume.from_name(DATA_VOLUME, create_if_missing=True, version=2)


def runs_volume() -> modal.Volume:
    return modal.Volume.from_name(RUNS_VOLUME, create_if_missing=True, version=2)


def declaration(options: AppOptions) -> dict[str, typing.Any]:
    """What the function that takes attempts is declared with. A container takes one attempt: the next one finds GPUs
    without a trace of it. Modal itself tries nothing again: what may be paid for is the controller's to say."""
    return {
        "image": make_image(options),
        "gpu": options.gpu,
        "cpu": options.cores,
        "memory": options.memory_mib,
        "timeout": options.timeout_s,
        "volumes": {DATA_MOUNT: data_volume().read_only(), RUNS_MOUNT: runs_volume()},
        "secrets": [] if options.secret is None else [modal.Secret.from_name(options.secret)],
        "max_containers": MAX_CONTAINERS,
        "single_use_containers": True,
        "scaledown_window": 2,  # seconds: one whose call was cancelled before it was up would be paid for a minute
        "retries": 0,
    }
