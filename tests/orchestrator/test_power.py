"""What a plan tells of its seeds before money is spent: the gap that they would claim, or why they claim nothing."""

import dataclasses
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golf_core.frontier import load_frontier
from golf_core.policy import load_policy
from golf_core.rundir import write_json
from golf_core.significance import Design
from orchestrator.errors import UsageError
from orchestrator.power import TOKENIZERS, power_of
from orchestrator.preflight import check_folder
from orchestrator.request import Request
from orchestrator.settings import Settings
from orchestrator.spec import SUBMISSION_DIGITS, Target
from orchestrator.submit import submit
from tests.orchestrator.toy import submission

RECORD, FRONTIER = load_policy("record-2026-03"), load_policy("frontier-2026-04")
EIGHT = Target(device="cuda", gpu=RECORD.gpu, gpus=8, processes=8, dtype="bf16")
SEEDS = (1337, 42, 2025)
TESTABLE = [row for row in load_frontier(RECORD.claim.frontier).rows if row.sample.sd is not None]


def asked(policy=RECORD, seeds=SEEDS, vocab=8192, target=EIGHT):
    config = {"model": {"vocab": vocab}}
    return dataclasses.replace(submission(), policy=policy, seeds=seeds, target=target, config=config)


def test_three_seeds_for_a_record_say_what_they_would_show():
    """Even odds and 80 % as the exact power gives them, the margin in BPB by the tokenizer, nats beside it."""
    power = power_of(asked(), embedded=False)
    best = load_frontier(RECORD.claim.frontier).best
    design, margin = Design(3, best.sample.n, 0.0006, best.sample.sd, 0.01), 0.005 / (math.log(2) * 3.15715)
    assert best.tokenizer == "CaseOps"  # whose count is more BPB than SP8192's, and decides
    assert power.margin_bpb == pytest.approx(margin) == pytest.approx(0.002285, abs=5e-7)
    now, following = power.shown
    assert (now.seeds, now.even) == (3, pytest.approx(margin + design.gap(0.5)))
    assert now.likely == pytest.approx(margin + design.gap(0.8))
    assert following.seeds > 3 and following.likely - margin <= 0.75 * (now.likely - margin) * 1.001
    first, at_three, _ = power.rows()
    assert "0.005 nats per token, against #2135" in first[1] and at_three[0] == "at 3 seeds"
    assert f"{best.sample.mean - now.even:.5f} BPB, better by {now.even:.5f} (" in at_three[1]


def test_a_margin_in_bpb_follows_the_vocabulary():
    """The same nats are more BPB with 1,024 tokens; with an unknown vocabulary the plan says that it cannot tell."""
    assert power_of(asked(vocab=1024), False).margin_bpb == pytest.approx(0.002961, abs=6e-7)
    assert "tokenizer" in power_of(asked(vocab=300), False).nothing and not power_of(asked(vocab=300), False).shown
    assert power_of(asked(FRONTIER, vocab=300), False).margin_bpb == 0


@settings(max_examples=12)
@given(vocab=st.sampled_from(sorted(TOKENIZERS)), row=st.sampled_from(TESTABLE), seeds=st.integers(3, 8))
def test_the_margin_is_the_larger_of_the_two_tokenizers(vocab, row, seeds):
    """Whatever row it is against: the gap told for 80 % has 80 % power with the margin in the tokens of either."""
    claim = dataclasses.replace(RECORD.claim, against=row.name)
    policy = dataclasses.replace(RECORD, claim=claim)
    power = power_of(asked(policy, tuple(range(seeds)), vocab), embedded=False)
    ratios = (load_frontier(claim.frontier).bytes_per_token[TOKENIZERS[vocab]], row.bytes_per_token)
    margins = [0.005 / (math.log(2) * ratio) for ratio in ratios]
    design = Design(seeds, row.sample.n, 0.0006, row.sample.sd, 0.01)
    assert min(design.power(power.shown[0].likely - margin) for margin in margins) == pytest.approx(0.8, abs=1e-6)


@pytest.mark.parametrize(
    "seeds, embedded, words",
    [((1,), False, "1 registered seeds claim nothing: the policy asks for 3"), (SEEDS, True, "other text")],
)
def test_seeds_that_can_claim_nothing_are_told(seeds, embedded, words):
    """Too few of them, or scores of another text: one line, no numbers."""
    power = power_of(asked(seeds=seeds), embedded)
    assert words in power.nothing and not power.shown and len(power.rows()) == 1


def test_a_policy_without_a_claim_says_nothing_on_a_cpu_and_what_variants_show_on_gpus():
    """The demo has no such line; on real GPUs it is about two variants, one seed of which shows nothing."""
    demo, exploration = load_policy("demo"), load_policy("exploration")
    assert power_of(asked(demo, target=Target(device="cpu", processes=2)), embedded=True) is None
    power = power_of(asked(exploration), embedded=False)
    assert power.shown[0].even == pytest.approx(Design(3, 3, 0.0006, 0.0006, 0.05).gap(0.5)) and power.mean is None
    assert "no spread" in power_of(asked(exploration, seeds=(1,)), embedded=False).nothing


def test_ten_seeds_gain_nothing_by_more():
    """Against three seeds of theirs more of ours help no further: no next step is offered."""
    assert [one.seeds for one in power_of(asked(seeds=tuple(range(10))), False).shown] == [10]


def test_a_claim_against_no_row_is_refused_before_anything_starts():
    """A user's policy that names a frontier or a row that is not there is a usage error with the nearest."""
    for changes, words in (({"against": "#2134"}, "#2135"), ({"frontier": "2026-05-03"}, "2026-05-02")):
        policy = dataclasses.replace(RECORD, name="mine", claim=dataclasses.replace(RECORD.claim, **changes))
        with pytest.raises(UsageError, match=f"policy mine: .*did you mean '{words}'"):
            power_of(asked(policy), embedded=False)


def test_a_dry_run_shows_it(tmp_path, corpus, capsys, monkeypatch):
    """The command itself, under a policy with a claim: a line in the plan, and the numbers in its JSON."""
    monkeypatch.chdir(tmp_path)
    shards = {"data": corpus["data_path"], "tokenizer": corpus["tokenizer_path"]}
    settings = Settings.resolve({"policy": "frontier-2026-04", "seeds": "1,2,3"} | shards, {}, tmp_path)
    assert submit(settings, Request(dry_run=True)) == 0
    shown = capsys.readouterr().out
    assert (
        "\npower        p < 0.25 for a mean better at all, against #2135" in shown
        and "\nat 3 seeds   even odds" in shown
    )
    assert submit(settings, Request(dry_run=True, json=True)) == 0
    told = json.loads(capsys.readouterr().out)["power"]
    assert told["margin_bpb"] == 0 and told["shown"][0]["seeds"] == 3
    assert told["shown"][0]["likely"] > told["shown"][0]["even"] > 0


def test_what_was_registered_before_there_were_claims_goes_on(tmp_path):
    """A record's spec.json without a claim is still its own; one with another claim, or other caps, is refused."""
    mine = asked()
    folder = tmp_path / mine.submission_id[:SUBMISSION_DIGITS]
    folder.mkdir()
    (folder / "train_gpt.py").write_text(mine.bundle)
    spec = mine.to_dict(registered_at="")
    old = {**spec["policy"]}
    del old["claim"]
    for policy, same in (
        (spec["policy"], True),
        (old, True),
        (old | {"claim": {"alpha": 0.4}}, False),
        (old | {"seeds": 1}, False),
    ):
        write_json(folder / "spec.json", spec | {"policy": policy})
        if same:
            assert check_folder(tmp_path, mine)
        else:
            with pytest.raises(UsageError, match="registered under policy 'record-2026-03'"):
                check_folder(tmp_path, mine)
