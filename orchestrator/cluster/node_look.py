"""What a machine says of itself as a node of a cluster: packages, GPUs, disk, data. Runs on the node, without Ray.

It must do where nothing of ours was installed: the standard library, and what the node happens to have.
"""

import os
import platform
import shutil
import tempfile
import typing
from importlib import metadata
from pathlib import Path

from orchestrator.cluster.survey import KERNELS, PACKAGES
from orchestrator.data_check import DataCheck
from orchestrator.errors import CommandError
from orchestrator.hardware.gpus import installed_gpus


def look(node_dir: str) -> dict[str, typing.Any]:
    """The part of survey.NodeFacts that only the node itself knows."""
    folder = Path(node_dir).expanduser().absolute()
    free, error = space(folder)
    return {
        "python": platform.python_version(),
        "packages": {name: version(name) for name in (*PACKAGES, *KERNELS)},
        "gpus": [gpu.to_dict() for gpu in installed_gpus()],
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "node_dir": str(folder),
        "disk_free_bytes": free,
        "disk_error": error,
    }


def version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def space(folder: Path) -> tuple[int | None, str]:
    """Free bytes where the folder is or would be, and why nothing could be written there. Makes no folder."""
    there = next(one for one in (folder, *folder.parents) if one.exists())
    if not there.is_dir():
        return None, f"{there} is a file"
    try:
        with tempfile.TemporaryFile(dir=there) as file:  # has no name, or loses it at once
            file.write(b"golf")
            file.flush()
        return shutil.disk_usage(there).free, ""
    except OSError as error:
        return None, f"{there}: {error.strerror}"


def look_at_data(data: str, tokenizer: str | None, vocab: int | None) -> dict[str, typing.Any]:
    """Every shard read; `data` as spec.Data tells it, or `data_error`."""
    try:
        check = DataCheck(str(Path(data).expanduser()), tokenizer and str(Path(tokenizer).expanduser()), vocab)
        try:
            return {"data": check.result().to_dict()}
        finally:
            check.close()
    except (CommandError, OSError) as error:
        return {"data_error": str(error)}
