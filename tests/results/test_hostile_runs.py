"""Hostile runs folders: whatever stands in spec.json or in an attempt, it is refused, left out, or has no effect."""

import json
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from golf_core.rundir import RunDirError
from results.base import base_of
from results.collect import collect
from results.pack import pack, submission_files
from results.project import Project
from results.tried import tried_beside
from results.whole_folder import PackError
from tests.results.attempts import Runs
from tests.results.hostile import ANY_JSON

SPECS = {
    "a large number": '{"schema_version": 1e400}',
    "a long number": '{"schema_version": ' + "9" * 5000 + "}",
    "NaN": '{"schema_version": NaN}',
    "deep": '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "a list": "[1]",
    "empty": "",
    "not UTF-8": b'{"schema_version": "\xff"}',
}


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path / "runs", seeds=(1, 2)).all_attempts()


@pytest.mark.parametrize("text", SPECS.values(), ids=SPECS.keys())
def test_a_spec_that_is_none_is_refused(text, runs):
    """One printable line that names the file."""
    (runs.folder / "spec.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(RunDirError, match=r"spec\.json") as caught:
        collect(runs.folder)
    assert len(str(caught.value)) < 1000


LINKS = ["train_gpt.py", "log.txt", "artifact.bin", "scores.json", "result.json", "MANIFEST.json"]


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_link_or_a_pipe_in_an_attempt_is_no_evidence(name, kind, runs):
    """The attempt is damaged or unfinished and does not count; nothing waits for the pipe."""
    path = runs.attempt_folder(1) / name
    copy = runs.runs_dir / "copy"
    path.rename(copy)
    path.symlink_to(copy) if kind == "link" else os.mkfifo(path)
    try:
        statuses = [row.status for row in collect(runs.folder).rows]
    except RunDirError as error:
        assert name in str(error)
        return
    assert statuses[0] != "counted" and statuses[1] == "counted"


def test_a_linked_attempt_is_no_attempt(runs):
    """A folder that is a link to another seed's, or to itself, is not looked into."""
    folder = runs.attempt_folder(1)
    folder.rename(runs.runs_dir / "elsewhere")
    folder.symlink_to(folder.name)
    assert collect(runs.folder).rows[0].status == "missing"


def test_a_damaged_neighbour_is_no_evidence_of_what_was_tried(runs):
    """A submission beside ours that cannot be read is left out of the table, and does not stop the pack."""
    other = runs.runs_dir / "0123456789ab"
    other.mkdir()
    (other / "spec.json").write_text('{"schema_version": 1}')
    assert tried_beside(collect(runs.folder)) == []
    assert pack(collect(runs.folder), Project(), runs.folder / "submission")


def test_a_link_in_a_packed_folder_is_not_written_through(runs, tmp_path):
    """pack refuses a folder in which a file became a link, and what the link is of stays."""
    out = runs.folder / "submission"
    pack(collect(runs.folder), Project(), out)
    target = tmp_path / "mine"
    target.write_bytes((out / "README.md").read_bytes())
    (out / "README.md").unlink()
    (out / "README.md").symlink_to(target)
    before = target.read_bytes()
    with pytest.raises(PackError, match="symbolic link"):
        pack(collect(runs.folder), Project(author="B"), out)
    assert target.read_bytes() == before and (out / "README.md").is_symlink()


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    key=st.sampled_from(["base", "published", "grid", "overrides", "config", "policy", "target", "kind"]),
    value=ANY_JSON,
)
def test_any_value_in_a_spec_is_taken_or_refused(key, value, runs):
    """Under any key of spec.json: the files of the submission, or one of our errors."""
    (runs.folder / "spec.json").write_text(json.dumps(runs.spec | {key: value}))
    try:
        found = collect(runs.folder)
        base_of(found.spec)
        files = submission_files(found, Project())
    except (RunDirError, PackError) as error:
        assert str(error)
        return
    assert json.loads(files["submission.json"])["seeds"] == [1, 2]
