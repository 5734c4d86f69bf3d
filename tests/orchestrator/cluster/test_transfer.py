"""Attempts from a head to a runs folder: whole, checked, resumed where a fetch was cut, never mixed with others."""

import contextlib
import io
import json
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golf_core.rundir import RUN, SEAL, VOID, write_json, write_seal
from orchestrator.attempts import create, inspect
from orchestrator.cluster import transfer
from orchestrator.cluster.look import look, send, write_job
from orchestrator.cluster.transfer import Seen, check_made_here, fetch, sealed_here
from orchestrator.drive import register
from orchestrator.errors import BackendFailure, CommandError, UsageError
from orchestrator.ledger.store import Ledger
from orchestrator.registered import write_grid
from tests.orchestrator.toy import limits, submission

ASKED = submission(seeds=(1, 2))
FILES = {"log.txt": b"step 1\n" * 40, "artifact.bin": bytes(range(256)) * 3, "metrics.jsonl": b""}


def printed(function, *arguments):
    """What a command of the head writes to its stdout."""
    out = io.TextIOWrapper(io.BytesIO())
    with contextlib.redirect_stdout(out):
        function(*arguments)
        out.flush()
    return out.buffer.getvalue()


class Head:
    """A state folder, as the controller leaves it, with a counted, a void and a running attempt."""

    def __init__(self, folder):
        self.state = folder / "state"
        with Ledger.create(self.state) as ledger:
            register(ASKED, self.state, ledger)
            self.name = ledger.name
        self.void = self.lay(1, 1)
        write_json(self.void / VOID, {"schema_version": 1, "class": "node_lost", "message": "gone", "at": "then"})
        self.counted = self.lay(1, 2)
        self.seal(self.counted)
        self.lay(2, 1)

    def lay(self, seed, number):
        run = ASKED.runs[seed - 1]
        folder = create(self.state, ASKED.run_json(run, number, limits()), ASKED.bundle)
        for name, data in FILES.items():
            (folder / name).write_bytes(data)
        return folder

    def seal(self, folder):
        write_json(folder / "result.json", {"outcome": "completed", "class": "completed"})
        write_seal(folder, SEAL, [RUN, *FILES, "result.json"], {})

    def seen(self, here=None):
        return Seen.from_bytes(printed(look, self.state, ASKED.submission_id, None, here))

    def ask(self, pieces):
        return printed(send, self.state, pieces)


@pytest.fixture
def head(tmp_path):
    return Head(tmp_path)


@pytest.fixture
def home(tmp_path):
    with Ledger.create(tmp_path / "runs") as ledger:
        yield ledger


def bring(head, home, ask=None, here=None):
    return fetch(head.seen(here), home.path.parent, home, ask or head.ask, lambda text: None)


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("here", [None, []], ids=["in pieces", "with the look"])
def test_what_is_over_is_brought_as_it_is(head, home, here):
    """Void and counted attempts arrive byte for byte, what still runs is left; a second fetch brings nothing."""
    runs_dir = home.path.parent
    assert bring(head, home, here=here) == [head.void.name, head.counted.name]
    for folder in (head.void, head.counted):
        assert content(runs_dir / "attempts" / folder.name) == content(folder)
    assert bring(head, home) == [] and sealed_here(runs_dir) == [head.counted.name]
    assert inspect(runs_dir / "attempts" / head.counted.name, 2).state == "counted"


def test_a_small_attempt_needs_no_second_command(head, home):
    """What the look itself brings is not asked for again; an attempt that is here whole is not sent."""
    bring(head, home, ask=lambda pieces: pytest.fail(f"asked for {pieces}"), here=[])
    assert {name for name, _ in head.seen(sealed_here(home.path.parent)).inline} == {head.void.name}


@settings(max_examples=12)
@given(st.integers(1, 60), st.lists(st.integers(0, 6), max_size=3), st.sampled_from(["cut", "short", "flipped"]))
def test_a_disturbed_fetch_ends_with_the_same_bytes(piece, fatal, how):
    """Cut off after any piece, or given damaged ones, a fetch leaves no attempt that is not whole; the next goes on."""
    before = transfer.PIECE_BYTES
    with tempfile.TemporaryDirectory() as folder, Ledger.create(Path(folder) / "runs") as home:
        head, asked = Head(Path(folder)), []

        def ask(pieces):
            asked.append(sum(size for *_, size in pieces))
            data = head.ask(pieces)
            if len(asked) - 1 not in fatal:
                return data
            if how == "cut":
                raise BackendFailure("cut")
            return data[:-1] if how == "short" else bytes([data[0] ^ 1]) + data[1:]

        transfer.PIECE_BYTES = piece * 20
        try:
            for _ in range(len(fatal) + 1):
                with contextlib.suppress(BackendFailure):
                    bring(head, home, ask)
                for path in (home.path.parent / "attempts").glob("[0-9a-f]*"):
                    assert content(path) == content(head.state / "attempts" / path.name)
            assert bring(head, home) == [] or how != "cut"
            assert content(home.path.parent / "attempts" / head.counted.name) == content(head.counted)
            size = sum(len(data) for one in (head.void, head.counted) for data in content(one).values())
            assert how != "cut" or sum(asked) <= size + len(fatal) * piece * 20
        finally:
            transfer.PIECE_BYTES = before


def test_a_later_state_replaces_an_earlier_one(head, home):
    """An attempt that failed, and was evaluated again there, is brought again as a whole."""
    write_json(head.void / VOID, {"class": "cancelled"})
    failed = head.lay(1, 3)
    write_json(failed / "result.json", {"outcome": "failed", "class": "rank_killed", "stage": "evaluate"})
    bring(head, home)
    (failed / "log.txt").write_bytes(b"evaluated again\n" * 90)
    head.seal(failed)
    assert bring(head, home) == [failed.name]
    assert content(home.path.parent / "attempts" / failed.name) == content(failed)


def test_a_damaged_copy_is_healed_and_other_evidence_is_not_touched(head, home):
    """Same seal, flipped byte here: brought anew. Another seal there: refused, and both stay."""
    bring(head, home)
    here = home.path.parent / "attempts" / head.counted.name
    (here / "artifact.bin").write_bytes(b"x" * len(FILES["artifact.bin"]))
    assert bring(head, home) == [head.counted.name] and content(here) == content(head.counted)
    before = content(here)
    (head.counted / "log.txt").write_bytes(b"another")
    head.seal(head.counted)
    with pytest.raises(BackendFailure, match="sealed here"):
        bring(head, home)
    assert content(here) == before


def test_small_attempts_of_many_submissions_come_together(head, home):
    """One look tells several submissions, and one command brings what it left out, as far as its size allows."""
    other = submission(seeds=(3, 4))
    with Ledger.open(head.state) as ledger:
        register(other, head.state, ledger)
    for run in other.runs:
        folder = create(head.state, other.run_json(run, 1, limits()), other.bundle)
        for name, data in FILES.items():
            (folder / name).write_bytes(data)
        head.seal(folder)
    ids, asked = [ASKED.submission_id, other.submission_id], []
    seen = Seen.from_bytes(printed(look, head.state, None, None, None, ids))
    assert [one.submission_id for one in seen.submissions()] == ids and seen.variants == ()

    def ask(pieces):
        asked.append({attempt for attempt, *_ in pieces})
        return head.ask(pieces)

    brought = fetch(seen, home.path.parent, home, ask, lambda text: None)
    assert len(brought) == 4 and asked == [set(brought)]
    for name in brought:
        assert content(home.path.parent / "attempts" / name) == content(head.state / "attempts" / name)


def test_attempts_of_two_places_are_not_mixed(head, home, tmp_path):
    """A run with an attempt of this runs folder, or of another cluster, is refused before anything is brought."""
    runs_dir = home.path.parent
    create(runs_dir, ASKED.run_json(ASKED.runs[0], 1, limits()), ASKED.bundle)
    with pytest.raises(UsageError, match=r"by this runs folder itself.*--runs-dir"):
        bring(head, home)
    shutil.rmtree(runs_dir / "attempts")
    bring(head, home)
    check_made_here(runs_dir, [run.run_id for run in ASKED.runs], head.name)
    with pytest.raises(UsageError, match="on another cluster"):
        check_made_here(runs_dir, [ASKED.runs[0].run_id], "another")


HOSTILE = {
    "a path": lambda told: told["attempts"][0]["files"].update({"../x": {"size": 1, "sha256": ""}}),
    "a hidden file": lambda told: told["attempts"][0]["files"].update({".x": {"size": 1, "sha256": ""}}),
    "a foreign folder": lambda told: told["attempts"][0].update(attempt_id="../../etc"),
    "a size": lambda told: told["attempts"][0]["files"].update({"x": {"size": -1, "sha256": ""}}),
    "no attempts": lambda told: told.pop("attempts"),
    "another version": lambda told: told.update(schema_version=2),
    "another bundle": lambda told: told["submissions"][0].update(bundle="import os"),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_head_is_refused(head, change):
    """Names that leave the folder, sizes that are none, a bundle that is not the submission's: a clear error."""
    told = json.loads(printed(look, head.state, None, None, None))
    change(told)
    with pytest.raises(CommandError):
        Seen.from_bytes(json.dumps(told).encode()).submissions()


@pytest.mark.parametrize(
    "piece", [["../x", "log.txt", 0, 1], ["ab-a1", "../ledger.sqlite", 0, 1], ["ab-a1", ".x", 0, 1]]
)
def test_the_head_sends_files_of_attempts_alone(head, piece):
    """Whatever is asked for."""
    with pytest.raises(UsageError, match="no file of an attempt"):
        send(head.state, [piece])


def test_a_submission_is_found_at_the_controller_that_has_it(head):
    """The last one, however many submissions it was given; a grid is told with the events of all its variants."""
    other = submission(seeds=(3,))
    assert head.seen().job == "" and not head.seen().several
    with Ledger.open(head.state) as ledger:
        register(other, head.state, ledger)
        many = [f"{number:064x}" for number in range(1000)]
        write_job(ledger, "golf-1-1", [*many, ASKED.submission_id, other.submission_id])
        write_job(ledger, "golf-2-1", many)
        write_grid(ledger, "seeds", [ASKED.submission_id, other.submission_id])
    assert (head.seen().job, head.seen().several) == ("golf-1-1", True)
    grid = Seen.from_bytes(printed(look, head.state, "seeds", None, None))
    assert grid.variants == (ASKED.submission_id, other.submission_id)
    assert [one.submission_id for one in grid.submissions()] == [ASKED.submission_id]
    assert {event.submission_id for event in grid.events} == set(grid.variants)
    with Ledger.open(head.state) as ledger:
        write_job(ledger, "golf-3-1", [ASKED.submission_id])
    assert (head.seen().job, head.seen().several) == ("golf-3-1", False)


def test_an_attempt_is_taken_for_its_own_run_alone(head, home):
    """A head that tells of an attempt under the name of another run's, or sends another run's under its seal, is
    refused: what was made here stays, and no seed is counted by the files of another."""
    runs_dir = home.path.parent
    mine = create(runs_dir, ASKED.run_json(ASKED.runs[1], 1, limits()), ASKED.bundle)
    line, _, rest = printed(look, head.state, ASKED.submission_id, None, None).partition(b"\n")
    told = json.loads(line)
    told["attempts"][0]["attempt_id"] = mine.name
    with pytest.raises(BackendFailure, match="is not attempt 1 of"):
        Seen.from_bytes(json.dumps(told).encode() + b"\n" + rest)
    shutil.rmtree(mine)
    write_json(head.counted / RUN, ASKED.run_json(ASKED.runs[1], 2, limits()))
    head.seal(head.counted)
    with pytest.raises(BackendFailure, match="holds an attempt of another run"):
        bring(head, home)
    assert not (runs_dir / "attempts" / head.counted.name).exists()


def test_a_controller_that_is_started_again_has_its_job_since_the_first_time(home):
    """One life of a job is written down once; a job of the same name on a head that forgot the first is another."""
    first = write_job(home, "golf-1-1", ["a"], "life")
    home.append("anything")
    assert write_job(home, "golf-1-1", ["a"], "life") == first
    assert write_job(home, "golf-1-1", ["a"], "another") > first
