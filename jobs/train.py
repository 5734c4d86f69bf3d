"""Seeds on Modal: `modal run jobs/train.py --seeds 1337,42,2025 --budget 120`; `modal deploy jobs/train.py`.

`modal run` takes every flag of `python -m orchestrator submit`, and does the same: attempts run in the deployed app, so
that they outlive the terminal. Where what is deployed is not this code, it is deployed first.
"""

import os
import sys
import typing
from pathlib import Path

import modal

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path and (ROOT / "orchestrator").is_dir():
    sys.path.insert(0, str(ROOT))  # where it is run from another folder; in a container everything is in /root

from orchestrator.backends.modal_app import declaration  # noqa: E402
from orchestrator.cloud.code import code_digest  # noqa: E402
from orchestrator.cloud.entry import begin_quietly, check_before_client, is_modal_command, submit  # noqa: E402
from orchestrator.cloud.options import AppOptions  # noqa: E402

if modal.is_local():
    begin_quietly(sys.argv, sys.orig_argv, sys.stderr.isatty())
    check_before_client(sys.argv)
OPTIONS = AppOptions.from_environment(os.environ)
app = modal.App(OPTIONS.name)


def declared(function: typing.Callable[..., typing.Any]) -> typing.Any:
    """A function of the app. `modal run` needs none: it reads flags, and deploys where it must."""
    if modal.is_local() and is_modal_command(sys.argv, "run"):
        return function
    return app.function(**declaration(OPTIONS))(function)


@declared
def train(order: dict[str, typing.Any]) -> dict[str, typing.Any]:
    """One attempt: its stages, sealed, in the volume of runs. See cloud/order.py for what it is told and tells."""
    from orchestrator.backends.modal_container import execute

    return execute(order)


def version() -> str:
    """Its name tells what is deployed; see cloud/code.py."""
    return OPTIONS.name


if modal.is_local() and not is_modal_command(sys.argv, "run"):
    app.function(name=f"version-{code_digest(OPTIONS)}")(version)


@app.local_entrypoint()
def main(*flags: str) -> None:
    """Flags of `python -m orchestrator submit`."""
    submit(flags)
