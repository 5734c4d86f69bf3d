"""Sealed stages kept beyond their node: copies in any place that fsspec can name (file, s3, gs, ...).

A copy has a folder of its own: attempt, then the launch that made it, so that nobody finds what another execution
left. The seal is written last; what comes back is verified by it before a seal stands in the folder here.
"""

import shutil
import tempfile
import typing
from pathlib import Path

from golf_core.rundir import SEAL, TRAIN_SEAL, RunDirError, read_json, verify_seal
from orchestrator.errors import UsageError

MAX_BYTES = 4 * 1024**3  # of one attempt: what lies there is not ours to trust


class StorageError(Exception):
    """The storage refused, did not answer, or holds something else than the seal says."""


class Storage:
    """One attempt's copies under `uri`. The library is imported when there is something to do."""

    def __init__(self, uri: str, attempt_id: str, launch: str) -> None:
        self.uri = uri
        self.place = f"{attempt_id}/{launch}"

    def put(self, folder: Path, seal: str) -> None:
        """Copy a sealed stage, the seal last. Raises StorageError."""
        try:
            files = verify_seal(folder, seal)["files"]
            system, root = _open(self.uri)
            there = f"{root}/{self.place}"
            system.makedirs(there, exist_ok=True)
            for name in [*sorted(set(files) - {SEAL, TRAIN_SEAL}), *sorted(set(files) & {TRAIN_SEAL}), seal]:
                scratch = f"{there}/.{name}.part"  # where a rename is free it keeps a cut file from its name
                system.put_file(str(folder / name), scratch)
                system.mv(scratch, f"{there}/{name}")
        except Exception as error:  # every protocol has its own
            raise StorageError(f"{seal} could not be copied to {shown(self.uri)}: {_line(error)}") from error

    def has(self, seal: str) -> bool:
        """Whether a stage was copied whole. Raises StorageError where that cannot be told."""
        try:
            system, root = _open(self.uri)
            system.invalidate_cache()
            return bool(system.exists(f"{root}/{self.place}/{seal}"))
        except Exception as error:
            raise StorageError(f"{shown(self.uri)} does not answer: {_line(error)}") from error

    def get(self, into: Path, seal: str) -> None:
        """Bring a stage back into an attempt's folder: checked against its seal, which comes last. Raises
        StorageError, and then leaves the folder as it was."""
        scratch = Path(tempfile.mkdtemp(prefix=".storage-", dir=into))
        try:
            system, root = _open(self.uri)
            there = f"{root}/{self.place}"
            self._bring(system, there, seal, scratch)
            files = _sizes(read_json(scratch / seal))
            for name in files:
                self._bring(system, there, name, scratch)
            if TRAIN_SEAL in files:
                _sizes(read_json(scratch / TRAIN_SEAL))
            verify_seal(scratch, seal)
            for name in [*sorted(set(files) - {TRAIN_SEAL}), *sorted(set(files) & {TRAIN_SEAL}), seal]:
                (scratch / name).replace(into / name)
        except Exception as error:
            raise StorageError(f"{self.place} in {shown(self.uri)}: {_line(error)}") from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _bring(self, system: typing.Any, there: str, name: str, scratch: Path) -> None:
        if (size := system.size(f"{there}/{name}")) is None or size > MAX_BYTES:
            raise StorageError(f"{name} has {size} bytes")
        system.get_file(f"{there}/{name}", str(scratch / name))


def check_storage(uri: str) -> None:
    """Raise a UsageError where the URI cannot be one of a storage."""
    protocol, separator, rest = uri.partition("://")
    if not separator or not protocol or not rest:
        raise UsageError(
            f"--storage {shown(uri)!r} is no URI; write it as s3://bucket/folder, gs://... or file:///path"
        )
    if "@" in rest:  # wherever: a password may hold a slash
        raise UsageError(f"--storage {shown(uri)}: credentials do not belong in it; give them to the nodes themselves")


def told_of(uri: str | None) -> str:
    """For the plan: what a lost node loses.

    >>> told_of("s3://bucket/golf")
    's3://bucket/golf: sealed stages are copied there'
    """
    if uri is None:
        return "none: sealed attempts lie on their node until they are brought; a node that is lost first loses them"
    return f"{shown(uri)}: sealed stages are copied there"


def shown(uri: str) -> str:
    """The URI without what could be a secret in it.

    >>> shown("s3://key:secret@bucket/golf")
    's3://***@bucket/golf'
    """
    protocol, separator, rest = uri.partition("://")
    return f"{protocol}{separator}{'***@' * ('@' in rest)}{rest.rpartition('@')[2]}"


def _open(uri: str) -> tuple[typing.Any, str]:
    import fsspec  # type: ignore[import-untyped]

    system, root = fsspec.core.url_to_fs(uri)
    return system, str(root).rstrip("/")


def _sizes(seal: dict[str, typing.Any]) -> list[str]:
    """The names in a seal; plain ones of a sane size alone."""
    files = seal.get("files")
    if not isinstance(files, dict) or not files or len(files) > 1000:
        raise RunDirError("the seal lists no files, or too many")
    for name, entry in files.items():
        if "/" in name or "\\" in name or name.startswith("."):
            raise RunDirError(f"the seal names {name!r}")
        if not isinstance(entry, dict) or not 0 <= int(entry.get("size", -1)) <= MAX_BYTES:
            raise RunDirError(f"the seal gives no size for {name!r}")
    return sorted(files)


def _line(error: BaseException) -> str:
    text = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
