"""What to do about a data folder that is not as it should be: the command that brings back, makes or finishes it."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from golf_core.data.manifest import DATA_MANIFEST, DataManifest, tokenizer_path
from golf_core.data.shard_facts import is_shard
from golf_core.data.shards import DataError
from golf_core.rundir import file_sha256

PUBLISHED_REPO = "willdepueoai/parameter-golf"  # dataset repository of the challenge, on Hugging Face's hub
PUBLISHED_TRAIN = re.compile(r"fineweb_train_(\d{6})\.bin")  # a train shard of it
FETCH_FOLDER = ".fetch"  # hidden, beside the place of what comes into it
EXPORT_SUFFIX = ".export"  # of the hidden folder that an export from documents works in
NAMED_SOURCES = 3  # of an export, in a message


def fetch_command(data: Path, manifest: DataManifest, train: int) -> str:
    """What brings so many train shards of a folder from the hub, at the revision that it is of."""
    source, into = manifest.source, data.parent.parent
    options = ["--variant", source.get("variant", "..."), "--train-shards", train]
    options += ["--into", into] if str(into) != "data" else []
    options += ["--repo", source["repo"]] if source.get("repo", PUBLISHED_REPO) != PUBLISHED_REPO else []
    options += ["--revision", source["revision"]] if "revision" in source else []
    return shlex.join(["python", "jobs/prepare_data.py", *map(str, options)])


def mend(data: Path, manifest: DataManifest) -> str:
    """What to do where a file of a folder is not as its manifest says."""
    again = {
        "hub": fetch_command(data, manifest, sum("_train_" in name for name in manifest.files)),
        "embedded": "python -m golf_core.data.embedded",
    }.get(str(manifest.source["kind"]), "what made it")
    told = f"`{again}` again brings it back"
    if manifest.source["kind"] == "documents":
        told = f"remove {data}, and make it anew: {_export_command(data, manifest)}"
    if not all(is_shard(data / name) for name in manifest.files):  # nobody means to have half a shard
        return told
    return f"{told}; where the change is meant, remove {data / DATA_MANIFEST} and name --tokenizer FILE"


def mend_extra(data: Path, manifest: DataManifest, names: Sequence[str]) -> str:
    """What to do where a folder holds shards that its manifest does not list."""
    told = "a run would read it, so move it away" if len(names) == 1 else "a run would read them, so move them away"
    numbers = [int(found[1]) for name in names if (found := PUBLISHED_TRAIN.fullmatch(name))]
    count, published = max(numbers, default=0) + 1, manifest.source.get("train_shards_published")
    if manifest.source["kind"] != "hub" or len(numbers) < len(names) or not isinstance(published, int):
        return told
    return told if count > published else f"{told}; or list so many: `{fetch_command(data, manifest, count)}`"


def refuse_no_folder(data: Path) -> None:
    """Say of a folder that is not there whether it is still being made."""
    if data.is_dir():
        return
    home = data.parent / FETCH_FOLDER
    hidden = {
        "a fetch": (home / data.name, home / f"{data.name}.parts"),
        "an export": (data.with_name(f".{data.name}{EXPORT_SUFFIX}"),) if data.name else (),
    }
    for what, places in hidden.items():
        if found := [place for place in places if place.is_dir()]:
            status = shlex.join(["python", "jobs/prepare_data.py", "--status", "--into", str(data.parent.parent)])
            raise DataError(
                f"{data} is not there yet: {what} has not come to its end (what came is in {found[0]}); wait for it, "
                f"or give its command again; `{status}` tells more"
            )
    raise DataError(f"{data} is not a folder")


def _export_command(data: Path, manifest: DataManifest) -> str:
    """The command that made a folder from documents, as far as its manifest knows."""
    source, into, options = manifest.source, data.parent.parent, []
    names = [str(one["name"]) for one in source.get("sources", [])]
    trained = "trained" in source.get("tokenizer", {})
    tokenizer = tokenizer_path(data, manifest).resolve()  # a path that does not lead through the folder
    digest = manifest.tokenizer.sha256
    lost = not trained and not (tokenizer.is_file() and file_sha256(tokenizer) == digest)
    options += ["--vocab", manifest.tokenizer.vocab] if trained else ["--tokenizer", "..." if lost else tokenizer]
    options += ["--name", manifest.name, "--val-documents", source.get("val_documents", "...")]
    options += ["--shard-tokens", source.get("shard_tokens", "...")]
    options += ["--text-field", source["text_field"]] if source.get("text_field", "text") != "text" else []
    options += ["--skip-bad"] if source.get("skipped_bad") else []
    options += ["--into", into] if str(into) != "data" else []
    command = shlex.join(["python", "jobs/prepare_data.py", "--documents", *names[:NAMED_SOURCES], *map(str, options)])
    more = f" (of {len(names)} files the first {NAMED_SOURCES} are named)" if len(names) > NAMED_SOURCES else ""
    other = f" and a tokenizer of SHA-256 {digest[:12]}, which {tokenizer.name} was" if lost else ""
    return f"`{command}`, with the paths of those files{more}{other}"
