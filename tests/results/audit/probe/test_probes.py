"""Known cheats are caught by the probe that is made for them, and their legal twins pass all."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results.audit.finding import FAIL, PASS, REVIEW
from results.audit.probe.probes import Plan, probe_stream
from results.audit.probe.scorer import Refused, Scorer, ScorerError, StreamScore
from results.audit.probe.stream import documents_of
from tests.results.audit.probe.cheats import CHEATS
from tests.results.audit.probe.legal import LEGAL, frozen
from tests.results.audit.probe.toys import LENGTHS, VOCAB, language, text

STREAM = text()
TEXT = text(LENGTHS * 10, 5)
PLAN = {"vocab": VOCAB, "bytes_a_token": 2.5, "exact": 2, "swap_runs": 2, "events": 10, "drawn_cuts": 4}
ISOLATED = {"lora_sorted": True, "phased": False, "frozen_isolated": True, "leaking_documents": True}

# Which probes must fail. Those of causality are blind to what looks at the target alone, and that of normalisation to
# what is a distribution, however it came about.
CAUGHT_BY = {
    "train_before_score": {"causality", "normalisation"},
    "train_chunk_first": {"causality", "normalisation"},
    "last_epoch": {"causality", "normalisation"},
    "two_pass": {"causality", "normalisation"},
    "slot": {"causality", "normalisation"},
    "behind_the_ledger": {"causality"},
    "phased_ahead": {"causality"},
    "calibrated_on_validation": {"causality"},
    "leaking_documents": {"causality", "isolation"},
    "hashed_cache": {"normalisation"},
    "oracle_minimum": {"normalisation"},
    "word_start_gate": {"normalisation"},
    "spread_over_bytes": {"normalisation"},
}
MAY_TOO = {"behind_the_ledger": {"normalisation"}, "phased_ahead": {"normalisation"}}


@pytest.fixture(scope="module")
def artifact(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("toy") / "artifact.npy"
    np.save(path, language())
    return path


def scorer(evaluate, artifact: Path) -> Scorer:
    return lambda tokens, learn: StreamScore(**evaluate(artifact, tokens, learn))


def probed(name: str, evaluate, artifact: Path, **more):
    isolated = {"isolated": name in ISOLATED, "whole_isolated": ISOLATED.get(name, False)}
    found = probe_stream(scorer(evaluate, artifact), STREAM, TEXT, Plan(**{**PLAN, **isolated, **more}))
    return {one.name: one for one in found}


@pytest.mark.parametrize("name", LEGAL)
def test_a_legal_evaluator_passes_every_probe(name, artifact):
    """Frozen, sliding, learning after scoring, by documents in any order, mixtures and gates that look back only."""
    found = probed(name, LEGAL[name], artifact)
    assert {one: outcome.verdict for one, outcome in found.items()} == dict.fromkeys(found, PASS)
    assert {"coverage", "null replay", "causality", "normalisation", "controls", "last replay"} <= found.keys()
    assert ("isolation" in found) == (name in ISOLATED)
    assert found["causality"].evidence["targets_compared"] > 0.8 * (len(STREAM) - 1)


@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_is_caught_by_the_probe_made_for_it(name, artifact):
    """And by no other that must be blind to it; its evidence names a place and by how much."""
    found = probed(name, CHEATS[name], artifact)
    failed = {one for one, outcome in found.items() if outcome.verdict == FAIL}
    assert CAUGHT_BY[name] <= failed <= CAUGHT_BY[name] | MAY_TOO.get(name, set())
    if "causality" in failed:
        evidence = found["causality"].evidence
        assert abs(evidence["delta_nats"]) > 0.01 and 0 < evidence["token"] < len(STREAM) and evidence["cut"]
    if "normalisation" in failed:
        assert max(abs(one["total"] - 1) for one in found["normalisation"].evidence["sums"]) > 0.005


def test_every_cheat_is_told_how_it_is_caught():
    """The table above is about the cheats that there are."""
    assert CAUGHT_BY.keys() == CHEATS.keys()


def test_a_large_gain_is_for_a_reviewer(artifact):
    """A hashed cache gains most of a token with wrong targets too, and a total that no model of text reaches."""
    outcome = probed("hashed_cache", CHEATS["hashed_cache"], artifact)["controls"]
    assert outcome.verdict == REVIEW
    for reason in ("is over 0.02", "is under 0.9", "stay with wrong targets"):
        assert reason in outcome.says


def test_bits_are_not_guessed(artifact):
    """Without the bytes of a token there is no limit to hold a gain against, and the probe says so."""
    outcome = probed("frozen", frozen, artifact, bytes_a_token=None)["controls"]
    assert outcome.verdict == REVIEW and "--bytes-per-token" in outcome.says


def test_documents_that_read_into_each_other_unclaimed_are_for_a_reviewer(artifact):
    """No rule forbids context across documents: out of the stream's order it is shown, and fails only where isolation
    is claimed. Learning from a document before its turn fails in any case."""
    leak = probed("leaking_documents", CHEATS["leaking_documents"], artifact, isolated=False, whole_isolated=False)
    assert leak["causality"].verdict == REVIEW and leak["causality"].evidence["kind"] == "context"
    assert "isolation" not in leak
    ahead = probed("phased_ahead", CHEATS["phased_ahead"], artifact)
    assert ahead["causality"].verdict == FAIL


def test_exact_and_drawn_sums_agree(artifact):
    """A target-keyed cache is far over 1 by both, a normalised evaluator at 1 by both."""
    wrong = probed("hashed_cache", CHEATS["hashed_cache"], artifact, exact=2, swap_runs=6)["normalisation"].evidence
    assert wrong["Z_mean"] - 4 * wrong["Z_error"] > 1.5 and min(one["total"] for one in wrong["sums"]) > 1.5
    right = probed("frozen", frozen, artifact, exact=2, swap_runs=6)["normalisation"].evidence
    assert abs(right["Z_mean"] - 1) < 4 * right["Z_error"] < 0.2
    assert all(abs(one["total"] - 1) < 1e-9 and one["whole"] for one in right["sums"])


def damaged(change):
    def evaluate(artifact, tokens, learn="on"):
        return change(frozen(artifact, tokens, learn), tokens)

    return evaluate


FAULTS = {
    "gap": (lambda s, t: {**s, "nll": s["nll"][:-3], "order": s["order"][:-3]}, "nll has 290 values for 293 targets"),
    "twice": (lambda s, t: {**s, "order": np.append(s["order"], 0)}, "order has 294 values"),
    "nan": (lambda s, t: {**s, "nll": np.where(np.arange(len(s["nll"])) == 7, np.nan, s["nll"])}, "first of token 8"),
    "certain": (lambda s, t: {**s, "nll": s["nll"] - 9}, "a probability over 1"),
    "lost commit": (lambda s, t: {**s, "order": s["order"] + (s["order"] > 2)}, "there is no commit 3"),
    "from one": (lambda s, t: {**s, "order": s["order"] + 1}, "there is no commit 0"),
    "no time": (lambda s, t: {**s, "learned": np.array([5, 2])}, "adaptation events are not in time"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_no_score_of_every_target_fails_alone(fault, artifact):
    """A gap, a target too many, NaN, certainty beyond 1, an order with holes: no other probe is tried on it."""
    change, message = FAULTS[fault]
    found = probed("frozen", damaged(change), artifact)
    assert list(found) == ["coverage"] and found["coverage"].verdict == FAIL
    assert message in found["coverage"].says


def test_a_document_scored_backwards_is_looked_into(artifact):
    """From right to left is for a reviewer; that the beginning knew the end fails."""

    def backwards(artifact, tokens, learn="on"):
        score = LEGAL["frozen_isolated"](artifact, tokens, learn)
        document = documents_of(tokens)
        second_half = np.arange(len(document)) - np.searchsorted(document, document) > 12
        return {**score, "order": np.unique(2 * document + ~second_half, return_inverse=True)[1]}

    def knowing(artifact, tokens, learn="on"):
        score = backwards(artifact, tokens, learn)
        return {**score, "nll": score["nll"] * (1 + 0.01 * tokens[40] / VOCAB)}

    found = probed("frozen", backwards, artifact)
    assert found["coverage"].verdict == REVIEW and "from left to right" in found["coverage"].says
    assert found["causality"].verdict == PASS
    assert probed("frozen", knowing, artifact)["causality"].verdict == FAIL


def test_noise_is_told_and_does_not_fail(artifact):
    """What a replay moves is the tolerance, four times; a large one, in which a leak could hide, is for a reviewer."""
    random = np.random.default_rng(0)

    def noisy(size):
        return damaged(lambda s, t: {**s, "nll": s["nll"] + random.uniform(0, size, len(s["nll"]))})

    small = probed("frozen", noisy(1e-3), artifact)
    assert small["null replay"].verdict == small["causality"].verdict == PASS
    assert 1e-4 < small["null replay"].evidence["largest_nats"] < 1e-3
    large = probed("frozen", noisy(0.2), artifact)
    assert large["null replay"].verdict == REVIEW and large["causality"].verdict == PASS


def test_state_that_outlives_a_call_is_seen(artifact):
    """The first stream, asked last, no longer scores as at first."""
    seen = []

    def keeping(artifact, tokens, learn="on"):
        score = frozen(artifact, tokens, learn)
        seen.append(1)
        return {**score, "nll": score["nll"] + 1e-3 * max(0, len(seen) - 2)}

    assert probed("frozen", keeping, artifact)["last replay"].verdict == REVIEW


def test_an_order_that_depends_on_later_text_is_for_a_reviewer(artifact):
    """Commits whose numbers tell of what was not scored yet are shown."""

    def telling(artifact, tokens, learn="on"):
        score = frozen(artifact, tokens, learn)
        order = np.where(score["order"] < int(tokens[-1]) % 5, 0, score["order"])
        return {**score, "order": np.unique(order, return_inverse=True)[1]}

    found = probed("frozen", telling, artifact)
    assert found["causality"].verdict == REVIEW and "order of earlier commits" in found["causality"].says


def test_an_evaluator_without_controls_is_for_a_reviewer(artifact):
    """One that cannot turn its learning off is probed by the rest."""

    def stubborn(tokens, learn):
        if learn != "on":
            raise Refused(f"learn={learn}")
        return StreamScore(**frozen(artifact, tokens, learn))

    found = {one.name: one for one in probe_stream(stubborn, STREAM, TEXT, Plan(**PLAN, isolated=True))}
    assert found["controls"].verdict == found["isolation"].verdict == REVIEW
    assert found["causality"].verdict == PASS


def test_a_later_run_without_scores_ends_the_probes(artifact):
    """Scores of the first stream do not hide that another one has none."""
    runs = []

    def failing(tokens, learn):
        runs.append(1)
        score = frozen(artifact, tokens, learn)
        return StreamScore(**{**score, "nll": score["nll"] * (np.nan if len(runs) > 4 else 1)})

    with pytest.raises(ScorerError, match=r"run 5 \(learn=on\) gave no score of its stream: the loss of 293 targets"):
        probe_stream(failing, STREAM, TEXT, Plan(**PLAN))


def test_the_cost_is_told_before(artifact):
    """How many runs of which length are to come is told after the first two; no more come, and nearly as many."""
    lines = []
    plan = Plan(**PLAN, isolated=True)
    found = probe_stream(scorer(LEGAL["lora_sorted"], artifact), STREAM, TEXT, plan, lines.append)
    runs = sum(one.runs for one in found) - 2
    told = int(re.search(r"up to ([0-9,]+) runs of", lines[0])[1].replace(",", ""))
    assert 0.9 * told < runs <= told
    assert f"{runs + 2} runs of the stream" in lines[-1]


@pytest.mark.whole
@pytest.mark.parametrize("name", LEGAL)
@settings(max_examples=15)
@given(lengths=st.lists(st.integers(8, 60), min_size=3, max_size=7), seed=st.integers(0, 99))
def test_no_stream_makes_a_legal_evaluator_fail(name, lengths, seed, artifact):
    """Whatever the documents, and wherever the cuts fall."""
    stream = text(tuple(lengths), seed)
    isolated = {"isolated": name in ISOLATED, "whole_isolated": ISOLATED.get(name, False)}
    plan = Plan(**{**PLAN, "seed": seed, "exact": 1, "swap_runs": 0, **isolated})
    found = probe_stream(scorer(LEGAL[name], artifact), stream, TEXT, plan)
    assert [one.says for one in found if one.verdict == FAIL] == []


@pytest.mark.whole
@pytest.mark.parametrize("name", [name for name, probes in CAUGHT_BY.items() if probes & {"causality", "isolation"}])
@settings(max_examples=15)
@given(lengths=st.lists(st.integers(20, 60), min_size=5, max_size=7), seed=st.integers(0, 99))
def test_no_stream_hides_a_cheat_from_causality(name, lengths, seed, artifact):
    """One that depends on later tokens is caught on any documents. A leak between documents that happen to be scored
    in the stream's order is one from the prefix: then isolation alone tells."""
    stream = text(tuple(lengths), seed)
    plan = Plan(**{**PLAN, "seed": seed, "exact": 0, "swap_runs": 1, "isolated": name in ISOLATED})
    found = {one.name: one for one in probe_stream(scorer(CHEATS[name], artifact), stream, TEXT, plan)}
    assert found["isolation" if name in ISOLATED else "causality"].verdict == FAIL
