"""What prepare_data prints: of a fetch, of what the hub has, and of what is here."""

import contextlib
import json
import os
import sys
import threading
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path

from huggingface_hub.utils import logging as hub_logging

from golf_core.config_model import ModelConfig
from golf_core.data.manifest import DataManifest, read_manifest, tokenizer_path
from golf_core.data.shards import DataError
from golf_core.prepare.hub import FetchRequest, fetch, list_published
from golf_core.prepare.hub_errors import HubError
from golf_core.prepare.hub_parallel import FetchEvent, FetchProgress
from golf_core.prepare.status import DAMAGED, WHOLE, DataStatus, data_status
from jobs.progress import ProgressLine, size_text
from orchestrator.errors import FAILED, NOT_FINISHED, OK, BackendFailure, UsageError

SCHEMA_VERSION = 1


@contextlib.contextmanager
def _told(farewell: str = "interrupted") -> Iterator[typing.Callable[[FetchEvent], None]]:
    """What shows the events of a fetch; errors of the fetch become those of a command."""
    hub_logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # its warnings repeat what we say
    line = ProgressLine()

    one_at_a_time = threading.Lock()  # several threads tell

    def tell(event: FetchEvent) -> None:
        with one_at_a_time:
            line.say(event) if isinstance(event, str) else show(event)

    def show(event: FetchProgress) -> None:
        files = f"{event.files_done} of {event.files} files, " if event.doing == "fetching" else ""
        text = f"{event.doing} {files}{size_text(event.done)} of {size_text(event.total)}"
        line.show(text, event.fetched if event.doing == "fetching" else event.done, event.total - event.done)

    try:
        yield tell
    except DataError as error:
        raise UsageError(str(error)) from error
    except HubError as error:
        raise BackendFailure(str(error)) from error
    except KeyboardInterrupt:
        line.say(farewell)
        raise
    finally:
        line.end()


def fetch_data(request: FetchRequest, as_json: bool) -> int:
    """Fetch; on stdout the data folder, so that a script can take it."""
    with _told("interrupted; what came is kept: the same command goes on from there") as tell:
        folder = fetch(request, tell)
    return show_whole(folder, as_json)


def show_whole(folder: Path, as_json: bool) -> int:
    """What a finished data folder holds, and the next command to type; on stdout the folder."""
    manifest = read_manifest(folder)
    if manifest is None:
        raise BackendFailure(f"{folder} lost its manifest just now; another program changes it")
    tokenizer = _tokenizer_of(folder, manifest)
    ours = tokenizer.suffix == ".model"
    command = f"python -m orchestrator submit --data {folder}"
    if not ours:
        command = f"python -m orchestrator submit --script train_gpt.py --data {folder}"
    elif manifest.tokenizer.vocab != ModelConfig.vocab:
        command += f" --set model.vocab={manifest.tokenizer.vocab}"
    counts = {split: sum(f"_{split}_" in name for name in manifest.files) for split in manifest.splits}
    if as_json:
        told = {
            "schema_version": SCHEMA_VERSION,
            "data": str(folder),
            "tokenizer": str(tokenizer),
            "shards": counts,
            "tokens": {split: entry.tokens for split, entry in manifest.splits.items()},
            "source": dict(manifest.source),
            "next": command,
        }
        print(json.dumps(told, indent=1))
        return OK
    for split, entry in manifest.splits.items():
        print(f"  {split:5}  {counts[split]:>4} shards  {entry.tokens:>14,} tokens", file=sys.stderr)
    kind = (
        f"{manifest.tokenizer.vocab} pieces"
        if ours
        else "no SentencePiece model: own scripts can use it, recipes cannot"
    )
    print(f"  tokenizer  {tokenizer} ({kind})\nwhole and verified; next:\n  {command}", file=sys.stderr)
    print(folder)
    return OK


def _tokenizer_of(folder: Path, manifest: DataManifest) -> Path:
    """Where its tokenizer lies: without the `..` of the manifest, unless a link makes that another place."""
    path = tokenizer_path(folder, manifest)
    short = Path(os.path.normpath(path))
    return short if short.resolve() == path.resolve() else path.resolve()


def show_published(request: FetchRequest, as_json: bool) -> int:
    with _told() as tell:
        offer = list_published(request, tell)
    rows = [
        {
            "variant": dataset.variant,
            "name": dataset.name,
            "train_shards": dataset.files_train,
            "train_tokens": dataset.tokens_train,
            "val_tokens": dataset.tokens_val,
            "vocab": dataset.tokenizer.vocab,
            "tokenizer": Path(dataset.tokenizer.path).name,
            "bytes": dataset.size,
        }
        for dataset in offer.datasets
    ]
    if as_json:
        about = {"repo": offer.repo, "revision": offer.commit, "endpoint": offer.endpoint}
        print(json.dumps({"schema_version": SCHEMA_VERSION, **about, "variants": rows}, indent=1))
        return OK
    print(f"{offer.place} ({offer.endpoint})", file=sys.stderr)
    head = ("variant", "train shards", "train tokens", "val tokens", "vocab", "size", "tokenizer")
    keys = ("variant", "train_shards", "train_tokens", "val_tokens", "vocab", "bytes", "tokenizer")
    print_table(head, [[_cell(key, row[key]) for key in keys] for row in rows])
    return OK


def _cell(key: str, value: object) -> str:
    if isinstance(value, int):
        return size_text(value) if key == "bytes" else f"{value:,}"
    return str(value)


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Numbers to the right, the words of the first and the last column to the left."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, *rows):
        cells = [
            cell.ljust(width) if column in (0, len(head) - 1) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


def show_status(into: Path, as_json: bool) -> int:
    with _told() as tell:
        found = data_status(into, tell)
    if as_json:
        print(json.dumps({"schema_version": SCHEMA_VERSION, "data": [_status_row(one) for one in found]}, indent=1))
    elif not found:
        print(f"no data under {into}/datasets; next:\n  python jobs/prepare_data.py --list", file=sys.stderr)
    else:
        head = ("data", "state", "train shards", "val shards", "size", "from")
        rows = [
            [str(one.folder), one.state, str(one.shards[0]), str(one.shards[1]), size_text(one.size), _origin(one)]
            for one in found
        ]
        print_table(head, rows)
        for one in found:
            for problem in one.problems:
                print(f"{one.folder.name}: {problem}", file=sys.stderr)
    states = {one.state for one in found}
    return FAILED if DAMAGED in states else OK if states == {WHOLE} else NOT_FINISHED


def _origin(one: DataStatus) -> str:
    if one.manifest is None:
        return "?"
    source = one.manifest.source
    place = f"{source.get('repo', '?')} at {str(source.get('revision', '?'))[:12]}"
    return place if source["kind"] == "hub" else str(source["kind"])


def _status_row(one: DataStatus) -> dict[str, typing.Any]:
    manifest = one.manifest
    return {
        "data": str(one.folder),
        "state": one.state,
        "problems": list(one.problems),
        "shards": {"train": one.shards[0], "val": one.shards[1]},
        "bytes": one.size,
        "tokens": None if manifest is None else {split: entry.tokens for split, entry in manifest.splits.items()},
        "vocab": None if manifest is None else manifest.tokenizer.vocab,
        "tokenizer": None if manifest is None else str(_tokenizer_of(one.folder, manifest)),
        "source": None if manifest is None else dict(manifest.source),
    }
