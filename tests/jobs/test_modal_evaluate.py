"""`modal run jobs/evaluate.py`: a sealed artifact on the volume of runs is scored again, by the real client."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from golf_core.data.embedded import embedded_data
from golf_core.rundir import ARTIFACT, LOG, RUN, SCORES, SEAL, read_json, write_json, write_seal
from jobs.evaluate import NAMED, asked_of, check_budget, find, target_of
from orchestrator.attempts import ATTEMPTS, NODE, create
from orchestrator.cloud.data import make_checked
from orchestrator.cloud.options import DATA_VOLUME, RUNS_VOLUME, AppOptions
from orchestrator.cloud.rescore import BPB_TOLERANCE, RescoreError, compare, inside, lay_down
from orchestrator.errors import BudgetRefused, UsageError
from orchestrator.settings import Settings
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


class Volume:
    """Looks into a folder as the client looks into the volume of runs."""

    def __init__(self, root):
        self.root = root

    def listing(self, path):
        return {file.name: (0, 0) for file in (self.root / path).glob("*") if file.is_file()}

    def folders(self, path):
        return sorted(file.name for file in (self.root / path).glob("*") if file.is_dir())


def test_what_is_scored_is_found_by_what_the_volume_lists(trained, tmp_path):
    """By id, by what an id begins with, by the path of an artifact; refused where it is not there, or not sealed."""
    name = trained[0].name
    shutil.copytree(trained[0], tmp_path / ATTEMPTS / name)
    shutil.copytree(trained[0], tmp_path / ATTEMPTS / f"{name[:-1]}3")
    (tmp_path / ATTEMPTS / f"{name[:-1]}3" / SEAL).unlink()
    (tmp_path / "other.bin").touch()
    there, own = Volume(tmp_path), f"{ATTEMPTS}/{name}/{ARTIFACT}"
    assert find(there, name, None) == find(there, None, f"/runs/{own}") == find(there, name, own) == (name, None)
    assert find(there, name, "/runs/other.bin") == (name, "other.bin")
    for attempt, artifact, told in (
        (name[:8], None, f"is several of the attempts.*{name}"),
        ("ffff", None, f"is none of the attempts.*{name}"),
        (f"{name[:-1]}3", None, "is not sealed"),
        (name, "another.bin", "no such file"),
        (None, "other.bin", "--attempt ID names what is scored"),
    ):
        with pytest.raises(UsageError, match=told):
            find(there, attempt, artifact)
    for number in range(NAMED):
        (tmp_path / ATTEMPTS / f"ee-a{number}").mkdir()
    with pytest.raises(UsageError, match=r"there are .*ee-a5, …$"):
        find(there, "ffff", None)


def test_an_attempt_of_a_script_is_refused_before_a_container():
    """It has no artifact that a recipe's bundle could load: 2, by its run.json."""
    told = {"kind": "bundle", "target": {}}
    there = SimpleNamespace(read=lambda path: json.dumps(told).encode())
    assert asked_of(there, "a-a1") == told
    told["kind"] = "script"
    with pytest.raises(UsageError, match=r"a-a1 is of a script.*no artifact"):
        asked_of(there, "a-a1")


def test_gpus_are_paid_for_under_a_budget():
    """Refused without one (2), or where the worst case is above it (6); a CPU needs none."""
    settings = Settings.resolve({}, {}, Path("/nowhere"))
    eight = {"device": "cuda", "gpu": "NVIDIA H100 80GB HBM3", "gpus": 8}
    check_budget(eight, AppOptions(), settings, 100.0)
    check_budget({"device": "cpu"}, AppOptions(gpu=None), settings, None)
    with pytest.raises(UsageError, match="--budget USD says that it may"):
        check_budget(eight, AppOptions(), settings, None)
    with pytest.raises(BudgetRefused, match="--budget 20 does not cover it"):
        check_budget(eight, AppOptions(), settings, 20.0)


def test_another_machine_than_the_attempts():
    """What differs is told; what cannot be had on Modal is refused."""
    target = {"device": "cpu", "gpu": None, "gpus": 0, "processes": 1, "dtype": "fp32", "launcher": "torchrun"}
    two = Settings.resolve({"gpus": "H100:2"}, {}, Path("/nowhere"))
    found, change = target_of({"target": target}, two)
    assert change == {"device": "cuda", "gpu": "NVIDIA H100 80GB HBM3", "gpus": 2, "processes": 2}
    assert found == target | change and target_of({"target": target}, None) == (target, {})
    assert target_of({"target": found}, Settings.resolve({"gpus": "0"}, {}, Path("/nowhere")))[0] == target
    with pytest.raises(UsageError, match="Modal has no GPU 'RTX'"):
        target_of({"target": target}, Settings.resolve({"gpus": "RTX:1"}, {}, Path("/nowhere")))
    with pytest.raises(UsageError, match="none of ours"):
        target_of({}, None)


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
