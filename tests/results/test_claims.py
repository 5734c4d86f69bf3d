"""A policy's claim rule as a gate: p below alpha beyond the margin passes, and what is not known never does."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from golf_core.frontier import load_frontier
from golf_core.policy import PRACTISED, WRITTEN, Claim, load_policy
from golf_core.rundir import RunDirError
from golf_core.significance import Sample, sample_of, welch
from results.claims import Scored, bpb_of, claim_of, judge, nats_of, other_text, ratio_of, text_doubt
from results.collect import collect
from tests.results.attempts import Runs, stage

BEST = load_frontier("2026-05-02").best.sample.mean
RECORD = load_policy(WRITTEN).claim
BETTER, EVEN = (0.0080, 0.0084, 0.0081), (0.0001, -0.0004, 0.0002)  # better than the best row by so many BPB


def fineweb(bpb, tokens=40_540_160, size=151_080_363):
    """The stages of an evaluation over text of the challenge's size, with 3.7266 bytes per token."""
    loss = bpb * math.log(2) * size / tokens
    told = {"val_loss": loss, "val_bpb": bpb, "tokens": tokens, "bytes": size}
    return {name: stage(bpb) | told for name in ("roundtrip", "sliding")}


def gate_of(tmp_path, policy, scores, text=fineweb, **more):
    """The gate `significance` of a submission with these scores; None for a seed without an attempt."""
    registered = policy if isinstance(policy, dict) else load_policy(policy).to_dict()
    runs = Runs(tmp_path / "runs", policy=registered, **more)
    for seed, score in zip(runs.seeds, scores, strict=True):
        if score is not None:
            runs.attempt(seed, stages=text(score))
    return next((gate for gate in collect(runs.folder).gates if gate.name == "significance"), None)


def better_by(gains):
    return [None if gain is None else BEST - gain for gain in gains]


@pytest.mark.parametrize(
    "policy, gains, verdict",
    [
        (WRITTEN, BETTER, "pass"),
        (PRACTISED, BETTER, "pass"),
        (WRITTEN, (0.0021, 0.0024, 0.0022), "fail"),
        (WRITTEN, (0.0030, 0.0034, 0.0031), "unknown"),  # beyond the margin in our tokens, not in theirs
        (PRACTISED, (0.0030, 0.0034, 0.0031), "pass"),
        (PRACTISED, EVEN, "fail"),
        (PRACTISED, (-0.01, -0.011, -0.012), "fail"),
        (WRITTEN, (0.0080, 0.0084, None), "unknown"),
        (WRITTEN, (0.0080, None, None), "unknown"),
        (WRITTEN, (None, None, None), "unknown"),
    ],
)
def test_the_gate_holds_the_scores_against_the_frontier(tmp_path, policy, gains, verdict):
    """Pass beyond the margin, fail else; a seed that is missing leaves it unknown whatever the others say."""
    gate = gate_of(tmp_path, policy, better_by(gains))
    claim = load_policy(policy).claim
    assert (gate.verdict, gate.limit, gate.unit) == (verdict, claim.alpha, "p")
    assert "#2135" in gate.note and claim.describe() in gate.note
    if verdict != "unknown":
        ours, theirs = sample_of(better_by(gains)), load_frontier(claim.frontier).best.sample
        assert gate.value == pytest.approx(welch(ours, theirs, bpb_of(claim.margin_nats, 3.72668)).p, rel=1e-3)
        assert gate.margin == claim.alpha - gate.value


def test_scores_of_another_text_claim_nothing(tmp_path):
    """However good, a BPB of a small text is not held against one of FineWeb."""
    gate = gate_of(tmp_path, PRACTISED, [0.5, 0.51, 0.52], lambda bpb: {"sliding": stage(bpb)})
    assert gate.verdict == "unknown" and "other validation text: ours has 345,000 bytes" in gate.note


def test_equal_scores_claim_nothing(tmp_path):
    """Three times the same score is one run told three times, or rounded: p rests on the other side and says so."""
    gate = gate_of(tmp_path, PRACTISED, better_by([0.004] * 3))
    assert "ours has no spread" in gate.note
    judged = judge("x", Claim(alpha=0.25, frontier="f"), 3, *[Scored(label="", sample=sample_of([1.0] * 3))] * 2)
    assert judged.verdict == "unknown" and judged.test is None and "without spread" in judged.reason


def test_a_policy_without_a_claim_has_no_such_gate(tmp_path):
    """Demo and exploration: nothing is claimed, so nothing is judged."""
    assert gate_of(tmp_path, "demo", better_by(BETTER)) is None


def test_simulated_hardware_claims_nothing(tmp_path):
    """The scores may be real; no policy passes."""
    target = {"device": "cuda", "gpu": "H100", "gpus": 8, "processes": 8, "threads": 1, "dtype": "bf16"}
    gate = gate_of(tmp_path, PRACTISED, better_by(BETTER), target=target, target_class="simulated")
    assert gate.verdict == "unknown"


def test_what_was_registered_before_there_were_claims_is_held_to_the_shipped_rule(tmp_path):
    """An old spec.json of a shipped policy lacks the key; it still loads, and leaving the key out evades no gate."""
    old = load_policy(WRITTEN).to_dict()
    del old["claim"]
    assert gate_of(tmp_path, old, better_by(EVEN)).verdict == "fail"


def test_another_claim_under_a_shipped_name_is_refused(tmp_path):
    """A softened rule contradicts the policy that we ship."""
    soft = load_policy(WRITTEN).to_dict()
    soft["claim"] = {**soft["claim"], "alpha": 0.4}
    with pytest.raises(RunDirError, match=r"claim is .*0.4.* that we ship"):
        gate_of(tmp_path, soft, better_by(EVEN))


def test_a_users_claim_comes_from_what_was_registered(tmp_path):
    """Its own alpha and row; where the frontier is gone the gate is unknown, and all else is collected."""
    mine = load_policy("demo").to_dict() | {"name": "mine", "seeds": 3}
    mine["claim"] = {"alpha": 0.05, "frontier": "2026-05-02", "margin_nats": 0.0, "against": "#1493"}
    gate = gate_of(tmp_path, mine, better_by(EVEN))
    assert gate.verdict == "pass" and "against #1493 (2026-04-09)" in gate.note
    assert claim_of(mine).against == "#1493" and claim_of({"name": "mine"}) is None
    with pytest.raises(RunDirError, match="policy 'mine'"):
        claim_of(mine | {"claim": {"alpha": 2}})
    mine["claim"]["frontier"] = "gone"
    gone = gate_of(tmp_path / "again", mine, better_by(EVEN))
    assert gone.verdict == "unknown" and "there is no frontier 'gone'" in gone.note


def scored(mean, ratio, sd=0.0003):
    return Scored(label="x", sample=Sample(n=3, mean=mean, sd=sd), bytes_per_token=ratio)


def test_the_margin_is_counted_in_our_own_tokens():
    """0.0024 BPB are more than 0.005 nats with SP8192, and less with SP1024."""
    theirs = scored(1.08, None, sd=0.0001)
    with_8192 = judge("x", RECORD, 3, scored(1.0776, 3.7266, sd=0.00005), theirs)
    with_1024 = judge("x", RECORD, 3, scored(1.0776, 2.4423, sd=0.00005), theirs)
    assert (with_8192.verdict, with_1024.verdict) == ("pass", "fail")
    assert (round(with_8192.margin_bpb, 6), round(with_1024.margin_bpb, 6)) == (0.001936, 0.002954)


def test_two_tokenizers_are_never_mixed_silently():
    """Where the margin in our tokens passes and in theirs fails nobody knows; where both agree the verdict stands."""
    ours = scored(1.0776, 3.7266, sd=0.00005)
    mixed = judge("x", RECORD, 3, ours, scored(1.08, 2.4423, sd=0.0001))
    assert mixed.verdict == "unknown" and "the tokenizers differ" in mixed.reason and "0.002954" in mixed.reason
    assert judge("x", RECORD, 3, ours, scored(1.085, 2.4423)).verdict == "pass"
    assert judge("x", RECORD, 3, ours, scored(1.0780, 2.4423)).verdict == "fail"


def test_without_a_loss_the_margin_is_not_known():
    """Better at all is no pass under a margin in nats; not better at all is a fail under any."""
    theirs = scored(1.08, 3.7266)
    judged = judge("x", RECORD, 3, scored(1.05, None), theirs)
    assert judged.verdict == "unknown" and "no loss is known" in judged.reason and judged.margin_bpb is None
    assert judge("x", RECORD, 3, scored(1.0799, None), theirs).verdict == "fail"
    assert judge("x", dataclasses.replace(RECORD, margin_nats=0.0), 3, scored(1.05, None), theirs).verdict == "pass"


def test_fewer_seeds_than_the_policy_asks_for_pass_nothing():
    """Two seeds that are far better are still two."""
    two = Scored(label="x", sample=Sample(n=2, mean=1.0, sd=0.0001), bytes_per_token=3.7266)
    assert judge("x", RECORD, 3, two, scored(1.08, 3.7266)).verdict == "unknown"


def test_equal_p_and_alpha_is_no_pass():
    """The rule says below."""
    ours, theirs = scored(1.079, 3.7266), scored(1.08, 3.7266)
    p = welch(ours.sample, theirs.sample).p
    assert judge("x", Claim(alpha=p, frontier="f"), 3, ours, theirs).verdict == "fail"
    assert judge("x", Claim(alpha=math.nextafter(p, 1), frontier="f"), 3, ours, theirs).verdict == "pass"


@given(st.floats(0.001, 10), st.floats(0.9, 9))
def test_nats_and_bits_are_there_and_back(bpb, ratio):
    """Each is the other's inverse, and the ratio comes back from a loss and its BPB."""
    assert bpb_of(nats_of(bpb, ratio), ratio) == pytest.approx(bpb)
    assert ratio_of([nats_of(bpb, ratio)], [bpb]) == pytest.approx(ratio)


def test_losses_of_two_tokenizers_have_no_ratio():
    """Seeds of one configuration have one; where they disagree none is made up."""
    assert ratio_of([nats_of(1.1, 2.44), nats_of(1.1, 3.73)], [1.1, 1.1]) is None


def test_a_text_is_shown_by_its_size_or_by_a_known_tokenizer():
    """Neither: a doubt, which is an obstacle to every claim against the frontier."""
    frontier = load_frontier("2026-05-02")
    assert "neither its size nor a loss" in text_doubt(scored(1.0, None), frontier)
    assert "no known tokenizer" in text_doubt(scored(1.0, 2.86), frontier)
    assert not text_doubt(scored(1.0, 2.4359), frontier)
    assert not text_doubt(dataclasses.replace(scored(1.0, None), text_bytes=151_080_363), frontier)


def test_texts_are_the_same_by_hash_or_by_size():
    """Equal data is equal text, unless other amounts were scored; else sizes that differ by more than a tokenizer's
    last sequence are other text."""
    full, other = scored(1.0, None), scored(1.0, None)

    def sized(one, size, sha=None):
        return dataclasses.replace(one, text_bytes=size, data_sha256=sha)

    assert not other_text(full, other) and not other_text(sized(full, 151_080_363), sized(other, 151_084_310))
    assert other_text(sized(full, 151_080_363), sized(other, 345_000))
    assert other_text(sized(full, 340_000, "a"), sized(other, 345_000, "b"))
    assert not other_text(sized(full, 345_000, "a"), sized(other, 345_000, "a"))
    assert other_text(sized(full, 340_000, "a"), sized(other, 345_000, "a"))
