"""What a submission may cost: expected, and at worst."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from golf_core.config_io import to_dict
from golf_core.policy import load_policy
from golf_core.recipes import RECIPES
from orchestrator.money.cost import ATTEMPTS, Cost, Seconds, expected_seconds
from orchestrator.money.prices import Price
from orchestrator.script import Script
from orchestrator.spec import Target
from tests.orchestrator.toy import limits, submission

EIGHT = Target(device="cuda", gpu="NVIDIA H100 80GB HBM3", gpus=8, processes=8, dtype="bf16")
RECORD = load_policy("record-2026-03")


def of_recipe(name, target=EIGHT, policy=RECORD):
    return replace(submission(seeds=(1, 2, 3)), config=to_dict(RECIPES[name]().config), target=target, policy=policy)


def cost(hourly=31.59, whole=3, evaluations=0, attempts=ATTEMPTS, attempt_s=2520.0, train=720.0, evaluate=570.0):
    seconds = Seconds(train=train, evaluate=evaluate, how="a test")
    return Cost(
        price=Price(hourly, "a test"),
        seconds=seconds,
        attempt_s=attempt_s,
        attempts=attempts,
        whole=whole,
        evaluations=evaluations,
    )


def test_a_record_seed_is_expected_to_cost_what_was_published():
    """The notes say about 11 dollars a seed, 32 for three, of a recipe with test-time training on eight H100."""
    seconds = expected_seconds(of_recipe("legal_ttt"))
    three = replace(cost(), seconds=seconds)
    assert 10 < three.expected_usd / 3 < 12 and 30 < three.expected_usd < 35


def test_fewer_gpus_evaluate_for_longer_but_not_beyond_the_policy():
    """One GPU takes eight times as long for what eight share, and is ended at its policy's limit."""
    one = replace(EIGHT, gpus=1, processes=1)
    exploration = load_policy("exploration")
    longer = expected_seconds(of_recipe("legal_ttt", one, exploration))
    assert longer.evaluate > 3 * expected_seconds(of_recipe("legal_ttt")).evaluate
    assert longer.evaluate <= exploration.evaluate_seconds + 60


def test_what_nobody_can_know_is_taken_as_its_limits():
    """A recipe that ends after so many steps, and a script: either may use all that its policy allows."""
    script = replace(submission(), script=Script(name="train_gpt.py", env=(), artifact=None), config={})
    for asked in (of_recipe("demo"), of_recipe("legal_ttt", Target(device="cpu")), script):
        seconds = expected_seconds(asked)
        assert seconds.whole >= asked.policy.train_seconds + asked.policy.evaluate_seconds


def test_seeds_that_are_done_tell_more_than_any_guess():
    """Their mean is what the others are expected to take."""
    seconds = expected_seconds(of_recipe("legal_ttt"), [1000.0, 1100.0])
    assert math.isclose(seconds.whole, 1050.0) and "2 of its seeds" in seconds.how


@given(
    hourly=st.floats(0.001, 1e3),
    whole=st.integers(0, 9),
    evaluations=st.integers(0, 9),
    attempts=st.integers(1, 5),
    attempt_s=st.floats(1.0, 1e5),
)
def test_the_worst_case_is_the_product_of_its_parts(hourly, whole, evaluations, attempts, attempt_s):
    """Deadline x price x attempts x seeds that are not done; nothing where all are done; never below the expected."""
    found = cost(hourly, whole, evaluations, attempts, attempt_s, train=attempt_s / 2, evaluate=attempt_s / 3)
    assert math.isclose(found.worst_usd, attempt_s * hourly / 3600 * attempts * (whole + evaluations), abs_tol=1e-12)
    assert found.expected_usd <= found.worst_usd + 1e-9
    assert found.free == (whole + evaluations == 0)


def test_what_is_done_costs_nothing_and_a_sealed_training_only_its_evaluation():
    """The plan says so."""
    assert cost(whole=0).worst_usd == cost(whole=0).expected_usd == 0 and cost(whole=0).rows()[0][1] == "nothing more"
    assert cost(whole=0, evaluations=1).expected_usd == pytest.approx(570 * 31.59 / 3600)


def test_an_unknown_price_is_said_and_gives_no_amounts():
    """Seconds of GPUs are told all the same."""
    unknown = cost(hourly=None)
    assert unknown.expected_usd is unknown.worst_usd is None and not unknown.free
    assert unknown.rows()[0][1] == "1.07 hours of its GPUs expected; at worst 3 seeds x 3 attempts x 2,520 s"


def test_the_worst_case_is_what_the_worker_is_told():
    """An attempt's share is its last deadline, which follows from all others where nobody gives one."""
    assert limits().attempt_s == 2 * (30 + 5) + 60 + 60
    assert limits(dead_man_s=100.0).attempt_s == 100.0
