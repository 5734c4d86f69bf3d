"""The recount of a submission of ours: the data of its runs found, and what each sealed attempt's scores say of it."""

import os
import typing
from pathlib import Path

from golf_core.rundir import SCORE_LEDGER, read_json
from results.attempt import Evidence
from results.audit.record import RECOUNT, write_outcome
from results.collect import Collected
from results.dataset import EMBEDDED_SHA256
from results.evidence import STAGES, RecipeEvidence
from results.gates import is_of_race
from results.ledger_file import LedgerFileError, OtherFormat, load_ledger
from results.recount.count import Claimed, ClaimedRatio, Recounted, Source, recount
from results.recount.model import RecountError
from results.script_evidence import ScriptEvidence
from results.spec import SPEC, Spec

CACHE = Path(__file__).resolve().parents[2] / "data" / "cache"  # of the embedded corpus
NEEDED = "--data FOLDER (and --tokenizer FILE) names where the run's data lies on this machine"


def recount_attempts(
    found: Collected, data: Path | None, tokenizer: Path | None, docs: Path | None
) -> dict[int, Recounted]:
    """A record of each counted seed, written beside it. Raises RecountError where the data is not at hand."""
    source = source_of(found.spec, data, tokenizer, docs)
    claims = {seed: claims_of(evidence) for seed, evidence in found.evidence.items()}
    told = recount(source, claims, of_race=is_of_race(found.spec.policy))
    for seed, evidence in found.evidence.items():
        write_outcome(found.spec.runs_dir, evidence.attempt_id, evidence.folder, RECOUNT, told[seed])
    return told


def source_of(spec: Spec, data: Path | None, tokenizer: Path | None, docs: Path | None) -> Source:
    """Where the data of a submission lies here: as it was named, else as its spec.json tells."""
    told = read_json(spec.folder / SPEC).get("data")
    told = told if isinstance(told, dict) else {}
    folder = data or _folder(told.get("path"), spec)
    embedded = spec.data_sha256 == EMBEDDED_SHA256 or is_embedded(folder)
    model = tokenizer or tokenizer_of(folder, None if data else told.get("tokenizer_path"))
    return Source(
        data=folder,
        tokenizer=model,
        docs=docs,
        data_sha256=spec.data_sha256,
        tokenizer_sha256=spec.tokenizer_sha256,
        embedded=embedded and docs is None,
    )


def _folder(told: typing.Any, spec: Spec) -> Path:
    places = [Path(told)] if isinstance(told, str) else []
    if spec.data_sha256 == EMBEDDED_SHA256 and CACHE.is_dir():
        places += sorted(path for path in CACHE.iterdir() if not path.name.startswith("."))
    for place in places:
        if place.is_dir():
            return place
    raise RecountError(f"the data of {spec.folder.name} is not at {told!r:.200}: {NEEDED}")


def is_embedded(folder: Path) -> bool:
    """By its manifest: the corpus in another build of SentencePiece, say."""
    manifest = folder / "manifest.json"
    source = read_json(manifest).get("source") if manifest.is_file() else None
    return isinstance(source, dict) and source.get("kind") == "embedded"


def tokenizer_of(folder: Path, told: typing.Any = None) -> Path:
    manifest = folder / "manifest.json"
    entry = read_json(manifest).get("tokenizer") if manifest.is_file() else None
    named = entry.get("path") if isinstance(entry, dict) else None
    places = [Path(told)] if isinstance(told, str) else []
    places += [Path(os.path.normpath(folder / named))] if isinstance(named, str) else []
    for place in places:
        if place.is_file():
            return place
    raise RecountError(f"the tokenizer of {folder} is not at hand: {NEEDED}")


def claims_of(evidence: Evidence) -> list[Claimed | ClaimedRatio]:
    """Every stage of a bundle of ours, its nats as the ledger has them; of a script what its log tells."""
    if isinstance(evidence, RecipeEvidence):
        nats = _ledger_nats(evidence)
        return [_stage(evidence, name, nats) for name in STAGES if evidence.stage(name) is not None]
    assert isinstance(evidence, ScriptEvidence)
    log = evidence.parsed
    loss, bpb = log.final_val_loss, log.final_bpb
    return [] if loss is None or bpb is None else [ClaimedRatio("the log's final score", bpb, loss)]


def _stage(evidence: RecipeEvidence, name: str, nats: dict[str, float]) -> Claimed:
    stage = evidence.stage(name)
    assert stage is not None
    tokens = stage.integer("tokens")
    told = nats.get(name, stage.number("val_loss") * tokens)
    return Claimed(name, stage.number("val_bpb"), told, tokens, stage.integer("bytes"))


def _ledger_nats(evidence: RecipeEvidence) -> dict[str, float]:
    """By stage, as the sealed ledger adds them up; nothing of a ledger of an older version."""
    try:
        return {stage.name: stage.nats for stage in load_ledger(evidence.folder / SCORE_LEDGER)}
    except OtherFormat:
        return {}
    except LedgerFileError as error:
        raise RecountError(f"{evidence.folder / SCORE_LEDGER}: {error}") from None
