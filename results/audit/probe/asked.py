"""What is to be probed: anybody's file with its artifact and a shard, or the sealed attempts of a submission."""

import hashlib
import time
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from golf_core.rundir import ARTIFACT, BUNDLE, file_sha256
from results.attempt import Evidence
from results.audit.probe.probes import Plan, Tell, probe_stream
from results.audit.probe.process import ChildScorer, Evaluator, Limits
from results.audit.probe.show import Probed
from results.audit.probe.stream import BOS, read_shard, whole_documents
from results.audit.record import PROBE, seal_of, write_record
from results.collect import Collected
from results.evidence import STAGES, RecipeEvidence
from results.facts import Facts
from results.project import ProjectError
from results.recount.attempts import source_of
from results.recount.shards import find_split

DEFAULT_TOKENS = 8192
CHUNKS = 2.25  # of test-time training, that a stream holds at least: two are learned from, and scores follow both
# What a config of ours claims of its documents: that none reaches another's context; and that none learns of another.
ISOLATED_KINDS = {"lora": True, "phased": False}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The options of the command line."""

    evaluator: Path | None = None
    artifact: Path | None = None
    stream: Path | None = None
    data: Path | None = None
    tokens: int | None = None
    isolated: bool = False
    bytes_a_token: float | None = None
    exact: int | None = None
    swap_runs: int = 12
    limits: Limits = field(default_factory=Limits)


def probe_file(asked: Asked, tell: Tell) -> Probed:
    """Anybody's evaluator. Raises ProjectError for what is missing, ScorerError for one that gives no scores."""
    if asked.evaluator is None or asked.artifact is None or asked.stream is None:
        raise ProjectError(
            "a file is probed with its artifact, on a shard: results audit FILE --probe --artifact FILE --stream "
            "SHARD; or give the id of a submission of ours"
        )
    for path, option in ((asked.evaluator, "--evaluator"), (asked.artifact, "--artifact")):
        if not path.is_file():
            raise ProjectError(f"{option} {path}: there is no such file")
    plan = _plan(asked, _vocab(asked.stream), asked.bytes_a_token)
    evaluator = Evaluator(asked.evaluator, asked.artifact, {}, asked.limits)
    return _probe(str(asked.evaluator), None, evaluator, asked.stream, asked.tokens or DEFAULT_TOKENS, plan, tell)


def probe_attempts(found: Collected, asked: Asked, tell: Tell) -> Iterator[Probed]:
    """Every counted attempt of a submission, one after the other; each is recorded beside it when it is done."""
    if not found.evidence:
        raise ProjectError(f"{found.spec.folder.name} has no counted attempt: only a sealed one can be probed")
    environment = dict(found.spec.script.environment) if found.spec.script else {}
    shard, tokenizer = asked.stream, None
    if shard is None:
        source = source_of(found.spec, asked.data, None, None)
        tokenizer = source.tokenizer
        shard = find_split(source.data, "val").shards[0].path
    for seed, evidence in found.evidence.items():
        evaluator = Evaluator(
            asked.evaluator or evidence.folder / BUNDLE,
            asked.artifact or _artifact(evidence),
            {**environment, "SEED": str(seed)},
            asked.limits,
            tokenizer,
        )
        plan, wanted = _plan_of(found, evidence, asked, shard)
        probed = _probe(evidence.attempt_id, seed, evaluator, shard, wanted, plan, tell)
        write_record(
            found.spec.runs_dir,
            evidence.attempt_id,
            PROBE,
            seal_sha256=seal_of(evidence.folder),
            verdict=probed.verdict,
            says=probed.says,
            evidence={**probed.evidence(), "evaluator_sha256": file_sha256(evaluator.file)},
        )
        yield probed


def _artifact(evidence: Evidence) -> Path:
    if isinstance(evidence, RecipeEvidence):
        return evidence.folder / ARTIFACT
    raise ProjectError(
        "of a script's run --evaluator must name a file that offers score_stream(artifact, tokens, learn) by the "
        "script's own evaluation, and --artifact its file of weights"
    )


def _vocab(shard: Path) -> int:
    return int(read_shard(shard).max()) + 1


def _plan(asked: Asked, vocab: int, bytes_a_token: float | None, kind: typing.Any = None) -> Plan:
    """`kind`: how a recipe of ours learns while it scores."""
    return Plan(
        vocab=vocab,
        bytes_a_token=bytes_a_token,
        isolated=asked.isolated or kind in ISOLATED_KINDS,
        whole_isolated=ISOLATED_KINDS.get(kind, False),
        exact=asked.exact,
        swap_runs=asked.swap_runs,
    )


def _plan_of(found: Collected, evidence: Evidence, asked: Asked, shard: Path) -> tuple[Plan, int]:
    """The plan, and how many tokens: a recipe of ours tells its vocabulary, its bytes, and how it learns."""
    if not isinstance(evidence, RecipeEvidence):
        return _plan(asked, _vocab(shard), asked.bytes_a_token), asked.tokens or DEFAULT_TOKENS
    config, stages = Facts(found.spec.config, f"{found.spec.folder.name}: config"), evidence.scores.child("stages")
    last = stages.child(next(name for name in reversed(STAGES) if stages.has(name)))
    ratio = asked.bytes_a_token or last.integer("bytes") / last.integer("tokens")
    ttt = config.child("ttt") if config.has("ttt") else Facts({}, config.place)
    kind = ttt.maybe_text("kind")
    chunks = CHUNKS * ttt.integer("chunk_tokens") if kind == "chunk" else 0.0
    vocab = max(config.child("model").maybe_integer("vocab") or 0, _vocab(shard))
    return _plan(asked, vocab, ratio, kind), asked.tokens or max(DEFAULT_TOKENS, int(chunks))


def _probe(
    what: str, seed: int | None, evaluator: Evaluator, shard: Path, wanted: int, plan: Plan, tell: Tell
) -> Probed:
    text = read_shard(shard)
    tokens = whole_documents(text, wanted)
    facts = {
        "shard": shard.name,
        "tokens": len(tokens),
        "documents": int((tokens == BOS).sum()),
        "sha256": hashlib.sha256(tokens.astype("<u2").tobytes()).hexdigest(),
    }
    begin = time.monotonic()
    with ChildScorer(evaluator) as scorer:
        facts["sandbox"] = scorer.words
        outcomes = probe_stream(scorer, tokens, text, plan, tell)
    return Probed(what, seed, facts, tuple(outcomes), time.monotonic() - begin)
