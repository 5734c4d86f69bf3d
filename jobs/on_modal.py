"""Apps of our jobs that live as long as their command.

`modal run FILE` makes an app with nothing in it but the command: what containers are declared with follows from the
flags, and is another app, within.
"""

import contextlib
import os
import sys
import typing
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


def call(app: modal.App, function: modal.Function[..., typing.Any, typing.Any], *arguments: object) -> typing.Any:
    """What the function tells, of an app that is up for this call; what its container prints is shown."""
    told = None
    with asking(), app.run():
        told = function.remote(*arguments)
    if told is None:  # no function of ours returns that: an app that is up takes Ctrl-C for its end, and says nothing
        raise KeyboardInterrupt
    return told
