"""A policy's claim rule applied to two sets of scores: pass, fail, or unknown with the reason. Unknown never passes."""

import math
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from golf_core.fields import ConfigError
from golf_core.frontier import SAME_RATIO, Frontier, FrontierRow, load_frontier
from golf_core.policy import PRACTISED, WRITTEN, Claim, claim_from, load_policy, policy_names
from golf_core.rundir import RunDirError
from golf_core.significance import NotTestable, Sample, Welch, sample_of, welch
from results.dataset import Text, differing_seeds, same_text
from results.gates import FAIL, PASS, UNKNOWN, Gate, limit_of
from results.rows import Row


def nats_of(bpb: float, bytes_per_token: float) -> float:
    """Nats per token.

    >>> round(nats_of(0.002961, 2.4359), 6)
    0.004999
    """
    return bpb * math.log(2) * bytes_per_token


def bpb_of(nats: float, bytes_per_token: float) -> float:
    """Bits per byte, of nats per token.

    >>> [round(bpb_of(0.005, ratio), 6) for ratio in (2.4359, 3.3197, 3.7266, 3.1572)]
    [0.002961, 0.002173, 0.001936, 0.002285]
    """
    return nats / (math.log(2) * bytes_per_token)


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What a judgement needs of one side."""

    label: str
    sample: Sample
    bytes_per_token: float | None = None  # None: no loss is known beside the BPB
    text_bytes: int | None = None  # scored; None: not known
    data_sha256: str | None = None
    tokenizer_sha256: str | None = None
    obstacle: str = ""  # why nothing may be claimed of these scores

    @property
    def text(self) -> Text:
        return Text(data_sha256=self.data_sha256, tokenizer_sha256=self.tokenizer_sha256, bytes=self.text_bytes)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A rule and what it says. `test` is made with the margin, as far as that is known."""

    policy: str
    claim: Claim
    verdict: str
    reason: str
    against: str  # label of theirs
    margin_bpb: float | None  # None: in BPB it is not known
    test: Welch | None

    def to_dict(self) -> dict[str, typing.Any]:
        test = self.test
        return {
            "policy": self.policy,
            "against": self.against,
            "verdict": self.verdict,
            "reason": self.reason,
            "alpha": self.claim.alpha,
            "margin_nats": self.claim.margin_nats,
            "margin_bpb": self.margin_bpb,
            "t": None if test is None else test.t,
            "df": None if test is None else test.df,
            "p": None if test is None else test.p,
        }


def judge(policy: str, claim: Claim, seeds: int, ours: Scored, theirs: Scored) -> Judged:
    """Hold ours against theirs by the rule of a policy that asks for this many seeds."""

    def told(verdict: str, reason: str, margin: float | None = None, test: Welch | None = None) -> Judged:
        return Judged(
            policy=policy,
            claim=claim,
            verdict=verdict,
            reason=reason,
            against=theirs.label,
            margin_bpb=margin,
            test=test,
        )

    ratio = ours.bytes_per_token
    margin = 0.0 if not claim.margin_nats else None if ratio is None else bpb_of(claim.margin_nats, ratio)
    if reason := other_text(ours, theirs):
        return told(UNKNOWN, reason, margin)
    try:
        test = welch(ours.sample, theirs.sample, margin or 0.0)
    except NotTestable as error:
        return told(UNKNOWN, str(error), margin)
    if obstacle := ours.obstacle or theirs.obstacle:
        return told(UNKNOWN, obstacle, margin, test)
    if ours.sample.n < seeds:
        return told(UNKNOWN, f"{ours.sample.n} seeds; the policy asks for {seeds}", margin, test)
    if test.p >= claim.alpha:
        return told(FAIL, f"p = {test.p:.4g}, which is not below {claim.alpha:g}", margin, test)
    if margin is None:
        return told(
            UNKNOWN,
            f"better at all with p = {test.p:.4g}; but how many BPB {claim.margin_nats:g} nats per token are depends "
            "on the bytes per token, and no loss is known beside our BPB",
            None,
            test,
        )
    if (other := _under_their_tokens(claim, ours, theirs)) is not None and other.p >= claim.alpha:
        reason = (
            f"the tokenizers differ: {claim.margin_nats:g} nats of ours are {margin:.6f} BPB (p = {test.p:.4g}), "
            f"of theirs {other.margin:.6f} BPB (p = {other.p:.4g}); no rule says whose count"
        )
        return told(UNKNOWN, reason, margin, test)
    return told(
        PASS, f"p = {test.p:.4g}, below {claim.alpha:g}" + (f"; {test.note}" if test.note else ""), margin, test
    )


def _under_their_tokens(claim: Claim, ours: Scored, theirs: Scored) -> Welch | None:
    """The same test with the margin counted in their tokens, where their tokenizer is known to be another."""
    if not claim.margin_nats or ours.bytes_per_token is None or theirs.bytes_per_token is None:
        return None
    if abs(ours.bytes_per_token / theirs.bytes_per_token - 1) < SAME_RATIO:
        return None
    return welch(ours.sample, theirs.sample, bpb_of(claim.margin_nats, theirs.bytes_per_token))


def other_text(ours: Scored, theirs: Scored) -> str:
    """Why the two were not scored on the same validation text; empty where that is not known to be so."""
    if same_text(ours.text, theirs.text) is not False:
        return ""
    a, b = ours.text.length, theirs.text.length
    if a is not None and b is not None and a != b:
        told = f"ours has {a:,} bytes, theirs {b:,}"
    else:
        told = f"ours is of data {str(ours.data_sha256)[:12]}, theirs of {str(theirs.data_sha256)[:12]}"
    return f"other validation text: {told}; a BPB compares only with others of the same text"


def scored_rows(label: str, rows: Sequence[Row]) -> Scored | None:
    """Ours, from the counted rows of a submission; None where none has a score."""
    counted = [row for row in rows if row.counted and row.val_bpb is not None]
    if not counted:
        return None
    bpb = [row.val_bpb for row in counted if row.val_bpb is not None]
    losses = [row.val_loss for row in counted if row.val_loss is not None]
    missing = len(rows) - len(counted)
    obstacle = f"{missing} of {len(rows)} registered seeds have no counted score yet" if missing else ""
    different = differing_seeds(counted)
    obstacle = different or obstacle
    if counted[0].target_class == "simulated":
        obstacle = "simulated hardware: nothing can be claimed"
    return Scored(
        label=label,
        sample=sample_of(bpb),
        bytes_per_token=ratio_of(losses, bpb) if len(losses) == len(bpb) else None,
        text_bytes=None if different else counted[0].val_bytes,
        data_sha256=None if different else counted[0].data_sha256,
        tokenizer_sha256=None if different else counted[0].tokenizer_sha256,
        obstacle=obstacle,
    )


def ratio_of(losses: Sequence[float], bpb: Sequence[float]) -> float | None:
    """Bytes per token, from the losses in nats per token and the BPB of the same seeds; None where they disagree.

    >>> round(ratio_of([1.88276292, 1.88156874], [1.11508120, 1.11437394]), 4)
    2.4359
    """
    ratios = [loss / (score * math.log(2)) for loss, score in zip(losses, bpb, strict=True)]
    return None if max(ratios) > (1 + SAME_RATIO) * min(ratios) else math.fsum(ratios) / len(ratios)


def scored_row(row: FrontierRow) -> Scored:
    return Scored(label=row.label, sample=row.sample, bytes_per_token=row.bytes_per_token, text_bytes=row.text_bytes)


def text_doubt(ours: Scored, frontier: Frontier) -> str:
    """Why the text of a frontier is not known to be that of these scores; empty where its size, or at least its bytes
    per token under a known tokenizer, show it."""
    ratio = ours.bytes_per_token
    if ours.text_bytes is not None or (ratio is not None and frontier.tokenizer_of(ratio) is not None):
        return ""
    if ratio is None:
        return "nothing shows which validation text the scores are of: neither its size nor a loss is known"
    return f"nothing shows that the text is {frontier.text}: {ratio:.4f} bytes per token are no known tokenizer's on it"


def claim_of(policy: Mapping[str, typing.Any]) -> Claim | None:
    """The rule of a registered policy: the shipped one under a shipped name, else its own. Raises RunDirError."""
    try:
        if policy.get("name") in policy_names():
            return load_policy(str(policy["name"])).claim
        return None if policy.get("claim") is None else claim_from(policy["claim"])
    except ConfigError as error:
        raise RunDirError(f"policy {policy.get('name')!r:.80}: {error}") from None


def judge_rows(rows: Sequence[Row], policy: Mapping[str, typing.Any], claim: Claim, seeds: int) -> Judged:
    """A submission's rows against the frontier row that its policy names."""
    name = str(policy.get("name", "unnamed"))

    def unknown(reason: str, against: str) -> Judged:
        return Judged(
            policy=name, claim=claim, verdict=UNKNOWN, reason=reason, against=against, margin_bpb=None, test=None
        )

    try:
        frontier = load_frontier(claim.frontier)
        theirs = scored_row(frontier.find(claim.against))
    except ConfigError as error:
        return unknown(str(error), f"{claim.against} of {claim.frontier}")
    if (ours := scored_rows("ours", rows)) is None:
        return unknown("no seed has a score that counts", theirs.label)
    ours = replace(ours, obstacle=ours.obstacle or text_doubt(ours, frontier))
    return judge(name, claim, seeds, ours, theirs)


def claim_gates(rows: Sequence[Row], policy: Mapping[str, typing.Any]) -> list[Gate]:
    """The gate `significance` of a policy with a claim rule; none where it has none. Its note names the race's two
    rules, whichever the policy's is."""
    if (claim := claim_of(policy)) is None:
        return []
    found = judge_rows(rows, policy, claim, int(limit_of(policy, "seeds")))
    p = None if found.test is None or found.verdict == UNKNOWN else found.test.p  # an interim p is no gate's value
    others = "".join(f"; under {one.policy}: {one.verdict}, {one.reason}" for one in _other_rules(rows, found.policy))
    return [
        Gate(
            name="significance",
            unit="p",
            value=p,
            limit=claim.alpha,
            margin=None if p is None else claim.alpha - p,
            seed=None,
            verdict=found.verdict,
            note=f"{claim.describe()}, against {found.against}: {found.reason}{others}",
        )
    ]


def _other_rules(rows: Sequence[Row], name: str) -> list[Judged]:
    policies = [load_policy(other) for other in (WRITTEN, PRACTISED) if other != name]
    return [judge_rows(rows, one.to_dict(), one.claim, one.seeds) for one in policies if one.claim is not None]
