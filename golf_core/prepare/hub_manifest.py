"""manifest.json of the published export: its variants, their tokenizers and how much there is of each.

It comes from the network: names become paths only after they were checked, numbers only within what shards can hold.
"""

import json
import re
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from golf_core.data.shard_facts import MAX_VOCAB
from golf_core.data.shards import SHARD_HEADER_BYTES, DataError
from golf_core.fields import nearest
from golf_core.prepare.hub_errors import HubError

HUB_ROOT = "datasets"  # the folder of the repository that everything lies in; its paths are relative to it
HUB_MANIFEST = f"{HUB_ROOT}/manifest.json"
HUB_MANIFEST_BYTES = 16_000_000  # more is no manifest
MOST_FILES = 1_000_000  # of a split: their names have six digits
MOST_HUB_TOKENS = 2**53
SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class HubTokenizer:
    name: str
    kind: str
    path: str  # in the repository
    vocab_path: str | None  # the list of its pieces, for people
    vocab: int

    @property
    def is_sentencepiece(self) -> bool:
        return self.path.endswith(".model")


@dataclass(frozen=True)
class HubDataset:
    name: str
    tokenizer: HubTokenizer
    folder: str  # in the repository
    files_train: int
    files_val: int
    tokens_train: int
    tokens_val: int
    docs_train: int | None  # None: not told
    docs_val: int | None

    @property
    def variant(self) -> str:
        """The short name, sp1024 of fineweb10B_sp1024."""
        return self.name.rpartition("_")[2]

    @property
    def size(self) -> int:
        """Bytes of all shards: each is a header and two bytes a token."""
        files, tokens = self.files_train + self.files_val, self.tokens_train + self.tokens_val
        return SHARD_HEADER_BYTES * files + 2 * tokens

    def shard_path(self, split: str, number: int) -> str:
        return f"{self.folder}/fineweb_{split}_{number:06d}.bin"


def read_hub_manifest(data: bytes, place: str) -> tuple[HubDataset, ...]:
    """The variants that the manifest lists, by name. Raises HubError for one that cannot be relied on."""
    try:
        found = json.loads(data)
        kinds = {tokenizer.name: tokenizer for tokenizer in map(_tokenizer, _objects(found, "tokenizers"))}
        datasets = [_dataset(entry, kinds) for entry in _objects(found, "datasets")]
        if len({dataset.name for dataset in datasets}) != len(datasets):
            raise ValueError("two of its datasets have one name")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise HubError(f"{place} is no manifest of the published export: {why}; check --repo and --revision") from None
    return tuple(sorted(datasets, key=lambda dataset: dataset.name))


def choose_dataset(datasets: Sequence[HubDataset], variant: str, place: str) -> HubDataset:
    """The dataset of that name, or of which it is the last part. Raises DataError with what there is."""
    found = [dataset for dataset in datasets if dataset.name == variant]
    found = found or [dataset for dataset in datasets if dataset.name.endswith(f"_{variant}")]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(dataset.name for dataset in found)
        raise DataError(f"--variant {variant} is the end of {len(found)} names ({names}); write one of them whole")
    there = nearest(variant, [dataset.variant for dataset in datasets]) if datasets else "it lists none"
    raise DataError(
        f"--variant {variant!r} is not in {place}; {there}. --list tells what each holds; "
        "another vocabulary is made from documents, with --documents"
    )


def _objects(found: typing.Any, key: str) -> list[Mapping[str, typing.Any]]:
    value = found[key]
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise ValueError(f"{key} is no list of objects")
    return value


def _tokenizer(entry: Mapping[str, typing.Any]) -> HubTokenizer:
    name = _safe_name(entry["name"])
    return HubTokenizer(
        name=name,
        kind=_safe_name(entry.get("kind", "unknown")),
        path=_repo_path(entry.get("model_path") or entry["path"]),
        vocab_path=_repo_path(entry["vocab_path"]) if entry.get("vocab_path") else None,
        vocab=_count(entry["vocab_size"], f"vocab_size of {name}", 1, MAX_VOCAB),
    )


def _dataset(entry: Mapping[str, typing.Any], tokenizers: Mapping[str, HubTokenizer]) -> HubDataset:
    name, stats = _safe_name(entry["name"]), entry["stats"]
    if (wanted := entry["tokenizer_name"]) not in tokenizers:
        raise ValueError(f"{name} needs tokenizer {wanted!r}, which it does not list")

    def count(key: str, least: int, most: int) -> int:
        return _count(stats[key], f"{key} of {name}", least, most)

    files_train, files_val = count("files_train", 0, MOST_FILES), count("files_val", 1, MOST_FILES)
    documents = [count(key, 0, MOST_HUB_TOKENS) if key in stats else None for key in ("docs_train", "docs_val")]
    return HubDataset(
        name=name,
        tokenizer=tokenizers[wanted],
        folder=_repo_path(entry.get("path") or f"datasets/{name}"),
        files_train=files_train,
        files_val=files_val,
        tokens_train=count("tokens_train", files_train, MOST_HUB_TOKENS),
        tokens_val=count("tokens_val", files_val, MOST_HUB_TOKENS),
        docs_train=documents[0],
        docs_val=documents[1],
    )


def _count(value: typing.Any, what: str, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{what} is {str(value)[:40]!r}, not a whole number from {least} to {most}")
    return value


def _safe_name(value: typing.Any) -> str:
    if not isinstance(value, str) or not SAFE_NAME.fullmatch(value):
        raise ValueError(f"{str(value)[:60]!r} stands where a name should")
    return value


def _repo_path(value: typing.Any) -> str:
    """A path relative to the manifest, as a path in the repository: plain names between slashes, none of them `..`."""
    if not isinstance(value, str) or not all(SAFE_NAME.fullmatch(part) for part in value.split("/")):
        raise ValueError(f"{str(value)[:80]!r} stands where a path should")
    return str(PurePosixPath(HUB_ROOT, value))
