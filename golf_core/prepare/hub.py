"""Fetches the published FineWeb export from a Hugging Face hub into a data folder.

    fetch(FetchRequest(variant="sp1024", train_shards=80), tell=print) -> data/datasets/fineweb10B_sp1024

Layout under `into`, as the field knows it: datasets/NAME/fineweb_{train,val}_%06d.bin, tokenizers/*.model. Everything
comes to hidden `.fetch` folders beside its place, is checked there against the hub's size and hash, and is moved in by
rename when all of it is there; manifest.json is written last. What a killed fetch left is what the next goes on from.
Content that is not the hub's is refused before anything is fetched, and never deleted or changed; only a file that the
folder's own manifest says to be damaged is replaced.
"""

import errno
import os
import shutil
import tempfile
import threading
import typing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import filelock
from huggingface_hub import constants

from golf_core.data.byte_count import load_tokenizer
from golf_core.data.manifest import SPLITS, ManifestError, read_manifest
from golf_core.data.mending import FETCH_FOLDER, PUBLISHED_REPO
from golf_core.data.shard_facts import shard_facts
from golf_core.data.shards import DataError, shard_tokens
from golf_core.prepare.endpoint import DEFAULT_ENDPOINT
from golf_core.prepare.hub_client import Hub
from golf_core.prepare.hub_errors import HubError
from golf_core.prepare.hub_manifest import (
    HUB_MANIFEST,
    HUB_MANIFEST_BYTES,
    HUB_ROOT,
    HubDataset,
    choose_dataset,
    read_hub_manifest,
)
from golf_core.prepare.hub_parallel import FetchEvent, FetchTally, in_parallel
from golf_core.prepare.hub_place import Wanted, manifest_of, missing_files, put_in_place, unwanted_files

DEFAULT_SHARDS = 80  # what the challenge's baseline trains on
HUB_DOCUMENTS = ("docs_selected.jsonl", "docs_selected.source_manifest.json")
RETRY_WAITS = (1.0, 2.0, 4.0, 8.0, 16.0)  # seconds
MOST_WORKERS = 64
VAL_DOCUMENTS = 50_000  # of the challenge's validation split; a score on another is not comparable
SPARE_BYTES = 64_000_000  # that a fetch leaves free on a disk


@dataclass(frozen=True, kw_only=True)
class FetchRequest:
    """What to fetch, and where to."""

    variant: str = "sp1024"
    train_shards: int = DEFAULT_SHARDS  # the first so many
    into: Path = Path("data")
    workers: int = 8  # files at once
    with_docs: bool = False
    repo: str = PUBLISHED_REPO
    revision: str | None = None  # None: the newest
    waits: Sequence[float] = RETRY_WAITS


@dataclass(frozen=True)
class HubOffer:
    """What a hub offers at one commit."""

    repo: str
    commit: str
    endpoint: str
    manifest_sha256: str
    datasets: tuple[HubDataset, ...]

    @property
    def place(self) -> str:
        return f"{self.repo} at {self.commit[:12]}"


def fetch(request: FetchRequest, tell: Callable[[FetchEvent], None] = lambda event: None) -> Path:
    """Make the data folder whole and return it. Raises DataError, HubError or OSError; the same call then goes on."""
    if request.train_shards < 1:
        raise DataError(f"--train-shards {request.train_shards}: at least 1 is needed to train on")
    if not 1 <= request.workers <= MOST_WORKERS:
        raise DataError(f"--workers {request.workers}: 1 to {MOST_WORKERS} files can come at once")
    with _locked(request.into):
        hub = Hub(request.repo, request.revision, request.waits, tell, threading.Event())
        offer = _published_by(hub)
        dataset = choose_dataset(offer.datasets, request.variant, offer.place)
        if request.train_shards > dataset.files_train:
            raise DataError(
                f"--train-shards {request.train_shards}: {dataset.name} has {dataset.files_train} of them in "
                f"{offer.place}; ask for at most as many"
            )
        folder = request.into / "datasets" / dataset.name
        wanted = _wanted(request, hub, dataset)
        tell(f"{dataset.name} of {offer.place} ({offer.endpoint}): {len(wanted)} files, {_total(wanted):,} bytes")
        if dataset.docs_val not in (None, VAL_DOCUMENTS):
            tell(
                f"note: its validation split has {dataset.docs_val:,} documents, the challenge's {VAL_DOCUMENTS:,}: "
                "scores on the two do not compare"
            )
        missing = missing_files(folder, wanted, tell)
        _check_disk(missing)
        _tell_what_is_here(wanted, missing, tell)
        _bring(hub, missing, dataset.tokenizer.vocab, request.workers, tell)
        _check_content(dataset, wanted)
        source = _source(offer, dataset, folder, wanted)
        put_in_place(folder, wanted, manifest_of(folder, dataset, wanted, source, dataset.tokenizer.vocab), tell)
    return folder


def list_published(request: FetchRequest, tell: Callable[[FetchEvent], None] = lambda event: None) -> HubOffer:
    """What the hub offers; nothing is written."""
    return _published_by(Hub(request.repo, request.revision, request.waits, tell, threading.Event()))


def _published_by(hub: Hub) -> HubOffer:
    with tempfile.TemporaryDirectory() as scratch:
        data = hub.read(HUB_MANIFEST, HUB_MANIFEST_BYTES, Path(scratch, "manifest.json"))
    datasets = read_hub_manifest(data, f"{HUB_MANIFEST} of {hub.repo} at {hub.commit[:12]}")
    return HubOffer(hub.repo, hub.commit, hub.endpoint, sha256(data).hexdigest(), datasets)


@contextmanager
def _locked(into: Path) -> Iterator[None]:
    """One fetch at a time into a folder. The system ends the lock with its process."""
    home = into / "datasets" / FETCH_FOLDER
    lock = filelock.FileLock(home / "lock", timeout=0)
    try:
        home.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except filelock.Timeout:
        raise HubError(f"another fetch into {into} is running; wait for it, or use another --into") from None
    except OSError as error:
        raise OSError(
            f"{home} cannot be made ({error.strerror}); --into must name a folder that can be written"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _wanted(request: FetchRequest, hub: Hub, dataset: HubDataset) -> tuple[Wanted, ...]:
    """Every file that the folder is made of, as the hub lists it at this commit."""
    into, tokenizer = request.into, dataset.tokenizer
    places = {
        dataset.shard_path(split, number): (split, into / "datasets" / dataset.name, dataset.name)
        for split, count in (("train", request.train_shards), ("val", dataset.files_val))
        for number in range(count)
    }
    places[tokenizer.path] = ("tokenizer", into / "tokenizers", dataset.name)
    if tokenizer.vocab_path:
        places[tokenizer.vocab_path] = ("vocab", into / "tokenizers", dataset.name)
    if request.with_docs:
        places.update({f"{HUB_ROOT}/{name}": ("documents", into, "documents") for name in HUB_DOCUMENTS})
    optional = [path for path in places if places[path][0] == "vocab"]  # people read it, no program
    files = hub.files([path for path in places if path not in optional], optional)
    if largest := [file for file in files.values() if file.size > constants.MAX_HTTP_DOWNLOAD_SIZE]:
        raise HubError(
            f"{largest[0].path} has {largest[0].size:,} bytes; over HTTP a hub gives at most "
            f"{constants.MAX_HTTP_DOWNLOAD_SIZE:,}: get it with `hf download {hub.repo} {largest[0].path} "
            "--repo-type dataset`, then run this without --with-docs"
        )
    wanted = tuple(
        Wanted(file=files[path], kind=kind, final=parent / files[path].name, group=group)
        for path, (kind, parent, group) in places.items()
        if path in files
    )
    if empty := [one.file.path for one in wanted if not one.file.size]:
        raise HubError(f"{empty[0]} has 0 bytes in {hub.repo} at {hub.commit[:12]}; try another --revision")
    return wanted


def _total(wanted: Sequence[Wanted]) -> int:
    return sum(one.file.size for one in wanted)


def _tell_what_is_here(wanted: Sequence[Wanted], missing: Sequence[Wanted], tell: Callable[[FetchEvent], None]) -> None:
    """What an earlier fetch left: what this one goes on from, and what it has no use for."""
    begun = sum(_part_bytes(one) for one in missing)
    if missing and (begun or len(missing) < len(wanted)):
        more = f" and {begun:,} bytes of others" if begun else ""
        tell(f"going on: {len(wanted) - len(missing)} of {len(wanted)} files{more} are here")
    if unwanted := [path for path in unwanted_files(wanted) if path.suffix == ".bin"]:
        train = sum(one.kind == "train" for one in wanted)
        tell(
            f"note: a fetch of more than {train} train shards left {len(unwanted)} more here, dropped at the end of "
            "this one (to keep them, interrupt it and ask for as many as before)"
        )


def _part_bytes(one: Wanted) -> int:
    return min(one.part.stat().st_size, one.file.size) if one.part.exists() else 0


def _check_disk(missing: Sequence[Wanted]) -> None:
    """Refuse what would not fit, before anything comes."""
    needed: dict[int, int] = {}
    places: dict[int, Path] = {}
    for one in missing:
        one.home.mkdir(parents=True, exist_ok=True)
        disk = one.home.stat().st_dev
        needed[disk] = needed.get(disk, 0) + one.file.size - _part_bytes(one)
        places.setdefault(disk, one.home.parent)
    for disk, count in needed.items():
        if count + SPARE_BYTES > (free := shutil.disk_usage(places[disk]).free):
            raise OSError(
                f"{count:,} bytes are to come, and the disk of {places[disk]} has {free:,} free; make space, use "
                "--into on another disk, or ask for fewer --train-shards"
            )


def _bring(hub: Hub, missing: Sequence[Wanted], pieces: int, workers: int, tell: Callable[[FetchEvent], None]) -> None:
    """Fetch, verify and stage the files."""
    tally = FetchTally(_total(missing), len(missing))

    def bring(one: Wanted) -> None:
        try:
            hub.download(one.file, one.part, tally)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise OSError(
                f"{one.part.parent}: {os.strerror(error.errno)}, at byte {one.part.stat().st_size:,} of "
                f"{one.file.size:,} of {one.file.name}; make space, and the same command goes on from there"
            ) from None
        if one.is_shard and (largest := shard_facts(one.part)["largest"]) >= pieces:
            raise HubError(
                f"{one.file.path} of {hub.repo} holds token {largest:,}, but its tokenizer has {pieces:,} pieces: they "
                "were not made together; try another --revision"
            )
        with one.part.open("rb") as file:
            os.fsync(file.fileno())
        one.staged.parent.mkdir(parents=True, exist_ok=True)
        os.replace(one.part, one.staged)
        tally.finished()

    if missing:
        in_parallel(bring, missing, workers, hub.stop, lambda: tell(tally.progress()))


def _check_content(dataset: HubDataset, wanted: Sequence[Wanted]) -> None:
    """Whether the files are together what the hub's manifest says: a validation split that is not whole is no score."""
    counts = {
        split: sum(shard_tokens(one.here) for one in wanted if one.kind == split)
        for split in SPLITS
        if split == "val" or sum(one.kind == split for one in wanted) == dataset.files_train
    }
    for split, count in counts.items():
        told = dataset.tokens_val if split == "val" else dataset.tokens_train
        if count != told:
            raise HubError(
                f"the {split} shards of {dataset.name} hold {count:,} tokens; the hub's manifest says {told:,}: "
                "it published something else; try another --revision"
            )
    model = next(one.here for one in wanted if one.kind == "tokenizer")
    if dataset.tokenizer.is_sentencepiece and (pieces := load_tokenizer(model).vocab_size()) != dataset.tokenizer.vocab:
        raise HubError(
            f"{model.name} of the hub has {pieces} pieces; its manifest says {dataset.tokenizer.vocab}: "
            "shards and tokenizer do not belong together; try another --revision"
        )


def _source(offer: HubOffer, dataset: HubDataset, folder: Path, wanted: Sequence[Wanted]) -> dict[str, typing.Any]:
    """Where the bytes are from, for the manifest."""
    source: dict[str, typing.Any] = {
        "kind": "hub",
        "variant": dataset.variant,
        "repo": offer.repo,
        "revision": offer.commit,
        "hub_manifest_sha256": offer.manifest_sha256,
        "train_shards_published": dataset.files_train,
        "tokenizer_kind": dataset.tokenizer.kind,
    }
    if offer.endpoint != DEFAULT_ENDPOINT:
        source["endpoint"] = offer.endpoint
    documents = {one.final.name: one.file.digest for one in wanted if one.kind == "documents"}
    try:
        before = read_manifest(folder)
    except ManifestError:
        before = None
    if not documents and before is not None and before.source.get("kind") == "hub":
        documents = before.source.get("documents", {})
    return {**source, "documents": documents} if documents else source
