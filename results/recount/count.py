"""The recount of one data folder: its text decoded, held against the text itself, and against what scores say of it."""

import math
import typing
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from golf_core.rundir import content_id, file_sha256, read_json
from results.audit.finding import FAIL, PASS, REVIEW
from results.audit.record import Outcome
from results.dataset import has_fineweb_bytes
from results.recount.decode import Counts, bytes_of_first, count
from results.recount.faults import deviation, explained
from results.recount.model import RecountError, read_model
from results.recount.normalize import Normalizer
from results.recount.overlap import Overlap, overlap
from results.recount.raw import DocumentFile, EmbeddedCorpus, Texts
from results.recount.shards import Split, blocks, find_split

MANIFEST = "manifest.json"
CHALLENGE_DOCUMENTS = 50_000  # the first of the challenge's documents are its validation split
SAME_SCORE = 1e-6  # relative, between a BPB and the one that nats and recounted bytes give
SAME_RATIO = 2e-4  # the same for a script, whose log tells of whole sequences only
LONGER, MUCH_LONGER = 0.001, 0.01  # by which normalised text may be longer than the raw one
SHARED, MANY_SHARED = 0.001, 0.01  # of the validation documents that may be among the training documents
NAMED = 3  # documents that differ

Key = typing.TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Claimed:
    """What a score says of the text that it is over."""

    stage: str
    bpb: float
    nats: float  # of all targets
    targets: int
    bytes: int | None  # None: its log tells none, and they follow from loss and BPB


@dataclass(frozen=True)
class ClaimedRatio:
    """What a log says that tells a loss and a BPB alone."""

    stage: str
    bpb: float
    loss: float  # nats a token

    def over(self, targets: int) -> Claimed:
        """As if it were over all of the stream."""
        return Claimed(self.stage, self.bpb, self.loss * targets, targets, None)


@dataclass(kw_only=True)
class Recounted(Outcome):
    """What a recount found."""

    counts: Counts


@dataclass(frozen=True)
class Source:
    """Where the data of a run lies here."""

    data: Path
    tokenizer: Path
    docs: Path | None = None  # the documents' own text
    data_sha256: str | None = None  # what the run's id names; None: anything
    tokenizer_sha256: str | None = None
    embedded: bool = False  # the data is the corpus of this project, whose text is at hand


def recount(
    source: Source, claims: Mapping[Key, Sequence[Claimed | ClaimedRatio] | None], of_race: bool = False
) -> dict[Key, Recounted]:
    """What was found for each of several runs over one data folder, which is read once; None claims nothing. Raises
    RecountError where data or tokenizer are missing, damaged, or not those of the run."""
    model, val = read_model(source.tokenizer), find_split(source.data, "val")
    hashes: dict[Path, str] = {}
    texts = _texts(source, Normalizer(model))
    differing: list[str] = []

    def look(number: int, decoded: bytes) -> None:
        if texts is not None and (why := texts.take(number, decoded)) and len(differing) < NAMED:
            differing.append(why)

    counts = count(val.shards, model, look, hashes)
    found = Recounted(counts=counts)
    shared = _provenance(found, source, val, hashes)
    _stream(found, val, source.data)
    original = _sidecars(found, val, texts)
    _raw(found, texts, differing, original)
    if of_race and texts is not None and not has_fineweb_bytes(counts.bytes) and not original:
        found.add(FAIL, f"{counts.bytes:,} bytes are not the challenge's validation split")
    if letters := model.changed_letters:
        found.add(REVIEW, f"the tokenizer rewrites letters ({''.join(letters)[:60]}): the text cannot be had back")
    _tell_overlap(found, shared)
    found.evidence |= _evidence(counts, source, val, hashes, texts, shared)
    runs = {}
    for key, several in claims.items():
        runs[key] = Recounted(counts=counts, findings=list(found.findings), evidence=dict(found.evidence))
        for claim in several or ():
            whole = claim.over(counts.tokens - 1) if isinstance(claim, ClaimedRatio) else claim
            _hold(runs[key], whole, val, source)
        if several is not None and not several:
            runs[key].add(REVIEW, "no loss is told beside the BPB: nothing can be divided by the recounted bytes")
        told = [{"verdict": verdict, "says": says} for verdict, says in runs[key].findings]
        runs[key].evidence["findings"] = told
    return runs


def _texts(source: Source, normalizer: Normalizer) -> Texts | None:
    if source.docs is not None:
        return DocumentFile(source.docs, normalizer.text)
    return EmbeddedCorpus(normalizer.text) if source.embedded else None


def _provenance(found: Recounted, source: Source, val: Split, hashes: dict[Path, str]) -> Overlap | None:
    """Whether these are the shards and the tokenizer that the run's id names. The train shards are read where they are
    at hand; else their hashes are the manifest's: together they give the id's, or the validation shards are others."""
    if source.tokenizer_sha256 not in (None, file_sha256(source.tokenizer)):
        raise RecountError(f"{source.tokenizer} is not the tokenizer that the run's id names")
    shared: Overlap | None = None
    train_hashes: dict[Path, str] = {}
    listed = _listed_train(source.data)
    if any(source.data.glob("*_train_*.bin")):
        train = find_split(source.data, "train")
        shared = overlap(train.shards, val.shards, train_hashes)
        told = [train_hashes[shard.path] for shard in train.shards]
    elif listed is not None:
        told = listed
        found.add(REVIEW, "the train shards are not at hand: whether they hold validation documents was not looked at")
    else:
        raise RecountError(f"{source.data} has neither train shards nor a {MANIFEST} with their hashes")
    identity = content_id({"train": told, "val": [hashes[shard.path] for shard in val.shards]})
    found.evidence["data_sha256"] = identity
    if source.data_sha256 not in (None, identity):
        raise RecountError(
            f"the shards in {source.data} are data {identity[:12]}, and the run's id names "
            f"{str(source.data_sha256)[:12]}: --data names another folder"
        )
    return shared


def shards_of_run(source: Source) -> Split:
    """The validation shards, known to be those of the run's id; of the train shards no more is read than must be.
    Raises RecountError."""
    val = find_split(source.data, "val")
    told = [file_sha256(shard.path) for shard in val.shards]
    if source.tokenizer_sha256 not in (None, file_sha256(source.tokenizer)):
        raise RecountError(f"{source.tokenizer} is not the tokenizer that the run's id names")
    listed = _listed_train(source.data)
    if listed is None or content_id({"train": listed, "val": told}) != source.data_sha256:
        listed = [file_sha256(shard.path) for shard in find_split(source.data, "train").shards]
    if source.data_sha256 not in (None, identity := content_id({"train": listed, "val": told})):
        raise RecountError(
            f"the shards in {source.data} are data {identity[:12]}, and the run's id names "
            f"{str(source.data_sha256)[:12]}: --data names another folder"
        )
    return val


def _listed_train(data: Path) -> list[str] | None:
    if not (data / MANIFEST).is_file():
        return None
    files = read_json(data / MANIFEST).get("files")
    if not isinstance(files, dict):
        raise RecountError(f"{data / MANIFEST} lists no files")
    names = sorted(name for name in files if "_train_" in name and "_bytes_" not in name)
    return [str(files[name].get("sha256")) if isinstance(files[name], dict) else "" for name in names]


def _listed_val(data: Path) -> dict[str, int]:
    """Tokens, documents and bytes of the validation split, as far as a manifest tells them."""
    splits = read_json(data / MANIFEST).get("splits") if (data / MANIFEST).is_file() else None
    val = splits.get("val") if isinstance(splits, dict) else None
    told = val if isinstance(val, dict) else {}
    return {name: told[name] for name in ("tokens", "documents", "bytes") if type(told.get(name)) is int}


def _stream(found: Recounted, val: Split, data: Path) -> None:
    counts = found.counts
    for name, told in _listed_val(data).items():
        if told != (counted := getattr(counts, name)):
            found.add(FAIL, f"{MANIFEST} tells {told:,} validation {name}, the shards hold {counted:,}")
    if not counts.begins_with_bos:
        found.add(FAIL, "the stream does not begin with BOS: documents have none, and run into each other")
    if counts.unknown:
        found.add(REVIEW, f"{counts.unknown:,} tokens are the unknown piece: their text is lost and counts no byte")
    if counts.unused:
        found.add(FAIL, f"{counts.unused:,} tokens are pieces that the tokenizer never writes")
    if counts.spaces_as_bytes:
        found.add(
            REVIEW,
            f"the vocabulary has no U+2581: {counts.spaces_as_bytes:,} spaces are spelled by three byte pieces",
        )
    if val.sidecars:
        names = ", ".join(shard.path.name for shard in val.sidecars[:3])
        found.evidence["sidecars"] = [shard.path.name for shard in val.sidecars]
        found.add(PASS, f"files that a glob of the split takes for shards lie beside them: {names}")


def _raw(found: Recounted, texts: Texts | None, differing: list[str], original: bool) -> None:
    """Document for document against the text itself; where that is not at hand, by size. `original`: sidecars tell the
    bytes of the text, which the pieces may then spell in another way (CaseOps writes capitals as marks)."""
    counts = found.counts
    sizes = f"{counts.bytes:,} bytes in {counts.documents:,} documents, {counts.tokens:,} tokens"
    if texts is None:
        challenge = has_fineweb_bytes(counts.bytes) and counts.documents == CHALLENGE_DOCUMENTS
        verdict = PASS if challenge else REVIEW
        size = "the size of the challenge's split" if challenge else "its text is not at hand (--docs)"
        found.add(verdict, f"{sizes}: {size}")
        return
    if not differing and (rest := texts.rest()):
        differing.append(rest)
    if differing:
        verdict = REVIEW if original else FAIL
        found.add(verdict, f"{sizes}, which are not the raw text: {'; '.join(differing)}")
        return
    longer = counts.bytes / texts.raw_bytes - 1 if texts.raw_bytes else 0.0
    found.add(PASS, f"{sizes}, the raw text's {texts.raw_bytes:,} bytes as the tokenizer normalises them")
    if longer > LONGER:
        verdict = FAIL if longer > MUCH_LONGER else REVIEW
        found.add(verdict, f"normalisation makes the text {100 * longer:.2f} % longer: bytes that nobody wrote")


def _sidecars(found: Recounted, val: Split, texts: Texts | None) -> bool:
    """Bytes a token that somebody counted beside the shards (CaseOps): whether they are the original text's."""
    if not val.sidecars:
        return False
    if [shard.tokens for shard in val.sidecars] != [shard.tokens for shard in val.shards]:
        found.add(FAIL, "the sidecars of bytes a token have other lengths than the shards")
        return False
    told = np.concatenate([block for block in blocks(val.sidecars)])
    total = int(told.sum(dtype=np.int64))
    found.evidence["sidecar_bytes"] = total
    ends = np.cumsum(found.counts.document_tokens)
    sums = np.add.reduceat(told.astype(np.int64), ends - np.array(found.counts.document_tokens, dtype=np.int64))
    if not isinstance(texts, DocumentFile) or len(texts.lengths) != len(sums):
        found.add(REVIEW, f"the sidecars tell {total:,} bytes: --docs would show whether the text has them")
    elif (wrong := np.flatnonzero(sums != np.array(texts.lengths))).size:
        first = int(wrong[0])
        found.add(
            FAIL,
            f"the sidecar of document {first} tells {int(sums[first]):,} bytes, its text has {texts.lengths[first]:,}",
        )
    else:
        found.add(PASS, f"the sidecars tell {total:,} bytes, those of the original text, document for document")
        return True
    return False


def _hold(found: Recounted, claim: Claimed, val: Split, source: Source) -> None:
    """One score against the recount: every token, its bytes, and the BPB that follows from its nats."""
    counts, targets = found.counts, found.counts.tokens - 1
    derived = claim.nats / math.log(2) / claim.bpb if claim.bytes is None and claim.bpb else claim.bytes or 0
    whole = claim.targets == targets
    of_log = claim.bytes is None
    if not whole:
        near = of_log and 0 <= targets - claim.targets <= SAME_RATIO * targets
        found.add(REVIEW if near else FAIL, _part_scored(claim, targets, val))
    part = counts.bytes
    if not whole and 0 < claim.targets < targets:
        part = bytes_of_first(val.shards, read_model(source.tokenizer), claim.targets)
    wanted = (part, int(found.evidence.get("sidecar_bytes", part)) if whole else part)
    if all(abs(derived - one) > (SAME_RATIO * one if of_log else 0.5) for one in wanted):
        known = explained(derived, counts, claim.targets, exact=not of_log) if whole else ""
        reason = f": {known}" if known else "; no known fault gives this number"
        off = deviation(derived, part)
        found.add(FAIL, f"{claim.stage} is over {derived:,.0f} bytes, {off} of the {part:,} of the text{reason}")
        return
    again = claim.nats / math.log(2) / derived if derived else math.inf
    found.evidence.setdefault("stages", {})[claim.stage] = {
        "val_bpb": claim.bpb,
        "recounted_bpb": claim.nats / math.log(2) / part if part else None,
        "targets": claim.targets,
        "bytes": derived,
    }
    if not math.isclose(again, claim.bpb, rel_tol=SAME_SCORE):
        found.add(FAIL, f"{claim.stage}: its nats over the recounted bytes are {again:.8f} BPB, not {claim.bpb:.8f}")
    else:
        found.add(PASS, f"{claim.stage}: {claim.targets:,} targets, {claim.bpb:.8f} BPB again")


def _part_scored(claim: Claimed, targets: int, val: Split) -> str:
    """What part of the stream a score is over, in words."""
    told = f"{claim.stage} scored {claim.targets:,} of {targets:,} targets"
    beside = sum(shard.tokens for shard in val.sidecars)
    if claim.targets > targets:
        if beside and claim.targets == targets + beside:
            return f"{told}: the sidecars of bytes were read as tokens, too"
        return f"{told}: more than there are"
    for window in (512, 1024, 2048, 4096, 8192):
        if claim.targets == targets // window * window:
            return f"{told}: the last window, which is not full at {window:,} tokens, is missing"
    return f"{told}: a part of the split"


def _tell_overlap(found: Recounted, shared: Overlap | None) -> None:
    if shared is None:
        return
    if not shared.shared:
        found.add(PASS, f"none of {shared.validation_documents:,} validation documents is a training document")
        return
    verdict = FAIL if shared.share > MANY_SHARED else REVIEW if shared.share > SHARED else PASS
    row = (
        ""
        if shared.run is None or shared.run[0] == shared.run[1]
        else f", documents {shared.run[0]} to {shared.run[1]}"
    )
    found.add(
        verdict,
        f"{shared.shared:,} of {shared.validation_documents:,} validation documents ({100 * shared.share:.1f} %) are "
        f"training documents too{row}",
    )


def _evidence(
    counts: Counts,
    source: Source,
    val: Split,
    hashes: dict[Path, str],
    texts: Texts | None,
    shared: Overlap | None,
) -> dict[str, typing.Any]:
    """Numbers for a record. No paths: they are of this machine."""
    told: dict[str, typing.Any] = {
        "tokens": counts.tokens,
        "documents": counts.documents,
        "bytes": counts.bytes,
        "largest_document_bytes": max(counts.document_bytes, default=0),
        "document_bytes_sha256": content_id(counts.document_bytes),
        "byte_tokens": counts.byte_tokens,
        "unknown_tokens": counts.unknown,
        "shards": {shard.path.name: hashes[shard.path] for shard in val.shards},
        "tokenizer_sha256": file_sha256(source.tokenizer),
    }
    if texts is not None:
        told["raw_text"] = {"bytes": texts.raw_bytes, "documents": texts.compared, "equal_unnormalised": texts.literal}
    if shared is not None:
        told["overlap"] = {
            "train_documents": shared.train_documents,
            "validation_documents": shared.validation_documents,
            "shared": shared.shared,
            "first": list(shared.first),
        }
    return told
