"""From documents to a data folder: tokens in shards, validation apart from training, a manifest, by one rename.

Everything is made in a hidden folder beside the final one, under a lock. After every sealed shard a checkpoint is
written: whatever ends an export, the same one goes on after its last shard and gives the same bytes.
Who encodes, here or on a cluster, is the caller's: `encode_in_order` turns blocks into encoded blocks, in order.
"""

import contextlib
import errno
import re
import shutil
import time
import typing
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import filelock

from golf_core.data.manifest import (
    SPLITS,
    DataManifest,
    SplitEntry,
    TokenizerEntry,
    path_from,
    write_manifest,
)
from golf_core.data.shards import DataError
from golf_core.prepare.blocks import BadDocument, Position, TextBlock, read_blocks
from golf_core.prepare.encode import EncodedBlock, documents_of
from golf_core.prepare.export_plan import (
    ExportRequest,
    Plan,
    check_space,
    check_tokenizer,
    enter,
    finished,
    make_plan,
    places,
)
from golf_core.prepare.export_shards import ShardStream, sync_folder
from golf_core.prepare.export_state import (
    Checkpoint,
    HeldOut,
    after_block,
    counted,
    manifest_source,
    refuse_bad,
    write_checkpoint,
)
from golf_core.prepare.train_tokenizer import TRAINING_BYTES, train_on
from golf_core.prepare.words import TextEncoder
from golf_core.rundir import file_sha256, write_bytes

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
TOKENIZER = "tokenizer.model"  # in the scratch folder
FIELD_NAME = "fineweb10B_sp"  # the field's data folders; the tokenizer of one is fineweb_N_bpe.model

EncodeInOrder = Callable[[bytes, Iterator[TextBlock]], Generator[EncodedBlock, None, None]]


class DiskError(Exception):
    """The disk did not take what was written, or holds less than needed. What was done stays."""


class Busy(Exception):
    """Another export into the same place runs."""


@dataclass(frozen=True)
class ExportProgress:
    documents: int
    text_bytes: int
    new_text_bytes: int  # since this process began
    seconds: float  # since it began to encode
    total: int  # bytes of the source files
    done: int | None  # of them; None: it cannot be told, within a compressed file
    done_before: int  # when this process began


ExportTell = Callable[[str | ExportProgress], None]  # who hears how it goes


def export(request: ExportRequest, encode_in_order: EncodeInOrder, tell: ExportTell) -> Path:
    """The finished data folder. Raises DataError for what cannot be exported, DiskError, and Busy."""
    try:
        _, _, scratch = places(request)
        scratch.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(scratch.with_name(scratch.name + ".lock"), timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout:
            raise Busy(f"another export into {scratch.parent} is at work on {scratch.name}; wait for its end") from None
        with lock:
            return _export(request, encode_in_order, tell)
    except OSError as error:
        what = error.strerror or str(error)
        if error.errno in DISK_FULL:
            raise DiskError(
                f"the disk of {request.into} is full: {what}. Make room, or name a larger disk by --into, and run the "
                "same command again: what was done under this --into is kept"
            ) from error
        raise DiskError(f"{error.filename or request.into} cannot be written: {what}") from error


def _export(request: ExportRequest, encode_in_order: EncodeInOrder, tell: ExportTell) -> Path:
    plan = make_plan(request, tell)
    if finished(plan):
        tell(f"{plan.folder} is there already, from the same documents and settings: nothing to do")
        shutil.rmtree(plan.scratch, ignore_errors=True)
        return plan.folder
    plan.scratch.mkdir(exist_ok=True)
    checkpoint, held_out = enter(plan, tell)
    try:
        return _go_on(request, plan, checkpoint, held_out, encode_in_order, tell)
    except DataError:
        if not checkpoint.shards and not (plan.scratch / TOKENIZER).exists():
            shutil.rmtree(
                plan.scratch, ignore_errors=True
            )  # refused before anything was made that another try could go on with
        raise


def _go_on(
    request: ExportRequest,
    plan: Plan,
    checkpoint: Checkpoint,
    held_out: HeldOut,
    encode_in_order: EncodeInOrder,
    tell: ExportTell,
) -> Path:
    if checkpoint.counts.skipped_bad and not request.skip_bad:
        tell(f"{counted(checkpoint.counts.skipped_bad, 'bad document')} left out by an earlier try with --skip-bad")
    if not checkpoint.shards:
        check_space(plan, checkpoint, None)
        _check_documents(request, plan)
    model = _export_tokenizer(request, plan, tell)
    if (why := TextEncoder(model).reason) is not None:
        tell(f"with this tokenizer documents cannot be encoded word by word, which is faster: {why}")
    blocks = read_blocks(plan.sources, checkpoint.position, text_field=request.text_field)
    with contextlib.closing(encode_in_order(model, blocks)) as encoded:
        _encode_all(request, plan, encoded, checkpoint, held_out, tell)
    plan.check_unchanged()
    return _publish(request, plan, checkpoint, model, tell)


def _check_documents(request: ExportRequest, plan: Plan) -> None:
    """Read until there is one document more than validation takes, so that too few are noticed before any work."""
    documents = 0
    for block in read_blocks(plan.sources, text_field=request.text_field):
        texts = list(documents_of(block))
        bad = tuple(BadDocument(place, str(text), 0) for place, text in texts if isinstance(text, DataError))
        if not request.skip_bad:
            refuse_bad((*bad, *block.bad))
        documents += len(texts) - len(bad)
        if documents > request.val_documents:
            return
    are = "is" if documents == 1 else "are"
    raise DataError(
        f"there {are} {counted(documents, 'document')}, and the first {request.val_documents:,} are for validation: "
        "none is left for training; give more documents, or a smaller --val-documents"
    )


def _export_tokenizer(request: ExportRequest, plan: Plan, tell: ExportTell) -> bytes:
    """The model; one that was trained for this plan is kept, so that no crash trains it again."""
    kept = plan.scratch / TOKENIZER
    if not kept.exists() and request.tokenizer is not None:
        write_bytes(kept, request.tokenizer.read_bytes())
    elif not kept.exists():
        vocab = typing.cast(int, request.vocab)
        tell(f"training a tokenizer of {vocab:,} pieces on {TRAINING_BYTES / 1e6:.0f} MB of training text at most")
        made = train_on(
            plan.sources,
            vocab,
            val_documents=request.val_documents,
            text_field=request.text_field,
            skip_bad=request.skip_bad,
        )
        plan.check_unchanged()
        write_bytes(kept, made.model)
        tell(f"trained on {made.documents:,} documents, {made.text_bytes / 1e6:,.1f} MB")
    if plan.settings["tokenizer"].get("sha256", file_sha256(kept)) != file_sha256(kept):
        raise DataError(f"{request.tokenizer} was changed just now; remove {plan.scratch}, and the export starts anew")
    check_tokenizer(kept)
    return kept.read_bytes()


def _encode_all(
    request: ExportRequest,
    plan: Plan,
    encoded: Iterator[EncodedBlock],
    checkpoint: Checkpoint,
    held_out: HeldOut,
    tell: ExportTell,
) -> None:
    """Write every shard that is still to be written. `checkpoint` ends as the state of the whole input."""
    counts, position = checkpoint.counts, checkpoint.position
    to_pass, began = checkpoint.passed, time.monotonic()
    reached = position  # the end of the block that is being written
    text_before, done_before = counts.text_bytes, bytes_before(plan, position) or 0

    def at_seal() -> None:
        plan.check_unchanged()  # a checkpoint stands for shards of the documents that were hashed
        checkpoint.counts, checkpoint.position, checkpoint.passed = counts, position, stream.passed
        write_checkpoint(plan.scratch, checkpoint, held_out)
        check_space(plan, checkpoint, bytes_before(plan, reached))

    stream = ShardStream(plan.shards, request.shard_tokens, checkpoint.shards, at_seal)
    try:
        for block in encoded:
            if not request.skip_bad:
                refuse_bad(block.bad)
            after, runs = after_block(counts, block, held_out, request.val_documents, plan.named)
            stream.passed, reached = 0, block.after
            for split, first, end in runs:
                passing = min(to_pass, end - first)
                to_pass -= passing
                stream.passed += passing
                if passing < end - first:
                    stream.write(split, block.tokens[first + passing : end])
            counts, position = after, block.after
            tell(
                ExportProgress(
                    documents=counts.documents,
                    text_bytes=counts.text_bytes,
                    new_text_bytes=counts.text_bytes - text_before,
                    seconds=time.monotonic() - began,
                    total=plan.total,
                    done=bytes_before(plan, position),
                    done_before=done_before,
                )
            )
        stream.passed = 0
        stream.seal()
    except BaseException:
        stream.drop()
        raise
    checkpoint.counts = counts


def bytes_before(plan: Plan, position: Position | None) -> int | None:
    """How many bytes of the source files lie before a position; None where that cannot be told."""
    if position is None:
        return 0
    sizes = [plan.stamps[str(source.path)][0] for source in plan.sources]
    before = sum(sizes[: position["file"]])
    if not position["offset"]:
        return before
    return before + position["offset"] if plan.sources[position["file"]].kind == "jsonl" else None


def _publish(request: ExportRequest, plan: Plan, checkpoint: Checkpoint, model: bytes, tell: ExportTell) -> Path:
    """Tokenizer, manifest, and last the name of the folder."""
    counts = checkpoint.counts
    if not counts.train_documents:
        shutil.rmtree(plan.scratch)  # of the same documents nothing else can come
        raise DataError(
            f"every document after the first {request.val_documents:,} has the tokens of one of them: none is left for "
            "training; give other documents, or a smaller --val-documents"
        )
    if counts.dropped_shared:
        shared = counted(counts.dropped_shared, "document")
        tell(f"{shared} with the tokens of a validation document left out of training")
    if counts.skipped_bad:
        bad = counted(counts.skipped_bad, "bad document")
        tell(f"{bad} left out, as `skipped` of the manifest says; the first: {counts.skipped[0]}")
    path = _place_tokenizer(request, plan, model)
    tokens = {
        split: sum(entry.tokens for name, entry in checkpoint.shards.items() if f"_{split}_" in name)
        for split in SPLITS
    }
    write_manifest(
        plan.shards,
        DataManifest(
            name=plan.name,
            source=manifest_source(counts, plan.id, plan.settings),
            tokenizer=TokenizerEntry(
                path=path_from(plan.folder, path),
                sha256=file_sha256(path),
                size=len(model),
                vocab=check_tokenizer(path),
            ),
            splits={
                "train": SplitEntry(tokens["train"], counts.train_documents, counts.train_bytes),
                "val": SplitEntry(tokens["val"], counts.val_documents, counts.val_bytes),
            },
            files=checkpoint.shards,
        ),
    )
    sync_folder(plan.shards)
    plan.shards.rename(plan.folder)
    sync_folder(plan.folder.parent)
    shutil.rmtree(plan.scratch)
    return plan.folder


def _clear_unfinished(folder: Path) -> None:
    """Remove what write_bytes had begun in processes that are gone."""
    for path in folder.glob(".*.model.*.tmp"):
        pid = path.name.split(".")[-2]
        if pid.isdecimal() and not Path("/proc", pid).exists():
            path.unlink(missing_ok=True)


def _place_tokenizer(request: ExportRequest, plan: Plan, model: bytes) -> Path:
    """Beside the other tokenizers, by the field's name; never over one of another content."""
    folder = request.into / "tokenizers"
    folder.mkdir(exist_ok=True)
    _clear_unfinished(folder)
    if request.tokenizer is not None:
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", request.tokenizer.name)
        path = folder / (name if name.endswith(".model") else f"{name}.model")
    elif plan.name.startswith(FIELD_NAME):
        path = folder / f"fineweb_{plan.name.removeprefix(FIELD_NAME)}_bpe.model"
    else:
        path = folder / f"{plan.name}_bpe.model"
    if path.exists() and path.read_bytes() != model:
        path = path.with_name(f"{path.stem}-{plan.id[:8]}.model")
    if not path.exists() or path.read_bytes() != model:
        write_bytes(path, model)
    return path
