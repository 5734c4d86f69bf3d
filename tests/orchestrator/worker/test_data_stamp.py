"""Data that changes between the check and the end of a run: seen by each stage, settled by content."""

import os
import shutil

import pytest

from golf_core.data.embedded import TOKENIZER_NAME, embedded_data
from golf_core.data.manifest import DATA_MANIFEST
from golf_core.rundir import RUN, SEAL, TRAIN_SEAL, is_sealed, read_json, write_json
from orchestrator.data_check import DataCheck
from orchestrator.errors import UsageError
from orchestrator.policy import OUTSIDE
from orchestrator.worker.attempt import run_attempt
from tests.orchestrator.toy import attempt_folder, toy_text

OTHER_CONTENT = "f = open({shard!r}, 'r+b'); f.seek(-2, 2); f.write(bytes([7, 0])); f.close()"
OTHER_TIMES = "os.utime({shard!r})"


@pytest.fixture
def data(tmp_path):
    """A copy of the embedded data without its manifest: a changed shard there is no damage, but another run."""
    folder, _ = embedded_data()
    mine = tmp_path / "mine"
    shutil.copytree(folder, mine)
    (mine / DATA_MANIFEST).unlink()
    return mine


def attempt(tmp_path, data, place, change):
    """An attempt on checked data, whose toy changes a shard when it reaches `place`."""
    shard = str(data / "sotu_val_000000.bin")
    start = "    what = BEHAVIOUR.get(place)\n"
    text = toy_text().replace(start, f"    if place == {place!r}: {change.format(shard=shard)}\n{start}", 1)
    checked = DataCheck(str(data), str(data / TOKENIZER_NAME), None).result()
    folder = attempt_folder(tmp_path, text)
    asked = read_json(folder / RUN)
    write_json(folder / RUN, asked | {"data": checked.to_dict()})
    return folder


@pytest.mark.parametrize("place, trained", [("train3", False), ("sliding", True)])
def test_changed_content_ends_the_attempt_without_a_seal(tmp_path, data, place, trained):
    """Neither stage is sealed over data that its id does not name, and nobody but the user starts it again."""
    folder = attempt(tmp_path, data, place, OTHER_CONTENT)
    result = run_attempt(folder)
    assert result["class"] == "data_changed" and result["class"] not in OUTSIDE
    assert "submit it again" in result["message"] and not (folder / SEAL).exists()
    assert is_sealed(folder, TRAIN_SEAL) == trained
    assert run_attempt(folder)["class"] in ("data_changed", "launch_error")


def test_a_shard_that_is_only_touched_is_no_other_data(tmp_path, data):
    """Other times of the same bytes (a backup that links them) cost a look, not the run."""
    assert run_attempt(attempt(tmp_path, data, "train3", OTHER_TIMES))["class"] == "completed"


def test_shards_that_change_under_the_check_are_refused(data):
    """What was read is not what lies there any more: a usage error, before anything starts."""
    check = DataCheck(str(data), str(data / TOKENIZER_NAME), None)
    os.utime(data / "sotu_train_000000.bin")
    with pytest.raises(UsageError, match="while they were checked"):
        check.result()
