"""`python -m golf_core.data.embedded [--cache FOLDER]`: tokenizer and shards of the embedded corpus, made once, cached
by content.

Prints one JSON line: {"data_path", "tokenizer_path", "cached"}. The cache folder is named by the hash of the corpus
and of every setting; a file in it that differs from its manifest, or a manifest of an older format, makes it anew. Two
at once make the same bytes, and the first rename wins.
"""

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import numpy as np

from golf_core.data.byte_count import byte_tables, load_tokenizer, target_bytes
from golf_core.data.corpus import CORPUS_PATH, MAX_DOCUMENT_BYTES, VALIDATION_MESSAGES, load_corpus
from golf_core.data.manifest import (
    DataManifest,
    ManifestError,
    ShardEntry,
    SplitEntry,
    TokenizerEntry,
    damage,
    read_manifest,
    write_manifest,
)
from golf_core.data.shard_writer import write_shard
from golf_core.data.shards import BOS_ID, DataError, read_shard
from golf_core.data.tokenizer import TOKENIZER_SETTINGS, train_tokenizer
from golf_core.rundir import content_id, file_sha256, write_bytes

TOKENIZER_NAME = "tokenizer.model"
SHARD_NAMES = {"train": "sotu_train_000000.bin", "val": "sotu_val_000000.bin"}
NAME = "sotu_1901_2026"
STALE_SECONDS = 3600  # a build takes seconds


def cache_root() -> Path:
    """data/cache of the checkout, or the user's cache folder where that cannot be written."""
    here = CORPUS_PATH.parent / "cache"
    if os.access(here if here.is_dir() else here.parent, os.W_OK):
        return here
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "golf-orchestrator"


def settings_of(corpus: Path) -> dict[str, object]:
    """Everything that decides the bytes of the cache."""
    if not corpus.is_file():
        raise DataError(f"the embedded corpus is not at {corpus}; run from a checkout of the project")
    return {
        "format": 1,
        "corpus_sha256": file_sha256(corpus),
        "validation_messages": VALIDATION_MESSAGES,
        "max_document_bytes": MAX_DOCUMENT_BYTES,
        "tokenizer": TOKENIZER_SETTINGS,
        "sentencepiece": version("sentencepiece"),
    }


def is_whole(folder: Path) -> bool:
    """Whether every file of the cache is as its manifest says."""
    try:
        manifest = read_manifest(folder)
    except ManifestError:
        return False
    return (
        manifest is not None
        and set(manifest.files) == set(SHARD_NAMES.values())
        and manifest.tokenizer.path == TOKENIZER_NAME
        and not damage(folder, manifest)
    )


def build(folder: Path, corpus: Path, settings: dict[str, object]) -> None:
    """Write tokenizer, shards and manifest into an empty folder."""
    documents = load_corpus(corpus)
    write_bytes(folder / TOKENIZER_NAME, train_tokenizer(documents.train))
    tokenizer = load_tokenizer(folder / TOKENIZER_NAME)
    tables = byte_tables(folder / TOKENIZER_NAME, tokenizer.vocab_size())
    splits, files = {}, {}
    for split, texts in (("train", documents.train), ("val", documents.val)):
        path = folder / SHARD_NAMES[split]
        write_shard(path, encode_documents(tokenizer.encode(texts)))
        tokens = read_shard(path)
        text_bytes = int(target_bytes(tokens[:-1], tokens[1:], tables).sum())
        splits[split] = SplitEntry(tokens=len(tokens), documents=len(texts), bytes=text_bytes)
        files[path.name] = ShardEntry(sha256=file_sha256(path), size=path.stat().st_size, tokens=len(tokens))
    model = folder / TOKENIZER_NAME
    entry = TokenizerEntry(TOKENIZER_NAME, file_sha256(model), model.stat().st_size, tokenizer.vocab_size())
    write_manifest(folder, DataManifest(NAME, {"kind": "embedded", "settings": settings}, entry, splits, files))


def encode_documents(documents: Iterable[list[int]]) -> np.ndarray:
    """One row of tokens, every document behind its BOS."""
    return np.concatenate([np.array([BOS_ID, *tokens], dtype=np.uint16) for tokens in documents])


def embedded_data(root: Path | None = None, corpus: Path = CORPUS_PATH) -> tuple[Path, bool]:
    """(folder with shards and tokenizer, whether it was there already)."""
    root = root or cache_root()
    settings = settings_of(corpus)
    folder = root / content_id(settings)[:16]
    if is_whole(folder):
        return folder, True
    root.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=root))
    try:
        build(scratch, corpus, settings)
        scratch.chmod(0o755)
        if folder.exists() and not is_whole(folder):  # damaged, or left by another version
            folder.rename(Path(tempfile.mkdtemp(prefix=".damaged-", dir=root)) / folder.name)
        try:
            scratch.rename(folder)
        except OSError:
            if not is_whole(folder):  # not somebody else's identical work
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        _clear(root)
    return folder, False


def _clear(root: Path) -> None:
    """Remove damaged folders, and what a killed process left here an hour ago or more."""
    for rubbish in root.glob(".*-*"):
        with contextlib.suppress(OSError):
            if rubbish.name.startswith(".damaged-") or time.time() - rubbish.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(rubbish, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m golf_core.data.embedded")
    parser.add_argument("--cache", type=Path, help="folder of the caches, where it is not to be the usual one")
    root = parser.parse_args().cache
    try:
        folder, cached = embedded_data(root)
    except DataError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"the cache of the embedded corpus cannot be written: {error}", file=sys.stderr)
        return 5
    paths = {"data_path": str(folder), "tokenizer_path": str(folder / TOKENIZER_NAME)}
    print(json.dumps({**paths, "cached": cached}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
