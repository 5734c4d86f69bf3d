"""Whether shards and tokenizer are still what submit checked: by size and times, and by content where those differ.

A run's id names the content of its data, and seeds run for hours after the check: each stage looks again before it
starts, and before its attempt is sealed. A backup that links the files changes their times and nothing else, so that
a difference is settled by reading.
"""

import json
import subprocess
import sys
import typing
from collections.abc import Mapping
from pathlib import Path

from golf_core.rundir import content_id
from orchestrator.checkout import own_environment

IDENTITY = "golf_core.data.identity"


def shards_stamp(folder: Path) -> str:
    """A digest of the names, sizes and times of everything in the folder that could be a shard."""
    return content_id([_stamp(path) for path in sorted(folder.glob("*.bin")) if path.is_file()])


def data_stamp(folder: Path, tokenizer: Path) -> str:
    return content_id([shards_stamp(folder), _stamp(tokenizer)])


def _stamp(path: Path) -> list[str | int]:
    found = path.stat()
    return [path.name, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def changed(data: Mapping[str, typing.Any]) -> str | None:
    """What differs from the `data` of run.json; None where it is the same. A run from before stamps is taken at its
    word."""
    folder, tokenizer, stamp = Path(data["path"]), Path(data["tokenizer_path"]), data.get("stamp")
    try:
        if stamp is None or data_stamp(folder, tokenizer) == stamp:
            return None
    except OSError as error:
        return f"the data is not there any more: {error}"
    command = [sys.executable, "-P", "-m", IDENTITY, "--data", str(folder), "--tokenizer", str(tokenizer)]
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, env=own_environment()
    )
    if done.returncode:
        return f"the data was changed after submit checked it: {(done.stderr.strip().splitlines() or ['?'])[-1]}"
    said = json.loads(done.stdout.splitlines()[-1])
    now, then = (said["data_sha256"], said["tokenizer_sha256"]), (data["sha256"], data["tokenizer_sha256"])
    if now == then:
        return None
    return (
        f"the data in {folder} was changed after submit checked it (sha256 {then[0][:12]}, tokenizer {then[1][:12]}; "
        f"now {now[0][:12]}, {now[1][:12]}): what runs on it is another submission, submit it again"
    )
