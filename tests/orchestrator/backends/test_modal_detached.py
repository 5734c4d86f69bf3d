"""Nobody is left to drive it: what runs on Modal goes on, what was to follow begins, and whoever comes again has it."""

import pytest

from tests.orchestrator.modal_account import Laptop, training, workers
from tests.processes import until

pytestmark = pytest.mark.xdist_group("modal")


@pytest.mark.chaos
def test_a_dead_laptop_leaves_all_seeds_running(account, tmp_path):
    """SIGKILL while two seeds train: both come to their end, and the same submit brings them home; none began twice."""
    asked = account.submission(account.held("train3"), (1, 2))
    with Laptop(account, tmp_path, asked) as laptop:
        laptop.start()
        calls = {seed: [training(account, laptop, seed)] for seed in (1, 2)}
        laptop.processes[-1].kill()
        account.let_go()
        account.quiet()
        assert all((account.kept(laptop.name(seed)) / "MANIFEST.json").exists() for seed in (1, 2))
        assert laptop.run() == {1: ["done", "counted"], 2: ["done", "counted"]}
        assert workers(account, asked) == calls


@pytest.mark.parametrize("cancelled", [False, pytest.param(True, marks=pytest.mark.chaos)])
def test_what_follows_the_canary_without_anybody(account, tmp_path, cancelled):
    """The laptop dies while the canary trains: its container begins the other seeds, in as many lanes as were said;
    after a cancel it begins none."""
    asked = account.submission(account.held("train3"), (1, 2, 3))
    with Laptop(account, tmp_path, asked, canary=True, slots=1, lanes=1) as laptop:
        laptop.start()
        canary = training(account, laptop)
        laptop.processes[-1].kill()
        if cancelled:
            laptop.run(cancel=True)
        before = len(account.calls())
        account.let_go()
        until(lambda: account.reaches(laptop.name(), "ttt", "scores.json"), "the canary's scores")
        if not cancelled:
            until(lambda: account.reaches(laptop.name(3), "completed", "result.json"), "the last seed")
        account.quiet()
        at_work = workers(account, asked)
        assert at_work[1] == [canary] and len(account.calls()) == before + 2 * (not cancelled)
        assert [len(at_work[seed]) for seed in (2, 3)] == [not cancelled] * 2
        if not cancelled:
            assert laptop.run() == {seed: ["done", "counted"] for seed in (1, 2, 3)}
            assert workers(account, asked) == at_work


@pytest.mark.chaos
def test_a_canary_over_its_caps_is_followed_by_nothing(account, tmp_path):
    """A model too large for the race: the other seeds wait for somebody who decides."""
    text = account.held("ttt")
    assert ".digest() * 32" in text
    asked = account.submission(text.replace(".digest() * 32", ".digest() * 600_000"), (1, 2))
    with Laptop(account, tmp_path, asked, canary=True, slots=1, lanes=1) as laptop:
        laptop.start()
        training(account, laptop)
        laptop.processes[-1].kill()
        account.let_go()
        account.quiet()
        assert account.reaches(laptop.name(), "completed", "result.json") and workers(account, asked)[2] == []
