"""The controller over the fake backend: what it starts, voids, repeats and refuses to write."""

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golf_core.rundir import SCORES, VOID, read_json
from orchestrator.attempts import Attempt, inspect_all
from orchestrator.backends.fake import Act, FakeBackend
from orchestrator.case import AdmitAll, lease_of_run, lease_of_submission
from orchestrator.controller import Controller
from orchestrator.drive import register
from orchestrator.errors import BackendFailure
from orchestrator.ledger.store import Fenced, Ledger
from orchestrator.money.budget import Terms, read_account, reserve_terms
from orchestrator.money.spending import make_admission
from orchestrator.overview import Overview, story
from orchestrator.policy import MAX_RETRIES
from tests.orchestrator.toy import limits, submission


class Clock:
    """A clock that a test moves, so that waits cost nothing."""

    now = 0.0

    def __call__(self):
        Clock.now += 0.6
        return Clock.now


def controller(runs_dir, ledger, script=(), seeds=(1, 2), slots=2, **kwargs):
    asked = submission(seeds=seeds)
    lease = ledger.acquire(lease_of_submission(asked.submission_id))
    backend = FakeBackend(runs_dir, script)
    made = Controller(
        asked, runs_dir, ledger, lease, lambda: backend, limits(), slots, backend_name="fake", clock=Clock(), **kwargs
    )
    return made, backend


def finish(made, most=200):
    for _ in range(most):
        if made.round():
            made.close()
            return {case.run.seed: case.end.verb for case in made.cases}
    raise AssertionError([case.note for case in made.cases])


def states(runs_dir, made):
    return {
        case.run.seed: [(one.state, one.cls) for one in inspect_all(runs_dir, case.run.run_id)] for case in made.cases
    }


def test_every_run_is_driven_to_its_counted_attempt(runs_dir, ledger):
    """Two seeds, one attempt each; a second controller starts nothing."""
    made, backend = controller(runs_dir, ledger)
    assert finish(made) == {1: "done", 2: "done"} and len(backend.started) == 2
    ledger.release(made.lease)
    again, idle = controller(runs_dir, ledger)
    assert finish(again) == {1: "done", 2: "done"} and idle.started == []


def test_slots_bound_what_runs_together(runs_dir, ledger):
    """With one slot the second seed starts only when the first has ended."""
    made, backend = controller(runs_dir, ledger, [Act(polls=5)], slots=1)
    made.round()
    assert len(backend.started) == 1
    assert finish(made) == {1: "done", 2: "done"}


OUTSIDE = {
    "killed in training": (Act("rank_killed"), [("void", "rank_killed"), ("counted", "completed")]),
    "lost": (Act("lost"), [("void", "worker_lost"), ("counted", "completed")]),
    "refused": (Act("refused"), [("void", "worker_lost"), ("counted", "completed")]),
    "killed in evaluation": (Act("rank_killed", "evaluate"), [("counted", "completed")]),
}


@pytest.mark.parametrize("act, expected", OUTSIDE.values(), ids=OUTSIDE)
def test_a_fault_from_outside_is_retried(runs_dir, ledger, act, expected):
    """Training starts anew under a new number, evaluation is repeated under the same."""
    made, _ = controller(runs_dir, ledger, [act], seeds=(1,))
    assert finish(made) == {1: "done"} and states(runs_dir, made) == {1: expected}


@pytest.mark.parametrize("stage", ["train", "evaluate"])
def test_retries_end(runs_dir, ledger, stage):
    """After the limit the run stops; a new submit may try again."""
    made, backend = controller(runs_dir, ledger, [Act("rank_killed", stage)] * 9, seeds=(1,))
    assert finish(made) == {1: "stop"} and len(backend.started) == MAX_RETRIES + 1
    ledger.release(made.lease)
    again, _ = controller(runs_dir, ledger, seeds=(1,))
    assert finish(again) == {1: "done"}


@pytest.mark.parametrize("cls", ["user_error", "nan", "memory", "data", "artifact", "deadline", "silent"])
def test_a_fault_of_the_code_stops_the_run_and_no_other(runs_dir, ledger, cls):
    """One attempt, no retry; the other seed goes on. With retry_failed, one new attempt."""
    made, backend = controller(runs_dir, ledger, [Act(cls)])
    assert finish(made) == {1: "stop", 2: "done"} and len(backend.started) == 2
    ledger.release(made.lease)
    again, _ = controller(runs_dir, ledger, retry_failed=True)
    assert finish(again) == {1: "done", 2: "done"}
    assert states(runs_dir, again)[1] == [("void", cls), ("counted", "completed")]


def test_voiding_never_reads_a_score(runs_dir, ledger):
    """From the failure to the void mark no scores.json is opened; a fault that leaves one behind shows it."""
    made, _ = controller(runs_dir, ledger, [Act("rank_killed", polls=1)], seeds=(1,))
    made.round()
    (folder,) = [path for path in (runs_dir / "attempts").iterdir() if not path.name.startswith(".")]
    (folder / SCORES).write_text('{"val_bpb": 0.9}')
    opened = []
    watching = [True]
    sys.addaudithook(lambda name, args: opened.append(str(args[0])) if name == "open" and watching[0] else None)
    while not (folder / VOID).exists():
        made.round()
    watching[0] = False
    assert any(path.endswith("result.json") for path in opened), "the hook must see reads"
    assert not any(SCORES in path for path in opened)
    assert read_json(folder / VOID)["class"] == "rank_killed"
    finish(made)


def test_a_changed_sealed_attempt_is_not_counted_and_not_replaced_unasked(runs_dir, ledger):
    """A byte changed after the seal: the run is damaged, and only --retry-failed starts a new attempt."""
    made, _ = controller(runs_dir, ledger, seeds=(1,))
    finish(made)
    ledger.release(made.lease)
    (folder,) = (path for path in (runs_dir / "attempts").iterdir())
    (folder / SCORES).write_text("{}")
    again, backend = controller(runs_dir, ledger, seeds=(1,))
    assert finish(again) == {1: "stop"} and backend.started == []
    ledger.release(again.lease)
    asked, _ = controller(runs_dir, ledger, seeds=(1,), retry_failed=True)
    assert finish(asked) == {1: "done"}
    assert states(runs_dir, asked) == {1: [("void", "damaged"), ("counted", "completed")]}


def test_a_stale_controller_writes_nothing_more(runs_dir, ledger):
    """Its leases given to another: the next write raises, no attempt folder and no void mark is made."""
    made, _ = controller(runs_dir, ledger, [Act("rank_killed")], seeds=(1,))
    made.round()
    ledger.db.execute("UPDATE leases SET token = token + 1")
    before = sorted(path for path in runs_dir.rglob("*") if path.name != "result.json")
    with pytest.raises(Fenced):
        finish(made)
    after = sorted(path for path in runs_dir.rglob("*") if path.name != "result.json")
    assert [path.name for path in after if path not in before and "ledger" not in path.name] == []


def test_a_run_of_another_submission_is_waited_for(runs_dir, ledger):
    """Two submissions share a run: the second does not start it, and takes its result."""
    first, _ = controller(runs_dir, ledger, [Act(polls=3)], seeds=(1,))
    first.round()
    with Ledger.open(runs_dir) as other_ledger:
        second, backend = controller(runs_dir, other_ledger, seeds=(1, 2))
        other_ledger.owner = type(other_ledger.owner)("elsewhere", 1, 1)
        assert not second.round()
        assert [case.elsewhere for case in second.cases] == [True, False]
        finish(first)
        other_ledger.owner = ledger.owner
        assert finish(second) == {1: "done", 2: "done"} and len(backend.started) == 1
    assert ledger.holder(lease_of_run(first.cases[0].run.run_id)) is None


def test_cancel_leaves_a_run_to_the_submission_that_runs_it(runs_dir, ledger, monkeypatch):
    """The cancelled submission ends at once; the other one goes on, and its attempt is not touched."""
    first, backend = controller(runs_dir, ledger, [Act(polls=30)], seeds=(1,))
    first.round()
    with Ledger.open(runs_dir) as other_ledger:
        second, idle = controller(runs_dir, other_ledger, [Act(polls=10**6)], seeds=(1, 2))
        sid = second.submission.submission_id
        other_ledger.append("cancel_requested", submission_id=sid, data={"seeds": [1, 2]})
        assert finish(second, 20) == {1: "stop", 2: "stop"}
        assert "submission that runs it" in second.cases[0].end.reason and idle.started == []
    assert finish(first) == {1: "done"} and len(backend.started) == 1


@pytest.mark.parametrize("held, reason", [(True, "left to"), (False, "running")])
def test_cancel_of_a_busy_run_depends_on_who_holds_it(runs_dir, ledger, held, reason):
    """A worker at work under a living controller is left to it; one whose controller died is waited for."""
    made, _ = controller(runs_dir, ledger, seeds=(1,))
    (case,) = made.cases
    case.attempts = [Attempt(runs_dir, 1, "busy")]
    made.cancelled, case.looked = frozenset({1}), float("inf")
    if held:
        ledger.acquire(lease_of_run(case.run.run_id))
    made._step(case)
    assert reason in case.note


def test_cancel_is_heard(runs_dir, ledger):
    """A cancel of one seed ends that one; its attempt is void, the other seed is counted."""
    made, _ = controller(runs_dir, ledger, [Act(polls=10**6)])
    made.round()
    sid = made.submission.submission_id
    ledger.append("cancel_requested", submission_id=sid, data={"seeds": [1]})
    assert finish(made) == {1: "stop", 2: "done"}
    assert states(runs_dir, made)[1] == [("void", "cancelled")]


def test_the_story_is_told_in_sentences(runs_dir, ledger):
    """status -v says which attempt became void, why, and which is counted."""
    made, _ = controller(runs_dir, ledger, [Act("rank_killed")], seeds=(7,))
    finish(made)
    run = made.submission.runs[0]
    told = " | ".join(line.partition("  ")[2] for line in story(ledger, made.submission.submission_id, {run.run_id: 7}))
    assert "seed 7: attempt 1 is void: rank_killed" in told and "seed 7: attempt 2 is counted" in told
    (row,) = Overview(runs_dir, [(7, run.run_id)]).rows(controlled=False)
    assert (row.state, row.attempt, row.attempts) == ("done", 2, 2)


def test_what_two_ledgers_write_is_told_once(runs_dir, ledger, tmp_path):
    """Registration and reservation are written here and on the head of the cluster; a second reservation is told."""
    asked = submission(seeds=(7,))
    money = {"worst_usd": 6.0, "attempt_usd": 1.0, "usd_per_hour": 20.0, "expected_usd": 2.0, "attempts": 3, "seeds": 1}
    terms = [Terms(reservation=name, **money) for name in ("first", "second")]
    with Ledger.create(tmp_path / "state") as head:
        for one, where in ((ledger, runs_dir), (head, tmp_path / "state")):
            register(asked, where, one)
            lease = one.acquire(lease_of_submission(asked.submission_id))
            for each in terms:
                reserve_terms(one, lease, asked.submission_id, each)
        ledger.replicate(head.name, head.events())
    told = [line.partition("  ")[2] for line in story(ledger, asked.submission_id, {})]
    assert told == ["registered"] + ["6.00 USD are reserved, 2.00 USD expected"] * 2


@pytest.mark.parametrize(
    "error, kept", [(RuntimeError("a bug"), True), (BackendFailure("no such GPU"), False), (KeyboardInterrupt(), False)]
)
def test_a_crash_keeps_the_money_for_whoever_is_started_again(runs_dir, ledger, error, kept):
    """As a kill does; one that ends by an error that it can name, or by Ctrl-C, gives back what it did not need."""
    terms = Terms(
        reservation="r", worst_usd=6.0, attempt_usd=1.0, usd_per_hour=20.0, expected_usd=2.0, attempts=3, seeds=2
    )
    sid = submission(seeds=(1, 2)).submission_id
    lease = ledger.acquire(lease_of_submission(sid))
    reserve_terms(ledger, lease, sid, terms)
    ledger.release(lease)
    made, _ = controller(runs_dir, ledger)
    made.admission = make_admission(made.submission, terms, None, ledger, made.lease)

    def watch(cases):
        raise error

    with pytest.raises(type(error)):
        made.drive(watch)
    assert (read_account(ledger).reservations["r"].released is False) == kept


acts = st.builds(
    Act,
    cls=st.sampled_from(["completed", "rank_killed", "lost", "refused", "user_error", "nan", "orphaned"]),
    stage=st.sampled_from(["train", "evaluate"]),
    polls=st.integers(0, 2),
)


@settings(max_examples=40)
@given(st.lists(acts, max_size=10), st.integers(1, 3))
def test_any_script_ends_with_at_most_one_counted_attempt(tmp_path_factory, script, slots):
    """Whatever happens to starts: every run ends, at most one attempt is open or counted, the rest is void."""
    runs_dir = tmp_path_factory.mktemp("any") / "runs"
    with Ledger.create(runs_dir) as ledger:
        made, _ = controller(runs_dir, ledger, script, seeds=(1, 2, 3), slots=slots)
        ends = finish(made, 500)
        for seed, found in states(runs_dir, made).items():
            assert [state for state, _ in found[:-1]] == ["void"] * (len(found) - 1)
            assert (found[-1][0] == "counted") == (ends[seed] == "done")


def test_a_cancel_before_a_controller_came_again_is_heard(runs_dir, ledger):
    """One that was killed and is started again in its job ends what was cancelled in between, and asks nobody for money
    for it; a controller of a later submit goes on."""
    asked = []
    first, _ = controller(runs_dir, ledger, [Act(polls=10**6)], seeds=(1,))
    since, sid = first.session, first.submission.submission_id
    ledger.append("cancel_requested", submission_id=sid, data={"seeds": [1]})

    class Never(AdmitAll):
        def __call__(self, case, cases):
            asked.append(case)

    ledger.release(first.lease)
    again, _ = controller(runs_dir, ledger, seeds=(1,), since=since, admission=Never())
    assert finish(again) == {1: "stop"} and again.cases[0].end.reason == "cancelled" and asked == []
    ledger.release(again.lease)
    later, _ = controller(runs_dir, ledger, seeds=(1,))
    assert finish(later) == {1: "done"}
