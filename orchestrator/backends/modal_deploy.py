"""Has the app deployed that an attempt needs, of this very code: calls of a deployed app outlive whoever made them."""

import os
import subprocess
import sys
from collections.abc import Callable

from orchestrator.backends.base import Unavailable
from orchestrator.backends.modal_client import Cloud
from orchestrator.checkout import ROOT, own_environment
from orchestrator.cloud.code import code_digest
from orchestrator.cloud.options import VARIABLE, AppOptions

TRAIN_FILE = "jobs/train.py"
DEPLOY_SECONDS = 1800.0  # the first one builds the image
LAST_WORDS = 600  # letters of a message


def is_deployed(cloud: Cloud, options: AppOptions) -> bool:
    """Of this code: a function beside `train` is named by its digest."""
    return cloud.has(options.name, f"version-{code_digest(options)}")


def deploy(options: AppOptions, note: Callable[[str], None]) -> None:
    """By the command that a user would type. Raises Unavailable with what it said last."""
    note(f"deploying {options.name} to Modal: what is there is not of this code; a first image takes some minutes")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "modal", "deploy", TRAIN_FILE],
            cwd=ROOT,
            env=own_environment() | {VARIABLE: options.to_json(), "COLUMNS": os.environ.get("COLUMNS", "160")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=DEPLOY_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(
            f"{options.name} was not deployed within {DEPLOY_SECONDS:,.0f} s; `modal deploy {TRAIN_FILE}` shows "
            "what takes so long, and the same submit goes on from there"
        ) from None
    if done.returncode:
        said = " ".join(done.stdout.split())[-LAST_WORDS:]
        raise Unavailable(f"{options.name} could not be deployed (`modal deploy {TRAIN_FILE}`): {said}")
    note(f"{options.name} is deployed")


class Apps:
    """The apps that this process has seen deployed."""

    def __init__(self, cloud: Cloud, note: Callable[[str], None]) -> None:
        self.cloud, self.note = cloud, note
        self.seen: set[str] = set()

    def have(self, options: AppOptions) -> str:
        """The app's name; it is there. Raises Unavailable."""
        if options.name not in self.seen:
            if not is_deployed(self.cloud, options):
                self._deploy(options)
            self.seen.add(options.name)
        return options.name

    def _deploy(self, options: AppOptions) -> None:
        """Of two that deploy at once one may be refused: what counts is what is there then."""
        try:
            deploy(options, self.note)
        except Unavailable:
            if not is_deployed(self.cloud, options):
                raise
        if not is_deployed(self.cloud, options):
            raise Unavailable(f"{options.name} was deployed by somebody else meanwhile, of other code")
