"""The real client of Modal, in our words: calls, claims, and the volume of runs. Every error of it comes out as ours.

Only what the client documents is used. Its own patience is long: an unreachable server is found out before it is asked
(cloud/access.py); after that a question that fails is asked again by whoever follows an attempt.
"""

import contextlib
import io
import os
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import modal
from modal.exception import (
    AuthError,
    ExecutionError,
    FunctionTimeoutError,
    InputCancellation,
    InternalFailure,
    NotFoundError,
    OutputExpiredError,
    RemoteError,
)
from modal.types import FileEntryType

from orchestrator.backends.base import BackendError
from orchestrator.cloud.access import check_access, read_access, refused_token
from orchestrator.cloud.options import CLAIMS, DATA_VOLUME, RUNS_VOLUME
from orchestrator.cloud.order import Order, OrderError, Told

TRAIN = "train"  # the function of an app


class CloudError(BackendError):
    """Modal did not answer, or refused."""


@dataclass(frozen=True)
class CallState:
    """How a call stands. Over without `told`: it did not come to its own end; `cls` and `message` say how."""

    over: bool
    told: Told | None = None
    cls: str = ""
    message: str = ""


class ClaimsDict:
    """A dictionary that every client and every container of ours sees."""

    def __init__(self) -> None:
        self._claims = modal.Dict.from_name(CLAIMS, create_if_missing=True)

    def claimed(self, key: str) -> str | None:
        found = self._claims.get(key)
        return None if found is None else str(found)

    def claim(self, key: str, value: str) -> str:
        self._claims.put(key, value, skip_if_exists=True)
        return self.claimed(key) or value

    def write(self, key: str, value: str) -> None:
        self._claims.put(key, value)


def spawn(app: str, order: Order) -> str:
    """Give an order to the `train` of a deployed app; the call's id. Returns before it begins."""
    return str(modal.Function.from_name(app, TRAIN).spawn(order.to_dict()).object_id)


class Cloud:
    """An account on Modal, for a process that is not in it."""

    def __init__(self) -> None:
        """Raises CommandError where the token is missing or the server cannot be reached."""
        self.access = read_access(os.environ, Path.home())
        check_access(self.access)
        with self._asking():
            self._claims = ClaimsDict()
            self._volumes = {
                name: modal.Volume.from_name(name, create_if_missing=True, version=2)
                for name in (RUNS_VOLUME, DATA_VOLUME)
            }

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except AuthError as error:
            raise refused_token(self.access, str(error)) from error
        except Exception as error:  # a stream that is cut comes out as whatever library was below it
            raise CloudError(f"Modal: {_words(error)}") from error

    # Claims and calls

    def claimed(self, key: str) -> str | None:
        with self._asking():
            return self._claims.claimed(key)

    def claim(self, key: str, value: str) -> str:
        with self._asking():
            return self._claims.claim(key, value)

    def write(self, key: str, value: str) -> None:
        with self._asking():
            self._claims.write(key, value)

    def has(self, app: str, function: str) -> bool:
        """Whether a function of that name is deployed."""
        with self._asking():
            try:
                modal.Function.from_name(app, function).hydrate()
            except NotFoundError:
                return False
            return True

    def call(self, order: Order) -> str:
        with self._asking():
            return spawn(order.app, order)

    def cancel(self, call: str) -> None:
        with self._asking(), contextlib.suppress(NotFoundError):
            modal.FunctionCall.from_id(call).cancel()

    def state(self, call: str) -> CallState:
        """Now; never waits for its end."""
        with self._asking():
            try:
                return CallState(True, Told.from_dict(modal.FunctionCall.from_id(call).get(timeout=0)))
            except FunctionTimeoutError as error:
                return CallState(True, cls="deadline", message=_words(error))
            except OutputExpiredError:
                return CallState(True, cls="worker_lost", message="Modal has forgotten how its call ended")
            except NotFoundError:
                return CallState(True, cls="worker_lost", message=f"Modal knows no call {call}")
            except (RemoteError, InputCancellation) as error:
                said = str(error).lower()  # of a call that was cancelled the client says nothing
                cancelled = isinstance(error, InputCancellation) or not said or "cancel" in said
                return CallState(True, cls="cancelled" if cancelled else "worker_lost", message=_words(error))
            except (InternalFailure, ExecutionError) as error:
                return CallState(True, cls="worker_lost", message=_words(error))
            except (ImportError, NameError, SyntaxError, MemoryError) as error:  # its container's, given to us again
                return CallState(True, cls="launch_error", message=_words(error))
            except OrderError as error:
                return CallState(True, cls="launch_error", message=str(error))
            except TimeoutError:
                return CallState(False)

    # Volumes

    def listing(self, path: str, volume: str = RUNS_VOLUME) -> dict[str, tuple[int, int]]:
        """Size and time of change, in seconds, of each file of a folder; empty where there is none."""
        with self._asking():
            return {
                PurePosixPath(entry.path).name: (int(entry.size), int(entry.mtime))
                for entry in self._entries(path, volume)
                if entry.type == FileEntryType.FILE
            }

    def folders(self, path: str, volume: str = RUNS_VOLUME) -> list[str]:
        """Names of the folders in a folder; empty where there is none."""
        with self._asking():
            return sorted(
                PurePosixPath(entry.path).name
                for entry in self._entries(path, volume)
                if entry.type == FileEntryType.DIRECTORY
            )

    def _entries(self, path: str, volume: str) -> Sequence[typing.Any]:
        try:
            return self._volumes[volume].listdir(path)
        except (NotFoundError, FileNotFoundError):
            return ()

    def read(self, path: str, volume: str = RUNS_VOLUME) -> bytes | None:
        """A file whole; None where there is none."""
        with self._asking():
            try:
                return b"".join(self._volumes[volume].read_file(path))
            except (NotFoundError, FileNotFoundError):
                return None

    def put(self, files: Mapping[str, bytes], volume: str = RUNS_VOLUME) -> None:
        """Write files, in place of what is there under these names."""
        with self._asking(), self._volumes[volume].batch_upload(force=True) as batch:
            for path, content in files.items():
                batch.put_file(io.BytesIO(content), path)


def _words(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text[:300] or type(error).__name__
