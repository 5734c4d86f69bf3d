"""What of the checkout travels into an image, and the digest by which a deployed app is known to be of this code."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from orchestrator.checkout import ROOT
from orchestrator.cloud.options import AppOptions
from orchestrator.cluster.parcel import CORPUS, KINDS, ROOMS
from orchestrator.errors import UsageError

FOLDERS = (*ROOMS, "jobs")
FILES = (CORPUS, "requirements.lock")
NOT_SENT = ("**/__pycache__", "**/__pycache__/**", "**/.*")


def travelling(root: Path = ROOT) -> Iterator[Path]:
    for folder in FOLDERS:
        paths = (path for path in (root / folder).rglob("*") if path.suffix in KINDS and path.is_file())
        yield from sorted(path for path in paths if not any(part[0] == "." for part in path.relative_to(root).parts))
    for name in FILES:
        if not (root / name).is_file():
            raise UsageError(f"{root / name} is missing: Modal is given the code of a checkout of the project")
        yield root / name


def code_digest(options: AppOptions, root: Path = ROOT) -> str:
    """Of all that a container runs besides the bundle: code, lock and options."""
    digest = hashlib.sha256(options.to_json().encode())
    for path in travelling(root):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]
