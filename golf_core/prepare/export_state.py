"""How far an export is: what a checkpoint holds, and the pure step from one block of documents to the next.

A checkpoint is written after every sealed shard. It says where the block starts in which that shard ended, what was
counted before this block, and how many of the tokens from there on are in sealed shards already. To go on, the block
is encoded again, counted again, and that many tokens are passed over. So it does not matter how the input is cut into
blocks, nor by how many workers they are encoded.
"""

import hashlib
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from golf_core.data.manifest import ShardEntry
from golf_core.data.shards import DataError
from golf_core.prepare.blocks import BadDocument, Position
from golf_core.prepare.encode import DIGEST_BYTES, EncodedBlock
from golf_core.rundir import RunDirError, read_json, write_bytes, write_json

CHECKPOINT = "checkpoint.json"
HELD_OUT = "val_digests"  # 16 bytes of the tokens of each validation document, in order
NAMED_BAD = 100  # bad documents that are listed; all are counted


def counted(count: int, noun: str) -> str:
    """As "1 shard", "2 shards"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


@dataclass(frozen=True)
class Counts:
    """Of all documents before a place in the input."""

    documents: int = 0  # good ones, of both splits and dropped
    text_bytes: int = 0  # of all of them
    chain: str = ""  # hex: SHA-256(chain before + digest of the document), over all of them
    train_documents: int = 0
    train_bytes: int = 0
    val_documents: int = 0
    val_bytes: int = 0
    dropped_shared: int = 0  # train documents with the tokens of a validation document
    skipped_bad: int = 0
    skipped: tuple[str, ...] = ()  # the first of them: place and reason


@dataclass
class Checkpoint:
    plan: str
    position: Position | None = None  # where the block starts; None: at the start of the input
    counts: Counts = field(default_factory=Counts)  # before that block
    passed: int = 0  # tokens from that place on that are in sealed shards
    shards: dict[str, ShardEntry] = field(default_factory=dict)


class HeldOut:
    """The digests of the validation documents' tokens: no training document is the same to a model."""

    def __init__(self, in_order: bytes = b"") -> None:
        self.in_order = bytearray(in_order)
        self.known = {in_order[i : i + DIGEST_BYTES] for i in range(0, len(in_order), DIGEST_BYTES)}

    def add(self, digest: bytes) -> None:
        self.in_order += digest
        self.known.add(digest)


def after_block(
    counts: Counts,
    block: EncodedBlock,
    held_out: HeldOut,
    val_documents: int,
    named: Callable[[str], str],
) -> tuple[Counts, list[tuple[str, int, int]]]:
    """The counts after a block, and what of its tokens goes where: (split, first, end), in order.

    Adds the block's validation documents to `held_out`. `named` says a place as the manifest is to name it."""
    chain = bytes.fromhex(counts.chain)
    ends = np.cumsum(block.lengths)
    runs: list[tuple[str, int, int]] = []
    documents: dict[str, list[int]] = {"train": [], "val": [], "": []}
    for number, end in enumerate(ends.tolist()):
        mine = slice(number * DIGEST_BYTES, (number + 1) * DIGEST_BYTES)
        chain = hashlib.sha256(chain + block.digests[mine]).digest()
        digest = block.token_digests[mine]
        if counts.documents + number < val_documents:
            split = "val"
            held_out.add(digest)
        else:
            split = "" if digest in held_out.known else "train"
        documents[split].append(number)
        start = end - int(block.lengths[number])
        if split and runs and runs[-1][0] == split and runs[-1][2] == start:
            runs[-1] = (split, runs[-1][1], end)
        elif split:
            runs.append((split, start, end))
    new_bad = [f"{named(bad.place)}: {bad.reason}" for bad in block.bad[: max(NAMED_BAD - len(counts.skipped), 0)]]
    return (
        replace(
            counts,
            documents=counts.documents + len(ends),
            text_bytes=counts.text_bytes + int(block.text_bytes.sum()),
            chain=chain.hex(),
            train_documents=counts.train_documents + len(documents["train"]),
            train_bytes=counts.train_bytes + int(block.text_bytes[documents["train"]].sum()),
            val_documents=counts.val_documents + len(documents["val"]),
            val_bytes=counts.val_bytes + int(block.text_bytes[documents["val"]].sum()),
            dropped_shared=counts.dropped_shared + len(documents[""]),
            skipped_bad=counts.skipped_bad + len(block.bad),
            skipped=counts.skipped + tuple(new_bad),
        ),
        runs,
    )


def refuse_bad(bad: tuple[BadDocument, ...]) -> None:
    """Raise a DataError for the first bad document."""
    if bad:
        raise DataError(
            f"{bad[0].place}: {bad[0].reason}. --skip-bad leaves such documents out, counts and names them, and goes "
            "on from here; a mended file is another input, for another --name or once this unfinished export is removed"
        )


def write_checkpoint(scratch: Path, checkpoint: Checkpoint, held_out: HeldOut) -> None:
    """Whole or not at all. The digests first: a checkpoint may know fewer of them than there are."""
    wanted = bytes(held_out.in_order[: checkpoint.counts.val_documents * DIGEST_BYTES])
    path = scratch / HELD_OUT
    if not path.exists() or path.stat().st_size < len(wanted):
        write_bytes(path, wanted)
    write_json(
        scratch / CHECKPOINT,
        {
            "schema_version": 1,
            "plan": checkpoint.plan,
            "position": checkpoint.position,
            "counts": vars(checkpoint.counts),
            "passed": checkpoint.passed,
            "shards": {name: vars(entry) for name, entry in checkpoint.shards.items()},
        },
    )


def read_checkpoint(scratch: Path) -> tuple[Checkpoint, HeldOut] | None:
    """What was done of an export; None where no shard was sealed. Raises DataError where it cannot be relied on."""
    if not (scratch / CHECKPOINT).exists():
        return None
    try:
        found = read_json(scratch / CHECKPOINT)
        counts = {**found["counts"], "skipped": tuple(found["counts"]["skipped"])}
        checkpoint = Checkpoint(
            plan=found["plan"],
            position=found["position"],
            counts=Counts(**counts),
            passed=int(found["passed"]),
            shards={name: ShardEntry(**entry) for name, entry in found["shards"].items()},
        )
        size = checkpoint.counts.val_documents * DIGEST_BYTES
        digests = (scratch / HELD_OUT).read_bytes()[:size]
        if len(digests) != size:
            raise ValueError(f"{HELD_OUT} has {len(digests)} bytes, not {size}")
    except (RunDirError, OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{scratch} is damaged ({error}); remove it, and the export starts anew") from None
    return checkpoint, HeldOut(digests)


def damaged_shards(folder: Path, checkpoint: Checkpoint) -> Iterator[str]:
    """Sealed shards that are no longer there, or cut. (Their content is for whoever reads the finished folder.)"""
    for name, entry in checkpoint.shards.items():
        path = folder / name
        size = path.stat().st_size if path.is_file() else None
        if size != entry.size:
            yield f"{path} has {'vanished' if size is None else f'{size:,} bytes, not {entry.size:,}'}"


def manifest_source(counts: Counts, plan: str, settings: typing.Any) -> dict[str, typing.Any]:
    """What a manifest says of where its tokens are from."""
    return {
        "kind": "documents",
        "plan": plan,
        **settings,
        "documents": counts.documents,
        "documents_sha256": counts.chain,
        "text_bytes": counts.text_bytes,
        "dropped_shared": counts.dropped_shared,
        "skipped_bad": counts.skipped_bad,
        "skipped": list(counts.skipped),
    }
