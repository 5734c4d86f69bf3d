"""Has the app deployed that an attempt needs, of this very code: calls of a deployed app outlive whoever made them."""

import os
import subprocess
import sys
import time
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
    return has_code(cloud, options, code_digest(options))


def has_code(cloud: Cloud, options: AppOptions, code: str) -> bool:
    return cloud.has(options.name, f"version-{code}")


def deploy(options: AppOptions, note: Callable[[str], None]) -> None:
    """By the command that a user would type. Raises Unavailable with what it said last."""
    note(f"deploying {options.name}, of this code, to Modal; a first image takes some minutes")
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
    """The apps that a process gives orders to, each of the code that it found here first."""

    def __init__(self, cloud: Cloud, note: Callable[[str], None]) -> None:
        self.cloud, self.note = cloud, note
        self.codes: dict[str, str] = {}  # digest of each app
        self.looked: dict[str, float] = {}  # when each was there

    def code(self, options: AppOptions) -> str:
        if options.name not in self.codes:
            self.codes[options.name] = code_digest(options)
        return self.codes[options.name]

    def have(self, options: AppOptions, within: float = 0.0) -> str:
        """The app's name; it is there, of this code, as of so many seconds ago: others may deploy, too. Raises
        Unavailable."""
        if time.monotonic() - self.looked.get(options.name, float("-inf")) < within:
            return options.name
        if not has_code(self.cloud, options, self.code(options)):
            self._deploy(options)
        self.looked[options.name] = time.monotonic()
        return options.name

    def _deploy(self, options: AppOptions) -> None:
        """Of two that deploy at once one may be refused: what counts is what is there then."""
        try:
            deploy(options, self.note)
        except Unavailable:
            if not has_code(self.cloud, options, self.code(options)):
                raise
        if not has_code(self.cloud, options, self.code(options)):
            raise Unavailable(
                f"what is deployed as {options.name} is of other code than this submit began with: this checkout was "
                "changed meanwhile, or another one deployed; the same submit goes on with what is here then"
            )
