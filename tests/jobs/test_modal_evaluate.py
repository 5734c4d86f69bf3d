"""`modal run jobs/evaluate.py`: a sealed artifact on the volume of runs is scored again, by the real client."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from golf_core.data.embedded import embedded_data
from golf_core.rundir import ARTIFACT, LOG, RUN, SCORES, SEAL, read_json, write_json, write_seal
from orchestrator.attempts import ATTEMPTS, NODE, create
from orchestrator.cloud.data import make_checked
from orchestrator.cloud.options import DATA_VOLUME, RUNS_VOLUME
from orchestrator.cloud.rescore import BPB_TOLERANCE, RescoreError, compare, inside, lay_down
from orchestrator.spec import Data
from orchestrator.worker.attempt import run_attempt
from tests.orchestrator.toy import limits, submission

pytestmark = pytest.mark.xdist_group("modal")

ROOT = Path(__file__).resolve().parents[2]
RUN_IT = ["-m", "modal", "run", "jobs/evaluate.py"]
THERE = "/data/datasets/sotu_1901_2026"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A sealed attempt of the toy, on data as it lies on the data volume; and that data. Not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    data = Path(shutil.copytree(embedded_data()[0], folder / "data"))
    checked = make_checked(data)
    found = Data(
        path=THERE,
        sha256=checked.data_sha256,
        tokenizer_path=f"{THERE}/tokenizer.model",
        tokenizer_sha256=checked.tokenizer_sha256,
    )
    asked = replace(submission(), data=found)
    runs = folder / "runs"
    runs.mkdir()
    attempt = create(runs, asked.run_json(asked.runs[0], 1, limits()), asked.bundle)
    write_json(attempt / NODE, {"data": {"path": str(data), "tokenizer_path": str(data / "tokenizer.model")}})
    assert run_attempt(attempt)["class"] == "completed"
    return attempt, data


@pytest.fixture(scope="module")
def plane(modal_containers, trained, tmp_path_factory):
    """With that attempt, and its data, on the account's volumes."""
    from tests.modal_plane import Plane
    from tests.modal_plane.client import Client

    with Plane(tmp_path_factory.mktemp("modal") / "plane") as plane:
        with Client(plane) as client:
            for name in (RUNS_VOLUME, DATA_VOLUME):
                client.do(f"modal.Volume.from_name({name!r}, create_if_missing=True, version=2).hydrate()")
        shutil.copytree(trained[0], plane.volume(RUNS_VOLUME) / ATTEMPTS / trained[0].name)
        shutil.copytree(trained[1], plane.volume(DATA_VOLUME) / THERE.removeprefix("/data/"))
        yield plane
        assert plane.errors == [] and plane.unknown == []


def score(plane, *arguments, code=0, command=RUN_IT):
    env = plane.environment() | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *command, *arguments], cwd=ROOT, env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def test_an_artifact_is_scored_again_to_the_last_digit(plane, trained):
    """By id: the table says that nothing differs; scores and log are kept beside the runs, the attempt is untouched."""
    attempt = trained[0]
    there = plane.volume(RUNS_VOLUME)
    before = {path.name: path.read_bytes() for path in (there / ATTEMPTS / attempt.name).iterdir()}
    done = score(plane, "--attempt", attempt.name[:8])
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith(("roundtrip", "sliding", "ttt"))]
    sealed = read_json(attempt / SCORES)["stages"]
    assert [row[0] for row in rows] == list(sealed) and all(row[1] == row[2] and row[3] == "0" for row in rows)
    assert "the same scores, to the last digit" in done.stderr and "phase:begin sliding" in done.stderr
    (kept,) = (there / "evaluations" / attempt.name).iterdir()
    assert read_json(kept / SCORES)["stages"] == sealed
    assert "phase:begin ttt" in (kept / LOG).read_text() and "phase:begin train" not in (kept / LOG).read_text()
    assert before == {path.name: path.read_bytes() for path in (there / ATTEMPTS / attempt.name).iterdir()}


def test_another_score_than_the_sealed_one_is_told(plane, trained):
    """A seal that whoever had the volume made anew, of better scores: 4, and where they differ."""
    there = plane.volume(RUNS_VOLUME) / ATTEMPTS / f"{trained[0].name[:-1]}2"
    shutil.copytree(trained[0], there)
    told, seal = read_json(there / SCORES), read_json(there / SEAL)
    told["stages"]["ttt"]["val_bpb"] -= 1e-12
    write_json(there / SCORES, told)
    write_seal(there, SEAL, seal["files"], {})
    done = score(plane, "--attempt", there.name, "--json", code=4, command=["jobs/evaluate.py"])
    said = json.loads(done.stdout)
    assert [row["equal"] for row in said["stages"]] == [True, True, False] and not said["same"]
    assert said["score_ledger_equal"] and "NOT the same scores" in done.stderr


def test_what_cannot_be_scored_again_starts_nothing(plane, trained):
    """Not sealed, not there, GPUs without a budget or above it: refused by what the volume lists."""
    started = len(plane.containers())
    unsealed = plane.volume(RUNS_VOLUME) / ATTEMPTS / f"{trained[0].name[:-1]}3"
    shutil.copytree(trained[0], unsealed)
    (unsealed / SEAL).unlink()
    direct = ["jobs/evaluate.py"]
    assert "is not sealed" in score(plane, "--attempt", unsealed.name, code=2, command=direct).stderr
    told = score(plane, "--artifact", f"{ATTEMPTS}/nobody-a1/{ARTIFACT}", code=2, command=direct).stderr
    assert "is none of the attempts" in told and trained[0].name in told
    asked = ["--attempt", trained[0].name, "--gpus", "H100:8"]
    assert "--budget USD says that it may" in score(plane, *asked, code=2, command=direct).stderr
    assert "does not cover it" in score(plane, *asked, "--budget", "0.01", code=6, command=direct).stderr
    assert len(plane.containers()) == started


def test_an_attempt_that_differs_from_its_seal_is_refused(trained, tmp_path):
    """Where one of its files was touched; and no path leaves the volume."""
    copy = Path(shutil.copytree(trained[0], tmp_path / "copy"))
    (copy / ARTIFACT).write_bytes(b"other weights")
    with pytest.raises(RescoreError, match="cannot be relied on"):
        lay_down(copy, tmp_path / "again")
    for path in ("../x", "/etc/passwd", f"copy/../../{ARTIFACT}", "nothing"):
        with pytest.raises(RescoreError, match="there is no file"):
            inside(tmp_path, path)
    assert inside(tmp_path, f"copy/{RUN}") == copy / RUN


def test_what_counts_as_equal():
    """On GPUs a difference within the tolerance, but never other tokens; on a CPU none; a stage on one side differs."""
    one = {"stages": {"sliding": {"val_loss": 2.0, "val_bpb": 1.1, "tokens": 10, "bytes": 30, "seconds": 1.0}}}
    other = json.loads(json.dumps(one))
    other["stages"]["sliding"] |= {"val_bpb": 1.1 + BPB_TOLERANCE / 2, "seconds": 9.0}
    assert compare(one, one, None)[0].equal and not compare(one, other, None)[0].equal
    assert compare(one, other, BPB_TOLERANCE)[0].equal and not compare(one, other, BPB_TOLERANCE / 4)[0].equal
    other["stages"]["sliding"]["tokens"] = 11
    assert not compare(one, other, BPB_TOLERANCE)[0].equal
    (row,) = compare(one, {"stages": {}}, BPB_TOLERANCE)
    assert not row.equal and row.difference is None
    with pytest.raises(RescoreError, match="no table of stages"):
        compare(one, {}, None)
