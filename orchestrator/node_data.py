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
from orchestrator.data_stamp import IDENTITY, check_environment, data_stamp
from orchestrator.proc import folder_lock

EMBEDDED_PATH = "embedded:"  # as data.path of a run: the embedded corpus, wherever it is encoded
EMBEDDED = "golf_core.data.embedded"
PATIENCE = 800.0  # seconds for whoever checks the same data at the same time


class DataUnfit(Exception):
    """The node lacks the data, or has other data under that name."""


def data_on_node(data: Mapping[str, typing.Any], cache: Path) -> dict[str, str]:
    """{path, tokenizer_path, stamp} of a run's `data` on this node. Raises DataUnfit."""
    cache.mkdir(parents=True, exist_ok=True)
    with folder_lock(cache, PATIENCE):
        if data["path"] == EMBEDDED_PATH:
            said = _run(EMBEDDED, ["--cache", str(cache / "embedded")], "the embedded corpus")
            path, tokenizer = Path(said["data_path"]), Path(said["tokenizer_path"])
        else:
            path, tokenizer = Path(data["path"]), Path(data["tokenizer_path"])
        known = cache / f"checked-{content_id([str(path), str(tokenizer)])[:16]}.json"
        try:
            stamp = data_stamp(path, tokenizer)
        except OSError as error:
            raise DataUnfit(f"the data is not on this node: {error}") from None
        if (found := _remembered(known, stamp)) is None:
            said = _run(IDENTITY, ["--data", str(path), "--tokenizer", str(tokenizer)], f"data {path}")
            found = (said["data_sha256"], said["tokenizer_sha256"])
            if data_stamp(path, tokenizer) != stamp:
                raise DataUnfit(f"the data in {path} was changed while it was checked")
            write_json(known, {"stamp": stamp, "data_sha256": found[0], "tokenizer_sha256": found[1]})
    asked = (data["sha256"], data["tokenizer_sha256"])
    if found != asked:
        raise DataUnfit(
            f"the data in {path} is not that of the run: sha256 {found[0][:12]}, tokenizer {found[1][:12]}; the run "
            f"needs {asked[0][:12]}, {asked[1][:12]}"
        )
    return {"path": str(path), "tokenizer_path": str(tokenizer), "stamp": stamp}


def _remembered(known: Path, stamp: str) -> tuple[str, str] | None:
    try:
        row = read_json(known)
    except RunDirError:
        return None
    return (str(row["data_sha256"]), str(row["tokenizer_sha256"])) if row.get("stamp") == stamp else None


def _run(module: str, arguments: Sequence[str], what: str) -> dict[str, typing.Any]:
    done = subprocess.run(
        [sys.executable, "-P", "-m", module, *arguments],
        capture_output=True,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        env=check_environment(),
    )
    if done.returncode:
        raise DataUnfit(f"{what}: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))
