"""What the registered seeds can show, told before money is spent: the gap to the frontier row that they would claim.

Exact for normal scores and Welch's test (golf_core.significance), at a typical spread of ours and the row's published
one. A plan whose policy has no claim rule says what seeds of two variants could show, where real GPUs are paid for.
"""

import functools
import math
import typing
from dataclasses import asdict, dataclass

from golf_core.fields import ConfigError
from golf_core.frontier import Frontier, FrontierRow, load_frontier
from golf_core.policy import Claim
from golf_core.significance import Design, seeds_needed
from orchestrator.errors import UsageError
from orchestrator.spec import Submission

EVEN, LIKELY = 0.5, 0.8
BETTER = 0.75  # the next step: seeds that show a gap beyond the margin of at most this share of the present one
VARIANTS_ALPHA = 0.05  # of a comparison of two variants, where no policy names one
TYPICAL_SD = 0.0006  # BPB, of seeds of one configuration on FineWeb
TOKENIZERS = {1024: "SP1024", 4096: "SP4096", 8192: "SP8192"}  # by vocabulary; CaseOps has other bytes per token


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Differences of the true means, in BPB and the margin in them, that this many seeds would claim."""

    seeds: int
    even: float
    likely: float


@dataclass(frozen=True, kw_only=True)
class Power:
    rule: str  # what is claimed, against what
    source: str
    shown: tuple[Shown, ...] = ()  # of the registered seeds, then of the next step, if more seeds of ours help
    mean: float | None = None  # of the row, BPB
    bytes_per_token: float | None = None
    margin_bpb: float | None = None  # that a claim must pass: the larger one where the row's tokenizer is another
    nothing: str = ""  # why these seeds can show nothing

    def to_dict(self) -> dict[str, typing.Any]:
        shown = [
            asdict(one) | {"even_nats": self._nats(one.even), "likely_nats": self._nats(one.likely)}
            for one in self.shown
        ]
        return asdict(self) | {"shown": shown}

    def _nats(self, bpb: float) -> float | None:
        return None if self.bytes_per_token is None else bpb * math.log(2) * self.bytes_per_token

    def rows(self) -> list[tuple[str, str, str]]:
        """(name, value, source) for the eye."""
        told = [("power", self.rule + (f"; {self.nothing}" if self.nothing else ""), self.source)]
        for one in self.shown:
            value = f"even odds for a true mean {self._gap(one.even)}, 80 % for one {self._gap(one.likely)}"
            told.append((f"at {one.seeds} seeds", value, "estimate"))
        return told

    def _gap(self, bpb: float) -> str:
        mean = "" if self.mean is None else f"of {self.mean - bpb:.5f} BPB, "
        nats = "" if (value := self._nats(bpb)) is None else f" ({value:.4f} nats)"
        return f"{mean}better by {bpb:.5f}{'' if mean else ' BPB'}{nats}"


def power_of(submission: Submission, embedded: bool) -> Power | None:
    """What the plan says of its seeds; None where nothing is claimed and nothing paid. Raises UsageError for a claim
    whose frontier or row does not exist."""
    seeds, claim = len(submission.seeds), submission.policy.claim
    if claim is None:
        return _of_variants(seeds) if submission.target.device == "cuda" and not embedded else None
    try:
        frontier = load_frontier(claim.frontier)
        row = frontier.find(claim.against)
    except ConfigError as error:
        raise UsageError(f"policy {submission.policy.name}: {error}") from None
    rule, source = f"{claim.describe()}, against {_of(row)}", f"policy {submission.policy.name}"
    if embedded:
        return Power(rule=rule, source=source, nothing="scores of the embedded corpus claim nothing: it is other text")
    if seeds < max(2, submission.policy.seeds):
        return Power(
            rule=rule,
            source=source,
            nothing=f"{seeds} registered seeds claim nothing: the policy asks for {submission.policy.seeds}",
        )
    return _against(claim, frontier, row, seeds, _ratio(submission, frontier), rule, source)


def _of(row: FrontierRow) -> str:
    sd = "sd not known" if row.sample.sd is None else f"sd {row.sample.sd:.5f}"
    return f"{row.label}: {row.sample.mean:.5f} BPB, {row.sample.n} seeds, {sd}"


def _ratio(submission: Submission, frontier: Frontier) -> float | None:
    model = submission.config.get("model")
    vocab = model.get("vocab") if isinstance(model, dict) else None
    return frontier.bytes_per_token.get(TOKENIZERS.get(vocab, "")) if isinstance(vocab, int) else None


def _against(
    claim: Claim, frontier: Frontier, row: FrontierRow, seeds: int, ratio: float | None, rule: str, source: str
) -> Power:
    if row.sample.sd is None:
        return Power(rule=rule, source=source, nothing="without its spread nothing can be tested against it")
    if claim.margin_nats and ratio is None:
        nothing = "how many BPB the margin is depends on a tokenizer that the plan does not know"
        return Power(rule=rule, source=source, nothing=nothing)
    # Where the tokenizers differ, a claim must pass with the margin counted in the tokens of either: fewer bytes a
    # token make it more BPB.
    margin = claim.margin_nats / (math.log(2) * min(ratio, row.bytes_per_token)) if ratio else 0.0
    ours, theirs, fixed = frontier.typical_sd, row.sample.sd, row.sample.n
    return Power(
        rule=rule,
        source=f"{source}; estimate at sd {ours:g} BPB",
        shown=_steps(seeds, fixed, ours, theirs, claim.alpha, margin),
        mean=row.sample.mean,
        bytes_per_token=ratio,
        margin_bpb=margin,
    )


def _of_variants(seeds: int) -> Power:
    rule = f"no claim; two variants of {seeds} seed{'s' if seeds > 1 else ''} each, compared at p < {VARIANTS_ALPHA:g}"
    if seeds < 2:
        return Power(rule=rule, source="policy", nothing="one seed shows nothing: it has no spread")
    return Power(
        rule=rule,
        source=f"policy; estimate at sd {TYPICAL_SD:g} BPB",
        shown=_steps(seeds, None, TYPICAL_SD, TYPICAL_SD, VARIANTS_ALPHA, 0.0),
    )


@functools.lru_cache(maxsize=64)  # the variants of a grid ask the same
def _steps(seeds: int, fixed: int | None, ours: float, theirs: float, alpha: float, margin: float) -> tuple[Shown, ...]:
    """What these seeds show against so many fixed ones, or against as many as ours, and what the next step would."""

    def shown(n: int) -> Shown:
        design = Design(n, fixed or n, ours, theirs, alpha)
        return Shown(seeds=n, even=margin + design.gap(EVEN), likely=margin + design.gap(LIKELY))

    now = shown(seeds)
    more = seeds_needed(BETTER * (now.likely - margin), ours, theirs, alpha, LIKELY, theirs=fixed)
    return (now,) if more is None or more <= seeds else (now, shown(more))
