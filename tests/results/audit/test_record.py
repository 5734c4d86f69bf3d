"""Records of audits: what is written is read for the same seal alone, and no file in the way is an error."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from golf_core.rundir import RunDirError
from results.audit.record import ignored, read_records, seal_of, write_record
from tests.results.attempts import Runs

SEAL_A, SEAL_B = "a" * 64, "b" * 64
ATTEMPT = "0123456789abcdef-a1"


def write(runs_dir, name="recount", **more):
    told = {"seal_sha256": SEAL_A, "verdict": "pass", "says": "as it says", "evidence": {"bytes": 3}}
    return write_record(runs_dir, ATTEMPT, name, **(told | more))


def test_a_record_is_read_as_it_was_written(tmp_path):
    """Name, seal, verdict, sentence and evidence come back; the known names first, others behind them."""
    for name in ("zeal", "probe", "replay", "recount", "ahead"):
        path = write(tmp_path, name, evidence={"of": name, "list": [1.5, None]})
        assert path == tmp_path / "audits" / ATTEMPT / f"{name}.json"
    found = read_records(tmp_path, ATTEMPT, SEAL_A)
    assert [one.name for one in found] == ["recount", "replay", "probe", "ahead", "zeal"]
    assert found[0].evidence == {"of": "recount", "list": [1.5, None]} and found[0].says == "as it says"
    assert ignored(tmp_path, ATTEMPT, SEAL_A) == []


def test_a_later_check_takes_the_place_of_an_earlier_one(tmp_path):
    """There is one record a name, and no scratch file stays."""
    write(tmp_path)
    path = write(tmp_path, verdict="fail", says="other")
    assert [(one.verdict, one.says) for one in read_records(tmp_path, ATTEMPT, SEAL_A)] == [("fail", "other")]
    assert list(path.parent.iterdir()) == [path]


def test_a_record_of_another_seal_is_no_record(tmp_path):
    """It is ignored, and a sentence says so."""
    write(tmp_path)
    assert read_records(tmp_path, ATTEMPT, SEAL_B) == []
    assert "another seal (aaaaaaaaaaaa...)" in ignored(tmp_path, ATTEMPT, SEAL_B)[0]


def test_a_record_that_was_moved_is_no_record(tmp_path):
    """Neither under another name nor under another attempt."""
    path = write(tmp_path)
    path.rename(path.with_name("replay.json"))
    (tmp_path / "audits" / "other-a1").mkdir()
    (tmp_path / "audits" / "other-a1" / "recount.json").write_bytes(path.with_name("replay.json").read_bytes())
    for attempt in (ATTEMPT, "other-a1"):
        assert read_records(tmp_path, attempt, SEAL_A) == [] and len(ignored(tmp_path, attempt, SEAL_A)) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"verdict": "legal"},
        {"name": "../../x"},
        {"seal_sha256": "A" * 64},
        {"evidence": {"x": float("nan")}},
        {"evidence": {"x": object()}},
        {"attempt": "../up"},
        {"attempt": ""},
    ],
    ids=["verdict", "name", "seal", "nan", "object", "attempt above", "no attempt"],
)
def test_what_is_no_record_is_not_written(tmp_path, wrong):
    """A name, verdict, seal or evidence that none may have is refused, and nothing is left behind."""
    told = {"seal_sha256": SEAL_A, "verdict": "pass", "says": "x", "evidence": {}} | wrong
    attempt, name = told.pop("attempt", ATTEMPT), told.pop("name", "recount")
    with pytest.raises(RunDirError):
        write_record(tmp_path, attempt, name, **told)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@given(st.dictionaries(st.sampled_from(["name", "verdict", "evidence", "schema_version"]), st.integers() | st.text()))
def test_a_damaged_record_is_ignored(tmp_path_factory, change):
    """Whatever stands in the file, reading it gives a record or a sentence."""
    runs_dir = tmp_path_factory.mktemp("runs")
    path = write(runs_dir)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert len(read_records(runs_dir, ATTEMPT, SEAL_A)) + len(ignored(runs_dir, ATTEMPT, SEAL_A)) == 1
    path.write_bytes(b"\xff{")
    assert read_records(runs_dir, ATTEMPT, SEAL_A) == [] and len(ignored(runs_dir, ATTEMPT, SEAL_A)) == 1


def test_the_seal_is_that_of_the_whole_attempt(tmp_path):
    """An attempt that is sealed again has another."""
    runs = Runs(tmp_path / "runs", seeds=(1,))
    folder = runs.attempt(1)
    before = seal_of(folder)
    (folder / "MANIFEST.json").write_bytes((folder / "MANIFEST.json").read_bytes() + b"\n")
    assert before != seal_of(folder)
