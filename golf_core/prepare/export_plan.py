"""What an export is before it begins: its identity, its places, and whether it may begin there.

Identity: SHA-256 of every source file, of the tokenizer or of how it is trained, and every setting that decides a
byte of the result. Not: paths, workers, and --skip-bad, which changes nothing of what was written before it was needed.
"""

import errno
import os
import re
import shutil
import typing
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from golf_core.data.byte_count import byte_tables, load_tokenizer
from golf_core.data.manifest import damage, read_manifest
from golf_core.data.shard_facts import MAX_VOCAB
from golf_core.data.shards import BOS_ID, DataError
from golf_core.prepare.export_state import Checkpoint, HeldOut, counted, damaged_shards, read_checkpoint
from golf_core.prepare.sources import Source, find_sources
from golf_core.prepare.train_tokenizer import training_settings
from golf_core.rundir import RunDirError, content_id, file_sha256, read_json, write_json

FORMAT = 2
LEAST_VOCAB = 256 + 4 + 1  # with one character; a text's own take more, and what trains on it tells how many

SOURCES = "sources.json"  # SHA-256 of the source files, by path and stamp
PLAN = "plan.json"
SHARDS = "shards"  # the folder that gets the final name
# The fewest bytes of tokens a byte of source can be expected to give: some 4.5 bytes of text a token, 2 bytes each.
# Compressed text is about a third of its size.
TOKEN_BYTES = {"jsonl": 0.35, "text": 0.4}
TOKEN_BYTES_COMPRESSED = 1.0


@dataclass(frozen=True)
class ExportRequest:
    """What was asked for. One of `tokenizer` (a file) and `vocab` (pieces of one to be trained)."""

    documents: tuple[Path, ...]
    into: Path
    tokenizer: Path | None = None
    vocab: int | None = None
    name: str | None = None
    val_documents: int = 50_000
    shard_tokens: int = 100_000_000
    text_field: str = "text"
    skip_bad: bool = False

    def __post_init__(self) -> None:
        if (self.tokenizer is None) == (self.vocab is None):
            raise DataError("an export needs --tokenizer FILE, or --vocab N to train one: exactly one of the two")
        if self.vocab is not None and not LEAST_VOCAB <= self.vocab <= MAX_VOCAB:
            raise DataError(
                f"--vocab {self.vocab} is not between {LEAST_VOCAB} and {MAX_VOCAB:,}: 256 pieces are bytes, 4 are "
                "signs, every character of the text takes one more, and shards hold 16-bit tokens"
            )
        if self.val_documents < 1:
            raise DataError(f"--val-documents {self.val_documents}: a data folder needs at least one")
        if not 1 <= self.shard_tokens < 2**31:
            raise DataError(f"--shard-tokens {self.shard_tokens} is not between 1 and {2**31 - 1:,}")
        if self.name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", self.name):
            raise DataError(f"--name {self.name!r} is no name of a folder: letters, digits, and . _ - within")


Stamp = tuple[int, ...]  # of a file: size, times of change, of which the second cannot be set back, and inode


@dataclass(frozen=True)
class Plan:
    id: str
    name: str
    folder: Path  # the final one
    scratch: Path  # hidden, beside it
    sources: tuple[Source, ...]
    settings: typing.Mapping[str, typing.Any]  # what the id was made of
    stamps: dict[str, Stamp]  # of each source when it was hashed

    @property
    def shards(self) -> Path:
        return self.scratch / SHARDS

    @property
    def total(self) -> int:
        """Bytes of the source files."""
        return sum(stamp[0] for stamp in self.stamps.values())

    def named(self, place: str) -> str:
        """A place in a source, however its path was typed: by the file's name, and its number where two have it."""
        paths = {str(source.path): number for number, source in enumerate(self.sources, 1)}
        path = max((path for path in paths if place.startswith(path)), key=len)
        name = Path(path).name
        alone = sum(source.path.name == name for source in self.sources) == 1
        return (name if alone else f"{name} (file {paths[path]})") + place.removeprefix(path)

    def check_unchanged(self) -> None:
        """Raise a DataError where a source file is not the one that was hashed; one that was touched is read again."""
        for source, told in zip(self.sources, self.settings["sources"], strict=True):
            if (stamp := _stamp(source.path)) == self.stamps[str(source.path)]:
                continue
            if _sha256(source.path) != told["sha256"]:
                raise DataError(
                    f"{source.path} was changed while it was read; what came since the last sealed shard is not kept. "
                    "With the file as it was before, the same command goes on; a changed one is another input: remove "
                    f"{self.scratch}, or give another --name"
                )
            self.stamps[str(source.path)] = stamp


def places(request: ExportRequest) -> tuple[str, Path, Path]:
    """(name, final folder, scratch folder)."""
    name = request.name
    if name is None:
        vocab = request.vocab or check_tokenizer(typing.cast(Path, request.tokenizer))
        stem = re.sub(r"[^A-Za-z0-9._-]+", "_", request.documents[0].resolve().name.split(".")[0]).strip("._-")
        name = f"{stem or 'documents'}_sp{vocab}"
    datasets = request.into / "datasets"
    return name, datasets / name, datasets / f".{name}.export"


def check_tokenizer(path: Path) -> int:
    """How many pieces it has. Raises DataError for one whose tokens cannot be stored or counted."""
    tokenizer = load_tokenizer(path)
    if (vocab := tokenizer.vocab_size()) > MAX_VOCAB:
        raise DataError(f"{path} has {vocab:,} pieces; shards hold 16-bit tokens, {MAX_VOCAB:,} at most")
    byte_tables(path, vocab)
    if not tokenizer.is_control(BOS_ID):
        raise DataError(
            f"{path} has {tokenizer.id_to_piece(BOS_ID)!r} as token {BOS_ID}, which begins every document; train it "
            f"with bos_id={BOS_ID}"
        )
    return vocab


def make_plan(request: ExportRequest, tell: Callable[[str], None]) -> Plan:
    """Hash what is asked for. Raises DataError for what is not there, or empty."""
    sources = find_sources(request.documents)
    if not any(source.path.stat().st_size for source in sources):
        raise DataError(f"{', '.join(str(path) for path in request.documents)}: there is nothing in it")
    name, folder, scratch = places(request)
    digests, stamps = _hash_sources(sources, scratch, tell)
    settings: dict[str, typing.Any] = {
        "format": FORMAT,
        "sources": [
            {"name": source.path.name, "kind": source.kind, "sha256": digest, "size": stamps[str(source.path)][0]}
            for source, digest in zip(sources, digests, strict=True)
        ],
        "tokenizer": _tokenizer_settings(request),
        "val_documents": request.val_documents,
        "shard_tokens": request.shard_tokens,
        "text_field": request.text_field,
        "sentencepiece": version("sentencepiece"),
    }
    identity = {**settings, "sources": [{**source, "name": ""} for source in settings["sources"]]}
    return Plan(content_id(identity), name, folder, scratch, sources, settings, stamps)


def _tokenizer_settings(request: ExportRequest) -> dict[str, typing.Any]:
    if request.tokenizer is None:
        return {"trained": training_settings(typing.cast(int, request.vocab))}
    check_tokenizer(request.tokenizer)
    return {"sha256": file_sha256(request.tokenizer)}


def _sha256(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


def _stamp(path: Path) -> Stamp:
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _hash_sources(
    sources: tuple[Source, ...], scratch: Path, tell: Callable[[str], None]
) -> tuple[list[str], dict[str, Stamp]]:
    """SHA-256 and stamp of each source; of one that was not touched since an earlier try, as that one noted it."""
    try:
        known = read_json(scratch / SOURCES)
    except RunDirError:
        known = {}
    digests, stamps = [], {}
    total = sum(_stamp(source.path)[0] for source in sources)
    if total > 1_000_000_000 and not known:
        tell(f"hashing {total / 1e9:,.1f} GB of documents")
    for source in sources:
        stamp = _stamp(source.path)
        *before, digest = known.get(str(source.path.resolve())) or [""]
        digests.append(str(digest) if tuple(before) == stamp else _sha256(source.path))
        stamps[str(source.path)] = stamp
    return digests, stamps


def _note_sources(plan: Plan) -> None:
    """So that the next try need not hash them."""
    told = zip(plan.sources, plan.settings["sources"], strict=True)
    noted = {str(one.path.resolve()): [*plan.stamps[str(one.path)], facts["sha256"]] for one, facts in told}
    write_json(plan.scratch / SOURCES, noted)


def finished(plan: Plan) -> bool:
    """Whether the final folder holds this export already. Raises DataError where it holds something else."""
    if not plan.folder.exists():
        return False
    try:
        manifest = read_manifest(plan.folder)
    except RunDirError as error:
        raise DataError(f"{error}. Move {plan.folder} away, or give this export another --name") from None
    if manifest is None:
        raise DataError(f"{plan.folder} exists and is no data folder of ours; move it away, or give another --name")
    if manifest.source.get("plan") != plan.id:
        raise DataError(
            f"{plan.folder} holds other data ({_difference(manifest.source, plan)}); give this export another --name, "
            "or move that folder away"
        )
    if wrong := damage(plan.folder, manifest):
        raise DataError(f"{wrong[0]}. Remove {plan.folder}; the same command then makes it anew")
    return True


def _difference(there: typing.Mapping[str, typing.Any], plan: Plan) -> str:
    if there.get("kind") != "documents":
        return f"from the {there.get('kind')}"
    told = []
    for key, ours in plan.settings.items():
        if (theirs := there.get(key)) == ours:
            continue
        if key == "format":
            return "made by another version"
        if key == "sources":
            if _contents(theirs or []) != _contents(ours):
                names = ", ".join(str(source.get("name")) for source in theirs or [])
                told.append(f"of other documents: {names[:200]}")
        elif key == "tokenizer":
            told.append(_tokenizer_difference(theirs or {}, ours))
        elif key == "sentencepiece":
            told.append(f"with SentencePiece {theirs} there, {ours} here")
        else:
            told.append(f"--{key.replace('_', '-')} {theirs} there, {ours} here")
    return "; ".join(told) or "made by another version"


def _contents(sources: typing.Sequence[typing.Mapping[str, typing.Any]]) -> list[tuple[typing.Any, typing.Any]]:
    return [(source.get("kind"), source.get("sha256")) for source in sources]


def _tokenizer_difference(there: typing.Mapping[str, typing.Any], here: typing.Mapping[str, typing.Any]) -> str:
    """In the words of the options."""
    if "trained" in there and "trained" in here:
        theirs, ours = there["trained"], here["trained"]
        if theirs.get("vocab_size") == ours["vocab_size"]:
            names = sorted(name for name in {*theirs, *ours} if theirs.get(name) != ours.get(name))
            return f"its tokenizer was trained with other settings: {', '.join(names)}"
    given, asked = (
        f"--vocab {one['trained'].get('vocab_size')}"
        if "trained" in one
        else f"--tokenizer with SHA-256 {str(one.get('sha256'))[:12]}"
        for one in (there, here)
    )
    return f"{given} there, {asked.removeprefix('--vocab ') if given.startswith('--vocab') else asked} here"


def enter(plan: Plan, tell: Callable[[str], None]) -> tuple[Checkpoint, HeldOut]:
    """The scratch folder, made or found, and how far it is. Raises DataError where another export lies there."""
    done = read_checkpoint(plan.scratch)
    if done is not None and done[0].plan != plan.id:
        try:
            difference = _difference({"kind": "documents", **read_json(plan.scratch / PLAN)}, plan)
        except RunDirError:
            difference = "its plan cannot be read"
        raise DataError(
            f"{plan.scratch} holds {counted(len(done[0].shards), 'shard')} of another export ({difference}), which is "
            f"not finished. Give the same documents and settings to finish it, or another --name, or remove it: "
            f"rm -r {plan.scratch}"
        )
    _note_sources(plan)
    if done is not None:
        if wrong := next(damaged_shards(plan.shards, done[0]), None):
            raise DataError(f"{wrong}: remove {plan.scratch}, and the export starts anew")
        _clear_parts(plan, done[0])
        tell(f"going on: {counted(len(done[0].shards), 'shard')} done")
        return done
    if _plan_id(plan.scratch) != plan.id:
        if (plan.scratch / PLAN).exists():
            tell("documents or settings are not those of the last try, which had no shard yet: starting anew")
        for path in plan.scratch.iterdir():
            if path.name != SOURCES:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    plan.shards.mkdir(exist_ok=True)
    _clear_parts(plan, Checkpoint(plan.id))
    write_json(plan.scratch / PLAN, {"plan": plan.id, **plan.settings})
    return Checkpoint(plan.id), HeldOut()


def _plan_id(scratch: Path) -> typing.Any:
    try:
        return read_json(scratch / PLAN).get("plan")
    except RunDirError:
        return None


def _clear_parts(plan: Plan, done: Checkpoint) -> None:
    """Remove what was begun and not sealed, and what was renamed but not noted before the end came."""
    for path in plan.shards.iterdir():
        if path.name not in done.shards:
            path.unlink()


def check_space(plan: Plan, done: Checkpoint, read: int | None) -> None:
    """Raise an OSError where the rest cannot fit. `read`: how many bytes of the sources the sealed shards hold, where
    that is known; else the least that such sources can give is asked for."""
    sealed = sum(entry.size for entry in done.shards.values())
    if read:
        needed = sealed / read * (plan.total - read)
    else:
        sizes = ((source.kind, plan.stamps[str(source.path)][0]) for source in plan.sources)
        needed = sum(size * TOKEN_BYTES.get(kind, TOKEN_BYTES_COMPRESSED) for kind, size in sizes) - sealed
    free = shutil.disk_usage(plan.scratch).free
    if free < needed:
        raise OSError(
            errno.ENOSPC,
            f"about {needed / 1e6:,.1f} MB are still to be written, and {free / 1e6:,.1f} MB are free",
            os.fspath(plan.scratch),
        )
