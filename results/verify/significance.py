"""The claim rules of the race on the scores that a folder's logs give: the policy's own as a gate, both in words."""

import typing
from collections.abc import Mapping
from dataclasses import replace

from golf_core.fields import ConfigError
from golf_core.policy import PRACTISED, WRITTEN, Claim, load_policy
from golf_core.rundir import RunDirError
from golf_core.significance import NotTestable, sample_of
from results.claims import Judged, Scored, claim_of, judge, ratio_of, scored_row
from results.verify.case import Case, Check
from results.verify.finding import UNKNOWN
from results.verify.rival import rival_of
from results.verify.words import BPB


def significance(case: Case) -> list[Check]:
    """The gate of the policy's claim rule; none where it has none."""
    claim = claim_of(case.policy)
    if claim is None:
        return []
    name, limit = "significance", f"p < {claim.alpha:g}"
    judged = _judged(case, case.policy, claim)
    if isinstance(judged, str):
        return [Check(name=name, value="", limit=limit, verdict=UNKNOWN, why=judged)]
    # An interim p is no figure of a rule that gives no answer yet.
    p = None if judged.test is None or judged.verdict == UNKNOWN else judged.test.p
    return [
        Check(
            name=name,
            value="" if p is None else f"p = {p:.4g}",
            limit=limit,
            margin="" if p is None else f"{claim.alpha - p:.4g}",
            verdict=judged.verdict,
            why=f"{claim.describe()}, against {judged.against}: {judged.reason}",
        )
    ]


def both_rules(case: Case) -> list[str]:
    """The written and the practised rule, by name."""
    lines = []
    for name in (WRITTEN, PRACTISED):
        policy = load_policy(name)
        if policy.claim is not None:
            judged = _judged(case, policy.to_dict(), policy.claim)
            told = judged if isinstance(judged, str) else f"{judged.verdict}, against {judged.against}: {judged.reason}"
            verdict = f"{UNKNOWN}, {told}" if isinstance(judged, str) else told
            lines.append(f"{name} ({policy.claim.describe()}): {verdict}")
    return lines


def _judged(case: Case, policy: Mapping[str, typing.Any], claim: Claim) -> Judged | str:
    """What the rule says, or why it cannot be asked."""
    runs = [run for run in case.runs.values() if BPB in run.values]
    bpb = [run.values[BPB] for run in runs]
    losses = [run.values["val_loss"] for run in runs if "val_loss" in run.values]
    try:
        sample = sample_of(bpb)
        frontier = case.asked.frontier_of(claim)
        rival = rival_of(claim, case.asked, case.facts, bpb)
    except NotTestable:
        return case.incomplete or "no log gives a final score"
    except ConfigError as error:
        raise RunDirError(f"policy {policy.get('name')!r:.80}: {error}") from None
    if rival.row is None:
        return rival.why
    theirs = scored_row(rival.row)
    theirs = replace(theirs, label=f"{theirs.label}, {rival.why}")
    ratio = ratio_of(losses, bpb) if len(losses) == len(bpb) else None
    obstacle = case.missing(BPB)
    if not obstacle and (ratio is None or frontier.tokenizer_of(ratio) is None):
        obstacle = "that the text is the challenge's, nothing here shows: its bytes a token are no known tokenizer's"
    ours = Scored(label="claimed", sample=sample, bytes_per_token=ratio, obstacle=obstacle)
    return judge(str(policy.get("name")), claim, int(policy["seeds"]), ours, theirs)
