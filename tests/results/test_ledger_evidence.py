"""A sealed attempt's score ledger is evidence of the score-first gate: where it holds, and only there."""

import json
import math

import pytest

from golf_core.rundir import SCORE_LEDGER, SCORES, SEAL, RunDirError, write_seal
from results.collect import collect
from results.rows import CHECKED
from tests.results.attempts import FINAL_FILES, Runs, stage

LEARNED = {"roundtrip": stage(1.7), "ttt": stage(1.6, verdict="SCORE_FIRST_OK")}


def gate_of(runs: Runs):
    return next(gate for gate in collect(runs.folder).gates if gate.name == "score first")


def sealed_anew(runs: Runs, **files: bytes) -> None:
    folder = runs.attempt_folder(1)
    for name, content in files.items():
        (folder / {"ledger": SCORE_LEDGER, "scores": SCORES}[name]).write_bytes(content)
    facts = {"run_id": runs.run_ids[1], "attempt_id": folder.name, "seed": 1}
    write_seal(folder, SEAL, FINAL_FILES, facts)


def test_a_ledger_that_holds_shows_the_order(tmp_path):
    """Its events were followed: the row says so, and the gate what it passed by."""
    runs = Runs(tmp_path, seeds=(1,))
    runs.attempt(1, stages=LEARNED)
    assert [row.ledger for row in collect(runs.folder).rows] == [CHECKED]
    gate = gate_of(runs)
    assert (gate.value, gate.verdict) == ("SCORE_FIRST_OK", "pass")
    assert gate.note == "derived again from the events of every seed's score ledger"


@pytest.mark.parametrize(
    ("ledger", "why"),
    [
        (b"GOLFLDG1" + bytes(80), "it is a ledger of format 1, whose events are not chained"),
        (b"[]", "it is no score ledger: it begins with"),
        (b"", "it is no score ledger"),
    ],
)
def test_an_older_or_foreign_ledger_shows_nothing(tmp_path, ledger, why):
    """The scores stay counted, the gate is unknown, and says of which seed and why."""
    runs = Runs(tmp_path, seeds=(1,))
    runs.attempt(1, stages=LEARNED)
    sealed_anew(runs, ledger=ledger)
    assert collect(runs.folder).rows[0].counted
    gate = gate_of(runs)
    assert gate.verdict == "unknown" and gate.seed == 1
    assert why in gate.note and "of seed 1: score_ledger.bin" in gate.note


def test_a_ledger_that_contradicts_is_an_error(tmp_path):
    """Other scores than its events have, or events that were changed, are no evidence, under whatever seal."""
    runs = Runs(tmp_path, seeds=(1,))
    folder = runs.attempt(1, stages=LEARNED)
    ledger, scores = (folder / SCORE_LEDGER).read_bytes(), json.loads((folder / SCORES).read_text())
    better = json.loads(json.dumps(scores))
    better["stages"]["ttt"]["val_loss"] *= 0.9
    ttt = better["stages"]["ttt"]
    ttt["val_bpb"] = ttt["val_loss"] / math.log(2) * ttt["tokens"] / ttt["bytes"]
    sealed_anew(runs, scores=json.dumps(better).encode())
    with pytest.raises(RunDirError, match=r"score_ledger\.bin: stage ttt: val_loss is"):
        collect(runs.folder)
    sealed_anew(runs, scores=json.dumps(scores).encode(), ledger=ledger[:-1] + bytes([ledger[-1] ^ 1]))
    with pytest.raises(RunDirError, match=r"score_ledger\.bin: its SHA-256 does not fit"):
        collect(runs.folder)


def test_an_illegal_ledger_fails_the_gate(tmp_path):
    """A diagnostic's ledger holds, and shows what it did."""
    runs = Runs(tmp_path, seeds=(1,))
    stages = {"roundtrip": stage(1.7), "ttt": stage(1.2, verdict="ILLEGAL_TRAIN_BEFORE_SCORE")}
    runs.attempt(1, stages=stages)
    assert collect(runs.folder).rows[0].ledger == CHECKED
    assert (gate_of(runs).value, gate_of(runs).verdict) == ("ILLEGAL_TRAIN_BEFORE_SCORE", "fail")
