"""Apps of our jobs that live as long as their command.

`modal run FILE` makes an app with nothing in it but the command: what containers are declared with follows from the
flags, and is another app, within.
"""

import contextlib
import os
import sys
from collections.abc import Iterator

import modal

from orchestrator.cloud.options import VARIABLE, AppOptions
from orchestrator.errors import BackendFailure


def declare(options: AppOptions) -> None:
    """What the functions of an app that is imported next are declared with, here and in its containers."""
    os.environ[VARIABLE] = options.to_json()


@contextlib.contextmanager
def asking() -> Iterator[None]:
    """Errors of the client become ours; what it tells of its progress comes on stderr."""
    with contextlib.redirect_stdout(sys.stderr), modal.enable_output():
        try:
            yield
        except modal.exception.Error as error:
            raise BackendFailure(f"Modal: {' '.join(str(error).split())[:500] or type(error).__name__}") from error


@contextlib.contextmanager
def running(app: modal.App) -> Iterator[None]:
    """The app, up; what its containers print is shown."""
    with asking(), app.run():
        yield
