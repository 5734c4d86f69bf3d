"""A fleet over the fake backend: whose turn it is, what is shared, what is kept, and who may interfere."""

import gc
import io
import weakref
from collections import Counter

import pytest

from golf_core.rundir import RUN, read_json
from orchestrator.attempts import inspect_all
from orchestrator.backends.fake import Act, FakeBackend
from orchestrator.case import lease_of_submission
from orchestrator.controller import Controller
from orchestrator.grids.fleet import Fleet, Member
from orchestrator.grids.fleet_view import FleetView
from orchestrator.ledger.store import Ledger
from orchestrator.overview import Overview
from tests.orchestrator.toy import TOY, limits, submission


class Clock:
    """A clock that moves by itself, so that waits cost nothing."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 0.6
        return self.now


class Peak(FakeBackend):
    """Remembers how many ran at once, and that it was closed, once."""

    most, closes = 0, 0

    def start(self, job):
        handle = super().start(job)
        self.most = max(self.most, len(self._running))
        return handle

    def close(self):
        self.closes += 1
        super().close()


class Full(FakeBackend):
    """A cluster on which nothing more can begin once `places` run."""

    places, asked, refuses = 2, 0, None

    def hold(self, job):
        self.asked += 1
        if self.refuses is not None and self.refuses in job.attempt_id:
            return "every free node was found wanting"
        return "every node is busy" if len(self._running) >= self.places else None


class Bench:
    """Submissions of toys that differ by a comment, and the fleet that drives them."""

    def __init__(self, runs_dir, ledger, number, seeds=(1, 2, 3), script=(), slots=2, kind=Peak, retry_failed=False):
        self.runs_dir, self.ledger, self.clock, self.retry_failed = runs_dir, ledger, Clock(), retry_failed
        self.asked = [submission(f"{TOY}\n# variant {n}\n", seeds) for n in range(number)]
        self.backend, self.opened, self.made, self.ended = kind(runs_dir, script), 0, [], []
        self.fleet = Fleet(
            [self.member(n, one) for n, one in enumerate(self.asked)],
            runs_dir, ledger, self.open, slots, on_end=lambda one: self.ended.append(one.name), clock=self.clock,
        )  # fmt: skip

    def open(self):
        self.opened += 1
        return self.backend

    def member(self, number, asked):
        runs = [(run.seed, run.run_id) for run in asked.runs]

        def make(lease, lend):
            self.made.append(number)
            return Controller(
                asked, self.runs_dir, self.ledger, lease, lend, limits(), 1, backend_name="fake", clock=self.clock,
                retry_failed=self.retry_failed,
            )  # fmt: skip

        return Member(f"v{number}", asked.submission_id, runs, make, retry_failed=self.retry_failed)

    def finish(self, most=400):
        for _ in range(most):
            if self.fleet.round():
                self.fleet.close()
                return
        raise AssertionError([one.state for one in self.fleet.members])

    def states(self):
        return Counter(
            one.state
            for asked in self.asked
            for run in asked.runs
            for one in inspect_all(self.runs_dir, run.run_id)
        )  # fmt: skip

    def variants_started(self):
        """The variant of each start, in order."""
        folders = [self.runs_dir / "attempts" / name for name in self.backend.started]
        ids = [one.submission_id for one in self.asked]
        return [ids.index(read_json(folder / RUN)["submission_id"]) for folder in folders]


def test_all_submissions_are_driven_on_one_backend_with_shared_places(runs_dir, ledger):
    """Every run is counted once; never more at a time than there are places; the backend is opened and closed once."""
    bench = Bench(runs_dir, ledger, 5, slots=3)
    bench.finish()
    assert bench.states() == {"counted": 15} and bench.ended == [f"v{n}" for n in range(5)]
    assert (bench.opened, bench.backend.closes) == (1, 1) and bench.backend.most == 3
    assert all(ledger.holder(lease_of_submission(one.submission_id)) is None for one in bench.asked)
    kinds = Counter(event.kind for event in ledger.events())
    assert kinds["submit"] == kinds["submission_ended"] == 5 and kinds["attempt_counted"] == 15


def test_variants_take_their_turn_in_order_and_places_are_filled(runs_dir, ledger):
    """A variant begins when those before it leave a place: its first run need not wait for their slowest seed."""
    bench = Bench(runs_dir, ledger, 4, script=[Act(polls=40)], slots=2)
    bench.finish()
    started = bench.variants_started()
    assert started == sorted(started)
    assert bench.ended[0] != "v0" and bench.states() == {"counted": 12}  # its slow seed kept nobody from going on


def test_a_retry_goes_before_the_variants_behind_it(runs_dir, ledger):
    """A run that was killed is tried again as soon as a place is free, not after all others."""
    bench = Bench(runs_dir, ledger, 6, script=[Act("rank_killed")], slots=1)
    bench.finish()
    assert bench.states() == {"counted": 18, "void": 1}
    assert bench.variants_started().index(5) > [n for n, v in enumerate(bench.variants_started()) if v == 0][-1]


def test_what_is_settled_is_let_go(runs_dir, ledger):
    """Controllers exist only for what runs or waits, and a submission's text is kept by nobody else."""
    bench = Bench(runs_dir, ledger, 8, seeds=(1,), slots=2)
    most, seen = 0, []
    while not bench.fleet.round():
        driven = [member.controller for member in bench.fleet.members if member.controller is not None]
        seen += [weakref.ref(one) for one in driven]
        most = max(most, len(driven))
    driven = None
    gc.collect()
    assert most <= 3 and seen and not any(one() for one in seen)
    bench.fleet.close()


def test_a_full_cluster_is_not_asked_for_everything(runs_dir, ledger):
    """Where the cluster has no room, what waits behind is neither made nor asked for, but now and then."""
    bench = Bench(runs_dir, ledger, 50, seeds=(1,), slots=1000, kind=Full, script=[Act(polls=1000)] * 2)
    bench.fleet.clock = lambda: 0.0
    for _ in range(20):
        bench.fleet.round()
    assert len(bench.backend.started) == 2 and len(bench.made) == 3 and bench.backend.asked <= 24
    bench.fleet.clock = bench.clock
    for _ in range(10):
        bench.fleet.round()
    assert 3 < len(bench.made) < 50
    bench.backend.places = 5
    bench.finish(4000)
    assert bench.states() == {"counted": 50}


def test_what_may_not_go_where_there_is_room_lets_others_go(runs_dir, ledger):
    """A run that every free node has refused keeps nobody from starting behind it."""
    bench = Bench(runs_dir, ledger, 4, seeds=(1,), slots=1000, kind=Full)
    first = bench.asked[0].runs[0].run_id[:16]
    bench.backend.refuses = first
    for _ in range(200):
        bench.fleet.round()
    assert bench.states() == {"counted": 3} and not any(first in name for name in bench.backend.started)
    bench.backend.refuses = None
    bench.finish()
    assert bench.states() == {"counted": 4}


@pytest.mark.parametrize("kind, slots, begun", [(Peak, 1000, 4), (Full, 1000, 1)])
def test_a_fleet_tells_when_all_has_begun_that_can(runs_dir, ledger, kind, slots, begun):
    """Whoever only wants to begin it leaves then: where there is room for all, all; else what there is room for."""
    bench = Bench(runs_dir, ledger, 4, script=[Act(polls=10_000)] * 12, slots=slots, kind=kind)
    assert not bench.fleet.begun
    for _ in range(20):
        bench.fleet.round()
        if bench.fleet.begun:
            break
    assert bench.fleet.begun and len(set(bench.variants_started())) == begun
    assert bench.fleet.waiting == 4 - begun and bench.fleet.live == {Peak: 12, Full: 2}[kind]
    bench.fleet.interrupt()
    bench.fleet.close()


@pytest.mark.parametrize("begun", [False, True], ids=["queued", "running"])
def test_cancel_ends_one_variant_and_no_other(runs_dir, ledger, begun):
    """A cancel is heard by a variant that runs, and by one whose turn has not come: nothing of it is ever started."""
    bench = Bench(runs_dir, ledger, 3, script=[Act(polls=30)] * 9, slots=2)
    bench.fleet.round()
    which = 0 if begun else 2
    ledger.append("cancel_requested", submission_id=bench.asked[which].submission_id, data={"seeds": [1, 2, 3]})
    bench.finish()
    rows = [Overview(runs_dir, member.runs).rows(controlled=False) for member in bench.fleet.members]
    done = [sum(row.state == "done" for row in one) for one in rows]
    assert done == [0 if n == which else 3 for n in range(3)]
    assert (which in bench.variants_started()) == begun
    assert set(bench.fleet.members[which].ends.values()) == {"cancelled"}


def test_a_part_of_a_queued_variant_can_be_cancelled(runs_dir, ledger):
    """The other seeds of it run, and two cancels add up."""
    bench = Bench(runs_dir, ledger, 3, script=[Act(polls=9)] * 9, slots=1)
    bench.fleet.round()
    for seed in (1, 3):
        ledger.append("cancel_requested", submission_id=bench.asked[2].submission_id, data={"seeds": [seed]})
    bench.finish()
    assert bench.variants_started().count(2) == 1 and bench.states() == {"counted": 7}


def test_ctrl_c_voids_what_runs_and_the_same_fleet_goes_on(runs_dir, ledger):
    """What ran is void at once, what is sealed stays, leases are free, and a second fleet does only what is left."""
    bench = Bench(runs_dir, ledger, 4, script=[Act(polls=1)] * 4 + [Act(polls=1000)] * 2, slots=2)

    def interrupt(fleet):
        if len(bench.backend.started) == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.fleet.drive(interrupt, pause=0.0)
    assert bench.states() == {"counted": 4, "void": 2} and bench.backend.closes >= 1
    again = Bench(runs_dir, ledger, 4)
    again.finish()
    assert len(again.backend.started) == 8 and again.states() == {"counted": 12, "void": 2}


def test_a_submission_that_somebody_drives_is_followed(runs_dir, ledger):
    """It is left to that one; when that one dies before the end, the fleet takes over, and nothing runs twice."""
    asked = submission(f"{TOY}\n# variant 1\n", (1, 2, 3))
    with Ledger.open(runs_dir) as other:
        lease = other.acquire(lease_of_submission(asked.submission_id))
        bench = Bench(runs_dir, ledger, 3, slots=2)
        assert [member.state for member in bench.fleet.members] == ["queued", "followed", "queued"]
        for _ in range(60):
            assert not bench.fleet.round()
        assert 1 not in bench.variants_started() and bench.states() == {"counted": 6}
        other.release(lease)
    bench.finish()
    assert bench.variants_started().count(1) == 3 and bench.states() == {"counted": 9}


@pytest.mark.parametrize("retry", [False, True])
def test_failures_of_another_driver_are_tried_again_where_that_is_asked(runs_dir, ledger, retry):
    """When that one has ended, and once; without --retry-failed they stay as they are."""
    first = Bench(runs_dir, ledger, 1, script=[Act("user_error"), Act(polls=30)], slots=3)
    with Ledger.open(runs_dir) as other:
        again = Bench(runs_dir, other, 1, slots=3, retry_failed=retry)
        assert again.fleet.members[0].state == "followed"
        first.finish()
        again.finish()
    assert again.states() == ({"counted": 3, "void": 1} if retry else {"counted": 2, "failed": 1})
    assert len(again.backend.started) == retry


def test_living_attempts_are_looked_after_at_once(runs_dir, ledger):
    """A submission that has attempts gets its controller before its turn: what lives of it is found, not forgotten."""
    first = Bench(runs_dir, ledger, 6, seeds=(1,), slots=1)
    first.finish()
    again = Bench(runs_dir, ledger, 6, seeds=(1, 2), slots=1)
    assert again.made == list(range(6))
    again.finish()
    assert again.states() == {"counted": 12} and len(again.backend.started) == 6


def test_the_view_tells_each_change_once_and_counts_all(runs_dir, ledger, monkeypatch):
    """A line when a run starts and when it ends, by its variant; what has ended is counted and not looked at again."""
    monkeypatch.setattr("orchestrator.grids.fleet_view.LOOK_SECONDS", 0.0)
    bench, stream = Bench(runs_dir, ledger, 3, seeds=(1, 2), script=[Act("user_error")]), io.StringIO()
    view = FleetView(runs_dir, 6, stream)
    bench.fleet.on_end = view.ended
    while not bench.fleet.round():
        view.update(bench.fleet)
        assert len(view._overviews) <= 3
    bench.fleet.close()
    lines = stream.getvalue().splitlines()
    assert view.over == {"failed": 1, "done": 5} and not view._overviews and not view._shown
    assert sum("failed" in line for line in lines) == 1 and sum(": done" in line for line in lines) == 5
    assert len(lines) == len(set(lines)) and {line.split()[0] for line in lines} == {"v0", "v1", "v2"}
