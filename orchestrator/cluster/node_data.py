"""The data of a run on a node of a cluster: where it lies there, and that it is what the run's id names.

The content is read once a node and remembered with the files' sizes and times; after that those are looked at. The
embedded corpus is encoded on the node, once. Attempts that begin together wait for the first of them.
"""

import json
import subprocess
import sys
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path

from golf_core.rundir import RunDirError, content_id, read_json, write_json
from orchestrator.checkout import own_environment
from orchestrator.data_stamp import IDENTITY, data_stamp
from orchestrator.proc import folder_lock

EMBEDDED_PATH = "embedded:"  # as data.path of a run: the embedded corpus, wherever it is encoded
EMBEDDED = "golf_core.data.embedded"
PATIENCE = 800.0  # seconds for whoever checks the same data at the same time


class DataUnfit(Exception):
    """The node lacks the data, or has other data under that name."""


def data_on_node(data: Mapping[str, typing.Any], cache: Path) -> dict[str, str]:
    """{path, tokenizer_path, stamp} of a run's `data` on this node. Raises DataUnfit."""
    cache.mkdir(parents=True, exist_ok=True)
    asked = (data["sha256"], data["tokenizer_sha256"])
    with folder_lock(cache, PATIENCE):
        known = cache / f"checked-{content_id([data['path'], data['tokenizer_path'], *asked])[:16]}.json"
        if (found := _remembered(known)) is not None:
            return found
        found, said = _look(data, cache)
        if said != asked:
            raise DataUnfit(
                f"the data in {found['path']} is not that of the run: sha256 {said[0][:12]}, tokenizer {said[1][:12]}; "
                f"the run needs {asked[0][:12]}, {asked[1][:12]}"
            )
        write_json(known, found)
        return found


def _remembered(known: Path) -> dict[str, str] | None:
    """What was found to be the run's data, if nobody touched it since."""
    try:
        found = {key: str(value) for key, value in read_json(known).items()}
        if data_stamp(Path(found["path"]), Path(found["tokenizer_path"])) == found["stamp"]:
            return found
    except (OSError, KeyError, RunDirError):
        pass
    return None


def _look(data: Mapping[str, typing.Any], cache: Path) -> tuple[dict[str, str], tuple[str, str]]:
    """Where the data lies, and the hashes of its content: every byte is read."""
    path, tokenizer = Path(data["path"]), Path(data["tokenizer_path"])
    if data["path"] == EMBEDDED_PATH:
        said = _run(EMBEDDED, ["--cache", str(cache / "embedded")], "the embedded corpus")
        path, tokenizer = Path(said["data_path"]), Path(said["tokenizer_path"])
    try:
        stamp = data_stamp(path, tokenizer)
        said = _run(IDENTITY, ["--data", str(path), "--tokenizer", str(tokenizer)], f"data {path}")
        if data_stamp(path, tokenizer) != stamp:
            raise DataUnfit(f"the data in {path} was changed while it was checked")
    except OSError as error:
        raise DataUnfit(f"the data is not on this node: {error}") from None
    where = {"path": str(path), "tokenizer_path": str(tokenizer), "stamp": stamp}
    return where, (said["data_sha256"], said["tokenizer_sha256"])


def _run(module: str, arguments: Sequence[str], what: str) -> dict[str, typing.Any]:
    done = subprocess.run(
        [sys.executable, "-P", "-m", module, *arguments],
        capture_output=True,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        env=own_environment(),
    )
    if done.returncode:
        raise DataUnfit(f"{what}: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))
