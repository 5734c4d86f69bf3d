"""Fault 7: the ledger is cut, flipped, gone, or of an older version. Noticed every time, made anew without a guess."""

import random
import shutil
import sqlite3
import subprocess
import sys

import pytest

from orchestrator.attempts import inspect_all, write_void
from orchestrator.case import lease_of_submission
from orchestrator.errors import BackendFailure, BudgetRefused, UsageError
from orchestrator.ledger.chain import TIP
from orchestrator.ledger.rebuild import ASIDE, REBUILT, mend
from orchestrator.ledger.store import FILE, Damaged, Ledger, LedgerError
from orchestrator.money import budget
from tests.chaos.controllers import Controllers
from tests.chaos.invariants import check, scores_of, spec_of
from tests.orchestrator.money.test_budget import cost

SEEDS = (1, 2)


@pytest.fixture(scope="module")
def controllers(tmp_path_factory):
    made = Controllers(tmp_path_factory.mktemp("controllers"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def finished(controllers, tmp_path_factory):
    """A runs folder whose submission is done, and its scores."""
    runs_dir = tmp_path_factory.mktemp("finished") / "runs"
    assert controllers.run(runs_dir, seeds=SEEDS) == 0, controllers.said()
    return runs_dir, scores_of(runs_dir)


def content(runs_dir):
    """All that the ledger's tables hold."""
    db = sqlite3.connect(f"file:{runs_dir / FILE}?mode=ro", uri=True)
    try:
        tables = ("events", "leases", "identity", "chain", "lease_digests")
        return {name: db.execute(f"SELECT * FROM {name} ORDER BY 1").fetchall() for name in tables}
    finally:
        db.close()


def opened(runs_dir):
    """Whether the ledger opens; False where it says that it is damaged, or of a version that nobody knows."""
    try:
        Ledger.open(runs_dir).close()
        return True
    except LedgerError:
        return False


def copy(finished, tmp_path, name):
    runs_dir = tmp_path / str(name) / "runs"
    shutil.copytree(finished[0], runs_dir)
    return runs_dir


def goes_on(controllers, runs_dir, scores):
    """What a submit does: mend the ledger, then drive. Nothing is trained again."""
    attempts = sorted(path.name for path in (runs_dir / "attempts").iterdir())
    told = []
    mend(runs_dir, told.append)
    assert controllers.run(runs_dir, seeds=SEEDS) == 0, controllers.said()
    check(runs_dir, scores)
    assert sorted(path.name for path in (runs_dir / "attempts").iterdir()) == attempts
    return told


def damaged_and_mended(controllers, count, runs_dir, scores, damage):
    """One damage to a ledger: noticed unless what it holds is the same, and mended."""
    before = content(runs_dir)
    damage(runs_dir)
    count.injected += 1
    if opened(runs_dir):
        assert content(runs_dir) == before, "damage that nobody noticed"
        count.note("touched nothing that is read")
        return
    count.fired += 1
    with count.recovery():
        try:
            told = goes_on(controllers, runs_dir, scores)
        except LedgerError as error:  # its version number is another one: it may be that of a later program
            assert "schema version" in str(error)
            count.note("version refused")
            return
        assert any("damaged" in line or "missing" in line or "header" in line for line in told)
        kept = [path for path in runs_dir.iterdir() if path.name.startswith(ASIDE)]
        assert kept, "the damaged ledger was not kept"


@pytest.mark.parametrize("number", [25, pytest.param(600, marks=pytest.mark.chaos)])
def test_a_flipped_bit(controllers, finished, tally, tmp_path, number):
    """Anywhere in the file: noticed, or nothing that the ledger holds is another."""
    count, draw = tally("7 ledger with a flipped bit"), random.Random(7)

    def flip(runs_dir):
        data = bytearray((runs_dir / FILE).read_bytes())
        used = [at for at, byte in enumerate(data) if byte] if draw.random() < 0.8 else range(len(data))
        data[draw.choice(used)] ^= 1 << draw.randrange(8)
        (runs_dir / FILE).write_bytes(data)

    for one in range(number):
        damaged_and_mended(controllers, count, copy(finished, tmp_path, one), finished[1], flip)
        shutil.rmtree(tmp_path / str(one))
    assert (
        count.fired + count.notes.get("touched nothing that is read", 0) == number and count.survived == count.fired > 0
    )


@pytest.mark.parametrize("number", [8, pytest.param(150, marks=pytest.mark.chaos)])
def test_a_cut_tail(controllers, finished, tally, tmp_path, number):
    """At any byte, down to an empty file."""
    count, draw = tally("7 ledger cut at a random byte"), random.Random(8)
    size = (finished[0] / FILE).stat().st_size
    lengths = [0, *(draw.randrange(size) for _ in range(number - 1))]

    def cut(runs_dir):
        (runs_dir / FILE).write_bytes((runs_dir / FILE).read_bytes()[: lengths.pop()])

    for one in range(number):
        damaged_and_mended(controllers, count, copy(finished, tmp_path, one), finished[1], cut)
    assert count.fired == count.injected


def test_lost_last_events(controllers, finished, tally, tmp_path):
    """An older copy of the ledger, whole in itself: its last event is not the last one that was written."""
    count = tally("7 ledger replaced by an older one")
    runs_dir = copy(finished, tmp_path, "older")
    older = (runs_dir / FILE).read_bytes()
    with Ledger.open(runs_dir) as ledger:
        ledger.append("note", data={"said": "later"})

    damaged_and_mended(controllers, count, runs_dir, finished[1], lambda _: (runs_dir / FILE).write_bytes(older))
    assert count.fired == 1
    with Ledger.open(runs_dir) as ledger:
        (rebuilt,) = ledger.events(kind=REBUILT)
        assert rebuilt.data["kept"] > 5 and rebuilt.data["added"] == 0


def test_a_cut_write_ahead_log(controllers, finished, tally, tmp_path):
    """What a killed controller left in SQLite's log, cut at any byte: SQLite drops it silently, we do not."""
    count, draw = tally("7 write-ahead log of the ledger cut"), random.Random(9)
    for number in range(10):
        runs_dir = tmp_path / str(number) / "runs"
        killed = {"write": 8 + number % 3, "when": "after"}
        assert controllers.run(runs_dir, seeds=SEEDS, **killed) == -9, controllers.said()
        log = runs_dir / f"{FILE}-wal"
        data = log.read_bytes()
        log.write_bytes(data[: draw.randrange(len(data))])
        (runs_dir / f"{FILE}-shm").unlink(missing_ok=True)
        count.injected += 1
        assert not opened(runs_dir), "lost events that nobody noticed"
        count.fired += 1
        with count.recovery():
            mend(runs_dir, lambda line: None)
            assert controllers.run(runs_dir, seeds=SEEDS) == 0, controllers.said()
            check(runs_dir, finished[1])


@pytest.mark.parametrize("gone", [(FILE,), (TIP,), (FILE, TIP)], ids=" and ".join)
def test_a_missing_file(controllers, finished, tally, tmp_path, gone):
    """Without its ledger the folder is still ours; without the note of its end it is only watched less closely."""
    count = tally(f"7 {' and '.join(gone)} missing")
    runs_dir = copy(finished, tmp_path, "gone")
    for name in gone:
        (runs_dir / name).unlink()
    count.injected += 1
    count.fired += 1
    with count.recovery():
        assert opened(runs_dir) == (gone == (TIP,))
        goes_on(controllers, runs_dir, finished[1])


def test_what_is_added_is_what_the_folders_show(finished, tmp_path):
    """Registered, created, counted and void attempts, with their classes; nothing else."""
    runs_dir = copy(finished, tmp_path, "shown")
    run_id = spec_of(runs_dir)["runs"][0]["run_id"]
    (attempt,) = inspect_all(runs_dir, run_id)
    second = attempt.folder.with_name(attempt.folder.name.replace("-a1", "-a2"))
    shutil.copytree(attempt.folder, second)
    (second / "run.json").write_text((second / "run.json").read_text().replace('-a1"', '-a2"'))
    (second / "run.json").write_text((second / "run.json").read_text().replace('"attempt": 1', '"attempt": 2'))
    write_void(second, "node_lost", "its node went away")
    (runs_dir / FILE).unlink()
    (runs_dir / "attempts" / "feed-a1").mkdir()  # no attempt of ours: not told of
    mend(runs_dir, lambda line: None)
    with Ledger.open(runs_dir) as ledger:
        told = [(event.kind, event.attempt_id) for event in ledger.events() if event.run_id == run_id]
        first = [("attempt_created", attempt.folder.name), ("attempt_counted", attempt.folder.name)]
        assert told == [*first, ("attempt_created", second.name), ("attempt_voided", second.name)]
        assert next(e for e in ledger.events(kind="attempt_voided")).data["class"] == "node_lost"
        assert ledger.submissions() == [spec_of(runs_dir)["submission_id"]]


def test_money_that_went_with_the_ledger_is_not_taken_for_nothing(finished, tmp_path):
    """Attempts on GPUs whose reservations are lost: no budget holds in that folder any more, and none is promised."""
    runs_dir = copy(finished, tmp_path, "money")
    for path in (runs_dir / "attempts").glob("*/run.json"):
        path.write_text(path.read_text().replace('"gpus": 0', '"gpus": 8'))
    (runs_dir / FILE).unlink()
    mend(runs_dir, lambda line: None)
    with Ledger.open(runs_dir) as ledger:
        assert budget.read_account(ledger).unpriced == 2
        with pytest.raises(BudgetRefused, match="2 attempts"):
            budget.check([("sid", cost())], budget.read_account(ledger), 1e6)


def test_leases_come_back_without_owners_and_with_greater_tokens(finished, tmp_path):
    """A controller that slept through it holds a token that is no more."""
    runs_dir = copy(finished, tmp_path, "leases")
    name = lease_of_submission(spec_of(runs_dir)["submission_id"])
    with Ledger.open(runs_dir) as ledger:
        old = ledger.acquire(name)
        ledger.append("note", lease=old)
    with (runs_dir / FILE).open("r+b") as file:
        file.truncate(file.seek(0, 2) - 100)
    mend(runs_dir, lambda line: None)
    with Ledger.open(runs_dir) as ledger:
        assert ledger.holder(name) is None and ledger.acquire(name).token >= 1


def test_a_ledger_in_use_is_not_replaced(finished, tmp_path, monkeypatch):
    """Whoever still writes to the damaged file would not know of the new one: refused, with its process id."""
    monkeypatch.setattr("orchestrator.ledger.rebuild.USER_PATIENCE", 0.0)
    runs_dir = copy(finished, tmp_path, "used")
    (runs_dir / FILE).write_bytes((runs_dir / FILE).read_bytes()[:5000])
    script = f"file = open({str(runs_dir / FILE)!r}); print('open', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=-1, stdout=-1, text=True) as user:
        user.stdout.readline()
        with pytest.raises(BackendFailure, match=str(user.pid)):
            mend(runs_dir, lambda line: None)
        user.stdin.write("\n")
        user.stdin.flush()
        user.wait()
    mend(runs_dir, lambda line: None)
    assert opened(runs_dir)


def test_a_folder_of_others_is_never_touched(tmp_path):
    """A file of the ledger's name among things that are not ours is no ledger to be made anew."""
    for name in ("notes.txt", FILE):
        (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match="nothing was touched"):
        mend(tmp_path, lambda line: None)
    assert sorted(path.name for path in tmp_path.iterdir()) == [FILE, "notes.txt"]


def test_damage_is_told_by_every_command(finished, tmp_path):
    """Who only looks is told what mends it."""
    runs_dir = copy(finished, tmp_path, "told")
    (runs_dir / FILE).write_bytes((runs_dir / FILE).read_bytes()[:9000])
    with pytest.raises(Damaged, match="next submit"):
        Ledger.open(runs_dir)
