"""Clocks that jump and machines that sleep: what is written down, and what makes the times of an attempt unknowable."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from golf_core.rundir import read_json
from orchestrator.worker import attempt as worker
from orchestrator.worker.attempt import run_attempt
from orchestrator.worker.clocks import DISTURBED, Clocks
from tests.orchestrator.toy import attempt_folder, toy_text

HOUR = 3600.0


class Machine:
    """Three clocks of one machine, that go as they are told."""

    def __init__(self):
        self.wall, self.monotonic, self.boottime = 1.7e9, 1000.0, 5000.0
        self.delay = 0.0

    def clocks(self):
        return Clocks(self.read_wall, lambda: self.monotonic, lambda: self.boottime)

    def read_wall(self):
        self.monotonic, self.boottime, self.wall = (one + self.delay for one in self.now())
        self.delay = 0.0
        return self.wall

    def now(self):
        return self.monotonic, self.boottime, self.wall

    def run(self, seconds):
        self.delay = seconds
        self.read_wall()


@given(st.lists(st.floats(1.0, 600.0), max_size=20), st.floats(-1e-4, 1e-4))
def test_clocks_that_only_drift_are_left_alone(pauses, drift):
    """Whatever passes between two looks; a time server that pulls at the wall clock disturbs nothing."""
    machine = Machine()
    clocks = machine.clocks()
    for pause in pauses:
        machine.run(pause)
        machine.wall += pause * drift
        assert clocks.look() is None
    assert clocks.disturbances == []


@pytest.mark.parametrize("jump", [HOUR, -HOUR, 3.0, -3.0])
def test_a_wall_clock_that_jumps_is_written_down(jump):
    """Both ways; nothing ends by it."""
    machine = Machine()
    clocks = machine.clocks()
    machine.run(10.0)
    machine.wall += jump
    assert clocks.look() is None
    assert clocks.disturbances == [{"what": "the wall clock jumped", "seconds": jump, "t": 10.0}]
    machine.run(10.0)
    assert clocks.look() is None and len(clocks.disturbances) == 1


@pytest.mark.parametrize("knows", [True, False])
def test_a_machine_that_slept_has_no_times(knows):
    """Its monotonic clock stood still: from then on every look says so. That the wall clock went on is no jump."""
    machine = Machine()
    clocks = machine.clocks()
    machine.run(10.0)
    machine.boottime += HOUR
    machine.wall += HOUR if knows else 0.0
    assert [clocks.look(), clocks.look(), clocks.look(at_once=True)] == [DISTURBED] * 3
    told = [{"what": "the machine slept", "seconds": HOUR, "t": 10.0}]
    assert clocks.disturbances == told + [] * knows + [
        {"what": "the wall clock jumped", "seconds": -HOUR, "t": 10.0} for _ in range(not knows)
    ]


def test_a_process_that_was_stopped_between_two_clocks_reads_them_again():
    """Held up for an hour after the first clock: no jump, no sleep."""
    machine = Machine()
    clocks = machine.clocks()
    machine.run(10.0)
    machine.delay = HOUR
    assert clocks.look() is None and clocks.disturbances == []


def test_a_clock_that_never_rests_fills_no_disk():
    """Twenty disturbances are written down."""
    machine = Machine()
    clocks = machine.clocks()
    for sign in itertools.islice(itertools.cycle((1, -1)), 100):
        machine.run(2.0)
        machine.wall += sign * HOUR
        assert clocks.look() is None
    assert len(clocks.disturbances) == 20


def attempt(tmp_path, monkeypatch, disturb, steps=60):
    """A worker on a machine that is disturbed while it trains; its result."""
    real, machine = Clocks(), Machine()
    began, offset = real.monotonic(), {"wall": 0.0, "boottime": 0.0}

    def ahead(name):
        shown = (real.boottime if name == "boottime" else real.wall)()
        return shown + (offset[name] if real.monotonic() - began > 0.5 else 0.0)

    disturb(offset)
    assert machine.now()
    clocks = Clocks(lambda: ahead("wall"), real.monotonic, lambda: ahead("boottime"))
    monkeypatch.setattr(worker, "Clocks", lambda: clocks)
    monkeypatch.setattr("orchestrator.worker.clocks.LOOK_SECONDS", 0.05)
    folder = attempt_folder(tmp_path, toy_text(steps=steps, pause=0.03))
    result = run_attempt(folder)
    assert result == read_json(folder / "result.json")
    return result


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_an_attempt_survives_a_jump_of_an_hour(tmp_path, monkeypatch, jump):
    """It is completed, its seconds are those that passed, and what befell the wall clock stands in its result."""
    result = attempt(tmp_path, monkeypatch, lambda offset: offset.update(wall=jump))
    assert result["class"] == "completed" and 1.0 < result["train_seconds"] < 60.0 and result["worker_seconds"] < 120.0
    (told,) = result["clock_disturbances"]
    assert told["what"] == "the wall clock jumped" and told["seconds"] == pytest.approx(jump, abs=1.0)


def test_an_attempt_on_a_machine_that_slept_is_void(tmp_path, monkeypatch):
    """Ended where it is noticed, with a class of its own."""
    result = attempt(tmp_path, monkeypatch, lambda offset: offset.update(boottime=HOUR, wall=HOUR), steps=2000)
    assert (result["class"], result["stage"]) == (DISTURBED, "train") and "slept" in result["message"]
