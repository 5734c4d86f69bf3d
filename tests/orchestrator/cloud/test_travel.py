"""What crosses to Modal and back as files and JSON: orders, starts, chains, and an attempt kept while it grows."""

import itertools
import json
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from golf_core.policy import load_policy
from golf_core.rundir import LOG, METRICS, RESULT, RUN, SEAL, TRAIN_SEAL, is_sealed, verify_seal, write_json, write_seal
from orchestrator.cloud.chains import Following
from orchestrator.cloud.keeping import Keeper
from orchestrator.cloud.order import Order, OrderError, Told
from orchestrator.cloud.starts import Start, append_start, parse_starts, read_starts
from orchestrator.spec import attempt_id

RUNS = tuple({"run_id": f"{number:x}" * 64, "attempt": 1, "submission_id": "s"} for number in range(8))
TEXT = st.text(max_size=20)


@st.composite
def orders(draw):
    run = {**RUNS[0], "attempt_id": attempt_id(RUNS[0]["run_id"], 1), "config": draw(st.dictionaries(TEXT, TEXT))}
    chains = draw(st.lists(st.lists(st.sampled_from(RUNS), min_size=1).map(tuple), max_size=3).map(tuple))
    return Order(
        app=draw(TEXT),
        code=draw(TEXT),
        run=run,
        bundle=draw(TEXT),
        stage=draw(st.sampled_from(["train", "evaluate"])),
        execution=draw(st.integers(0, 9)),
        restarts=draw(st.integers(0, 9)),
        cancels=draw(TEXT),
        canary=draw(st.sampled_from([None, load_policy("demo")])),
        chains=chains,
    )


@given(orders())
def test_an_order_travels_whole(order):
    """Through JSON and back it is the same; its key too; the order of another version is refused."""
    told = json.loads(json.dumps(order.to_dict()))
    assert Order.from_dict(told) == order and Order.from_dict(told).key == order.key
    for spoilt in (told | {"version": 0}, told | {"more": 1}):
        with pytest.raises(OrderError):
            Order.from_dict(spoilt)
    told = Told(order.attempt_id, "completed", order.bundle, 1.5)
    assert Told.from_dict(json.loads(json.dumps(told.to_dict()))) == told


@given(st.integers(1, 8), st.integers(1, 8), st.booleans(), st.randoms())
def test_every_run_begins_once_over_all_chains(count, lanes, canary, draw):
    """Whoever begins `lanes` runs (or the canary alone) and then dies: each run begins once, in whatever order they
    end, and after the canary never more than `lanes` at a time."""
    following = Following(RUNS[:count], load_policy("demo") if canary else None, lanes)
    first = RUNS[:1] if canary else RUNS[: min(lanes, count)]
    working = [(run, following.after(run["run_id"])) for run in first]
    begun = [run["run_id"] for run, _ in working]
    while working:
        assert len(working) <= lanes
        _, chains = working.pop(draw.randrange(len(working)))
        for head, *rest in chains:
            begun.append(head["run_id"])
            working.append((head, (tuple(rest),) if rest else ()))
    assert sorted(begun) == [run["run_id"] for run in RUNS[:count]]


STARTS = st.builds(Start, TEXT, st.integers(1, 99), st.integers(0, 9), TEXT, TEXT, TEXT)


@given(st.lists(STARTS, max_size=6), st.randoms())
def test_a_line_that_was_cut_began_nothing(starts, draw):
    """attempts.jsonl cut at any byte gives the starts before the cut, each as it was written."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "runs" / "r" / "attempts.jsonl"
        for start in starts:
            append_start(path, start)
        assert read_starts(path) == starts
        content = path.read_bytes() if starts else b""
        cut = draw.randint(0, len(content))
        found = parse_starts(content[:cut])
        assert found == starts[: len(found)] and len(found) >= content[:cut].count(b"\n")


class Writer:
    """A worker, and its watcher: each step changes the attempt's folder by one file."""

    def __init__(self, folder):
        self.folder = folder

    def append(self, name, data):
        with (self.folder / name).open("ab") as file:
            file.write(data)

    def replace(self, name, data):
        scratch = self.folder / f".{name}.tmp"
        scratch.write_bytes(data)
        scratch.replace(self.folder / name)

    def steps(self):
        write_json(self.folder / RUN, {"seed": 1})
        for number in range(3):
            yield self.append(LOG, b"step %d\n" % number)
            yield self.append(METRICS, b"{}\n" * number)
        yield self.replace("artifact.bin", bytes(100))
        yield write_seal(self.folder, TRAIN_SEAL, [RUN, LOG, METRICS, "artifact.bin"], {})
        yield self.append(LOG, b"evaluation\n")
        yield self.replace("scores.json", b"{}")
        yield write_json(self.folder / RESULT, {"class": "completed"})
        yield write_seal(self.folder, SEAL, [RUN, LOG, METRICS, "artifact.bin", "scores.json", RESULT, TRAIN_SEAL], {})


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


class Cut(Exception):
    pass


@given(st.integers(0, 2**32))
def test_what_is_kept_never_has_a_seal_before_what_it_seals(seed):
    """While the worker writes between any two files that are kept, and whenever the keeper is cut off: a seal in the
    volume holds; once nothing writes any more, the kept folder is the folder."""
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as place:
        folder, kept = Path(place) / "here", Path(place) / "kept"
        folder.mkdir(), kept.mkdir()
        steps = Writer(folder).steps()
        keeper = Disturbed(folder, kept, steps, draw)
        for _ in range(draw.randrange(1, 20)):
            try:
                keeper.keep()
            except Cut:
                keeper = Disturbed(folder, kept, steps, draw) if draw.random() < 0.5 else keeper
            for seal in (TRAIN_SEAL, SEAL):
                if (kept / seal).exists():
                    verify_seal(kept, seal)
        for _ in steps:
            pass
        Keeper(folder, kept).keep()
        assert files(kept) == files(folder) and is_sealed(kept, SEAL)


class Disturbed(Keeper):
    """The worker goes on between any two files, and the container may end there."""

    def __init__(self, folder, kept, steps, draw):
        super().__init__(folder, kept)
        self.steps, self.draw = steps, draw

    def _keep(self, name):
        for _ in itertools.islice(self.steps, self.draw.choice([0, 0, 0, 1, 2])):
            pass
        if self.draw.random() < 0.05:
            raise Cut
        return super()._keep(name)


def test_what_is_void_there_stays_and_what_is_gone_here_goes(tmp_path):
    """A repeated evaluation takes away what the first had left; the marks of the volume's own folder stay."""
    folder, kept = tmp_path / "here", tmp_path / "kept"
    folder.mkdir(), kept.mkdir()
    for name in ("VOID.json", "node.json", "scores.json"):
        (kept / name).write_text("{}")
    (folder / LOG).write_text("begun\n")
    assert Keeper(folder, kept).keep() and set(files(kept)) == {"VOID.json", "node.json", LOG}


def test_a_write_that_failed_half_way_is_made_good(tmp_path):
    """What grew is kept once, though the disk was full in the middle of an earlier try."""
    folder, kept = tmp_path / "here", tmp_path / "kept"
    folder.mkdir(), kept.mkdir()
    worker, keeper = Writer(folder), Keeper(folder, kept)
    worker.append(LOG, b"step 1\n")
    keeper.keep()
    worker.append(LOG, b"step 2\n")
    with (kept / LOG).open("ab") as log:
        log.write(b"ste")
    keeper.keep()
    assert files(kept) == files(folder)
