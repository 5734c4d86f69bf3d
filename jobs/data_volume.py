"""The app that fills Modal's data volume: a function on a CPU, which brings data there and reads all of it, once.

Imported once the command knows its secret (jobs/on_modal.py), and by the containers.
"""

import contextlib
import json
import os
import subprocess
import sys
import typing
from pathlib import Path, PurePosixPath

import modal

from orchestrator.backends.modal_app import data_volume, make_image
from orchestrator.checkout import ROOT, own_environment
from orchestrator.cloud.data import make_checked
from orchestrator.cloud.options import DATA_MOUNT, DATA_VOLUME, AppOptions
from orchestrator.cluster.node_data import DataUnfit
from orchestrator.errors import FAILED, OK

APP = "parameter-golf-data"
TIMEOUT_S = 6 * 3600
CORES, MEMORY_MIB = 4.0, 8192
AT_HOME, ON_MODAL = f"--into {DATA_MOUNT}", "--on modal"  # of a command that mends, here and as people type it
COMMIT_SECONDS = 60.0  # between two looks at what came: an interrupted fill goes on from the last

OPTIONS = AppOptions.from_environment(os.environ)
app = modal.App(APP)


@app.function(
    image=make_image(OPTIONS),
    volumes={DATA_MOUNT: data_volume()},
    cpu=CORES,
    memory=MEMORY_MIB,
    timeout=TIMEOUT_S,
    secrets=[] if OPTIONS.secret is None else [modal.Secret.from_name(OPTIONS.secret)],
    max_containers=1,
    single_use_containers=True,
    retries=0,
)
def fill(flags: list[str] | None, name: str | None, endpoint: str | None) -> dict[str, typing.Any]:
    """Fetch what `flags` of jobs/prepare_data.py say, or take data folder `name`; read it, and write checked.json.
    {"code": of the command, "name": of the data folder}."""
    if endpoint is not None:
        os.environ["HF_ENDPOINT"] = endpoint
    volume = data_volume()
    try:
        if flags is not None:
            code, name = _fetch(flags, volume)
            if code != OK:
                return {"code": code, "name": name}
        print(f"reading all of {name}", file=sys.stderr, flush=True)
        make_checked(Path(DATA_MOUNT, "datasets", str(name)))
    except DataUnfit as error:
        print(f"error: {str(error).replace(AT_HOME, ON_MODAL)}", file=sys.stderr, flush=True)
        print(f"`modal volume rm {DATA_VOLUME} PATH` removes a file from there", file=sys.stderr, flush=True)
        return {"code": FAILED, "name": name}
    finally:
        volume.commit()
    return {"code": OK, "name": name}


def _fetch(flags: list[str], volume: modal.Volume) -> tuple[int, str | None]:
    """The command as people type it, in a process of its own: what it says goes where it would go at home."""
    command = [sys.executable, "-m", "jobs.prepare_data", *flags, "--into", DATA_MOUNT, "--json"]
    with subprocess.Popen(command, cwd=ROOT, env=own_environment(), stdout=subprocess.PIPE, text=True) as process:
        out = None
        try:
            while out is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    out, _ = process.communicate(timeout=COMMIT_SECONDS)
                volume.commit()
        except BaseException:  # a cancel arrives as one
            process.terminate()
            raise
    return process.returncode, PurePosixPath(json.loads(out)["data"]).name if process.returncode == OK else None
